//! Waiting on behalf of a client: for a condition, until a time, as long as somebody listens.
//!
//! In: where to look, what tells when to look again, and the client's end of the connection. Out:
//! what was found, or why it is no longer waited for. Every request that is answered once waits
//! here (streams watch their client themselves), so that each of these waits has an end and watches
//! its client: one that has gone must not keep its connection for as long as it has asked for.
//!
//! A client that has sent FIN may have gone, or it has said all that it has to say and listens
//! (`nc -N`). The kernel shows no difference until something is sent, and an answer can be sent
//! once. So it is waited for a little longer, and then answered with things as they are.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use crate::io::conn::reader::{Filled, Reader};
use crate::io::runtime::race::{First, race};
use crate::io::runtime::timer::sleep;
use crate::io::server::Server;
use crate::process::{Notify, Process};
use crate::types::{JobId, ProcessId};

/// Whoever waits for an answer.
pub(crate) trait Client {
    /// Completes when it no longer listens, as far as that can be seen.
    fn lost(&mut self) -> impl Future<Output = Filled>;

    /// What it has asked for is about to begin, as this job.
    fn begins(&self, _job: JobId) {}

    /// How long it has waited before this server was asked.
    fn waited(&self) -> Duration {
        Duration::ZERO
    }
}

impl Client for Reader {
    fn lost(&mut self) -> impl Future<Output = Filled> {
        Reader::lost(self)
    }

    fn begins(&self, job: JobId) {
        self.runs(job);
    }

    fn waited(&self) -> Duration {
        Reader::waited(self)
    }
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited<T> {
    /// What was waited for has come.
    Done(T),
    /// It has not, and the client is to be answered now.
    TimeUp,
    /// Nobody listens any more.
    Gone,
}

/// How long somebody is waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// In all; None if what is waited for has an end of its own.
    pub(crate) in_all: Option<Duration>,
    /// From the client's FIN on.
    pub(crate) half_closed: Duration,
}

/// Completes with what `look` finds. As long as it finds nothing, it gives what tells of changes.
pub(crate) async fn until<T>(mut look: impl FnMut() -> Result<T, Notify>) -> T {
    loop {
        match look() {
            Ok(found) => return found,
            Err(changed) => changed.changed(changed.version()).await,
        }
    }
}

/// Completes when `done` is true of a process, or it is gone.
pub(crate) async fn until_process(server: &Server, id: ProcessId, done: impl Fn(&Process) -> bool) {
    until(|| match server.table.borrow().get(id) {
        Some(process) if !done(process) => Err(process.changed.clone()),
        _ => Ok(()),
    })
    .await;
}

/// Completes when a process is shown as exited, or is gone.
pub(crate) async fn exited(server: &Server, id: ProcessId) {
    until_process(server, id, |process| !process.life.is_running()).await;
}

/// Waits for `what` as long as `client` listens, within `limits`.
// Not made of the function below, whose futures each waiter would have room for twice.
pub(crate) fn for_client<F: Future>(
    mut what: Pin<&mut F>,
    limits: Limits,
    client: &mut impl Client,
) -> impl Future<Output = Waited<F::Output>> {
    let mut over = limits.in_all.map(sleep);
    let half_closed = limits.half_closed;
    async move {
        let mut silence = pin!(async {
            match client.lost().await {
                Filled::End => sleep(half_closed).await,
                Filled::Data | Filled::Broken => return Waited::Gone,
            }
            Waited::TimeUp
        });
        poll_fn(|cx| {
            if let Poll::Ready(output) = what.as_mut().poll(cx) {
                return Poll::Ready(Waited::Done(output));
            }
            if let Some(over) = &mut over
                && Pin::new(over).poll(cx).is_ready()
            {
                return Poll::Ready(Waited::TimeUp);
            }
            silence.as_mut().poll(cx)
        })
        .await
    }
}

/// Waits for `what` as long as `client` listens, until `over` completes; once the client has sent
/// FIN also until `half_closed` does, which begins then.
pub(crate) async fn for_client_until<F: Future>(
    what: Pin<&mut F>,
    over: impl Future<Output = ()>,
    half_closed: impl Future<Output = ()>,
    client: &mut impl Client,
) -> Waited<F::Output> {
    let silence = async {
        match client.lost().await {
            Filled::End => {
                half_closed.await;
                Waited::TimeUp
            }
            Filled::Data | Filled::Broken => Waited::Gone,
        }
    };
    let end = pin!(async {
        match race(pin!(over), pin!(silence)).await {
            First::Left(()) => Waited::TimeUp,
            First::Right(end) => end,
        }
    });
    match race(what, end).await {
        First::Left(output) => Waited::Done(output),
        First::Right(end) => end,
    }
}
