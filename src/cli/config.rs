//! `config`: the six limits that a client may change.

use serde_json::Value;

use super::context::Context;
use super::error::{CliError, Result};
use super::parse::Parsed;
use super::{output, show};
use crate::types::nearest::meant;
use crate::types::size;

const PATH: &str = "/v1/processes/config";

pub(super) fn config(context: &Context, parsed: &Parsed) -> Result<u8> {
    let words = parsed.words()?;
    let mut settings = context.client.get(PATH)?;
    if let Some((verb, changes)) = words.split_first() {
        if verb != "set" || changes.is_empty() {
            return Err(CliError::Usage(
                "procring config prints the limits; `procring config set KEY=VALUE...` changes them"
                    .to_owned(),
            ));
        }
        for change in changes {
            set(&mut settings, change)?;
        }
        settings = context.client.post(PATH, &settings)?;
    }
    if parsed.has("json") {
        output::line(show::indented(&settings.to_string()))?;
        return Ok(0);
    }
    let settings = settings.as_object().into_iter().flatten();
    let rows: Vec<_> = settings
        .map(|(key, value)| vec![key.clone(), value.to_string()])
        .collect();
    output::answer(&show::table(&["LIMIT", "VALUE"], &rows, output::look()))?;
    Ok(0)
}

fn set(settings: &mut Value, change: &str) -> Result<()> {
    let (key, value) = change
        .split_once('=')
        .ok_or_else(|| CliError::Usage(format!("{change:?}: must be KEY=VALUE")))?;
    let known = settings.as_object_mut();
    let Some(known) = known.filter(|known| known.contains_key(key)) else {
        let names = settings.as_object().into_iter().flatten();
        let names: Vec<_> = names.map(|(name, _)| &**name).collect();
        let way_out = match meant(key, names.iter().copied()) {
            Some(near) => format!("the nearest is {near}"),
            None => format!("there are {}", names.join(", ")),
        };
        return Err(CliError::Usage(format!(
            "there is no limit {key:?}; {way_out}"
        )));
    };
    let number = if key.ends_with("Ms") {
        let time = super::parse::time(value).filter(|_| value.parse::<u64>().is_err());
        time.and_then(|time| u64::try_from(time.as_millis()).ok())
            .or(value.parse().ok())
    } else {
        size::parse(value)
    };
    let number =
        number.ok_or_else(|| CliError::Usage(format!("{key} {value:?}: must be a number")))?;
    known.insert(key.to_owned(), number.into());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_names_a_limit_and_a_number_with_its_unit() {
        let mut settings = serde_json::json!({"maxOutputBytes": 1, "defaultRunTimeoutMs": 2});
        set(&mut settings, "maxOutputBytes=64K").unwrap();
        set(&mut settings, "defaultRunTimeoutMs=90s").unwrap();
        assert_eq!(settings["maxOutputBytes"], 65_536);
        assert_eq!(settings["defaultRunTimeoutMs"], 90_000);
        set(&mut settings, "defaultRunTimeoutMs=500").unwrap();
        assert_eq!(settings["defaultRunTimeoutMs"], 500);
        for wrong in ["maxOutputByte=1", "maxOutputBytes", "maxOutputBytes=much"] {
            assert!(set(&mut settings, wrong).is_err(), "{wrong}");
        }
    }
}
