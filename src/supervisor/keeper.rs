//! The process that keeps what a server has while another one takes its place (`--keep`).
//!
//! In: deaths, of the server and of everybody below it, and signals that are for the server. Out: a
//! server that goes on, how children have ended ([`Records`]), and a bell for it. Owns nothing but
//! the place of the parent: descriptors are in a table that it shares with the server (CLONE_FILES),
//! logs and records in memory that both have mapped.
//!
//! A server is a copy of this process, made before there are threads, without exec. It starts
//! children as children of the keeper (CLONE_PARENT), so that they lose no parent with it, and the
//! keeper alone reaps them: it writes down how one has ended, then reaps it, then rings. So whatever
//! has a number in a record still has it, or its end is there.
//!
//! When a server dies, the next one closes every descriptor that no record names and that was not
//! open at the beginning ([`close_others`]), and goes on (`server`). A server that ends in order ends
//! the keeper, too, and so does one that cannot live: then everybody is killed.
//!
//! *An upgrade* is a planned death. The server that has nothing under its hands any more writes a
//! [`Heritage`] and says so in the records; the keeper becomes the new program by exec, in the same
//! process, with the same children ([`become_program`]). That one ends the old server
//! ([`end_predecessor`]), maps the same memory and begins a server of its own. If this one does not
//! come to serve, the keeper becomes the old program again in the same way ([`go_back`]).
//!
//! # Safety
//! A copy of this process, made while it has one thread; execve(2) on texts that live until then;
//! descriptors taken over by number, each once; and thin calls of libc on numbers and a zeroed
//! structure.
#![allow(unsafe_code)]

use std::collections::HashSet;
use std::convert::Infallible;
use std::ffi::{CString, c_char};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::process::exit;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, waitid};

use crate::config::timeouts;
use crate::ledger::records::End;
use crate::ledger::{Heritage, RecordId, Records};
use crate::supervisor::cgroup::Cgroups;
use crate::supervisor::reap::{self, Dead};
use crate::supervisor::signals::{self, Heard};
use crate::supervisor::spawn::clone;
use crate::supervisor::spawn::inherit::close_on_exec_above_2;
use crate::supervisor::tree::procfs;
use crate::supervisor::tree::walk::Walk;
use crate::types::{ExitStatus, Monotonic};

/// So many that live shorter than [`timeouts::SHORT_LIFE`] in a row, and there is no other one.
const SHORT_LIVES_MAX: u32 = 5;

/// What the keeper exits with then (sysexits.h(3head), EX_SOFTWARE).
const GIVEN_UP: i32 = 70;

/// How often is looked whether a server that has to serve soon does.
const LOOK_WHETHER_SERVED: Duration = Duration::from_millis(50);

/// Descriptors that may be open when the keeper begins.
const BASE_MAX: RawFd = 4096;

/// What a server has of its keeper.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    /// What is written down.
    pub records: Arc<Records>,
    /// Rung when children have died.
    pub(crate) bell: Arc<OwnedFd>,
    /// The keeper.
    pub(crate) pid: i32,
    /// Another server was there before.
    pub goes_on: bool,
    /// It is the first one of a program that has taken over.
    pub takes_over: bool,
}

impl Kept {
    /// The keeper's number, which is the main one of the service.
    pub(crate) fn pid(&self) -> u32 {
        self.pid.unsigned_abs()
    }

    /// The descriptor of the bell.
    pub(crate) fn bell(&self) -> RawFd {
        self.bell.as_raw_fd()
    }

    /// Has the keeper hand over to a program, and waits. Whoever calls it does nothing else until
    /// then, and no other thread either.
    ///
    /// # Errors
    /// When there is no such program, or the keeper is gone; else this process ends.
    pub(crate) fn hand_over(&self, heritage: &Heritage) -> io::Result<Infallible> {
        let memory = heritage.write()?;
        for fd in heritage.descriptors().chain([memory.as_raw_fd()]) {
            stays_open(fd);
        }
        for record in self.records.iter() {
            self.records.fds(record).for_each(stays_open);
        }
        self.records.hand_over(memory.as_raw_fd(), heritage.program);
        // SAFETY: plain numbers; the keeper is the parent.
        unsafe { libc::kill(self.pid, libc::SIGUSR2) };
        loop {
            if let Some(errno) = self.records.handover_error() {
                close_on_exec_above_2();
                return Err(io::Error::from_raw_os_error(errno));
            }
            if self.is_lost() {
                close_on_exec_above_2();
                // Everybody is ended in order, as ever when it is gone.
                let why = "it has ended before it had a server";
                return Err(io::Error::other(why));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Whether the keeper is gone, which nothing but a kill can do.
    pub(crate) fn is_lost(&self) -> bool {
        let parent = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
        parent != self.pid
    }
}

/// Begins to keep. Comes back in each server, and never in the keeper: that ends with the last of
/// them. `say` tells whoever started it what has happened, `end` is done before it gives up.
///
/// To be called while there is one thread, with the signals blocked that the server waits for. With a
/// `heritage` it goes on with what another program has kept.
///
/// # Errors
/// When no process can be made; then there is no keeper.
pub(crate) fn keep(
    records: &Arc<Records>,
    mut heritage: Option<&mut Heritage>,
    say: impl Fn(&str),
    end: impl FnOnce(),
) -> io::Result<Kept> {
    try_calls()?;
    let bell = match &heritage {
        Some(heritage) => handed_over(heritage.bell).ok_or(io::ErrorKind::NotFound)?,
        None => eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
    };
    let own = std::process::id().cast_signed();
    let mut kept = Kept {
        records: records.clone(),
        bell: Arc::new(bell),
        pid: own,
        goes_on: heritage.is_some(),
        takes_over: heritage.is_some(),
    };
    let mut base = open_now();
    if let Some(heritage) = &heritage {
        // Not what is passed on to the first server, and closed by those after it.
        let passed: HashSet<RawFd> = records
            .iter()
            .flat_map(|record| records.fds(record))
            .chain(heritage.connections.iter().map(|of| of.fd))
            .collect();
        base.retain(|fd| !passed.contains(fd));
    }
    let (mut short_lives, mut before) = (0, 0);
    let mut meant = Meant::default();
    loop {
        let begun = Instant::now();
        // SAFETY: the caller says that this is the only thread.
        let server = match unsafe { clone::copy_sharing_files() } {
            Ok(0) => {
                begin(own);
                if kept.goes_on {
                    let first = heritage.as_ref().filter(|_| kept.takes_over);
                    let connections = first.iter().flat_map(|first| &first.connections);
                    base.extend(connections.map(|of| of.fd));
                    records.mend_count();
                    close_others(records, &base);
                }
                return Ok(kept);
            }
            Ok(server) => server,
            Err(errno) if !kept.goes_on => {
                let error = io::Error::from_raw_os_error(errno);
                return Err(needs("a process more, by clone(2)", error));
            }
            // For want of memory or numbers, which others may give back.
            Err(_) => {
                // The dead hold numbers, too.
                collect(&kept, 0);
                std::thread::sleep(Duration::from_millis(10));
                continue;
            }
        };
        if meant.hangup && records.ending_since().is_none() {
            // The one before may have died of something else before it heard of that.
            send(server, libc::SIGHUP);
        }
        let until = kept
            .takes_over
            .then(|| begun + timeouts::UPGRADE_SERVES_MAX);
        let status = watch(&kept, server, (before, until), &mut heritage, &mut meant);
        before = server;
        let has_served = records.has_served();
        if meant.end && records.ending_since().is_none() {
            // It died before it heard that it was to end.
            records.set_ending_since(Monotonic::now());
        }
        if let Some(heritage) = heritage.as_ref().filter(|_| kept.takes_over && !has_served) {
            let why = format!("its server died before it served ({})", told(status));
            if meant.end {
                // Blocked, so that it is there for the program from before.
                send(own, libc::SIGTERM);
            }
            go_back(heritage, why, &say);
        }
        match status {
            ExitStatus::Code(0) => exit(0),
            ExitStatus::Code(code) if !has_served && !kept.goes_on => exit(code),
            _ if !has_served && !kept.goes_on => {
                say(&format!(
                    "the server died before it served ({})",
                    told(status)
                ));
                exit(1);
            }
            _ => {}
        }
        records.count_death();
        short_lives = match begun.elapsed() < timeouts::SHORT_LIFE || !has_served {
            true => short_lives + 1,
            false => 0,
        };
        if short_lives >= SHORT_LIVES_MAX {
            say(&format!(
                "the server died {SHORT_LIVES_MAX} times within {} s of its start, last of {}: \
                 everything is ended",
                timeouts::SHORT_LIFE.as_secs(),
                told(status)
            ));
            kill_everybody();
            end();
            exit(GIVEN_UP);
        }
        let what = match records.ending_since() {
            None => "another one goes on",
            Some(_) => "another one ends what it was ending",
        };
        say(&format!("the server died ({}); {what}", told(status)));
        if has_served {
            // What it was about to hand over is not whole for another one.
            records.forget_handover();
        }
        kept.goes_on = true;
        // One that has not served has not had what was handed over to the first.
        kept.takes_over &= !has_served;
    }
}

/// What the keeper was told for its servers, of which one may have died before it heard it.
#[derive(Debug, Default)]
struct Meant {
    /// To end.
    end: bool,
    /// That the terminal is gone whose session it leads. To read the settings again is not told twice:
    /// the next server does so by itself, and what clients have changed since stays.
    hangup: bool,
}

/// A signal to a server, which is a child that has not been reaped.
fn send(server: i32, signal: i32) {
    // SAFETY: plain numbers.
    unsafe { libc::kill(server, signal) };
}

/// Ends the server of the program that has handed over, which does nothing any more. When this comes
/// back, nobody else writes to its memory.
pub(crate) fn end_predecessor(heritage: &Heritage) {
    if heritage.server > 1 {
        // What it was told just now is for its successor.
        for signal in signals::pending(heritage.server) {
            if signals::is_for_server(signal) {
                // SAFETY: plain numbers; it is blocked here, and passed on to the server.
                unsafe { libc::kill(std::process::id().cast_signed(), signal) };
            }
        }
        // It is a child that nobody else reaps, so the number is its own. Of one that is no child the
        // call below says so.
        send(heritage.server, libc::SIGKILL);
        // A tracer may hold on to it when it is dead; then it is reaped later.
        let server = Pid::from_raw(heritage.server);
        let server = server.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        if let Some(server) = server {
            let mut ended = [PollFd::new(&server, PollFlags::IN)];
            while poll(&mut ended, None).is_err_and(|error| error == Errno::INTR) {}
        }
        reap(heritage.server);
    }
}

/// Becomes the program again that has handed over: this one cannot serve. Comes back if there is
/// none, or if that is this one.
pub(crate) fn go_back(heritage: &Heritage, why: String, say: impl Fn(&str)) {
    if heritage.failed.is_some() || heritage.before <= 2 {
        return;
    }
    say(&format!(
        "the upgrade failed: {why}; the program from before goes on"
    ));
    let again = Heritage {
        failed: Some(why),
        program: heritage.before,
        server: 0,
        ..heritage.clone()
    };
    let passed = again.write().and_then(|memory| {
        again.descriptors().for_each(stays_open);
        if let Some(records) = handed_over(again.records) {
            let records = Records::again(records)?;
            for record in records.iter() {
                records.fds(record).for_each(stays_open);
            }
        }
        stays_open(memory.as_raw_fd());
        Ok(memory)
    });
    match passed {
        Ok(memory) => {
            let errno = become_program(memory.as_raw_fd(), again.program);
            let error = io::Error::from_raw_os_error(errno);
            say(&format!(
                "the program from before cannot be started: {error}"
            ));
        }
        Err(error) => say(&format!("nothing can be handed back: {error}")),
    }
}

/// The argument with which a program is told where its heritage is.
pub(crate) const HERITAGE: &str = "--heritage=";

/// Becomes the program at this descriptor, in the same process; the errno if that cannot be done.
/// What is blocked and ignored stays so.
fn become_program(heritage: RawFd, program: RawFd) -> i32 {
    unsafe extern "C" {
        static environ: *const *const c_char;
    }
    let texts = [
        format!("/proc/self/fd/{program}"),
        "procring".to_owned(),
        "server".to_owned(),
        format!("{HERITAGE}{heritage}"),
    ];
    let texts = texts.map(|text| CString::new(text).unwrap_or_default());
    let argv = [
        texts[1].as_ptr(),
        texts[2].as_ptr(),
        texts[3].as_ptr(),
        std::ptr::null(),
    ];
    // SAFETY: strings that end with NUL and an array that ends with a null pointer, all of which
    // live until the call is over; the environment is changed by nobody, since this is the only
    // thread.
    unsafe { libc::execve(texts[0].as_ptr(), argv.as_ptr(), environ) };
    let error = io::Error::last_os_error();
    error.raw_os_error().unwrap_or(libc::EINVAL)
}

/// Has a descriptor stay open over exec.
fn stays_open(fd: RawFd) {
    // SAFETY: changes a flag of a number, which is no error if nothing is open there.
    unsafe { libc::fcntl(fd, libc::F_SETFD, 0) };
}

/// A copy of a descriptor that another program has handed over; None if nothing is open there. The
/// descriptor itself stays as it is, for the way back, and is closed at the next exec.
pub(crate) fn handed_over(fd: RawFd) -> Option<OwnedFd> {
    let original = ManuallyDrop::new(owned(fd)?);
    rustix::io::fcntl_dupfd_cloexec(&*original, 3).ok()
}

/// A descriptor that another program has handed over; None if nothing is open there. To be asked once
/// for each, when there is no way back.
pub(crate) fn owned(fd: RawFd) -> Option<OwnedFd> {
    // SAFETY: it is open and above the standard ones, and a heritage says that it was left to this
    // program, in which nobody else has it.
    let own = || unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: asks for the flags of a number.
    (fd > 2 && unsafe { libc::fcntl(fd, libc::F_GETFD) } >= 0).then(own)
}

/// The descriptor that a record names, in a server that goes on.
///
/// # Errors
/// If it is no end of a pipe or a terminal.
pub(crate) fn take_over(
    records: &Records,
    record: RecordId,
    end: End,
) -> Result<Option<OwnedFd>, ()> {
    let Some(fd) = records.fd(record, end) else {
        return Ok(None);
    };
    // SAFETY: all-zero is a valid `stat`, which the call fills if something is open there.
    let kind = unsafe {
        let mut about: libc::stat = std::mem::zeroed();
        match libc::fstat(fd, &raw mut about) {
            0 => about.st_mode & libc::S_IFMT,
            _ => 0,
        }
    };
    let is_end = matches!(kind, libc::S_IFIFO | libc::S_IFCHR);
    if !is_end {
        return Err(());
    }
    // SAFETY: it is open, because `close_others` has kept it, and a record names a descriptor only
    // as long as that is so. Nobody else has it: its owner is dead, this is asked for once, and no
    // other record names it (`Records::unname_shared`).
    Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) }))
}

fn told(status: ExitStatus) -> String {
    match status {
        ExitStatus::Code(code) => format!("exit code {code}"),
        ExitStatus::Signal(_) => status.signal_name().unwrap_or_default(),
    }
}

/// In a new server.
fn begin(keeper: i32) {
    // A keeper that is killed takes the server along, in order.
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::TERM));
    if rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get()) != Some(keeper) {
        exit(GIVEN_UP);
    }
    let _ = rustix::thread::set_name(c"procring-server");
    procfs::set_reaper(keeper);
    Cgroups::with_keeper(keeper);
}

/// Until the server has died; how. One that has not served `until` then is killed. `before` was the
/// server until this one began. What was handed over is let go when it serves.
fn watch(
    kept: &Kept,
    server: i32,
    (before, until): (i32, Option<Instant>),
    heritage: &mut Option<&mut Heritage>,
    meant: &mut Meant,
) -> ExitStatus {
    loop {
        if kept.records.has_served()
            && let Some(heritage) = heritage.take()
        {
            heritage.take_guests();
            // The way back was held by what a panic would do.
            drop(std::panic::take_hook());
        }
        if let Some(status) = collect(kept, server) {
            return status;
        }
        let impatient = until.filter(|_| !kept.records.has_served());
        let look = impatient.map(|_| LOOK_WHETHER_SERVED);
        let Some(Heard {
            signal,
            by,
            is_terminals,
        }) = signals::wait(look)
        else {
            if impatient.is_some_and(|until| Instant::now() >= until) {
                send(server, libc::SIGKILL);
            }
            continue;
        };
        if signal == libc::SIGUSR2 {
            if let Some((heritage, program)) = kept.records.handover() {
                let errno = become_program(heritage, program);
                kept.records.handover_failed(errno);
                continue;
            }
            // It was to hand over, and died before that was heard of. Who is outside of this pid
            // namespace has the number 0.
            if before != 0 && by == before {
                continue;
            }
        }
        // What a terminal sends its whole group gets; but that it is gone only the leader of the
        // session is told (credentials(7)).
        let is_heard = is_terminals && !(signal == libc::SIGHUP && leads_session());
        if signals::ends(signal) {
            meant.end = true;
        }
        if signal != libc::SIGCHLD && !is_heard {
            meant.hangup |= signal == libc::SIGHUP && is_terminals;
            send(server, signal);
        }
    }
}

/// Whether this process is the first of its session. A session that began outside of this PID namespace
/// is 0, which rustix takes for impossible.
fn leads_session() -> bool {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    procfs::stat(own).is_some_and(|stat| stat.session == own)
}

/// Writes down how the dead have ended and reaps them; how the server has, if it is one of them.
fn collect(kept: &Kept, server: i32) -> Option<ExitStatus> {
    let mut somebody = false;
    while let Some(Dead { pid, status, used }) = reap::peek_any() {
        let of = kept.records.of_pid(pid).filter(|_| pid != server);
        if let Some(record) = of {
            let numbers = [used.user_us, used.system_us, used.max_rss_bytes];
            kept.records.set_used(record, numbers);
            // Known before anybody else can have its number.
            kept.records.set_status(record, status);
        }
        reap(pid);
        if pid == server {
            return Some(status);
        }
        somebody = true;
    }
    if somebody {
        // Full when nobody has listened for 2^64 deaths.
        let _ = rustix::io::write(kept.bell.as_fd(), &1u64.to_ne_bytes());
    }
    None
}

fn reap(pid: i32) {
    if let Some(pid) = Pid::from_raw(pid) {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let _ = waitid(WaitId::Pid(pid), options);
    }
}

/// SIGKILL to everybody below, until nobody is left or for a while.
fn kill_everybody() {
    let own = std::process::id().cast_signed();
    let until = Instant::now() + timeouts::LAST_KILLS;
    loop {
        let children = procfs::children_of(own);
        if children.is_empty() || Instant::now() >= until {
            return;
        }
        let mut walk = Walk::default();
        walk.add_listed(children);
        walk.step(None);
        while let Some(Dead { pid, .. }) = reap::peek_any() {
            reap(pid);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Tries what a keeper cannot do without, while there is nothing to lose.
fn try_calls() -> io::Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|error| needs("to be the parent of orphans, by prctl(2)", error.into()))?;
    // The next server finds by it who still runs.
    pidfd_open(rustix::process::getpid(), PidfdFlags::empty())
        .map_err(|error| needs("pidfd_open(2)", error.into()))?;
    signals::try_wait().map_err(|error| needs("sigtimedwait(2)", error))?;
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    match waitid(WaitId::All, look) {
        Ok(_) | Err(Errno::CHILD) => Ok(()),
        Err(error) => Err(needs("waitid(2)", error.into())),
    }
}

fn needs(what: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("it needs {what}: {error}"))
}

/// What is open now, above the standard ones.
fn open_now() -> Vec<RawFd> {
    // SAFETY: asks for the flags of numbers, which is no error if nothing is open there.
    let is_open = |fd: &RawFd| unsafe { libc::fcntl(*fd, libc::F_GETFD) >= 0 };
    (3..BASE_MAX).filter(is_open).collect()
}

/// Closes what a dead server had open besides what records name: connections, its ring, halves of
/// what it was making.
fn close_others(records: &Records, base: &[RawFd]) {
    let mut keep: Vec<RawFd> = base.to_vec();
    for record in records.iter().filter(|&record| records.goes_on(record)) {
        keep.extend(records.fds(record));
    }
    keep.sort_unstable();
    keep.dedup();
    let mut from = 3;
    for fd in keep {
        if fd > from {
            clone::close_between(from, fd - 1);
        }
        from = fd + 1;
    }
    clone::close_between(from, RawFd::MAX);
}
