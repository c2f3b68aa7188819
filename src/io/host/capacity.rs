//! How much a pipe holds: more while its writer is faster than its reader.
//!
//! In: how many bytes each turn brought. Out: fcntl(2) F_SETPIPE_SZ, kernel 2.6.35. Owns one
//! pipe's share of the server's large pipes.
//!
//! A writer that has filled its pipe sleeps until it is read, and its reader sleeps until it is
//! filled: two threads woken for every 64 KiB, which costs more than to copy them. In a larger
//! pipe neither has to wait for the other (docs/design/006-pipe-capacity.md). An unprivileged user has
//! 64 MiB of pipes in all (pipe(7), pipe-user-pages-soft), so only some are large, and no longer
//! than they are used.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::pipe::fcntl_setpipe_size;

use crate::io::runtime::source::Source;
use crate::io::runtime::timer::{Timer, sleep};

/// What a pipe holds unless it is asked to hold more (pipe(7)). Bytes.
pub(super) const USUAL_BYTES: usize = 64 << 10;

/// Bytes.
const LARGE_BYTES: usize = 256 << 10;

/// Large pipes of one server: 12 MiB more than they would hold otherwise.
const LARGE_MAX: u32 = 64;

/// A pipe that was full in so many turns in a row is made large.
const FULL_TURNS: u32 = 2;

/// A large pipe that nobody has written to for this long is made small.
const QUIET: Duration = Duration::from_secs(1);

/// A large pipe that was not full in so many turns in a row is made small.
const MEAGRE_TURNS: u32 = 256;

/// One pipe's capacity. `large` counts the server's large pipes.
#[derive(Debug)]
pub(crate) struct Capacity<'a> {
    source: &'a Source,
    large: &'a Cell<u32>,
    is_large: bool,
    refused: bool,
    /// Turns in a row that would have it changed.
    turns: u32,
    /// Runs while a large pipe is waited for. Boxed, because few are large.
    quiet: Option<Box<Timer>>,
}

impl<'a> Capacity<'a> {
    /// The capacity of a pipe that nobody has changed yet.
    pub(crate) fn new(source: &'a Source, large: &'a Cell<u32>) -> Self {
        Self {
            source,
            large,
            is_large: false,
            refused: false,
            turns: 0,
            quiet: None,
        }
    }

    /// Polls `readable`, which is [`Source::readable`]. Meanwhile a large pipe may become small.
    ///
    /// Not a future that holds the other one: every idle process has two tasks that wait in here.
    ///
    /// # Errors
    /// As [`Source::readable`], and when the pipe is given up.
    pub(crate) fn poll_readable(
        &mut self,
        readable: Pin<&mut impl Future<Output = std::io::Result<()>>>,
        cx: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        let polled = readable.poll(cx);
        match polled {
            Poll::Ready(_) => self.quiet = None,
            Poll::Pending if self.source.poll_given_up(cx) => {
                return Poll::Ready(Err(std::io::ErrorKind::BrokenPipe.into()));
            }
            Poll::Pending => self.look_whether_quiet(cx),
        }
        polled
    }

    fn look_whether_quiet(&mut self, cx: &mut Context<'_>) {
        if !self.is_large {
            return;
        }
        let quiet = self.quiet.get_or_insert_with(|| Box::new(sleep(QUIET)));
        if Pin::new(quiet).poll(cx).is_ready() {
            self.quiet = None;
            self.make_usual();
        }
    }

    /// Notes what one turn has brought.
    pub(crate) fn brought(&mut self, bytes: u64) {
        let was_full = bytes >= USUAL_BYTES as u64;
        if was_full == self.is_large {
            self.turns = 0;
            return;
        }
        self.turns = self.turns.saturating_add(1);
        if self.is_large && self.turns >= MEAGRE_TURNS {
            self.make_usual();
        } else if !self.is_large && self.turns >= FULL_TURNS && !self.refused {
            self.make_large();
        }
    }

    fn make_large(&mut self) {
        if self.large.get() >= LARGE_MAX {
            return;
        }
        // Not a pipe, or its user has too many pages in pipes.
        self.refused = fcntl_setpipe_size(self.source, LARGE_BYTES).is_err();
        if !self.refused {
            self.large.set(self.large.get() + 1);
            (self.is_large, self.turns) = (true, 0);
        }
    }

    fn make_usual(&mut self) {
        // Refused (EBUSY) while it holds more than that.
        if self.is_large && fcntl_setpipe_size(self.source, USUAL_BYTES).is_ok() {
            self.release();
        }
        self.turns = 0;
    }

    fn release(&mut self) {
        self.large.set(self.large.get() - 1);
        self.is_large = false;
    }
}

impl Drop for Capacity<'_> {
    fn drop(&mut self) {
        if self.is_large {
            self.release();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::runtime::backend::block_on;
    use rustix::pipe::{PipeFlags, fcntl_getpipe_size, pipe_with};

    /// A pipe on a runtime, with its writing end kept open.
    fn with_pipe(test: impl FnOnce(&Source)) {
        block_on(async {
            let (reader, _writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
            test(&Source::new(reader).unwrap());
        });
    }

    const FULL: u64 = USUAL_BYTES as u64;

    #[test]
    fn full_turns_in_a_row_make_a_pipe_large_and_meagre_ones_small_again() {
        with_pipe(|source| {
            let large = Cell::new(0);
            let size = || fcntl_getpipe_size(source).unwrap();
            let mut capacity = Capacity::new(source, &large);
            for _ in 0..10 {
                capacity.brought(FULL);
                capacity.brought(FULL - 1);
            }
            assert_eq!((size(), large.get()), (USUAL_BYTES, 0));
            (0..FULL_TURNS).for_each(|_| capacity.brought(FULL));
            assert_eq!((size(), large.get()), (LARGE_BYTES, 1));
            (1..MEAGRE_TURNS).for_each(|_| capacity.brought(1));
            capacity.brought(FULL);
            (1..MEAGRE_TURNS).for_each(|_| capacity.brought(1));
            assert_eq!((size(), large.get()), (LARGE_BYTES, 1));
            capacity.brought(1);
            assert_eq!((size(), large.get()), (USUAL_BYTES, 0));
        });
    }

    #[test]
    fn only_so_many_pipes_are_large_and_one_that_ends_makes_room() {
        with_pipe(|source| {
            let large = Cell::new(LARGE_MAX - 1);
            let mut first = Capacity::new(source, &large);
            (0..FULL_TURNS).for_each(|_| first.brought(FULL));
            assert_eq!(large.get(), LARGE_MAX);
            with_another(&large, false);
            drop(first);
            assert_eq!(large.get(), LARGE_MAX - 1);
            with_another(&large, true);
        });

        fn with_another(large: &Cell<u32>, becomes_large: bool) {
            let (reader, _writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
            let source = Source::new(reader).unwrap();
            let mut capacity = Capacity::new(&source, large);
            (0..FULL_TURNS * 2).for_each(|_| capacity.brought(FULL));
            assert_eq!(capacity.is_large, becomes_large);
        }
    }
}
