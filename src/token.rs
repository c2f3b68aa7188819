//! Where the token comes from, and how it is kept from children.
//!
//! In: flags and the environment. Out: the token. A token on the command line can be read by any
//! child in `/proc/<ppid>/cmdline`, so the server starts itself again with the token in a memfd and
//! without it in its arguments.

use std::ffi::OsString;
use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::cli::ServerArgs;

/// Acts like `--token`.
pub const VARIABLE: &str = "PROCRING_TOKEN";

/// Names the descriptor that carries the token from one start to the next.
const HANDED_OVER: &str = "PROCRING_TOKEN_FD";

/// Variables of the server's own; no child gets them.
pub const VARIABLES: [&str; 2] = [VARIABLE, HANDED_OVER];

/// The token, from the first of: the previous start, `--token`, `--token-file`, the variable.
///
/// With `--token` it does not return where it succeeds: the process becomes a server without the
/// token in its arguments. Where that is refused, it goes on with the token visible.
///
/// # Errors
/// A sentence, when a file cannot be read or holds no token.
pub fn find(args: &ServerArgs) -> Result<Option<String>, String> {
    if let Some(token) = &args.token {
        start_again(token);
        return Ok(Some(token.clone()));
    }
    if let Some(path) = &args.token_file {
        let text = fs::read_to_string(path)
            .map_err(|error| format!("--token-file {}: {error}", path.display()))?;
        let token = text.lines().next().unwrap_or_default().trim().to_owned();
        if token.is_empty() {
            return Err(format!(
                "--token-file {}: its first line holds no token",
                path.display()
            ));
        }
        return Ok(Some(token));
    }
    if let Some(fd) = std::env::var_os(HANDED_OVER) {
        let mut path = OsString::from("/proc/self/fd/");
        path.push(&fd);
        let mut token = String::new();
        let read = fs::File::open(path).and_then(|mut file| file.read_to_string(&mut token));
        return match read {
            Ok(_) if !token.is_empty() => Ok(Some(token)),
            // Never an open server because a descriptor went missing.
            Ok(_) => Err(format!("{HANDED_OVER}: the descriptor holds no token")),
            Err(error) => Err(format!("{HANDED_OVER}: {error}")),
        };
    }
    match std::env::var(VARIABLE) {
        Ok(token) if !token.is_empty() => Ok(Some(token)),
        Ok(_) | Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => Err(format!("{VARIABLE} is not UTF-8")),
    }
}

/// Replaces this process by one that has the token in a memfd. Returns only if that is refused.
fn start_again(token: &str) {
    let Ok(memfd) = memfd::MemfdOptions::new()
        .close_on_exec(false)
        .create("procring-token")
    else {
        return;
    };
    let mut file = memfd.as_file();
    if file.write_all(token.as_bytes()).is_err() || file.seek(SeekFrom::Start(0)).is_err() {
        return;
    }
    let _ = Command::new("/proc/self/exe")
        .args(without_token(std::env::args_os().skip(1)))
        .env_remove(VARIABLE)
        .env(HANDED_OVER, file.as_raw_fd().to_string())
        .exec();
}

/// The arguments without `--token` and `-t`, in every form that the parser takes.
fn without_token(args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut kept = Vec::new();
    let mut args = args.peekable();
    // Flags whose value is the next argument, which must not be taken for a flag itself.
    const WITH_VALUE: [&str; 11] = [
        "--host",
        "--port",
        "--token-file",
        "--allowed-host",
        "--cors-allow-origin",
        "--cors-allow-method",
        "--cors-allow-header",
        "--io-backend",
        "--max-exited",
        "--max-connections",
        "--shutdown-grace",
    ];
    while let Some(arg) = args.next() {
        let text = arg.to_string_lossy().into_owned();
        if text == "--token" {
            args.next();
        } else if text.starts_with("--token=") {
            // The value goes with it.
        } else if text.starts_with("--") {
            kept.push(arg);
            if WITH_VALUE.contains(&text.as_str()) {
                kept.extend(args.next());
            }
        } else if let Some(letters) = text.strip_prefix('-') {
            match cluster(letters) {
                Cluster::Kept { value_follows } => {
                    kept.push(arg);
                    if value_follows {
                        kept.extend(args.next());
                    }
                }
                Cluster::Token {
                    before,
                    value_follows,
                } => {
                    if !before.is_empty() {
                        kept.push(format!("-{before}").into());
                    }
                    if value_follows {
                        args.next();
                    }
                }
            }
        } else {
            kept.push(arg);
        }
    }
    kept
}

enum Cluster {
    Kept { value_follows: bool },
    Token { before: String, value_follows: bool },
}

/// Short flags written together, such as `-nCp80`: the first that takes a value takes the rest.
fn cluster(letters: &str) -> Cluster {
    for (at, letter) in letters.char_indices() {
        let last = at + letter.len_utf8() == letters.len();
        match letter {
            't' => {
                return Cluster::Token {
                    before: letters[..at].to_owned(),
                    value_follows: last,
                };
            }
            'H' | 'p' | 'O' | 'M' | 'A' => {
                return Cluster::Kept {
                    value_follows: last,
                };
            }
            _ => {}
        }
    }
    Cluster::Kept {
        value_follows: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stripped(args: &[&str]) -> Vec<String> {
        without_token(args.iter().map(OsString::from))
            .into_iter()
            .map(|a| a.into_string().unwrap())
            .collect()
    }

    #[test]
    fn every_form_of_the_token_flag_disappears_and_nothing_else() {
        for args in [
            &["server", "--token", "s", "-n"][..],
            &["server", "--token=s", "-n"],
            &["server", "-t", "s", "-n"],
            &["server", "-ts", "-n"],
            &["server", "-nts"],
            &["server", "-nt", "s"],
            &["server", "-t=s", "-n"],
        ] {
            assert_eq!(stripped(args), ["server", "-n"], "{args:?}");
        }
        let kept = [
            "server",
            "--host",
            "-t",
            "-H",
            "--token",
            "-p80",
            "-O",
            "x",
            "--cors-allow-origin=--token",
        ];
        assert_eq!(stripped(&kept), kept);
    }
}
