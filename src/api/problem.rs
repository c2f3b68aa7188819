//! Every error a client can see: status, kind, text (RFC 7807).
//!
//! In: what went wrong, in the words of the room that found it. Out: a [`Reply`] with a problem
//! body. Here and in its two rooms ([`refusals`], [`system`]) errors get their status, but for what
//! cannot be read: there whoever reads says 400, 405, 413, 415 or 422, and `wire` that of a head or a
//! chunk.

mod refusals;
mod system;

use crate::wire::say;
use crate::wire::say::input::Accepted;
use crate::wire::say::problem::Details;

use super::reply::Reply;

/// Characters of a sentence that a log shows.
const LOGGED_CHARS_MAX: usize = 300;

/// One problem; [`say::problem`] writes its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    kind: &'static str,
    title: &'static str,
    status: u16,
    /// The sentence without the prefix that some kinds put before it in `detail`.
    message: Box<str>,
    prefix: &'static str,
    details: Details,
    code: Option<&'static str>,
    retry_after: bool,
    for_logs: Option<Box<ForLogs>>,
}

/// What logs and counters say in place of what clients see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct ForLogs {
    /// Why, in one word, where the code does not say it.
    reason: Option<&'static str>,
    /// The sentence, where the message quotes what is in no log.
    text: Option<Box<str>>,
}

impl Problem {
    fn new(
        kind: &'static str,
        title: &'static str,
        status: u16,
        message: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            title,
            status,
            message: message.into().into(),
            prefix: "",
            details: Details::None,
            code: None,
            retry_after: false,
            for_logs: None,
        }
    }

    fn code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    /// The same problem, known by this word in logs and counters.
    pub fn because(mut self, reason: &'static str) -> Self {
        self.for_logs.get_or_insert_default().reason = Some(reason);
        self
    }

    /// The same problem, with another text for logs: the message quotes an argument or an input.
    pub fn logged(mut self, text: impl Into<Box<str>>) -> Self {
        self.for_logs.get_or_insert_default().text = Some(text.into());
        self
    }

    /// Why, in one word: what a log and a counter call it. Words are few, and none is made of what a
    /// client has sent.
    pub fn reason(&self) -> &'static str {
        let own = self.for_logs.as_ref().and_then(|of| of.reason);
        own.or(self.code).unwrap_or(match self.status {
            408 => "too_slow",
            409 => "conflict",
            415 => "content_type",
            _ => self.kind,
        })
    }

    /// The same problem of an input, saying how much of it was taken.
    pub(crate) fn accepted(mut self, accepted: Accepted) -> Self {
        if !matches!(self.details, Details::ExpectedOffset(_)) {
            self.details = Details::Accepted(Box::new(accepted));
        }
        self
    }

    /// The sentence that a WebSocket error frame shows: `detail`.
    pub fn detail(&self) -> String {
        if self.kind == "token_invalid" {
            return "token invalid".to_owned();
        }
        format!("{}{}", self.prefix, self.message)
    }

    /// The answer.
    pub fn reply(&self) -> Reply {
        let mut body = Vec::with_capacity(256);
        let said = say::problem::Problem {
            kind: self.kind,
            title: self.title,
            status: self.status,
            detail: &self.detail(),
            message: &self.message,
            details: &self.details,
            code: self.code,
        };
        say::problem::write(&said, &mut body);
        let mut reply = Reply::new(self.status).typed("application/problem+json", body);
        if let Details::Offsets(_, end) = self.details {
            reply = reply.header("content-range", format!("bytes */{end}"));
        }
        let text = self.for_logs.as_ref().and_then(|of| of.text.clone());
        let detail = match text {
            Some(text) => text,
            None => shortened(&self.detail(), LOGGED_CHARS_MAX).into(),
        };
        reply = reply.refused(self.reason(), detail);
        if self.status == 401 {
            reply = reply.header("www-authenticate", "Bearer");
        }
        if self.retry_after {
            reply = reply.header("retry-after", "1");
        }
        reply
    }
}

/// The beginning of what a client sent, as a problem may quote it.
pub(super) fn shortened(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(problem: &Problem) -> String {
        String::from_utf8(problem.reply().body.into_owned()).unwrap()
    }

    #[test]
    fn bodies_have_the_keys_of_the_contract_in_its_order() {
        assert_eq!(
            body(&Problem::no_process("x\"y")),
            r#"{"type":"urn:sandbox-agent:error:not_found","title":"Not Found","status":404,"detail":"not found: process x\"y","details":{"id":"x\"y","resource":"process"}}"#
        );
        assert_eq!(
            body(&Problem::unauthorized()),
            r#"{"type":"urn:sandbox-agent:error:token_invalid","title":"Token Invalid","status":401,"detail":"token invalid","details":{"message":"missing or invalid bearer token"}}"#
        );
        assert_eq!(
            body(&Problem::too_many_processes(3)),
            r#"{"type":"urn:sandbox-agent:error:conflict","title":"Conflict","status":409,"detail":"conflict: max concurrent process limit reached (3)","details":{"message":"max concurrent process limit reached (3)"},"code":"limit_reached"}"#
        );
    }
}
