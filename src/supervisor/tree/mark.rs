//! What every process of a tree carries, whoever its parent is by now.
//!
//! In: a new tree. Out: a [`Mark`] that its first process puts on and all descendants inherit, and
//! the answer whether a process carries it. Knows no tree.
//!
//! - The timer slack (prctl(2), PR_SET_TIMERSLACK), 1 to 16384 ns above the default, so nothing
//!   notices. Inherited over fork and exec. Reading another's wants CAP_SYS_NICE (kernel 4.6).
//! - Without that capability the hint of the I/O priority (ioprio_set(2), kernel 6.5): anybody may
//!   read another's, it is inherited, too, and numbers from 8 mean nothing to any driver. Class
//!   and level are what they were: the server's own, or those that follow from its nice value.
//!
//! Numbers are used again: never one that a known tree has, and who started before the tree is
//! no member of it.
//!
//! # Safety
//! Two system calls on plain numbers that libc has no wrapper for.
#![allow(unsafe_code)]

use std::collections::HashSet;

use crate::supervisor::tree::kill::timer_slack_ns;
use rustix::process::{getpid, getpriority_process};
use rustix::thread::{CapabilitySet, capabilities};
use rustix::time::{ClockId, clock_gettime};

/// The kernel's default, nanoseconds.
const TIMER_SLACK_NS: u64 = 50_000;

const TIMER_SLACKS: u64 = 16_384;

/// USER_HZ, part of the kernel's interface on all processors but Alpha. To ask for it through
/// rustix is to read `/proc/self/auxv` before kernel 6.4, which is root's alone once the server
/// is not dumpable.
const TICKS_PER_SECOND: u64 = 100;

/// Hints below mean something (linux/ioprio.h, IOPRIO_HINT_DEV_DURATION_LIMIT_7).
const HINT_MIN: u64 = 8;

/// The hint has ten bits.
const HINTS: u64 = 1024 - HINT_MIN;

/// Where class and hint are in an I/O priority.
const CLASS_SHIFT: u32 = 13;
const HINT_SHIFT: u32 = 3;
const LEVEL_MASK: i32 = 7;

const CLASS_BEST_EFFORT: i32 = 2;
const WHO_PROCESS: i32 = 1;

/// The mark of one tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub(crate) number: u64,
    /// Nanoseconds; prctl(2), PR_SET_TIMERSLACK.
    pub timer_slack_ns: u64,
    /// For ioprio_set(2), where timer slacks cannot be read.
    pub io_priority: Option<i32>,
    /// When the tree was begun: clock ticks since boot, as in proc_pid_stat(5).
    pub since_ticks: u64,
}

impl Mark {
    /// Puts the mark on the calling process. Fit for a child between vfork and exec. What cannot
    /// be put on is missing later; the sweep has other ways.
    pub(crate) fn put_on(&self) {
        // SAFETY: plain numbers, which the kernel checks.
        unsafe {
            libc::prctl(
                libc::PR_SET_TIMERSLACK,
                self.timer_slack_ns as libc::c_ulong,
                0,
                0,
                0,
            );
            if let Some(priority) = self.io_priority {
                libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, priority);
            }
        }
    }

    /// What [`carried`] says of a process that carries it.
    pub(crate) fn value(&self) -> u64 {
        match self.io_priority {
            // Priorities that the kernel takes are not negative.
            Some(priority) => priority.unsigned_abs().into(),
            None => self.timer_slack_ns,
        }
    }
}

/// What a process shows where marks of this `kind` would be; None where that cannot be found out.
/// A number comes again: who started before a tree began is no member of it.
pub(crate) fn carried(pid: i32, kind: &Mark) -> Option<u64> {
    match kind.io_priority {
        Some(_) => io_priority(pid).map(|priority| priority.unsigned_abs().into()),
        None => timer_slack_ns(pid),
    }
}

/// Hands marks out.
#[derive(Debug)]
pub struct Marks {
    /// Class and level of children, shifted; None where timer slacks can be read.
    io_base: Option<i32>,
    last: u64,
    used: HashSet<u64>,
}

impl Marks {
    /// Finds out what this process may read of others.
    pub fn new() -> Self {
        let reads_slacks =
            capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_NICE));
        Self {
            io_base: (!reads_slacks).then(own_io_priority),
            last: somewhere(),
            used: HashSet::new(),
        }
    }

    /// A mark that no known tree has, as long as there are any.
    pub fn take(&mut self) -> Mark {
        let count = if self.io_base.is_some() {
            HINTS
        } else {
            TIMER_SLACKS
        };
        for _ in 0..count {
            self.last = (self.last + 1) % count;
            if self.used.insert(self.last) {
                break;
            }
        }
        let now = clock_gettime(ClockId::Boottime);
        let (seconds, nanoseconds) = (now.tv_sec as u64, now.tv_nsec as u64);
        Mark {
            number: self.last,
            timer_slack_ns: TIMER_SLACK_NS + 1 + self.last,
            io_priority: self
                .io_base
                .map(|base| base | ((HINT_MIN + self.last) as i32) << HINT_SHIFT),
            since_ticks: seconds * TICKS_PER_SECOND
                + nanoseconds * TICKS_PER_SECOND / 1_000_000_000,
        }
    }

    /// The tree is forgotten; another may have its mark.
    pub fn give_back(&mut self, mark: Mark) {
        self.used.remove(&mark.number);
    }
}

impl Default for Marks {
    fn default() -> Self {
        Self::new()
    }
}

/// Where to begin: servers that all began with the same number would share their marks.
fn somewhere() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    (now.tv_nsec as u64 / 1000).wrapping_add(u64::from(std::process::id()) * 7919) % TIMER_SLACKS
}

/// The priority in force for this process, without a hint.
fn own_io_priority() -> i32 {
    let set = io_priority(0).filter(|priority| priority >> CLASS_SHIFT != 0);
    set.map_or_else(
        || {
            // ioprio_set(2): without a class of its own, the level is (nice + 20) / 5.
            let nice = getpriority_process(Some(getpid())).unwrap_or(0);
            CLASS_BEST_EFFORT << CLASS_SHIFT | ((nice + 20) / 5).clamp(0, LEVEL_MASK)
        },
        |priority| priority & (!0 << CLASS_SHIFT | LEVEL_MASK),
    )
}

fn io_priority(pid: i32) -> Option<i32> {
    // SAFETY: plain numbers; 0 is the calling thread.
    let priority = unsafe { libc::syscall(libc::SYS_ioprio_get, WHO_PROCESS, pid) };
    i32::try_from(priority)
        .ok()
        .filter(|priority| *priority >= 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_known_trees_share_a_mark_and_numbers_come_again() {
        let mut marks = Marks {
            io_base: Some(CLASS_BEST_EFFORT << CLASS_SHIFT | 4),
            last: 0,
            used: HashSet::new(),
        };
        let lasting = marks.take();
        for _ in 0..2 * HINTS {
            let other = marks.take();
            assert_ne!(other.number, lasting.number);
            assert_ne!(other.io_priority, lasting.io_priority);
            marks.give_back(other);
        }
        for _ in 0..2 * HINTS {
            let mark = marks.take();
            let hint = mark.io_priority.unwrap() >> HINT_SHIFT & 1023;
            assert!((HINT_MIN as i32..1024).contains(&hint));
            assert_eq!(mark.io_priority.unwrap() >> CLASS_SHIFT, CLASS_BEST_EFFORT);
        }
    }
}
