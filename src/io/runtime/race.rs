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

/// Completes with the first of several.
pub(crate) async fn first<T>(mut all: Vec<Pin<Box<dyn Future<Output = T> + '_>>>) -> T {
    poll_fn(|cx| {
        let mut outputs = all.iter_mut().map(|one| one.as_mut().poll(cx));
        outputs.find(Poll::is_ready).unwrap_or(Poll::Pending)
    })
    .await
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
