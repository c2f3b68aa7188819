//! monoio 0.2.4: io_uring with three sets of ring flags, and its epoll driver.
//!
//! Pipes are read as procring reads them: readiness from the runtime, then read(2).

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use io_uring_06::IoUring;
use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};

use super::epoll::read;
use super::session::{ANSWER, Session, Slots};
use crate::trouble::{During, Result, Trouble};

/// How the ring is set up.
#[derive(Debug, Clone, Copy)]
pub(super) enum Driver {
    /// SINGLE_ISSUER and DEFER_TASKRUN (6.1).
    Defer,
    /// COOP_TASKRUN (5.19).
    Coop,
    /// No flags.
    Plain,
    /// epoll.
    Epoll,
}

fn block_on<T>(driver: Driver, future: impl Future<Output = Result<T>>) -> Result<T> {
    let mut flags = IoUring::builder();
    match driver {
        Driver::Defer => _ = flags.setup_single_issuer().setup_defer_taskrun(),
        Driver::Coop => _ = flags.setup_coop_taskrun(),
        Driver::Plain => {}
        Driver::Epoll => {
            let mut runtime = RuntimeBuilder::<LegacyDriver>::new()
                .build()
                .during("start monoio on epoll")?;
            return runtime.block_on(future);
        }
    }
    let builder = RuntimeBuilder::<IoUringDriver>::new().uring_builder(flags);
    builder.build().during("start monoio")?.block_on(future)
}

/// Answers every request until the process is ended.
pub(super) fn http(driver: Driver, listener: TcpListener) -> Result<()> {
    listener.set_nonblocking(true).during("set nonblocking")?;
    block_on(driver, async {
        let listener = monoio::net::TcpListener::from_std(listener).during("adopt the listener")?;
        loop {
            let (stream, _) = listener.accept().await.during("accept")?;
            monoio::spawn(serve(stream));
        }
    })
}

async fn serve(mut stream: monoio::net::TcpStream) -> Result<()> {
    stream.set_nodelay(true).during("set nodelay")?;
    let (mut session, mut buffer) = (Session::default(), Vec::with_capacity(16 * 1024));
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
pub(super) fn drain(driver: Driver, pipe: OwnedFd, total: u64) -> Result<()> {
    lines(driver, vec![pipe], total)
}

/// Reads `total` bytes from many pipes, one task each.
pub(super) fn lines(driver: Driver, pipes: Vec<OwnedFd>, total: u64) -> Result<()> {
    block_on(driver, async {
        let left = Rc::new(Cell::new(total));
        let slots = Rc::new(RefCell::new(Slots::new()));
        let first = Rc::new(Cell::new(None));
        let mut tasks = Vec::new();
        let (done, over) = pipe_pair()?;
        let done = Rc::new(done);
        for pipe in pipes {
            let (left, first, done) = (left.clone(), first.clone(), done.clone());
            let slots = slots.clone();
            tasks.push(monoio::spawn(async move {
                let result = read_all(pipe, &left, &slots).await;
                first.set(first.take().or(Some(result)));
                // One byte wakes the waiter below; a full pipe has woken it already.
                let _ = rustix::io::write(&*done, b"x");
            }));
        }
        let waiter = adopt(&over)?;
        waiter
            .readable(false)
            .await
            .during("wait for the readers")?;
        first
            .take()
            .unwrap_or(Err(Trouble::TimedOut("the readers")))
    })
}

fn pipe_pair() -> Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = rustix::pipe::pipe().during("pipe")?;
    Ok((writer, reader))
}

/// A second descriptor of the same pipe, as something monoio waits for.
fn adopt(pipe: &OwnedFd) -> Result<monoio::net::UnixStream> {
    let copy = pipe.try_clone().during("dup a pipe")?;
    rustix::io::ioctl_fionbio(&copy, true).during("set nonblocking")?;
    monoio::net::UnixStream::from_std(UnixStream::from(copy)).during("adopt a pipe")
}

/// Reads until all readers together have read everything.
async fn read_all(pipe: OwnedFd, left: &Cell<u64>, slots: &RefCell<Slots>) -> Result<()> {
    let source = adopt(&pipe)?;
    while left.get() > 0 {
        let count = read(&pipe, slots.borrow_mut().next())?;
        match count {
            Some(count) => left.set(left.get().saturating_sub(count as u64)),
            None => source.readable(false).await.during("wait for a pipe")?,
        }
    }
    Ok(())
}
