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
            Err(ClientError::Refused(problem)) if problem.code.as_deref() == Some("timeout") => {
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
