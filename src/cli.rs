//! The command line.
//!
//! In: arguments. Out: an [`Invocation`], or a sentence that says what is wrong with them. Knows
//! neither sockets nor files; `--token-file` is read by `main`.

use std::ffi::OsString;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use lexopt::prelude::*;

use crate::io::runtime::backend::Choice;
use crate::supervisor::cgroup;

/// What `--help` prints.
pub const HELP: &str = "\
procring: a process API server for sandboxes

Usage: procring server [OPTIONS]

Options:
  -H, --host HOST               address to bind [127.0.0.1]
  -p, --port PORT               port to bind; 0 lets the kernel choose [2468]
  -t, --token TOKEN             require `Authorization: Bearer TOKEN`
      --token-file FILE         the same, from the first line of FILE
  -n, --no-token                no token, also on an address that others can reach
      --allowed-host HOST       allow this Host besides local ones; * for any (repeatable)
  -O, --cors-allow-origin O     allow pages of this origin; * for any (repeatable)
  -M, --cors-allow-method M     methods named to browsers [any] (repeatable)
  -A, --cors-allow-header H     headers named to browsers [any] (repeatable)
  -C, --cors-allow-credentials  let browsers send credentials
      --io-backend BACKEND      auto, uring or epoll [auto]
      --max-exited N            exited processes kept for inspection [1024]
      --max-connections N       connections at the same time [8192]
      --shutdown-grace SECONDS  between SIGTERM and SIGKILL when the server ends [3]
      --cgroup WHEN             a cgroup v2 for each process: auto, on or off [auto]
      --state-dir DIR           end what a killed server left behind, as noted in DIR
      --no-telemetry            accepted for compatibility; there is no telemetry
  -h, --help                    print this
  -V, --version                 print the version

The variable PROCRING_TOKEN acts like --token; no child ever sees it. An empty one is refused.

Exit codes: 0 ended by a signal, 1 could not start, 2 wrong usage, 78 --io-backend uring
where io_uring is not available.
";

/// What the arguments ask for.
#[derive(Debug)]
pub enum Invocation {
    /// Print [`HELP`].
    Help,
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
    pub backend: Choice,
    /// `--max-exited`.
    pub exited_max: usize,
    /// `--max-connections`.
    pub connections_max: usize,
    /// `--shutdown-grace`.
    pub shutdown_grace: Duration,
    /// `--cgroup`.
    pub cgroup: cgroup::Choice,
    /// `--state-dir`.
    pub state_dir: Option<PathBuf>,
}

impl Default for ServerArgs {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port: 2468,
            token: None,
            token_file: None,
            no_token: false,
            allowed_hosts: Vec::new(),
            cors_origins: Vec::new(),
            cors_methods: Vec::new(),
            cors_headers: Vec::new(),
            cors_credentials: false,
            backend: Choice::Auto,
            exited_max: 1024,
            connections_max: 8192,
            shutdown_grace: Duration::from_secs(3),
            cgroup: cgroup::Choice::Auto,
            state_dir: None,
        }
    }
}

/// Why the arguments were refused; the text names the flag and what it may be.
#[derive(Debug)]
pub struct UsageError(String);

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

/// Whether an address can only be reached from this machine.
pub fn is_loopback(host: &str) -> bool {
    let bare = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(host);
    bare.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Reads the arguments, without the program's name.
///
/// # Errors
/// For anything unknown, missing or out of range, and for an open server on an address that
/// others can reach.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Invocation, UsageError> {
    let mut parser = lexopt::Parser::from_args(args);
    let mut server = false;
    let mut flags = ServerArgs::default();
    while let Some(arg) = parser.next()? {
        match arg {
            Short('h') | Long("help") => return Ok(Invocation::Help),
            Short('V') | Long("version") => return Ok(Invocation::Version),
            Value(word) if !server && word == "server" => server = true,
            Short('H') | Long("host") => flags.host = parser.value()?.string()?,
            Short('p') | Long("port") => {
                flags.port = number("--port", "a number from 0 to 65535", &mut parser)?
            }
            Short('t') | Long("token") => flags.token = Some(parser.value()?.string()?),
            Long("token-file") => flags.token_file = Some(parser.value()?.into()),
            Short('n') | Long("no-token") => flags.no_token = true,
            Long("allowed-host") => flags.allowed_hosts.push(parser.value()?.string()?),
            Short('O') | Long("cors-allow-origin") => {
                flags.cors_origins.push(parser.value()?.string()?)
            }
            Short('M') | Long("cors-allow-method") => {
                flags.cors_methods.push(parser.value()?.string()?)
            }
            Short('A') | Long("cors-allow-header") => {
                flags.cors_headers.push(parser.value()?.string()?)
            }
            Short('C') | Long("cors-allow-credentials") => flags.cors_credentials = true,
            Long("io-backend") => {
                flags.backend = match parser.value()?.string()?.as_str() {
                    "auto" => Choice::Auto,
                    "uring" => Choice::Uring,
                    "epoll" => Choice::Epoll,
                    other => {
                        return Err(UsageError(format!(
                            "--io-backend {other:?}: must be auto, uring or epoll"
                        )));
                    }
                }
            }
            Long("max-exited") => flags.exited_max = positive("--max-exited", &mut parser)?,
            Long("max-connections") => {
                flags.connections_max = positive("--max-connections", &mut parser)?
            }
            Long("shutdown-grace") => {
                let seconds: f64 = number("--shutdown-grace", "a number of seconds", &mut parser)?;
                flags.shutdown_grace = Duration::try_from_secs_f64(seconds)
                    .ok()
                    .filter(|grace| *grace <= Duration::from_secs(3600))
                    .ok_or_else(|| {
                        UsageError("--shutdown-grace must be between 0 and 3600 seconds".to_owned())
                    })?;
            }
            Long("cgroup") => {
                flags.cgroup = match parser.value()?.string()?.as_str() {
                    "auto" => cgroup::Choice::Auto,
                    "on" => cgroup::Choice::On,
                    "off" => cgroup::Choice::Off,
                    other => {
                        return Err(UsageError(format!(
                            "--cgroup {other:?}: must be auto, on or off"
                        )));
                    }
                }
            }
            Long("state-dir") => flags.state_dir = Some(parser.value()?.into()),
            Long("no-telemetry") => {}
            other => return Err(other.unexpected().into()),
        }
    }
    if !server {
        return Err(UsageError(
            "the command is missing; try `procring server`".to_owned(),
        ));
    }
    for (flag, values) in [
        ("--token", flags.token.as_slice()),
        ("--cors-allow-origin", &flags.cors_origins),
        ("--cors-allow-method", &flags.cors_methods),
        ("--cors-allow-header", &flags.cors_headers),
    ] {
        if values
            .iter()
            .any(|value| value.trim().is_empty() || value.chars().any(char::is_control))
        {
            return Err(UsageError(format!(
                "{flag} must not be empty or hold control characters"
            )));
        }
    }
    Ok(Invocation::Server(Box::new(flags)))
}

fn positive(flag: &str, parser: &mut lexopt::Parser) -> Result<usize, UsageError> {
    match number(flag, "a number greater than 0", parser)? {
        0 => Err(UsageError(format!("{flag} must be greater than 0"))),
        number => Ok(number),
    }
}

fn number<T: FromStr>(
    flag: &str,
    what: &str,
    parser: &mut lexopt::Parser,
) -> Result<T, UsageError> {
    let value = parser.value()?.string()?;
    value
        .parse()
        .map_err(|_| UsageError(format!("{flag} {value:?}: must be {what}")))
}

/// Refuses an open server on an address that others can reach, unless that is asked for.
///
/// # Errors
/// What to add to the command line.
pub fn check_open(args: &ServerArgs, has_token: bool) -> Result<(), UsageError> {
    if has_token || args.no_token || is_loopback(&args.host) {
        return Ok(());
    }
    Err(UsageError(format!(
        "--host {}: whoever reaches this address could run commands; add --token or, if that is \
         what you want, --no-token",
        args.host
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(args: &[&str]) -> Result<ServerArgs, String> {
        let args = std::iter::once("server")
            .chain(args.iter().copied())
            .map(OsString::from);
        match parse(args) {
            Ok(Invocation::Server(args)) => Ok(*args),
            Ok(_) => Err("not the server".to_owned()),
            Err(error) => Err(error.to_string()),
        }
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
            "o",
            "--cors-allow-method=m",
            "--cors-allow-header",
            "x",
            "--cors-allow-credentials",
            "--no-telemetry",
            "--no-token",
        ])
        .unwrap();
        let short = server(&[
            "-H", "h", "-p7", "-t", "t", "-O", "o", "-M", "m", "-A", "x", "-C", "-n",
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
            &["--cgroup", "v2"],
            &["--shutdown-grace", "-1"],
            &["--shutdown-grace", "NaN"],
            &["--token", ""],
        ] {
            assert!(server(args).is_err(), "{args:?}");
        }
        assert!(parse(std::iter::empty()).is_err());
        assert!(parse([OsString::from("serve")]).is_err());
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
