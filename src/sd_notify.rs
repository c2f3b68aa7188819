//! What the service manager hears of the server (sd_notify(3)), and how often it wants to
//! (sd_watchdog_enabled(3)).
//!
//! In: NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID, once, at start. Out: datagrams, as far as
//! somebody takes them. Owns one socket, and none where no service manager asks. Knows no server.
//!
//! By hand, because the socket is opened once, while the server has descriptors: one that has used
//! up all of them must not be taken for hung. The crate sd-notify opens a socket for each word.

use std::cell::Cell;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fmt::{self, Display};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, sendto, socket_with,
};

use crate::config::timeouts;
use crate::types::Monotonic;

/// The shortest pause between two words to a watchdog, however short its patience.
const WATCHDOG_PAUSE_MIN: Duration = Duration::from_millis(10);

/// Why the service manager will hear nothing. The server works without.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NotifyError {
    /// NOTIFY_SOCKET is neither a path nor an abstract name.
    Address(OsString),
    /// There is no socket to be had.
    Socket(Errno),
}

impl Display for NotifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(name) => write!(
                f,
                "NOTIFY_SOCKET {name:?} is neither an absolute path nor an abstract name (@…)"
            ),
            Self::Socket(error) => {
                write!(f, "NOTIFY_SOCKET: no socket to answer with: {error}")
            }
        }?;
        f.write_str("; the service manager does not hear that this server is ready")
    }
}

/// The one who started the server as a service; or nobody.
#[derive(Debug, Default)]
pub(crate) struct Manager {
    to: Option<(OwnedFd, SocketAddrUnix)>,
    watchdog: Option<Duration>,
    /// Whether the end has been said: what was begun before it is of no interest any more.
    stopping: Cell<bool>,
}

impl Manager {
    /// What the environment says, for a service whose main process is `main`.
    ///
    /// # Errors
    /// When somebody waits for words and cannot be told any.
    pub(crate) fn from_environment(main: u32) -> Result<Self, NotifyError> {
        Self::new(main, |name| std::env::var_os(name))
    }

    fn new(main: u32, variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, NotifyError> {
        let Some(name) = variable("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Ok(Self::default());
        };
        let address = address(&name).ok_or(NotifyError::Address(name))?;
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None);
        let socket = socket.map_err(NotifyError::Socket)?;
        let patience = Some(timeouts::SERVICE_MANAGER_BUSY);
        // Refused, a word waits for as long as the service manager does not read.
        let _ = set_socket_timeout(&socket, Timeout::Send, patience);
        Ok(Self {
            to: Some((socket, address)),
            watchdog: watchdog(main, variable),
            stopping: Cell::new(false),
        })
    }

    /// How often [`Self::alive`] is to be said; None if nobody waits for it.
    pub(crate) fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// Requests are answered; also the end of [`Self::reloading`].
    pub(crate) fn ready(&self, status: &str) {
        self.say(&format!("READY=1\n{}", line("STATUS", status)));
    }

    /// Settings are being read again; [`Self::ready`] has to follow, whatever comes of it.
    pub(crate) fn reloading(&self) {
        // When that began, by which systemd tells it from a reload before (systemd 253).
        let now = Monotonic::now().nanos() / 1000;
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={now}"));
    }

    /// The end has begun, and takes at most so long.
    pub(crate) fn stopping(&self, status: &str, at_most: Duration) {
        let status = line("STATUS", status);
        let micros = at_most.as_micros();
        self.say(&format!(
            "STOPPING=1\nEXTEND_TIMEOUT_USEC={micros}\n{status}"
        ));
        self.stopping.set(true);
    }

    /// The server works. Said in vain where the service manager does not read just now.
    pub(crate) fn alive(&self, status: &str) {
        let mut words = "WATCHDOG=1".to_owned();
        if !self.stopping.get() {
            let _ = write!(words, "\n{}", line("STATUS", status));
        }
        self.send(&words, SendFlags::DONTWAIT);
    }

    fn say(&self, words: &str) {
        if !self.stopping.get() {
            self.send(words, SendFlags::empty());
        }
    }

    fn send(&self, words: &str, flags: SendFlags) {
        let Some((socket, address)) = &self.to else {
            return;
        };
        let flags = flags | SendFlags::NOSIGNAL;
        // By its address each time: a service manager that has started anew has another socket
        // there. What it does not take is lost.
        while sendto(socket, words.as_bytes(), flags, address) == Err(Errno::INTR) {}
    }
}

/// One variable; a line break would begin another one.
fn line(name: &str, value: &str) -> String {
    format!("{name}={}", value.replace(['\n', '\r'], " "))
}

/// An absolute path, or an abstract name after `@` (unix(7)).
fn address(name: &OsStr) -> Option<SocketAddrUnix> {
    match name.as_bytes() {
        [b'@', rest @ ..] => SocketAddrUnix::new_abstract_name(rest).ok(),
        path @ [b'/', ..] => SocketAddrUnix::new(path).ok(),
        _ => None,
    }
}

/// Half of the watchdog's patience, as sd_watchdog_enabled(3) advises.
fn watchdog(main: u32, variable: impl Fn(&str) -> Option<OsString>) -> Option<Duration> {
    let number = |name| -> Option<u64> { variable(name)?.to_str()?.parse().ok() };
    let meant = match variable("WATCHDOG_PID") {
        Some(_) => number("WATCHDOG_PID") == Some(main.into()),
        None => true,
    };
    let patience = number("WATCHDOG_USEC").filter(|patience| meant && *patience > 0)?;
    Some((Duration::from_micros(patience) / 2).max(WATCHDOG_PAUSE_MIN))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    fn manager(variables: &[(&str, &str)]) -> Result<Manager, NotifyError> {
        Manager::new(std::process::id(), |name| {
            let found = variables.iter().find(|(other, _)| *other == name);
            found.map(|(_, value)| (*value).into())
        })
    }

    #[test]
    fn words_reach_a_path_and_an_abstract_name() {
        let path = std::env::temp_dir().join(format!("procring-notify-{}", std::process::id()));
        let name = format!("procring-notify-{}", std::process::id());
        let at_path = UnixDatagram::bind(&path).unwrap();
        let abstract_name = SocketAddr::from_abstract_name(&name).unwrap();
        let at_name = UnixDatagram::bind_addr(&abstract_name).unwrap();
        for (socket, named) in [
            (at_path, path.to_str().unwrap()),
            (at_name, &*format!("@{name}")),
        ] {
            let heard = || {
                let mut buffer = [0; 512];
                let len = socket.recv(&mut buffer).unwrap();
                String::from_utf8_lossy(&buffer[..len]).into_owned()
            };
            let manager = manager(&[("NOTIFY_SOCKET", named)]).unwrap();
            manager.ready("here\nMAINPID=1");
            assert_eq!(heard(), "READY=1\nSTATUS=here MAINPID=1");
            manager.reloading();
            let text = heard();
            let since = text.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
            assert!(since.parse::<u64>().unwrap() <= Monotonic::now().nanos() / 1000);
            manager.alive("one");
            assert_eq!(heard(), "WATCHDOG=1\nSTATUS=one");
            manager.stopping("bye", Duration::from_secs(6));
            assert_eq!(
                heard(),
                "STOPPING=1\nEXTEND_TIMEOUT_USEC=6000000\nSTATUS=bye"
            );
            // A reload that ends during the end, and a watchdog that is still there.
            manager.ready("again");
            manager.alive("two");
            assert_eq!(heard(), "WATCHDOG=1");
        }
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_service_manager_that_does_not_read_or_is_gone_keeps_nobody_waiting() {
        let name = format!("procring-deaf-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let deaf = UnixDatagram::bind_addr(&address).unwrap();
        let manager = manager(&[("NOTIFY_SOCKET", &format!("@{name}"))]).unwrap();
        // More than its queue holds (net.unix.max_dgram_qlen).
        for _ in 0..5000 {
            manager.alive("");
        }
        manager.ready("");
        drop(deaf);
        manager.ready("");
    }

    #[test]
    fn the_watchdog_is_for_this_process_only() {
        let own = std::process::id().to_string();
        let with = |more: &[(&str, &str)]| {
            let socket = ("NOTIFY_SOCKET", "/nowhere");
            manager(&[&[socket], more].concat()).unwrap().watchdog()
        };
        let usec = ("WATCHDOG_USEC", "3000000");
        let half = Some(Duration::from_millis(1500));
        assert_eq!(with(&[usec]), half);
        assert_eq!(with(&[usec, ("WATCHDOG_PID", &own)]), half);
        for others in [
            &[usec, ("WATCHDOG_PID", "1")][..],
            &[usec, ("WATCHDOG_PID", "")],
            &[("WATCHDOG_USEC", "0")],
            &[("WATCHDOG_USEC", "often")],
            &[],
        ] {
            assert_eq!(with(others), None, "{others:?}");
        }
        assert_eq!(with(&[("WATCHDOG_USEC", "1")]), Some(WATCHDOG_PAUSE_MIN));
        assert_eq!(manager(&[usec]).unwrap().watchdog(), None, "nobody to tell");
    }

    #[test]
    fn an_address_of_another_kind_is_named() {
        for name in ["run/notify", "vsock:2:1", &format!("/{}", "x".repeat(200))] {
            let error = manager(&[("NOTIFY_SOCKET", name)]).unwrap_err();
            assert_eq!(error, NotifyError::Address(name.into()));
            assert!(error.to_string().contains(name));
        }
        assert!(manager(&[("NOTIFY_SOCKET", "")]).unwrap().to.is_none());
    }
}
