//! What the program says to whoever started it: lines on standard error, texts on standard output.
//!
//! Out: bytes, as far as somebody takes them. Nothing that it says is worth failing for or waiting
//! for: a disk may be full, a reader gone, a pipe full that nobody reads. What a server has to say
//! once it has begun goes through `journal`, which has a thread that may wait.

use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// A pipe that is writable takes so many bytes at once without waiting (pipe(7), PIPE_BUF).
const PIECE: usize = 4096;

/// One line on standard error, with the program's name in front. What cannot be written at once is
/// lost.
pub fn line(text: impl std::fmt::Display) {
    raw(format!("procring: {text}\n").as_bytes());
}

/// Lines on standard error as they are. What cannot be written at once is lost.
pub fn raw(lines: &[u8]) {
    write_at_once(io::stderr(), lines);
}

/// Lines on standard error as they are, however long that takes.
///
/// # Errors
/// When they cannot be written.
pub fn write_all(lines: &[u8]) -> io::Result<()> {
    write_whole(io::stderr(), lines)
}

/// A text on standard output, which was asked for: this waits for a reader, and a reader that has
/// read enough is no error.
///
/// # Errors
/// When it cannot be written.
pub fn answer(text: &str) -> io::Result<()> {
    let mut out = io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

/// Writes in one call where one is enough, so that lines of several threads do not mix. The
/// descriptor stays as it is: others that share it would be surprised by O_NONBLOCK. Whether all of
/// it was written.
fn write_at_once(to: impl AsFd, text: &[u8]) -> bool {
    let mut rest = text;
    while !rest.is_empty() && takes_some(&to) {
        match rustix::io::write(&to, &rest[..rest.len().min(PIECE)]) {
            Ok(0) => return false,
            Ok(written) => rest = &rest[written..],
            Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
    rest.is_empty()
}

/// Where somebody else has made the descriptor one that does not wait, this does.
fn write_whole(to: impl AsFd, text: &[u8]) -> io::Result<()> {
    let mut rest = text;
    while !rest.is_empty() {
        match rustix::io::write(&to, rest) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => rest = &rest[written..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let mut asked = [PollFd::new(&to, PollFlags::OUT)];
                if let Err(error) = poll(&mut asked, None)
                    && error != Errno::INTR
                {
                    return Err(error.into());
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn takes_some(to: impl AsFd) -> bool {
    let mut asked = [PollFd::new(&to, PollFlags::OUT)];
    let now = Timespec::default();
    match poll(&mut asked, Some(&now)) {
        Ok(ready) => ready > 0 && asked[0].revents().contains(PollFlags::OUT),
        // RLIMIT_NOFILE is 0, and nobody can be asked. That ends a server, which is to be said.
        Err(error) => error == Errno::INVAL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::ioctl_fionbio;
    use rustix::pipe::pipe;

    #[test]
    fn a_full_pipe_keeps_nobody_waiting_and_a_long_text_goes_in_pieces() {
        let (reader, writer) = pipe().unwrap();
        // 64 KiB is what a pipe holds; writing to it does not block here, or the test would hang.
        let text = vec![b'x'; 100_000];
        assert!(!write_at_once(&writer, &text));
        assert!(!write_at_once(&writer, b"lost"));
        ioctl_fionbio(&reader, true).unwrap();
        let mut held = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = rustix::io::read(&reader, &mut buffer) {
            held.extend_from_slice(&buffer[..read]);
        }
        assert_eq!(held.len() % PIECE, 0);
        assert!(held.len() >= PIECE && held.iter().all(|&byte| byte == b'x'));
        drop(reader);
        // Nobody will read it (EPIPE).
        assert!(!write_at_once(&writer, b"lost, too"));
    }
    #[test]
    fn a_descriptor_that_does_not_wait_gets_all_of_it() {
        let (reader, writer) = pipe().unwrap();
        ioctl_fionbio(&writer, true).unwrap();
        let taker = std::thread::spawn(move || {
            let mut held = 0;
            let mut buffer = [0; 8192];
            while let Ok(read @ 1..) = rustix::io::read(&reader, &mut buffer) {
                held += read;
            }
            held
        });
        write_whole(&writer, &vec![b'x'; 300_000]).unwrap();
        drop(writer);
        assert_eq!(taker.join().unwrap(), 300_000);
    }
}
