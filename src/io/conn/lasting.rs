//! Answers that last: they go on for as long as a process, a wait or the server does.
//!
//! In: the request, and what is to be sent. Out: a head, then the body from the file of `io` that
//! knows it, and what becomes of the connection.

use crate::api::Reply;
use crate::api::bytes::Bytes;
use crate::api::wait::Wait;
use crate::log::Cursor;
use crate::types::ProcessId;
use crate::wire::http::response::Length;

use super::receive::Request;
use super::{Conn, Persistence};
use crate::io::bytes::send;
use crate::io::events::{Watch, events};
use crate::io::follow::follow;
use crate::io::recording::record;
use crate::io::wait_for::wait_for;

impl Conn {
    pub(super) async fn wait(
        &mut self,
        request: Box<Request>,
        id: ProcessId,
        mut wait: Box<Wait>,
    ) -> Persistence {
        if request.head_only {
            // What would be said is not known, so neither is its length.
            let reply = Reply::new(200).typed("application/json", Vec::new());
            let reply = reply.header("cache-control", "no-store");
            let mut out = Vec::with_capacity(320);
            self.write_head(&request, &reply, Length::Absent, &mut out);
            drop(reply);
            let sent = self.writer.all(out).await.is_ok();
            return self.after_stream(&request, sent);
        }
        if let Some(standing) = &self.standing {
            // It has waited for a part of this before another server.
            wait.timeout = wait.timeout.saturating_sub(standing.waited());
        }
        self.reader.expect_silence();
        match wait_for(&self.server, id, wait, &mut self.reader).await {
            Some(reply) => Box::pin(self.reply(&request, reply)).await,
            None => Persistence::Close,
        }
    }

    pub(super) async fn bytes(
        &mut self,
        mut request: Box<Request>,
        bytes: Box<Bytes>,
    ) -> Persistence {
        let length = match bytes.length {
            Some(length) => Length::Known(length),
            None => request.length_unknown(),
        };
        let mut out = Vec::with_capacity(512);
        self.write_head(&request, &bytes.reply, length, &mut out);
        let whole = if request.head_only {
            self.writer.all(out).await.is_ok()
        } else {
            let (reader, writer) = (&mut self.reader, &mut self.writer);
            send(&self.server, bytes, out, length, reader, writer).await
        };
        self.after_stream(&request, whole)
    }

    pub(super) async fn follow(
        &mut self,
        request: Box<Request>,
        id: ProcessId,
        cursor: Box<Cursor>,
    ) -> Persistence {
        let Some((request, chunked)) = self.begin_events(request).await else {
            return Persistence::Close;
        };
        let (reader, writer) = (&mut self.reader, &mut self.writer);
        let whole =
            request.head_only || follow(&self.server, id, cursor, chunked, reader, writer).await;
        self.after_stream(&request, whole)
    }

    pub(super) async fn events(&mut self, request: Box<Request>, watch: Watch) -> Persistence {
        let Some((request, chunked)) = self.begin_events(request).await else {
            return Persistence::Close;
        };
        let (reader, writer) = (&mut self.reader, &mut self.writer);
        let whole = request.head_only || events(&self.server, watch, chunked, reader, writer).await;
        self.after_stream(&request, whole)
    }

    /// Sends the head of an event stream, and says whether its body comes in chunks. None if the
    /// connection cannot go on.
    pub(super) async fn begin_events(
        &mut self,
        mut request: Box<Request>,
    ) -> Option<(Box<Request>, bool)> {
        let reply = Reply::new(200)
            .typed("text/event-stream", Vec::new())
            .header("cache-control", "no-cache")
            .header("x-accel-buffering", "no");
        let length = request.length_unknown();
        let mut out = Vec::with_capacity(320);
        self.write_head(&request, &reply, length, &mut out);
        self.writer.all(out).await.ok()?;
        Some((request, length == Length::Chunked))
    }

    pub(super) async fn recording(
        &mut self,
        mut request: Box<Request>,
        id: ProcessId,
        follow: bool,
    ) -> Persistence {
        let reply = Reply::new(200)
            .typed("application/x-asciicast", Vec::new())
            .header("cache-control", "no-store")
            .header("x-accel-buffering", "no");
        let length = request.length_unknown();
        let chunked = length == Length::Chunked;
        let mut out = Vec::with_capacity(320);
        self.write_head(&request, &reply, length, &mut out);
        if self.writer.all(out).await.is_err() {
            return Persistence::Close;
        }
        let (reader, writer) = (&mut self.reader, &mut self.writer);
        let whole =
            request.head_only || record(&self.server, id, follow, chunked, reader, writer).await;
        self.after_stream(&request, whole)
    }
}
