//! The command line, the environment and the text of a configuration file.
//!
//! In: arguments, variables, a text. Out: an [`Invocation`], or a sentence that says what is wrong
//! with them. Knows neither sockets nor files; `--token-file` is read by `token`, `--config` by
//! `config::load`.

mod file;
mod given;
mod table;
mod text;
mod value;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use lexopt::Arg;

use self::table::{FLAGS, Flag, Takes};
use crate::config::settings::Settings;
use crate::config::timeouts;
use crate::types::{Limits, Stdin, UserName, Who};

pub use self::file::FileError;
pub use self::given::{Change, ConfigError, Given};
pub use self::text::{help, man};

/// What `--io-backend` asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BackendChoice {
    /// io_uring where it is allowed, else epoll.
    #[default]
    Auto,
    /// io_uring or nothing.
    Uring,
    /// epoll.
    Epoll,
}

/// What `--cgroup` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupChoice {
    /// Use cgroups where they can be had.
    Auto,
    /// Refuse to start without them.
    On,
    /// Never make any.
    Off,
}

/// Where connections come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// An address or a name, and a port; 0 lets the kernel choose.
    Tcp {
        /// The address or name; an IPv6 address may stand in brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// A socket in the file system.
    Unix(PathBuf),
    /// Sockets that the service manager has opened (sd_listen_fds(3)).
    Systemd,
    /// Standard input is a socket over which the starter hands connections; the end of it is the
    /// server's.
    Starter,
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => write!(f, "{host} port {port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Systemd => f.write_str("systemd"),
            Self::Starter => f.write_str("starter"),
        }
    }
}

/// Whom `--allow-user` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowUser {
    /// Everybody but root.
    Everybody,
    /// One user with its own groups; with a group, that user in that group only.
    User(UserName),
}

impl fmt::Display for AllowUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everybody => f.write_str("*"),
            Self::User(name) => name.fmt(f),
        }
    }
}

/// What `--terminal-replay` asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplayChoice {
    /// The recent output where that is all there is, else the screen.
    #[default]
    Auto,
    /// The screen.
    Screen,
    /// The recent output.
    Tail,
    /// Nothing.
    None,
}

/// What `--log-level` asks for: lines of this level and of those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// No line.
    Off,
    /// What is broken.
    Error,
    /// What somebody should look at.
    Warn,
    /// What happens.
    Info,
    /// The same, with arguments.
    Debug,
}

impl LogLevel {
    /// All of them, and their words.
    pub const ALL: [(&'static str, Self); 5] = [
        ("off", Self::Off),
        ("error", Self::Error),
        ("warn", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
    ];

    /// The level of this number.
    pub fn of(number: u8) -> Self {
        let all = Self::ALL.into_iter().map(|(_, level)| level);
        let found = all.into_iter().find(|level| *level as u8 == number);
        found.unwrap_or(Self::Info)
    }

    /// Its word.
    pub fn name(self) -> &'static str {
        let found = Self::ALL.into_iter().find(|(_, level)| *level == self);
        found.map_or("info", |(name, _)| name)
    }
}

/// What `--log-format` asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// The journal's where standard error is one, else text.
    #[default]
    Auto,
    /// For people.
    Text,
    /// A JSON object a line.
    Json,
    /// Text with a priority in front, as sd-daemon(3) has it.
    Journal,
}

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

/// The flags of `procring server`.
#[derive(Clone, Debug)]
pub struct ServerArgs {
    /// Address or name to bind.
    pub host: String,
    /// Port; 0 for any.
    pub port: u16,
    /// `--listen`; empty for host and port.
    pub listen: Vec<Listen>,
    /// `--metrics-listen`.
    pub metrics_listen: Option<Listen>,
    /// `--public-metrics`.
    pub public_metrics: bool,
    /// `--unix-mode`.
    pub unix_mode: u32,
    /// `--unix-allow-uid`.
    pub unix_users: Vec<Who>,
    /// `--unix-token`.
    pub unix_token: bool,
    /// `--token`.
    pub token: Option<String>,
    /// `--token-file`.
    pub token_file: Option<PathBuf>,
    /// `--no-token`.
    pub no_token: bool,
    /// `--allowed-host`.
    pub allowed_hosts: Vec<String>,
    /// `--cors-allow-origin`.
    pub cors_origins: Vec<String>,
    /// `--cors-allow-method`.
    pub cors_methods: Vec<String>,
    /// `--cors-allow-header`.
    pub cors_headers: Vec<String>,
    /// `--cors-allow-credentials`.
    pub cors_credentials: bool,
    /// `--io-backend`.
    pub backend: BackendChoice,
    /// `--default-stdin`.
    pub stdin: Stdin,
    /// `--max-exited`.
    pub exited_max: usize,
    /// `--max-leftovers`.
    pub leftovers_max: usize,
    /// `--max-connections`.
    pub connections_max: usize,
    /// `--memory-max`; None is a part of what there is.
    pub memory_max: Option<u64>,
    /// `--max-concurrent-runs`.
    pub concurrent_runs_max: usize,
    /// `--max-queued-runs`.
    pub queued_runs_max: usize,
    /// `--shutdown-grace`.
    pub shutdown_grace: Duration,
    /// `--cgroup`.
    pub cgroup: CgroupChoice,
    /// `--default-limits`.
    pub default_limits: Limits,
    /// `--max-limits`.
    pub max_limits: Limits,
    /// `--default-user`.
    pub default_user: Option<UserName>,
    /// `--allow-user`.
    pub allow_users: Vec<AllowUser>,
    /// `--terminal-replay`.
    pub terminal_replay: ReplayChoice,
    /// `--keep`.
    pub keep: bool,
    /// `--state-dir`.
    pub state_dir: Option<PathBuf>,
    /// `--base-path`, without a slash at its end.
    pub base_path: String,
    /// `--no-console`.
    pub no_console: bool,
    /// `--log-level`.
    pub log_level: LogLevel,
    /// `--log-format`.
    pub log_format: LogFormat,
    /// `--audit-log`.
    pub audit_log: Option<PathBuf>,
    /// The six limits that clients may change, as they are at the start.
    pub settings: Settings,
    /// `--config`.
    pub config: Option<PathBuf>,
    /// `--print-config`, `--check-config`.
    pub mode: Mode,
    /// Where all of these come from.
    pub given: Given,
}

/// What is to be done with the configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Serve.
    #[default]
    Serve,
    /// Print it.
    Print,
    /// Say whether a server could be started with it.
    Check,
}

impl Default for ServerArgs {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port: 2468,
            listen: Vec::new(),
            metrics_listen: None,
            public_metrics: false,
            unix_mode: 0o600,
            unix_users: Vec::new(),
            unix_token: false,
            token: None,
            token_file: None,
            no_token: false,
            allowed_hosts: Vec::new(),
            cors_origins: Vec::new(),
            cors_methods: Vec::new(),
            cors_headers: Vec::new(),
            cors_credentials: false,
            backend: BackendChoice::Auto,
            stdin: Stdin::Open,
            exited_max: 1024,
            leftovers_max: 256,
            connections_max: 8192,
            memory_max: None,
            concurrent_runs_max: 256,
            queued_runs_max: 1024,
            shutdown_grace: timeouts::SHUTDOWN_GRACE,
            cgroup: CgroupChoice::Auto,
            default_limits: Limits::default(),
            max_limits: Limits::default(),
            default_user: None,
            allow_users: Vec::new(),
            terminal_replay: ReplayChoice::Auto,
            keep: false,
            state_dir: None,
            base_path: String::new(),
            no_console: false,
            log_level: LogLevel::Info,
            log_format: LogFormat::Auto,
            audit_log: None,
            settings: Settings::default(),
            config: None,
            mode: Mode::Serve,
            given: Given::default(),
        }
    }
}

impl ServerArgs {
    /// Where connections are to come from.
    pub fn listen(&self) -> Vec<Listen> {
        if !self.listen.is_empty() {
            return self.listen.clone();
        }
        vec![Listen::Tcp {
            host: self.host.clone(),
            port: self.port,
        }]
    }
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
        Self(error.to_string())
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
            Arg::Short(short) => FLAGS.iter().find(|flag| flag.short == Some(*short)),
            Arg::Long(long) => FLAGS.iter().find(|flag| flag.long == *long),
            Arg::Value(_) => None,
        };
        let Some(flag) = flag else {
            return Err(arg.unexpected().into());
        };
        let value = match flag.takes {
            Takes::Nothing(_) => None,
            Takes::Value(..) | Takes::Values(..) => Some(parser.value()?),
        };
        given.push((flag, value));
    }
    if !server {
        return Err(UsageError(
            "the command is missing; try `procring server`".to_owned(),
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

/// Whether a variable of the environment is a flag's. Children do not get it: a server that one of
/// them starts is another one.
pub fn is_variable(name: &OsStr) -> bool {
    FLAGS
        .iter()
        .any(|flag| name == variable(flag.long).as_str())
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
    fn the_table_has_the_defaults_that_hold() {
        let mut from_table = ServerArgs::default();
        for flag in FLAGS {
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
