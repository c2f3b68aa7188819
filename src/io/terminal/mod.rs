//! A terminal over WebSocket: cursor to frames, frames to the terminal's input.
//!
//! In: an upgraded connection. Out: `ready`, replayed and live output, `exit`, a clean close.
//! Two loops share one task: one reads the client, one writes to it; what the first has to say
//! goes through a small outbox. A task of its own passes on what the client types: an input waits
//! until the program reads it and holds up later input of this viewer only.

mod flow;
mod liveness;
mod output;
mod typing;
mod view;

use std::cell::{Cell, RefCell};
use std::os::fd::RawFd;
use std::pin::pin;
use std::rc::Rc;
use std::time::Instant;

use crate::api::Problem;
use crate::api::body::{self, InputEncoding};
use crate::api::control::window;
use crate::api::frame::{ClientFrame, client_frame, unknown_type};
use crate::api::query::TerminalQuery;
use crate::config::timeouts;
use crate::process::Notify;
use crate::supervisor::spawn::pty;
use crate::types::ProcessId;
use crate::wire::say::terminal as say;
use crate::wire::ws::close::{write_close, write_echo};
use crate::wire::ws::frame::{Opcode, write_frame};
use crate::wire::ws::message::{Event, Reader as Messages, ReaderLimits};

use crate::io::conn::reader::{Filled, Reader};
use crate::io::conn::writer::Writer;
use crate::io::host::backlog::BYTES_MAX;
use crate::io::host::input::InputError;
use crate::io::runtime::race::race;
use crate::io::runtime::tcp;
use crate::io::runtime::timer::sleep;
use crate::io::server::Server;
use crate::io::terminal::flow::Flow;
use crate::io::terminal::typing::{INPUT_COST_BYTES, Typing, cost};

/// Bytes of one message, as much as the reference takes.
pub(super) const MESSAGE_BYTES_MAX: u64 = 16 << 20;

/// Answers that wait to be written; a client that asks faster than it reads waits.
const OUTBOX_BYTES_MAX: usize = 64 << 10;

/// What the kernel keeps beside what is under way: what waits there delays what comes after it, the
/// echo of Ctrl-C for one (docs/design/032-flow-control.md).
const QUEUE_BYTES: u32 = 16 << 10;

/// What is typed is not read any more.
const NOT_RUNNING: &str = "conflict: process is not running";

/// Close code of RFC 6455, 7.4.1.
const CLOSE_NORMAL: u16 = 1000;

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
    /// How fast it takes what it is sent.
    flow: Flow,
    /// The connection's.
    socket: RawFd,
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
        flow: Flow::new(query.acknowledges, Instant::now()),
        socket: reader.socket(),
    });
    tcp::keep_queue_short(session.socket, QUEUE_BYTES);
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
                Ok(ClientFrame::Ack { bytes }) if self.query.acknowledges => {
                    self.acknowledged(bytes);
                }
                Ok(ClientFrame::Ack { .. }) => self.invalid(&unknown_type()),
                Err(problem) => self.invalid(&problem),
            },
            Event::Binary(data) if self.query.binary_input => self.input(data).await,
            Event::Binary(_) => self.error("binary input is not supported; use text JSON frames"),
            Event::Ping(payload) => self.send(|out| write_frame(Opcode::Pong, &payload, out)),
            Event::Pong(_) | Event::Close(_) => {}
        }
        false
    }

    fn invalid(&self, problem: &Problem) {
        self.error(&format!("invalid terminal frame: {}", problem.detail()));
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

    /// The client has processed so many bytes of all that it was sent.
    fn acknowledged(&self, bytes: u64) {
        let round_trip = || tcp::round_trip(self.socket);
        match self.flow.acknowledged(bytes, Instant::now(), round_trip) {
            Some(worth) => {
                self.note_progress(worth);
                self.bell.notify();
            }
            None => self.error(&format!(
                "{bytes} bytes cannot be acknowledged: {} have been sent in binary frames",
                self.flow.bytes_sent()
            )),
        }
    }

    fn error(&self, message: &str) {
        self.send(|out| write_frame(Opcode::Text, &say::error(message), out));
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
}
