//! What a server says when it starts.
//!
//! In: what there is, what is missing, and where it listens. Out: the first lines of its log; what is
//! missing is kept for `GET /v1/server`, too.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use rustix::process::{Resource, getrlimit};

use crate::api::server_info::ServerInfo;
use crate::budget;
use crate::config::flags::ServerArgs;
use crate::io::runtime::backend::Backend;
use crate::io::{Kind, Listening};
use crate::journal::{Event as Told, Journal, Start};
use crate::sd_notify::Manager;
use crate::supervisor::spawn::pty;

use super::places::Places;

/// What does not work here: told when the log begins, and to whoever asks later.
pub(super) struct Missing<'a> {
    pub(super) journal: &'a Journal,
    pub(super) info: &'a mut ServerInfo,
}

impl Missing<'_> {
    pub(super) fn warn(&mut self, sentence: String) {
        // A server that goes on would say it again.
        if !self.info.goes_on {
            self.journal.tell(&Told::Warning(&sentence));
        }
        self.info.missing.push(sentence);
    }

    /// What can be told before the server has begun. `exposed`: why the token can be read by others.
    pub(super) fn warn_of_start(&mut self, exposed: Option<io::Error>) {
        if let Some(error) = exposed {
            self.warn(format!(
                "the token can be read in /proc/{}/cmdline or environ, because it cannot be \
                 overwritten there: {error}; --token-file keeps it out of both",
                std::process::id()
            ));
        }
        if !self.info.users {
            let sentence = "children of another user cannot be had: that needs CAP_SETUID, \
                            CAP_SETGID, CAP_CHOWN and CAP_KILL, as root has";
            self.warn(sentence.to_owned());
        }
        if !pty::are_there() {
            let sentence = "no terminals: they need /dev/ptmx (or /dev/pts/ptmx) and a devpts \
                            mounted on /dev/pts";
            self.warn(sentence.to_owned());
        }
    }
}

/// Whoever started the server as a service. One that serves its starter only is part of what that
/// does, and not the service.
pub(super) fn manager(listening: &[Listening], main: u32, missing: &mut Missing<'_>) -> Manager {
    if listening.iter().all(|one| one.kind() == Kind::Starter) {
        return Manager::default();
    }
    Manager::from_environment(main).unwrap_or_else(|error| {
        missing.warn(error.to_string());
        Manager::default()
    })
}

/// Descriptors of a managed process, and of a connection, at most.
const DESCRIPTORS_PER_PROCESS: u64 = 3;

/// Tells of the start: what there is, and what the limits would need if all of them were reached.
pub(super) fn tell_start(args: &ServerArgs, backend: Backend, journal: &Journal) {
    let settings = &args.settings;
    let connections = u64::try_from(args.connections_max).unwrap_or(u64::MAX);
    let processes = settings.max_concurrent_processes;
    let of_processes = processes.saturating_mul(DESCRIPTORS_PER_PROCESS);
    let start = Start {
        backend: &backend.to_string(),
        descriptors: getrlimit(Resource::Nofile).current,
        descriptors_wanted: connections.saturating_add(of_processes),
        memory: budget::host::memory(),
        logs_wanted: processes.saturating_mul(settings.max_log_bytes_per_process),
        config: args.config.as_deref().and_then(Path::to_str),
    };
    journal.tell(&Told::Start(start.clone()));
    if let Some(max) = start.descriptors
        && max < start.descriptors_wanted
    {
        journal.tell(&Told::Warning(&format!(
            "{max} descriptors may be open (RLIMIT_NOFILE), and --max-connections and \
             maxConcurrentProcesses together would need {}: what is beyond is refused with 503",
            start.descriptors_wanted
        )));
    }
    if start.memory < start.logs_wanted {
        journal.tell(&Told::Warning(&format!(
            "there are {} bytes of memory, and maxConcurrentProcesses times \
             maxLogBytesPerProcess would need {} for logs alone",
            start.memory, start.logs_wanted
        )));
    }
}

/// Where it listens, and who may ask there. `open`: there is no token.
pub(super) fn tell_listening(
    args: &ServerArgs,
    listening: &[Listening],
    open: bool,
    backend: Backend,
    journal: &Journal,
) {
    for one in listening {
        let access = match one.kind() {
            _ if one.is_for_metrics() => "metrics, no token",
            Kind::Tcp(_) if open => "no token",
            Kind::Unix if !args.unix_token => "by user",
            Kind::Tcp(_) | Kind::Unix => "token required",
            // Its starter knows.
            Kind::Starter => continue,
        };
        journal.tell(&Told::Listening {
            address: one.name(),
            access,
            backend: &backend.to_string(),
        });
    }
}

/// Where the page for people is, where a browser can go.
pub(super) fn tell_console(args: &ServerArgs, listening: &[Listening], journal: &Journal) {
    if cfg!(not(feature = "console")) || args.no_console {
        return;
    }
    let Some(address) = Places::of(listening).addresses().next() else {
        return;
    };
    // Every address: the one that a browser of this machine can go to.
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    let address = SocketAddr::new(ip, address.port());
    let base = &args.base_path;
    let sentence = format!("console at http://{address}{base}/console/");
    journal.tell(&Told::Told(&sentence));
}
