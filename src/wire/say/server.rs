//! What the server says of itself.
//!
//! In: what it is and how much there is. Out: one object. Knows nothing of how that was found out.

use serde::Serialize;

/// `GET /`: the words of the reference.
pub(crate) const ROOT: &[u8] = br#"{"docs":"https://sandboxagent.dev","name":"Sandbox Agent"}"#;

/// It answers.
pub(crate) const OK: &[u8] = br#"{"status":"ok"}"#;

/// It takes new work.
pub(crate) const READY: &[u8] = br#"{"status":"ready"}"#;

/// What the server keeps to besides the six limits that clients may change.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Bounds {
    /// `--max-connections`
    pub max_connections: usize,
    /// `--max-exited`
    pub max_exited: usize,
    /// `--max-leftovers`
    pub max_leftovers: usize,
    /// Of all exited records together.
    pub max_exited_log_bytes: u64,
    /// Of one entry.
    pub max_log_entry_bytes: usize,
    /// Of one request.
    pub max_request_body_bytes: u64,
    /// From the method to the blank line.
    pub max_request_head_bytes: usize,
    /// Of one message to a terminal.
    pub max_web_socket_message_bytes: u64,
    /// Of one process, over all its viewers.
    pub max_typed_ahead_bytes: usize,
    /// `--memory-max`
    pub memory_max_bytes: u64,
    /// `--max-concurrent-runs`
    pub max_concurrent_runs: usize,
    /// `--max-queued-runs`
    pub max_queued_runs: usize,
    /// RLIMIT_NOFILE; None is no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_descriptors: Option<u64>,
    /// Until a connection without a request is closed.
    pub idle_connection_ms: u64,
}

/// Limits that clients may change, then the others.
#[derive(Serialize)]
pub(crate) struct Limits<'a, S> {
    #[serde(flatten)]
    /// Limits that clients may change.
    pub settings: &'a S,
    #[serde(flatten)]
    /// The others.
    pub bounds: Bounds,
}

/// How much there is of what it manages.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Counts {
    /// Not exited.
    pub running_processes: usize,
    /// Whose records are kept.
    pub exited_processes: usize,
    /// Of trees whose leader has exited.
    pub leftovers: usize,
    /// Under way.
    pub runs: usize,
    /// That wait in line.
    pub queued_runs: usize,
    /// Open.
    pub connections: usize,
}

/// What clients make it hold in memory, of what kind.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Memory {
    /// Output of processes, with what is needed to find it; also what somebody still reads of a log
    /// that is gone.
    pub logs_bytes: u64,
    /// Output of runs that is to be answered.
    pub captures_bytes: u64,
    /// What clients have sent and is not carried out yet.
    pub bodies_bytes: u64,
    /// What clients are being sent, and answers that are kept for repeats.
    pub answers_bytes: u64,
    /// What is kept of processes besides their output.
    pub records_bytes: u64,
    /// All of these.
    pub total_bytes: u64,
}

/// The answer; the order of the fields is the order of the keys.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Body<'a, S> {
    /// The program.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// `io_uring` or `epoll`.
    pub backend: &'static str,
    /// Unix milliseconds.
    pub started_at_ms: u64,
    /// Its number.
    pub pid: u32,
    /// What a client may rely on.
    pub capabilities: Vec<&'static str>,
    /// What it keeps to.
    pub limits: Limits<'a, S>,
    /// How much there is.
    pub counts: Counts,
    /// What clients make it hold.
    pub memory: Memory,
    /// What does not work here and why, a sentence each.
    pub missing: &'a [String],
}

/// `GET /v1/server`.
pub(crate) fn write<S: Serialize>(body: &Body<'_, S>) -> Vec<u8> {
    // Strings and integers always serialise.
    serde_json::to_vec(body).unwrap_or_default()
}
