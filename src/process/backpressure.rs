//! What keeps the one reader of a streamed run from being outrun by the program.
//!
//! In: what was read into the run's log, what its reader has taken, and what is still in the pipes
//! when the run is over. Out: how much may be read now; the program waits in write(2) while that is
//! nothing. Owns a few numbers. Knows no pipe and no socket.
//!
//! - What the reader has not taken is never evicted, whatever the limit of the log is.
//! - While the run lives, half of the log at most waits for the reader. So what is in the pipes at
//!   its end has room as a rule, and a listed run shows `exited` with all of its output.

use crate::log::Log;
use crate::types::Stream;

use super::notify::Notify;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Backpressure {
    /// The process id, once there is one.
    pub pid: Option<i32>,
    /// The last entry that the reader has taken.
    taken_to: u64,
    /// Bytes of all entries up to that.
    taken: u64,
    /// Bytes in each pipe that the run wrote, since it is over.
    rest: Option<[u64; Stream::COUNT]>,
    /// The last entry that is the run's, once that is read.
    end: Option<u64>,
    /// Tells of more room.
    moved: Notify,
}

/// Whoever waits for room has it now, or nothing to wait for.
impl Drop for Backpressure {
    fn drop(&mut self) {
        self.moved.notify();
    }
}

impl Backpressure {
    /// Of a run that another server has begun, whose reader has taken all before this entry of its log.
    pub(crate) fn resumed(
        (pid, log, next): (Option<i32>, &Log, u64),
        rest: Option<[u64; Stream::COUNT]>,
        end: Option<u64>,
    ) -> Self {
        let waiting: u64 = log.from(next).map(|entry| entry.len as u64).sum();
        Self {
            pid,
            taken_to: next.saturating_sub(1),
            taken: log.entered_bytes().saturating_sub(waiting),
            rest,
            end,
            moved: Notify::default(),
        }
    }

    /// What was in its pipes when it was over and has not been read, if it is over.
    pub(crate) fn rest(&self) -> Option<[u64; Stream::COUNT]> {
        self.rest
    }

    /// How many bytes of a run may be read into a log that may hold `limit`.
    pub(crate) fn room(&self, log: &Log, limit: u64, is_over: bool) -> usize {
        let most = |of: u64| if is_over { of } else { of - of / 2 };
        let waiting = log.entered_bytes() - self.taken;
        if log.last() - self.taken_to >= most(Log::entries_max(limit)) {
            return 0;
        }
        usize::try_from(most(limit).saturating_sub(waiting)).unwrap_or(usize::MAX)
    }

    /// Tells of more room.
    pub(crate) fn moved(&self) -> Notify {
        self.moved.clone()
    }

    /// The reader has taken entries up to this one, so many bytes.
    pub(crate) fn take(&mut self, sequence: u64, bytes: u64) {
        self.taken_to = sequence;
        self.taken += bytes;
        self.moved.notify();
    }

    /// Whether the reader has taken this entry.
    pub(crate) fn has_taken(&self, sequence: u64) -> bool {
        sequence <= self.taken_to
    }

    /// So many bytes of a stream have become an entry of the log.
    pub(crate) fn entered(&mut self, stream: Stream, len: usize, log: &Log) {
        if let Some(rest) = &mut self.rest {
            let of = &mut rest[stream as usize];
            *of = of.saturating_sub(len as u64);
            self.look_for_the_end(log);
        }
    }

    /// The run is over, and so much that it wrote is still in its pipes.
    pub(crate) fn over(&mut self, rest: [u64; Stream::COUNT], log: &Log) {
        self.rest = Some(rest);
        self.look_for_the_end(log);
        self.moved.notify();
    }

    fn look_for_the_end(&mut self, log: &Log) {
        if self.end.is_none() && self.rest == Some([0; Stream::COUNT]) {
            self.end = Some(log.last());
        }
    }

    /// The last entry that is the run's, once it is over and that is read. What comes later was
    /// written by others.
    pub(crate) fn end(&self) -> Option<u64> {
        self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Arena;

    fn enter(
        backpressure: &mut Backpressure,
        log: &mut Log,
        arena: &mut Arena,
        limit: u64,
    ) -> usize {
        let room = backpressure.room(log, limit, false);
        let len = log.tail(arena).unwrap().len().min(room);
        log.commit(arena, len, Stream::Stdout, 1, limit);
        backpressure.entered(Stream::Stdout, len, log);
        len
    }

    #[test]
    fn nothing_that_was_not_taken_is_evicted_however_small_the_log() {
        for limit in [1, 2, 1000, 65_536, 65_537, 300_000, 1 << 20] {
            let (mut arena, mut log) = (Arena::new().unwrap(), Log::default());
            let mut backpressure = Backpressure::default();
            let mut next = 1;
            for round in 0..50 {
                let mut some = false;
                while enter(&mut backpressure, &mut log, &mut arena, limit) > 0 {
                    some = true;
                }
                assert!(some, "{limit}: the program is not held up for ever");
                assert!(log.first() <= next, "{limit}");
                let all: Vec<_> = log.from(next).collect();
                for entry in all.iter().take(1 + round % 3) {
                    backpressure.take(entry.sequence, entry.len as u64);
                    next = entry.sequence + 1;
                }
            }
            assert_eq!(log.last() + 1 - next, log.from(next).count() as u64);
        }
    }

    #[test]
    fn tiny_entries_are_held_back_before_the_index_is_full() {
        let (mut arena, mut log) = (Arena::new().unwrap(), Log::default());
        let mut backpressure = Backpressure::default();
        while backpressure.room(&log, 1 << 20, false) > 0 {
            log.tail(&mut arena).unwrap();
            log.commit(&mut arena, 1, Stream::Stdout, 1, 1 << 20);
        }
        assert_eq!(
            (log.first(), log.last()),
            (1, Log::entries_max(1 << 20) / 2)
        );
        let log_end = log.last();
        backpressure.over([0, 0, 0], &log);
        assert!(
            backpressure.room(&log, 1 << 20, true) > 0,
            "the rest has room"
        );
        assert_eq!(backpressure.end(), Some(log_end));
    }

    #[test]
    fn the_end_is_behind_what_was_in_the_pipes_and_before_what_others_write() {
        let (mut arena, mut log) = (Arena::new().unwrap(), Log::default());
        let mut backpressure = Backpressure::default();
        enter(&mut backpressure, &mut log, &mut arena, 10);
        assert_eq!(backpressure.end(), None);
        backpressure.over([4, 2, 0], &log);
        for (stream, end) in [
            (Stream::Stdout, None),
            (Stream::Stderr, Some(3)),
            (Stream::Stdout, Some(3)),
        ] {
            log.tail(&mut arena).unwrap();
            log.commit(&mut arena, 4, stream, 1, 100);
            backpressure.entered(stream, 4, &log);
            assert_eq!(backpressure.end(), end);
        }
    }
}
