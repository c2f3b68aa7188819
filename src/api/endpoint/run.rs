//! `POST /v1/processes/run`: what to start, and the answer.

use std::ops::Range;
use std::time::Duration;

use crate::log::Arena;
use crate::log::capture::{Capture, Keep};
use crate::process::life::End;
use crate::process::{Captures, Table, Tags};
use crate::types::{ProcessId, Usage};
use crate::wire::say::run::{Exit, Format};
use crate::wire::{json, say};

use super::stream::{self, Form};
use crate::api::body::RunBody;
use crate::api::problem::Problem;
use crate::api::reply::Reply;
use crate::api::{Core, Launch, Outcome, body, tags};

/// How a run is carried out and answered.
#[derive(Debug)]
pub(crate) struct Run {
    /// What to start.
    pub launch: Launch,
    /// Its whole input; `/dev/null` if there is none.
    pub stdin: Option<Vec<u8>>,
    /// Its input comes later, as a process's does.
    pub stdin_open: bool,
    /// Its deadline.
    pub timeout: Duration,
    /// Bytes kept of each stream.
    pub output_max: u64,
    /// Which of them.
    pub keep: Keep,
    /// The answer tells how many bytes there were.
    pub tells_bytes: bool,
    /// The answer tells what it used.
    pub tells_usage: bool,
    /// It is ended when its client is gone.
    pub kill_on_disconnect: bool,
    /// It is listed from its start, and called so.
    pub record: Option<Tags>,
    /// What it writes is sent at once; nothing is kept for an answer.
    pub is_streamed: bool,
    /// The id of the request, if it brought one.
    pub request: Option<Box<str>>,
}

impl Run {
    /// Whether it may be called so now: it may have waited since it was asked for.
    ///
    /// # Errors
    /// 409.
    pub(crate) fn check_name(&self, table: &Table) -> Result<(), Problem> {
        let tags = self.record.as_ref();
        tags.map_or(Ok(()), |tags| tags::refuse_taken(tags, table))
    }
}

/// Reads a run request.
///
/// # Errors
/// 400 or 422 for a bad body, 403 for a user that is not allowed, 501 for what this server cannot,
/// 409 for a name that is taken, 503 while the server ends.
pub(crate) fn plan(
    bytes: &[u8],
    stream: Option<Format>,
    usage: bool,
    core: &Core<'_>,
) -> Result<Outcome, Problem> {
    let request: RunBody = body::object(bytes, core.strict)?;
    check_command(&request.command)?;
    let keep = request.keep.as_deref().map(keep).transpose()?;
    let stdin = body::stdin_bytes(request.stdin, request.stdin_encoding.as_deref())?;
    let as_text = stream::as_text(request.output_encoding.as_deref())?;
    if stream.is_some() && keep.is_some() {
        return Err(Problem::invalid(
            "keep is for answers that hold the output; a stream sends all of it, or the first \
             maxOutputBytes",
        ));
    }
    let is_record = request.record.unwrap_or(false);
    if !is_record && (request.name.is_some() || request.labels.is_some()) {
        return Err(Problem::invalid(
            "name and labels are of a record; a run is one with \"record\":true",
        ));
    }
    let stdin_open = request.stdin_open.unwrap_or(false);
    if stdin_open && (!is_record || stdin.is_some()) {
        return Err(Problem::invalid(
            "stdinOpen is for an input that comes later, to the record of a run: it needs \
             \"record\":true and no stdin",
        ));
    }
    let tags = tags::checked(request.name, request.labels)?;
    let launch = Launch::new(request.command, request.args, request.cwd)
        .with_env(request.env, request.inherit_env)
        .settled(request.limits, request.user, &tags, core)?;
    let (output_max, stream) = match stream {
        None => (
            core.settings.run_output_bytes(request.max_output_bytes),
            None,
        ),
        Some(format) => {
            // Nothing is held, so nothing bounds it but the request.
            let max = request.max_output_bytes.unwrap_or(u64::MAX);
            let form = Form {
                format,
                as_text,
                max,
            };
            (max, Some(form))
        }
    };
    let run = Box::new(Run {
        stdin,
        stdin_open,
        timeout: Duration::from_millis(core.settings.run_timeout_ms(request.timeout_ms)),
        output_max,
        keep: keep.unwrap_or_default(),
        tells_bytes: keep.is_some() || is_record,
        tells_usage: usage,
        record: is_record.then_some(tags),
        is_streamed: stream.is_some(),
        request: None,
        kill_on_disconnect: request.kill_on_disconnect.unwrap_or(true),
        launch,
    });
    Ok(match stream {
        None => Outcome::Run(run),
        Some(form) => Outcome::Stream(run, form),
    })
}

fn keep(word: &str) -> Result<Keep, Problem> {
    Keep::named(word).ok_or_else(|| Problem::invalid("keep must be one of: head, tail, both"))
}

/// A command must name something.
pub(in crate::api) fn check_command(command: &str) -> Result<(), Problem> {
    if command.trim().is_empty() {
        return Err(Problem::invalid("command must not be empty"));
    }
    Ok(())
}

/// The answer to a run that has ended, `duration` after it was asked for; `id` if it is listed,
/// `usage` if that was asked for.
pub(crate) fn answer(
    run: &Run,
    captures: &Captures,
    end: End,
    duration: Duration,
    (id, usage): (Option<ProcessId>, Option<Usage>),
    arena: &Arena,
) -> Answer {
    let texts = [Which::Stdout, Which::Stderr]
        .map(|which| Text::new(which, which.of(captures), run.keep, arena));
    let (stdout, stderr) = (&captures.stdout, &captures.stderr);
    let exit = Exit {
        status: end.status(),
        timed_out: matches!(end, End::TimedOut(_)),
        duration_ms: duration.as_millis(),
        written: [stdout.written(), stderr.written()],
        truncated: [stdout.truncated(), stderr.truncated()],
        id,
        usage,
        reason: end.exit().and_then(|exit| exit.reason),
    };
    let mut answer = Answer::default();
    let mut out = say::run::begin_answer(&exit);
    for (text, key) in texts.iter().zip(["stdout", "stderr"]) {
        answer.text(&mut out, key, text.which, text.main.clone());
    }
    say::run::write_truncated(&exit, run.tells_bytes, &mut out);
    for (text, key) in texts.iter().zip(["stdoutTail", "stderrTail"]) {
        if let Some(tail) = &text.tail {
            answer.text(&mut out, key, text.which, tail.clone());
        }
    }
    say::run::end_answer(&exit, &mut out);
    answer.parts.push(Part::Bytes(out));
    answer
}

/// One stream of a run.
#[derive(Clone, Copy, Debug)]
enum Which {
    Stdout,
    Stderr,
}

impl Which {
    fn of(self, captures: &Captures) -> &Capture {
        match self {
            Which::Stdout => &captures.stdout,
            Which::Stderr => &captures.stderr,
        }
    }
}

#[derive(Debug)]
enum Part {
    Bytes(Vec<u8>),
    /// The inside of a string.
    Text(Which, Range<u64>),
}

/// The answer to a run: what is known of it, and which bytes of its captures are to be in between.
/// It can be made piece by piece, as often as somebody wants it, as long as the captures are there.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    parts: Vec<Part>,
}

/// How far an answer has been made.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    part: usize,
    /// Bytes of this part.
    at: u64,
    lossy: json::Lossy,
}

impl Answer {
    fn text(&mut self, out: &mut Vec<u8>, key: &str, which: Which, range: Range<u64>) {
        say::run::begin_text(key, out);
        self.parts.push(Part::Bytes(std::mem::take(out)));
        self.parts.push(Part::Text(which, range));
        out.push(b'"');
    }

    /// Bytes of output in it, before they are text.
    pub(crate) fn output_len(&self) -> u64 {
        let lengths = self.parts.iter().map(|part| match part {
            Part::Bytes(_) => 0,
            Part::Text(_, range) => range.end - range.start,
        });
        lengths.sum()
    }

    /// Appends the next part, made of at most `most` bytes of output or so. False after the last.
    pub(crate) fn piece(
        &self,
        progress: &mut Progress,
        captures: &Captures,
        arena: &Arena,
        most: u64,
        out: &mut Vec<u8>,
    ) -> bool {
        let mut left = most;
        while let Some(part) = self.parts.get(progress.part) {
            match part {
                Part::Bytes(bytes) => out.extend_from_slice(bytes),
                Part::Text(which, range) => {
                    let from = range.start + progress.at;
                    let to = range.end.min(from.saturating_add(left));
                    for segment in which.of(captures).segments(from..to, arena) {
                        progress.lossy.write(segment, out);
                    }
                    left -= to - from;
                    progress.at += to - from;
                    if to < range.end {
                        return true;
                    }
                    progress.lossy.end(out);
                }
            }
            progress.part += 1;
            progress.at = 0;
        }
        false
    }

    /// All of it at once.
    pub(crate) fn reply(&self, captures: &Captures, arena: &Arena) -> Reply {
        // Kept bytes are bounded by the configured cap, and a Vec cannot be larger than memory.
        let text_len = usize::try_from(self.output_len()).unwrap_or(0);
        let mut out = Vec::with_capacity(160 + text_len + text_len / 8);
        self.piece(
            &mut Progress::default(),
            captures,
            arena,
            u64::MAX,
            &mut out,
        );
        Reply::json(out)
    }
}

/// Which bytes of a capture are text. Where it was cut, a character may have been, too; what is
/// left of that is not the program's text.
struct Text {
    which: Which,
    main: Range<u64>,
    /// What is answered apart from it.
    tail: Option<Range<u64>>,
}

impl Text {
    fn new(which: Which, of: &Capture, keep: Keep, arena: &Arena) -> Self {
        let (mut first, mut last) = (of.first(), of.last());
        if of.truncated() {
            let end = first.end.saturating_sub(4)..first.end;
            first.end -= json::incomplete_tail(&bytes(of, end, arena)) as u64;
            let start = last.start..last.end.min(last.start + 3);
            let before = bytes(of, of.before_last(), arena);
            last.start += json::incomplete_front(&before, &bytes(of, start, arena)) as u64;
        }
        let (main, tail) = match keep {
            Keep::Head => (first, None),
            Keep::Tail if of.truncated() => (last, None),
            Keep::Tail => (first, None),
            Keep::Both => (first, of.truncated().then_some(last)),
        };
        Self { which, main, tail }
    }
}

/// A few bytes of a capture.
fn bytes(of: &Capture, range: Range<u64>, arena: &Arena) -> Vec<u8> {
    of.segments(range, arena).flatten().copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Exit, ExitStatus};

    fn run(keep: Keep) -> Run {
        Run {
            launch: Launch::new("true".to_owned(), Vec::new(), None),
            stdin: None,
            stdin_open: false,
            timeout: Duration::ZERO,
            output_max: 100,
            keep,
            tells_bytes: true,
            kill_on_disconnect: true,
            record: None,
            is_streamed: false,
            request: None,
            tells_usage: false,
        }
    }

    #[test]
    fn an_answer_is_the_same_whatever_its_pieces_are() {
        let mut arena = Arena::new().unwrap();
        let text = "a\u{1}\"b\u{e9}\u{20ac}\u{1f600}"
            .repeat(20_000)
            .into_bytes();
        let wrong = [0xff, 0xe2, 0x82].repeat(30_000);
        for keep in [Keep::Head, Keep::Both] {
            let mut captures = Captures::new(keep, 150_001);
            captures.stdout.append(&mut arena, &text);
            captures.stderr.append(&mut arena, &wrong);
            let end = End::Exited(Exit::from(ExitStatus::Code(3)));
            let took = Duration::from_millis(5);
            let answer = answer(&run(keep), &captures, end, took, (None, None), &arena);
            let whole = answer.reply(&captures, &arena).body;
            assert!(serde_json::from_slice::<serde_json::Value>(&whole).is_ok());
            for most in [1000, 4096, 65_536, 70_001, u64::MAX] {
                let (mut progress, mut out) = (Progress::default(), Vec::new());
                let mut more = true;
                while more {
                    let before = out.len();
                    more = answer.piece(&mut progress, &captures, &arena, most, &mut out);
                    let room = usize::try_from(most).unwrap_or(usize::MAX);
                    assert!(out.len() - before <= room.saturating_mul(6).saturating_add(1024));
                }
                assert_eq!(out, *whole, "{keep:?} {most}");
            }
            captures.release(&mut arena);
        }
    }
}
