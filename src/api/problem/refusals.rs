//! What the server refuses, and with which status.
//!
//! In: what is wrong with a request, or with what it asks for. Out: the problem. What the system has
//! refused is in [`super::system`].

use crate::types::{Limit, ProcessId};

use super::{Details, Problem};

impl Problem {
    /// 400: a handler found a bad value.
    pub fn invalid(message: impl Into<String>) -> Self {
        let mut problem = Self::new("invalid_request", "Invalid Request", 400, message);
        problem.prefix = "invalid request: ";
        problem
    }

    /// 400, 413, 415 or 422: the request could not be read, before any handler saw it.
    pub fn unreadable(status: u16, message: impl Into<String>) -> Self {
        let (kind, title) = match status {
            413 => ("invalid_request", "Payload Too Large"),
            415 => ("unsupported_media_type", "Unsupported Media Type"),
            422 => ("invalid_request", "Unprocessable Entity"),
            _ => ("invalid_request", "Invalid Request"),
        };
        let problem = Self::new(kind, title, status, message);
        if status == 413 {
            problem.code("limit_reached").because("body_too_long")
        } else {
            problem
        }
    }

    /// 404: no such path.
    pub fn no_route() -> Self {
        Self::new("invalid_request", "Not Found", 404, "endpoint not found").because("no_route")
    }

    /// 404: no such process; `id` as the client wrote it.
    pub fn no_process(id: &str) -> Self {
        let mut problem = Self::new("not_found", "Not Found", 404, format!("process {id}"));
        problem.prefix = "not found: ";
        problem.details = Details::Process;
        problem
    }

    /// 409: not in this state.
    pub fn conflict(message: impl Into<String>) -> Self {
        let mut problem = Self::new("conflict", "Conflict", 409, message);
        problem.prefix = "conflict: ";
        problem.details = Details::Message;
        problem
    }

    /// 409: no other program takes over; everything is as it was.
    pub fn not_upgraded(why: impl Into<String>) -> Self {
        Self::conflict(why).code("upgrade_refused")
    }

    /// 409: as many processes run as may.
    pub fn too_many_processes(limit: u64) -> Self {
        Self::conflict(format!("max concurrent process limit reached ({limit})"))
            .code("limit_reached")
            .because("max_processes")
    }

    /// 409: another record has this name.
    pub fn name_taken(name: &str, holder: ProcessId) -> Self {
        let message = format!(
            "the name {name} is taken by {holder}; delete that record, or take another name"
        );
        let mut problem = Self::conflict(message).code("name_taken");
        problem.details = Details::Holder(holder);
        problem
    }

    /// 409: this Idempotency-Key came with another body before.
    pub fn key_of_another(key: &str) -> Self {
        let message = format!(
            "the Idempotency-Key {key} was used with another body; a new request needs a new key"
        );
        Self::conflict(message).code("idempotency_mismatch")
    }

    /// 409: the request was carried out, and its answer has made room for others.
    pub fn answer_expired(key: &str) -> Self {
        let message = format!(
            "the request with the Idempotency-Key {key} has been carried out, but its answer is no \
             longer held; a new key starts it again"
        );
        Self::conflict(message).code("idempotency_expired")
    }

    /// 410: the reader has seen more than this log ever held.
    pub fn stale_cursor(seen: u64, last: u64) -> Self {
        let message = format!(
            "Last-Event-ID {seen} is greater than the last sequence of this exited process \
             ({last}): it belongs to another process; begin again without it"
        );
        Self::new("gone", "Gone", 410, message).code("stale_cursor")
    }

    /// 410: the reader comes from another life of the server.
    pub fn stale_event(seen: u64, last: u64) -> Self {
        let message = format!(
            "event {seen} is not one of this server's, the last of which is {last}: it is from \
             before its start; begin again without since and Last-Event-ID, or with since=0"
        );
        Self::new("gone", "Gone", 410, message).code("stale_cursor")
    }

    /// 413: one input is longer than allowed.
    pub fn input_too_large(limit: u64) -> Self {
        let mut problem = Self::new(
            "invalid_request",
            "Payload Too Large",
            413,
            format!("input payload exceeds maxInputBytesPerRequest ({limit})"),
        );
        problem.prefix = "invalid request: ";
        problem.code("limit_reached").because("input_too_long")
    }

    /// 416: no byte at `at` is retained, only those from `first` to before `end`.
    pub fn no_such_range(at: u64, first: u64, end: u64) -> Self {
        let message = match at {
            at if at < first => format!(
                "the bytes before offset {first} are no longer in the log: ask from there on"
            ),
            _ => format!("the log has no byte at offset {at}; it ends before offset {end}"),
        };
        let mut problem = Self::new("invalid_request", "Range Not Satisfiable", 416, message);
        problem.details = Details::Offsets(first, end);
        problem.code("range_not_satisfiable")
    }

    /// 401: no or a wrong token.
    pub fn unauthorized() -> Self {
        let mut problem = Self::new(
            "token_invalid",
            "Token Invalid",
            401,
            "missing or invalid bearer token",
        );
        problem.details = Details::Message;
        problem
    }

    /// 403: a host or origin that is not ours.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new("forbidden", "Forbidden", 403, message)
    }

    /// 400: a limit that is higher than it may be.
    pub fn limit_too_high(message: impl Into<String>) -> Self {
        Self::invalid(message).code("limit_too_high")
    }

    /// 501: a limit that needs what is missing here.
    pub fn limits_unavailable(limit: Limit, why: &str) -> Self {
        let message = format!("limits.{} cannot be kept here: {why}", limit.name());
        Self::not_here(message, "limits_unavailable")
    }

    /// 501: a user that cannot be had here.
    pub fn user_unavailable(message: impl Into<String>) -> Self {
        Self::not_here(message, "user_unavailable")
    }

    /// 501: what others of our kind can do, and this server cannot.
    pub(super) fn not_here(message: impl Into<String>, code: &'static str) -> Self {
        Self::new("not_implemented", "Not Implemented", 501, message).code(code)
    }

    /// 503: not now; the client may try again.
    pub fn unavailable(message: impl Into<String>, code: Option<&'static str>) -> Self {
        let mut problem = Self::new("unavailable", "Service Unavailable", 503, message);
        problem.code = code;
        problem.retry_after = true;
        problem
    }

    /// 503: there is no memory for it, of `max` bytes in all.
    pub fn no_memory(max: u64) -> Self {
        let message = format!(
            "there is no memory for this request: all that clients may have the server hold is \
             {max} bytes (--memory-max); nothing was started"
        );
        Self::unavailable(message, Some("memory"))
    }

    /// 503: no new work.
    pub fn ending() -> Self {
        Self::unavailable("the server is shutting down", Some("shutting_down"))
    }

    /// 503: the process did not take all of an input in time.
    pub fn input_timeout() -> Self {
        let message = "the process did not read its input in time";
        Self::new("timeout", "Timeout", 503, message)
    }

    /// 409: input after its end.
    pub fn stdin_closed() -> Self {
        let message = "stdin is closed: its end has been asked for, or the process was created \
                       with \"stdin\":\"closed\"";
        Self::conflict(message).code("stdin_closed")
    }

    /// 409: input that begins behind what was accepted.
    pub fn stdin_offset(offset: u64, accepted: u64) -> Self {
        let message = format!(
            "offset {offset} is beyond the {accepted} bytes of input that were accepted so far"
        );
        let mut problem = Self::conflict(message).code("stdin_offset");
        problem.details = Details::ExpectedOffset(accepted);
        problem
    }
}

/// Problem for an id as the client wrote it, or as the server prints it.
impl From<ProcessId> for Problem {
    fn from(id: ProcessId) -> Self {
        Self::no_process(&id.to_string())
    }
}
