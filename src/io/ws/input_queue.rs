//! What one viewer has typed and the process has not taken yet.
//!
//! In: inputs, in order, each with its place in the process's backlog and in the order of all its
//! inputs. Out: the next one to write. It stands between a connection and its process, so that the
//! connection is read on while a process does not read its input, and what was typed before a
//! viewer left still arrives.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

use crate::config::timeouts;
use crate::process::Notify;

use crate::io::host::backlog::{Backlog, Place};
use crate::io::host::input::{Progress, Ticket};
use crate::io::runtime::timer::sleep_until;

/// What an input costs on top of its bytes, so that empty ones are bounded, too.
pub(crate) const INPUT_COST_BYTES: usize = 64;

/// What can be typed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// Bytes.
    Data {
        /// The bytes.
        data: Vec<u8>,
        /// How many bytes the client believes were accepted before these.
        offset: Option<u64>,
    },
    /// The end of input.
    End,
}

impl What {
    /// Its bytes.
    pub(crate) fn data(&self) -> &[u8] {
        match self {
            What::Data { data, .. } => data,
            What::End => &[],
        }
    }
}

/// An input, and its places until it is written or given up.
#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) what: What,
    pub(crate) ticket: Ticket,
    /// How far it has come.
    pub(crate) progress: Progress,
    _place: Place,
}

impl Queued {
    /// What of it has not been written. What has an offset finds that by itself.
    fn left(&self) -> What {
        let What::Data { data, offset } = &self.what else {
            return What::End;
        };
        let written = match offset {
            None => self.progress.written.get(),
            Some(_) => 0,
        };
        What::Data {
            data: data.get(written..).unwrap_or_default().to_vec(),
            offset: *offset,
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct InputQueue {
    waiting: RefCell<VecDeque<Queued>>,
    /// The one that has been handed out to be written.
    writing: RefCell<Option<Rc<Queued>>>,
    /// What an input that was refused would have taken of the backlog; 0 is none.
    refused: Cell<usize>,
    /// When the viewer left.
    closed: Cell<Option<Instant>>,
    changed: Notify,
}

impl InputQueue {
    /// Puts an input behind the others.
    pub(crate) fn push(&self, what: What, ticket: Ticket, place: Place) {
        let queued = Queued {
            what,
            ticket,
            progress: Progress::default(),
            _place: place,
        };
        self.waiting.borrow_mut().push_back(queued);
        self.changed.notify();
    }

    /// An input of this cost was refused.
    pub(crate) fn refused(&self, cost: usize) {
        self.refused.set(self.refused.get().max(cost));
    }

    /// Whether an input has to be refused because one was that came before it: what the program
    /// reads must have no hole in it. Not any more when all that was typed before that one is
    /// written and there is room for it.
    pub(crate) fn refuses(&self, backlog: &Backlog) -> bool {
        let cost = self.refused.get();
        let refuses = cost > 0 && !(self.is_empty() && backlog.has_room(cost));
        if !refuses {
            self.refused.set(0);
        }
        refuses
    }

    fn is_empty(&self) -> bool {
        self.writing.borrow().is_none() && self.waiting.borrow().is_empty()
    }

    /// Forgets what waits.
    pub(crate) fn clear(&self) {
        self.waiting.borrow_mut().clear();
        self.writing.take();
    }

    /// What has not been written, each with its place among the inputs of its process.
    pub(crate) fn left(&self) -> Vec<(u64, What)> {
        let writing = self.writing.borrow();
        let waiting = self.waiting.borrow();
        let all = writing.iter().map(Rc::as_ref).chain(waiting.iter());
        all.map(|queued| (queued.ticket.number(), queued.left()))
            .collect()
    }

    /// There will be no more.
    pub(crate) fn close(&self) {
        self.closed.set(Some(Instant::now()));
        self.changed.notify();
    }

    /// Waits for the next input; the one before has been dealt with. None when there is no more.
    pub(crate) async fn next(&self) -> Option<Rc<Queued>> {
        self.writing.take();
        loop {
            let seen = self.changed.version();
            let first = self.waiting.borrow_mut().pop_front().map(Rc::new);
            if first.is_some() {
                self.writing.borrow_mut().clone_from(&first);
                return first;
            }
            if self.closed.get().is_some() {
                return None;
            }
            self.changed.changed(seen).await;
        }
    }

    /// Completes when the viewer has been gone for [`timeouts::GONE_VIEWER_PATIENCE`].
    pub(crate) async fn expired(&self) {
        loop {
            let seen = self.changed.version();
            if let Some(closed) = self.closed.get() {
                return sleep_until(closed + timeouts::GONE_VIEWER_PATIENCE).await;
            }
            self.changed.changed(seen).await;
        }
    }
}

/// What an input takes of the backlog.
pub(crate) fn cost(what: &What) -> usize {
    let capacity = match what {
        What::Data { data, .. } => data.capacity(),
        What::End => 0,
    };
    capacity.saturating_add(INPUT_COST_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::host::backlog::BYTES_MAX;
    use crate::io::host::input::Input;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    fn poll<T>(future: impl Future<Output = T>) -> Poll<T> {
        pin!(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    fn next(queue: &InputQueue) -> Poll<Option<Vec<u8>>> {
        poll(async { queue.next().await.map(|queued| queued.what.data().to_vec()) })
    }

    fn typed(data: &[u8]) -> What {
        What::Data {
            data: data.to_vec(),
            offset: None,
        }
    }

    fn push(queue: &InputQueue, backlog: &Backlog, data: &[u8]) {
        let what = typed(data);
        match poll(backlog.place(cost(&what), &Cell::new(Instant::now()))) {
            Poll::Ready(Some(place)) => queue.push(what, Input::closed().ticket(), place),
            other => panic!("no place but {other:?}"),
        }
    }

    #[test]
    fn what_was_typed_before_the_end_comes_out_in_order() {
        let (queue, backlog) = (InputQueue::default(), Backlog::new());
        assert_eq!(next(&queue), Poll::Pending);
        push(&queue, &backlog, b"a");
        push(&queue, &backlog, b"");
        queue.close();
        assert_eq!(next(&queue), Poll::Ready(Some(b"a".to_vec())));
        assert_eq!(next(&queue), Poll::Ready(Some(b"".to_vec())));
        assert_eq!(next(&queue), Poll::Ready(None));
        assert_eq!(backlog.bytes(), 0);
    }

    #[test]
    fn many_small_inputs_and_a_large_one_fill_the_backlog_alike() {
        for len in [0, 1, 2 << 20] {
            let (queue, backlog) = (InputQueue::default(), Backlog::new());
            let data = vec![0; len];
            let mut pushed = 0;
            while backlog.bytes() == 0 || backlog.bytes() + cost(&typed(&data)) <= BYTES_MAX {
                push(&queue, &backlog, &data);
                pushed += 1;
                assert!(pushed <= BYTES_MAX / INPUT_COST_BYTES);
            }
            queue.clear();
            assert_eq!(backlog.bytes(), 0);
        }
    }

    #[test]
    fn after_a_refusal_nothing_is_taken_until_all_before_it_is_written() {
        let (queue, backlog) = (InputQueue::default(), Backlog::new());
        push(&queue, &backlog, b"a");
        push(&queue, &backlog, b"b");
        assert!(!queue.refuses(&backlog));
        queue.refused(1);
        for input in [b"a", b"b"] {
            assert!(queue.refuses(&backlog));
            assert_eq!(next(&queue), Poll::Ready(Some(input.to_vec())));
            assert!(queue.refuses(&backlog), "it is still being written");
        }
        assert_eq!(next(&queue), Poll::Pending);
        assert!(!queue.refuses(&backlog));
    }

    #[test]
    fn after_a_refusal_nothing_is_taken_until_there_is_room_for_what_was_refused() {
        let backlog = Backlog::new();
        let (one, other) = (InputQueue::default(), InputQueue::default());
        push(&one, &backlog, &vec![0; BYTES_MAX / 2]);
        other.refused(BYTES_MAX / 2);
        assert!(other.refuses(&backlog), "a smaller one would make a hole");
        one.clear();
        assert!(!other.refuses(&backlog));
    }
}
