//! A run as a stream: what it writes, as it writes it, and how it ended.
//!
//! In: a run under way whose log waits for its reader (`process::backpressure`). Out: lines or events,
//! until the run is over and all of them are sent, or the client is gone. A client that is slow
//! slows the program down; nothing is left out. The program goes on while a piece is being sent, and
//! all pieces are made in one buffer.

use std::future::{pending, ready};
use std::ops::Range;
use std::pin::pin;
use std::rc::Rc;
use std::time::Instant;

use crate::api::stream::{Form, Streamed};
use crate::config::timeouts;
use crate::metrics::present;
use crate::process::Notify;
use crate::process::life::{End, State};
use crate::wire::http::chunked::{CHUNK_END, LAST_CHUNK, chunk_head};
use crate::wire::say::run::Format;
use crate::wire::sse;

use crate::io::conn::reader::{Filled, Reader};
use crate::io::conn::writer::Writer;
use crate::io::host::begun::Paused;
use crate::io::host::underway::Underway;
use crate::io::runtime::race::{First, race};
use crate::io::runtime::timer::sleep_until;
use crate::io::server::Server;
use crate::io::usage::usage_of;
use crate::io::wait::until;

/// Room before the body of a chunk for its size line.
const SIZE_LINE_BYTES: usize = 18;

/// What there is to do next.
enum Step {
    /// A piece has been encoded.
    Send,
    /// Nothing has come.
    Wait(Notify),
    /// All has been sent.
    Over(End),
}

/// Streams a run whose program has been started as `pid`, if it was, behind `head`. False if the
/// connection cannot go on.
pub(super) async fn stream(
    server: &Rc<Server>,
    underway: Underway,
    form: Form,
    (pid, head): (Option<i32>, Vec<u8>),
    reader: &mut Reader,
    body: &mut Body<'_>,
) -> bool {
    let streamed = Streamed::new(form);
    if let Some(pid) = pid {
        streamed.start(pid, underway.id(), body.begin());
    }
    let sent = body.first(head).await;
    go_on(server, underway, streamed, sent, reader, body).await
}

/// Goes on with a run that another server has stopped there. False if the connection cannot go on.
pub(super) async fn resume(
    server: &Rc<Server>,
    underway: Underway,
    at: Paused,
    reader: &mut Reader,
    body: &mut Body<'_>,
) -> bool {
    let streamed = Streamed::resumed(&at.position);
    body.goes_on_with(at.unsent);
    go_on(server, underway, streamed, Ok(()), reader, body).await
}

async fn go_on(
    server: &Rc<Server>,
    mut underway: Underway,
    mut streamed: Streamed,
    mut sent: std::io::Result<()>,
    reader: &mut Reader,
    body: &mut Body<'_>,
) -> bool {
    let format = streamed.format();
    let mut watch = Watch::new();
    let _present = present(|all| &all.streamed_runs);
    reader.expect_silence();
    loop {
        if sent.is_err() || !watch.goes_on(&underway, reader).await {
            underway.abandon();
            return false;
        }
        if server.holds.get() {
            let (position, unsent) = (streamed.position(), body.unsent().to_vec());
            underway.pauses(Some(Paused { position, unsent }));
            server.begins().await;
            underway.pauses(None);
        }
        if !body.unsent().is_empty() {
            sent = body.send_rest(server).await;
            continue;
        }
        match step(server, &underway, &mut streamed, body.begin()) {
            Step::Send => watch.speaks(),
            Step::Wait(changed) => {
                if watch.wait(changed, server, reader).await {
                    body.keep_alive(format);
                    watch.has_been_quiet(format);
                }
            }
            Step::Over(end) => {
                let took = underway.elapsed();
                let usage = match underway.tells_usage() {
                    true => usage_of(server, underway.job(), reader).await,
                    false => Some(None),
                };
                let Some(usage) = usage else {
                    underway.abandon();
                    return false;
                };
                let id = underway.finish(end);
                streamed.exit(end, took, (id, usage), body.begin());
                return body.send().await.is_ok() && body.end().await.is_ok();
            }
        }
        sent = match server.options.upgrades {
            // There may be another server to send the rest.
            Some(_) => {
                body.unsent = body.framed();
                body.send_rest(server).await
            }
            None => body.send().await,
        };
    }
}

/// Encodes what has come. What has not been encoded the program cannot outrun.
fn step(server: &Server, underway: &Underway, streamed: &mut Streamed, out: &mut Vec<u8>) -> Step {
    let mut table = server.table.borrow_mut();
    let Some((run, arena)) = table.job_mut(underway.job()) else {
        // Only its owner removes it.
        return Step::Over(End::TimedOut(None));
    };
    let last = run.last_of_run();
    let before = out.len();
    while let Some(taken) = streamed.take(&run.log, arena, last, out) {
        if let Some(backpressure) = run.backpressure_mut() {
            backpressure.take(taken.sequence, taken.bytes);
        }
        if out.len() > before {
            return Step::Send;
        }
    }
    match (run.life.state(), last) {
        (State::Over { end, .. }, Some(last)) if streamed.has_passed(last) => Step::Over(end),
        _ => Step::Wait(run.changed.clone()),
    }
}

/// How the client is watched.
struct Watch {
    /// It may say its end.
    listens: bool,
    /// It has said it: the run is ended then.
    kill_at: Option<Instant>,
    /// When there will have been nothing to say for so long that something is done about it.
    quiet_at: Option<Instant>,
}

impl Watch {
    fn new() -> Self {
        Self {
            listens: true,
            kill_at: None,
            quiet_at: Some(Instant::now() + timeouts::STREAM_KEEP_ALIVE_AFTER),
        }
    }

    /// Looks at the client without waiting. False if it is gone.
    async fn goes_on(&mut self, underway: &Underway, reader: &mut Reader) -> bool {
        if self.listens {
            match race(pin!(reader.lost()), pin!(ready(()))).await {
                First::Right(()) => {}
                First::Left(Filled::End) => {
                    // It may only have half-closed; what it is sent will tell.
                    self.listens = false;
                    if underway.dies_with_its_client() {
                        self.kill_at = Some(Instant::now() + timeouts::RUN_HALF_CLOSED_MAX);
                    }
                }
                First::Left(_) => return false,
            }
        }
        if self.kill_at.take_if(|at| *at <= Instant::now()).is_some() {
            underway.kill();
        }
        true
    }

    /// Waits until something has happened. Whether it is that nothing has for so long.
    async fn wait(&self, changed: Notify, server: &Server, reader: &mut Reader) -> bool {
        let until = self.kill_at.into_iter().chain(self.quiet_at).min();
        let changed = changed.changed(changed.version());
        let timer = async {
            match until {
                Some(until) => sleep_until(until).await,
                None => pending().await,
            }
        };
        let lost = async {
            match self.listens {
                true => reader.lost().await,
                false => pending().await,
            }
        };
        let (changed, timer) = (pin!(changed), pin!(timer));
        let held = pin!(server.held.changed(server.held.version()));
        let lost = pin!(lost);
        race(pin!(race(changed, timer)), pin!(race(lost, held))).await;
        self.quiet_at.is_some_and(|at| at <= Instant::now())
    }

    fn speaks(&mut self) {
        self.quiet_at = Some(Instant::now() + timeouts::STREAM_KEEP_ALIVE_AFTER);
    }

    fn has_been_quiet(&mut self, format: Format) {
        match format {
            Format::Events => self.speaks(),
            // There is nothing that lines could say meanwhile.
            Format::Lines => self.quiet_at = None,
        }
    }
}

/// The body of the answer: chunked, or as it is for HTTP/1.0.
pub(super) struct Body<'a> {
    writer: &'a mut Writer,
    chunked: bool,
    /// Room for a size line, and then what is to be sent.
    buffer: Vec<u8>,
    /// What of that has been framed and is still to be sent.
    unsent: Range<usize>,
}

impl<'a> Body<'a> {
    pub(super) fn new(writer: &'a mut Writer, chunked: bool) -> Self {
        Self {
            writer,
            chunked,
            buffer: vec![0; SIZE_LINE_BYTES],
            unsent: 0..0,
        }
    }

    /// Another server has framed this and could not send it.
    fn goes_on_with(&mut self, unsent: Vec<u8>) {
        self.unsent = 0..unsent.len();
        self.buffer = unsent;
    }

    /// What is framed and still to be sent.
    fn unsent(&self) -> &[u8] {
        self.buffer.get(self.unsent.clone()).unwrap_or_default()
    }

    /// Sends that, until nothing is to be begun any more.
    async fn send_rest(&mut self, server: &Server) -> std::io::Result<()> {
        let held = pin!(until(|| match server.holds.get() {
            true => Ok(()),
            false => Err(server.held.clone()),
        }));
        let buffer = std::mem::take(&mut self.buffer);
        let sent = self.writer.until(buffer, self.unsent.clone(), held).await;
        (self.buffer, self.unsent) = sent?;
        Ok(())
    }

    /// Begins a piece, of which nothing is there.
    fn begin(&mut self) -> &mut Vec<u8> {
        self.buffer.resize(SIZE_LINE_BYTES, 0);
        &mut self.buffer
    }

    /// Shows that the stream lives, where that can be said. A buffer that nobody needed for so long
    /// is given back.
    fn keep_alive(&mut self, format: Format) {
        self.buffer = Vec::new();
        let piece = self.begin();
        if format == Format::Events {
            piece.extend_from_slice(sse::KEEP_ALIVE);
        }
    }

    /// Ends the piece. Returns where it is in the buffer.
    fn framed(&mut self) -> Range<usize> {
        let len = self.buffer.len() - SIZE_LINE_BYTES;
        let mut start = SIZE_LINE_BYTES;
        if self.chunked && len > 0 {
            let mut line = [0; SIZE_LINE_BYTES];
            let line_len = chunk_head(len, &mut line);
            start -= line_len;
            self.buffer[start..SIZE_LINE_BYTES].copy_from_slice(&line[..line_len]);
            self.buffer.extend_from_slice(CHUNK_END);
        }
        start..self.buffer.len()
    }

    /// Sends the head, and the first piece behind it.
    async fn first(&mut self, mut head: Vec<u8>) -> std::io::Result<()> {
        let piece = self.framed();
        head.extend_from_slice(&self.buffer[piece]);
        self.writer.all(head).await
    }

    /// Sends the piece, if there is anything in it.
    async fn send(&mut self) -> std::io::Result<()> {
        let piece = self.framed();
        let buffer = std::mem::take(&mut self.buffer);
        self.buffer = self.writer.noting(buffer, piece, |_| {}).await?;
        Ok(())
    }

    async fn end(&mut self) -> std::io::Result<()> {
        if self.chunked {
            self.writer.all(LAST_CHUNK.to_vec()).await
        } else {
            Ok(())
        }
    }
}
