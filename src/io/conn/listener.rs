//! Accepts connections, up to a number.
//!
//! In: listening sockets. Out: one task per connection. Owns the counts of connections.

use std::cell::Cell;
use std::future::Future;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::Duration;

use rustix::io::{Errno, ioctl_fionbio};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, Shutdown, SocketAddrAny,
    SocketFlags, acceptfrom_with, getpeername, recvmsg, shutdown, sockopt,
};

use crate::api::access::Peer;
use crate::config::timeouts;
use crate::journal::Event;
use crate::ledger::heritage::Connection;
use crate::metrics::metrics;
use crate::supervisor::mailbox::Receiver;
use crate::supervisor::message::{self, Command};

use crate::io::conn::open::{Kind, Listening};
use crate::io::conn::standing::Had;
use crate::io::conn::{self, Conn, unread};
use crate::io::host::reports;
use crate::io::runtime;
use crate::io::runtime::heap;
use crate::io::runtime::race::{First, first, race};
use crate::io::runtime::socket::TcpStream;
use crate::io::runtime::source::Source;
use crate::io::runtime::timer::{self, sleep};
use crate::io::runtime::turn::rest;
use crate::io::server::Server;
use crate::io::upgrade;
use crate::io::wait::until;
use crate::io::watchdog;

/// Connections the kernel holds ready before they are accepted.
const BACKLOG: i32 = 4096;

/// Connections for metrics at the same time.
const METRICS_CONNECTIONS_MAX: usize = 16;

/// After an accept failed for want of something.
const RETRY_AFTER: Duration = Duration::from_millis(20);

/// Serves until the supervisor says that everything has ended.
///
/// # Errors
/// When there is no timerfd(2), or it, the listening socket or the doorbell cannot be waited for.
pub(crate) async fn serve(
    server: Rc<Server>,
    listening: Vec<Listening>,
    events: Receiver<message::Event>,
) -> std::io::Result<()> {
    let clock = timer::start()?;
    let mut sockets = Vec::new();
    // Paths go with the last of them.
    let mut paths = Vec::new();
    for listening in listening {
        let for_metrics = listening.is_for_metrics();
        let (socket, kind, shared, path) = listening.into_parts();
        if kind != Kind::Starter {
            rustix::net::listen(&socket, BACKLOG)?;
        }
        sockets.push((Source::new(socket)?, kind, shared, for_metrics));
        paths.push(path);
    }
    // Before the first connection is accepted: there may not be a descriptor left after it.
    let bell = Source::new(rustix::io::fcntl_dupfd_cloexec(&events, 3)?)?;
    runtime::spawn(watchdog::watch(server.clone()));
    upgrade::arrive(&server);
    server.options.manager.ready(&watchdog::status(&server));
    let end = {
        let accepting = sockets.iter().map(
            |(socket, kind, _, for_metrics)| -> Pin<Box<dyn Future<Output = _>>> {
                match kind {
                    Kind::Tcp(_) | Kind::Unix => {
                        Box::pin(accept_all(&server, socket, *for_metrics))
                    }
                    Kind::Starter => Box::pin(take_all(&server, socket)),
                }
            },
        );
        let accepting = pin!(first(accepting.collect()));
        let handling = pin!(reports::handle(server.clone(), events, bell));
        let clock = pin!(clock);
        let failing = pin!(race(accepting, clock));
        race(failing, handling).await
    };
    drop(paths);
    for (socket, _, shared, _) in sockets {
        close(socket, shared);
    }
    match end {
        First::Left(First::Left(error) | First::Right(error)) => Err(error),
        First::Right(result) => {
            if server.connections.get() + server.metrics_connections.get() > 0 {
                sleep(timeouts::LAST_REQUESTS).await;
            }
            let answered = pin!(until(|| match server.busy.is_none() {
                true => Ok(()),
                false => Err(server.busy.none.clone()),
            }));
            race(answered, pin!(sleep(timeouts::LAST_WORDS))).await;
            server.tell_rest();
            result
        }
    }
}

/// Frees the address at once. A ring that waits for the socket keeps it beyond the end of the
/// process, until the kernel has taken the ring apart; one that does not listen is in nobody's
/// way (SO_REUSEADDR, socket(7)), and nothing waits for it. One of the service manager's goes on
/// listening for the next server.
fn close(socket: Source, shared: bool) {
    if !shared {
        // Fails for a socket that does not listen any more.
        let _ = shutdown(&socket, Shutdown::Both);
    }
}

async fn accept_all(server: &Rc<Server>, socket: &Source, for_metrics: bool) -> std::io::Error {
    loop {
        server.begins().await;
        match acceptfrom_with(socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok((fd, peer)) => {
                let peer = peer_of(&fd, peer);
                let few = server.are_descriptors_few(&fd);
                start(server, fd, peer, for_metrics);
                if few || server.strangers(for_metrics).are_many_leaving() {
                    // Who has been sent off goes meanwhile.
                    rest().await;
                }
            }
            Err(Errno::AGAIN) => {
                if let Err(error) = socket.readable().await {
                    return error;
                }
            }
            // The peer gave up before it was accepted.
            Err(Errno::CONNABORTED | Errno::INTR) => {}
            Err(_) => {
                server.tell_seldom(Event::Limit {
                    reason: "descriptors",
                    id: None,
                    count: 1,
                });
                server.make_descriptors();
                sleep(RETRY_AFTER).await;
            }
        }
    }
}

/// Who is at the other end.
fn peer_of(fd: &OwnedFd, address: Option<SocketAddrAny>) -> Peer {
    match address {
        // The one who connected, and not whom the descriptor was given to since (unix(7)).
        Some(address) if address.address_family() == AddressFamily::UNIX => {
            sockopt::socket_peercred(fd).map_or(Peer::Unknown, |of| Peer::User(of.uid.as_raw()))
        }
        Some(address) => address.try_into().map_or(Peer::Unknown, Peer::Address),
        None => Peer::Unknown,
    }
}

/// Takes connections that the server's starter hands over. When it has gone, the server ends.
async fn take_all(server: &Rc<Server>, socket: &Source) -> std::io::Error {
    loop {
        server.begins().await;
        let mut byte = [0];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut into = [IoSliceMut::new(&mut byte)];
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        match recvmsg(socket, &mut into, &mut control, flags) {
            Ok(message) if message.bytes > 0 => {
                for ancillary in control.drain() {
                    if let RecvAncillaryMessage::ScmRights(handed) = ancillary {
                        for fd in handed {
                            // One that its maker has left blocking would hold up everybody: epoll
                            // says now and then that there is something where there is nothing.
                            if ioctl_fionbio(&fd, true).is_ok() {
                                start(server, fd, Peer::Starter, false);
                            }
                        }
                    }
                }
            }
            Err(Errno::AGAIN) => {
                if let Err(error) = socket.readable().await {
                    return error;
                }
            }
            Err(Errno::INTR) => {}
            Ok(_) | Err(_) => {
                server.command(Command::ShutDown);
                return std::future::pending().await;
            }
        }
    }
}

/// Gives up its place among the connections when dropped.
struct Place {
    server: Rc<Server>,
    for_metrics: bool,
}

impl Place {
    fn count(&self) -> &Cell<usize> {
        match self.for_metrics {
            true => &self.server.metrics_connections,
            false => &self.server.connections,
        }
    }

    /// Takes one, and says whether it is one too many. Who wants to know how full the server is
    /// needs no place among those that fill it.
    fn take(server: &Rc<Server>, for_metrics: bool) -> (Self, bool) {
        let place = Self {
            server: server.clone(),
            for_metrics,
        };
        let most = match for_metrics {
            true => METRICS_CONNECTIONS_MAX,
            false => server.connections_max.get(),
        };
        let count = place.count();
        count.set(count.get() + 1);
        let staying = count
            .get()
            .saturating_sub(server.strangers(for_metrics).leaving());
        (place, staying > most)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let count = self.count();
        count.set(count.get() - 1);
        heap::passed(heap::CONNECTION_BYTES);
    }
}

/// Has a socket that is one more take its share of what the kernel holds.
fn bound_unread(server: &Server, fd: &OwnedFd, peer: &Peer) {
    let connections = server.connections.get() + 1;
    unread::bound(fd, peer, server.budget.max(), connections);
}

/// Goes on with a connection of another program.
pub(in crate::io) fn take_up(
    server: &Rc<Server>,
    fd: OwnedFd,
    about: Connection,
    run: Option<Had>,
) {
    let Ok(address) = getpeername(&fd) else {
        // It is none, or broken.
        return;
    };
    let peer = match about.of_starter {
        true => Peer::Starter,
        false => peer_of(&fd, address),
    };
    bound_unread(server, &fd, &peer);
    let Ok(stream) = TcpStream::from_std(fd.into()) else {
        return;
    };
    let for_metrics = about.for_metrics;
    let (place, _) = Place::take(server, for_metrics);
    let mut conn = Conn::new(server.clone(), stream, peer, for_metrics);
    conn.goes_on_with(about, run);
    runtime::spawn(async move {
        let _place = place;
        conn::serve(conn).await;
    });
}

fn start(server: &Rc<Server>, fd: OwnedFd, peer: Peer, for_metrics: bool) {
    metrics(|all| all.accepted.inc());
    // Refusals, as for a unix socket, leave a slower or less watched connection, no worse.
    let _ = sockopt::set_tcp_nodelay(&fd, true);
    let _ = sockopt::set_socket_keepalive(&fd, true);
    let _ = sockopt::set_tcp_keepidle(&fd, timeouts::TCP_KEEP_ALIVE_AFTER);
    let _ = sockopt::set_tcp_keepintvl(&fd, timeouts::TCP_KEEP_ALIVE_EVERY);
    let _ = sockopt::set_tcp_keepcnt(&fd, timeouts::TCP_KEEP_ALIVE_PROBES);
    bound_unread(server, &fd, &peer);
    let spare = server.may_use(&fd);
    let made_room = server.make_room_for_descriptor(&fd);
    let Ok(stream) = TcpStream::from_std(fd.into()) else {
        return;
    };
    let (place, is_too_much) = Place::take(server, for_metrics);
    // One in, one out.
    let is_full = is_too_much && !made_room && !server.strangers(for_metrics).send_off_oldest();
    let conn = Conn::new(server.clone(), stream, peer, for_metrics);
    runtime::spawn(async move {
        let _place = place;
        if !spare || is_full {
            Box::pin(conn::refuse(conn)).await;
        } else {
            conn::serve(conn).await;
        }
    });
}
