//! What every process of a tree carries, whoever its parent is by now.
//!
//! In: a new tree. Out: a [`Mark`] that its first process puts on and all descendants inherit, and
//! the answer whether a process carries it. Knows no tree.
//!
//! - The soft limit of file locks (getrlimit(2), RLIMIT_LOCKS), which no kernel since 2.4.25 looks
//!   at. Inherited over fork and exec, a process's own and not a thread's, and anybody may read
//!   another's (`/proc/PID/limits`). 62 bits hold the server's number besides the tree's, so that
//!   servers do not share marks, and nobody has one by accident ([`Mark::unique`]).
//! - Where the hard limit is lower than that, the timer slack (prctl(2), PR_SET_TIMERSLACK), 1 to
//!   16384 ns above the default, so nothing notices. Inherited over fork and exec. Reading another's
//!   wants CAP_SYS_NICE (kernel 4.6). A server that is itself a child of one takes the next 16384,
//!   since its orphans may become the other's. Anybody may have such a slack, so it tells only
//!   orphans of the server apart.
//!
//! Numbers are used again, but never while somebody carries them: that of a forgotten tree is
//! retired until a census has met nobody with it ([`Marks::release`]). Where all are in use a tree
//! has none. Who started before the tree is no member of it.
//!
//! # Safety
//! System calls on plain numbers, and on limits that live on the stack.
#![allow(unsafe_code)]

use std::collections::HashSet;

use super::procfs;

use rustix::process::{Resource, getrlimit};
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
pub(super) const TICKS_PER_SECOND: u64 = 100;

/// Trees of one server that have different limits: 14 bits.
const LIMITS: u64 = (1 << 14) - 1;

/// Every limit that is a mark has this bit; no limit that somebody means is so large.
const LIMIT_BASE: u64 = 1 << 62;

/// The mark of one tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
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
    /// The soft limit; getrlimit(2), RLIMIT_LOCKS.
    LocksLimit,
}

impl Mark {
    /// Puts the mark on the calling process. Fit for a child between vfork and exec. What cannot
    /// be put on is missing later; the sweep has other ways.
    pub(crate) fn put_on(&self) {
        let Some(value) = self.value else { return };
        match self.kind {
            // SAFETY: plain numbers, which the kernel checks.
            Kind::TimerSlack => unsafe {
                libc::prctl(libc::PR_SET_TIMERSLACK, value as libc::c_ulong, 0, 0, 0);
            },
            Kind::LocksLimit => {
                let mut limit = libc::rlimit {
                    rlim_cur: 0,
                    rlim_max: 0,
                };
                // SAFETY: `limit` lives on this stack for both calls, and has the type that they
                // take. Neither allocates.
                unsafe {
                    if libc::getrlimit(libc::RLIMIT_LOCKS, &raw mut limit) == 0 {
                        limit.rlim_cur = value;
                        libc::setrlimit(libc::RLIMIT_LOCKS, &raw const limit);
                    }
                }
            }
        }
    }

    /// What it is made of, and what [`carried`] says of a process that carries it.
    pub(crate) fn value(&self) -> Option<(Kind, u64)> {
        self.value.map(|value| (self.kind, value))
    }

    /// What tells who carries it from everybody else of this machine; None of a mark that somebody
    /// may have by accident.
    pub(crate) fn unique(&self) -> Option<u64> {
        self.value.filter(|_| self.kind == Kind::LocksLimit)
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
        Kind::LocksLimit => locks_limit(pid),
        Kind::TimerSlack => {
            let text = procfs::read(&format!("/proc/{pid}/timerslack_ns"))?;
            std::str::from_utf8(&text).ok()?.trim().parse().ok()
        }
    }
}

/// Hands marks out.
#[derive(Debug)]
pub(crate) struct Marks {
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
    /// Finds out what this process may set, and read of others.
    pub(crate) fn new() -> Self {
        let sets_limits = || getrlimit(Resource::Locks).maximum.is_none();
        let reads_slacks = || {
            capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_NICE))
        };
        if !sets_limits() && reads_slacks() {
            Self::of(
                Kind::TimerSlack,
                first_timer_slack(own_timer_slack()),
                TIMER_SLACKS,
            )
        } else {
            Self::of(
                Kind::LocksLimit,
                first_limit(std::process::id(), now_ticks()),
                LIMITS,
            )
        }
    }

    fn of(kind: Kind, base: u64, count: u64) -> Self {
        let until_census = usize::try_from(count / 2).unwrap_or(usize::MAX);
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
    pub(crate) fn take(&mut self) -> Mark {
        self.until_census = self.until_census.saturating_sub(1);
        Mark {
            kind: self.kind,
            value: self.next_value(),
            since_ticks: now_ticks(),
        }
    }

    /// The mark of a tree of a server that is gone.
    pub(crate) fn go_on(&mut self, value: Option<u64>, since_ticks: u64) -> Mark {
        self.used.extend(value);
        Mark {
            kind: self.kind,
            value,
            since_ticks,
        }
    }

    fn next_value(&mut self) -> Option<u64> {
        if self.used.len() as u64 >= self.count {
            return None;
        }
        for _ in 0..self.count {
            self.last = (self.last + 1) % self.count;
            let value = self.base + 1 + self.last;
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
        let count = usize::try_from(self.count).unwrap_or(usize::MAX);
        let free = count.saturating_sub(self.used.len());
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
    let (seconds, nanoseconds) = (now.tv_sec.cast_unsigned(), now.tv_nsec.cast_unsigned());
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
    (now.tv_nsec.cast_unsigned() / 1000).wrapping_add(u64::from(std::process::id()) * 7919)
}

/// Below the limits that are marks of the server with this pid, started at this time: no other
/// one has been both.
fn first_limit(pid: u32, ticks: u64) -> u64 {
    // Pids have at most 22 bits; 26 bits of ticks come again after 7 days.
    LIMIT_BASE | (ticks & ((1 << 26) - 1)) << 36 | u64::from(pid & ((1 << 22) - 1)) << 14
}

fn locks_limit(pid: i32) -> Option<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: asks only; `limit` lives on this stack and has the type that the call fills.
    let asked = unsafe { libc::prlimit(pid, libc::RLIMIT_LOCKS, std::ptr::null(), &raw mut limit) };
    if asked == 0 {
        return Some(limit.rlim_cur);
    }
    // Of another user, after a set-user-id program: the file is for all.
    let text = String::from_utf8(procfs::read(&format!("/proc/{pid}/limits"))?).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Max file locks"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;

    fn limits() -> Marks {
        Marks::of(Kind::LocksLimit, first_limit(77, 123), LIMITS)
    }

    fn value(marks: &mut Marks) -> Option<u64> {
        marks.take().value().map(|(_, value)| value)
    }

    #[test]
    fn no_two_known_trees_share_a_mark_and_the_last_ones_have_none() {
        let mut marks = limits();
        let all: HashSet<u64> = (0..LIMITS).filter_map(|_| value(&mut marks)).collect();
        assert_eq!(all.len() as u64, LIMITS);
        let other = [first_limit(78, 123), first_limit(77, 124)];
        for value in &all {
            assert!(*value >= LIMIT_BASE && *value < 1 << 63);
            let others = |base: &u64| (base + 1..=base + LIMITS).contains(value);
            assert!(!other.iter().any(others));
        }
        assert_eq!(value(&mut marks), None, "rather none than another's");
    }

    #[test]
    fn a_mark_is_handed_out_again_only_when_nobody_carries_it() {
        let mut marks = limits();
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
    fn a_limit_that_was_put_on_is_carried_by_who_is_started() {
        let mark = limits().take();
        let (_, value) = mark.value().unwrap();
        let mut command = std::process::Command::new("sleep");
        command.arg("77");
        // SAFETY: the mark is put on by system calls alone, in the child.
        unsafe {
            command.pre_exec(move || {
                mark.put_on();
                Ok(())
            })
        };
        let mut child = command.spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let limit = carried(pid, Kind::LocksLimit);
        let listed = std::fs::read_to_string(format!("/proc/{pid}/limits"));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(limit, Some(value));
        assert!(listed.is_ok_and(|text| text.contains(&value.to_string())));
        assert_eq!(carried(pid, Kind::LocksLimit), None, "it is gone");
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
