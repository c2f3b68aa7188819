//! The input of a process, of any length and each byte once.
//!
//! In: a reader. Out: all of it to the process, however late that reads it. A piece is kept until the
//! server says that it was taken; one that the server gave up, because the process did not read for too
//! long, is sent again.
//!
//! - Where nobody else writes, a piece has its place, and what was taken of it is skipped there. So it
//!   can be sent again where its answer was not heard, too.
//! - Where others may write, the answer says how much of it was taken, and the rest goes next. An answer
//!   that was not heard is the end: nobody knows what has arrived.

use std::io::{ErrorKind, Read};
use std::thread;
use std::time::Instant;

use super::context::{PATIENCE, PAUSE, path};
use super::error::{CliError, Result};
use super::terminal;
use crate::client::{Body, Client, ClientError, Request};

/// What is kept until it has been taken.
const PIECE: usize = 256 << 10;

/// Passes `input` on to a command that has had none yet, and then its end.
///
/// # Errors
/// When it cannot be read, when the command takes no more, or when the server cannot be
/// reached any more.
pub(super) fn feed(client: &Client, id: &str, input: &mut impl Read) -> Result<()> {
    let client = client.patient(PATIENCE);
    let mut buffer = vec![0; PIECE];
    let mut taken = 0;
    loop {
        let len = read(input, &mut buffer)?;
        hand_over(&client, id, taken, &buffer[..len])?;
        if len == 0 {
            return Ok(());
        }
        taken += len as u64;
    }
}

/// Passes `input` on to a process to which others may write, and then its end if that is asked for.
///
/// # Errors
/// When it cannot be read, when the process takes no more, or when an answer is not heard.
pub(super) fn pass_on(client: &Client, id: &str, input: &mut impl Read, eof: bool) -> Result<()> {
    let mut buffer = vec![0; PIECE];
    let mut taken = 0;
    loop {
        let len = read(input, &mut buffer)?;
        // No bytes tell whether there is such a process, too.
        if len > 0 || eof || taken == 0 {
            pass_piece(client, id, &buffer[..len], eof && len == 0, taken)?;
        }
        if len == 0 {
            return Ok(());
        }
        taken += len as u64;
    }
}

/// Reads the next piece; 0 at the end.
fn read(input: &mut impl Read, buffer: &mut [u8]) -> Result<usize> {
    loop {
        match input.read(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result.map_err(CliError::local("standard input")),
        }
    }
}

/// Passes a piece on, behind so many bytes.
fn pass_piece(client: &Client, id: &str, piece: &[u8], eof: bool, before: u64) -> Result<()> {
    let path = path(id, &format!("/stdin?eof={eof}"));
    let mut rest = piece;
    loop {
        let body = Body::Bytes(rest.to_vec(), "application/octet-stream");
        match client.expect(Request::post(&path).body(body)) {
            Ok(_) => return Ok(()),
            Err(ClientError::Refused(problem)) if problem.kind.as_deref() == Some("timeout") => {
                let taken = problem.taken.and_then(|taken| usize::try_from(taken).ok());
                rest = taken.and_then(|taken| rest.get(taken..)).unwrap_or(rest);
                if rest.is_empty() && !eof {
                    return Ok(());
                }
                terminal::tell_unread();
            }
            Err(ClientError::Lost(error)) => {
                let arrived = before + (piece.len() - rest.len()) as u64;
                return Err(CliError::Failed(
                    format!(
                        "{}; {arrived} bytes have arrived, and of the next {} that is not known",
                        ClientError::Lost(error),
                        rest.len()
                    ),
                    1,
                ));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Passes a piece on, which is the end if there is nothing in it.
fn hand_over(client: &Client, id: &str, offset: u64, piece: &[u8]) -> Result<()> {
    let eof = piece.is_empty();
    let path = path(id, &format!("/stdin?offset={offset}&eof={eof}"));
    let mut lost_at: Option<Instant> = None;
    loop {
        let body = Body::Bytes(piece.to_vec(), "application/octet-stream");
        match client.expect(Request::post(&path).body(body)) {
            Ok(_) => return Ok(()),
            // The command does something else first.
            Err(ClientError::Refused(problem)) if problem.kind.as_deref() == Some("timeout") => {
                lost_at = None;
            }
            Err(ClientError::Lost(error)) => {
                let since = *lost_at.get_or_insert_with(Instant::now);
                if since.elapsed() > PATIENCE {
                    return Err(ClientError::Lost(error).into());
                }
                thread::sleep(PAUSE);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::client::Endpoint;

    /// Reads a request, answers it, and gives its target and its body.
    fn answer(stream: &TcpStream, status: &str, body: &str) -> (String, Vec<u8>) {
        let mut reader = BufReader::new(stream);
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            if line.trim().is_empty() {
                break;
            }
            head.push(line.trim().to_lowercase());
        }
        let len = head
            .iter()
            .find_map(|line| line.strip_prefix("content-length: "));
        let mut sent = vec![0; len.unwrap().parse().unwrap()];
        reader.read_exact(&mut sent).unwrap();
        let len = body.len();
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {len}\r\n\r\n{body}");
        (&mut &*stream).write_all(answer.as_bytes()).unwrap();
        let target = head[0].split(' ').nth(1).unwrap();
        (target.to_owned(), sent)
    }

    /// A server with these answers, which gives what it was asked for.
    fn server(answers: Vec<(&'static str, String)>) -> (Client, Asked) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = thread::spawn(move || {
            let answers = answers.into_iter();
            answers
                .map(|(status, body)| answer(&listener.accept().unwrap().0, status, &body))
                .collect()
        });
        (Client::new(Endpoint::parse(&url).unwrap(), None), server)
    }

    type Asked = thread::JoinHandle<Vec<(String, Vec<u8>)>>;

    fn good() -> (&'static str, String) {
        ("200 OK", "{}".to_owned())
    }

    /// Nothing was read for too long, but so many bytes were taken.
    fn late(taken: usize) -> (&'static str, String) {
        let kind = "urn:x:error:timeout";
        let body = format!(r#"{{"type":"{kind}","details":{{"bytesWritten":{taken}}}}}"#);
        ("503 Late", body)
    }

    fn piece(query: &str, bytes: &[u8]) -> (String, Vec<u8>) {
        let target = format!("/v1/processes/proc_1/stdin?{query}");
        (target, bytes.to_vec())
    }

    #[test]
    fn a_piece_is_kept_and_sent_until_all_of_it_was_taken() {
        let (client, server) = server(vec![late(1), good(), good()]);
        feed(&client, "proc_1", &mut &b"abc"[..]).unwrap();
        let expected = [
            piece("offset=0&eof=false", b"abc"),
            piece("offset=0&eof=false", b"abc"),
            piece("offset=3&eof=true", b""),
        ];
        assert_eq!(server.join().unwrap(), expected);
    }

    #[test]
    fn where_others_write_too_the_rest_of_a_piece_goes_next() {
        let (client, asked) = server(vec![late(0), late(2), late(1), late(0), good()]);
        pass_on(&client, "proc_1", &mut &b"abc"[..], true).unwrap();
        let expected = [
            piece("eof=false", b"abc"),
            piece("eof=false", b"abc"),
            piece("eof=false", b"c"),
            piece("eof=true", b""),
            piece("eof=true", b""),
        ];
        assert_eq!(asked.join().unwrap(), expected);
        let (client, asked) = server(vec![good()]);
        pass_on(&client, "proc_1", &mut &b""[..], false).unwrap();
        assert_eq!(asked.join().unwrap(), [piece("eof=false", b"")]);
        let (client, asked) = server(vec![good(), late(2)]);
        let mut twice = b"abc".chain(&b"def"[..]);
        let error = pass_on(&client, "proc_1", &mut twice, false).unwrap_err();
        assert_eq!(asked.join().unwrap().len(), 2);
        assert!(error.to_string().contains("no server"), "{error}");
    }
}
