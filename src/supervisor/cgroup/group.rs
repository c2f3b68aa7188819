//! One group: its directory, who lives in it, and SIGKILL to all of them.
//!
//! In: the group that it is in, and its name. Out: answers of `cgroup.events` and `cgroup.procs`, a
//! write to `cgroup.kill`. Which groups there are, and when one is used again, is [`Cgroups`]'.
//!
//! [`Cgroups`]: super::Cgroups

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use rustix::fs::{Mode, OFlags, openat};

use super::bounds::Bounds;
use super::members::{DEPTH_MAX, members_below};
use super::usage::Processor;
use crate::supervisor::spawn::clone::Birthplace;

/// A group for one job.
#[derive(Debug)]
pub(crate) struct Group {
    pub(super) name: String,
    pub(super) home: Home,
    /// What its members may use, besides what the server may; None is all that. Boxed, because few
    /// groups have bounds.
    pub(super) bounds: Option<Box<Bounds>>,
    /// None once its job has exited: it may be needed for as long as what the job left behind
    /// lives, and is opened anew then.
    pub(super) open: Option<Open>,
    pub(super) killed: AtomicBool,
    /// Its counters have counted for others before.
    pub(super) had_others: AtomicBool,
    /// Under which number changes of its memory are told.
    pub(super) watch: OnceLock<i32>,
    /// Files that are read each time before it is used again, by their names.
    pub(super) held: OnceLock<Box<[(&'static str, OwnedFd)]>>,
}

/// The group that groups are made in.
#[derive(Clone, Debug)]
pub(super) struct Home {
    pub(super) dir: Arc<OwnedFd>,
    pub(super) path: Arc<Path>,
}

impl Home {
    pub(super) fn new(dir: OwnedFd, path: PathBuf) -> Self {
        Self {
            dir: Arc::new(dir),
            path: path.into(),
        }
    }
}

/// The descriptors of a group whose job runs.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) dir: OwnedFd,
    pub(super) events: OwnedFd,
}

/// As a group has them.
pub(super) fn boxed(bounds: Bounds) -> Option<Box<Bounds>> {
    (!bounds.is_empty()).then(|| Box::new(bounds))
}

impl Group {
    pub(super) fn open(home: &Home, name: String, bounds: Bounds) -> io::Result<Self> {
        let dir = open_dir(home.dir.as_fd(), &name)?;
        let events = open_events(dir.as_fd())?;
        Ok(Self {
            name,
            home: home.clone(),
            bounds: boxed(bounds),
            open: Some(Open { dir, events }),
            killed: AtomicBool::new(false),
            had_others: AtomicBool::new(false),
            watch: OnceLock::new(),
            held: OnceLock::new(),
        })
    }

    pub(super) fn bounds(&self) -> Bounds {
        self.bounds.as_deref().copied().unwrap_or_default()
    }

    /// SIGKILL to every member. Nothing if the descriptor table is full: the sweep follows.
    pub(crate) fn kill(&self) {
        self.killed.store(true, Ordering::Relaxed);
        let _ = match &self.open {
            Some(open) => kill(open.dir.as_fd()),
            None => self.dir().and_then(|dir| kill(dir.as_fd())),
        };
    }

    pub(super) fn dir(&self) -> io::Result<OwnedFd> {
        open_dir(self.home.dir.as_fd(), &self.name)
    }

    pub(super) fn path(&self) -> PathBuf {
        self.home.path.join(&self.name)
    }

    /// Whether anybody lives in it; also true if that cannot be found out.
    pub(crate) fn is_populated(&self) -> bool {
        if let Some(open) = &self.open {
            return is_populated(open.events.as_fd());
        }
        match self.dir().and_then(|dir| open_events(dir.as_fd())) {
            Ok(events) => is_populated(events.as_fd()),
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        }
    }

    /// What its descriptors count as, two of them for one.
    pub(super) fn weight(&self) -> usize {
        let held = self.held.get().map_or(0, |held| held.len().div_ceil(2));
        held + usize::from(self.open.is_some())
    }

    /// Whether it is empty, thawed and without groups within.
    pub(super) fn is_as_made(&self) -> bool {
        let Some(open) = &self.open else {
            return false;
        };
        // `.` and the name in the group above.
        let alone = |is: rustix::fs::Stat| is.st_nlink <= 2;
        let events = events(open.events.as_fd());
        says(&events, b"populated 0")
            && !says(&events, b"frozen 1")
            && rustix::fs::fstat(&open.dir).is_ok_and(alone)
    }

    /// Who is in it and in the groups that members made below it. `cgroup.kill` does not reach a
    /// process whose main thread has ended (seen on 6.18): it signals that thread.
    pub(crate) fn members(&self) -> Vec<i32> {
        let mut pids = Vec::new();
        match &self.open {
            Some(open) => members_below(open.dir.as_fd(), DEPTH_MAX, &mut pids),
            None => {
                if let Ok(dir) = self.dir() {
                    members_below(dir.as_fd(), DEPTH_MAX, &mut pids);
                }
            }
        }
        pids
    }

    /// Where a child can be born.
    pub(crate) fn birthplace(&self) -> Option<Birthplace<'_>> {
        self.open.as_ref().map(|open| Birthplace {
            dir: open.dir.as_fd(),
            only: self.is_limited(),
        })
    }

    /// What its counters of processor time show now, before its next job; None if they cannot be
    /// read.
    pub(crate) fn used_before(&self) -> Option<Processor> {
        match self.had_others.load(Ordering::Relaxed) {
            true => self.processor(),
            false => Some(Processor::default()),
        }
    }

    /// The last part of its path.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

pub(super) fn open_dir(parent: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(openat(parent, name, flags, Mode::empty())?)
}

fn open_events(dir: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    Ok(openat(dir, "cgroup.events", flags, Mode::empty())?)
}

pub(super) fn kill(dir: BorrowedFd<'_>) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = openat(dir, "cgroup.kill", flags, Mode::empty())?;
    rustix::io::write(file, b"1")?;
    Ok(())
}

/// `populated 1` in cgroup.events; a group that is gone has nobody in it.
pub(super) fn is_populated(file: BorrowedFd<'_>) -> bool {
    says(&events(file), b"populated 1")
}

/// What cgroup.events says, nothing of a group that is gone.
fn events(file: BorrowedFd<'_>) -> [u8; 128] {
    let mut text = [0; 128];
    let _ = rustix::io::pread(file, &mut text[..], 0);
    text
}

fn says(events: &[u8], line: &[u8]) -> bool {
    events.split(|&b| b == b'\n').any(|is| is == line)
}
