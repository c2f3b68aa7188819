//! Gives every other task its turn.
//!
//! On epoll an operation that can be done at once is done at once, without a wait. A task whose
//! peer always has more to send, or always takes what it is sent, would never give up the thread.
//! On io_uring every operation waits for its completion, so there this is only a formality.

use std::future::poll_fn;
use std::task::Poll;

/// Completes when the tasks that could run have run, and what the driver had to tell is told.
pub(super) async fn turn() {
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
