//! Reads one value of a flag. Every error completes "FLAG VALUE: ...".

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::{AllowUser, Listen};
use crate::config::timeouts;
use crate::types::{Limits, UserName, Who};
use crate::wire::http::origin::serialized;

/// Bytes of a socket's path, but for the one that ends it (unix(7)).
const UNIX_PATH_MAX: usize = 107;

/// Bytes of the name of a client.
const NAME_BYTES_MAX: usize = 64;

/// Any text.
pub(super) fn text(value: &OsStr) -> Result<String, String> {
    let value = value.to_str().ok_or("must be UTF-8")?;
    Ok(value.to_owned())
}

/// A number; `what` says which.
pub(super) fn number<T: FromStr>(value: &OsStr, what: &str) -> Result<T, String> {
    let number = value.to_str().and_then(|value| value.parse().ok());
    number.ok_or_else(|| format!("must be {what}"))
}

/// A number greater than 0.
pub(super) fn positive(value: &OsStr) -> Result<usize, String> {
    let what = "a number greater than 0";
    match number(value, what)? {
        0 => Err(format!("must be {what}")),
        number => Ok(number),
    }
}

/// A number of bytes, at least `min`; K, M, G and T stand for powers of 1024.
pub(super) fn bytes(value: &OsStr, min: u64) -> Result<u64, String> {
    const UNITS: [(char, u32); 4] = [('K', 10), ('M', 20), ('G', 30), ('T', 40)];
    let parse = |text: &str| {
        let unit = UNITS
            .iter()
            .find(|(unit, _)| text.ends_with([*unit, unit.to_ascii_lowercase()]));
        let (digits, shift) = match unit {
            Some((_, shift)) => (&text[..text.len() - 1], *shift),
            None => (text, 0),
        };
        let number: u64 = digits.parse().ok()?;
        number.checked_mul(1 << shift)
    };
    let bytes = value.to_str().and_then(parse);
    bytes.filter(|bytes| *bytes >= min).ok_or_else(|| {
        format!("must be at least {min} bytes, as a number that K, M or G may follow")
    })
}

/// Permissions in octal.
pub(super) fn octal(value: &OsStr) -> Result<u32, String> {
    let mode = value
        .to_str()
        .and_then(|value| u32::from_str_radix(value, 8).ok());
    mode.filter(|mode| *mode <= 0o777)
        .ok_or_else(|| "must be permissions in octal, such as 660".to_owned())
}

/// Where connections come from.
pub(super) fn listen(value: &OsStr) -> Result<Listen, String> {
    if let Some(path) = value.as_bytes().strip_prefix(b"unix:") {
        return match path.len() {
            1..=UNIX_PATH_MAX => Ok(Listen::Unix(OsStr::from_bytes(path).into())),
            _ => Err(format!(
                "must name a path of 1 to {UNIX_PATH_MAX} bytes (unix(7))"
            )),
        };
    }
    let value = text(value)?;
    match (&*value, value.rsplit_once(':')) {
        ("systemd", _) => Ok(Listen::Systemd),
        // What the command line starts for itself; nothing for people.
        ("starter", _) => Ok(Listen::Starter),
        (_, Some((host, port))) if !host.is_empty() && !host.ends_with(':') => {
            let port = port
                .parse()
                .map_err(|_| "the port must be a number from 0 to 65535")?;
            Ok(Listen::Tcp {
                host: host.to_owned(),
                port,
            })
        }
        _ => Err("must be HOST:PORT, unix:PATH or systemd".to_owned()),
    }
}

/// An address or path to listen on.
pub(super) fn listen_here(value: &OsStr) -> Result<Listen, String> {
    match listen(value) {
        Ok(here @ (Listen::Tcp { .. } | Listen::Unix(_))) => Ok(here),
        Ok(Listen::Systemd | Listen::Starter) | Err(_) => {
            Err("must be HOST:PORT or unix:PATH".to_owned())
        }
    }
}

/// An origin as browsers send it, since it is compared with what they send; or `*`.
pub(super) fn origin(value: &OsStr) -> Result<String, String> {
    let value = text(value)?;
    if value == "*" {
        return Ok(value);
    }
    serialized(&value).map_err(|error| format!("{error} (* for any)"))
}

/// A host as it stands in `Host`, with a port or without, since it is compared with that; or `*`.
pub(super) fn host(value: &OsStr) -> Result<String, String> {
    let value = text(value)?;
    // Whatever is host and port in an origin is so in `Host`, too.
    let is_host = !value.contains('/') && serialized(&format!("http://{value}")).is_ok();
    if is_host || value == "*" {
        return Ok(value);
    }
    Err("must be a name or an address, with :PORT or without; no pattern (* for any)".to_owned())
}

/// `NAME=FILE`: whose token is in which file. The name stands in logs.
pub(super) fn client_token(value: &OsStr) -> Result<(String, PathBuf), String> {
    let bytes = value.as_bytes();
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.@".contains(byte);
    let split = bytes.iter().position(|byte| *byte == b'=');
    let (name, file) = match split {
        Some(at @ 1..=NAME_BYTES_MAX) => (&bytes[..at], &bytes[at + 1..]),
        _ => (&[][..], &[][..]),
    };
    match std::str::from_utf8(name) {
        Ok(text) if !file.is_empty() && name.iter().all(is_plain) => {
            Ok((text.to_owned(), OsStr::from_bytes(file).into()))
        }
        _ => Err(format!(
            "must be NAME=FILE, the name 1 to {NAME_BYTES_MAX} letters, digits and -_.@"
        )),
    }
}

/// A path that others stand below; without the slash at its end.
pub(super) fn base_path(value: &OsStr) -> Result<String, String> {
    let value = text(value)?;
    let bare = value.strip_suffix('/').unwrap_or(&value);
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    let is_path = bare.starts_with('/') && !bare.contains("//") && bare.bytes().all(is_plain);
    match bare.is_empty() || is_path {
        true => Ok(bare.to_owned()),
        false => Err("must be a path such as /sandbox/7, of letters, digits and -._~".to_owned()),
    }
}

/// A time: a number of `bare`, or one with a unit; with a fraction or without.
fn time(value: &OsStr, bare: Duration) -> Option<Duration> {
    const UNITS: [(&str, Duration); 4] = [
        ("ms", Duration::from_millis(1)),
        ("s", Duration::from_secs(1)),
        ("m", Duration::from_secs(60)),
        ("h", Duration::from_secs(3600)),
    ];
    let value = value.to_str()?;
    let (digits, unit) = UNITS
        .into_iter()
        .find_map(|(name, unit)| Some((value.strip_suffix(name)?, unit)))
        .unwrap_or((value, bare));
    // Not what a float may be besides a number.
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    if let Ok(whole) = digits.parse::<u32>() {
        return unit.checked_mul(whole);
    }
    let number: f64 = digits.parse().ok()?;
    Duration::try_from_secs_f64(number * unit.as_secs_f64()).ok()
}

/// Until a server that ends kills: a number of seconds, or a time with its unit.
pub(super) fn grace(value: &OsStr) -> Result<Duration, String> {
    time(value, Duration::from_secs(1))
        .filter(|grace| *grace <= timeouts::SHUTDOWN_GRACE_MAX)
        .ok_or_else(|| {
            format!(
                "must be between 0 and {} seconds, as a number that ms, s, m or h may follow",
                timeouts::SHUTDOWN_GRACE_MAX.as_secs()
            )
        })
}

/// Milliseconds, or a time with its unit; at least one of them.
pub(super) fn milliseconds(value: &OsStr) -> Result<u64, String> {
    // As a client may write it.
    let number = || {
        let digits = value.to_str()?;
        let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse().ok().filter(|_| is_number)
    };
    if let Some(number @ 1..) = number() {
        return Ok(number);
    }
    time(value, Duration::from_millis(1))
        .and_then(|time| u64::try_from(time.as_millis()).ok())
        .filter(|ms| *ms > 0)
        .ok_or_else(|| {
            "must be a time of at least 1 ms, as a number that ms, s, m or h may follow".to_owned()
        })
}

/// A number greater than 0, of 64 bits.
pub(super) fn whole(value: &OsStr) -> Result<u64, String> {
    let what = "a number greater than 0";
    match number(value, what)? {
        0 => Err(format!("must be {what}")),
        number => Ok(number),
    }
}

/// Limits, as `memoryBytes=64M,pids=100`.
pub(super) fn limits(value: &OsStr) -> Result<Limits, String> {
    Limits::parse(&text(value)?).map_err(|error| error.to_string())
}

/// A user, with a group or without.
pub(super) fn user(value: &OsStr) -> Result<UserName, String> {
    UserName::parse(&text(value)?).map_err(|error| error.to_string())
}

/// A user alone.
pub(super) fn who(value: &OsStr) -> Result<Who, String> {
    let must = "must be the name or the number of a user";
    match UserName::parse(&text(value)?) {
        Ok(UserName { user, group: None }) => Ok(user),
        _ => Err(must.to_owned()),
    }
}

/// The same with a group or without, or `*`.
pub(super) fn allow_user(value: &OsStr) -> Result<AllowUser, String> {
    match value == "*" {
        true => Ok(AllowUser::Everybody),
        false => user(value)
            .map(AllowUser::User)
            .map_err(|must| format!("{must}, or *")),
    }
}

/// One of these words.
pub(super) fn choice<T: Copy>(value: &OsStr, words: &[(&str, T)]) -> Result<T, String> {
    if let Some((_, chosen)) = words.iter().find(|(word, _)| value == *word) {
        return Ok(*chosen);
    }
    let (last, others) = words.split_last().ok_or("has no values")?;
    let others: Vec<_> = others.iter().map(|(word, _)| *word).collect();
    Err(format!("must be {} or {}", others.join(", "), last.0))
}

/// What a variable of the environment says of a flag that takes nothing.
pub(super) fn switch(value: &OsStr) -> Result<bool, String> {
    let words = [("true", true), ("1", true), ("false", false), ("0", false)];
    choice(value, &words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_have_units_and_bounds() {
        let ms = |text: &str| milliseconds(OsStr::new(text)).ok();
        for (text, expected) in [
            ("1", 1),
            ("1500", 1500),
            ("1500ms", 1500),
            ("1.5s", 1500),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("0.5h", 1_800_000),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(ms(text), Some(expected), "{text}");
        }
        for text in [
            "",
            "0",
            "0s",
            "-1s",
            "s",
            "ms",
            "1d",
            "1 s",
            "+1",
            "inf",
            "NaN",
            "nans",
            "infs",
            "1e400s",
            "99999999999999999999h",
            ".5s",
            "1.s5",
        ] {
            assert_eq!(ms(text), None, "{text:?}");
        }
        assert_eq!(grace(OsStr::new("1.5")), Ok(Duration::from_millis(1500)));
        assert_eq!(grace(OsStr::new("0")), Ok(Duration::ZERO));
        assert_eq!(grace(OsStr::new("250ms")), Ok(Duration::from_millis(250)));
        assert!(grace(OsStr::new("2h")).is_err());
        let bytes = |text: &str| bytes(OsStr::new(text), 1).ok();
        for (text, expected) in [
            ("1", 1),
            ("64K", 65_536),
            ("10m", 10 << 20),
            ("2G", 2 << 30),
            ("17179869183G", 17_179_869_183 << 30),
        ] {
            assert_eq!(bytes(text), Some(expected), "{text}");
        }
        for text in [
            "",
            "0",
            "0K",
            "K",
            "-1",
            "1.5M",
            "1KB",
            "17179869184G",
            "1 K",
        ] {
            assert_eq!(bytes(text), None, "{text:?}");
        }
    }
}
