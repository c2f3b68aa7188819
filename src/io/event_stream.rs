//! An answer that goes on and may be silent for long: its body, its client, and what is sent to
//! show that the stream lives.
//!
//! In: pieces, as they come. Out: the same as chunks, or as they are to HTTP/1.0. Owns when the client
//! was last sent something.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Instant;

use crate::config::timeouts;
use crate::log::batch::Chunk;
use crate::wire::http::chunked::{CHUNK_END, LAST_CHUNK, chunk};
use crate::wire::sse;

use crate::io::conn::reader::{Filled, Reader};
use crate::io::conn::writer::Writer;
use crate::io::runtime::meter;
use crate::io::runtime::race::{First, race};
use crate::io::runtime::source::Peer;
use crate::io::runtime::timer::{Timer, sleep, sleep_until};

/// What a wait comes to besides news.
enum Time {
    IsOver,
    ToShowLife,
}

/// See the module.
pub(super) struct EventStream<'a> {
    reader: &'a mut Reader,
    writer: &'a mut Writer,
    chunked: bool,
    quiet_since: Instant,
    /// Fires when it may be time to show that the stream lives. It is not put off when something is
    /// sent: it looks when it fires.
    life: Timer,
    /// The client has not said its end.
    watches: bool,
}

impl<'a> EventStream<'a> {
    /// A stream whose head has been sent.
    pub(super) fn new(reader: &'a mut Reader, writer: &'a mut Writer, chunked: bool) -> Self {
        reader.expect_silence();
        Self {
            reader,
            writer,
            chunked,
            quiet_since: meter::now(),
            life: sleep_until(meter::now() + timeouts::STREAM_KEEP_ALIVE_AFTER),
            watches: true,
        }
    }

    /// Sends a piece.
    ///
    /// # Errors
    /// When the connection is broken or has stalled.
    pub(super) async fn send(&mut self, piece: Vec<u8>) -> io::Result<()> {
        let framed = if self.chunked { chunk(&piece) } else { piece };
        self.writer.all(framed).await?;
        self.quiet_since = meter::now();
        Ok(())
    }

    /// Sends a shared piece, which is framed as an HTTP chunk already.
    ///
    /// # Errors
    /// As [`EventStream::send`].
    pub(super) async fn chunk(&mut self, mut chunk: Chunk) -> io::Result<()> {
        if !self.chunked {
            let framed = &chunk.bytes[chunk.range.clone()];
            let head = framed.iter().position(|&byte| byte == b'\n');
            let head = head.map_or(0, |at| at + 1);
            chunk.range = chunk.range.start + head..chunk.range.end - CHUNK_END.len();
        }
        self.writer.chunk(chunk).await?;
        self.quiet_since = meter::now();
        Ok(())
    }

    /// Ends the body.
    ///
    /// # Errors
    /// As [`EventStream::send`].
    pub(super) async fn end(&mut self) -> io::Result<()> {
        match self.chunked {
            true => self.writer.all(LAST_CHUNK.to_vec()).await,
            // Only the end of the connection ends it.
            false => Ok(()),
        }
    }

    /// Sends a comment. One that has sent FIN has half-closed or is gone: what a gone peer is sent
    /// comes back as a reset. A read does not tell of that (it is at the end), so the kernel is asked.
    async fn show_life(&mut self) -> io::Result<()> {
        self.send(sse::KEEP_ALIVE.to_vec()).await?;
        if !self.watches {
            sleep(timeouts::STREAM_PROBE_AFTER).await;
            if self.writer.peer() == Peer::Gone {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
        }
        Ok(())
    }

    /// Waits for `news`, until `until`, or until it is time to show that the stream lives, and does
    /// so.
    ///
    /// # Errors
    /// When the client is gone.
    pub(super) async fn wait<F: Future<Output = ()>>(
        &mut self,
        news: Pin<&mut F>,
        until: Option<Instant>,
    ) -> io::Result<()> {
        let alive_at = self.quiet_since + timeouts::STREAM_KEEP_ALIVE_AFTER;
        let first = {
            let mut end = until.map(sleep_until);
            let (reader, life, watches) = (&mut *self.reader, &mut self.life, self.watches);
            let times = pin!(poll_fn(|cx| {
                if let Some(end) = &mut end
                    && Pin::new(end).poll(cx).is_ready()
                {
                    return Poll::Ready(Time::IsOver);
                }
                while Pin::new(&mut *life).poll(cx).is_ready() {
                    if alive_at <= meter::now() {
                        return Poll::Ready(Time::ToShowLife);
                    }
                    *life = sleep_until(alive_at);
                }
                Poll::Pending
            }));
            let news = pin!(race(news, times));
            let peer = pin!(async {
                match watches {
                    true => reader.lost().await,
                    false => std::future::pending().await,
                }
            });
            race(news, peer).await
        };
        match first {
            First::Left(First::Left(()) | First::Right(Time::IsOver)) => Ok(()),
            First::Left(First::Right(Time::ToShowLife)) => self.show_life().await,
            First::Right(Filled::End) => {
                self.watches = false;
                self.show_life().await
            }
            First::Right(Filled::Data | Filled::Broken) => {
                Err(io::ErrorKind::ConnectionReset.into())
            }
        }
    }
}
