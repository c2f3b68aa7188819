//! Overwrites a token where other processes can read it: in this process's arguments
//! (`/proc/<pid>/cmdline`, readable by everybody) and environment (`/proc/<pid>/environ`).
//!
//! In: a token. Out: the same bytes of memory without it. The kernel shows both from where it put
//! them at exec, so that is where they are overwritten, through `/proc/self/mem`: the standard
//! library has its own copy of the arguments, and skips variables without a name.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use super::VARIABLE;

/// Fields of proc_pid_stat(5), counted from the one behind the name: `arg_start` and those after.
const ARG_START: usize = 45;

/// What stands in the place of a token in the arguments. The environment gets zeros.
const FILLER: u8 = b'x';

/// Overwrites every argument that is, or gives, the `flag`'s value, and every variable that is
/// `PROCRING_TOKEN` or has `token` as its value.
///
/// # Errors
/// When one of the two can still be read.
pub(super) fn conceal(flag: Option<&str>, token: &str) -> io::Result<()> {
    let block = Blocks::find()?;
    let memory = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/proc/self/mem")?;
    if let Some(flag) = flag {
        overwrite(&memory, &block.arguments, FILLER, |text| {
            in_arguments(text, flag.as_bytes())
        })?;
    }
    overwrite(&memory, &block.environment, 0, |text| {
        in_environment(text, token.as_bytes())
    })
}

/// Where the kernel reads the two from.
struct Blocks {
    arguments: Range<u64>,
    environment: Range<u64>,
}

impl Blocks {
    fn find() -> io::Result<Self> {
        // The name of this program is in it, which may be any bytes.
        let stat = std::fs::read("/proc/self/stat")?;
        Self::parse(&String::from_utf8_lossy(&stat))
            .ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// None where the kernel does not tell.
    fn parse(stat: &str) -> Option<Self> {
        let (_, fields) = stat.rsplit_once(')')?;
        let mut addresses = fields
            .split_ascii_whitespace()
            .skip(ARG_START)
            .map(str::parse::<u64>);
        let mut next = || addresses.next()?.ok().filter(|&address| address != 0);
        Some(Self {
            arguments: next()?..next()?,
            environment: next()?..next()?,
        })
    }
}

/// Fills what `find` finds in this part of the memory, and looks again.
fn overwrite(
    memory: &File,
    place: &Range<u64>,
    filler: u8,
    find: impl Fn(&[u8]) -> Vec<Range<usize>>,
) -> io::Result<()> {
    let len = place.end.saturating_sub(place.start);
    // The kernel takes at most a quarter of the stack for both (execve(2)); this is on the way.
    let len = usize::try_from(len).map_err(|_| io::ErrorKind::InvalidData)?;
    let mut text = vec![0; len];
    memory.read_exact_at(&mut text, place.start)?;
    for found in find(&text) {
        let filling = vec![filler; found.len()];
        memory.write_all_at(&filling, place.start + found.start as u64)?;
    }
    memory.read_exact_at(&mut text, place.start)?;
    if find(&text).is_empty() {
        Ok(())
    } else {
        Err(io::ErrorKind::PermissionDenied.into())
    }
}

/// Every string of a block in which each ends with a zero, and where it begins.
fn strings(block: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut at = 0;
    block.split(|&byte| byte == 0).map(move |string| {
        let start = at;
        at += string.len() + 1;
        (start, string)
    })
}

/// `T`, `--token=T`, `-tT`, `-t=T` and other short flags before the `t`.
fn in_arguments(block: &[u8], token: &[u8]) -> Vec<Range<usize>> {
    let gives = |before: &[u8]| {
        let short = before.len() > 1 && before.starts_with(b"-") && !before.starts_with(b"--");
        before.is_empty()
            || before == b"--token="
            || short && (before.ends_with(b"t") || before.ends_with(b"t="))
    };
    strings(block)
        .filter_map(|(start, argument)| {
            let before = argument.strip_suffix(token)?;
            let found = start + before.len()..start + argument.len();
            (gives(before) && argument[before.len()..].iter().any(|&b| b != FILLER))
                .then_some(found)
        })
        .collect()
}

/// Whole variables, with their names.
fn in_environment(block: &[u8], token: &[u8]) -> Vec<Range<usize>> {
    strings(block)
        .filter(|(_, variable)| {
            let at = variable.iter().position(|&byte| byte == b'=');
            at.is_some_and(|at| {
                variable[..at] == *VARIABLE.as_bytes() || variable[at + 1..] == *token
            })
        })
        .map(|(start, variable)| start..start + variable.len())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(block: &[u8], found: &[Range<usize>]) -> Vec<String> {
        let text = |range: &Range<usize>| String::from_utf8_lossy(&block[range.clone()]).into();
        found.iter().map(text).collect()
    }

    #[test]
    fn every_form_of_the_flag_is_found_and_nothing_else() {
        for (arguments, places) in [
            ("procring\0server\0--token\0s3c\0-n\0", 1),
            ("procring\0server\0--token=s3c\0-n\0", 1),
            ("procring\0server\0-t\0s3c\0", 1),
            ("procring\0server\0-ts3c\0", 1),
            ("procring\0server\0-nCts3c\0", 1),
            ("procring\0server\0-nt=s3c\0", 1),
            ("procring\0server\0-ts3c\0--token\0s3c\0", 2),
            (
                "procring\0server\0--host\0s3cx\0--token-file=s3c\0-Os3c\0",
                0,
            ),
        ] {
            let found = in_arguments(arguments.as_bytes(), b"s3c");
            let shown = shown(arguments.as_bytes(), &found);
            assert_eq!(shown, vec!["s3c"; places], "{arguments:?}");
        }
        // What was overwritten is not found again, even if it looks like the token.
        assert!(in_arguments(b"procring\0--token\0xxx\0", b"xxx").is_empty());
    }

    #[test]
    fn variables_are_found_by_their_name_and_by_their_value() {
        let block = b"PATH=/bin\0PROCRING_TOKEN=old\0MINE=s3c\0OTHER=s3cr\0PROCRING_TOKENS=a\0";
        let found = in_environment(block, b"s3c");
        assert_eq!(shown(block, &found), ["PROCRING_TOKEN=old", "MINE=s3c"]);
    }

    #[test]
    fn addresses_are_read_behind_a_name_with_parentheses() {
        let numbers = (4..=52).map(|n| n.to_string()).collect::<Vec<_>>();
        let stat = format!("7 (a) (b)) S {}\n", numbers.join(" "));
        let blocks = Blocks::parse(&stat).unwrap();
        assert_eq!((blocks.arguments, blocks.environment), (48..49, 50..51));
        assert!(Blocks::parse("7 (a) S 1 2 3").is_none());
    }
}
