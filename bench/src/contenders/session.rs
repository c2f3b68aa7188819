//! What all contenders share, so that only the runtime differs: one HTTP handler, and the
//! memory that pipes are drained into.

use crate::trouble::{Result, Trouble};

/// Bytes of one read from a pipe in bulk.
pub(crate) const BLOCK: usize = 64 * 1024;
/// Slots of [`BLOCK`] bytes that are filled in turn: 4 MiB, which stays in the cache as far
/// as that is possible for everyone alike.
pub(crate) const SLOTS: usize = 64;

/// The answer to every request.
pub(crate) const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 15\r\n\r\n{\"status\":\"ok\"}";

/// One connection's unread bytes.
#[derive(Default)]
pub(crate) struct Session {
    partial: Vec<u8>,
}

impl Session {
    /// Takes what arrived and says how many answers are due.
    ///
    /// # Errors
    /// `Trouble::Protocol` for what is no request.
    pub(crate) fn take(&mut self, input: &[u8]) -> Result<usize> {
        if self.partial.is_empty() {
            let (count, used) = requests(input)?;
            self.partial.extend_from_slice(&input[used..]);
            return Ok(count);
        }
        self.partial.extend_from_slice(input);
        let (count, used) = requests(&self.partial)?;
        self.partial.drain(..used);
        Ok(count)
    }
}

/// Complete requests at the front of `input`, and the bytes they take.
fn requests(input: &[u8]) -> Result<(usize, usize)> {
    let (mut count, mut used) = (0, 0);
    while used < input.len() {
        let mut headers = [httparse::EMPTY_HEADER; 16];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(&input[used..]) {
            Ok(httparse::Status::Complete(bytes)) => {
                used += bytes;
                count += 1;
            }
            Ok(httparse::Status::Partial) => break,
            Err(error) => return Err(Trouble::Protocol(error.to_string())),
        }
    }
    Ok((count, used))
}

/// The memory a pipe is drained into, slot after slot.
pub(crate) struct Slots {
    memory: Vec<u8>,
    next: usize,
}

impl Slots {
    /// 4 MiB, touched.
    pub(crate) fn new() -> Slots {
        Slots {
            memory: vec![1; BLOCK * SLOTS],
            next: 0,
        }
    }

    /// The next slot.
    pub(crate) fn next(&mut self) -> &mut [u8] {
        let start = self.next * BLOCK;
        self.next = (self.next + 1) % SLOTS;
        &mut self.memory[start..start + BLOCK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_once_at_every_split() {
        let text = b"GET / HTTP/1.1\r\nhost: a\r\n\r\nGET /b HTTP/1.1\r\nhost: a\r\n\r\n";
        for cut in 0..=text.len() {
            let mut session = Session::default();
            let first = session.take(&text[..cut]).expect("valid so far");
            let second = session.take(&text[cut..]).expect("valid");
            assert_eq!(first + second, 2);
        }
    }
}
