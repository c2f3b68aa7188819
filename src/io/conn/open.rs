//! Opens the sockets that connections come from.
//!
//! In: what `--listen` names. Out: a [`Listening`] each. Knows nothing of who may connect; that is
//! `api::guard`.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::Mode;
use rustix::net::{AddressFamily, SocketAddrAny, SocketAddrUnix, getsockname, sockopt};
use rustix::process::umask;

use crate::config::flags::Listen;
use crate::config::timeouts;
use crate::ledger::heritage::Socket;

/// Between two tries of a busy address.
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// What connections on a socket have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// They come from an address.
    Tcp(SocketAddr),
    /// They come from this machine, and the kernel says from whom.
    Unix,
    /// They are handed over by whoever started this server, one descriptor a message. Its end is
    /// the server's.
    Starter,
}

/// One of them. A path that was made for it goes with it.
#[derive(Debug)]
pub(crate) struct Listening {
    socket: OwnedFd,
    kind: Kind,
    path: Option<Entry>,
    name: String,
    /// The service manager has it, too, and gives it to the next server.
    shared: bool,
    for_metrics: bool,
}

/// A socket in the file system: the one that was made, and not what stands there later.
#[derive(Debug)]
pub(super) struct Entry {
    path: PathBuf,
    identity: (u64, u64),
}

impl Drop for Entry {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|found| found == self.identity) {
            // It may be gone, or its folder read-only by now.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let about = fs::symlink_metadata(path)?;
    Ok((about.dev(), about.ino()))
}

/// Where connections were to come from, and why they cannot.
#[derive(Debug)]
pub struct ListenError {
    name: String,
    error: io::Error,
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen on {}: {}", self.name, self.error)
    }
}

impl std::error::Error for ListenError {}

impl Listening {
    /// What its connections have in common.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// As a client would write it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The same, for metrics and probes only.
    pub(crate) fn for_metrics(mut self) -> Self {
        self.for_metrics = true;
        self
    }

    /// Whether it is for metrics and probes only.
    pub(crate) fn is_for_metrics(&self) -> bool {
        self.for_metrics
    }

    pub(super) fn into_parts(self) -> (OwnedFd, Kind, bool, Option<Entry>) {
        (self.socket, self.kind, self.shared, self.path)
    }

    fn tcp(listener: TcpListener) -> io::Result<Self> {
        let address = listener.local_addr()?;
        Ok(Self {
            socket: listener.into(),
            kind: Kind::Tcp(address),
            path: None,
            name: format!("http://{address}"),
            shared: false,
            for_metrics: false,
        })
    }

    /// What another program needs to go on with it.
    pub(crate) fn hand_over(&self) -> Socket {
        let kind = match self.kind {
            Kind::Tcp(_) => "tcp",
            Kind::Unix => "unix",
            Kind::Starter => "starter",
        };
        let path = self.path.as_ref().map(|entry| entry.path.as_os_str());
        Socket {
            fd: self.socket.as_raw_fd(),
            kind: kind.to_owned(),
            name: self.name.clone(),
            path: path.map(|path| path.as_bytes().to_vec()),
            shared: self.shared,
            for_metrics: self.for_metrics,
        }
    }

    /// Goes on with one of another program, at its descriptor.
    ///
    /// # Errors
    /// If it is none.
    pub(crate) fn again(socket: OwnedFd, about: &Socket) -> Result<Self, ListenError> {
        let address = |socket: &OwnedFd| SocketAddr::try_from(getsockname(socket)?);
        let kind = match about.kind.as_str() {
            "tcp" => address(&socket).map(Kind::Tcp).map_err(io::Error::from),
            "unix" => Ok(Kind::Unix),
            "starter" => Ok(Kind::Starter),
            other => Err(io::Error::other(format!("a socket of kind {other:?}"))),
        };
        let kind = kind.map_err(|error| ListenError {
            name: about.name.clone(),
            error,
        })?;
        let path = about.path.as_deref().map(OsStr::from_bytes).map(Path::new);
        let entry = |path: &Path| {
            Some(Entry {
                path: path.to_owned(),
                identity: identity(path).ok()?,
            })
        };
        Ok(Self {
            socket,
            kind,
            path: path.and_then(entry),
            name: about.name.clone(),
            shared: about.shared,
            for_metrics: about.for_metrics,
        })
    }

    /// A socket that somebody else has opened and listens on.
    fn inherited(socket: OwnedFd) -> io::Result<Self> {
        if !sockopt::socket_acceptconn(&socket)? {
            let what = "a descriptor of LISTEN_FDS is no stream socket that listens";
            return Err(io::Error::new(ErrorKind::InvalidInput, what));
        }
        let own: SocketAddrAny = getsockname(&socket)?;
        if own.address_family() == AddressFamily::UNIX {
            let path = SocketAddrUnix::try_from(own).ok();
            let path = path.as_ref().and_then(SocketAddrUnix::path);
            let name = path.map_or("a unix socket without a path".into(), |path| {
                format!("unix:{}", path.to_string_lossy())
            });
            return Ok(Self {
                socket,
                kind: Kind::Unix,
                path: None,
                name,
                shared: true,
                for_metrics: false,
            });
        }
        let mut listening = Self::tcp(TcpListener::from(socket))?;
        listening.shared = true;
        Ok(listening)
    }

    fn unix(path: &Path, mode: u32) -> io::Result<Self> {
        // Nobody may connect before the mode is what was asked for. There is one thread still.
        let before = umask(Mode::from_raw_mode(0o177));
        let bound = bind_unix(path);
        umask(before);
        let listener = bound?;
        let entry = Entry {
            path: path.to_owned(),
            identity: identity(path)?,
        };
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        Ok(Self {
            socket: listener.into(),
            kind: Kind::Unix,
            path: Some(entry),
            name: format!("unix:{}", path.display()),
            shared: false,
            for_metrics: false,
        })
    }
}

/// Opens what `listen` names; an address that a server which has just ended still holds is tried
/// again for a moment. `unix_mode` are the permissions of sockets in the file system. To be called
/// while there is only one thread.
///
/// # Errors
/// When it is not to be had.
pub(crate) fn open(
    listen: &Listen,
    unix_mode: u32,
    inherited: &mut Vec<OwnedFd>,
) -> Result<Vec<Listening>, ListenError> {
    let failed = |error| ListenError {
        name: listen.to_string(),
        error,
    };
    if *listen == Listen::Systemd {
        if inherited.is_empty() {
            let what = "LISTEN_FDS names no descriptor of this process (sd_listen_fds(3))";
            return Err(failed(io::Error::new(ErrorKind::NotFound, what)));
        }
        let all = inherited.drain(..).map(Listening::inherited);
        return all.collect::<io::Result<_>>().map_err(failed);
    }
    let busy_until = Instant::now() + timeouts::BUSY_FOR;
    loop {
        match open_once(listen, unix_mode) {
            Ok(listening) => return Ok(vec![listening]),
            Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < busy_until => {
                thread::sleep(BUSY_PAUSE);
            }
            Err(error) => return Err(failed(error)),
        }
    }
}

fn open_once(listen: &Listen, unix_mode: u32) -> io::Result<Listening> {
    match listen {
        Listen::Tcp { host, port } => {
            let bare = host
                .strip_prefix('[')
                .and_then(|rest| rest.strip_suffix(']'))
                .unwrap_or(host);
            Listening::tcp(TcpListener::bind(&*addresses(bare, *port)?)?)
        }
        Listen::Unix(path) => Listening::unix(path, unix_mode),
        Listen::Starter | Listen::Systemd => Ok(Listening {
            // Children get a standard input of their own.
            socket: rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?,
            kind: Kind::Starter,
            path: None,
            name: "what its starter hands over".to_owned(),
            shared: false,
            for_metrics: false,
        }),
    }
}

/// What a name stands for; an address is asked of nobody.
fn addresses(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let found = (host, port).to_socket_addrs().map_err(|error| {
        let what = format!(
            "{error}; a name is looked up in /etc/hosts and by the servers of /etc/resolv.conf, an \
             address such as 127.0.0.1 needs neither"
        );
        io::Error::other(what)
    });
    Ok(found?.collect())
}

/// Binds a path. A socket that a killed server has left there is nobody's, and is replaced.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    let taken = match UnixListener::bind(path) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => error,
        result => return result,
    };
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        let what = "there is something else that is no socket";
        return Err(io::Error::new(ErrorKind::AlreadyExists, what));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            fs::remove_file(path)?;
            UnixListener::bind(path)
        }
        _ => Err(taken),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_nobody_listens_on_is_replaced_and_nothing_else_is() {
        let dir = std::env::temp_dir().join(format!("procring-open-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("a.sock");
        drop(UnixListener::bind(&path).unwrap());
        let first = Listening::unix(&path, 0o640).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        rustix::net::listen(&first.socket, 1).unwrap();
        let second = Listening::unix(&path, 0o600).unwrap_err();
        assert_eq!(second.kind(), ErrorKind::AddrInUse);
        drop(first);
        assert!(!path.exists());
        fs::write(&path, "mine").unwrap();
        let third = Listening::unix(&path, 0o600).unwrap_err();
        assert_eq!(third.kind(), ErrorKind::AlreadyExists);
        fs::remove_dir_all(&dir).unwrap();
    }
}
