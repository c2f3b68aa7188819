//! Accepts connections, up to a number.
//!
//! In: a listening socket. Out: one task per connection. Owns the count of connections.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use monoio::net::TcpStream;
use rustix::io::Errno;
use rustix::net::{Shutdown, SocketFlags, acceptfrom_with, shutdown, sockopt};

use crate::config::timeouts;
use crate::supervisor::mailbox::Receiver;
use crate::supervisor::message::Event;

use crate::io::conn;
use crate::io::host::events;
use crate::io::runtime::heap;
use crate::io::runtime::race::{First, race};
use crate::io::runtime::source::Source;
use crate::io::runtime::timer::{self, sleep};
use crate::io::server::Server;

/// Connections the kernel holds ready before they are accepted.
const BACKLOG: i32 = 4096;

/// After an accept failed for want of something.
const RETRY_AFTER: Duration = Duration::from_millis(20);

/// Serves until the supervisor says that everything has ended.
///
/// # Errors
/// When there is no timerfd(2), or it, the listening socket or the doorbell cannot be waited for.
pub async fn serve(
    server: Rc<Server>,
    listener: TcpListener,
    events: Receiver<Event>,
) -> std::io::Result<()> {
    let clock = timer::start()?;
    rustix::net::listen(&listener, BACKLOG)?;
    let socket = Source::new(OwnedFd::from(listener))?;
    // Before the first connection is accepted: there may not be a descriptor left after it.
    let bell = Source::new(rustix::io::fcntl_dupfd_cloexec(&events, 3)?)?;
    let end = {
        let accepting = pin!(accept_all(&server, &socket));
        let handling = pin!(events::handle(server.clone(), events, bell));
        let clock = pin!(clock);
        let failing = pin!(race(accepting, clock));
        race(failing, handling).await
    };
    close(socket);
    match end {
        First::Left(First::Left(error) | First::Right(error)) => Err(error),
        First::Right(result) => {
            sleep(timeouts::LAST_WORDS).await;
            result
        }
    }
}

/// Frees the address at once. A ring that waits for the socket keeps it beyond the end of the
/// process, until the kernel has taken the ring apart; one that does not listen is in nobody's
/// way (SO_REUSEADDR, socket(7)), and nothing waits for it.
fn close(socket: Source) {
    // Fails for a socket that does not listen any more.
    let _ = shutdown(&socket, Shutdown::Both);
}

async fn accept_all(server: &Rc<Server>, socket: &Source) -> std::io::Error {
    loop {
        match acceptfrom_with(socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok((fd, peer)) => start(server, fd, peer.and_then(|peer| peer.try_into().ok())),
            Err(Errno::AGAIN) => {
                if let Err(error) = socket.readable().await {
                    return error;
                }
            }
            // The peer gave up before it was accepted.
            Err(Errno::CONNABORTED | Errno::INTR) => {}
            Err(_) => sleep(RETRY_AFTER).await,
        }
    }
}

/// Gives up its place among the connections when dropped.
struct Place(Rc<Server>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.connections.set(self.0.connections.get() - 1);
        heap::passed(heap::CONNECTION_BYTES);
    }
}

fn start(server: &Rc<Server>, fd: OwnedFd, peer: Option<SocketAddr>) {
    // Refusals leave a slower or less watched connection, no worse.
    let _ = sockopt::set_tcp_nodelay(&fd, true);
    let _ = sockopt::set_socket_keepalive(&fd, true);
    let _ = sockopt::set_tcp_keepidle(&fd, timeouts::TCP_KEEP_ALIVE_AFTER);
    let _ = sockopt::set_tcp_keepintvl(&fd, timeouts::TCP_KEEP_ALIVE_EVERY);
    let _ = sockopt::set_tcp_keepcnt(&fd, timeouts::TCP_KEEP_ALIVE_PROBES);
    let spare = server.may_use(&fd);
    let Ok(stream) = TcpStream::from_std(fd.into()) else {
        return;
    };
    server.connections.set(server.connections.get() + 1);
    let place = Place(server.clone());
    let full = !spare || server.connections.get() > server.options.connections_max;
    let server = server.clone();
    monoio::spawn(async move {
        let _place = place;
        if full {
            Box::pin(conn::refuse(server, stream)).await;
        } else {
            conn::serve(server, stream, peer).await;
        }
    });
}
