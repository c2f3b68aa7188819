//! The small programs that managed processes run: `procring-bench child WHAT ...`.
//!
//! They are the other end of a measurement: they stamp lines with the time they were
//! written, number the records of a burst, and put a terminal into raw mode.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

use crate::account::monotonic_ns;
use crate::launch;

/// Bytes of one numbered record: 15 digits and a line feed.
pub(crate) const RECORD: usize = 16;
/// Bytes of one stamped line.
pub(crate) const LINE: usize = 64;
/// What a writer's last block ends with.
pub(crate) const END: &[u8] = b"END\n";

/// Runs the program named by `args`.
///
/// # Errors
/// Whatever its reads and writes report; the server sees a non-zero exit.
pub(crate) fn run(args: &[String]) -> io::Result<()> {
    let number = |index: usize| {
        args.get(index)
            .and_then(|text| text.parse::<u64>().ok())
            .unwrap_or(0)
    };
    match args.first().map_or("", String::as_str) {
        "write" => write(number(1), number(2)),
        "print" => print(number(1)),
        "flood" => flood(number(1)),
        "burst" => burst(number(1)),
        "lines" => lines(number(1), number(2)),
        "paced" => paced(number(1), number(2)),
        "tty-echo" => tty_echo(),
        "tty-burst" => tty_burst(number(1)),
        "launch" => Err(launch::become_program(&args[1..])),
        other => Err(io::Error::other(format!(
            "no such child program: {other:?}"
        ))),
    }
}

/// `total` bytes in blocks, as fast as the reader takes them; the last block says so.
fn write(total: u64, block: u64) -> io::Result<()> {
    let mut data = records(block);
    let mut out = io::stdout()
        .as_fd()
        .try_clone_to_owned()
        .map(std::fs::File::from)?;
    for index in 0..total / block {
        if index + 1 == total / block {
            let start = data.len() - END.len();
            data[start..].copy_from_slice(END);
        }
        out.write_all(&data)?;
    }
    Ok(())
}

/// `total` bytes of text in one go, for one-shot runs.
fn print(total: u64) -> io::Result<()> {
    stdout_file()?.write_all(&records(total))
}

/// 64 KiB blocks, `total` bytes of them; until killed if that is 0.
fn flood(total: u64) -> io::Result<()> {
    let data = records(64 * 1024);
    let mut out = stdout_file()?;
    wait_for_line()?;
    let blocks = match total {
        0 => u64::MAX,
        total => total / data.len() as u64,
    };
    (0..blocks).try_for_each(|_| out.write_all(&data))
}

/// Numbered records, prepared before the go-ahead so that only the writing is timed.
fn burst(total: u64) -> io::Result<()> {
    let data = records(total);
    let mut out = stdout_file()?;
    io::stderr().write_all(b"ready\n")?;
    wait_for_line()?;
    data.chunks(64 * 1024)
        .try_for_each(|block| out.write_all(block))
}

/// `count` lines, each stamped with the monotonic time right before its write.
fn lines(count: u64, interval_us: u64) -> io::Result<()> {
    let mut out = stdout_file()?;
    wait_for_line()?;
    let start = monotonic_ns();
    for index in 0..count {
        let due = start + index * interval_us * 1000;
        let wait = due.saturating_sub(monotonic_ns());
        if wait > 0 {
            std::thread::sleep(Duration::from_nanos(wait));
        }
        let line = format!("{:020}{:>width$}\n", monotonic_ns(), "", width = LINE - 21);
        out.write_all(line.as_bytes())?;
    }
    Ok(())
}

/// `count` blocks, each written only when the reader has taken the one before, so that
/// every server holds the same entries.
fn paced(count: u64, block: u64) -> io::Result<()> {
    let data = records(block);
    let mut out = stdout_file()?;
    for _ in 0..count {
        out.write_all(&data)?;
        while rustix::io::ioctl_fionread(&out)? > 0 {
            std::thread::yield_now();
        }
    }
    Ok(())
}

/// A raw terminal that sends every byte back, as an editor or a shell's line editor does.
fn tty_echo() -> io::Result<()> {
    raw_mode()?;
    let mut out = stdout_file()?;
    out.write_all(b"R")?;
    let mut buffer = [0; 4096];
    loop {
        match io::stdin().lock().read(&mut buffer)? {
            0 => return Ok(()),
            count => out.write_all(&buffer[..count])?,
        }
    }
}

/// A raw terminal that writes `total` bytes after the first key.
fn tty_burst(total: u64) -> io::Result<()> {
    raw_mode()?;
    let data = records(64 * 1024);
    let mut out = stdout_file()?;
    out.write_all(b"R")?;
    io::stdin().lock().read_exact(&mut [0])?;
    let mut left = total as usize;
    while left > 0 {
        let take = left.min(data.len());
        out.write_all(&data[..take])?;
        left -= take;
    }
    Ok(())
}

fn raw_mode() -> io::Result<()> {
    let mut mode = tcgetattr(io::stdin())?;
    mode.make_raw();
    Ok(tcsetattr(io::stdin(), OptionalActions::Now, &mode)?)
}

/// Standard output without std's line buffer.
fn stdout_file() -> io::Result<std::fs::File> {
    io::stdout()
        .as_fd()
        .try_clone_to_owned()
        .map(std::fs::File::from)
}

fn wait_for_line() -> io::Result<()> {
    io::stdin().read_line(&mut String::new()).map(drop)
}

/// `total` bytes of numbered records; the number is the record's place in the stream.
fn records(total: u64) -> Vec<u8> {
    let total = total as usize;
    let mut data = Vec::with_capacity(total + RECORD);
    let mut digits = [b'0'; RECORD];
    digits[RECORD - 1] = b'\n';
    while data.len() < total {
        data.extend_from_slice(&digits);
        for digit in digits[..RECORD - 1].iter_mut().rev() {
            if *digit < b'9' {
                *digit += 1;
                break;
            }
            *digit = b'0';
        }
    }
    data.truncate(total);
    data
}

/// The stream offset of a piece of a burst, from the first whole record within it.
/// `piece` needs two records' length to be sure to hold one.
pub(crate) fn offset_of(piece: &[u8]) -> Option<u64> {
    let lead = piece.iter().take(RECORD).position(|byte| *byte == b'\n')? + 1;
    let (lead, digits) = match lead {
        RECORD => (0, piece.get(..RECORD - 1)?),
        lead => (lead, piece.get(lead..lead + RECORD - 1)?),
    };
    let index: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    (index * RECORD as u64).checked_sub(lead as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_of_a_burst_tells_its_offset() {
        let data = records(4096);
        // A piece at the very front of the stream may begin within record 0 only at 0.
        for offset in 0..data.len() - 2 * RECORD {
            assert_eq!(
                offset_of(&data[offset..offset + 2 * RECORD]),
                Some(offset as u64)
            );
        }
    }
}
