//! The output of a terminal as a recording: log to socket, piece by piece.
//!
//! In: a process. Out: the lines of an asciicast, up to the end of what there is, or of the process.
//! Where the beginning of the output is gone, and where eviction is faster than the client, the
//! screen takes its place.

use std::pin::pin;
use std::rc::Rc;
use std::time::Instant;

use crate::metrics::present;
use crate::process::life::State;
use crate::process::{Notify, Process};
use crate::types::{Monotonic, ProcessId};
use crate::wire::http::chunked::{LAST_CHUNK, chunk};
use crate::wire::say::asciicast::Recorder;

use crate::io::conn::reader::{Filled, Reader};
use crate::io::conn::writer::Writer;
use crate::io::runtime::race::{First, race};
use crate::io::runtime::timer::{instant, sleep_until};
use crate::io::screen::Screens;
use crate::io::server::Server;
use crate::log::Arena;

/// Bytes of output in one piece, about.
const PIECE_BYTES: usize = 64 << 10;

/// Where a recording is.
#[derive(Debug)]
struct Place {
    recorder: Recorder,
    /// The next entry.
    next: u64,
    /// The last one that is wanted; None until the process has ended.
    last: Option<u64>,
    has_begun: bool,
}

enum Step {
    Send(Vec<u8>),
    Last(Vec<u8>),
    Wait {
        changed: Notify,
        seen: u64,
        until: Option<Instant>,
    },
}

/// Writes a recording; the head has been sent. False if the connection cannot go on.
pub(crate) async fn record(
    server: &Rc<Server>,
    id: ProcessId,
    follow: bool,
    chunked: bool,
    reader: &mut Reader,
    writer: &mut Writer,
) -> bool {
    let _present = follow.then(|| present(|all| &all.followers));
    let mut place = Place {
        recorder: Recorder::default(),
        next: 1,
        last: None,
        has_begun: false,
    };
    if !follow {
        place.last = server.table.borrow().get(id).map(|of| of.log.last());
    }
    reader.expect_silence();
    loop {
        let (piece, is_last) = match place.step(server, id) {
            Step::Send(piece) => (piece, false),
            Step::Last(piece) => (piece, true),
            Step::Wait {
                changed,
                seen,
                until,
            } => {
                let timer = async {
                    match until {
                        Some(until) => sleep_until(until).await,
                        None => std::future::pending().await,
                    }
                };
                let news = async { race(pin!(changed.changed(seen)), pin!(timer)).await };
                match race(pin!(news), pin!(reader.lost())).await {
                    First::Left(_) => continue,
                    // Who follows for ever must be seen to be there.
                    First::Right(Filled::End | Filled::Broken | Filled::Data) => return false,
                }
            }
        };
        if !piece.is_empty() && writer.all(framed(piece, chunked)).await.is_err() {
            return false;
        }
        if is_last {
            return !chunked || writer.all(LAST_CHUNK.to_vec()).await.is_ok();
        }
    }
}

impl Place {
    fn step(&mut self, server: &Server, id: ProcessId) -> Step {
        let table = server.table.borrow();
        let Some(process) = table.get(id) else {
            return Step::Last(Vec::new());
        };
        let mut out = Vec::new();
        if !self.has_begun || self.next < process.log.first() {
            self.begin(process, &server.screens, &mut out);
        }
        self.entries(process, table.arena(), &mut out);
        let last = match process.life.state() {
            State::Over { .. } if process.life.is_complete(Monotonic::now()) => {
                Some(*self.last.get_or_insert(process.log.last()))
            }
            _ => self.last,
        };
        if last.is_some_and(|last| self.next > last) {
            return Step::Last(out);
        }
        if !out.is_empty() {
            return Step::Send(out);
        }
        let until = match process.life.state() {
            State::Over { complete_at, .. } => Some(instant(complete_at)),
            _ => None,
        };
        Step::Wait {
            seen: process.changed.version(),
            changed: process.changed.clone(),
            until,
        }
    }

    /// The header, or the screen in place of what is gone.
    fn begin(&mut self, process: &Process, screens: &Screens, out: &mut Vec<u8>) {
        let log = &process.log;
        let terminal = process.extras.get().and_then(|of| of.terminal.as_deref());
        let at = log.get(log.first()).map_or_else(
            || process.description.created_at.0,
            |entry| entry.timestamp_ms,
        );
        let Some(terminal) = terminal else {
            return;
        };
        let drawn = screens.at_border(process, terminal);
        if !std::mem::replace(&mut self.has_begun, true) {
            self.recorder.header(drawn.size, at, out);
        } else {
            self.recorder.resized(at, drawn.size, out);
        }
        if !drawn.drawing.is_empty() {
            self.recorder.output(at, &drawn.drawing, out);
        }
        self.next = (drawn.upto + 1).max(log.first());
    }

    fn entries(&mut self, process: &Process, arena: &Arena, out: &mut Vec<u8>) {
        let Some(terminal) = process.extras.get().and_then(|of| of.terminal.as_deref()) else {
            return;
        };
        let last = self.last.unwrap_or(u64::MAX);
        for entry in process.log.from(self.next) {
            if entry.sequence > last || out.len() >= PIECE_BYTES {
                return;
            }
            for size in terminal.sizes_behind(entry.sequence - 1) {
                self.recorder.resized(entry.timestamp_ms, size, out);
            }
            let bytes = process.log.bytes(arena, &entry);
            self.recorder.output(entry.timestamp_ms, bytes, out);
            self.next = entry.sequence + 1;
        }
    }
}

fn framed(piece: Vec<u8>, chunked: bool) -> Vec<u8> {
    if chunked { chunk(&piece) } else { piece }
}
