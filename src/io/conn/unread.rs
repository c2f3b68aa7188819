//! What the kernel holds of answers that a peer does not take.
//!
//! In: an accepted socket, the budget, how many connections there are. Out: a socket that takes its
//! share and no more. The kernel's buffers are outside of the budget, and in the same cgroup: five
//! hundred clients that read nothing fill 100 MB of them in a second, long before anybody has stalled.
//!
//! Why these numbers: docs/design/038-memory-budget.md

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::net::sockopt;

use crate::api::access::Peer;

use crate::io::runtime::tcp;

/// All of them together have the budget divided by this, and some more, since who came first has the
/// share of fewer.
const PART: u64 = 8;

/// What is always left to one, or each answer would take many turns.
const LEAST: u64 = 16 << 10;

/// What a unix socket holds by itself (net.core.wmem_default).
const USUAL: u64 = 208 << 10;

/// What a TCP socket comes to hold by itself (net.ipv4.tcp_wmem).
const TCP_USUAL: u64 = 4 << 20;

/// How much is left to one of so many connections.
fn share(budget_max: u64, connections: usize) -> u64 {
    let connections = u64::try_from(connections).unwrap_or(u64::MAX).max(1);
    (budget_max / PART / connections).max(LEAST)
}

/// Bounds a socket that was just accepted, where its share is less than it would come to hold.
/// Refused, it holds more.
pub(super) fn bound(fd: &OwnedFd, peer: &Peer, budget_max: u64, connections: usize) {
    let share = share(budget_max, connections);
    let is_tcp = match peer {
        Peer::Address(_) => true,
        Peer::User(_) | Peer::Starter => false,
        Peer::Unknown => return,
    };
    if share < USUAL
        && let Ok(bytes) = usize::try_from(share / 2)
    {
        // The kernel doubles it, for what it needs itself.
        let _ = sockopt::set_socket_send_buffer_size(fd, bytes);
    } else if is_tcp
        && share < TCP_USUAL
        && let Ok(bytes) = u32::try_from(share)
    {
        // What is under way is bounded by the peer's window, and a long way needs it.
        tcp::keep_queue_short(fd.as_raw_fd(), bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;

    #[test]
    fn many_together_hold_little_and_few_hold_what_they_are_used_to() {
        let gib = 1 << 30;
        assert!(share(3 * gib, 64) > TCP_USUAL);
        assert!(share(3 * gib, 1500) > USUAL);
        // The budget of a group of 64 MiB.
        let all = |connections| (1..=connections).map(|of| share(8 << 20, of)).sum::<u64>();
        assert!(all(500) < 16 << 20, "{}", all(500));
        assert_eq!(share(8 << 20, 3000), LEAST);
        assert_eq!(share(0, 0), LEAST);
    }

    /// What a peer that takes nothing is sent.
    fn fill(mut ours: impl Write) -> usize {
        let mut sent = 0;
        while let Ok(len) = ours.write(&[0; 4096]) {
            sent += len;
        }
        sent
    }

    #[test]
    fn a_peer_that_takes_nothing_is_sent_its_share_and_little_more() {
        let unix = |budget: u64| {
            let (ours, _theirs) = UnixStream::pair().unwrap();
            ours.set_nonblocking(true).unwrap();
            bound(&ours.try_clone().unwrap().into(), &Peer::Starter, budget, 1);
            fill(ours)
        };
        let (usual, short) = (unix(u64::MAX), unix(0));
        assert!(short > 0 && short <= 16 << 10, "{short}");
        assert!(usual > 4 * short, "{usual}, {short}");

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let tcp = |budget: u64| {
            let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (_theirs, address) = listener.accept().unwrap();
            ours.set_nonblocking(true).unwrap();
            bound(
                &ours.try_clone().unwrap().into(),
                &Peer::Address(address),
                budget,
                1,
            );
            fill(ours)
        };
        let (usual, some, short) = (tcp(u64::MAX), tcp(PART << 20), tcp(0));
        // Some of it is the peer's own.
        assert!(short > 0 && short <= 128 << 10, "{short}");
        assert!(some > 4 * short && usual > some, "{usual}, {some}, {short}");
    }
}
