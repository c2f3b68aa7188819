//! A user at a WebSocket: a terminal, or the three streams of pipes.
//!
//! Threads read standard input, signals and the socket, and send what they hear to one loop, which
//! is the only one that writes to the user. Input goes on when the connection has taken what was
//! there before.
//!
//! No input is sent twice. What never got into a connection that broke goes into the next one; what
//! was under way in it may have arrived or not, and the user is told of that. A ping behind each
//! piece tells what has: its answer comes when the piece has been read.

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::alternate::Alternate;
use super::context::PAUSE;
use super::detach::Keys;
use super::error::Result;
use super::logs;
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
    /// The terminal is to be drawn again.
    Redrawn,
}

/// What the loop hears of.
enum Heard {
    Message(std::result::Result<Message, ClientError>),
    Wish(Wish),
    /// Typed, and who waits to hear that a connection has taken it.
    Typed(Vec<u8>, SyncSender<()>),
    /// The end of standard input.
    InputEnded,
    Detach,
}

/// How far the input has come, in bytes since the beginning.
#[derive(Debug, Default)]
struct Progress {
    /// Given to a connection.
    queued: u64,
    /// With the kernel.
    written: Arc<AtomicU64>,
    /// Read by the server.
    arrived: u64,
    /// Under way in connections that broke.
    unsure: u64,
}

impl Progress {
    /// The server has read so much.
    fn arrived(&mut self, count: &[u8]) {
        if let Some(count) = count.first_chunk() {
            self.arrived = self.arrived.max(u64::from_be_bytes(*count));
        }
    }

    /// The connection is over, and nothing of it is written any more.
    fn cut(&mut self) -> u64 {
        let written = self.written.load(Ordering::Relaxed);
        let unsure = written.saturating_sub(self.arrived);
        // What was not written is given to the next connection.
        self.queued = written;
        self.arrived = written;
        self.unsure += unsure;
        unsure
    }
}

fn say_unsure(bytes: u64) {
    if bytes > 0 {
        crate::notice::line(format_args!(
            "the connection broke; {bytes} bytes of input were under way and may not have arrived"
        ));
    }
}

/// See the module.
pub(super) struct User {
    kind: Kind,
    /// The server can draw a terminal as it is.
    has_screen: bool,
    read_only: bool,
    /// Ctrl-\ at a terminal that is not raw leaves without ending anything.
    is_left_by_keys: bool,
    heard: Receiver<Heard>,
    hear: mpsc::Sender<Heard>,
    /// What the user did while there was no connection.
    pending: VecDeque<Heard>,
    raw: Option<Raw>,
    /// Which screen the output has been drawn on.
    alternate: Alternate,
    /// Ctrl-C was pressed before.
    is_interrupted: bool,
    /// Standard input has ended.
    has_ended: bool,
    input: Progress,
}

/// What Ctrl-C is in a raw terminal (ETX).
const CTRL_C: u8 = 3;

impl User {
    /// Begins to listen to the user.
    ///
    /// # Errors
    /// What is wrong with the terminal, or with this program's surroundings.
    pub(super) fn begin(
        kind: Kind,
        has_screen: bool,
        read_only: bool,
        keys: Option<Keys>,
    ) -> Result<Self> {
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
        // Who only looks on has no other way out of a raw terminal than keys.
        if !read_only || raw.is_some() {
            let keys = raw.as_ref().and(keys);
            let hear = hear.clone();
            signals::beside(move || read_input(keys, &hear))?;
        }
        Ok(Self {
            kind,
            has_screen,
            read_only,
            is_left_by_keys: is_typed && kind == Kind::Pipes,
            heard,
            hear,
            pending: VecDeque::new(),
            raw,
            alternate: Alternate::default(),
            is_interrupted: false,
            has_ended: false,
            input: Progress::default(),
        })
    }

    /// Where to connect, to go on behind entry `since` of the log. What a new terminal has shown so
    /// far is shown as it came, below what was there before; another one is drawn.
    pub(super) fn query(&self, since: Option<u64>) -> String {
        let mode = if self.read_only { "&mode=ro" } else { "" };
        match (self.kind, since) {
            (Kind::Terminal, since) => {
                let replay = match (self.has_screen, since) {
                    // An older one replays the end of what there was, the reference nothing.
                    (false, _) => "",
                    (true, Some(_)) => "replay=all",
                    (true, None) => "replay=screen",
                };
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
        let reader = signals::beside(move || {
            loop {
                let message = socket.receive();
                let is_last = matches!(message, Ok(Message::Close(_)) | Err(_));
                if messages.send(Heard::Message(message)).is_err() || is_last {
                    return socket;
                }
            }
        })?;
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
        drop(sender);
        // A reader that panics has said so.
        if let Ok(socket) = reader.join() {
            socket.end();
        }
        for heard in self.heard.try_iter() {
            match heard {
                Heard::Message(Ok(Message::Pong(count))) => self.input.arrived(&count),
                // What else the old connection says is not for the next one.
                Heard::Message(_) => {}
                heard => self.pending.push_back(heard),
            }
        }
        if let Ok(Ended::Cut | Ended::Redrawn) = ended {
            let unsure = self.input.cut();
            // On a terminal that is drawn again nobody could read it.
            if self.raw.is_none() {
                say_unsure(unsure);
            }
        }
        ended
    }

    /// Puts the user's terminal back, and what a program has left there that still runs or was killed
    /// before it could leave the screen itself.
    pub(super) fn leave(&mut self, is_drawn: bool) -> Result<()> {
        let was_raw = self.raw.take().is_some();
        if (is_drawn || terminal::is_taken()) && was_raw && output::is_for_people() {
            terminal::leave_screen()?;
        }
        if was_raw {
            say_unsure(self.input.unsure);
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
            Heard::Message(Ok(Message::Binary(bytes))) => {
                self.alternate.feed(&bytes);
                terminal::is_alternate(self.alternate.is_on());
                output::stdout(&bytes)?;
            }
            Heard::Message(Ok(Message::Text(text))) => return self.frame(&text, since),
            Heard::Message(Ok(Message::Pong(count))) => self.input.arrived(&count),
            Heard::Message(Ok(Message::Close(_)) | Err(_)) => return Ok(Some(Ended::Cut)),
            Heard::Typed(bytes, taken) if self.read_only => {
                let _ = taken.send(());
                if bytes.contains(&CTRL_C) {
                    return Ok(Some(Ended::Detached));
                }
            }
            Heard::InputEnded if self.read_only => {}
            Heard::Typed(bytes, taken) => {
                let data = STANDARD.encode(&bytes);
                let frame = json!({"type": "input", "data": data, "encoding": "base64"});
                let written = self.input.written.clone();
                let len = bytes.len() as u64;
                self.input.queued += len;
                let told = Box::new(move || {
                    written.fetch_add(len, Ordering::Relaxed);
                    // It may be on its way out.
                    let _ = taken.send(());
                });
                let _ = sender.text_told(frame.to_string(), told);
                let _ = sender.ping(self.input.queued.to_be_bytes().to_vec());
            }
            Heard::InputEnded => {
                self.has_ended = true;
                self.end_input(sender);
            }
            Heard::Detach => return Ok(Some(Ended::Detached)),
            Heard::Wish(Wish::Resized) => self.resize(sender),
            Heard::Wish(Wish::Continued) => {
                if let Some(raw) = &self.raw {
                    // It may have been hung up, which is heard of otherwise.
                    let _ = raw.again();
                    return Ok(Some(Ended::Redrawn));
                }
            }
            // Pipes leave the terminal as it is, in which the usual keys to leave are this signal.
            Heard::Wish(Wish::End(libc::SIGQUIT)) if self.is_left_by_keys => {
                return Ok(Some(Ended::Detached));
            }
            Heard::Wish(Wish::End(signal)) => return Ok(Some(Ended::Signal(signal))),
            Heard::Wish(Wish::Interrupt) => match (self.kind, self.is_interrupted) {
                // In raw mode Ctrl-C is a key; here somebody sent a signal, or stdin is no terminal.
                (Kind::Pipes, false) if !self.read_only => {
                    self.is_interrupted = true;
                    let frame = json!({"type": "signal", "signal": "SIGINT"});
                    let _ = sender.text(frame.to_string());
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
            "gap" => logs::say_lost(frame["bytes"].as_u64().unwrap_or(0)),
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
            let _ = sender.text(json!({"type": "eof"}).to_string());
        }
    }

    fn resize(&self, sender: &Sender) {
        if self.kind == Kind::Terminal
            && !self.read_only
            && let Some((cols, rows)) = terminal::size()
        {
            let frame = json!({"type": "resize", "cols": cols, "rows": rows});
            let _ = sender.text(frame.to_string());
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
        if !bytes.is_empty() && !pass_on(&bytes, hear) {
            return;
        }
        if is_leaving {
            let _ = hear.send(Heard::Detach);
            return;
        }
    }
}

/// Waits until a connection has taken a piece of the input. False if nobody listens any more.
fn pass_on(bytes: &[u8], hear: &mpsc::Sender<Heard>) -> bool {
    loop {
        let (taken, done) = mpsc::sync_channel(1);
        if hear.send(Heard::Typed(bytes.to_vec(), taken)).is_err() {
            return false;
        }
        if done.recv().is_ok() {
            return true;
        }
        // A connection that broke has not taken it; there will be another one.
        thread::sleep(PAUSE);
    }
}
