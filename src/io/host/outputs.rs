//! Child output into logs and captures.
//!
//! In: a [`Source`] and where its bytes belong. Out: bytes in the arena, waiters told. One task
//! per output; it reads until its budget is used up and then waits for readiness again, which
//! lets every other task have its turn.

use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::api::processes::now_ms;
use crate::log::SLOT_BYTES;
use crate::process::State;
use crate::process::state::Happening;
use crate::types::{ExitStatus, ProcessId, Stream};

use crate::io::host::capacity::Capacity;
use crate::io::host::leftovers;
use crate::io::runtime::pauses::Pauses;
use crate::io::runtime::race::race;
use crate::io::runtime::source::Source;
use crate::io::runtime::timer::sleep;
use crate::io::runtime::turn::Turn;
use crate::io::server::Server;

/// Bytes read from one output before the others have their turn.
const TURN_BYTES: u64 = 256 << 10;

/// The first pause before a terminal that nobody has open is looked at again.
const HUNG_UP_PAUSE: Duration = Duration::from_millis(5);

/// How long freed slots keep their pages for the next output.
const TRIM_AFTER: Duration = Duration::from_secs(1);

/// Where bytes belong.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sink {
    /// To the log of a managed process.
    Log(ProcessId, Stream),
    /// To the capture of a run.
    Run(u64, Stream),
}

impl Sink {
    /// Where the bytes belong by now: a run may have become a record.
    fn now(self, server: &Server) -> Self {
        if let Sink::Run(key, stream) = self
            && let Some(&id) = server.recorded.borrow().get(&key)
        {
            return Sink::Log(id, stream);
        }
        self
    }
}

/// Why [`pump`] stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pumped {
    /// There is nothing to read now, or the budget is used up.
    Waiting {
        /// What there was, in bytes.
        brought: u64,
    },
    /// Nobody holds the other end open. A terminal may be opened again.
    Ended {
        /// What there was, in bytes.
        brought: u64,
    },
}

/// Reads one output to its end.
// Every idle process has two of these, and an `async fn` would keep its arguments twice.
#[expect(clippy::manual_async_fn)]
pub(crate) fn ingest(
    server: Rc<Server>,
    sink: Sink,
    source: Rc<Source>,
) -> impl Future<Output = ()> {
    async move {
        let turn = Turn::default();
        let mut capacity = Capacity::new(&source, &server.large_pipes);
        // Waits first: a child that has just been asked for has not written anything.
        while turn
            .take(pin!(capacity.readable()), |_| TURN_BYTES as usize)
            .await
            .is_ok()
        {
            match pump(&server, sink, &source, TURN_BYTES) {
                Pumped::Waiting { brought } => capacity.brought(brought),
                // Boxed, because it is rare and the task of every idle process has room for it.
                Pumped::Ended { .. } if Box::pin(opened_again(&server, sink, &source)).await => {}
                Pumped::Ended { .. } => break,
            }
        }
        drop(capacity);
        ended(&server, sink);
    }
}

/// Waits until a terminal that nobody has open is opened again, which only its process can want.
/// False if there is none that still runs.
///
/// A program may close its terminal and come back to it: login and agetty do, to be its only
/// users (vhangup(2)), and whatever opens /dev/tty. Nothing tells of that, and until then the
/// terminal is ready, always: looked at now and then.
async fn opened_again(server: &Rc<Server>, sink: Sink, source: &Source) -> bool {
    let Sink::Log(id, Stream::Pty) = sink else {
        return false;
    };
    let mut pauses = Pauses::from(HUNG_UP_PAUSE);
    loop {
        let changed = match server.table.borrow().get(id) {
            Some(process) if matches!(process.state, State::Running { .. }) => {
                process.changed.clone()
            }
            _ => return false,
        };
        let changed = changed.changed(changed.version());
        race(pin!(sleep(pauses.longer())), pin!(changed)).await;
        match pump(server, sink, source, TURN_BYTES) {
            Pumped::Waiting { .. } => return true,
            Pumped::Ended { brought: 0 } => {}
            Pumped::Ended { .. } => pauses.begin_again(),
        }
    }
}

/// Reads up to `budget` bytes, not waiting for any. May stop sooner and wait for readiness.
fn pump(server: &Rc<Server>, sink: Sink, source: &Source, budget: u64) -> Pumped {
    pump_until(server, sink, source, budget, true)
}

/// Reads what is in a pipe whose writer has ended, and not what somebody else writes meanwhile.
pub(crate) fn pump_rest(server: &Rc<Server>, sink: Sink, source: &Source) {
    let pending = source.pending();
    if pending > 0 {
        // A short read does not say that a pipe is empty, it is only likely.
        pump_until(server, sink, source, pending, false);
    }
}

fn pump_until(
    server: &Rc<Server>,
    sink: Sink,
    source: &Source,
    budget: u64,
    stop_when_emptied: bool,
) -> Pumped {
    let sink = sink.now(server);
    let mut left = budget;
    let ended = loop {
        match read_once(server, sink, source) {
            Ok(Read { len: 0, .. }) => break true,
            Ok(Read { len, emptied }) => {
                left = left.saturating_sub(len as u64);
                if left == 0 || emptied && stop_when_emptied {
                    break false;
                }
            }
            Err(Errno::AGAIN) => break false,
            // A terminal that nobody has open answers EIO, which is no error.
            Err(_) => break true,
        }
    };
    if left < budget
        && let Sink::Log(id, _) = sink
        && let Some((process, _)) = server.table.borrow_mut().get_mut(id)
    {
        process.changed.notify();
    }
    let brought = budget - left;
    if ended {
        return Pumped::Ended { brought };
    }
    Pumped::Waiting { brought }
}

/// What one read(2) brought.
#[derive(Clone, Copy, Debug)]
struct Read {
    len: usize,
    /// There was room for more, so a pipe is empty now; a terminal hands out less than it has.
    emptied: bool,
}

fn read(source: &Source, stream: Stream, buffer: &mut [u8]) -> Result<Read, Errno> {
    let room = buffer.len();
    let len = source.read(buffer)?;
    Ok(Read {
        len,
        emptied: len < room && stream != Stream::Pty,
    })
}

/// One read(2) to where the bytes belong, or to nowhere if that is gone or full.
fn read_once(server: &Rc<Server>, sink: Sink, source: &Source) -> Result<Read, Errno> {
    let brought = |result: &Result<Read, Errno>| result.as_ref().map_or(0, |read| read.len);
    match sink {
        Sink::Log(id, stream) => {
            let mut table = server.table.borrow_mut();
            if let Some((process, arena)) = table.get_mut(id)
                && let Ok(tail) = process.log.tail(arena)
            {
                let result = read(source, stream, tail);
                let usual = server.settings.get().max_log_bytes_per_process;
                let limit = process.log_max.map_or(usual, |max| max.min(usual));
                process
                    .log
                    .commit(arena, brought(&result), stream, now_ms(), limit);
                if matches!(process.state, State::Exited { .. }) {
                    table.recount(id);
                }
                drop(table);
                trim_later(server);
                return result;
            }
            drop(table);
            discard(server, source, stream)
        }
        Sink::Run(key, stream) => {
            let mut runs = server.runs.borrow_mut();
            let Some(run) = runs.get_mut(&key) else {
                return discard(server, source, stream);
            };
            let capture = run.capture(stream);
            if let Ok(tail) = capture.tail(server.table.borrow_mut().arena_mut())
                && !tail.is_empty()
            {
                let result = read(source, stream, tail);
                capture.commit(brought(&result));
                return result;
            }
            let result = discard(server, source, stream);
            capture.discard(brought(&result));
            result
        }
    }
}

fn discard(server: &Server, source: &Source, stream: Stream) -> Result<Read, Errno> {
    let mut scratch = server.scratch.borrow_mut();
    scratch.resize(SLOT_BYTES, 0);
    read(source, stream, &mut scratch)
}

/// Gives pages of freed slots back, once, a while after they were freed.
pub(crate) fn trim_later(server: &Rc<Server>) {
    if server.trim_pending.get() || !server.table.borrow().arena().wants_trim() {
        return;
    }
    server.trim_pending.set(true);
    let server = server.clone();
    monoio::spawn(async move {
        sleep(TRIM_AFTER).await;
        server.trim_pending.set(false);
        server.table.borrow_mut().arena_mut().trim();
    });
}

/// An output has reached its end.
fn ended(server: &Rc<Server>, sink: Sink) {
    match sink.now(server) {
        Sink::Log(id, _) => {
            let drained = {
                let mut table = server.table.borrow_mut();
                let Some((process, _)) = table.get_mut(id) else {
                    return;
                };
                process.open_outputs = process.open_outputs.saturating_sub(1);
                process.changed.notify();
                process.open_outputs == 0 && matches!(process.state, State::Draining { .. })
            };
            if drained {
                conclude(server, id);
            }
        }
        Sink::Run(key, _) => {
            if let Some(run) = server.runs.borrow_mut().get_mut(&key) {
                run.pipe_ended();
            }
        }
    }
}

/// The direct child of a managed process is gone: takes its last output and shows it as exited.
pub(crate) fn child_exited(server: &Rc<Server>, id: ProcessId, status: ExitStatus, left: u32) {
    {
        let mut table = server.table.borrow_mut();
        let Some((process, _)) = table.get_mut(id) else {
            return;
        };
        process.left = left;
        if !process.happen(Happening::Ended(status), Instant::now(), now_ms()) {
            return;
        }
    }
    let child = server.children.borrow().get(&id).cloned();
    let mut all_read = true;
    for (stream, source) in child.iter().flat_map(|child| &child.outputs) {
        let sink = Sink::Log(id, *stream);
        all_read &= match stream {
            Stream::Pty => {
                let pumped = pump(server, sink, source, TURN_BYTES);
                matches!(pumped, Pumped::Ended { .. })
            }
            // What the child wrote is in the pipe, all of it; somebody else may write on.
            Stream::Stdout | Stream::Stderr => {
                pump_rest(server, sink, source);
                true
            }
        };
    }
    if all_read {
        conclude(server, id);
        return;
    }
    // A terminal passes its last output on with a delay; its end (EIO) concludes, or the time.
    let server = server.clone();
    monoio::spawn(async move {
        sleep(crate::process::state::OUTPUT_GRACE).await;
        conclude(&server, id);
    });
}

/// Shows a draining process as exited; drops the oldest exited records that are too many.
fn conclude(server: &Rc<Server>, id: ProcessId) {
    let (still_open, dropped) = {
        let mut table = server.table.borrow_mut();
        let Some((process, _)) = table.get_mut(id) else {
            return;
        };
        if !process.happen(Happening::Drained, Instant::now(), now_ms()) {
            return;
        }
        (process.open_outputs > 0, table.retire(id))
    };
    // Its input is closed; its outputs are read on by their own tasks.
    let child = server.children.borrow_mut().remove(&id);
    leftovers::make_way(server, dropped);
    if let Some(child) = child
        && still_open
    {
        let outputs = child.outputs.iter().map(|(_, source)| source);
        leftovers::note_open(server, Some(id), outputs);
    }
    trim_later(server);
}
