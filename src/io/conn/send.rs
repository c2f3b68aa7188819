//! Sending answers that are whole, and the heads of all.
//!
//! In: an answer and what is kept of the request's head. Out: bytes, and whether another request
//! may follow.

use std::borrow::Cow;
use std::io::IoSlice;

use crate::api::Reply;
use crate::api::cors::{ALLOW_ORIGIN, EXPOSE, VARY, expose};
use crate::api::idempotency::REPLAYED;
use crate::config::timeouts;
use crate::wire::http::response::{Length, ResponseHead};

use super::receive::Request;
use super::{Conn, Persistence, request_id};
use crate::io::audit;
use crate::io::telling::Told;

/// Bodies shorter than this are sent together with their head.
const SMALL_BODY_BYTES: usize = 16 << 10;

/// A body that others are sent, too, is sent in pieces of this size, each to be taken within a time,
/// since it is held meanwhile.
const SHARED_PIECE_BYTES: usize = 256 << 10;

impl Conn {
    /// An answer to something that is not a request; nothing can follow it.
    pub(super) async fn bare_reply(&mut self, reply: Reply) -> Persistence {
        let out = self.bare(&reply);
        if self.writer.all(out).await.is_ok() {
            Persistence::Linger
        } else {
            Persistence::Close
        }
    }

    /// The same for who has to go now, as far as it is taken at once.
    pub(super) fn last_reply(&mut self, reply: &Reply) -> Persistence {
        let out = self.bare(reply);
        // Who is gone already need not be told.
        let _ = self.writer.at_once(&[IoSlice::new(&out)]);
        Persistence::Close
    }

    fn bare(&self, reply: &Reply) -> Vec<u8> {
        self.server.answers.counts(reply);
        let mut out = Vec::with_capacity(256);
        let fields: Vec<(&str, &str)> = reply
            .headers
            .iter()
            .map(|(name, value)| (*name, value.as_ref()))
            .collect();
        let head = ResponseHead {
            status: reply.status,
            content_type: reply.content_type,
            length: Length::Known(reply.body.len() as u64),
            close: true,
            keep_alive: None,
            headers: &fields,
        };
        self.server.with_date(|date| head.write_to(date, &mut out));
        let told = Told {
            method: None,
            path: "",
            request: None,
            peer: self.peer,
        };
        audit::answered(&self.server, None, &told, reply);
        self.server.answered(told, reply);
        out.extend_from_slice(&reply.body);
        out
    }

    /// A request, as logs tell of it.
    pub(super) fn told<'f>(&self, request: &'f Request) -> Told<'f> {
        Told {
            method: Some(request.method),
            path: &request.path,
            request: request.id.as_deref(),
            peer: self.peer,
        }
    }

    /// Sends a whole answer.
    pub(super) async fn reply(&mut self, request: &Request, reply: Reply) -> Persistence {
        let len = reply.body.len();
        let length = match reply.status {
            204 | 304 | 101 => Length::Absent,
            _ => Length::Known(len as u64),
        };
        let mut out = Vec::with_capacity(320 + if len < SMALL_BODY_BYTES { len } else { 0 });
        self.write_head(request, &reply, length, &mut out);
        let close = request.close || self.reader.ended() && self.reader.bytes().is_empty();
        let sent = if request.head_only {
            self.writer.all(out).await
        } else if len < SMALL_BODY_BYTES {
            out.extend_from_slice(&reply.body);
            self.writer.all(out).await
        } else {
            match self.writer.all(out).await {
                Ok(()) => self.writer.all(reply.body.into_owned()).await,
                error => error,
            }
        };
        match sent {
            Err(_) => Persistence::Close,
            Ok(()) if close => Persistence::Linger,
            Ok(()) => Persistence::Persist,
        }
    }

    /// Sends an answer that others are sent, too: one that is long goes in pieces, so that each of
    /// them holds no more than a piece. `replayed`: it was another request's.
    pub(super) async fn shared_reply(
        &mut self,
        request: &Request,
        answer: &Reply,
        replayed: bool,
    ) -> Persistence {
        let len = answer.body.len();
        let is_small = len < SMALL_BODY_BYTES;
        let mut head = Reply {
            body: match is_small {
                true => answer.body.clone(),
                false => Cow::Borrowed(&[]),
            },
            headers: answer.headers.clone(),
            detail: answer.detail.clone(),
            ..*answer
        };
        if replayed {
            let (name, value) = REPLAYED;
            head = head.header(name, value);
        }
        if is_small {
            return self.reply(request, head).await;
        }
        let mut out = Vec::with_capacity(320);
        self.write_head(request, &head, Length::Known(len as u64), &mut out);
        if self.writer.all(out).await.is_err() {
            return Persistence::Close;
        }
        for piece in answer.body.chunks(SHARED_PIECE_BYTES) {
            let sent = self.writer.within(piece.to_vec(), timeouts::HELD_PIECE_MAX);
            if sent.await.is_err() {
                return Persistence::Close;
            }
        }
        self.after_stream(request, true)
    }

    /// What follows an answer that was written piece by piece.
    pub(super) fn after_stream(&self, request: &Request, whole: bool) -> Persistence {
        match whole {
            false => Persistence::Close,
            true if request.close || self.reader.ended() => Persistence::Linger,
            true => Persistence::Persist,
        }
    }

    /// Appends the head of an answer, with what browsers are told; every answer to a request has one.
    pub(super) fn write_head(
        &self,
        request: &Request,
        reply: &Reply,
        length: Length,
        out: &mut Vec<u8>,
    ) {
        self.server
            .answers
            .begins(request.route, request.since, reply);
        let rules = self.server.rules();
        let asked = |at: usize| request.cors.as_ref().and_then(|cors| cors[at].as_deref());
        let cors = rules.cors.fields(&rules.guard, asked(0));
        let preflight = if request.preflight {
            rules.cors.preflight_fields(asked(1), asked(2))
        } else {
            Vec::new()
        };
        let mut fields: Vec<(&str, &str)> = Vec::with_capacity(8);
        fields.push(VARY);
        fields.extend(
            cors.iter()
                .chain(&preflight)
                .map(|(name, value)| (*name, value.as_ref())),
        );
        fields.extend(
            reply
                .headers
                .iter()
                .map(|(name, value): &(_, Cow<'_, str>)| (*name, value.as_ref())),
        );
        if request.strict {
            fields.push(("preference-applied", "handling=strict"));
        }
        let is_allowed = cors.iter().any(|(name, _)| *name == ALLOW_ORIGIN);
        if let Some(id) = &request.id {
            fields.push(request_id::field(id));
        }
        let exposed = is_allowed.then(|| expose(fields.iter().map(|(name, _)| *name)));
        if let Some(names) = exposed.as_deref().filter(|names| !names.is_empty()) {
            fields.push((EXPOSE, names));
        }
        let told = self.told(request);
        audit::answered(&self.server, request.change.as_deref(), &told, reply);
        self.server.answered(told, reply);
        let head = ResponseHead {
            status: reply.status,
            content_type: reply.content_type,
            length,
            close: request.close,
            keep_alive: request
                .keep_alive
                .then_some(timeouts::IDLE_TIME_MAX.as_secs()),
            headers: &fields,
        };
        self.server.with_date(|date| head.write_to(date, out));
    }
}
