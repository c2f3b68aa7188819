//! What a server cannot do without for one line or one key: wait, read here, write there.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::pty;
use crate::payload::LINE;
use crate::poll::Poll;
use crate::trouble::{During, Result, Trouble};

/// Between two lines, as in the scenario of one follower. Microseconds.
const PAUSE_US: &str = "2000";

/// About what the event of one line takes on the wire.
const EVENT_BYTES: usize = 220;

/// Longest wait for the other side.
const PATIENCE: Duration = Duration::from_secs(5);

/// Relays `keys` keys (index 1) or a tenth as many lines (index 0): CPU of the relaying thread,
/// µs each.
pub(super) fn measure(index: usize, keys: u32) -> Result<Vec<f64>> {
    let (near, far) = connection()?;
    match index {
        0 => lines(near, far, keys / 10),
        _ => echo(near, far, keys),
    }
}

/// A follower that throws away what it gets reads `far`.
fn lines(mut near: TcpStream, mut far: TcpStream, count: u32) -> Result<Vec<f64>> {
    let this = std::env::current_exe().during("find this program")?;
    let mut child = Command::new(this)
        .args(["child", "lines", &count.to_string(), PAUSE_US])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .during("start a writer")?;
    let follower = std::thread::spawn(move || std::io::copy(&mut far, &mut std::io::sink()));
    let cpu = relay_lines(&mut child, &mut near);
    drop(near);
    let _ = child.kill();
    child.wait().during("reap a writer")?;
    let _ = follower.join();
    Ok(vec![cpu? / f64::from(count)])
}

fn relay_lines(child: &mut Child, near: &mut TcpStream) -> Result<f64> {
    let (Some(mut go), Some(mut pipe)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(Trouble::Setup("no pipes".into()));
    };
    let (poll, mut ready) = (Poll::new()?, Vec::new());
    poll.add(&pipe, 0)?;
    let event = [b'x'; EVENT_BYTES];
    go.write_all(b"\n").during("let a writer begin")?;
    let own = thread_cpu_us();
    loop {
        poll.wait(PATIENCE, &mut ready)?;
        if ready.is_empty() {
            return Err(Trouble::TimedOut("a line"));
        }
        if pipe.read(&mut [0; LINE]).during("read a pipe")? == 0 {
            return Ok(thread_cpu_us() - own);
        }
        near.write_all(&event).during("send an event")?;
    }
}

/// A client that waits for each key's echo is at `far`.
fn echo(mut near: TcpStream, mut far: TcpStream, count: u32) -> Result<Vec<f64>> {
    let program = pty::EchoProgram::start()?;
    let typist = std::thread::spawn(move || {
        (0..count).try_for_each(|_| {
            far.write_all(b"a")?;
            far.read_exact(&mut [0])
        })
    });
    let (poll, mut ready) = (Poll::new()?, Vec::new());
    poll.add(&near, 0)?;
    poll.add(&program.master, 1)?;
    let own = thread_cpu_us();
    let mut key = [0; 16];
    let mut echoed = 0;
    while echoed < count {
        poll.wait(PATIENCE, &mut ready)?;
        if ready.is_empty() {
            return Err(Trouble::TimedOut("a key or its echo"));
        }
        for &member in &ready {
            if member == 0 {
                let len = near.read(&mut key).during("read a key")?;
                if len == 0 {
                    return Err(Trouble::Protocol("the typist is gone".into()));
                }
                rustix::io::write(&program.master, &key[..len]).during("type a key")?;
            } else {
                let len = rustix::io::read(&program.master, &mut key).during("read an echo")?;
                near.write_all(&key[..len]).during("send an echo")?;
                echoed += 1;
            }
        }
    }
    let cpu = thread_cpu_us() - own;
    let typed = typist
        .join()
        .map_err(|_| Trouble::Setup("a typist panicked".into()))?;
    typed.during("type and wait")?;
    Ok(vec![cpu / f64::from(count)])
}

/// The two ends of a connection over loopback.
fn connection() -> Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0").during("bind")?;
    let address = listener.local_addr().during("local address")?;
    let far = TcpStream::connect(address).during("connect")?;
    let (near, _) = listener.accept().during("accept")?;
    for end in [&near, &far] {
        end.set_nodelay(true).during("set nodelay")?;
    }
    Ok((near, far))
}

fn thread_cpu_us() -> f64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as f64 * 1e6 + now.tv_nsec as f64 / 1e3
}
