//! The bytes of a log to a socket, as they were written.
//!
//! In: what [`crate::api::bytes`] has decided, and the head of the answer. Out: the body: so many
//! bytes, or chunks until the process is over. Owns what is half sent.
//!
//! The kernel takes the bytes from the slots that they lie in (sendmsg(2)), so nothing is copied or
//! pinned for a reader, however slowly it reads; one that eviction has passed is cut off. Only a
//! socket that is full is waited for with a copy of the next few bytes.

use std::io::{self, IoSlice};
use std::pin::pin;
use std::rc::Rc;
use std::time::Instant;

use crate::api::bytes::{Bytes, Over};
use crate::config::timeouts;
use crate::log::walk::Place;
use crate::log::{Arena, Log};
use crate::metrics::present;
use crate::process::Notify;
use crate::types::{Monotonic, UnixMs};
use crate::wire::http::chunked::{CHUNK_END, LAST_CHUNK, chunk_head};
use crate::wire::http::response::Length;

use crate::io::conn::reader::{Filled, Reader};
use crate::io::conn::writer::Writer;
use crate::io::runtime::race::{First, race};
use crate::io::runtime::source::Peer;
use crate::io::runtime::timer::{instant, sleep, sleep_until};
use crate::io::runtime::turn::{give_way, rest};
use crate::io::server::Server;

/// Bytes of one chunk, and of one call.
const CHUNK_BYTES_MAX: usize = 256 << 10;

/// Slices of one call, besides those around the bytes; IOV_MAX is 1024.
const SLICES_MAX: usize = 1000;

/// Bytes that are copied to wait for a socket that is full.
const COPIED_MAX: usize = 4 << 10;

/// Bytes that are sent before others have their turn.
const TURN_BYTES: usize = 1 << 20;

/// Bytes of a log that become text with times in one step; more where they make little text.
const TIMED_BYTES: usize = 64 << 10;

/// Bytes of that text, about: a line feed alone becomes 26.
const TIMED_TEXT_MAX: usize = 192 << 10;

/// How the body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Whole,
    /// Not all of it can be sent any more.
    Cut,
}

/// What is done next.
enum Step {
    /// So many bytes have been sent.
    Sent(usize),
    /// This is to be sent.
    Send(Vec<u8>),
    /// There was much to pass or to search.
    Rest,
    /// There is nothing yet.
    Wait {
        seen: u64,
        changed: Notify,
        until: Option<Instant>,
    },
    End(End),
}

/// What has been promised and not been sent yet.
#[derive(Debug, Default)]
struct Frame {
    /// The head of the answer, or of a chunk.
    before: Vec<u8>,
    /// Bytes of the log.
    data: usize,
    /// The end of a chunk.
    after: &'static [u8],
}

struct Sending<'a> {
    server: &'a Rc<Server>,
    what: Box<Bytes>,
    chunked: bool,
    frame: Frame,
    /// The next bytes go through the driver, which others have waited for.
    through_driver: bool,
}

/// Sends `head` and the body. False if the connection cannot go on.
pub(super) async fn send(
    server: &Rc<Server>,
    what: Box<Bytes>,
    head: Vec<u8>,
    length: Length,
    reader: &mut Reader,
    writer: &mut Writer,
) -> bool {
    let mut sending = Sending {
        server,
        what,
        chunked: length == Length::Chunked,
        frame: Frame {
            before: head,
            ..Frame::default()
        },
        through_driver: false,
    };
    match sending.run(reader, writer).await {
        Ok(End::Whole) => true,
        Ok(End::Cut) => {
            if length == Length::UntilClose {
                // Nothing else tells this end from that of a body that is whole.
                writer.reset();
            }
            false
        }
        Err(_) => false,
    }
}

impl Sending<'_> {
    async fn run(&mut self, reader: &mut Reader, writer: &mut Writer) -> io::Result<End> {
        let _present = self.what.follow.then(|| present(|all| &all.followers));
        if self.what.follow {
            reader.expect_silence();
        }
        let mut half_closed = false;
        let mut in_turn = 0;
        loop {
            match self.step(writer)? {
                Step::Sent(bytes) => {
                    in_turn += bytes;
                    if in_turn >= TURN_BYTES {
                        in_turn = 0;
                        self.through_driver = true;
                        give_way().await;
                    }
                }
                Step::Send(bytes) => writer.all(bytes).await?,
                Step::Rest => rest().await,
                Step::Wait {
                    seen,
                    changed,
                    until,
                } => {
                    self.flush(writer).await?;
                    let timer = pin!(async {
                        match until {
                            Some(until) => sleep_until(until).await,
                            None => std::future::pending().await,
                        }
                    });
                    let news = pin!(changed.changed(seen));
                    let peer = pin!(lost(reader, writer, half_closed));
                    match race(pin!(race(news, timer)), peer).await {
                        First::Left(_) => {}
                        First::Right(Filled::End) => half_closed = true,
                        First::Right(_) => return Err(io::ErrorKind::ConnectionReset.into()),
                    }
                }
                Step::End(End::Cut) => {
                    // A head that has not been sent; not the end of a chunk that lacks bytes.
                    if self.frame.data == 0 {
                        self.flush(writer).await?;
                    }
                    return Ok(End::Cut);
                }
                Step::End(End::Whole) => {
                    self.finish();
                    self.flush(writer).await?;
                    return Ok(End::Whole);
                }
            }
        }
    }

    fn step(&mut self, writer: &mut Writer) -> io::Result<Step> {
        let server = self.server;
        let table = server.table.borrow();
        let Some(process) = table.get(self.what.id) else {
            return Ok(Step::End(End::Cut));
        };
        let (log, arena) = (&process.log, table.arena());
        if let Some(lines) = &mut self.what.last_lines {
            let Some(begins) = lines.look(log, arena) else {
                return Ok(Step::Rest);
            };
            self.what.last_lines = None;
            self.what.walk.begin_at(begins);
        }
        match self.what.walk.look(log) {
            Place::Evicted => {
                server.tell_dropped(Some(self.what.id), "evicted");
                Ok(Step::End(End::Cut))
            }
            Place::Unwanted => Ok(Step::Rest),
            Place::End => Ok(Step::End(End::Whole)),
            Place::Bytes if self.what.times.is_some() => Ok(self.timed(log, arena)),
            Place::Bytes => self.plain(log, arena, writer),
            Place::Nothing => {
                let until = match self.what.over(process, Monotonic::now(), UnixMs::now()) {
                    Over::Now => return Ok(Step::End(End::Whole)),
                    Over::At(at) => Some(instant(at)),
                    Over::Open => None,
                };
                Ok(Step::Wait {
                    seen: process.changed.version(),
                    changed: process.changed.clone(),
                    until,
                })
            }
        }
    }

    /// Sends what comes next from where it lies.
    fn plain(&mut self, log: &Log, arena: &Arena, writer: &mut Writer) -> io::Result<Step> {
        let frame = &mut self.frame;
        let begins = frame.data == 0;
        let wanted = if begins { CHUNK_BYTES_MAX } else { frame.data };
        let mut data = Vec::with_capacity(8);
        let gathered = self
            .what
            .walk
            .slices(log, arena, wanted, SLICES_MAX, &mut data);
        if begins {
            frame.begin(gathered, self.chunked);
        }
        let before = std::mem::take(&mut frame.before);
        let mut slices = Vec::with_capacity(data.len() + 2);
        slices.push(IoSlice::new(&before));
        slices.append(&mut data);
        if gathered == frame.data {
            slices.push(IoSlice::new(frame.after));
        }
        let at_once = match std::mem::take(&mut self.through_driver) {
            true => None,
            false => writer.at_once(&slices)?,
        };
        let (sent, step) = match at_once {
            Some(sent) => (sent, Step::Sent(sent)),
            None => {
                let copy = first_bytes(&slices, COPIED_MAX);
                (copy.len(), Step::Send(copy))
            }
        };
        let of_before = sent.min(before.len());
        let of_data = (sent - of_before).min(gathered);
        frame.before = before;
        frame.before.drain(..of_before);
        frame.data -= of_data;
        frame.after = &frame.after[sent - of_before - of_data..];
        self.what.walk.advance(log, of_data);
        Ok(step)
    }

    /// Makes text of what comes next, each line behind its time.
    fn timed(&mut self, log: &Log, arena: &Arena) -> Step {
        let Some(times) = &mut self.what.times else {
            return Step::Rest;
        };
        let mut text = Vec::new();
        let mut taken = 0;
        for (entry, part) in self.what.walk.pieces(log, TIMED_BYTES) {
            let bytes = arena.bytes(entry.slot, entry.start + part.start, part.len());
            for bytes in bytes.chunks(COPIED_MAX) {
                if text.len() >= TIMED_TEXT_MAX {
                    break;
                }
                times.write(entry.stream, entry.timestamp_ms, bytes, &mut text);
                taken += bytes.len();
            }
        }
        self.what.walk.advance(log, taken);
        self.frame.add(&text, self.chunked);
        Step::Send(std::mem::take(&mut self.frame.before))
    }

    /// The end of the body.
    fn finish(&mut self) {
        if let Some(times) = &mut self.what.times {
            let mut text = Vec::new();
            times.finish(&mut text);
            self.frame.add(&text, self.chunked);
        }
        self.frame.begin(0, false);
        if self.chunked {
            self.frame.before.extend_from_slice(LAST_CHUNK);
        }
    }

    /// Sends what stands before bytes of the log that are still to come.
    async fn flush(&mut self, writer: &mut Writer) -> io::Result<()> {
        self.frame.begin(0, false);
        let before = std::mem::take(&mut self.frame.before);
        if before.is_empty() {
            return Ok(());
        }
        writer.all(before).await
    }
}

impl Frame {
    /// Begins with `data` bytes of the log, once what is left of the last frame has been sent.
    fn begin(&mut self, data: usize, chunked: bool) {
        self.before.extend_from_slice(self.after);
        self.after = &[];
        self.data = data;
        if chunked {
            let mut head = [0; 18];
            let len = chunk_head(data, &mut head);
            self.before.extend_from_slice(&head[..len]);
            self.after = CHUNK_END;
        }
    }

    /// Adds a whole frame of text.
    fn add(&mut self, text: &[u8], chunked: bool) {
        if text.is_empty() {
            return;
        }
        self.begin(text.len(), chunked);
        self.before.extend_from_slice(text);
        self.begin(0, false);
    }
}

/// A copy of the first bytes of these slices.
fn first_bytes(slices: &[IoSlice<'_>], bytes_max: usize) -> Vec<u8> {
    let mut copy = Vec::new();
    for slice in slices {
        let left = bytes_max - copy.len();
        copy.extend_from_slice(&slice[..slice.len().min(left)]);
    }
    copy
}

/// Completes when nobody listens any more, or, the first time, when the peer has sent FIN. After
/// that it may have half-closed; nothing can be sent that is not the body, so the kernel is asked
/// now and then whether it has answered a question of TCP's own with a reset.
async fn lost(reader: &mut Reader, writer: &Writer, half_closed: bool) -> Filled {
    if !half_closed {
        return reader.lost().await;
    }
    loop {
        sleep(timeouts::STREAM_LOOK_AFTER).await;
        if writer.peer() == Peer::Gone {
            return Filled::Broken;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_a_chunk_and_what_was_left_of_the_last_one_comes_first() {
        let mut frame = Frame::default();
        frame.before.extend_from_slice(b"head");
        frame.begin(0x1234, true);
        assert_eq!(frame.before, b"head1234\r\n");
        assert_eq!((frame.data, frame.after), (0x1234, CHUNK_END));
        frame.before.clear();
        frame.data = 0;
        frame.after = &frame.after[1..];
        frame.add(b"text", true);
        assert_eq!(frame.before, b"\n4\r\ntext\r\n");
        assert_eq!((frame.data, frame.after.len()), (0, 0));
        frame.add(b"", true);
        frame.add(b"plain", false);
        assert_eq!(frame.before, b"\n4\r\ntext\r\nplain");
    }

    #[test]
    fn a_copy_is_of_the_first_bytes_whatever_slices_they_are_in() {
        let slices = [b"ab".as_slice(), b"", b"cde", b"f"].map(IoSlice::new);
        assert_eq!(first_bytes(&slices, 4), b"abcd");
        assert_eq!(first_bytes(&slices, 100), b"abcdef");
        assert_eq!(first_bytes(&[], 4), b"");
    }
}
