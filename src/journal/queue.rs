//! Lines on their way out: a queue with a bound, and the thread at its end.
//!
//! In: whole lines, from any thread, which never waits. Out: the same, in order, as far as a [`Sink`]
//! takes them. What is beyond the bound, or cannot be written, is counted.
//!
//! Whoever sends a line wakes the thread only if it sleeps, and after it has written it does not look
//! again for a moment, so that a burst of lines costs few wake-ups and few writes. An idle thread
//! sleeps until the next line.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

/// Bytes of lines that wait, and what each of them costs besides.
const WAITING_BYTES_MAX: usize = 256 << 10;
const LINE_COST: usize = 64;

/// Handed to the sink at once, in whole lines: so much a shared pipe takes in one piece (PIPE_BUF,
/// pipe(7)), and does not mix with what others write.
const PIECE_BYTES: usize = 4096;

/// After a write others may come.
const PAUSE: Duration = Duration::from_millis(2);

/// The thread formats nothing and calls little.
const STACK_BYTES: usize = 64 << 10;

/// Where lines go.
pub(super) trait Sink: Send + 'static {
    /// Writes whole lines; may wait as long as it takes.
    fn write(&mut self, lines: &[u8]) -> io::Result<()>;

    /// So many more lines are lost, for this reason where it is known. What is to be written about it.
    fn lost(&mut self, lines: u64, why: Option<&io::Error>) -> Option<Box<[u8]>>;

    /// What it writes to may have been moved away: opens it anew.
    fn reopen(&mut self) {}
}

#[derive(Debug)]
enum Message {
    Line(Box<[u8]>),
    Reopen,
    /// Say so when everything before this is written.
    Finish(Sender<()>),
}

#[derive(Debug, Default)]
struct State {
    /// Bytes that wait.
    waiting: AtomicUsize,
    /// Lines that nobody gets.
    lost: AtomicU64,
}

/// The sending end; clones are the same queue.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    sender: Sender<Message>,
    state: Arc<State>,
}

/// The other end, until it has a thread.
#[derive(Debug)]
pub(super) struct Waiting {
    receiver: Receiver<Message>,
    state: Arc<State>,
}

/// An empty queue.
pub(super) fn queue() -> (Queue, Waiting) {
    let (sender, receiver) = mpsc::channel();
    let state = Arc::<State>::default();
    let queue = Queue {
        sender,
        state: state.clone(),
    };
    (queue, Waiting { receiver, state })
}

impl Queue {
    /// Adds a line; one for which there is no room is lost.
    pub(super) fn push(&self, line: Box<[u8]>) {
        let cost = line.len() + LINE_COST;
        let before = self.state.waiting.fetch_add(cost, Ordering::Relaxed);
        if before + cost > WAITING_BYTES_MAX {
            self.state.waiting.fetch_sub(cost, Ordering::Relaxed);
            self.state.lost.fetch_add(1, Ordering::Relaxed);
        } else if self.sender.send(Message::Line(line)).is_err() {
            self.state.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lines that nobody gets.
    pub(super) fn lost(&self) -> u64 {
        self.state.lost.load(Ordering::Relaxed)
    }

    /// Has the sink open anew what it writes to.
    pub(super) fn reopen(&self) {
        let _ = self.sender.send(Message::Reopen);
    }

    /// Waits until everything is written, and no longer than `longest`.
    pub(super) fn finish(&self, longest: Duration) {
        let (sender, finished) = mpsc::channel();
        if self.sender.send(Message::Finish(sender)).is_ok() {
            let _ = finished.recv_timeout(longest);
        }
    }
}

impl Waiting {
    /// Drops what has come so far.
    pub(super) fn forget(&self) {
        for message in self.receiver.try_iter() {
            if let Message::Line(line) = message {
                let cost = line.len() + LINE_COST;
                self.state.waiting.fetch_sub(cost, Ordering::Relaxed);
            }
        }
    }

    /// Begins to write, on a thread of this name.
    pub(super) fn begin(self, name: &str, sink: impl Sink) -> io::Result<()> {
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .stack_size(STACK_BYTES);
        thread.spawn(move || self.run(sink)).map(|_| ())
    }

    /// Writes until there is nobody left who could send.
    fn run(self, mut sink: impl Sink) {
        let mut told = 0;
        while let Ok(first) = self.receiver.recv() {
            let mut next = Some(first);
            while let Some(message) = next {
                let mut why = None;
                next = match message {
                    Message::Line(line) => {
                        let (result, next) = self.write(line, &mut sink);
                        why = result.err();
                        next
                    }
                    Message::Reopen => {
                        sink.reopen();
                        None
                    }
                    Message::Finish(sender) => {
                        let _ = sender.send(());
                        None
                    }
                };
                let lost = self.state.lost.load(Ordering::Relaxed);
                if lost > told {
                    let about = sink.lost(lost - told, why.as_ref());
                    if about.is_none_or(|line| sink.write(&line).is_ok()) {
                        told = lost;
                    }
                }
                next = next.or_else(|| self.receiver.try_recv().ok());
            }
            thread::sleep(PAUSE);
        }
    }

    /// Writes a line and those behind it that there is room for. Returns what comes next, too.
    fn write(&self, line: Box<[u8]>, sink: &mut impl Sink) -> (io::Result<()>, Option<Message>) {
        let mut piece = line.into_vec();
        let mut lines = 1;
        let next = loop {
            match self.receiver.try_recv() {
                Ok(Message::Line(line)) if piece.len() + line.len() <= PIECE_BYTES => {
                    piece.extend_from_slice(&line);
                    lines += 1;
                }
                other => break other.ok(),
            }
        };
        let result = sink.write(&piece);
        let cost = piece.len() + LINE_COST * lines;
        self.state.waiting.fetch_sub(cost, Ordering::Relaxed);
        if result.is_err() {
            self.state.lost.fetch_add(lines as u64, Ordering::Relaxed);
        }
        (result, next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes what it is given, as far as it is let.
    struct Gate {
        go: Receiver<bool>,
        written: Sender<Vec<u8>>,
    }

    impl Sink for Gate {
        fn write(&mut self, lines: &[u8]) -> io::Result<()> {
            match self.go.recv() {
                Ok(true) => {
                    self.written.send(lines.to_vec()).unwrap();
                    Ok(())
                }
                _ => Err(io::ErrorKind::StorageFull.into()),
            }
        }

        fn lost(&mut self, lines: u64, _: Option<&io::Error>) -> Option<Box<[u8]>> {
            Some(format!("lost {lines}\n").into_bytes().into())
        }
    }

    fn gated() -> (Queue, Sender<bool>, Receiver<Vec<u8>>) {
        let (go, goes) = mpsc::channel();
        let (written, takes) = mpsc::channel();
        let (queue, waiting) = queue();
        let sink = Gate { go: goes, written };
        waiting.begin("gate", sink).unwrap();
        (queue, go, takes)
    }

    fn line(text: &str) -> Box<[u8]> {
        format!("{text}\n").into_bytes().into()
    }

    #[test]
    fn what_nobody_takes_is_bounded_and_counted_and_keeps_nobody_waiting() {
        let (queue, go, written) = gated();
        let long = "x".repeat(1000);
        // Nothing is taken: this would wait for ever, or grow for ever.
        let count = 10_000;
        for _ in 0..count {
            queue.push(line(&long));
        }
        let lost = queue.lost();
        let held = count - usize::try_from(lost).unwrap();
        assert!(held * (long.len() + 1) <= WAITING_BYTES_MAX, "{held}");
        assert!(held > 200, "{held}");
        // Then everything: what was held, in order, and how many are missing.
        for _ in 0..=held {
            go.send(true).unwrap();
        }
        queue.finish(Duration::from_secs(60));
        let all: Vec<u8> = written.try_iter().flatten().collect();
        let all = String::from_utf8(all).unwrap();
        assert_eq!(all.matches(&long).count(), held);
        assert!(all.contains(&format!("lost {lost}\n")), "{lost}");
    }

    #[test]
    fn what_cannot_be_written_is_counted_and_told_when_it_can_be() {
        let (queue, go, written) = gated();
        queue.push(line("a"));
        for took in [false, false, true, true] {
            go.send(took).unwrap();
        }
        queue.finish(Duration::from_secs(60));
        assert_eq!(queue.lost(), 1);
        queue.push(line("b"));
        queue.finish(Duration::from_secs(60));
        let all: Vec<u8> = written.try_iter().flatten().collect();
        assert_eq!(String::from_utf8(all).unwrap(), "lost 1\nb\n");
    }
}
