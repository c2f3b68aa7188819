//! The command line, the environment and the text of a configuration file.
//!
//! In: arguments, variables, a text. Out: an [`Invocation`], or a sentence that says what is wrong
//! with them. Knows neither sockets nor files; `--token-file` is read by `token`, `--config` by
//! `config::load`.

mod args;
mod file;
mod given;
mod table;
mod text;
mod value;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use lexopt::Arg;

use self::table::{Flag, Takes, all_flags};
use crate::types::arguments;
use crate::types::nearest::{meant, slip};

pub use self::args::{
    AllowUser, BackendChoice, CgroupChoice, Listen, LogFormat, LogLevel, Mode, ReplayChoice,
    ServerArgs,
};
pub use self::file::FileError;
pub use self::given::{Change, ConfigError, Given};
pub use self::text::{help, man};

/// What the arguments ask for.
#[derive(Debug)]
pub enum Invocation {
    /// Print [`help`].
    Help,
    /// Print [`man`].
    Man,
    /// Print the version.
    Version,
    /// Serve.
    Server(Box<ServerArgs>),
}

/// Why the arguments were refused; the text names the flag and what it may be.
#[derive(Debug)]
pub struct UsageError(String);

impl UsageError {
    fn new(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

impl From<lexopt::Error> for UsageError {
    fn from(error: lexopt::Error) -> Self {
        Self(arguments::refused(&error))
    }
}

/// Refuses what a keeper cannot do.
///
/// # Errors
/// With `--state-dir`.
pub fn check_keep(args: &ServerArgs) -> Result<(), UsageError> {
    match args.keep && args.state_dir.is_some() {
        false => Ok(()),
        true => Err(UsageError(
            "--keep and --state-dir exclude each other: with a keeper nothing is left behind to be \
             ended, and what --state-dir ends would be what the keeper keeps; use one of them"
                .to_owned(),
        )),
    }
}

/// Whether an address can only be reached from this machine.
pub fn is_loopback(host: &str) -> bool {
    let bare = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(host);
    bare.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Reads the arguments, without the program's name, and the variables of the environment, which
/// hold where the arguments are silent.
///
/// # Errors
/// For anything unknown, missing or out of range.
pub fn parse(
    args: impl IntoIterator<Item = OsString>,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Invocation, UsageError> {
    let mut parser = lexopt::Parser::from_args(args);
    let mut given: Vec<(&'static Flag, Option<OsString>)> = Vec::new();
    let mut server = false;
    while let Some(arg) = parser.next()? {
        let flag = match &arg {
            Arg::Short('h') | Arg::Long("help") => return Ok(Invocation::Help),
            Arg::Short('V') | Arg::Long("version") => return Ok(Invocation::Version),
            Arg::Value(word) if !server && word == "man" => return Ok(Invocation::Man),
            Arg::Value(word) if !server && word == "server" => {
                server = true;
                continue;
            }
            Arg::Short(short) => all_flags().find(|flag| flag.short == Some(*short)),
            Arg::Long(long) => all_flags().find(|flag| flag.long == *long),
            Arg::Value(_) => None,
        };
        let Some(flag) = flag else {
            return Err(unknown(arg));
        };
        let value = match flag.takes {
            Takes::Nothing(_) => None,
            Takes::Value(..) | Takes::Values(..) => Some(parser.value()?),
        };
        given.push((flag, value));
    }
    if !server {
        return Err(UsageError(
            "the command is missing; `procring server` starts a server, and `procring --help` lists \
             all"
                .to_owned(),
        ));
    }
    let given = Given::new(given, variables);
    match given.resolve(None) {
        Ok(args) => Ok(Invocation::Server(Box::new(args))),
        Err(ConfigError::Usage(error)) => Err(error),
        // There was none.
        Err(ConfigError::File(error)) => Err(UsageError(error.to_string())),
    }
}

/// Names the flag that is nearest to one that there is not.
fn unknown(arg: Arg<'_>) -> UsageError {
    match arg {
        Arg::Long(long) => {
            let names = all_flags().map(|flag| flag.long);
            let way_out = match meant(long, names) {
                Some(near) => format!("the nearest is --{near}"),
                None => "`procring --help` lists all".to_owned(),
            };
            UsageError(format!(
                "--{long} is no flag of `procring server`; {way_out}"
            ))
        }
        arg => arg.unexpected().into(),
    }
}

/// The flag whose variable `token` reads itself: it overwrites it where others could see it.
const TOKEN: &str = "token";

/// The variable of a flag.
fn variable(long: &str) -> String {
    format!("PROCRING_{}", long.to_uppercase().replace('-', "_"))
}

/// The key of a flag in a configuration file.
fn key(long: &str) -> String {
    long.replace('-', "_")
}

/// Every flag of `procring server`: its name, what follows it if anything does, and its line of help.
pub fn all() -> impl Iterator<Item = (&'static str, Option<&'static str>, &'static str)> {
    all_flags().map(|flag| {
        let value = match flag.takes {
            Takes::Nothing(_) => None,
            Takes::Value(value, _) | Takes::Values(value, _) => Some(value),
        };
        (flag.long, value, flag.help)
    })
}

/// Whether a variable of the environment is a flag's. Children do not get it: a server that one of
/// them starts is another one.
pub fn is_variable(name: &OsStr) -> bool {
    all_flags().any(|flag| name == variable(flag.long).as_str())
}

/// Variables of this program's environment that are none of a flag or of the command line and are
/// near one: what they say would be missing without a word. Others may be anybody's: an
/// orchestrator has variables with our name, too.
pub fn misspelled() -> impl Iterator<Item = String> {
    std::env::vars_os().filter_map(|(name, _)| nearly_known(name.to_str()?))
}

/// What is said of a variable that is nearly one of ours.
fn nearly_known(name: &str) -> Option<String> {
    let rest = name.strip_prefix("PROCRING_")?;
    let known = all_flags().map(|flag| flag.long).chain(["url"]);
    if known.clone().any(|long| variable(long) == name) {
        return None;
    }
    let near = variable(slip(rest, known)?);
    Some(format!(
        "the variable {name} means nothing; the nearest is {near}"
    ))
}

fn apply(
    server: &mut ServerArgs,
    flag: &Flag,
    set: table::Set,
    source: &str,
    value: &OsStr,
) -> Result<(), UsageError> {
    set(server, value).map_err(|must| refusal(flag, source, value, &must))
}

fn refusal(flag: &Flag, source: &str, value: &OsStr, must: &str) -> UsageError {
    // A secret does not belong into a log.
    if flag.long == TOKEN {
        return UsageError(format!("{source} {must}"));
    }
    UsageError(format!("{source} {value:?}: {must}"))
}

/// Refuses an open server on an address that others can reach, unless that is asked for.
///
/// # Errors
/// What to add to the command line.
pub fn check_open(args: &ServerArgs, has_token: bool) -> Result<(), UsageError> {
    if args.unix_token && !has_token {
        return Err(UsageError(
            "--unix-token: there is no token; add --token or --token-file".to_owned(),
        ));
    }
    if has_token || args.no_token {
        return Ok(());
    }
    for listen in args.listen() {
        if let Listen::Tcp { host, .. } = &listen
            && !is_loopback(host)
        {
            let flag = if args.listen.is_empty() {
                "host"
            } else {
                "listen"
            };
            return Err(UsageError(format!(
                "--{flag} {host}: whoever reaches this address could run commands; add --token or, \
                 if that is what you want, --no-token"
            )));
        }
    }
    Ok(())
}

/// The same for an address that is bound: a name may stand for one that others can reach, and the
/// service manager's sockets are seen only now.
///
/// # Errors
/// What to add to the command line.
pub fn check_bound(
    args: &ServerArgs,
    has_token: bool,
    address: SocketAddr,
) -> Result<(), UsageError> {
    if has_token || args.no_token || address.ip().to_canonical().is_loopback() {
        return Ok(());
    }
    Err(UsageError(format!(
        "{address}: whoever reaches this address could run commands; add --token or, if that is \
         what you want, --no-token"
    )))
}

/// Refuses a default user that children cannot be.
///
/// # Errors
/// What is missing.
pub fn check_user(args: &ServerArgs, may_change: bool) -> Result<(), UsageError> {
    match &args.default_user {
        Some(user) if !may_change => Err(UsageError(format!(
            "--default-user {user}: this server cannot make a child another user; that needs \
             CAP_SETUID, CAP_SETGID, CAP_CHOWN and CAP_KILL, as root has: start it as that user \
             instead"
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_variables(args: &[&str], variables: &[(&str, &str)]) -> Result<ServerArgs, String> {
        let args = std::iter::once("server").chain(args.iter().copied());
        let variables = variables
            .iter()
            .map(|(name, value)| (name.into(), value.into()));
        match parse(args.map(OsString::from), variables) {
            Ok(Invocation::Server(args)) => Ok(*args),
            Ok(_) => Err("not the server".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn server(args: &[&str]) -> Result<ServerArgs, String> {
        with_variables(args, &[])
    }

    #[test]
    fn every_flag_of_the_reference_is_taken_in_both_forms() {
        let long = server(&[
            "--host",
            "h",
            "--port",
            "7",
            "--token",
            "t",
            "--cors-allow-origin",
            "http://o",
            "--cors-allow-method=m",
            "--cors-allow-header",
            "x",
            "--cors-allow-credentials",
            "--no-telemetry",
            "--no-token",
        ])
        .unwrap();
        let short = server(&[
            "-H",
            "h",
            "-p7",
            "-t",
            "t",
            "-O",
            "HTTP://O:80/",
            "-M",
            "m",
            "-A",
            "x",
            "-C",
            "-n",
        ])
        .unwrap();
        assert_eq!(format!("{long:?}"), format!("{short:?}"));
    }

    #[test]
    fn wrong_usage_is_refused() {
        for args in [
            &["--port", "70000"][..],
            &["--port"],
            &["--nope"],
            &["extra"],
            &["--io-backend", "kqueue"],
            &["--max-exited", "0"],
            &["--max-leftovers", "0"],
            &["--memory-max", "1023K"],
            &["--memory-max", "16E"],
            &["--memory-max", "1.5M"],
            &["--max-concurrent-runs", "0"],
            &["--max-queued-runs", "-1"],
            &["--cgroup", "v2"],
            &["--default-limits", "pids"],
            &["--max-limits", "pids=0"],
            &["--default-user", "*"],
            &["--allow-user", "a:b:c"],
            &["--shutdown-grace", "-1"],
            &["--shutdown-grace", "NaN"],
            &["--token", ""],
            &["-O", ""],
            &["-O", "foo.example"],
            &["-O", "http://a/b"],
            &["-O", "http://a\nb"],
        ] {
            assert!(server(args).is_err(), "{args:?}");
        }
        for args in [&[][..], &["serve"], &["--port", "1"]] {
            assert!(
                parse(args.iter().map(OsString::from), []).is_err(),
                "{args:?}"
            );
        }
    }

    #[test]
    fn a_refusal_names_the_flag_the_value_and_what_it_may_be_but_no_secret() {
        let error = |args: &[&str]| server(args).unwrap_err();
        assert_eq!(
            error(&["--io-backend", "kqueue"]),
            "--io-backend \"kqueue\": must be auto, uring or epoll"
        );
        assert_eq!(
            error(&["-p", "70000"]),
            "--port \"70000\": must be a number from 0 to 65535"
        );
        assert!(!error(&["-t", "secret\n"]).contains("secret"));
    }

    #[test]
    fn a_variable_is_the_flag_of_its_name_and_the_flag_wins() {
        let found = with_variables(
            &["--max-exited", "5"],
            &[
                ("PROCRING_MAX_EXITED", "6"),
                ("PROCRING_PORT", "7"),
                ("PROCRING_NO_TOKEN", "true"),
                ("PROCRING_CORS_ALLOW_ORIGIN", "http://a, http://b"),
                ("PROCRING_NOPE", "x"),
                ("PORT", "8"),
            ],
        )
        .unwrap();
        assert_eq!((found.exited_max, found.port, found.no_token), (5, 7, true));
        assert_eq!(found.cors_origins, ["http://a", "http://b"]);
        let off = with_variables(&[], &[("PROCRING_NO_TOKEN", "0")]).unwrap();
        assert!(!off.no_token);
        let error = with_variables(&[], &[("PROCRING_NO_TOKEN", "maybe")]).unwrap_err();
        assert_eq!(
            error,
            "PROCRING_NO_TOKEN \"maybe\": must be true, 1, false or 0"
        );
        assert!(is_variable(OsStr::new("PROCRING_STATE_DIR")));
        assert!(!is_variable(OsStr::new("PROCRING_STATE")));
    }

    #[test]
    fn a_variable_that_is_nearly_one_is_told() {
        for (wrong, right) in [
            ("PROCRING_MAX_EXITD", "PROCRING_MAX_EXITED"),
            ("PROCRING_TOKENS", "PROCRING_TOKEN"),
            ("PROCRING_ULR", "PROCRING_URL"),
            ("PROCRING_TOKENFILE", "PROCRING_TOKEN_FILE"),
        ] {
            let sentence = format!("the variable {wrong} means nothing; the nearest is {right}");
            assert_eq!(nearly_known(wrong), Some(sentence));
        }
        for other in [
            "PROCRING_URL",
            "PROCRING_MAX_EXITED",
            "PROCRING_SERVICE_HOST",
            "PROCRING_SERVICE_PORT",
            "PROCRING_PORT_2468_TCP",
            "PROCRING_PORT_2468_TCP_ADDR",
            "PROCRING_VERSION",
            "PATH",
        ] {
            assert_eq!(nearly_known(other), None, "{other}");
        }
    }

    #[test]
    fn the_table_has_the_defaults_that_hold() {
        let mut from_table = ServerArgs::default();
        for flag in all_flags() {
            if let (Takes::Value(_, set), Some(default)) = (flag.takes, flag.default) {
                set(&mut from_table, OsStr::new(default)).unwrap();
            }
        }
        assert_eq!(
            format!("{from_table:?}"),
            format!("{:?}", ServerArgs::default())
        );
    }

    #[test]
    fn an_open_server_is_for_this_machine_unless_asked_for() {
        let args = |host: &str, no_token| ServerArgs {
            host: host.into(),
            no_token,
            ..ServerArgs::default()
        };
        for host in ["127.0.0.1", "localhost", "::1", "[::1]", "127.9.9.9"] {
            assert!(check_open(&args(host, false), false).is_ok(), "{host}");
        }
        for host in ["0.0.0.0", "::", "example.com", "10.0.0.1"] {
            assert!(check_open(&args(host, false), false).is_err(), "{host}");
            assert!(check_open(&args(host, true), false).is_ok());
            assert!(check_open(&args(host, false), true).is_ok());
        }
    }
}
