//! tokio-uring 0.5: owned buffers on io_uring, single-shot operations.

use std::net::TcpListener;
use std::os::fd::OwnedFd;

use super::session::{ANSWER, BLOCK, SLOTS, Session};
use crate::trouble::{During, Result, Trouble};

/// Answers every request until the process is ended.
pub(super) fn http(listener: TcpListener) -> Result<()> {
    tokio_uring::start(async {
        let listener = tokio_uring::net::TcpListener::from_std(listener);
        loop {
            let (stream, _) = listener.accept().await.during("accept")?;
            tokio_uring::spawn(serve(stream));
        }
    })
}

async fn serve(stream: tokio_uring::net::TcpStream) -> Result<()> {
    stream.set_nodelay(true).during("set nodelay")?;
    let (mut session, mut buffer) = (Session::default(), vec![0; 16 * 1024]);
    loop {
        let (result, returned) = stream.read(buffer).await;
        let count = result.during("read")?;
        if count == 0 {
            return Ok(());
        }
        buffer = returned;
        for _ in 0..session.take(&buffer[..count])? {
            stream.write_all(ANSWER).await.0.during("write")?;
        }
    }
}

/// Reads `total` bytes.
pub(super) fn drain(pipe: OwnedFd, total: u64) -> Result<()> {
    tokio_uring::start(async {
        let file = tokio_uring::fs::File::from_std(pipe.into());
        let mut slots: Vec<Vec<u8>> = vec![vec![1; BLOCK]; SLOTS];
        let (mut left, mut next) = (total, 0);
        while left > 0 {
            let slot = std::mem::take(&mut slots[next]);
            // A pipe has no place to read at; the kernel ignores it.
            let (result, slot) = file.read_at(slot, 0).await;
            match result.during("read a pipe")? {
                0 => return Err(Trouble::Protocol("a pipe ended early".into())),
                count => left -= count as u64,
            }
            slots[next] = slot;
            next = (next + 1) % SLOTS;
        }
        Ok(())
    })
}

/// Reads `total` bytes from many pipes, one task each.
pub(super) fn lines(pipes: Vec<OwnedFd>, total: u64) -> Result<()> {
    tokio_uring::start(async {
        let (sender, mut counts) = tokio::sync::mpsc::unbounded_channel::<Result<usize>>();
        for pipe in pipes {
            let sender = sender.clone();
            tokio_uring::spawn(async move {
                let file = tokio_uring::fs::File::from_std(pipe.into());
                let mut slot = vec![1; BLOCK];
                loop {
                    let (result, returned) = file.read_at(slot, 0).await;
                    slot = returned;
                    let over = !matches!(result, Ok(1..));
                    if sender.send(result.during("read a pipe")).is_err() || over {
                        return;
                    }
                }
            });
        }
        let mut left = total;
        while left > 0 {
            match counts
                .recv()
                .await
                .ok_or(Trouble::TimedOut("the readers"))??
            {
                0 => return Err(Trouble::Protocol("a pipe ended early".into())),
                count => left = left.saturating_sub(count as u64),
            }
        }
        Ok(())
    })
}
