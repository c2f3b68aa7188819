//! `ps` and `inspect`: records, as a table or as JSON.

use serde_json::Value;

use super::context::{Context, path};
use super::error::{CliError, Result};
use super::parse::Parsed;
use super::{output, show, terminal};
use crate::client::{Request, segment};
use crate::notice;

pub(super) fn ps(context: &Context, parsed: &Parsed) -> Result<u8> {
    let all = parsed.has("all");
    let labels = parsed.pairs("label")?;
    if !labels.is_empty() {
        context.require("names", "labels")?;
    }
    let mut query = vec![];
    if !all {
        query.push("status=running".to_owned());
    }
    for (key, value) in &labels {
        query.push(format!("label={}", segment(&format!("{key}={value}"))));
    }
    let list = context
        .client
        .get(&format!("/v1/processes?{}", query.join("&")))?;
    let shown = |record: &&Value| {
        // The reference knows neither parameter, and ignores it.
        let is_asked_for = all || record["status"] == "running";
        is_asked_for
            && labels
                .iter()
                .all(|(key, value)| record["labels"][key] == **value)
    };
    let records = list["processes"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(shown);
    if parsed.has("quiet") {
        let ids = records.map(|record| format!("{}\n", text(record, "id")));
        output::answer(&ids.collect::<String>())?;
        return Ok(0);
    }
    if parsed.has("json") {
        let records: Vec<_> = records.collect();
        output::line(show::indented(&serde_json::json!(records).to_string()))?;
        return Ok(0);
    }
    let look = output::look();
    let mut rows: Vec<_> = records.map(row).collect();
    let header = ["ID", "NAME", "STATUS", "PID", "AGE", "COMMAND"];
    if let Some((cols, _)) = terminal::size().filter(|_| look.is_for_people()) {
        show::fit(&header, &mut rows, cols.into());
    }
    output::answer(&show::table(&header, &rows, look))?;
    Ok(0)
}

fn row(record: &Value) -> Vec<String> {
    vec![
        text(record, "id").to_owned(),
        text(record, "name").to_owned(),
        status(record),
        record["pid"]
            .as_u64()
            .map_or(String::new(), |pid| pid.to_string()),
        show::duration(show::since(record["createdAtMs"].as_u64().unwrap_or(0))),
        command(record),
    ]
}

/// The command line of a record.
pub(super) fn command(record: &Value) -> String {
    let args = record["args"].as_array().into_iter().flatten();
    let args: Vec<_> = args.filter_map(Value::as_str).collect();
    show::command_line(text(record, "command"), &args)
}

/// Whether it runs, and how it ended.
pub(super) fn status(record: &Value) -> String {
    if text(record, "status") != "exited" {
        return text(record, "status").to_owned();
    }
    let mut how = match (record["exitCode"].as_i64(), record["signal"].as_str()) {
        (Some(code), _) => format!("exited({code})"),
        (None, Some(signal)) => format!("exited({signal})"),
        (None, None) => "exited".to_owned(),
    };
    if let Some(reason) = record["exitReason"].as_str() {
        how.push_str(&format!(",{reason}"));
    }
    if let Some(left) = record["descendants"].as_u64() {
        how.push_str(&format!("+{left}"));
    }
    how
}

/// A text of a record; empty where there is none.
pub(super) fn text<'r>(record: &'r Value, key: &str) -> &'r str {
    record[key].as_str().unwrap_or_default()
}

/// Says why a command has ended, where its code does not tell.
pub(super) fn say_reason(end: &Value) {
    if text(end, "exitReason") == "oom" {
        notice::line("killed by the kernel: it may have no more memory (limit memoryBytes)");
    }
}

/// The code that stands for an end in a shell: the program's own, or 128 and the signal's number.
pub(super) fn exit_code(end: &Value) -> Result<u8> {
    if let Some(code) = end["exitCode"]
        .as_u64()
        .and_then(|code| u8::try_from(code).ok())
    {
        return Ok(code);
    }
    let signal = end["signal"].as_str().unwrap_or("SIGKILL");
    let number = crate::types::signal::number(signal);
    let code = number.and_then(|number| u8::try_from(128 + number).ok());
    code.ok_or_else(|| CliError::Failed(format!("it ended by {signal}, which is unknown here"), 1))
}

pub(super) fn inspect(context: &Context, parsed: &Parsed) -> Result<u8> {
    context.for_each(parsed, |name| {
        let answer = context
            .client
            .expect(Request::get(&path(name, "?usage=true")))?;
        output::line(show::indented(&String::from_utf8_lossy(&answer.whole()?)))
    })
}
