//! Where the configuration is, and where the server listens.

use super::{Flag, Takes};
use crate::config::flags::Mode;
use crate::config::flags::value::{listen, listen_here, number, octal, text, who};

pub(super) const FLAGS: &[Flag] = &[
    Flag {
        long: "config",
        short: None,
        takes: Takes::Value("FILE", |args, value| {
            args.config = Some(value.into());
            Ok(())
        }),
        default: None,
        help: "read flags from this TOML file, too",
        more: "A key is a flag's name with _ for - (max_exited = 10), a list is an array, a flag \
               without a value a boolean. A flag wins over its variable, and that over the file. \
               SIGHUP has it read again: limits, tokens, users, origins and the level of the log \
               change, all of them or none; what needs a restart is named, and changes nothing.",
    },
    Flag {
        long: "print-config",
        short: None,
        takes: Takes::Nothing(|args| args.mode = Mode::Print),
        default: None,
        help: "print the configuration in force, and end",
        more: "As a file that says the same, without secrets.",
    },
    Flag {
        long: "check-config",
        short: None,
        takes: Takes::Nothing(|args| args.mode = Mode::Check),
        default: None,
        help: "say whether a server could start with it, and end",
        more: "Addresses are not bound.",
    },
    Flag {
        long: "host",
        short: Some('H'),
        takes: Takes::Value("HOST", |args, value| {
            args.host = text(value)?;
            Ok(())
        }),
        default: Some("127.0.0.1"),
        help: "address to bind",
        more: "An address that others can reach needs a token or an explicit --no-token.",
    },
    Flag {
        long: "port",
        short: Some('p'),
        takes: Takes::Value("PORT", |args, value| {
            args.port = number(value, "a number from 0 to 65535")?;
            Ok(())
        }),
        default: Some("2468"),
        help: "port to bind; 0 lets the kernel choose",
        more: "An address that is still held by a server that has just ended is tried again for \
               a second.",
    },
    Flag {
        long: "listen",
        short: None,
        takes: Takes::Values("ADDR", |args, value| {
            args.listen.push(listen(value)?);
            Ok(())
        }),
        default: None,
        help: "HOST:PORT, unix:PATH or systemd; replaces both",
        more: "unix:PATH answers root, the server's own user and those of --unix-allow-uid, and no \
               one else, whatever they bring. systemd takes the sockets that a socket unit has \
               opened (LISTEN_FDS).",
    },
    Flag {
        long: "unix-mode",
        short: None,
        takes: Takes::Value("MODE", |args, value| {
            args.unix_mode = octal(value)?;
            Ok(())
        }),
        default: Some("600"),
        help: "permissions of such a path, in octal",
        more: "",
    },
    Flag {
        long: "unix-allow-uid",
        short: None,
        takes: Takes::Values("USER", |args, value| {
            args.unix_users.push(who(value)?);
            Ok(())
        }),
        default: None,
        help: "let this user in over unix sockets",
        more: "A name or a number. --unix-mode has to let it connect.",
    },
    Flag {
        long: "unix-token",
        short: None,
        takes: Takes::Nothing(|args| args.unix_token = true),
        default: None,
        help: "ask for the token on unix sockets, too",
        more: "",
    },
    Flag {
        long: "metrics-listen",
        short: None,
        takes: Takes::Value("ADDR", |args, value| {
            args.metrics_listen = Some(listen_here(value)?);
            Ok(())
        }),
        default: None,
        help: "serve /metrics at HOST:PORT or unix:PATH, and only there",
        more: "To anybody who reaches it, without a token, beside /healthz and /readyz and nothing \
               else. It is answered when --max-connections are open, too.",
    },
    Flag {
        long: "public-metrics",
        short: None,
        takes: Takes::Nothing(|args| args.public_metrics = true),
        default: None,
        help: "serve /metrics to who brings no token, too",
        more: "",
    },
];
