//! `events`: what happens to processes, one line each.

use serde_json::Value;

use super::context::{Context, PATIENCE, PAUSE};
use super::error::{CliError, Result};
use super::parse::Parsed;
use super::ps::{command, status, text};
use super::{output, show};
use crate::client::{Client, ClientError, Event, Events, segment};

pub(super) fn events(context: &Context, parsed: &Parsed) -> Result<u8> {
    let mut query = vec![];
    for (key, value) in parsed.pairs("label")? {
        query.push(format!("label={}", segment(&format!("{key}={value}"))));
    }
    let mut since = parsed.number("since")?.map(|since| since.to_string());
    let mut client: Client = context.client.clone();
    context.require("events", "events")?;
    loop {
        let mut query = query.clone();
        query.extend(since.iter().map(|since| format!("since={since}")));
        let path = format!("/v1/events?{}", query.join("&"));
        let response = client.open(&path)?;
        // From now on a server that is away comes back.
        client = context.client.patient(PATIENCE);
        for event in Events::new(response) {
            let Ok(event) = event else {
                break;
            };
            if !event.data.is_empty() {
                print(&event, parsed.has("json"))?;
            }
            since = event.id.or(since);
        }
        std::thread::sleep(PAUSE);
        if since.is_none() {
            // Nobody knows what was missed.
            return Err(CliError::Client(ClientError::Lost(
                std::io::ErrorKind::UnexpectedEof.into(),
            )));
        }
    }
}

fn print(event: &Event, as_json: bool) -> Result<()> {
    if as_json {
        return output::line(&event.data);
    }
    let data: Value = serde_json::from_str(&event.data).unwrap_or(Value::Null);
    if event.name == "gap" {
        return output::line(format_args!(
            "gap: events {} to {} are gone",
            data["from"], data["to"]
        ));
    }
    let record = &data["process"];
    let at = show::moment(data["timestampMs"].as_u64().unwrap_or(0));
    let name = match text(record, "name") {
        "" => String::new(),
        name => format!(" ({name})"),
    };
    let what = match &*event.name {
        "exited" => status(record),
        "deleted" if data["reason"] == "evicted" => "deleted(evicted)".to_owned(),
        other => other.to_owned(),
    };
    let what = output::look().paint(&what, show::colour_of(&what));
    let command = show::plain(&show::shortened(&command(record), 80));
    output::line(format_args!(
        "{at} {what} {}{name} {command}",
        text(record, "id")
    ))
}
