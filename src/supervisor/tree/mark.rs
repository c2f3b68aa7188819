//! What every process of a tree carries, whoever its parent is by now.
//!
//! In: a new tree. Out: a [`Mark`] that its first process puts on and all descendants inherit, and
//! the answer whether a process carries it. Knows no tree.
//!
//! - The timer slack (prctl(2), PR_SET_TIMERSLACK), 1 to 16384 ns above the default, so nothing
//!   notices. Inherited over fork and exec. Reading another's wants CAP_SYS_NICE (kernel 4.6).
//!   A server that is itself a child of one takes the next 16384, since its orphans may become the
//!   other's.
//! - Without that capability the hint of the I/O priority (ioprio_set(2), kernel 6.5): anybody may
//!   read another's, it is inherited, too, and numbers from 8 mean nothing to any driver. Class
//!   and level are what they were: the server's own, or those that follow from its nice value.
//!
//! Numbers are used again, but never while somebody carries them: that of a forgotten tree is
//! retired until a census has met nobody with it ([`Marks::release`]). Where all are in use a tree
//! has none. Who started before the tree is no member of it.
//!
//! # Safety
//! Three system calls on plain numbers, two of which libc has no wrapper for.
#![allow(unsafe_code)]

use std::collections::HashSet;

use crate::supervisor::tree::procfs;
use rustix::process::{getpid, getpriority_process};
use rustix::thread::{CapabilitySet, capabilities};
use rustix::time::{ClockId, clock_gettime};

/// The kernel's default, nanoseconds.
const TIMER_SLACK_NS: u64 = 50_000;

const TIMER_SLACKS: u64 = 16_384;

/// Servers within servers that have timer slacks of their own.
const LEVELS: u64 = 8;

/// Trees begun between two censuses, at least.
const TAKES_PER_CENSUS_MIN: usize = 64;

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
    kind: Kind,
    /// What [`carried`] says of a process that carries it; None for a tree without a mark.
    value: Option<u64>,
    /// When the tree was begun: clock ticks since boot, as in proc_pid_stat(5).
    pub(crate) since_ticks: u64,
}

/// What marks of a server are made of, all of them of the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// Nanoseconds; prctl(2), PR_SET_TIMERSLACK.
    TimerSlack,
    /// As ioprio_set(2) takes it.
    IoPriority,
}

impl Kind {
    /// The word for it in a record on disk.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Kind::TimerSlack => "slack",
            Kind::IoPriority => "ioprio",
        }
    }

    /// The reverse of [`Kind::word`].
    pub(crate) fn from_word(word: &str) -> Option<Self> {
        [Kind::TimerSlack, Kind::IoPriority]
            .into_iter()
            .find(|kind| kind.word() == word)
    }
}

impl Mark {
    /// Puts the mark on the calling process. Fit for a child between vfork and exec. What cannot
    /// be put on is missing later; the sweep has other ways.
    pub(crate) fn put_on(&self) {
        let Some(value) = self.value else { return };
        // SAFETY: plain numbers, which the kernel checks.
        unsafe {
            match self.kind {
                Kind::TimerSlack => {
                    libc::prctl(libc::PR_SET_TIMERSLACK, value as libc::c_ulong, 0, 0, 0);
                }
                Kind::IoPriority => {
                    libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, value);
                }
            }
        }
    }

    /// What it is made of, and what [`carried`] says of a process that carries it.
    pub(crate) fn value(&self) -> Option<(Kind, u64)> {
        self.value.map(|value| (self.kind, value))
    }

    /// The mark of a tree that has none.
    #[cfg(test)]
    pub(crate) fn none() -> Self {
        Self {
            kind: Kind::TimerSlack,
            value: None,
            since_ticks: 0,
        }
    }
}

/// What a process shows where marks of this kind would be; None where that cannot be found out.
pub(crate) fn carried(pid: i32, kind: Kind) -> Option<u64> {
    match kind {
        // Priorities that the kernel takes are not negative.
        Kind::IoPriority => io_priority(pid).map(|priority| priority.unsigned_abs().into()),
        Kind::TimerSlack => {
            let text = std::fs::read_to_string(format!("/proc/{pid}/timerslack_ns")).ok()?;
            text.trim().parse().ok()
        }
    }
}

/// As [`carried`], of a process whose main thread may have ended: with it went the I/O priority,
/// the other threads keep theirs.
pub(crate) fn carried_by_some_thread(pid: i32, kind: Kind, stat: &procfs::Stat) -> Option<u64> {
    if kind == Kind::TimerSlack || !stat.lost_main_thread() {
        return carried(pid, kind);
    }
    let mut others = procfs::threads_of(pid)
        .into_iter()
        .filter(|&tid| tid != pid);
    others.find_map(|tid| carried(tid, kind))
}

/// Hands marks out.
#[derive(Debug)]
pub struct Marks {
    kind: Kind,
    /// What the first number stands for.
    base: u64,
    count: u64,
    last: u64,
    /// Values that a tree has or that somebody may carry.
    used: HashSet<u64>,
    /// Those of them whose tree is forgotten.
    retired: HashSet<u64>,
    /// Those of them that a census under way is about.
    counted: HashSet<u64>,
    /// Trees to be begun until a census is worth it.
    until_census: usize,
}

impl Marks {
    /// Finds out what this process may read of others.
    pub fn new() -> Self {
        let reads_slacks =
            capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_NICE));
        if reads_slacks {
            Self::of(
                Kind::TimerSlack,
                first_timer_slack(own_timer_slack()),
                TIMER_SLACKS,
            )
        } else {
            let base = own_io_priority().unsigned_abs().into();
            Self::of(Kind::IoPriority, base, HINTS)
        }
    }

    fn of(kind: Kind, base: u64, count: u64) -> Self {
        let until_census = count as usize / 2;
        Self {
            kind,
            base,
            count,
            last: somewhere() % count,
            used: HashSet::new(),
            retired: HashSet::new(),
            counted: HashSet::new(),
            until_census,
        }
    }

    /// A mark that no known tree has and nobody carries; an empty one where there is none left.
    pub fn take(&mut self) -> Mark {
        self.until_census = self.until_census.saturating_sub(1);
        Mark {
            kind: self.kind,
            value: self.next_value(),
            since_ticks: now_ticks(),
        }
    }

    fn next_value(&mut self) -> Option<u64> {
        if self.used.len() as u64 >= self.count {
            return None;
        }
        for _ in 0..self.count {
            self.last = (self.last + 1) % self.count;
            let value = match self.kind {
                Kind::TimerSlack => self.base + 1 + self.last,
                Kind::IoPriority => self.base | (HINT_MIN + self.last) << HINT_SHIFT,
            };
            if self.used.insert(value) {
                return Some(value);
            }
        }
        None
    }

    /// The tree is forgotten; somebody may still carry its mark.
    pub(crate) fn retire(&mut self, mark: Mark) {
        self.retired.extend(mark.value);
    }

    /// What marks of this server are made of.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether a forgotten tree had this one.
    pub(crate) fn is_retired(&self, value: u64) -> bool {
        self.retired.contains(&value)
    }

    /// Whether so many trees were begun that [`Marks::release`] should be called.
    pub(crate) fn wants_census(&self) -> bool {
        self.until_census == 0 && !self.retired.is_empty()
    }

    /// Begins a census, if it is worth it; whether it does. It is about trees that are forgotten
    /// by now: of others somebody might not be met.
    pub(crate) fn begin_census(&mut self) -> bool {
        if self.wants_census() {
            self.counted.clone_from(&self.retired);
        }
        self.is_counting()
    }

    /// Whether a census is under way.
    pub(crate) fn is_counting(&self) -> bool {
        !self.counted.is_empty()
    }

    /// Ends a census: of the marks that it was about only `carriers` are carried, the others may be
    /// used again. Without a census that could be trusted, None, nothing changes but when to try
    /// again.
    pub(crate) fn release(&mut self, carriers: Option<&HashSet<u64>>) {
        let counted = std::mem::take(&mut self.counted);
        if let Some(carriers) = carriers {
            for value in counted.difference(carriers) {
                self.retired.remove(value);
                self.used.remove(value);
            }
        }
        let free = (self.count as usize).saturating_sub(self.used.len());
        self.until_census = TAKES_PER_CENSUS_MIN.max(free / 2);
    }
}

impl Default for Marks {
    fn default() -> Self {
        Self::new()
    }
}

/// Clock ticks since boot, as in proc_pid_stat(5).
pub(crate) fn now_ticks() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let (seconds, nanoseconds) = (now.tv_sec as u64, now.tv_nsec as u64);
    seconds * TICKS_PER_SECOND + nanoseconds * TICKS_PER_SECOND / 1_000_000_000
}

fn own_timer_slack() -> u64 {
    // SAFETY: plain numbers.
    let slack = unsafe { libc::prctl(libc::PR_GET_TIMERSLACK, 0, 0, 0, 0) };
    u64::try_from(slack).unwrap_or(TIMER_SLACK_NS)
}

/// Below the marks of a server whose own timer slack is `own`, and above those of the server that
/// it is a child of.
fn first_timer_slack(own: u64) -> u64 {
    let level = own.saturating_sub(TIMER_SLACK_NS).div_ceil(TIMER_SLACKS);
    TIMER_SLACK_NS + level % LEVELS * TIMER_SLACKS
}

/// Where to begin: servers that all began with the same number would share their marks.
fn somewhere() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    (now.tv_nsec as u64 / 1000).wrapping_add(u64::from(std::process::id()) * 7919)
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

    fn hints() -> Marks {
        let base = (CLASS_BEST_EFFORT << CLASS_SHIFT | 4).unsigned_abs().into();
        Marks::of(Kind::IoPriority, base, HINTS)
    }

    fn value(marks: &mut Marks) -> Option<u64> {
        marks.take().value().map(|(_, value)| value)
    }

    #[test]
    fn no_two_known_trees_share_a_mark_and_the_last_ones_have_none() {
        let mut marks = hints();
        let all: HashSet<u64> = (0..HINTS).filter_map(|_| value(&mut marks)).collect();
        assert_eq!(all.len() as u64, HINTS);
        for value in &all {
            let hint = value >> HINT_SHIFT & 1023;
            assert!((HINT_MIN..1024).contains(&hint));
            assert_eq!(value >> CLASS_SHIFT, CLASS_BEST_EFFORT as u64);
            assert_eq!(value & 7, 4);
        }
        assert_eq!(value(&mut marks), None, "rather none than another's");
    }

    #[test]
    fn a_mark_is_handed_out_again_only_when_nobody_carries_it() {
        let mut marks = hints();
        let (carried, free, late) = (marks.take(), marks.take(), marks.take());
        for mark in [carried, free] {
            marks.retire(mark);
        }
        let [carried, free] = [carried, free].map(|mark| mark.value().unwrap().1);
        while value(&mut marks).is_some() {}
        assert!(marks.begin_census());
        // Somebody died while they were counted.
        marks.release(None);
        assert_eq!(value(&mut marks), None);
        while !marks.begin_census() {
            assert_eq!(value(&mut marks), None);
        }
        // Too late for this census.
        marks.retire(late);
        marks.release(Some(&HashSet::from([carried])));
        assert!(!marks.wants_census(), "not at once again");
        assert_eq!(value(&mut marks), Some(free));
        assert_eq!(value(&mut marks), None);
        assert!(marks.is_retired(carried));
    }

    #[test]
    fn a_server_within_a_server_has_marks_of_its_own() {
        assert_eq!(first_timer_slack(TIMER_SLACK_NS), TIMER_SLACK_NS);
        let within = first_timer_slack(TIMER_SLACK_NS + 1);
        assert_eq!(within, TIMER_SLACK_NS + TIMER_SLACKS);
        assert_eq!(first_timer_slack(within), within, "its highest is not ours");
        assert_eq!(first_timer_slack(within + 1), within + TIMER_SLACKS);
    }
}
