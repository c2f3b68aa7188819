//! `POST /v1/processes/run`: what to start, and the answer.

use std::time::Duration;

use crate::log::Arena;
use crate::process::Captures;
use crate::process::life::End;
use crate::types::{ExitStatus, ProcessId};
use crate::wire::json;

use super::body::RunBody;
use super::problem::Problem;
use super::reply::Reply;
use super::{Core, Launch, Outcome, body, refuse_while_ending};

/// Reads a run request.
///
/// # Errors
/// 400 or 422 for a bad body, 503 while the server ends.
pub fn plan(bytes: &[u8], core: &Core<'_>) -> Result<Outcome, Problem> {
    let request: RunBody = body::object(bytes, core.strict)?;
    check_command(&request.command)?;
    refuse_while_ending(core)?;
    Ok(Outcome::Run {
        timeout: Duration::from_millis(core.settings.run_timeout_ms(request.timeout_ms)),
        output_max: core.settings.run_output_bytes(request.max_output_bytes),
        launch: Launch {
            command: request.command,
            args: request.args,
            cwd: request.cwd,
            env: request.env.into_iter().collect(),
            inherit_env: request.inherit_env,
        },
    })
}

/// A command must name something.
pub(super) fn check_command(command: &str) -> Result<(), Problem> {
    if command.trim().is_empty() {
        return Err(Problem::invalid("command must not be empty"));
    }
    Ok(())
}

/// The answer to a run that has ended, `duration` after it was asked for; `id` if it is listed.
pub fn reply(
    run: &mut Captures,
    end: End,
    duration: Duration,
    id: Option<ProcessId>,
    arena: &Arena,
) -> Reply {
    let (timed_out, status) = match end {
        End::Exited(exit) => (false, Some(exit.status)),
        End::TimedOut(status) => (true, status),
    };
    for capture in [&mut run.stdout, &mut run.stderr] {
        if capture.truncated() {
            // The cap may have cut a character; what is left of it is not the program's text.
            let mut tail: Vec<u8> = Vec::with_capacity(8);
            for segment in capture.segments(arena) {
                tail.extend_from_slice(&segment[segment.len().saturating_sub(4)..]);
                let excess = tail.len().saturating_sub(4);
                tail.drain(..excess);
            }
            capture.cut_tail(json::incomplete_tail(&tail) as u64);
        }
    }
    // Kept bytes are bounded by the configured cap, and a Vec cannot be larger than memory.
    let text_len = usize::try_from(run.stdout.len() + run.stderr.len()).unwrap_or(0);
    let mut out = Vec::with_capacity(160 + text_len + text_len / 8);
    let exit_code = match status {
        Some(ExitStatus::Code(code)) if !timed_out => code.to_string(),
        _ => "null".to_owned(),
    };
    out.extend_from_slice(
        format!("{{\"exitCode\":{exit_code},\"timedOut\":{timed_out},\"stdout\":").as_bytes(),
    );
    json::write_string_lossy(run.stdout.segments(arena), &mut out);
    out.extend_from_slice(b",\"stderr\":");
    json::write_string_lossy(run.stderr.segments(arena), &mut out);
    let flags = format!(
        ",\"stdoutTruncated\":{},\"stderrTruncated\":{},\"durationMs\":{}",
        run.stdout.truncated(),
        run.stderr.truncated(),
        duration.as_millis()
    );
    out.extend_from_slice(flags.as_bytes());
    if let Some(id) = id {
        out.extend_from_slice(b",\"processId\":");
        json::write_string(&id.to_string(), &mut out);
    }
    if let Some(signal) = status.and_then(ExitStatus::signal_name) {
        out.extend_from_slice(b",\"signal\":");
        json::write_string(&signal, &mut out);
    }
    out.push(b'}');
    Reply::json(out)
}
