//! Every error a client can see: status, kind, text (RFC 7807).
//!
//! In: what went wrong, in the words of the room that found it. Out: a [`Reply`] with a problem
//! body. The only place that knows status codes for errors.

use crate::types::{Limit, ProcessId, SpawnError, SpawnStage};
use crate::wire::json;

use super::Launch;
use super::reply::Reply;

/// Characters of a path that a problem quotes; the kernel takes no longer ones (PATH_MAX).
const PATH_CHARS_MAX: usize = 4096;

/// Characters of a sentence that a log shows.
const LOGGED_CHARS_MAX: usize = 300;

/// What `details` holds.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Details {
    None,
    Message,
    /// The message, and the program or the directory that is missing.
    Path(Box<str>),
    /// The message is `process <id>`.
    Process,
    /// The message, and who is in the way.
    Holder(ProcessId),
    /// The message, and the offsets of the oldest retained byte and behind the newest.
    Offsets(u64, u64),
    Accepted(Box<Accepted>),
    /// The message, and how many bytes of its input the process has accepted.
    ExpectedOffset(u64),
}

/// How much of an input was taken by a process that did not take all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Bytes written for this request.
    pub bytes_written: u64,
    /// Bytes that the process has accepted, of all requests; where the request asks for it.
    pub offset: Option<u64>,
}

/// One problem; the fields are the keys of the body.
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
    fn not_here(message: impl Into<String>, code: &'static str) -> Self {
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

    /// The same problem of an input, saying how much of it was taken.
    pub fn accepted(mut self, accepted: Accepted) -> Self {
        if !matches!(self.details, Details::ExpectedOffset(_)) {
            self.details = Details::Accepted(Box::new(accepted));
        }
        self
    }

    /// 502: the system refused; `errno` becomes the code.
    pub fn stream(message: impl Into<String>, errno: Option<i32>) -> Self {
        let mut problem = Self::new("stream_error", "Stream Error", 502, message);
        problem.prefix = "stream error: ";
        problem.details = Details::Message;
        problem.code = errno.and_then(errno_name);
        problem
    }

    /// A spawn that failed: 502, or 503 where the server is out of something. Says which file is
    /// missing, since the program and the directory to run it in give the same text.
    pub fn spawn(error: SpawnError, tty: bool, launch: &Launch) -> Self {
        let mut problem = Self::of_spawn(error, tty);
        let limits = launch.limits.as_deref();
        let memory = limits.and_then(|limits| limits.get(Limit::MemoryBytes));
        if let (libc::ENOMEM, Some(bytes)) = (error.errno, memory) {
            let limit = format!("{}; limits.memoryBytes is {bytes}", problem.message);
            problem.message = limit.into();
        }
        let refused = match error.stage {
            SpawnStage::Cwd => launch.cwd.as_deref(),
            SpawnStage::Exec => Some(launch.command.as_str()),
            SpawnStage::Prepare
            | SpawnStage::Clone
            | SpawnStage::Stdio
            | SpawnStage::Limits
            | SpawnStage::User
            | SpawnStage::Group => None,
        };
        let Some(path) = refused else {
            return problem;
        };
        if error.errno == libc::ENOENT {
            problem.details = Details::Path(shortened(path, PATH_CHARS_MAX).into());
        }
        // Behind the first word there may be arguments, where somebody took this for a shell.
        let named = match error.stage {
            SpawnStage::Exec => path.split_whitespace().next().unwrap_or_default(),
            _ => path,
        };
        let named = shortened(named, LOGGED_CHARS_MAX);
        let told = format!("{}: {named}", problem.detail());
        problem.logged(told)
    }

    fn of_spawn(error: SpawnError, tty: bool) -> Self {
        let what = if tty { "tty process" } else { "process" };
        let message = format!("failed to spawn {what}: {error}");
        let exhausted = matches!(
            error.errno,
            libc::EAGAIN | libc::ENOMEM | libc::EMFILE | libc::ENFILE | libc::ETIMEDOUT
        );
        match error.stage {
            SpawnStage::Clone | SpawnStage::Stdio if exhausted => {
                let limit = match error.errno {
                    libc::EAGAIN => {
                        "; no more processes or threads are allowed (pids.max of a cgroup, \
                         RLIMIT_NPROC or kernel.threads-max): end some or raise the limit"
                    }
                    libc::ENOMEM => "; there is no memory left for it",
                    libc::ETIMEDOUT => "",
                    _ => "; no descriptor is left (RLIMIT_NOFILE, fs.file-max)",
                };
                Self::unavailable(format!("{message}{limit}"), errno_name(error.errno))
            }
            SpawnStage::Group if error.errno == 0 => {
                let message = format!("{error}: GET /v1/server says in `missing` why");
                Self::not_here(message, "limits_unavailable")
            }
            SpawnStage::Group => {
                let message = format!("{message}; there is no cgroup for its limits");
                Self::unavailable(message, errno_name(error.errno))
            }
            SpawnStage::Prepare => Self::stream(message, None).code("nul_byte"),
            // A user namespace that does not have this user, or lets nobody change groups.
            SpawnStage::User => Self::user_unavailable(format!(
                "{message}; the server may not make a child this user (user_namespaces(7))"
            )),
            SpawnStage::Cwd if error.errno == libc::ENOENT => {
                Self::stream(message, None).code("cwd_missing")
            }
            _ => Self::stream(message, Some(error.errno)),
        }
    }

    /// A descriptor, pipe or terminal that could not be made: 503 if the server is out of them.
    pub fn resource(what: &str, errno: i32) -> Self {
        let error = std::io::Error::from_raw_os_error(errno);
        let message = format!("{what}: {error}");
        match errno {
            libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::EAGAIN | libc::ENOSPC => {
                Self::unavailable(message, errno_name(errno))
            }
            _ => Self::stream(message, Some(errno)),
        }
    }

    /// A terminal that could not be made: as [`Problem::resource`], but what is missing is not the
    /// program.
    pub fn no_terminal(errno: i32) -> Self {
        let mut problem = Self::resource("no terminal for the process", errno);
        if problem.status != 503 {
            let needs =
                "; terminals need /dev/ptmx (or /dev/pts/ptmx) and a devpts mounted on /dev/pts";
            problem.message = format!("{}{needs}", problem.message).into();
            problem.code = Some("pty_unavailable");
        }
        problem
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
        body.extend_from_slice(b"{\"type\":\"urn:sandbox-agent:error:");
        body.extend_from_slice(self.kind.as_bytes());
        body.extend_from_slice(b"\",\"title\":");
        json::write_string(self.title, &mut body);
        body.extend_from_slice(format!(",\"status\":{},\"detail\":", self.status).as_bytes());
        json::write_string(&self.detail(), &mut body);
        match &self.details {
            Details::None => {}
            Details::Message => {
                body.extend_from_slice(b",\"details\":{\"message\":");
                json::write_string(&self.message, &mut body);
                body.push(b'}');
            }
            Details::Path(path) => {
                body.extend_from_slice(b",\"details\":{\"message\":");
                json::write_string(&self.message, &mut body);
                body.extend_from_slice(b",\"path\":");
                json::write_string(path, &mut body);
                body.push(b'}');
            }
            Details::Holder(id) => {
                body.extend_from_slice(b",\"details\":{\"message\":");
                json::write_string(&self.message, &mut body);
                body.extend_from_slice(format!(",\"id\":\"{id}\"}}").as_bytes());
            }
            Details::Process => {
                body.extend_from_slice(b",\"details\":{\"id\":");
                let id = self.message.strip_prefix("process ").unwrap_or_default();
                json::write_string(id, &mut body);
                body.extend_from_slice(b",\"resource\":\"process\"}");
            }
            Details::Offsets(first, end) => {
                let details = format!(
                    ",\"details\":{{\"firstOffset\":{first},\"endOffset\":{end},\"message\":"
                );
                body.extend_from_slice(details.as_bytes());
                json::write_string(&self.message, &mut body);
                body.push(b'}');
            }
            Details::Accepted(accepted) => {
                let Accepted {
                    bytes_written,
                    offset,
                } = **accepted;
                body.extend_from_slice(
                    format!(",\"details\":{{\"bytesWritten\":{bytes_written},\"message\":")
                        .as_bytes(),
                );
                json::write_string(&self.message, &mut body);
                if let Some(offset) = offset {
                    body.extend_from_slice(format!(",\"offset\":{offset}").as_bytes());
                }
                body.push(b'}');
            }
            Details::ExpectedOffset(offset) => {
                body.extend_from_slice(
                    format!(",\"details\":{{\"expectedOffset\":{offset},\"message\":").as_bytes(),
                );
                json::write_string(&self.message, &mut body);
                body.push(b'}');
            }
        }
        if let Some(code) = self.code {
            body.extend_from_slice(b",\"code\":");
            json::write_string(code, &mut body);
        }
        body.push(b'}');
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

/// Problem for an id as the client wrote it, or as the server prints it.
impl From<ProcessId> for Problem {
    fn from(id: ProcessId) -> Self {
        Self::no_process(&id.to_string())
    }
}

/// The symbol of an errno that spawning or writing can give (errno(3)).
fn errno_name(errno: i32) -> Option<&'static str> {
    const NAMES: [(i32, &str); 24] = [
        (libc::EPERM, "EPERM"),
        (libc::ENOENT, "ENOENT"),
        (libc::EIO, "EIO"),
        (libc::ENXIO, "ENXIO"),
        (libc::E2BIG, "E2BIG"),
        (libc::ENOEXEC, "ENOEXEC"),
        (libc::EBADF, "EBADF"),
        (libc::EAGAIN, "EAGAIN"),
        (libc::ENOMEM, "ENOMEM"),
        (libc::EACCES, "EACCES"),
        (libc::EFAULT, "EFAULT"),
        (libc::ENODEV, "ENODEV"),
        (libc::ENOTDIR, "ENOTDIR"),
        (libc::EISDIR, "EISDIR"),
        (libc::EINVAL, "EINVAL"),
        (libc::ENFILE, "ENFILE"),
        (libc::EMFILE, "EMFILE"),
        (libc::ETXTBSY, "ETXTBSY"),
        (libc::ENOSPC, "ENOSPC"),
        (libc::EPIPE, "EPIPE"),
        (libc::ENAMETOOLONG, "ENAMETOOLONG"),
        (libc::ELOOP, "ELOOP"),
        (libc::ETIMEDOUT, "ETIMEDOUT"),
        (libc::EROFS, "EROFS"),
    ];
    NAMES
        .iter()
        .find(|(number, _)| *number == errno)
        .map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch() -> Launch {
        Launch::new(
            "no-such".to_owned(),
            Vec::new(),
            Some("/nowhere".to_owned()),
        )
    }

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

    #[test]
    fn a_missing_program_and_a_missing_directory_differ_in_their_code_and_path() {
        let exec = SpawnError {
            stage: SpawnStage::Exec,
            errno: libc::ENOENT,
        };
        let cwd = SpawnError {
            stage: SpawnStage::Cwd,
            errno: libc::ENOENT,
        };
        let of = |error| body(&Problem::spawn(error, false, &launch()));
        let end = r#","path":"no-such"},"code":"ENOENT"}"#;
        assert!(of(exec).ends_with(end), "{}", of(exec));
        let other = r#","path":"/nowhere"},"code":"cwd_missing"}"#;
        assert_eq!(of(exec).replace(end, other), of(cwd));
        assert!(
            of(exec).contains("failed to spawn process: No such file or directory (os error 2)")
        );
    }

    #[test]
    fn logs_name_the_program_or_the_directory_and_no_argument() {
        let logged = |stage, errno| {
            let launch = Launch {
                command: "no-such --secret".to_owned(),
                ..launch()
            };
            let problem = Problem::spawn(SpawnError { stage, errno }, false, &launch);
            problem.reply().detail.unwrap().into_string()
        };
        assert_eq!(
            logged(SpawnStage::Exec, libc::ENOENT),
            "stream error: failed to spawn process: No such file or directory (os error 2): no-such"
        );
        assert_eq!(
            logged(SpawnStage::Cwd, libc::EACCES),
            "stream error: failed to spawn process: Permission denied (os error 13): /nowhere"
        );
        assert!(!logged(SpawnStage::Exec, libc::E2BIG).contains("secret"));
        assert!(!logged(SpawnStage::Clone, libc::EAGAIN).contains("no-such"));
    }

    #[test]
    fn a_missing_terminal_is_not_a_missing_program_and_too_many_can_be_retried() {
        let missing = body(&Problem::no_terminal(libc::ENOENT));
        assert!(
            missing.contains("(os error 2); terminals need /dev/ptmx"),
            "{missing}"
        );
        assert!(
            missing.ends_with(r#""code":"pty_unavailable"}"#),
            "{missing}"
        );
        let too_many = Problem::no_terminal(libc::ENOSPC);
        assert_eq!((too_many.status, too_many.code), (503, Some("ENOSPC")));
    }

    #[test]
    fn running_out_of_processes_is_a_503_that_can_be_retried() {
        let problem = Problem::spawn(
            SpawnError {
                stage: SpawnStage::Clone,
                errno: libc::EAGAIN,
            },
            false,
            &launch(),
        );
        let reply = problem.reply();
        assert_eq!(reply.status, 503);
        assert!(reply.headers.iter().any(|(name, _)| *name == "retry-after"));
    }
}
