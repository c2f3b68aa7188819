//! A run that is streamed: the answer begins once its program runs.
//!
//! In: what to run. Out: a problem if it does not, else a head and the stream of `io::stream`.

use std::pin::pin;

use crate::api::Reply;
use crate::api::run::Run;
use crate::api::stream::Form;
use crate::budget::Charge;
use crate::wire::http::response::Length;
use crate::wire::say::run::Format;

use super::receive::Request;
use super::{Conn, Persistence};
use crate::io::host::admission::admit;
use crate::io::host::handed::Handed;
use crate::io::host::underway::{Underway, half_closed};
use crate::io::stream::{Body, resume, stream};
use crate::io::wait::{Waited, for_client};

impl Conn {
    /// Starts a run and streams it.
    pub(super) async fn stream(
        &mut self,
        mut request: Box<Request>,
        run: Box<Run>,
        form: Form,
        charge: Option<Charge>,
    ) -> Persistence {
        let server = self.server.clone();
        let reader = &mut self.reader;
        // It may have been in line before another server.
        let patience = run.timeout.saturating_sub(reader.waited());
        let place = match admit(&server, patience, half_closed(&run), reader).await {
            Ok(place) => place,
            Err(None) => return Persistence::Close,
            Err(Some(problem)) => return self.reply(&request, problem.reply()).await,
        };
        let begins = |job| self.reader.runs(job);
        let underway = match Underway::begin(&server, run, charge, place, begins) {
            Ok(underway) => underway,
            Err(problem) => return self.reply(&request, problem.reply()).await,
        };
        let started = {
            let started = pin!(underway.started());
            for_client(started, underway.limits(), &mut self.reader).await
        };
        let pid = match started {
            Waited::Done(Ok(pid)) => pid,
            Waited::Done(Err(error)) => {
                let problem = underway.refused(error);
                return self.reply(&request, problem.reply()).await;
            }
            Waited::TimeUp | Waited::Gone => {
                underway.abandon();
                return Persistence::Close;
            }
        };
        let cache = match form.format {
            Format::Lines => "no-store",
            Format::Events => "no-cache",
        };
        let reply = Reply::new(200)
            .typed(form.format.content_type(), Vec::new())
            .header("cache-control", cache)
            .header("x-accel-buffering", "no");
        let length = request.length_unknown();
        let chunked = length == Length::Chunked;
        let mut head = Vec::with_capacity(400);
        self.write_head(&request, &reply, length, &mut head);
        let mut body = Body::new(&mut self.writer, chunked);
        let whole = stream(
            &server,
            underway,
            form,
            (pid, head),
            &mut self.reader,
            &mut body,
        );
        let whole = whole.await;
        self.answers();
        self.after_stream(&request, whole)
    }

    /// Goes on with the stream of a run that another server has begun.
    pub(super) async fn stream_on(
        &mut self,
        mut request: Box<Request>,
        handed: Handed,
    ) -> Persistence {
        let server = self.server.clone();
        let chunked = request.length_unknown() == Length::Chunked;
        let Some((underway, Some(at))) = handed.take() else {
            return Persistence::Close;
        };
        self.reader.runs(underway.job());
        let mut body = Body::new(&mut self.writer, chunked);
        let whole = resume(&server, underway, at, &mut self.reader, &mut body).await;
        self.answers();
        self.after_stream(&request, whole)
    }
}
