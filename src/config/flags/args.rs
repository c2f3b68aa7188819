//! What flags say: a value for each of `procring server`'s, and what holds without them.
//!
//! In: nothing; `table` sets the fields. Out: [`ServerArgs`]. Knows no command line.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::Given;
use crate::config::settings::Settings;
use crate::config::timeouts;
use crate::types::{Limits, Stdin, UserName, Who};

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
    /// `--client-token`: names, and files with the tokens.
    pub client_tokens: Vec<(String, PathBuf)>,
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
            client_tokens: Vec::new(),
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
