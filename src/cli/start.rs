//! `start`, and what it and `run` ask for.

use serde_json::{Map, Value, json};

use super::context::Context;
use super::error::{CliError, Result};
use super::output;
use super::parse::{Parsed, time};
use super::ps::text;
use super::terminal;
use crate::client::{ClientError, Problem};
use crate::types::Limits;

/// Fields of a request that start something, from the flags that `start` and `run` share.
pub(super) fn request(parsed: &Parsed) -> Result<Map<String, Value>> {
    let mut words = parsed.words()?;
    let args = words.split_off(1);
    let mut body = Map::new();
    body.insert("command".to_owned(), words.swap_remove(0).into());
    body.insert("args".to_owned(), args.into());
    let env = variables(&parsed.values("env")?)?;
    if !env.is_empty() {
        body.insert("env".to_owned(), env.into());
    }
    if let Some(dir) = parsed.value("workdir")? {
        body.insert("cwd".to_owned(), dir.into());
    }
    for text in ["name", "user"] {
        if let Some(value) = parsed.value(text)? {
            body.insert(text.to_owned(), value.into());
        }
    }
    let labels = parsed.pairs("label")?;
    if !labels.is_empty() {
        let labels: Map<_, _> = labels.into_iter().map(|(k, v)| (k, v.into())).collect();
        body.insert("labels".to_owned(), labels.into());
    }
    let mut limits = Map::new();
    for (key, value) in parsed.pairs("limit")? {
        // A server passes over what it does not know, and a limit would be missing.
        let read = Limits::parse(&format!("{key}={value}"));
        let read =
            read.map_err(|error| CliError::Usage(format!("--limit {key}={value}: {error}")))?;
        for (limit, value) in read.iter() {
            limits.insert(limit.name().to_owned(), value.into());
        }
    }
    if !limits.is_empty() {
        body.insert("limits".to_owned(), limits.into());
    }
    Ok(body)
}

/// Variables as `K=V`, or `K` for the own value of it.
fn variables(given: &[String]) -> Result<Map<String, Value>> {
    let mut env = Map::new();
    for pair in given {
        let (key, value) = match pair.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (&**pair, std::env::var(pair).ok()),
        };
        if key.is_empty() {
            return Err(CliError::Usage(format!(
                "--env {pair:?}: must be KEY=VALUE or KEY"
            )));
        }
        // As docker(1): what is not set here is not set there.
        if let Some(value) = value {
            env.insert(key.to_owned(), value.into());
        }
    }
    Ok(env)
}

/// Fields of a request for a terminal of this window's size.
pub(super) fn in_terminal(body: &mut Map<String, Value>) {
    body.insert("tty".to_owned(), true.into());
    if let Some((cols, rows)) = terminal::size() {
        body.insert("cols".to_owned(), cols.into());
        body.insert("rows".to_owned(), rows.into());
    }
}

/// Refuses what an older server would ignore without a word.
pub(super) fn check(context: &Context, body: &Map<String, Value>) -> Result<()> {
    for (fields, capability) in [
        (&["name", "labels"][..], "names"),
        // A server that knows both and may not change the user says so itself.
        (&["limits", "user"], "limits"),
        (&["stdin", "deadlineMs"], "stdin"),
    ] {
        if let Some(field) = fields.iter().find(|field| body.contains_key(**field)) {
            context.require(capability, field)?;
        }
    }
    Ok(())
}

/// Why `command` was not started, in a sentence. Where something is missing, the server's own is
/// the same for a program and for a directory, and names it apart from that; else it names neither.
pub(super) fn refused(problem: Problem, command: &str) -> Problem {
    let (Some(code), Some(path)) = (problem.code.as_deref(), &problem.path) else {
        let Some(why) = why_of_system(&problem.detail) else {
            return problem;
        };
        let detail = format!(
            "{command} cannot be started where the server runs: {}",
            why.to_lowercase()
        );
        return Problem { detail, ..problem };
    };
    let detail = match code {
        "cwd_missing" => {
            format!("the working directory {path} does not exist where the server runs")
        }
        "ENOENT" if path.contains('/') => {
            format!("there is no program {path}, or its interpreter is missing")
        }
        "ENOENT" => format!("there is no program {path} in PATH"),
        _ => return problem,
    };
    Problem { detail, ..problem }
}

/// What the system said, where the server says no more than that.
fn why_of_system(detail: &str) -> Option<&str> {
    let (_, why) = detail.split_once("failed to spawn ")?;
    let (_, why) = why.split_once(": ")?;
    let (why, number) = why.split_once(" (os error ")?;
    let digits = number.strip_suffix(')')?;
    digits
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then_some(why)
}

pub(super) fn start(context: &Context, parsed: &Parsed) -> Result<u8> {
    let mut body = request(parsed)?;
    if parsed.has("tty") {
        in_terminal(&mut body);
    }
    if let Some(stdin) = parsed.value("stdin")? {
        body.insert("stdin".to_owned(), stdin.into());
    }
    if let Some(deadline) = parsed.read_value("deadline", "a time such as 90s or 1h30m", time)? {
        let ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
        body.insert("deadlineMs".to_owned(), json!(ms));
    }
    check(context, &body)?;
    let body = Value::from(body);
    let record = context.client.post("/v1/processes", &body);
    let record = record.map_err(|error| match error {
        ClientError::Refused(problem) => {
            ClientError::Refused(refused(problem, text(&body, "command")))
        }
        error => error,
    })?;
    output::line(record["id"].as_str().unwrap_or_default())?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_start_names_what_it_lacks() {
        let told = |code: &str, path: &str| {
            let problem = Problem {
                detail: "stream error: failed to spawn process: It is so (os error 1)".to_owned(),
                code: Some(code.to_owned()),
                path: Some(path.to_owned()),
                ..Problem::default()
            };
            refused(problem, "x").detail
        };
        assert_eq!(
            told("cwd_missing", "/work"),
            "the working directory /work does not exist where the server runs"
        );
        assert_eq!(told("ENOENT", "lss"), "there is no program lss in PATH");
        assert_eq!(
            told("ENOENT", "./a"),
            "there is no program ./a, or its interpreter is missing"
        );
        let other = Problem {
            detail: "conflict".to_owned(),
            ..Problem::default()
        };
        assert_eq!(refused(other.clone(), "x"), other);
        let denied = Problem {
            detail: "stream error: failed to spawn process: Permission denied (os error 13)"
                .to_owned(),
            code: Some("EACCES".to_owned()),
            ..Problem::default()
        };
        assert_eq!(
            refused(denied, "/etc/passwd").detail,
            "/etc/passwd cannot be started where the server runs: permission denied"
        );
        assert_eq!(
            why_of_system("failed to spawn tty process: Not a directory (os error 20)"),
            Some("Not a directory")
        );
        // What the server adds is the way out.
        let full = "failed to spawn process: No (os error 24); no descriptor is left (fs.file-max)";
        assert_eq!(why_of_system(full), None);
    }

    #[test]
    fn a_request_is_made_of_flags_and_words() {
        let args = [
            "start", "-e", "A=b=c", "-w", "/", "--name", "n", "-l", "k=v", "--limit",
        ];
        let args = args.iter().chain(&["memoryBytes=64M", "ls", "-l"]);
        let parsed = Parsed::read(args.map(std::ffi::OsString::from).collect()).unwrap();
        let expected = json!({
            "command": "ls", "args": ["-l"], "env": {"A": "b=c"}, "cwd": "/", "name": "n",
            "labels": {"k": "v"}, "limits": {"memoryBytes": 64 << 20},
        });
        assert_eq!(Value::from(request(&parsed).unwrap()), expected);
        for wrong in ["memoryByte=64M", "memoryBytes=0", "pids=many"] {
            let args = ["start", "--limit", wrong, "ls"].map(std::ffi::OsString::from);
            let parsed = Parsed::read(args.into()).unwrap();
            assert!(request(&parsed).is_err(), "{wrong}");
        }
    }
}
