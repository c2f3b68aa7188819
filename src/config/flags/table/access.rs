//! Who may ask, and from which pages.

use std::ffi::OsStr;

use super::{Flag, Takes};
use crate::config::flags::value::{client_token, host, origin, text};

pub(super) const FLAGS: &[Flag] = &[
    Flag {
        long: "token",
        short: Some('t'),
        takes: Takes::Value("TOKEN", |args, value| {
            args.token = Some(header_text(value)?);
            Ok(())
        }),
        default: None,
        help: "require `Authorization: Bearer TOKEN`",
        more: "It is overwritten in the process's own command line and environment, and no child \
               gets it. An empty one is refused.",
    },
    Flag {
        long: "token-file",
        short: None,
        takes: Takes::Value("FILE", |args, value| {
            args.token_file = Some(value.into());
            Ok(())
        }),
        default: None,
        help: "the same, from the first line of FILE",
        more: "",
    },
    Flag {
        long: "client-token",
        short: None,
        takes: Takes::Values("NAME=FILE", |args, value| {
            let (name, file) = client_token(value)?;
            if args.client_tokens.iter().any(|(known, _)| *known == name) {
                return Err(format!("{name} has a token already"));
            }
            args.client_tokens.push((name, file));
            Ok(())
        }),
        default: None,
        help: "a token of its own for NAME, in FILE",
        more: "Its first line. It opens as much as the server's own, beside it or without one. The audit log tells \
               who used it (token:NAME), and SIGHUP reads it again, so that one of them can be \
               changed or taken back.",
    },
    Flag {
        long: "no-token",
        short: Some('n'),
        takes: Takes::Nothing(|args| args.no_token = true),
        default: None,
        help: "no token, also on an address that others can reach",
        more: "Whoever reaches the address can run commands. A token that is given all the same \
               is required.",
    },
    Flag {
        long: "allowed-host",
        short: None,
        takes: Takes::Values("HOST", |args, value| {
            args.allowed_hosts.push(host(value)?);
            Ok(())
        }),
        default: None,
        help: "allow this Host besides local ones; * for any",
        more: "Only a server without a token looks at it, against pages that have another name \
               resolve to this machine. On a loopback address it refuses all requests for other \
               names, elsewhere those by which a page of such a name would change something.",
    },
    Flag {
        long: "cors-allow-origin",
        short: Some('O'),
        takes: Takes::Values("O", |args, value| {
            args.cors_origins.push(origin(value)?);
            Ok(())
        }),
        default: None,
        help: "allow pages of this origin; * for any",
        more: "Such as https://app.example:8443. It is compared in the form that browsers send; \
               what none of them sends is refused.",
    },
    Flag {
        long: "cors-allow-method",
        short: Some('M'),
        takes: Takes::Values("M", |args, value| {
            args.cors_methods.push(header_text(value)?);
            Ok(())
        }),
        default: Some("any"),
        help: "methods named to browsers",
        more: "",
    },
    Flag {
        long: "cors-allow-header",
        short: Some('A'),
        takes: Takes::Values("H", |args, value| {
            args.cors_headers.push(header_text(value)?);
            Ok(())
        }),
        default: Some("any"),
        help: "headers named to browsers",
        more: "",
    },
    Flag {
        long: "cors-allow-credentials",
        short: Some('C'),
        takes: Takes::Nothing(|args| args.cors_credentials = true),
        default: None,
        help: "let browsers send credentials",
        more: "",
    },
];

/// What can stand in a header.
fn header_text(value: &OsStr) -> Result<String, String> {
    let value = text(value)?;
    if value.trim().is_empty() || value.chars().any(char::is_control) {
        return Err("must not be empty or hold control characters".to_owned());
    }
    Ok(value)
}
