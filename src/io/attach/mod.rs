//! A process over WebSocket: cursor to frames, frames to its input, pipes and terminals alike.
//!
//! In: an upgraded connection. Out: `ready`, retained and live output, `gap` for what was evicted
//! before it could be sent, `exit`, a clean close. A client that reads slowly costs a cursor and
//! holds up nobody, the process least of all. Neither coming nor going ends the process's input.

use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::api::attach::{AttachFrame, AttachQuery, Framing, attach_frame};
use crate::api::body::{self, InputEncoding};
use crate::api::control::window;
use crate::api::signal::Signalling;
use crate::config::timeouts;
use crate::log::batch::{Batches, Chunk, Encoder, Found, HEAD_BYTES_MAX};
use crate::log::characters::{Characters, Unsettled};
use crate::log::cursor::Gap;
use crate::log::index::Entry;
use crate::log::{Cursor, Select};
use crate::metrics::{metrics, present};
use crate::process::life::State;
use crate::process::{Notify, Process};
use crate::supervisor::spawn::pty;
use crate::types::{ExitStatus, Monotonic, ProcessId, Stream, UnixMs};
use crate::wire::say::attach as say;
use crate::wire::ws::message::Event;

use crate::io::conn::reader::Reader;
use crate::io::conn::writer::Writer;
use crate::io::runtime;
use crate::io::runtime::race::race;
use crate::io::runtime::timer::{instant, within};
use crate::io::runtime::turn::rest;
use crate::io::server::Server;
use crate::io::signal;
use crate::io::ws::input_pump::InputPump;
use crate::io::ws::input_queue::What;
use crate::io::ws::liveness::Liveness;
use crate::io::ws::{CLOSE_NORMAL, Idle, Peer};

/// Channels of binary frames, as Kubernetes numbers them; a terminal writes on that of stdout.
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;

const READ_ONLY: &str = "this connection is read-only";

/// Each entry as a frame of its own, but for one that is only a part of a character.
struct Frames<'a> {
    framing: Framing,
    characters: Characters<'a>,
    unsettled: Option<Unsettled>,
}

impl Encoder for Frames<'_> {
    fn until(&self, last: u64) -> u64 {
        let before = self.unsettled.map(|entry| entry.sequence - 1);
        before.map_or(last, |before| before.min(last))
    }

    fn entry(&self, entry: &Entry, data: &[u8], out: &mut Vec<u8>) {
        match (self.framing, entry.stream) {
            (Framing::Json, stream) => {
                let text = self.characters.text(entry, data);
                if !text.is_empty() {
                    say::write_output(stream.as_str(), entry.sequence, &text, out);
                }
            }
            (Framing::Binary, Stream::Stdout | Stream::Pty) => {
                say::write_channel(STDOUT, data, out);
            }
            (Framing::Binary, Stream::Stderr) => say::write_channel(STDERR, data, out),
        }
    }

    fn head(&self, _: usize, _: &mut [u8; HEAD_BYTES_MAX]) -> usize {
        0
    }

    fn trailer(&self) -> &'static [u8] {
        b""
    }
}

/// What clients of this framing share.
fn batches(process: &mut Process, framing: Framing) -> &mut Batches {
    let shared = process.extras.make().shared.make();
    match framing {
        Framing::Json => &mut shared.attached_json,
        Framing::Binary => &mut shared.attached_binary,
    }
}

/// Counted among a log's readers until dropped.
struct Joined<'a> {
    server: &'a Server,
    id: ProcessId,
    framing: Framing,
}

impl<'a> Joined<'a> {
    fn new(server: &'a Server, id: ProcessId, framing: Framing) -> Self {
        if let Some((process, _)) = server.table.borrow_mut().get_mut(id) {
            batches(process, framing).join(&Select::default());
        }
        Self {
            server,
            id,
            framing,
        }
    }
}

impl Drop for Joined<'_> {
    fn drop(&mut self) {
        if let Some((process, _)) = self.server.table.borrow_mut().get_mut(self.id) {
            batches(process, self.framing).leave(&Select::default());
        }
    }
}

/// What the two loops share.
struct Session {
    server: Rc<Server>,
    id: ProcessId,
    query: AttachQuery,
    /// Input on its way to the process.
    input: InputPump,
    /// The client.
    peer: Peer,
}

/// Serves an upgraded connection to its end.
pub(super) async fn attach(
    server: &Rc<Server>,
    id: ProcessId,
    query: AttachQuery,
    reader: &mut Reader,
    writer: &mut Writer,
) {
    let _present = present(|all| &all.attached);
    let session = Rc::new(Session {
        server: server.clone(),
        id,
        query,
        input: InputPump::new(server.clone(), id),
        peer: Peer::new(),
    });
    // Not a third loop here: what was sent before the client left is still written.
    let viewer = session.clone();
    runtime::spawn(async move { viewer.input.pass_on(&viewer.peer).await });
    let on_message = async |message| session.on_message(message).await;
    let reading = session.peer.read(server, reader, on_message);
    let writing = async {
        // An error is the end of the connection, which needs no word.
        let _ = session.write(writer).await;
    };
    race(pin!(reading), pin!(writing)).await;
    session.input.close();
    // Whatever becomes of what was sent, there is nobody to tell.
    session.peer.gone();
}

impl Session {
    /// Handles a text or binary message. True if the client asked to end.
    async fn on_message(&self, message: Event) -> bool {
        match message {
            Event::Text(text) => match attach_frame(&text) {
                Ok(AttachFrame::Close) => return true,
                Ok(_) if self.query.read_only => self.peer.error(READ_ONLY),
                Ok(AttachFrame::Input {
                    data,
                    encoding,
                    offset,
                }) => self.text_input(data, encoding, offset).await,
                Ok(AttachFrame::Eof) => self.input.take(What::End, &self.peer).await,
                Ok(AttachFrame::Signal(signalling)) => self.signal(signalling).await,
                Ok(AttachFrame::Resize { cols, rows }) => self.resize(cols, rows),
                Err(problem) => {
                    let detail = problem.detail();
                    self.peer.error(&format!("invalid frame: {detail}"));
                }
            },
            Event::Binary(message) => self.binary(message).await,
            Event::Ping(_) | Event::Pong(_) | Event::Close(_) => {}
        }
        false
    }

    async fn text_input(&self, data: String, encoding: Option<String>, offset: Option<u64>) {
        let decoded = InputEncoding::parse(encoding.as_deref(), InputEncoding::Utf8)
            .and_then(|encoding| body::input_bytes(data, encoding, u64::MAX));
        match decoded {
            Ok(data) => self.input(data, offset).await,
            Err(problem) => self.peer.error(&problem.detail()),
        }
    }

    async fn binary(&self, mut message: Vec<u8>) {
        if self.query.framing == Framing::Json {
            let hint = "binary frames are not expected; attach with frames=binary to send them";
            return self.peer.error(hint);
        }
        match message.first() {
            Some(&STDIN) if self.query.read_only => self.peer.error(READ_ONLY),
            Some(&STDIN) => {
                message.remove(0);
                self.input(message, None).await;
            }
            Some(channel) => self.peer.error(&format!(
                "channel {channel} takes no input; the first byte of a binary frame must be \
                 {STDIN}, for stdin"
            )),
            None => self.peer.error("an empty binary frame names no channel"),
        }
    }

    async fn input(&self, data: Vec<u8>, offset: Option<u64>) {
        let what = What::Data { data, offset };
        self.input.take(what, &self.peer).await;
    }

    /// Sends a signal, or says why nobody got it. It does not wait for input that was sent before.
    async fn signal(&self, signalling: Signalling) {
        let sent = pin!(signal::send(&self.server, self.id, signalling));
        // The supervisor answers at once, unless something is wrong with it.
        if let Some(Err(problem)) = within(timeouts::HALF_CLOSED_MAX, sent).await {
            self.peer.error(&problem.detail());
        }
    }

    fn resize(&self, cols: u16, rows: u16) {
        let input = self.server.input(self.id);
        let size = match window(cols, rows) {
            Ok(size) => size,
            Err(problem) => return self.peer.error(&problem.detail()),
        };
        match input.as_ref().map(|input| input.terminal()) {
            None => self.peer.error("conflict: process is not running"),
            Some(None) => self
                .peer
                .error("conflict: process is not running in tty mode"),
            Some(Some(terminal)) => {
                if let Err(errno) = pty::set_size(&**terminal, size) {
                    let error = std::io::Error::from_raw_os_error(errno.raw_os_error());
                    self.peer.error(&format!(
                        "stream error: failed to resize the terminal: {error}"
                    ));
                }
            }
        }
    }

    /// Writes to the client until there is nothing more to say.
    async fn write(&self, writer: &mut Writer) -> std::io::Result<()> {
        writer.all(say::ready(&self.id.to_string())).await?;
        let begin = {
            let table = self.server.table.borrow();
            let process = table.get(self.id);
            process.map(|process| self.query.cursor(process))
        };
        let Some(mut cursor) = begin else {
            return self.peer.finish(writer, CLOSE_NORMAL, "").await;
        };
        let _joined = Joined::new(&self.server, self.id, self.query.framing);
        let mut owed = Vec::new();
        let mut liveness = Liveness::new(Instant::now());
        loop {
            let seen_outbox = self.peer.seen();
            if self.peer.flush(writer).await? {
                return Ok(());
            }
            if self.server.leaves.get() {
                return self.peer.leave(writer).await;
            }
            match self.step(&mut cursor, &mut owed) {
                Step::Send(chunk) => {
                    writer.chunk(chunk).await?;
                    liveness.sent(Instant::now());
                }
                Step::Gap(frame) => {
                    writer.all(frame).await?;
                    liveness.sent(Instant::now());
                }
                Step::Rest => rest().await,
                Step::Exit(frame) => {
                    writer.all(frame).await?;
                    return self.peer.finish(writer, CLOSE_NORMAL, "").await;
                }
                Step::Gone => return self.peer.finish(writer, CLOSE_NORMAL, "").await,
                Step::Wait {
                    changed,
                    seen,
                    until,
                } => {
                    let news = self.server.news(changed.changed(seen));
                    let idle = self.peer.idle(&mut liveness, seen_outbox, news, until);
                    if idle.await == Idle::Dead {
                        self.server.tell_dropped(Some(self.id), "silent");
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Tells of what cannot be sent any more.
    fn gap(&self, gap: Gap) -> Step {
        metrics(|all| all.gap(gap.bytes));
        self.server.tell_gap(self.id, gap.bytes);
        Step::Gap(say::gap(gap.from, gap.to, gap.bytes))
    }

    /// What comes next. Entries that were sent and have left something to the next one are `owed`.
    fn step(&self, cursor: &mut Cursor, owed: &mut Vec<(u64, u64)>) -> Step {
        let mut table = self.server.table.borrow_mut();
        let Some((process, arena)) = table.get_mut(self.id) else {
            return Step::Gone;
        };
        let framing = self.query.framing;
        let shared = process.extras.make().shared.make();
        let batches = match framing {
            Framing::Json => &mut shared.attached_json,
            Framing::Binary => &mut shared.attached_binary,
        };
        let oldest = process.log.first();
        if let Some(at) = owed.iter().position(|(sequence, _)| *sequence < oldest) {
            let (sequence, bytes) = owed.remove(at);
            return self.gap(Gap {
                from: sequence,
                to: sequence,
                bytes,
            });
        }
        let complete = process.life.is_complete(Monotonic::now());
        let characters = Characters::new(&process.log, arena, timeouts::CUT_CHARACTER_MAX);
        let waits = framing == Framing::Json && !complete;
        let unsettled = match waits {
            true => characters.unsettled(UnixMs::now().0),
            false => None,
        };
        let frames = Frames {
            framing,
            characters,
            unsettled,
        };
        match batches.next(&process.log, arena, cursor, &frames) {
            Found::Chunk(chunk) => {
                if framing == Framing::Json {
                    *owed = characters.owed(cursor.position());
                }
                return Step::Send(chunk);
            }
            Found::Gap(gap) => return self.gap(gap),
            Found::Unwanted => return Step::Rest,
            Found::Nothing => {}
        }
        let until = match process.life.state() {
            State::Over { end, .. } if complete => {
                let status = end.status();
                let code = status.and_then(ExitStatus::code);
                let signal = status.and_then(ExitStatus::signal_name);
                return Step::Exit(say::exit(code, signal.as_deref()));
            }
            State::Over { complete_at, .. } => Some(instant(complete_at)),
            _ => None,
        };
        let settled = unsettled.map(|it| Instant::now() + Duration::from_millis(it.for_ms));
        Step::Wait {
            seen: process.changed.version(),
            changed: process.changed.clone(),
            until: until.into_iter().chain(settled).min(),
        }
    }
}

/// What is sent next.
enum Step {
    Send(Chunk),
    Gap(Vec<u8>),
    /// There was much to pass; go on when others have had their turn.
    Rest,
    Exit(Vec<u8>),
    /// The record has been deleted.
    Gone,
    Wait {
        changed: Notify,
        seen: u64,
        until: Option<Instant>,
    },
}
