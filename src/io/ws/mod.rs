//! What every WebSocket of a process is: a client that is read and written at the same time.
//!
//! In: an upgraded connection, what its messages mean, what else there is to say. Out: messages to
//! whoever knows what they mean, frames to the client, a clean close. Two loops share one task: one
//! reads the client, one writes to it; what the first has to say goes through a small outbox. Knows
//! no process; [`input_pump`] passes on to one what the client types.

pub(crate) mod input_pump;
pub(crate) mod input_queue;
pub(crate) mod liveness;

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::time::Instant;

use crate::api::Problem;
use crate::budget::{Charge, Kind};
use crate::config::timeouts;
use crate::process::Notify;
use crate::wire::say::terminal as say;
use crate::wire::ws::close::{write_close, write_echo};
use crate::wire::ws::frame::{Opcode, write_frame};
use crate::wire::ws::message::{Event, Reader as Messages, ReaderLimits};

use crate::io::conn::reader::{Filled, Reader};
use crate::io::conn::writer::Writer;
use crate::io::memory::SMALL_BYTES;
use crate::io::runtime::lane::Steps;
use crate::io::runtime::race::race;
use crate::io::runtime::timer::{sleep, sleep_until, within};
use crate::io::server::Server;
use crate::io::ws::liveness::{Liveness, Verdict};

/// Bytes of one message, as much as the reference takes.
pub(crate) const MESSAGE_BYTES_MAX: u64 = 16 << 20;

/// Answers that wait to be written; a client that asks faster than it reads waits.
const OUTBOX_BYTES_MAX: usize = 64 << 10;

/// Close code of RFC 6455, 7.4.1.
pub(crate) const CLOSE_NORMAL: u16 = 1000;

/// Close code of the IANA registry for RFC 6455: another server goes on, come back.
const CLOSE_RESTART: u16 = 1012;

/// The same for: not now, perhaps later.
const CLOSE_TRY_AGAIN: u16 = 1013;

/// Charges a message for as long as its end has not come.
fn hold(server: &Server, charge: &mut Option<Charge>, bytes: u64) -> Result<(), Problem> {
    match charge {
        _ if bytes < SMALL_BYTES => *charge = None,
        Some(charge) => server.recharge(charge, bytes)?,
        None => *charge = Some(server.charge(Kind::Bodies, bytes)?),
    }
    Ok(())
}

/// One client, as both loops see it.
#[derive(Debug)]
pub(crate) struct Peer {
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

/// What comes of waiting for something to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Idle {
    /// Look again.
    Look,
    /// The client has not been heard for too long.
    Dead,
}

impl Peer {
    /// A client that has just come.
    pub(crate) fn new() -> Self {
        Self {
            outbox: RefCell::new(Vec::new()),
            closing: Cell::new(false),
            close_sent: Cell::new(false),
            bell: Notify::default(),
            heard: Cell::new(Instant::now()),
        }
    }

    /// Reads the client until it is gone or has had time to see a close through. `on_message` gets
    /// its texts and its binary messages; true ends the connection.
    pub(crate) async fn read(
        &self,
        server: &Server,
        reader: &mut Reader,
        on_message: impl AsyncFn(Event) -> bool,
    ) {
        let limits = ReaderLimits {
            frame_bytes_max: MESSAGE_BYTES_MAX,
            message_bytes_max: MESSAGE_BYTES_MAX,
        };
        let mut messages = Messages::new(limits);
        let mut charge: Option<Charge> = None;
        let mut steps = Steps::default();
        loop {
            let mut began = Instant::now();
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
                    Ok(Some(Event::Ping(payload))) => {
                        self.send(|out| write_frame(Opcode::Pong, &payload, out));
                    }
                    Ok(Some(Event::Pong(_))) => {}
                    Ok(Some(message @ (Event::Text(_) | Event::Binary(_)))) => {
                        // Boxed: most of the time there is no message.
                        if Box::pin(on_message(message)).await {
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
                // A message may be a byte, and thousands of them may be there.
                if server.messages.is_piece(&mut steps, began.elapsed()) {
                    Box::pin(server.messages.turn()).await;
                }
                self.room_in_outbox().await;
                began = Instant::now();
            }
            reader.consume(there);
            let held = messages.held_bytes() as u64;
            if let Some(frame) = self.refused(hold(server, &mut charge, held)) {
                return self.close(&frame).await;
            }
            match reader.fill().await {
                Filled::Data => self.heard(),
                Filled::End | Filled::Broken => return,
            }
        }
    }

    /// What a message is refused with for which there is no memory.
    fn refused(&self, held: Result<(), Problem>) -> Option<Vec<u8>> {
        self.error(&held.err()?.detail());
        let mut frame = Vec::new();
        write_close(CLOSE_TRY_AGAIN, "no memory for this message", &mut frame);
        Some(frame)
    }

    /// The client has been heard; also if it could not be, because it was not read.
    pub(crate) fn heard(&self) {
        self.heard.set(Instant::now());
    }

    /// Has an error frame sent.
    pub(crate) fn error(&self, message: &str) {
        self.send(|out| write_frame(Opcode::Text, &say::error(message), out));
    }

    /// Has frames sent, unless a Close has been.
    pub(crate) fn send(&self, write: impl FnOnce(&mut Vec<u8>)) {
        if !self.close_sent.get() {
            write(&mut self.outbox.borrow_mut());
            self.bell.notify();
        }
    }

    /// Has the writing loop look again.
    pub(crate) fn ring(&self) {
        self.bell.notify();
    }

    /// Nobody is there any more: nothing is sent from now on.
    pub(crate) fn gone(&self) {
        self.close_sent.set(true);
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

    /// What [`Peer::idle`] is to be told: to be asked before [`Peer::flush`].
    pub(crate) fn seen(&self) -> u64 {
        self.bell.version()
    }

    /// Sends what the reading loop left. True if that was the last.
    ///
    /// # Errors
    /// As [`Writer::all`].
    pub(crate) async fn flush(&self, writer: &mut Writer) -> std::io::Result<bool> {
        let closing = self.closing.get();
        let outbox = std::mem::take(&mut *self.outbox.borrow_mut());
        if !outbox.is_empty() {
            writer.all(outbox).await?;
            self.bell.notify();
        }
        Ok(closing)
    }

    /// Waits until the outbox has something that was not there at `seen`, `news` come, the time is
    /// `until`, or the client is to be asked whether it lives.
    pub(crate) async fn idle(
        &self,
        liveness: &mut Liveness,
        seen: u64,
        news: impl Future<Output = ()>,
        until: Option<Instant>,
    ) -> Idle {
        let mut at = match liveness.judge(self.heard.get(), Instant::now()) {
            Verdict::WaitUntil(at) => at,
            Verdict::Ask => {
                self.send(|out| write_frame(Opcode::Ping, b"", out));
                return Idle::Look;
            }
            Verdict::Dead => return Idle::Dead,
        };
        if let Some(until) = until {
            at = at.min(until);
        }
        let (news, outbox) = (pin!(news), pin!(self.bell.changed(seen)));
        race(pin!(race(news, outbox)), pin!(sleep_until(at))).await;
        Idle::Look
    }

    /// Sends a Close that tells the client to come back, and waits for nothing.
    ///
    /// # Errors
    /// As [`Writer::all`].
    pub(crate) async fn leave(&self, writer: &mut Writer) -> std::io::Result<()> {
        let mut frame = Vec::new();
        if !self.close_sent.replace(true) {
            write_close(CLOSE_RESTART, "another server goes on", &mut frame);
        }
        writer.all(frame).await
    }

    /// Sends a Close and waits for the client's.
    ///
    /// # Errors
    /// As [`Writer::all`].
    pub(crate) async fn finish(
        &self,
        writer: &mut Writer,
        code: u16,
        reason: &str,
    ) -> std::io::Result<()> {
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
}

/// A text frame.
pub(crate) fn framed(text: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(text.len() + 10);
    write_frame(Opcode::Text, text, &mut frame);
    frame
}
