//! Waits for the first of two futures. The other is left as it is, not dropped, so that an
//! operation in flight can be waited for again.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

/// Which one was first.
pub(crate) enum First<A, B> {
    /// The first argument.
    Left(A),
    /// The second argument.
    Right(B),
}

/// Polls both, the left one first.
pub(crate) async fn race<A: Future, B: Future>(
    mut left: Pin<&mut A>,
    mut right: Pin<&mut B>,
) -> First<A::Output, B::Output> {
    poll_fn(|cx| {
        if let Poll::Ready(value) = left.as_mut().poll(cx) {
            return Poll::Ready(First::Left(value));
        }
        right.as_mut().poll(cx).map(First::Right)
    })
    .await
}
