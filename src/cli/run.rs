//! `run`: a command whose output, input, exit code and interrupts are as if it ran here.
//!
//! The command is a streamed run of the server's: its output comes as it is written, is never cut,
//! and waits for whoever reads it here. It is recorded, so that it can be signalled and fed; the
//! record is removed at its end, unless it has a name. When this program goes, so does the command.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal};
use std::os::fd::AsFd;
use std::sync::mpsc;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::attach::{self, Left};
use super::context::{Context, PATIENCE, PAUSE, path};
use super::detach::Keys;
use super::embedded;
use super::error::{CliError, Result, SERVER_TROUBLE};
use super::feed::feed;
use super::output;
use super::parse::Parsed;
use super::ps::{exit_code, say_reason, text};
use super::session::Kind;
use super::signals::{self, Wish};
use super::start;
use crate::client::{Client, ClientError, Request, Response};
use crate::notice;

/// Longer than any server allows: a hundred years.
const TIMEOUT_MS_MAX: u64 = 100 * 365 * 86_400_000;

const TIMED_OUT: u8 = 124;
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;

pub(super) fn run(context: &Context, parsed: &Parsed) -> Result<u8> {
    let mut body = start::request(parsed)?;
    let timeout = parsed.time("timeout")?;
    let timeout = timeout.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1));
    let keys = Keys::parse(parsed.value("detach-keys")?.as_deref())?;
    if parsed.has("interactive") && !parsed.has("tty") && io::stdin().is_terminal() {
        notice::line("-i: what is typed reaches the command with -t, and not without it");
    }
    let context = &embedded::or_own(context)?;
    let command = parsed.operands()[0].to_string_lossy();
    let done = if parsed.has("tty") {
        body.extend(timeout.map(|ms| ("deadlineMs".to_owned(), json!(ms))));
        in_terminal(context, body, keys)
    } else {
        // Without one, as long as the server lets any run last.
        body.insert(
            "timeoutMs".to_owned(),
            json!(timeout.unwrap_or(TIMEOUT_MS_MAX)),
        );
        let done = streamed(context, body);
        if timeout.is_none() && matches!(done, Ok(TIMED_OUT)) {
            notice::line(
                "the server lets no run last longer; `procring config set maxRunTimeoutMs=TIME` \
                 changes that, and `procring start` has no such limit",
            );
        }
        done
    };
    done.map_err(|error| match error {
        CliError::Client(ClientError::Refused(problem)) => {
            let code = not_started(problem.code.as_deref(), &problem.detail);
            let told = ClientError::Refused(start::refused(problem, &command));
            CliError::Failed(told.to_string(), code)
        }
        CliError::Client(_) | CliError::TooOld { .. } => {
            CliError::Failed(error.to_string(), SERVER_TROUBLE)
        }
        error => error,
    })
}

/// The code that a shell has for a program that could not be started. The reference names the error
/// by its number, and only in its text.
fn not_started(code: Option<&str>, detail: &str) -> u8 {
    let number = detail
        .rsplit_once("failed to spawn process: ")
        .and_then(|(_, why)| why.rsplit_once("(os error "))
        .and_then(|(_, number)| number.strip_suffix(')')?.parse().ok());
    match (code, number) {
        (Some("ENOENT"), _) | (None, Some(libc::ENOENT)) => NOT_FOUND,
        (Some("EACCES" | "ENOEXEC"), _) | (None, Some(libc::EACCES | libc::ENOEXEC)) => {
            NOT_EXECUTABLE
        }
        _ => SERVER_TROUBLE,
    }
}

/// In a terminal: a process that is attached to.
fn in_terminal(context: &Context, mut body: Map<String, Value>, keys: Keys) -> Result<u8> {
    if !super::terminal::is_here() {
        return Err(CliError::Usage(
            "-t needs a terminal at both ends; without -t the streams are passed on".to_owned(),
        ));
    }
    start::in_terminal(&mut body);
    // As ssh(1): what is here is what the program is shown on.
    if let Ok(term) = std::env::var("TERM")
        && let Value::Object(env) = body.entry("env").or_insert_with(|| json!({}))
    {
        env.entry("TERM").or_insert(term.into());
    }
    start::check(context, &body)?;
    let is_named = body.contains_key("name");
    let record = context
        .client
        .patient(PATIENCE)
        .post("/v1/processes", &body.into())?;
    let id = text(&record, "id");
    // A server of its own ends with this command: there would be nothing to come back to.
    let keys = Some(keys).filter(|_| !context.is_own);
    let left =
        attach::stay(context, id, Kind::Terminal, Some(0), false, keys).map_err(
            |error| match error {
                CliError::Client(error) => CliError::Failed(
                    format!("the connection broke before the end of {id} was heard: {error}"),
                    SERVER_TROUBLE,
                ),
                error => error,
            },
        );
    match left? {
        Left::Exited(record) => {
            let is_killed = text(&record, "exitReason") == "deadline";
            match (is_named, is_killed) {
                (true, _) => {}
                (false, true) => remove_killed(context, id),
                (false, false) => remove(context, id),
            }
            say_reason(&record);
            match is_killed {
                true => Ok(TIMED_OUT),
                false => exit_code(&record),
            }
        }
        Left::Detached => {
            attach::detached(&record);
            Ok(0)
        }
        Left::Ended(signal) => {
            // The window is closed; what was in it ends, as with a local one.
            let _ = context.act(id, "/kill?waitMs=5000");
            if !is_named {
                remove_killed(context, id);
            }
            signals::exit_by(signal)
        }
    }
}

/// Removes the record of a command that is over, unless something of it still runs: then that is told,
/// and the record is how to end it. Nothing is lost if that fails.
fn remove(context: &Context, id: &str) {
    let record = context.process(id).unwrap_or_default();
    match record["descendants"].as_u64() {
        Some(left @ 1..) if !context.is_own => notice::line(format_args!(
            "{left} {} of {id} still {}; `procring kill {id}` ends what is left",
            if left == 1 { "process" } else { "processes" },
            if left == 1 { "runs" } else { "run" },
        )),
        _ => {
            let _ = context.client.expect(Request::delete(&path(id, "")));
        }
    }
}

/// Removes the record of a command that was killed, with all that it started. Those may still be on
/// their way out.
fn remove_killed(context: &Context, id: &str) {
    let _ = context
        .client
        .expect(Request::delete(&path(id, "?tree=true")));
}

/// What the user does, as the loop over the output hears of it.
enum Heard {
    Line(io::Result<String>),
    Wish(Wish),
    /// What happened to the input.
    Input(CliError),
}

/// Standard input, if there is anything to pass on.
fn input() -> Option<File> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        return None;
    }
    let file = File::from(stdin.as_fd().try_clone_to_owned().ok()?);
    let null = std::fs::metadata("/dev/null").ok();
    let (Ok(own), Some(null)) = (file.metadata(), null) else {
        return Some(file);
    };
    use std::os::unix::fs::MetadataExt;
    let is_null = (own.dev(), own.ino()) == (null.dev(), null.ino());
    (!is_null).then_some(file)
}

fn streamed(context: &Context, mut body: Map<String, Value>) -> Result<u8> {
    let input = input();
    let is_named = body.contains_key("name");
    start::check(context, &body)?;
    body.insert("record".to_owned(), true.into());
    if input.is_some() {
        context.require("streamingRun", "input of a run")?;
        body.insert("stdinOpen".to_owned(), true.into());
    }
    let (hear, heard) = mpsc::channel();
    let wishes = hear.clone();
    // From now on Ctrl-C is the command's.
    signals::listen(move |wish| {
        // Nobody listens any more when it is over.
        let _ = wishes.send(Heard::Wish(wish));
    })?;
    let client = context.client.patient(PATIENCE);
    let request = Request::post("/v1/processes/run")
        .header("accept", "application/x-ndjson")
        .json(&body.into());
    // The head comes when the program runs, which may take as long as a dead mount does.
    let response = send(client, request, &heard)?;
    let kind = response.header("content-type").unwrap_or_default();
    if !kind.starts_with("application/x-ndjson") {
        // The reference: everything at the end.
        return whole(&response.json()?);
    }
    let mut run = Run {
        context,
        input,
        hear: hear.clone(),
        id: None,
        is_interrupted: false,
        is_killed: false,
    };
    let lines = BufReader::new(response);
    signals::beside(move || {
        for line in lines.lines() {
            if hear.send(Heard::Line(line)).is_err() {
                return;
            }
        }
        let cut = io::ErrorKind::UnexpectedEof.into();
        let _ = hear.send(Heard::Line(Err(cut)));
    })?;
    let code = run.serve(&heard);
    if let Some(id) = run.id.as_deref().filter(|_| !is_named && code.is_ok()) {
        match run.is_killed {
            true => remove_killed(context, id),
            false => remove(context, id),
        }
    }
    code
}

/// Sends the request; a signal meanwhile ends this program, and with its connection the command.
fn send(client: Client, request: Request, heard: &mpsc::Receiver<Heard>) -> Result<Response> {
    let (answer, answered) = mpsc::channel();
    signals::beside(move || answer.send(client.expect(request)))?;
    loop {
        let pause = std::time::Duration::from_millis(20);
        match answered.recv_timeout(pause) {
            Ok(response) => return Ok(response?),
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                return Err(CliError::Client(ClientError::Foreign("no answer")));
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {}
        }
        match heard.try_recv() {
            Ok(Heard::Wish(Wish::Interrupt)) => signals::exit_by(libc::SIGINT),
            Ok(Heard::Wish(Wish::End(signal))) => signals::exit_by(signal),
            _ => {}
        }
    }
}

/// A run under way.
struct Run<'a> {
    context: &'a Context,
    /// What is to be passed on, until that has begun.
    input: Option<File>,
    hear: mpsc::Sender<Heard>,
    id: Option<String>,
    is_interrupted: bool,
    /// Its timeout or the user has killed it.
    is_killed: bool,
}

impl Run<'_> {
    fn serve(&mut self, heard: &mpsc::Receiver<Heard>) -> Result<u8> {
        loop {
            let Ok(heard) = heard.recv() else {
                return Err(self.lost());
            };
            match heard {
                Heard::Line(Ok(line)) => {
                    if let Some(code) = self.line(&line)? {
                        return Ok(code);
                    }
                }
                Heard::Line(Err(_)) => return Err(self.lost()),
                Heard::Wish(wish) => self.wish(wish)?,
                // A command that takes no more input, or is over, says the rest itself.
                Heard::Input(CliError::Client(ClientError::Refused(problem)))
                    if problem.status == 409 || problem.code.as_deref() == Some("EPIPE") => {}
                Heard::Input(error) => return Err(self.starved(&error)),
            }
        }
    }

    fn line(&mut self, line: &str) -> Result<Option<u8>> {
        let foreign = |_| CliError::Client(ClientError::Foreign("a line that is no JSON"));
        let event: Value = serde_json::from_str(line).map_err(foreign)?;
        let data = || {
            let data = text(&event, "data");
            let bytes = STANDARD.decode(data);
            bytes.map_err(|_| CliError::Client(ClientError::Foreign("output that is no base64")))
        };
        match text(&event, "type") {
            "start" => {
                self.id = event["processId"].as_str().map(str::to_owned);
                self.feed();
            }
            "stdout" => output::stdout(&data()?)?,
            "stderr" => output::stderr(&data()?)?,
            "exit" if event["timedOut"] == true => {
                self.is_killed = true;
                return Ok(Some(TIMED_OUT));
            }
            "exit" => {
                say_reason(&event);
                return exit_code(&event).map(Some);
            }
            // A later server may say more.
            _ => {}
        }
        Ok(None)
    }

    /// Begins to pass the input on.
    fn feed(&mut self) {
        let (Some(mut input), Some(id)) = (self.input.take(), self.id.as_deref()) else {
            return;
        };
        let (client, hear) = (self.context.client.clone(), self.hear.clone());
        let id = id.to_owned();
        let begun = signals::beside(move || {
            if let Err(error) = feed(&client, &id, &mut input) {
                let _ = hear.send(Heard::Input(error));
            }
        });
        if let Err(error) = begun {
            let _ = self.hear.send(Heard::Input(error));
        }
    }

    fn wish(&mut self, wish: Wish) -> Result<()> {
        let Some(id) = self.id.clone() else {
            return match wish {
                Wish::Resized | Wish::Continued => Ok(()),
                Wish::Interrupt => signals::exit_by(libc::SIGINT),
                Wish::End(signal) => signals::exit_by(signal),
            };
        };
        match wish {
            Wish::Resized | Wish::Continued => {}
            Wish::Interrupt if !self.is_interrupted => {
                self.is_interrupted = true;
                let signal = json!({"signal": "SIGINT"});
                // It may have ended meanwhile.
                let _ = self.context.client.post(&path(&id, "/signal"), &signal);
            }
            Wish::Interrupt => {
                self.is_killed = true;
                let _ = self.context.act(&id, "/kill?waitMs=0");
            }
            Wish::End(signal) => {
                let _ = self.context.act(&id, "/kill?waitMs=5000");
                remove_killed(self.context, &id);
                signals::exit_by(signal);
            }
        }
        Ok(())
    }

    /// Not all of the input reached the command, which would take what did for all, or wait for ever.
    fn starved(&self, error: &CliError) -> CliError {
        if let Some(id) = self.id.as_deref() {
            // It may have ended meanwhile.
            let _ = self.context.act(id, "/kill?waitMs=5000");
            remove_killed(self.context, id);
        }
        CliError::Failed(
            format!("not all of the input reached the command, so it was killed: {error}"),
            SERVER_TROUBLE,
        )
    }

    /// Its record, once the server has noticed that its client is gone and has ended it, or when that
    /// takes too long.
    fn ended(&self, id: &str) -> std::result::Result<Value, ClientError> {
        let client = self.context.client.patient(PATIENCE);
        let until = Instant::now() + PATIENCE;
        loop {
            let record = client.get(&path(id, ""))?;
            if text(&record, "status") == "exited" || Instant::now() > until {
                return Ok(record);
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// The stream broke. What became of the command is asked for, and never guessed.
    fn lost(&self) -> CliError {
        let known = self.id.as_deref().map(|id| match self.ended(id) {
            Ok(record) => match text(&record, "status") {
                "exited" => format!(
                    "it has ended since, {}; `procring logs {id}` has what it wrote",
                    super::ps::status(&record)
                ),
                _ => format!("it still runs, and `procring kill {id}` ends it"),
            },
            Err(ClientError::Refused(problem)) if problem.status == 404 => {
                "the server knows nothing of it any more".to_owned()
            }
            Err(error) => format!("what became of it is not known: {error}"),
        });
        let known = known.unwrap_or_else(|| "whether it began is not known".to_owned());
        CliError::Failed(
            format!("the connection broke while the command ran; {known}"),
            SERVER_TROUBLE,
        )
    }
}

/// The answer of a run that was not streamed.
fn whole(answer: &Value) -> Result<u8> {
    output::stdout(text(answer, "stdout").as_bytes())?;
    output::stderr(text(answer, "stderr").as_bytes())?;
    if answer["stdoutTruncated"] == true || answer["stderrTruncated"] == true {
        notice::line("the rest of the output is lost: this server does not stream");
    }
    match answer["timedOut"] == true {
        true => Ok(TIMED_OUT),
        false => exit_code(answer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_missing_or_cannot_run_has_the_code_of_a_shell_with_the_reference_too() {
        let of = |number: u8| {
            format!("stream error: failed to spawn process: It is so (os error {number})")
        };
        assert_eq!(not_started(Some("ENOENT"), "any"), 127);
        assert_eq!(not_started(Some("EACCES"), "any"), 126);
        assert_eq!(not_started(None, &of(2)), 127);
        assert_eq!([13, 8].map(|n| not_started(None, &of(n))), [126, 126]);
        assert_eq!(not_started(None, &of(11)), 125);
        assert_eq!(not_started(None, "(os error 2)"), 125);
        assert_eq!(not_started(Some("EAGAIN"), &of(2)), 125);
    }
}
