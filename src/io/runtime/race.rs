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
// Nearly everything that waits does so in here, and an `async fn` would keep its arguments twice.
pub(crate) fn race<A: Future, B: Future>(
    mut left: Pin<&mut A>,
    mut right: Pin<&mut B>,
) -> impl Future<Output = First<A::Output, B::Output>> {
    poll_fn(move |cx| {
        if let Poll::Ready(value) = left.as_mut().poll(cx) {
            return Poll::Ready(First::Left(value));
        }
        right.as_mut().poll(cx).map(First::Right)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Ready;
    use std::time::Duration;

    use crate::io::runtime::timer::within;

    type Waits = Pin<&'static mut Ready<()>>;

    fn size<F>(_: impl FnOnce(Waits, Waits) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_wait_has_room_for_its_two_futures_once() {
        assert_eq!(size(race), 16);
        assert!(size(|one, _| within(Duration::ZERO, one)) <= 40);
    }
}
