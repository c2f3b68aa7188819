//! What is shown and written down.

use super::{Flag, Takes};
use crate::config::flags::value::{base_path, choice};
use crate::config::flags::{LogFormat, LogLevel};

pub(super) const FLAGS: &[Flag] = &[
    Flag {
        long: "base-path",
        short: None,
        takes: Takes::Value("PATH", |args, value| {
            args.base_path = base_path(value)?;
            Ok(())
        }),
        default: None,
        help: "what a proxy in front leaves before every path",
        more: "Such as /sandbox/7, for one that does not cut it off. Paths without it are answered, \
               too.",
    },
    Flag {
        long: "no-console",
        short: None,
        takes: Takes::Nothing(|args| args.no_console = true),
        default: None,
        help: "no page for people at /console/",
        more: "",
    },
    Flag {
        long: "log-level",
        short: None,
        takes: Takes::Value("LEVEL", |args, value| {
            args.log_level = choice(value, &LogLevel::ALL)?;
            Ok(())
        }),
        default: Some("info"),
        help: "lines on standard error: off, error, warn, info or debug",
        more: "With debug a line about a start shows the arguments. Tokens, inputs and outputs are \
               in no line.",
    },
    Flag {
        long: "log-format",
        short: None,
        takes: Takes::Value("FORMAT", |args, value| {
            let words = [
                ("auto", LogFormat::Auto),
                ("text", LogFormat::Text),
                ("json", LogFormat::Json),
                ("journal", LogFormat::Journal),
            ];
            args.log_format = choice(value, &words)?;
            Ok(())
        }),
        default: Some("auto"),
        help: "their form: text, json, journal, or auto",
        more: "auto is journal (text with a priority in front, sd-daemon(3)) where JOURNAL_STREAM \
               names standard error, else text.",
    },
    Flag {
        long: "audit-log",
        short: None,
        takes: Takes::Value("FILE", |args, value| {
            args.audit_log = Some(value.into());
            Ok(())
        }),
        default: None,
        help: "append to FILE who changed what, and who was refused",
        more: "A JSON object a line. SIGHUP opens the file anew. What cannot be written is counted \
               and told, and refuses nothing.",
    },
    Flag {
        long: "no-telemetry",
        short: None,
        takes: Takes::Nothing(|_| {}),
        default: None,
        help: "accepted for compatibility; there is no telemetry",
        more: "",
    },
];
