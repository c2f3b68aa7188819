//! The input of a command that nobody else writes to.
//!
//! In: a reader of any length. Out: all of it to the command, each byte once. A piece is kept until
//! the server says that it was taken, and is sent again with its place where that was not heard, or
//! where the command did not read for so long that the server gave it up; what was taken of it is
//! skipped there.

use std::io::{ErrorKind, Read};
use std::thread;
use std::time::Instant;

use super::context::{PATIENCE, PAUSE, path};
use super::error::{CliError, Result};
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
        let len = match input.read(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            result => result.map_err(CliError::local("standard input"))?,
        };
        hand_over(&client, id, taken, &buffer[..len])?;
        if len == 0 {
            return Ok(());
        }
        taken += len as u64;
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

    #[test]
    fn a_piece_is_kept_and_sent_until_all_of_it_was_taken() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = thread::spawn(move || {
            let late = r#"{"type":"urn:x:error:timeout","detail":"the command reads later"}"#;
            let answers = [("503 Late", late), ("200 OK", "{}"), ("200 OK", "{}")];
            answers.map(|(status, body)| answer(&listener.accept().unwrap().0, status, body))
        });
        let client = Client::new(Endpoint::parse(&url).unwrap(), None);
        feed(&client, "proc_1", &mut &b"abc"[..]).unwrap();
        let piece = |query: &str, bytes: &[u8]| {
            let target = format!("/v1/processes/proc_1/stdin?{query}");
            (target, bytes.to_vec())
        };
        let expected = [
            piece("offset=0&eof=false", b"abc"),
            piece("offset=0&eof=false", b"abc"),
            piece("offset=3&eof=true", b""),
        ];
        assert_eq!(server.join().unwrap(), expected);
    }
}
