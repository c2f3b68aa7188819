//! What is kept of a terminal besides its output: its sizes, and the screen as it was where the
//! retained output begins.
//!
//! In: sizes as they change, and what was made of output that is about to go. Out: both, by place in
//! the log. Plain data: who makes a screen of it is elsewhere.

use std::collections::VecDeque;

use crate::types::WindowSize;

/// Changes of the size that are kept, at most. The oldest one goes, and what was written before it
/// is shown at the size that came after: text of long ago, wrapped otherwise.
const CHANGES_MAX: usize = 256;

/// The screen behind an entry of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    /// The last entry that it is made of; 0 for none.
    pub upto: u64,
    /// The size then.
    pub size: WindowSize,
    /// What draws it; nothing for a blank one.
    pub drawing: Vec<u8>,
    /// Something of what came before is missing.
    pub is_partial: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Terminal {
    checkpoint: Checkpoint,
    /// Behind which entry the size became which, oldest first; none before the checkpoint.
    changes: VecDeque<(u64, WindowSize)>,
    /// Viewers that may type.
    answering: u32,
    /// Questions up to this entry have been shown to somebody who may answer.
    heard: u64,
}

impl Terminal {
    /// A terminal of this size that nothing has been written to.
    pub(crate) fn new(size: WindowSize) -> Self {
        let checkpoint = Checkpoint {
            size,
            ..Checkpoint::default()
        };
        Self {
            checkpoint,
            changes: VecDeque::new(),
            answering: 0,
            heard: 0,
        }
    }

    /// One of a server that is gone: nothing is known of what was written before entry `first`.
    pub(crate) fn resumed(first: u64, size: WindowSize) -> Self {
        let mut terminal = Self::new(size);
        if first > 1 {
            terminal.checkpoint.upto = first - 1;
            terminal.checkpoint.is_partial = true;
        }
        terminal
    }

    /// The size now.
    pub(crate) fn size(&self) -> WindowSize {
        let last = self.changes.back();
        last.map_or(self.checkpoint.size, |(_, size)| *size)
    }

    /// It has this size behind entry `last`.
    pub(crate) fn resized(&mut self, last: u64, size: WindowSize) {
        if size == self.size() {
            return;
        }
        if self.changes.len() == CHANGES_MAX {
            self.changes.pop_front();
        }
        self.changes.push_back((last, size));
    }

    /// The sizes that it got behind this entry, before the next one.
    pub(crate) fn sizes_behind(&self, entry: u64) -> impl Iterator<Item = WindowSize> + '_ {
        let from = self.changes.partition_point(|(at, _)| *at < entry);
        let behind = self.changes.range(from..);
        let behind = behind.take_while(move |(at, _)| *at == entry);
        behind.map(|(_, size)| *size)
    }

    /// The screen to begin with.
    pub(crate) fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Keeps another one, made of more. What came before it is not needed any more.
    pub(crate) fn keep(&mut self, checkpoint: Checkpoint) {
        let passed = self
            .changes
            .partition_point(|(at, _)| *at < checkpoint.upto);
        // Those behind its last entry may be in it or not: to get a size twice changes nothing.
        self.changes.drain(..passed);
        self.checkpoint = checkpoint;
    }

    /// Somebody comes who may answer questions. Where those begin that nobody was there for; None
    /// if somebody is.
    pub(crate) fn begin_answering(&mut self) -> Option<u64> {
        self.answering += 1;
        (self.answering == 1).then_some(self.heard + 1)
    }

    /// One of them goes, when `last` is the last entry.
    pub(crate) fn end_answering(&mut self, last: u64) {
        self.answering = self.answering.saturating_sub(1);
        self.heard = last;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(cols: u16) -> WindowSize {
        WindowSize { cols, rows: 24 }
    }

    #[test]
    fn sizes_are_found_by_the_entry_that_they_follow() {
        let mut terminal = Terminal::new(size(80));
        for (last, cols) in [(0, 90), (3, 90), (3, 100), (3, 110), (7, 80)] {
            terminal.resized(last, size(cols));
        }
        let behind = |terminal: &Terminal, entry| {
            let sizes = terminal.sizes_behind(entry).map(|size| size.cols);
            sizes.collect::<Vec<_>>()
        };
        assert_eq!(behind(&terminal, 0), [90]);
        assert_eq!(behind(&terminal, 3), [100, 110]);
        assert_eq!(behind(&terminal, 4), [0; 0]);
        assert_eq!(behind(&terminal, 7), [80]);
        let checkpoint = Checkpoint {
            upto: 5,
            size: size(110),
            ..Checkpoint::default()
        };
        terminal.keep(checkpoint);
        assert_eq!(behind(&terminal, 3), [0; 0]);
        assert_eq!(
            (terminal.size(), behind(&terminal, 7)),
            (size(80), vec![80])
        );
        for last in 8..5000 {
            terminal.resized(last, size(1 + u16::try_from(last % 500).unwrap()));
        }
        assert_eq!(terminal.changes.len(), CHANGES_MAX);
    }

    #[test]
    fn a_question_is_new_to_the_first_who_may_answer() {
        let mut terminal = Terminal::new(size(80));
        assert_eq!(terminal.begin_answering(), Some(1));
        assert_eq!(terminal.begin_answering(), None);
        terminal.end_answering(5);
        terminal.end_answering(9);
        assert_eq!(terminal.begin_answering(), Some(10));
    }
}
