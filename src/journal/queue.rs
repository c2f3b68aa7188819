//! Lines on their way out: a queue with a bound, and the thread at its end.
//!
//! In: lines, from any thread, written where they wait: a line needs no memory of its own, and nobody
//! waits longer than it takes to copy one. Out: the same, in order, as far as a [`Sink`] takes them.
//! What is beyond the bound, or cannot be written, is counted.
//!
//! Whoever adds a line wakes the thread only if it sleeps, and after it has written it does not look
//! again for a moment, so that a burst of lines costs few wake-ups and few writes. An idle thread
//! sleeps until the next line.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Bytes of lines that wait.
const WAITING_BYTES_MAX: usize = 256 << 10;

/// Room for lines that is kept when there are none.
const KEPT_BYTES_MAX: usize = 16 << 10;

/// Handed to the sink at once, in whole lines: so much a shared pipe takes in one piece (PIPE_BUF,
/// pipe(7)), and does not mix with what others write.
const PIECE_BYTES: usize = 4096;

/// After a write others may come, unless they are news. Whoever looks does not notice, and where a
/// thousand programs start in a second their lines wake nobody more than fifty times.
const PAUSE: Duration = Duration::from_millis(20);

/// The thread formats nothing and calls little.
const STACK_BYTES: usize = 64 << 10;

/// Where lines go.
pub(super) trait Sink: Send + 'static {
    /// Writes whole lines; may wait as long as it takes.
    fn write(&mut self, lines: &[u8]) -> io::Result<()>;

    /// So many more lines are lost, for this reason where it is known. What is to be written about it.
    fn lost(&mut self, lines: u64, why: Option<&io::Error>) -> Option<String>;

    /// What it writes to may have been moved away: opens it anew.
    fn reopen(&mut self) {}
}

/// What is to be done, in this order: lines, in the midst of which the sink is opened anew.
#[derive(Debug, Default)]
struct Work {
    lines: String,
    /// Somebody will look for one of them when the server is killed in a moment.
    has_news: bool,
    /// Behind so many bytes.
    reopen: Option<usize>,
    /// To be told when all of it is done.
    finished: Vec<Sender<()>>,
}

#[derive(Debug, Default)]
struct Held {
    work: Work,
    /// Bytes that the thread has taken and not written yet.
    taken: usize,
    /// The thread waits for work.
    sleeps: bool,
    /// Nobody is left who could add anything.
    is_over: bool,
}

#[derive(Debug, Default)]
struct State {
    held: Mutex<Held>,
    bell: Condvar,
    /// Lines that nobody gets.
    lost: AtomicU64,
}

/// The adding end; clones are the same queue.
#[derive(Clone, Debug)]
pub(super) struct Queue(Arc<Adding>);

#[derive(Debug)]
struct Adding(Arc<State>);

/// The other end, until it has a thread.
#[derive(Debug)]
pub(super) struct Waiting(Arc<State>);

/// An empty queue.
pub(super) fn queue() -> (Queue, Waiting) {
    let state = Arc::<State>::default();
    (Queue(Arc::new(Adding(state.clone()))), Waiting(state))
}

impl Queue {
    /// Adds the line that `write` appends; one for which there is no room is lost. News wait for no
    /// others: those must be rare.
    pub(super) fn push(&self, is_news: bool, write: impl FnOnce(&mut String)) {
        let state = &self.0.0;
        let mut held = state.held();
        let before = held.work.lines.len();
        write(&mut held.work.lines);
        if held.work.lines.len() + held.taken > WAITING_BYTES_MAX {
            held.work.lines.truncate(before);
            state.lost.fetch_add(1, Ordering::Relaxed);
        } else if held.sleeps || is_news {
            held.work.has_news |= is_news;
            held.sleeps = false;
            state.bell.notify_one();
        }
    }

    /// Lines that nobody gets.
    pub(super) fn lost(&self) -> u64 {
        self.0.0.lost.load(Ordering::Relaxed)
    }

    /// Has the sink open anew what it writes to.
    pub(super) fn reopen(&self) {
        self.0.0.ring(|held| {
            // What comes behind an earlier one goes where that one leads, which is not there yet.
            let behind = held.work.lines.len();
            held.work.reopen.get_or_insert(behind);
        });
    }

    /// Waits until everything is written, and no longer than `longest`.
    pub(super) fn finish(&self, longest: Duration) {
        let (sender, finished) = mpsc::channel();
        self.0.0.ring(|held| held.work.finished.push(sender));
        let _ = finished.recv_timeout(longest);
    }
}

impl Drop for Adding {
    fn drop(&mut self) {
        self.0.ring(|held| held.is_over = true);
    }
}

impl Work {
    fn is_urgent(&self) -> bool {
        self.has_news || self.reopen.is_some() || !self.finished.is_empty()
    }

    fn is_none(&self) -> bool {
        self.lines.is_empty() && self.reopen.is_none() && self.finished.is_empty()
    }
}

impl State {
    /// Nobody leaves it half changed: what may panic is done before or after.
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds something that does not wait for the end of a pause.
    fn ring(&self, add: impl FnOnce(&mut Held)) {
        let mut held = self.held();
        add(&mut held);
        held.sleeps = false;
        self.bell.notify_one();
    }

    /// Waits for work, and changes it for this, which is done. False when nothing comes any more.
    fn take(&self, done: &mut Work) -> bool {
        let mut held = self.held();
        while held.work.is_none() {
            if held.is_over {
                return false;
            }
            held.sleeps = true;
            held = self.wait(held);
        }
        held.sleeps = false;
        std::mem::swap(&mut held.work, done);
        held.taken = done.lines.len();
        true
    }

    fn wait<'a>(&self, held: MutexGuard<'a, Held>) -> MutexGuard<'a, Held> {
        self.bell.wait(held).unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets others add lines, as long as there is no hurry.
    fn pause(&self) {
        let held = self.held();
        let calm = |held: &mut Held| !held.work.is_urgent() && !held.is_over;
        drop(self.bell.wait_timeout_while(held, PAUSE, calm));
    }
}

impl Waiting {
    /// Drops what has come so far.
    pub(super) fn forget(&self) {
        self.0.held().work.lines.clear();
    }

    /// Begins to write, on a thread of this name.
    pub(super) fn begin(self, name: &str, sink: impl Sink) -> io::Result<()> {
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .stack_size(STACK_BYTES);
        let writer = Writer {
            state: self.0,
            sink,
            told: 0,
        };
        thread.spawn(move || writer.run()).map(|_| ())
    }
}

/// What the thread has.
struct Writer<S> {
    state: Arc<State>,
    sink: S,
    /// Lost lines that the sink was told of.
    told: u64,
}

impl<S: Sink> Writer<S> {
    /// Writes until there is nobody left who could add anything.
    fn run(mut self) {
        let mut work = Work::default();
        while self.state.take(&mut work) {
            // What could not be told before comes before what is new.
            self.tell_lost(None);
            let behind = work.reopen.take();
            let (before, after) = work.lines.split_at(behind.unwrap_or(0));
            let mut why = self.write(before);
            if behind.is_some() {
                self.sink.reopen();
            }
            why = self.write(after).or(why);
            self.tell_lost(why.as_ref());
            work.lines.clear();
            work.has_news = false;
            if work.lines.capacity() > KEPT_BYTES_MAX {
                work.lines = String::new();
            }
            for finished in work.finished.drain(..) {
                let _ = finished.send(());
            }
            self.state.pause();
        }
    }

    /// Writes lines, piece by piece. Returns why the last one that is lost is.
    fn write(&mut self, lines: &str) -> Option<io::Error> {
        let mut why = None;
        let mut rest = lines;
        while !rest.is_empty() {
            let piece;
            (piece, rest) = rest.split_at(piece_end(rest));
            if let Err(error) = self.sink.write(piece.as_bytes()) {
                let lines = piece.bytes().filter(|byte| *byte == b'\n').count();
                self.state.lost.fetch_add(lines as u64, Ordering::Relaxed);
                why = Some(error);
            }
            self.state.held().taken -= piece.len();
        }
        why
    }

    fn tell_lost(&mut self, why: Option<&io::Error>) {
        let lost = self.state.lost.load(Ordering::Relaxed);
        if lost > self.told {
            let about = self.sink.lost(lost - self.told, why);
            if about.is_none_or(|line| self.sink.write(line.as_bytes()).is_ok()) {
                self.told = lost;
            }
        }
    }
}

/// As many whole lines as fit into a piece, or one that does not.
fn piece_end(lines: &str) -> usize {
    if lines.len() <= PIECE_BYTES {
        return lines.len();
    }
    let end = |byte: &u8| *byte == b'\n';
    let bytes = lines.as_bytes();
    let found = bytes[..PIECE_BYTES].iter().rposition(end);
    let found = found.or_else(|| bytes.iter().position(end));
    found.map_or(lines.len(), |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::Receiver;

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

        fn lost(&mut self, lines: u64, _: Option<&io::Error>) -> Option<String> {
            Some(format!("lost {lines}\n"))
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

    fn push(queue: &Queue, text: &str) {
        queue.push(false, |lines| {
            lines.push_str(text);
            lines.push('\n');
        });
    }

    #[test]
    fn what_nobody_takes_is_bounded_and_counted_and_keeps_nobody_waiting() {
        let (queue, go, written) = gated();
        let long = "x".repeat(1000);
        // Nothing is taken: this would wait for ever, or grow for ever.
        let count = 10_000;
        for _ in 0..count {
            push(&queue, &long);
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
        // In one line, or in two if the thread began when some were lost already.
        let told = all.lines().filter_map(|line| line.strip_prefix("lost "));
        let told: u64 = told.map(|count| count.parse::<u64>().unwrap()).sum();
        assert_eq!(told, lost);
    }

    #[test]
    fn what_cannot_be_written_is_counted_and_told_when_it_can_be() {
        let (queue, go, written) = gated();
        push(&queue, "a");
        for took in [false, false, true, true] {
            go.send(took).unwrap();
        }
        queue.finish(Duration::from_secs(60));
        assert_eq!(queue.lost(), 1);
        push(&queue, "b");
        queue.finish(Duration::from_secs(60));
        let all: Vec<u8> = written.try_iter().flatten().collect();
        assert_eq!(String::from_utf8(all).unwrap(), "lost 1\nb\n");
    }

    #[test]
    fn news_end_the_pause_and_other_lines_do_not() {
        let (queue, waiting) = queue();
        let is_urgent = || waiting.0.held().work.is_urgent();
        push(&queue, "a run has ended");
        assert!(!is_urgent());
        queue.push(true, |lines| lines.push_str("a request was refused\n"));
        assert!(is_urgent());
        // It is over with the lines that it came with.
        let (told, written) = mpsc::channel();
        let (go, goes) = mpsc::channel();
        let (state, sink) = (
            waiting.0.clone(),
            Gate {
                go: goes,
                written: told,
            },
        );
        go.send(true).unwrap();
        waiting.begin("gate", sink).unwrap();
        written.recv().unwrap();
        queue.finish(Duration::from_secs(60));
        push(&queue, "another run has ended");
        assert!(!state.held().work.has_news);
        drop(go);
    }

    #[test]
    fn lines_stay_whole_and_in_order_around_what_is_opened_anew() {
        /// Notes what it is told.
        struct Notes(Sender<Vec<u8>>);

        impl Sink for Notes {
            fn write(&mut self, lines: &[u8]) -> io::Result<()> {
                self.0.send(lines.to_vec()).map_err(io::Error::other)
            }

            fn lost(&mut self, _: u64, _: Option<&io::Error>) -> Option<String> {
                None
            }

            fn reopen(&mut self) {
                let _ = self.0.send(Vec::new());
            }
        }

        let (queue, waiting) = queue();
        let short = "x".repeat(1500);
        for text in [&*short, &short, &short] {
            push(&queue, text);
        }
        queue.reopen();
        push(&queue, &"y".repeat(PIECE_BYTES));
        queue.reopen();
        push(&queue, "z");
        let (told, notes) = mpsc::channel();
        waiting.begin("notes", Notes(told)).unwrap();
        queue.finish(Duration::from_secs(60));
        let lengths: Vec<usize> = notes.try_iter().map(|lines| lines.len()).collect();
        assert_eq!(lengths, [2 * 1501, 1501, 0, PIECE_BYTES + 1, 2]);
        drop(queue);
        // Its thread ends.
        assert!(notes.recv().is_err());
    }
}
