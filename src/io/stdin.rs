//! What a request sends to the input of a process, and its answer.
//!
//! In: an input, a body that comes in pieces, or the wish for the end of input. Out: bytes in the
//! order of [`crate::io::host::input`], and the answer once they are taken. A body is read only as
//! fast as the process takes it: one piece is being written, and the reader holds about as much
//! again.

use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::api::control::accepted;
use crate::api::query::StdinQuery;
use crate::api::{Problem, Reply};
use crate::config::timeouts;
use crate::ledger::heritage;
use crate::types::ProcessId;
use crate::wire::http::chunked::ChunkError;
use crate::wire::http::head::BodyFraming;
use crate::wire::http::response::CONTINUE;
use crate::wire::say::input::Accepted;

use crate::io::conn::body::{Body, Piece};
use crate::io::conn::reader::{Filled, Reader};
use crate::io::conn::writer::Writer;
use crate::io::host::input::{BodyTicket, Input, InputError, Offer, Progress};
use crate::io::runtime::race::{First, race};
use crate::io::runtime::timer::{sleep, sleep_until};
use crate::io::server::Server;
use crate::io::wait::{Limits, Waited, exited, for_client, for_client_until, until};

fn not_running() -> Problem {
    Problem::conflict("process is not running")
}

impl From<InputError> for Problem {
    fn from(error: InputError) -> Self {
        match error {
            InputError::NotRunning => not_running(),
            InputError::Closed => Problem::stdin_closed(),
            InputError::Ahead { offset, accepted } => Problem::stdin_offset(offset, accepted),
            InputError::Failed(errno) => {
                let errno = errno.raw_os_error();
                let error = std::io::Error::from_raw_os_error(errno);
                Problem::stream(format!("failed to write stdin: {error}"), Some(errno))
            }
        }
    }
}

/// Writes an input; None if the client is gone, and with it the rest of the input.
pub(super) async fn input(
    server: &Server,
    id: ProcessId,
    offer: Offer<'_>,
    client: &mut Reader,
) -> Option<Reply> {
    let Some(input) = server.input(id) else {
        return Some(not_running().reply());
    };
    let progress = Progress::default();
    let result = {
        let ticket = input.ticket();
        let write = ticket.write(server, id, offer, &progress);
        let limits = Limits {
            in_all: Some(timeouts::INPUT_PATIENCE),
            half_closed: timeouts::INPUT_PATIENCE,
        };
        for_client(pin!(write), limits, client).await
    };
    let taken = Accepted {
        bytes_written: progress.written.get() as u64,
        offset: offer.offset.map(|_| input.accepted()),
    };
    match result {
        Waited::Done(Ok(())) => Some(accepted(taken)),
        Waited::Done(Err(error)) => Some(Problem::from(error).reply()),
        Waited::TimeUp => Some(Problem::input_timeout().accepted(taken).reply()),
        Waited::Gone => None,
    }
}

/// Ends the input of a process; None if the client is gone.
pub(super) async fn close(server: &Server, id: ProcessId, client: &mut Reader) -> Option<Reply> {
    let ended = || Reply::new(204);
    let Some(to) = server.input(id) else {
        return Some(ended());
    };
    if to.end() {
        return Some(ended());
    }
    let offer = Offer {
        eof: true,
        ..Offer::default()
    };
    let reply = input(server, id, offer, client).await?;
    // The end of its input has come to one that ends meanwhile, too.
    let over = server.input(id).is_none();
    Some(if reply.status == 200 || over {
        ended()
    } else {
        reply
    })
}

/// Why a body was not passed on to its end.
enum Stop {
    Problem(Problem),
    /// The process is over.
    Over,
    /// Nobody is there to be told.
    Gone,
}

impl From<InputError> for Stop {
    fn from(error: InputError) -> Self {
        match error {
            InputError::NotRunning => Stop::Over,
            error => Stop::Problem(error.into()),
        }
    }
}

impl From<ChunkError> for Stop {
    fn from(error: ChunkError) -> Self {
        let message = format!("the chunked request body is malformed: {error}");
        Stop::Problem(Problem::unreadable(error.status(), message))
    }
}

/// A body on its way to a process. What it holds is whole whenever it waits, so that it can stand still
/// at any such moment and go on, in this server or in another one.
struct Upload<'a> {
    server: &'a Server,
    id: ProcessId,
    input: &'a Rc<Input>,
    /// Among the bodies for that.
    place: BodyTicket,
    client: &'a mut Reader,
    /// Bytes written of pieces that are done with.
    written: u64,
    /// What is to come; None before its turn has come.
    body: Option<Body>,
    /// Bytes of that which are not to be passed on.
    skip: u64,
    /// What is being passed on, and whether it is the last of the body.
    piece: Option<(Piece, bool)>,
    /// How much of that is written.
    progress: Progress,
}

/// What the request's head says of the body.
#[derive(Clone, Copy, Debug)]
pub(super) struct Announced {
    /// How it is framed.
    pub(super) framing: BodyFraming,
    /// The client waits to be told to send it.
    pub(super) expects_continue: bool,
}

/// Passes a body on, piece by piece; `before` is what another server has told of it. Gives the answer,
/// and whether the body has been read to its end; None if the client is gone. What of a body has been
/// passed on stays so.
pub(super) async fn upload(
    server: &Server,
    id: ProcessId,
    query: StdinQuery,
    body: Announced,
    before: Option<heritage::Upload>,
    (client, writer): (&mut Reader, &mut Writer),
) -> Option<(Reply, bool)> {
    let before = before.filter(|before| before.is_begun);
    let written = before.as_ref().map_or(0, |before| before.written);
    let Some(input) = server.input(id) else {
        let reply = match before {
            None => not_running(),
            Some(_) => not_running().accepted(Accepted {
                bytes_written: written,
                offset: None,
            }),
        };
        return Some((reply.reply(), false));
    };
    let mut upload = Upload {
        server,
        id,
        input: &input,
        place: input.body_ticket(),
        client,
        written,
        body: before.as_ref().map(|before| Body::rest(before.left)),
        skip: before.as_ref().map_or(0, |before| before.skip),
        piece: before.map(|before| (Piece::of(before.piece.0), before.is_last)),
        progress: Progress::default(),
    };
    let result = loop {
        let stills = until(|| match server.stills.get() {
            true => Ok(()),
            false => Err(server.held.clone()),
        });
        let step = {
            let step = pin!(upload.step(query));
            race(step, pin!(stills)).await
        };
        match step {
            First::Left(Ok(true)) => break Ok(()),
            First::Left(Ok(false)) => {
                if body.expects_continue
                    && upload.client.bytes().is_empty()
                    && writer.all(CONTINUE.to_vec()).await.is_err()
                {
                    break Err(Stop::Gone);
                }
                upload.body = Some(Body::new(body.framing, u64::MAX));
            }
            First::Left(Err(stop)) => break Err(stop),
            First::Right(()) => upload.stand_still().await,
        }
    };
    let taken = Accepted {
        bytes_written: upload.written(),
        offset: Some(input.accepted()),
    };
    match result {
        Ok(()) => Some((accepted(taken), true)),
        Err(Stop::Problem(problem)) => Some((problem.accepted(taken).reply(), false)),
        Err(Stop::Over) => Some((not_running().accepted(taken).reply(), false)),
        Err(Stop::Gone) => None,
    }
}

impl Upload<'_> {
    /// Waits until it begins, or passes all of it on, whichever is next; whether it was that.
    async fn step(&mut self, query: StdinQuery) -> Result<bool, Stop> {
        let turn = self.place.turn(self.server, self.id);
        let turn = while_taken(pin!(turn), self.input, self.client).await?;
        turn.ok_or(InputError::NotRunning)?;
        if self.body.is_some() {
            return self.pass_all_on(query.eof).await.map(|()| true);
        }
        // Of no bytes: tells whether any are taken, and which of them were accepted before.
        let begin = Offer {
            offset: query.offset,
            ..Offer::default()
        };
        let progress = Progress::default();
        let ticket = self.input.ticket();
        let write = ticket.write(self.server, self.id, begin, &progress);
        while_taken(pin!(write), self.input, self.client).await??;
        self.skip = progress.skipped.get();
        Ok(false)
    }

    async fn pass_all_on(&mut self, eof: bool) -> Result<(), Stop> {
        loop {
            if self.piece.is_none() {
                // Some may have come while the process took the piece before.
                self.take_piece()?;
            }
            if let Some(done) = self.pass_on(eof).await? {
                self.piece = None;
                if done {
                    return Ok(());
                }
            }
            if self.client.bytes().is_empty() && !self.more().await? {
                return self.last().await;
            }
        }
    }

    /// Takes what has come of the body.
    fn take_piece(&mut self) -> Result<(), Stop> {
        let Some(body) = &mut self.body else {
            return Ok(());
        };
        let (mut piece, done) = body.piece(self.client)?;
        let skipped = usize::try_from(self.skip).map_or(piece.len(), |skip| skip.min(piece.len()));
        self.skip -= skipped as u64;
        piece.skip(skipped);
        self.piece = Some((piece, done));
        Ok(())
    }

    /// Writes what is left of the piece; whether it was the last.
    async fn pass_on(&mut self, eof: bool) -> Result<Option<bool>, Stop> {
        let Some((piece, done)) = &self.piece else {
            return Ok(None);
        };
        let data = piece.get(self.progress.written.get()..).unwrap_or_default();
        let offer = Offer {
            data,
            offset: None,
            eof: *done && eof,
        };
        if !offer.data.is_empty() || offer.eof {
            let ticket = self.input.ticket();
            let write = ticket.write(self.server, self.id, offer, &self.progress);
            match while_taken(pin!(write), self.input, self.client).await? {
                Err(InputError::NotRunning) if data.is_empty() => {}
                written => written?,
            }
        }
        self.written += self.progress.written.take() as u64;
        Ok(Some(*done))
    }

    /// Bytes that were written.
    fn written(&self) -> u64 {
        self.written + self.progress.written.get() as u64
    }

    /// Stands still until another server has the connection, or this one goes on.
    async fn stand_still(&mut self) {
        let Some(standing) = self.client.standing() else {
            return self.server.begins().await;
        };
        let written = self.progress.written.take();
        self.written += written as u64;
        let (mut piece, mut is_last) = (Vec::new(), false);
        if let Some((rest, last)) = &mut self.piece {
            rest.skip(written);
            (piece, is_last) = (rest.to_vec(), *last);
        }
        let (way, made_up) = self.body.as_ref().map(Body::way).unwrap_or_default();
        let about = heritage::Upload {
            is_begun: self.body.is_some(),
            written: self.written,
            skip: self.skip + made_up,
            left: self.body.as_ref().and_then(Body::left),
            piece: heritage::Text(piece),
            is_last,
        };
        standing.stands_still(Some((about, way)), self.client.bytes());
        let begins = self.server.begins();
        let lost = async {
            self.client.lost().await;
            std::future::pending::<()>().await;
        };
        race(pin!(begins), pin!(lost)).await;
        standing.stands_still(None, &[]);
    }

    /// Waits for the client to send more. False if the process ends first.
    async fn more(&mut self) -> Result<bool, Stop> {
        let over = exited(self.server, self.id);
        match race(pin!(self.client.fill()), pin!(over)).await {
            First::Left(filled) => came(filled).map(|()| true),
            First::Right(()) => Ok(false),
        }
    }

    /// The process has ended. It may have taken all of the body, as `tar` does, and nothing but the
    /// body's end is still on its way. A server that ends has no time to wait for that.
    async fn last(&mut self) -> Result<(), Stop> {
        let server = self.server;
        let Some(body) = &mut self.body else {
            return Err(Stop::Over);
        };
        let mut over = pin!(async {
            let ending = until(|| match server.shutting_down.get() {
                true => Ok(()),
                false => Err(server.ending.clone()),
            });
            let patience = sleep(timeouts::BODY_END_PATIENCE);
            race(pin!(ending), pin!(patience)).await;
        });
        loop {
            let (piece, done) = body.piece(self.client)?;
            if !piece.is_empty() {
                return Err(Stop::Over);
            }
            if done {
                return Ok(());
            }
            match race(pin!(self.client.fill()), over.as_mut()).await {
                First::Left(filled) => came(filled)?,
                First::Right(()) => return Err(Stop::Over),
            }
        }
    }
}

/// What `future` comes to, as long as the client is there and the process takes something now and
/// then.
async fn while_taken<F: Future>(
    future: Pin<&mut F>,
    input: &Input,
    client: &mut Reader,
) -> Result<F::Output, Stop> {
    let over = stuck(input, timeouts::STDIN_STUCK_AFTER);
    let half_closed = stuck(input, timeouts::HALF_CLOSED_MAX);
    match for_client_until(future, over, half_closed, client).await {
        Waited::Done(output) => Ok(output),
        Waited::TimeUp => Err(Stop::Problem(Problem::input_timeout())),
        Waited::Gone => Err(Stop::Gone),
    }
}

/// What a read of a body brought, if there is more of it.
fn came(filled: Filled) -> Result<(), Stop> {
    match filled {
        Filled::Data => Ok(()),
        Filled::End => Err(Stop::Problem(Problem::unreadable(
            400,
            "the request body broke off before its end",
        ))),
        Filled::Broken => Err(Stop::Gone),
    }
}

/// Completes when the process has taken nothing for so long, from now on.
async fn stuck(input: &Input, patience: Duration) {
    let begun = Instant::now();
    loop {
        let until = input.taken().max(begun) + patience;
        if until <= Instant::now() {
            return;
        }
        sleep_until(until).await;
    }
}
