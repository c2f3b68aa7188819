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
use crate::types::ProcessId;
use crate::wire::http::chunked::ChunkError;
use crate::wire::http::head::BodyFraming;
use crate::wire::http::response::CONTINUE;
use crate::wire::say::input::Accepted;

use crate::io::conn::body::Body;
use crate::io::conn::reader::{Filled, Reader};
use crate::io::conn::writer::Writer;
use crate::io::host::input::{Input, InputError, Offer, Progress};
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

/// A body on its way to a process.
struct Upload<'a> {
    server: &'a Server,
    id: ProcessId,
    input: &'a Rc<Input>,
    client: &'a mut Reader,
    /// Bytes written.
    written: u64,
}

/// What the request's head says of the body.
#[derive(Clone, Copy, Debug)]
pub(super) struct Announced {
    /// How it is framed.
    pub(super) framing: BodyFraming,
    /// The client waits to be told to send it.
    pub(super) expects_continue: bool,
}

/// Passes a body on, piece by piece. Gives the answer, and whether the body has been read to its
/// end; None if the client is gone. What of a body has been passed on stays so.
pub(super) async fn upload(
    server: &Server,
    id: ProcessId,
    query: StdinQuery,
    body: Announced,
    client: &mut Reader,
    writer: &mut Writer,
) -> Option<(Reply, bool)> {
    let Some(input) = server.input(id) else {
        return Some((not_running().reply(), false));
    };
    let mut upload = Upload {
        server,
        id,
        input: &input,
        client,
        written: 0,
    };
    let result = upload.all(query, body, writer).await;
    let taken = Accepted {
        bytes_written: upload.written,
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
    async fn all(
        &mut self,
        query: StdinQuery,
        announced: Announced,
        writer: &mut Writer,
    ) -> Result<(), Stop> {
        let place = self.input.body_ticket();
        let turn = place.turn(self.server, self.id);
        let turn = self.while_taken(pin!(turn)).await?;
        turn.ok_or(InputError::NotRunning)?;
        // Of no bytes: tells whether any are taken, and which of them were accepted before.
        let begin = Offer {
            offset: query.offset,
            ..Offer::default()
        };
        let mut skip = self.write(begin).await?;
        if announced.expects_continue
            && self.client.bytes().is_empty()
            && writer.all(CONTINUE.to_vec()).await.is_err()
        {
            return Err(Stop::Gone);
        }
        let mut body = Body::new(announced.framing, u64::MAX);
        loop {
            let (piece, done) = body.piece(self.client)?;
            let skipped = usize::try_from(skip).map_or(piece.len(), |skip| skip.min(piece.len()));
            skip -= skipped as u64;
            let offer = Offer {
                data: &piece[skipped..],
                offset: None,
                eof: done && query.eof,
            };
            if !offer.data.is_empty() || offer.eof {
                match self.write(offer).await {
                    Err(Stop::Over) if offer.data.is_empty() => {}
                    written => {
                        written?;
                    }
                }
            }
            if done {
                return Ok(());
            }
            drop(piece);
            // Some may have come while the process took the piece.
            if self.client.bytes().is_empty() && !self.more().await? {
                return self.last(&mut body).await;
            }
        }
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
    async fn last(&mut self, body: &mut Body) -> Result<(), Stop> {
        let server = self.server;
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

    /// Writes a piece in its turn; gives how many bytes were accepted before, from its offset on.
    async fn write(&mut self, offer: Offer<'_>) -> Result<u64, Stop> {
        let progress = Progress::default();
        let result = {
            let ticket = self.input.ticket();
            let write = ticket.write(self.server, self.id, offer, &progress);
            self.while_taken(pin!(write)).await
        };
        self.written += progress.written.get() as u64;
        result??;
        Ok(progress.skipped.get())
    }

    /// What `future` comes to, as long as the client is there and the process takes something now
    /// and then.
    async fn while_taken<F: Future>(&mut self, future: Pin<&mut F>) -> Result<F::Output, Stop> {
        let over = stuck(self.input, timeouts::STDIN_STUCK_AFTER);
        let half_closed = stuck(self.input, timeouts::HALF_CLOSED_MAX);
        match for_client_until(future, over, half_closed, self.client).await {
            Waited::Done(output) => Ok(output),
            Waited::TimeUp => Err(Stop::Problem(Problem::input_timeout())),
            Waited::Gone => Err(Stop::Gone),
        }
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
