//! What one viewer has typed and the program has not taken yet.
//!
//! In: inputs, in order, with the time they came. Out: the next one to write. Bounded. It stands
//! between a connection and its terminal, so that the connection is read on while a program does
//! not read its input, and what was typed before a viewer left still arrives.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::time::Instant;

use crate::process::Notify;

/// Bytes that may wait before the connection is no longer read, less one message.
const WAITING_BYTES_MAX: usize = 1 << 20;

/// What an input costs on top of its bytes, so that empty ones are bounded, too.
const INPUT_COST_BYTES: usize = 64;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Typing {
    waiting: RefCell<VecDeque<(Instant, Vec<u8>)>>,
    /// Of all waiting, see [`cost`].
    bytes: Cell<usize>,
    /// Nobody types any more.
    closed: Cell<bool>,
    changed: Notify,
}

impl Typing {
    /// Puts an input behind the others.
    pub(crate) fn push(&self, data: Vec<u8>) {
        self.bytes.set(self.bytes.get() + cost(&data));
        self.waiting.borrow_mut().push_back((Instant::now(), data));
        self.changed.notify();
    }

    /// There will be no more.
    pub(crate) fn close(&self) {
        self.closed.set(true);
        self.changed.notify();
    }

    /// Waits until there is room for another input.
    pub(crate) async fn room(&self) {
        loop {
            let seen = self.changed.version();
            if self.bytes.get() < WAITING_BYTES_MAX {
                return;
            }
            self.changed.changed(seen).await;
        }
    }

    /// Waits for the next input: when it was typed, and its bytes. None when there is no more.
    pub(crate) async fn next(&self) -> Option<(Instant, Vec<u8>)> {
        loop {
            let seen = self.changed.version();
            let first = self.waiting.borrow_mut().pop_front();
            if let Some((typed, data)) = first {
                self.bytes.set(self.bytes.get().saturating_sub(cost(&data)));
                self.changed.notify();
                return Some((typed, data));
            }
            if self.closed.get() {
                return None;
            }
            self.changed.changed(seen).await;
        }
    }
}

fn cost(data: &[u8]) -> usize {
    data.len() + INPUT_COST_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    fn poll<T>(future: impl Future<Output = T>) -> Poll<T> {
        pin!(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    fn next(typing: &Typing) -> Poll<Option<Vec<u8>>> {
        poll(async { typing.next().await.map(|(_, data)| data) })
    }

    #[test]
    fn what_was_typed_before_the_end_comes_out_in_order() {
        let typing = Typing::default();
        assert_eq!(next(&typing), Poll::Pending);
        typing.push(b"a".to_vec());
        typing.push(b"".to_vec());
        typing.close();
        assert_eq!(next(&typing), Poll::Ready(Some(b"a".to_vec())));
        assert_eq!(next(&typing), Poll::Ready(Some(b"".to_vec())));
        assert_eq!(next(&typing), Poll::Ready(None));
    }

    #[test]
    fn many_small_inputs_and_a_large_one_fill_it_alike() {
        for len in [0, 1, 2 << 20] {
            let typing = Typing::default();
            let mut pushed = 0;
            while poll(typing.room()).is_ready() {
                typing.push(vec![0; len]);
                pushed += 1;
                assert!(pushed <= WAITING_BYTES_MAX / INPUT_COST_BYTES);
            }
            assert!(next(&typing).is_ready() && poll(typing.room()).is_ready());
        }
    }
}
