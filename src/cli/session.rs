//! A user at a WebSocket: a terminal, or the three streams of pipes.
//!
//! Threads read standard input, signals and the socket, and send what they hear to one loop, which
//! is the only one that writes to the user. Input goes on when the connection has taken what was
//! there before.

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Read};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::detach::Keys;
use super::error::Result;
use super::output;
use super::signals::{self, Wish};
use super::terminal::{self, Raw};
use crate::client::{ClientError, Message, Sender, WebSocket};

/// Bytes of input that are sent at once.
const PIECE: usize = 16 << 10;

/// What is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A terminal.
    Terminal,
    /// Pipes.
    Pipes,
}

/// How a connection ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// The process has exited.
    Exited,
    /// The user wants out.
    Detached,
    /// This signal came.
    Signal(i32),
    /// It broke.
    Cut,
}

/// What the loop hears of.
enum Heard {
    Message(std::result::Result<Message, ClientError>),
    Wish(Wish),
    /// Typed, with what is dropped when it has been taken.
    Typed(Vec<u8>, SyncSender<()>),
    /// The end of standard input.
    InputEnded,
    Detach,
}

/// See the module.
pub(super) struct User {
    kind: Kind,
    /// The server can draw a terminal as it is.
    has_screen: bool,
    read_only: bool,
    heard: Receiver<Heard>,
    hear: mpsc::Sender<Heard>,
    /// What the user did while there was no connection.
    pending: VecDeque<Heard>,
    raw: Option<Raw>,
    /// Ctrl-C was pressed before.
    is_interrupted: bool,
    /// Standard input has ended.
    has_ended: bool,
}

impl User {
    /// Begins to listen to the user.
    pub(super) fn begin(kind: Kind, has_screen: bool, read_only: bool, keys: Keys) -> Result<Self> {
        let (hear, heard) = mpsc::channel();
        let wishes = hear.clone();
        signals::listen(move |wish| {
            // Nobody listens any more when it is over.
            let _ = wishes.send(Heard::Wish(wish));
        })?;
        let is_typed = io::stdin().is_terminal();
        let raw = if is_typed && kind == Kind::Terminal {
            Some(Raw::begin()?)
        } else {
            None
        };
        if !read_only {
            let keys = raw.is_some().then_some(keys);
            let hear = hear.clone();
            thread::spawn(move || read_input(keys, &hear));
        }
        Ok(Self {
            kind,
            has_screen,
            read_only,
            heard,
            hear,
            pending: VecDeque::new(),
            raw,
            is_interrupted: false,
            has_ended: false,
        })
    }

    /// Where to connect, to go on behind entry `since` of the log.
    pub(super) fn query(&self, since: Option<u64>) -> String {
        let mode = if self.read_only { "&mode=ro" } else { "" };
        match (self.kind, since) {
            (Kind::Terminal, _) => {
                // An older one replays the end of what there was, the reference nothing.
                let replay = if self.has_screen { "replay=screen" } else { "" };
                format!("/terminal/ws?{replay}{mode}")
            }
            (Kind::Pipes, Some(since)) => format!("/attach/ws?frames=json&since={since}{mode}"),
            (Kind::Pipes, None) => format!("/attach/ws?frames=json&tail=0{mode}"),
        }
    }

    /// Serves the user until the connection ends. `since` follows the log of pipes.
    pub(super) fn serve(
        &mut self,
        mut socket: WebSocket,
        since: &mut Option<u64>,
    ) -> Result<Ended> {
        let sender = socket.sender();
        let breaker = socket.breaker();
        let messages = self.hear.clone();
        let reader = thread::spawn(move || {
            loop {
                let message = socket.receive();
                let is_last = !matches!(message, Ok(Message::Text(_) | Message::Binary(_)));
                if messages.send(Heard::Message(message)).is_err() || is_last {
                    return;
                }
            }
        });
        if self.has_ended {
            self.end_input(&sender);
        }
        self.resize(&sender);
        let ended = loop {
            let Some(heard) = self.pending.pop_front().or_else(|| self.heard.recv().ok()) else {
                break Ok(Ended::Cut);
            };
            match self.hear_of(heard, &sender, since) {
                Ok(None) => {}
                Ok(Some(ended)) => break Ok(ended),
                Err(error) => break Err(error),
            }
        };
        breaker.end();
        // What the old connection still says is not for the next one.
        let _ = reader.join();
        let of_user = |heard: &Heard| !matches!(heard, Heard::Message(_));
        self.pending.extend(self.heard.try_iter().filter(of_user));
        ended
    }

    /// Puts the user's terminal back, and draws over what a program that still runs has left there.
    pub(super) fn leave(&mut self, is_drawn: bool) -> Result<()> {
        let was_raw = self.raw.take().is_some();
        if is_drawn && was_raw && output::is_for_people() {
            terminal::leave_screen()?;
        }
        Ok(())
    }

    fn hear_of(
        &mut self,
        heard: Heard,
        sender: &Sender,
        since: &mut Option<u64>,
    ) -> Result<Option<Ended>> {
        // A sender that fails belongs to a connection that breaks; its reader says so.
        match heard {
            Heard::Message(Ok(Message::Binary(bytes))) => output::stdout(&bytes)?,
            Heard::Message(Ok(Message::Text(text))) => return self.frame(&text, since),
            Heard::Message(Ok(Message::Close(_)) | Err(_)) => return Ok(Some(Ended::Cut)),
            Heard::Typed(bytes, taken) => {
                let data = STANDARD.encode(bytes);
                let frame = json!({"type": "input", "data": data, "encoding": "base64"});
                let _ = sender.text(frame.to_string(), Some(taken));
            }
            Heard::InputEnded => {
                self.has_ended = true;
                self.end_input(sender);
            }
            Heard::Detach => return Ok(Some(Ended::Detached)),
            Heard::Wish(Wish::Resized) => self.resize(sender),
            Heard::Wish(Wish::End(signal)) => return Ok(Some(Ended::Signal(signal))),
            Heard::Wish(Wish::Interrupt) => match (self.kind, self.is_interrupted) {
                // In raw mode Ctrl-C is a key; here somebody sent a signal, or stdin is no terminal.
                (Kind::Pipes, false) if !self.read_only => {
                    self.is_interrupted = true;
                    let frame = json!({"type": "signal", "signal": "SIGINT"});
                    let _ = sender.text(frame.to_string(), None);
                }
                _ => return Ok(Some(Ended::Signal(libc::SIGINT))),
            },
        }
        Ok(None)
    }

    /// A frame of the server's.
    fn frame(&self, text: &str, since: &mut Option<u64>) -> Result<Option<Ended>> {
        let frame: Value = serde_json::from_str(text).unwrap_or(Value::Null);
        match frame["type"].as_str().unwrap_or_default() {
            "output" => {
                let data = frame["data"].as_str().unwrap_or_default();
                let bytes = match frame["encoding"].as_str() {
                    Some("base64") => STANDARD.decode(data).unwrap_or_default(),
                    _ => data.as_bytes().to_vec(),
                };
                let is_error = frame["stream"] == "stderr";
                if is_error {
                    output::stderr(&bytes)?
                } else {
                    output::stdout(&bytes)?
                }
                *since = frame["sequence"].as_u64().or(*since);
            }
            "gap" => crate::notice::line(format_args!(
                "{} bytes are lost: the server had evicted them before they could be read",
                frame["bytes"]
            )),
            "exit" => return Ok(Some(Ended::Exited)),
            "error" => {
                let message = frame["message"].as_str().unwrap_or_default();
                let end = if self.raw.is_some() { "\r" } else { "" };
                crate::notice::line(format_args!("{message}{end}"));
            }
            _ => {}
        }
        Ok(None)
    }

    fn end_input(&self, sender: &Sender) {
        if self.kind == Kind::Pipes {
            let _ = sender.text(json!({"type": "eof"}).to_string(), None);
        }
    }

    fn resize(&self, sender: &Sender) {
        if self.kind == Kind::Terminal
            && !self.read_only
            && let Some((cols, rows)) = terminal::size()
        {
            let frame = json!({"type": "resize", "cols": cols, "rows": rows});
            let _ = sender.text(frame.to_string(), None);
        }
    }
}

/// Reads standard input to its end, or until the user wants out.
fn read_input(mut keys: Option<Keys>, hear: &mpsc::Sender<Heard>) {
    let mut buffer = vec![0; PIECE];
    loop {
        let read = match io::stdin().lock().read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Ok(0) | Err(_) => {
                let _ = hear.send(Heard::InputEnded);
                return;
            }
            Ok(read) => read,
        };
        let (bytes, is_leaving) = match &mut keys {
            Some(keys) => keys.feed(&buffer[..read]),
            None => (buffer[..read].to_vec(), false),
        };
        if !bytes.is_empty() {
            let (taken, done) = mpsc::sync_channel(0);
            if hear.send(Heard::Typed(bytes, taken)).is_err() {
                return;
            }
            // Nothing is ever sent: the other end is dropped.
            let _ = done.recv();
        }
        if is_leaving {
            let _ = hear.send(Heard::Detach);
            return;
        }
    }
}
