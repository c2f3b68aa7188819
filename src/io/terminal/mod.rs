//! A terminal over WebSocket: cursor to frames, frames to the terminal's input.
//!
//! In: an upgraded connection. Out: `ready`, replayed and live output, `exit`, a clean close.
//! Two loops share one task: one reads the client, one writes to it; what the first has to say
//! goes through a small outbox. A task of its own passes on what the client types. A viewer that
//! reads slowly costs a cursor; an input waits until the program reads it and holds up later
//! input of this viewer only.

mod liveness;
mod typing;

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::Rc;
use std::time::Instant;

use crate::api::body::{self, InputEncoding};
use crate::api::control::window;
use crate::api::frame::{ClientFrame, client_frame};
use crate::api::query::{Replay, TerminalQuery};
use crate::config::timeouts;
use crate::log::batch::{Encoder, Found, HEAD_BYTES_MAX};
use crate::log::cursor::Next;
use crate::log::index::Entry;
use crate::log::{Cursor, Log, Select};
use crate::process::Notify;
use crate::process::life::State;
use crate::supervisor::spawn::pty;
use crate::types::{ExitStatus, Monotonic, ProcessId, StreamFilter};
use crate::wire::json;
use crate::wire::vt::QueryFilter;
use crate::wire::ws::close::{write_close, write_echo};
use crate::wire::ws::frame::{Opcode, frame_head, write_frame};
use crate::wire::ws::message::{Event, Reader as Messages, ReaderLimits};

use crate::io::conn::reader::{Filled, Reader};
use crate::io::conn::writer::Writer;
use crate::io::host::backlog::BYTES_MAX;
use crate::io::host::input::InputError;
use crate::io::runtime::race::race;
use crate::io::runtime::timer::{instant, sleep, sleep_until, within};
use crate::io::server::Server;
use crate::io::terminal::liveness::{Liveness, Verdict};
use crate::io::terminal::typing::{INPUT_COST_BYTES, Typing, cost};

/// Bytes of one message, as much as the reference takes.
pub(super) const MESSAGE_BYTES_MAX: u64 = 16 << 20;

/// Recent output shown to a new viewer.
const REPLAY_BYTES: u64 = 256 << 10;

/// Raw bytes of one replayed frame, about.
const REPLAY_FRAME_BYTES: usize = 64 << 10;

/// Answers that wait to be written; a client that asks faster than it reads waits.
const OUTBOX_BYTES_MAX: usize = 64 << 10;

/// What is typed is not read any more.
const NOT_RUNNING: &str = "conflict: process is not running";

/// Close codes of RFC 6455, 7.4.1, and the one that says that output has been lost.
const CLOSE_NORMAL: u16 = 1000;
const CLOSE_OVERTAKEN: u16 = 4008;

/// Live output as binary frames, one per batch.
struct Frames;

impl Encoder for Frames {
    fn entry(&self, _: &Entry, data: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(data);
    }

    fn head(&self, body_len: usize, head: &mut [u8; HEAD_BYTES_MAX]) -> usize {
        let mut frame = [0; 10];
        let len = frame_head(Opcode::Binary, true, body_len as u64, &mut frame);
        head[..len].copy_from_slice(&frame[..len]);
        len
    }

    fn trailer(&self) -> &'static [u8] {
        b""
    }
}

/// What the two loops share.
struct Session {
    server: Rc<Server>,
    id: ProcessId,
    query: TerminalQuery,
    /// Input on its way to the program.
    typing: Typing,
    /// Frames that the reading loop wants sent.
    outbox: RefCell<Vec<u8>>,
    /// Nothing is sent after the outbox.
    closing: Cell<bool>,
    /// A Close has been queued or sent; nothing may follow it.
    close_sent: Cell<bool>,
    /// Tells of all of these, and of an emptied outbox.
    bell: Notify,
    /// When the client was last heard.
    heard: Cell<Instant>,
}

/// Counted among a log's viewers until dropped.
struct Joined<'a>(&'a Server, ProcessId);

impl<'a> Joined<'a> {
    fn new(server: &'a Server, id: ProcessId) -> Self {
        if let Some((process, _)) = server.table.borrow_mut().get_mut(id) {
            process.extras.make().frames.join(&Select::default());
        }
        Self(server, id)
    }
}

impl Drop for Joined<'_> {
    fn drop(&mut self) {
        if let Some((process, _)) = self.0.table.borrow_mut().get_mut(self.1) {
            process.extras.make().frames.leave(&Select::default());
        }
    }
}

/// Serves an upgraded connection to its end.
pub(crate) async fn attach(
    server: &Rc<Server>,
    id: ProcessId,
    query: TerminalQuery,
    reader: &mut Reader,
    writer: &mut Writer,
) {
    let session = Rc::new(Session {
        server: server.clone(),
        id,
        query,
        typing: Typing::default(),
        outbox: RefCell::new(Vec::new()),
        closing: Cell::new(false),
        close_sent: Cell::new(false),
        bell: Notify::default(),
        heard: Cell::new(Instant::now()),
    });
    // Not a third loop here: what was typed before the client left is still written.
    let typist = session.clone();
    monoio::spawn(async move { typist.pass_on().await });
    let reading = session.read(reader);
    let writing = session.write(writer);
    race(pin!(reading), pin!(writing)).await;
    session.typing.close();
    // Whatever becomes of what was typed, there is nobody to tell.
    session.close_sent.set(true);
}

impl Session {
    /// Reads the client until it is gone or has had time to see a close through.
    async fn read(&self, reader: &mut Reader) {
        let limits = ReaderLimits {
            frame_bytes_max: MESSAGE_BYTES_MAX,
            message_bytes_max: MESSAGE_BYTES_MAX,
        };
        let mut messages = Messages::new(limits);
        loop {
            // All that is there before any of it is forgotten: forgetting moves the rest.
            let there = reader.bytes().len();
            let mut rest = reader.bytes();
            loop {
                match messages.next(&mut rest) {
                    Ok(None) => break,
                    Ok(Some(Event::Close(frame))) => {
                        let mut echo = Vec::new();
                        write_echo(frame.as_ref(), &mut echo);
                        return self.close(&echo).await;
                    }
                    Ok(Some(event)) => {
                        if self.on_event(event).await {
                            let mut frame = Vec::new();
                            write_close(CLOSE_NORMAL, "", &mut frame);
                            return self.close(&frame).await;
                        }
                    }
                    Err(error) => {
                        let mut frame = Vec::new();
                        write_close(error.close_code(), &error.to_string(), &mut frame);
                        return self.close(&frame).await;
                    }
                }
                self.room_in_outbox().await;
            }
            reader.consume(there);
            match reader.fill().await {
                Filled::Data => self.heard.set(Instant::now()),
                Filled::End | Filled::Broken => return,
            }
        }
    }

    /// Handles anything but a close. True if the client asked to end.
    async fn on_event(&self, event: Event) -> bool {
        match event {
            Event::Text(text) => match client_frame(&text) {
                Ok(ClientFrame::Close) => return true,
                Ok(ClientFrame::Input { data, encoding }) => self.text_input(data, encoding).await,
                Ok(ClientFrame::Resize { cols, rows }) => self.resize(cols, rows),
                Err(problem) => {
                    self.error(&format!("invalid terminal frame: {}", problem.detail()))
                }
            },
            Event::Binary(data) if self.query.binary_input => self.input(data).await,
            Event::Binary(_) => self.error("binary input is not supported; use text JSON frames"),
            Event::Ping(payload) => self.send(|out| write_frame(Opcode::Pong, &payload, out)),
            Event::Pong(_) | Event::Close(_) => {}
        }
        false
    }

    async fn text_input(&self, data: String, encoding: Option<String>) {
        let decoded = InputEncoding::parse(encoding.as_deref(), InputEncoding::Utf8)
            .and_then(|encoding| body::input_bytes(data, encoding, u64::MAX));
        match decoded {
            Ok(data) => self.input(data).await,
            Err(problem) => self.error(&problem.detail()),
        }
    }

    /// Has an input wait for the program to read it, or says that it was not taken.
    async fn input(&self, data: Vec<u8>) {
        if self.query.read_only {
            return self.error("this connection is read-only");
        }
        let limit = self.server.settings.get().max_input_bytes_per_request;
        if data.len() as u64 > limit {
            return self.error(&format!(
                "input payload exceeds maxInputBytesPerRequest ({limit})"
            ));
        }
        let Some(input) = self.server.input(self.id) else {
            return self.error(NOT_RUNNING);
        };
        let backlog = input.backlog();
        let cost = cost(&data);
        let place = match self.typing.refuses(backlog) {
            true => None,
            false => backlog.place(cost).await,
        };
        // The client was not read while that waited, so it could not be heard.
        self.heard.set(Instant::now());
        match place {
            Some(place) => self.typing.push(data, place),
            None => {
                self.typing.refused(cost);
                self.error(&format!(
                    "input not taken: the process does not read what was typed before it (at most \
                     {BYTES_MAX} bytes may wait, {INPUT_COST_BYTES} of them for each input); of \
                     these {} bytes none was taken, send them again later",
                    data.len()
                ));
            }
        }
    }

    /// Writes what the client types until it is gone and all of that is written or given up.
    async fn pass_on(&self) {
        let all = async {
            while let Some(typed) = self.typing.next().await {
                self.pass(&typed.data).await;
            }
        };
        race(pin!(all), pin!(self.typing.expired())).await;
        self.typing.clear();
    }

    async fn pass(&self, data: &[u8]) {
        let result = match self.server.input(self.id) {
            Some(input) => {
                let written = Cell::new(0);
                input.write(&self.server, self.id, data, &written).await
            }
            None => Err(InputError::NotRunning),
        };
        match result {
            Ok(()) => {}
            Err(InputError::NotRunning) => {
                // One answer for all: nothing that was typed later is read either.
                self.typing.clear();
                self.error(NOT_RUNNING);
            }
            Err(InputError::Failed(errno)) => {
                let error = std::io::Error::from_raw_os_error(errno.raw_os_error());
                self.error(&format!("stream error: failed to write stdin: {error}"));
            }
        }
    }

    fn resize(&self, cols: u16, rows: u16) {
        if self.query.read_only {
            return self.error("this connection is read-only");
        }
        let input = self.server.input(self.id);
        match (window(cols, rows), input) {
            (Err(problem), _) => self.error(&problem.detail()),
            (Ok(_), None) => self.error("conflict: PTY resize handle unavailable"),
            (Ok(size), Some(input)) => {
                if let Err(errno) = pty::set_size(&**input.source(), size) {
                    let error = std::io::Error::from_raw_os_error(errno.raw_os_error());
                    self.error(&format!(
                        "stream error: failed to resize the terminal: {error}"
                    ));
                }
            }
        }
    }

    fn error(&self, message: &str) {
        let mut text = b"{\"message\":".to_vec();
        json::write_string(message, &mut text);
        text.extend_from_slice(b",\"type\":\"error\"}");
        self.send(|out| write_frame(Opcode::Text, &text, out));
    }

    fn send(&self, write: impl FnOnce(&mut Vec<u8>)) {
        if !self.close_sent.get() {
            write(&mut self.outbox.borrow_mut());
            self.bell.notify();
        }
    }

    /// Queues a Close unless one was sent, and gives the writing loop time to send it.
    async fn close(&self, frame: &[u8]) {
        if !self.close_sent.replace(true) {
            self.outbox.borrow_mut().extend_from_slice(frame);
        }
        self.closing.set(true);
        self.bell.notify();
        sleep(timeouts::CLOSE_PATIENCE).await;
    }

    async fn room_in_outbox(&self) {
        loop {
            let seen = self.bell.version();
            if self.outbox.borrow().len() < OUTBOX_BYTES_MAX {
                return;
            }
            self.bell.changed(seen).await;
        }
    }

    /// Writes to the client until there is nothing more to say.
    async fn write(&self, writer: &mut Writer) {
        let _ = self.try_write(writer).await;
    }

    async fn try_write(&self, writer: &mut Writer) -> std::io::Result<()> {
        let mut ready = b"{\"processId\":".to_vec();
        json::write_string(&self.id.to_string(), &mut ready);
        ready.extend_from_slice(b",\"type\":\"ready\"}");
        writer.all(framed(&ready)).await?;
        let Some(mut cursor) = self.replay(writer).await? else {
            return self.overtaken(writer).await;
        };
        let _joined = Joined::new(&self.server, self.id);
        let mut liveness = Liveness::new(Instant::now());
        loop {
            let seen_bell = self.bell.version();
            if self.flush(writer).await? {
                return Ok(());
            }
            let (changed, seen, until) = match self.step(&mut cursor) {
                Step::Send(chunk) => {
                    writer.chunk(chunk).await?;
                    liveness.sent(Instant::now());
                    continue;
                }
                Step::Overtaken => return self.overtaken(writer).await,
                Step::Exit(frame) => {
                    writer.all(frame).await?;
                    return self.finish(writer, CLOSE_NORMAL, "").await;
                }
                Step::Gone => return self.finish(writer, CLOSE_NORMAL, "").await,
                Step::Wait {
                    changed,
                    seen,
                    until,
                } => (changed, seen, until),
            };
            let mut at = match liveness.judge(self.heard.get(), Instant::now()) {
                Verdict::WaitUntil(at) => at,
                Verdict::Ask => {
                    self.send(|out| write_frame(Opcode::Ping, b"", out));
                    continue;
                }
                Verdict::Dead => return Ok(()),
            };
            if let Some(until) = until {
                at = at.min(until);
            }
            let mut timer = pin!(sleep_until(at));
            let outbox = self.bell.changed(seen_bell);
            let news = async { race(pin!(changed.changed(seen)), pin!(outbox)).await };
            race(pin!(news), timer.as_mut()).await;
        }
    }

    /// Sends what the reading loop left. True if that was the last.
    async fn flush(&self, writer: &mut Writer) -> std::io::Result<bool> {
        let closing = self.closing.get();
        let outbox = std::mem::take(&mut *self.outbox.borrow_mut());
        if !outbox.is_empty() {
            writer.all(outbox).await?;
            self.bell.notify();
        }
        Ok(closing)
    }

    /// Sends a Close and waits for the client's.
    async fn finish(&self, writer: &mut Writer, code: u16, reason: &str) -> std::io::Result<()> {
        if self.close_sent.replace(true) {
            return self.flush(writer).await.map(|_| ());
        }
        // Nothing may come between the exit and the Close.
        self.outbox.borrow_mut().clear();
        let mut frame = Vec::new();
        write_close(code, reason, &mut frame);
        writer.all(frame).await?;
        let answered = async {
            loop {
                let seen = self.bell.version();
                if self.closing.get() {
                    return;
                }
                self.bell.changed(seen).await;
            }
        };
        let _ = within(timeouts::CLOSE_PATIENCE, pin!(answered)).await;
        Ok(())
    }

    async fn overtaken(&self, writer: &mut Writer) -> std::io::Result<()> {
        self.finish(
            writer,
            CLOSE_OVERTAKEN,
            "output was dropped from the log before it could be sent",
        )
        .await
    }

    /// Sends retained output without the queries in it. Returns where live output begins, or None
    /// if eviction was faster.
    async fn replay(&self, writer: &mut Writer) -> std::io::Result<Option<Cursor>> {
        let (mut cursor, last) = match self.server.table.borrow().get(self.id) {
            Some(process) => {
                let log = &process.log;
                let first = first_shown(log, self.query.replay);
                (Cursor::at(log, StreamFilter::Combined, first), log.last())
            }
            // Removed meanwhile; the next step finds that out.
            None => (Cursor::at(&Log::default(), StreamFilter::Combined, 1), 0),
        };
        let mut filter = QueryFilter::default();
        while cursor.position() <= last {
            let mut shown = Vec::new();
            {
                let table = self.server.table.borrow();
                let Some(process) = table.get(self.id) else {
                    return Ok(None);
                };
                if let Next::Gap(_) = cursor.next(&process.log) {
                    return Ok(None);
                }
                let mut raw = 0;
                for entry in process.log.from(cursor.position()) {
                    if entry.sequence > last || (raw > 0 && raw + entry.len > REPLAY_FRAME_BYTES) {
                        break;
                    }
                    raw += entry.len;
                    filter.push(process.log.bytes(table.arena(), &entry), &mut shown);
                    cursor.advance(entry.sequence, entry.len as u64);
                }
                if cursor.position() > last {
                    filter.finish(&mut shown);
                }
            }
            if !shown.is_empty() {
                let mut frame = Vec::with_capacity(shown.len() + 10);
                write_frame(Opcode::Binary, &shown, &mut frame);
                writer.all(frame).await?;
            }
        }
        Ok(Some(cursor))
    }

    fn step(&self, cursor: &mut Cursor) -> Step {
        let mut table = self.server.table.borrow_mut();
        let Some((process, arena)) = table.get_mut(self.id) else {
            return Step::Gone;
        };
        let wait = |until, changed: &Notify| Step::Wait {
            seen: changed.version(),
            changed: changed.clone(),
            until,
        };
        let frames = &mut process.extras.make().frames;
        match frames.next(&process.log, arena, cursor, &Frames) {
            Found::Chunk(chunk) => Step::Send(chunk),
            Found::Gap(_) => Step::Overtaken,
            Found::Unwanted | Found::Nothing => match process.life.state() {
                State::Over { end, .. } if process.life.is_complete(Monotonic::now()) => {
                    let code = end.status().and_then(ExitStatus::code);
                    let code = code.map_or_else(|| "null".to_owned(), |code| code.to_string());
                    Step::Exit(framed(
                        format!("{{\"exitCode\":{code},\"type\":\"exit\"}}").as_bytes(),
                    ))
                }
                State::Over { complete_at, .. } => {
                    wait(Some(instant(complete_at)), &process.changed)
                }
                _ => wait(None, &process.changed),
            },
        }
    }
}

enum Step {
    Send(crate::log::batch::Chunk),
    Overtaken,
    Exit(Vec<u8>),
    Gone,
    Wait {
        changed: Notify,
        seen: u64,
        until: Option<Instant>,
    },
}

/// The first entry that a new viewer is shown.
fn first_shown(log: &Log, replay: Replay) -> u64 {
    match replay {
        Replay::None => log.last() + 1,
        Replay::All => log.first(),
        Replay::Since(sequence) => sequence.saturating_add(1).max(log.first()),
        Replay::Recent => {
            let mut bytes = 0;
            log.from(log.first())
                .rev()
                .take_while(|entry| {
                    bytes += entry.len as u64;
                    bytes <= REPLAY_BYTES
                })
                .last()
                .map_or(log.last() + 1, |entry| entry.sequence)
        }
    }
}

fn framed(text: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(text.len() + 10);
    write_frame(Opcode::Text, text, &mut frame);
    frame
}
