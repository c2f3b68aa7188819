//! Echo over a bare pseudo-terminal: write to the master, read from it.

use std::fs::{File, OpenOptions};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::account::own_cpu;
use crate::load::{histogram, nanos_since};
use crate::trouble::{During, Result, Trouble};

/// `count` keys, one after the other: p50, p99 and own CPU, µs each.
pub(super) fn measure(index: usize, count: u32) -> Result<Vec<f64>> {
    let (master, slave) = open()?;
    if index == 1 {
        let mut mode = rustix::termios::tcgetattr(&slave).during("tcgetattr")?;
        // Echo without line editing: a line buffer would fill up.
        mode.local_modes.remove(rustix::termios::LocalModes::ICANON);
        rustix::termios::tcsetattr(&slave, rustix::termios::OptionalActions::Now, &mode)
            .during("tcsetattr")?;
        let drain = slave.try_clone().during("dup a terminal")?;
        let reader = std::thread::spawn(move || discard(&drain, count as usize));
        let figures = echo(&master, count);
        reader
            .join()
            .map_err(|_| Trouble::Setup("a reader panicked".into()))?;
        return figures;
    }
    echo(&EchoProgram::over(master, &slave)?.master, count)
}

/// A program that echoes keys in raw mode; ended when dropped.
pub(super) struct EchoProgram {
    /// The terminal's other end.
    pub(super) master: OwnedFd,
    child: Child,
}

impl EchoProgram {
    /// One that echoes from now on.
    pub(super) fn start() -> Result<EchoProgram> {
        let (master, slave) = open()?;
        EchoProgram::over(master, &slave)
    }

    fn over(master: OwnedFd, slave: &File) -> Result<EchoProgram> {
        let this = std::env::current_exe().during("find this program")?;
        let copy = || slave.try_clone().map(Stdio::from).during("dup a terminal");
        let child = Command::new(this)
            .args(["child", "tty-echo"])
            .stdin(copy()?)
            .stdout(copy()?)
            .spawn()
            .during("start an echo program")?;
        let program = EchoProgram { master, child };
        // It says R when the terminal is in raw mode.
        rustix::io::read(&program.master, &mut [0u8; 1]).during("read a terminal")?;
        Ok(program)
    }
}

impl Drop for EchoProgram {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn open() -> Result<(OwnedFd, File)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags).during("openpt")?;
    grantpt(&master).during("grantpt")?;
    unlockpt(&master).during("unlockpt")?;
    let name = ptsname(&master, Vec::new()).during("ptsname")?;
    let path = std::ffi::OsStr::from_bytes(name.as_bytes());
    let mut options = OpenOptions::new();
    std::os::unix::fs::OpenOptionsExt::custom_flags(options.read(true).write(true), libc::O_NOCTTY);
    Ok((master, options.open(path).during("open a terminal")?))
}

fn echo(master: &OwnedFd, count: u32) -> Result<Vec<f64>> {
    let mut latency = histogram();
    let own = own_cpu();
    for _ in 0..count {
        let at = Instant::now();
        rustix::io::write(master, b"a").during("type a key")?;
        rustix::io::read(master, &mut [0u8; 16]).during("read an echo")?;
        latency.saturating_record(nanos_since(at));
    }
    let cpu = (own_cpu() - own).as_secs_f64() * 1e6 / f64::from(count);
    let at = |quantile| latency.value_at_quantile(quantile) as f64 / 1e3;
    Ok(vec![at(0.5), at(0.99), cpu])
}

/// Takes the typed keys as a program would, and does nothing with them.
fn discard(slave: &File, count: usize) {
    let mut left = count;
    let mut buffer = [0u8; 256];
    while left > 0 {
        match rustix::io::read(slave, &mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(count) => left = left.saturating_sub(count),
        }
    }
}
