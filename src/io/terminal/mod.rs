//! A terminal over WebSocket: cursor to frames, frames to the terminal's input.
//!
//! In: an upgraded connection. Out: `ready`, replayed and live output, `exit`, a clean close.
//! A viewer that reads slowly costs a place in the log; what it types is passed on by a task of its
//! own.

mod answering;
mod flow;
mod output;
mod titles;
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
use crate::metrics::present;
use crate::types::{ProcessId, WindowSize};
use crate::wire::ws::message::Event;

use crate::io::conn::reader::Reader;
use crate::io::conn::writer::Writer;
use crate::io::host::sizes::{self, SizeError};
use crate::io::runtime;
use crate::io::runtime::race::race;
use crate::io::runtime::tcp;
use crate::io::screen::Watching;
use crate::io::server::Server;
use crate::io::terminal::answering::Answering;
use crate::io::terminal::flow::Flow;
use crate::io::terminal::titles::Title;
use crate::io::ws::Peer;
use crate::io::ws::input_pump::InputPump;
use crate::io::ws::input_queue::What;

/// What the kernel keeps beside what is under way: what waits there delays what comes after it, the
/// echo of Ctrl-C for one (docs/design/032-flow-control.md).
const QUEUE_BYTES: u32 = 16 << 10;

/// What the two loops share.
struct Session {
    server: Rc<Server>,
    id: ProcessId,
    query: TerminalQuery,
    /// Input on its way to the program.
    input: InputPump,
    /// The client.
    peer: Peer,
    /// How fast it takes what it is sent.
    flow: Flow,
    /// The connection's.
    socket: RawFd,
    /// The size of the terminal that the client knows of.
    size: Cell<Option<WindowSize>>,
    /// What its terminal is asked behind what was retained: nobody was there to answer.
    questions: RefCell<Vec<u8>>,
    /// The title that the client knows of, if it wants to.
    title: RefCell<Option<Box<Title>>>,
}

/// Serves an upgraded connection to its end.
pub(crate) async fn attach(
    server: &Rc<Server>,
    id: ProcessId,
    query: TerminalQuery,
    reader: &mut Reader,
    writer: &mut Writer,
) {
    let _present = present(|all| &all.viewers);
    let (_answering, questions) = match query.read_only {
        true => (None, None),
        false => Answering::begin(server, id).unzip(),
    };
    let session = Rc::new(Session {
        server: server.clone(),
        id,
        query,
        input: InputPump::new(server.clone(), id),
        peer: Peer::new(),
        flow: Flow::new(query.acknowledges, Instant::now()),
        socket: reader.socket(),
        size: Cell::new(None),
        questions: RefCell::new(questions.unwrap_or_default()),
        title: RefCell::new(query.extended.then(Box::default)),
    });
    tcp::keep_queue_short(session.socket, QUEUE_BYTES);
    if let Some(size) = query.size.filter(|_| !query.read_only) {
        // Before anything is shown. That of a program that has ended does not matter.
        let _ = sizes::set(server, id, size);
    }
    let _watching = Watching::new(server, id);
    // Not a third loop here: what was typed before the client left is still written.
    let viewer = session.clone();
    runtime::spawn(async move { viewer.input.pass_on(&viewer.peer).await });
    let on_message = async |message| session.on_message(message).await;
    let reading = session.peer.read(server, reader, on_message);
    let writing = session.write(writer);
    race(pin!(reading), pin!(writing)).await;
    session.input.close();
    // Whatever becomes of what was typed, there is nobody to tell.
    session.peer.gone();
}

impl Session {
    /// Handles a text or binary message. True if the client asked to end.
    async fn on_message(&self, message: Event) -> bool {
        match message {
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
            Event::Ping(_) | Event::Pong(_) | Event::Close(_) => {}
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
        let what = What::Data { data, offset: None };
        self.input.take(what, &self.peer).await;
    }

    fn resize(&self, cols: u16, rows: u16) {
        if self.query.read_only {
            return self.error("this connection is read-only");
        }
        match window(cols, rows) {
            Ok(size) => self.set_size(size),
            Err(problem) => self.error(&problem.detail()),
        }
    }

    fn set_size(&self, size: WindowSize) {
        // Others are told; this client knows.
        let before = self.size.replace(Some(size));
        match sizes::set(&self.server, self.id, size) {
            Ok(()) => return,
            Err(SizeError::NotRunning) => self.error("conflict: PTY resize handle unavailable"),
            Err(SizeError::Failed(errno)) => {
                let error = std::io::Error::from_raw_os_error(errno.raw_os_error());
                self.error(&format!(
                    "stream error: failed to resize the terminal: {error}"
                ));
            }
        }
        self.size.set(before);
    }

    /// The client has processed so many bytes of all that it was sent.
    fn acknowledged(&self, bytes: u64) {
        let round_trip = || tcp::round_trip(self.socket);
        match self.flow.acknowledged(bytes, Instant::now(), round_trip) {
            Some(worth) => {
                self.note_progress(worth);
                self.peer.ring();
            }
            None => self.error(&format!(
                "{bytes} bytes cannot be acknowledged: {} have been sent in binary frames",
                self.flow.bytes_sent()
            )),
        }
    }

    fn error(&self, message: &str) {
        self.peer.error(message);
    }
}
