//! tokio, current-thread runtime (epoll).

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe::Receiver;
use tokio::task::LocalSet;

use super::session::{ANSWER, Session, Slots};
use crate::trouble::{During, Result, Trouble};

fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .during("start tokio")?;
    LocalSet::new().block_on(&runtime, future)
}

/// Answers every request until the process is ended.
pub(super) fn http(listener: TcpListener) -> Result<()> {
    listener.set_nonblocking(true).during("set nonblocking")?;
    block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener).during("adopt the listener")?;
        loop {
            let (stream, _) = listener.accept().await.during("accept")?;
            tokio::task::spawn_local(serve(stream));
        }
    })
}

async fn serve(mut stream: tokio::net::TcpStream) -> Result<()> {
    stream.set_nodelay(true).during("set nodelay")?;
    let (mut session, mut buffer) = (Session::default(), vec![0; 16 * 1024]);
    loop {
        let count = stream.read(&mut buffer).await.during("read")?;
        if count == 0 {
            return Ok(());
        }
        for _ in 0..session.take(&buffer[..count])? {
            stream.write_all(ANSWER).await.during("write")?;
        }
    }
}

/// Reads `total` bytes.
pub(super) fn drain(pipe: OwnedFd, total: u64) -> Result<()> {
    lines(vec![pipe], total)
}

/// Reads `total` bytes from many pipes, one task each.
pub(super) fn lines(pipes: Vec<OwnedFd>, total: u64) -> Result<()> {
    block_on(async {
        let left = Rc::new(Cell::new(total));
        let slots = Rc::new(RefCell::new(Slots::new()));
        let (done, mut all) = tokio::sync::mpsc::unbounded_channel::<Result<()>>();
        for pipe in pipes {
            let (left, done, slots) = (left.clone(), done.clone(), slots.clone());
            tokio::task::spawn_local(async move {
                let result = read_all(pipe, &left, &slots).await;
                // The receiver is gone once all bytes are in; that is no fault.
                let _ = done.send(result);
            });
        }
        all.recv().await.ok_or(Trouble::TimedOut("the readers"))?
    })
}

/// Reads until all readers together have read everything.
async fn read_all(pipe: OwnedFd, left: &Cell<u64>, slots: &RefCell<Slots>) -> Result<()> {
    let receiver = Receiver::from_owned_fd(pipe).during("adopt a pipe")?;
    while left.get() > 0 {
        receiver.readable().await.during("wait for a pipe")?;
        let result = receiver.try_read(slots.borrow_mut().next());
        match result {
            Ok(0) => return Err(Trouble::Protocol("a pipe ended early".into())),
            Ok(count) => left.set(left.get().saturating_sub(count as u64)),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error).during("read a pipe"),
        }
    }
    Ok(())
}
