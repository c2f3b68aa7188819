//! How much one connection, or one child's output, may do before the others have their turn.
//!
//! In: the reads and writes of one connection, the waits of one output. Out: their results, now
//! and then after a rest. Owns a count.
//!
//! On epoll an operation that can be carried out at once is, without a way through the event
//! loop. A peer that sends faster than it is answered, and reads the answers, would keep its task
//! running for as long as it likes: nobody else would be served, and no timer would fire. On
//! io_uring every operation goes through the loop, so nothing rests there.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use crate::io::runtime::meter;
use crate::io::runtime::timer::sleep;

/// What may be spent before a rest: some milliseconds of work.
const TURN_COST_MAX: usize = 4 << 20;

/// What an operation costs besides its bytes.
const OPERATION_COST: usize = 16 << 10;

/// A received byte costs more than a sent one: a few of them ask for a whole answer.
pub(crate) const RECEIVED_BYTE_COST: usize = 4;

/// The shortest rest that timers know.
const REST: Duration = Duration::from_millis(1);

/// Lets the others have their turn, after a step of work that waits for nothing.
pub(crate) async fn rest() {
    sleep(REST).await;
}

/// Lets the others have their turn without a pause. What is ready is heard of on epoll; on io_uring
/// only an operation that goes through the driver does that.
pub(crate) async fn give_way() {
    let mut given = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut given, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

thread_local! {
    /// What has come so far: from clients, and turns of outputs.
    static ARRIVALS: Cell<u32> = const { Cell::new(0) };
    /// When something last came from a client.
    static ASKED: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Something has come from a client.
pub(crate) fn arrived() {
    count_arrival();
    ASKED.set(Some(meter::now()));
}

fn count_arrival() {
    ARRIVALS.set(ARRIVALS.get().wrapping_add(1));
}

/// How much one output may read at a time: all that it likes while nobody else has anything to do,
/// and less if something has come for others since its last turn. What its own readers are sent does
/// not count.
#[derive(Debug)]
pub(crate) struct Share {
    seen: Cell<u32>,
    /// What the turn may bring in KiB, if clients have asked for something of late; else 0. Small,
    /// since every idle output has one of these.
    contended: Cell<u16>,
}

impl Default for Share {
    fn default() -> Self {
        Self {
            seen: Cell::new(ARRIVALS.get()),
            contended: Cell::new(0),
        }
    }
}

impl Share {
    /// Bytes of the turn that begins now, of at most `most`.
    pub(crate) fn bytes(&self, most: u64) -> u64 {
        let others = u64::from(ARRIVALS.get().wrapping_sub(self.seen.get()));
        count_arrival();
        self.seen.set(ARRIVALS.get());
        let share = most / others.saturating_mul(PER_OTHER).saturating_add(1);
        let share = share.max(SHARE_MIN.min(most));
        let now = meter::now();
        let is_contended = ASKED
            .get()
            .is_some_and(|at| now.saturating_duration_since(at) < OF_LATE);
        let contended = u16::try_from(share >> 10).unwrap_or(u16::MAX);
        self.contended.set(if is_contended { contended } else { 0 });
        share
    }

    /// Whether the turn that brought so much took all that it might, and clients have asked of late.
    pub(crate) fn is_used_up(&self, brought: u64) -> bool {
        let contended = u64::from(self.contended.get()) << 10;
        contended > 0 && brought >= contended
    }
}

/// Whoever asks every few milliseconds has something to do in between, too: where each of its requests
/// met the flood at its full rate, its times were those of the flood.
const OF_LATE: Duration = Duration::from_millis(10);

/// The least of a share: what a wake-up is worth.
const SHARE_MIN: u64 = 32 << 10;

/// One other makes it a fifth: some 15 microseconds of reading.
const PER_OTHER: u64 = 4;

/// See the module. One for both directions of a connection.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    /// Spent since the connection last had to wait.
    spent: Cell<usize>,
}

impl Turn {
    /// Carries out `operation`, after a rest if the turn is over; `cost` says what its result is
    /// to be charged with.
    pub(crate) async fn take<F: Future>(
        &self,
        mut operation: Pin<&mut F>,
        cost: impl FnOnce(&F::Output) -> usize,
    ) -> F::Output {
        if self.is_over() {
            self.rest().await;
        }
        let output = poll_fn(|cx| self.polled(operation.as_mut().poll(cx))).await;
        self.charge(cost(&output));
        output
    }

    /// Whether the next operation is to wait for [`Turn::rest`].
    pub(crate) fn is_over(&self) -> bool {
        self.spent.get() >= TURN_COST_MAX
    }

    /// Lets the others have their turn.
    pub(crate) async fn rest(&self) {
        sleep(REST).await;
        self.spent.set(0);
    }

    /// Notes what a poll of the operation came to: who has to wait rests.
    pub(crate) fn polled<T>(&self, polled: Poll<T>) -> Poll<T> {
        match polled.is_pending() {
            true => self.spent.set(0),
            false => meter::begin(),
        }
        polled
    }

    /// Notes an operation of so many bytes that has been carried out.
    pub(crate) fn charge(&self, bytes: usize) {
        let spent = self.spent.get().saturating_add(OPERATION_COST);
        self.spent.set(spent.saturating_add(bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: u64 = 256 << 10;

    #[test]
    fn who_is_alone_has_all_and_who_is_not_leaves_the_others_their_turn() {
        let share = Share::default();
        for _ in 0..10 {
            assert_eq!(share.bytes(MOST), MOST);
        }
        arrived();
        assert!(share.bytes(MOST) <= MOST / 4, "somebody has asked");
        assert_eq!(share.bytes(MOST), MOST, "and not again");
        assert_eq!(share.bytes(1000), 1000);
    }

    #[test]
    fn a_turn_is_used_up_where_clients_ask_and_there_is_more() {
        let (share, other) = (Share::default(), Share::default());
        let most = share.bytes(MOST);
        assert!(!share.is_used_up(most), "nobody has asked");
        other.bytes(MOST);
        let less = share.bytes(MOST);
        assert!(!share.is_used_up(less), "another output has");
        arrived();
        let less = share.bytes(MOST);
        assert!(share.is_used_up(less) && !share.is_used_up(less / 2));
        let most = share.bytes(MOST);
        assert!(share.is_used_up(most), "who has asked of late asks again");
        ASKED.set(Instant::now().checked_sub(OF_LATE));
        let most = share.bytes(MOST);
        assert!(!share.is_used_up(most), "nobody has of late");
    }

    #[test]
    fn many_who_read_all_the_time_make_short_rounds() {
        let shares: Vec<Share> = (0..16).map(|_| Share::default()).collect();
        let round = || shares.iter().map(|share| share.bytes(MOST)).sum::<u64>();
        round();
        assert_eq!(round(), 16 * SHARE_MIN);
    }
}
