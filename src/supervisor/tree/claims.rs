//! Which tree a child belongs to that the kernel gave to the server when its parents died.
//!
//! In: trees as they begin and end, and a process. Out: the job that it is a part of, or that there
//! is none. Signals nobody, and keeps nothing of the process.
//!
//! What an orphan kept of its tree is asked in this order, since the first is certain, the second
//! can only be had on purpose, and the others by accident:
//! - its session is that of a leader who has not been reaped (the leader calls setsid; a daemon may
//!   leave it);
//! - it carries the tree's [`Mark`];
//! - its session is that of a leader who has been: a number that came again within the tick of that
//!   is not told from the one before;
//! - one of its descriptors 0 to 2 is a pipe or terminal that was made for this tree.
//!
//! Sessions, marks and files are numbers that come again, so each has an end:
//! - A session's number is in use while somebody is in the session. So it is the leader's until that
//!   is reaped. Later it is for who started before that ([`Session::Left`]), because a process is in
//!   the session that it was born in or in one of its own number; and for others while one of those
//!   is still there, which [`Verdict::IfPinned`] leaves to the caller to find out. When the number
//!   is a new leader's, nobody can have been left.
//! - A mark is not handed out while somebody carries it ([`Marks`]).
//! - A terminal's number is free when its master is closed, so whoever closes it says so first
//!   ([`Claims::files_closed`]). A pipe's comes again after 2^32 files.

use std::collections::HashMap;

use super::mark::{self, Mark, Marks};
use super::procfs::Stat;
use crate::types::JobId;

/// A file, told from others that are open at the same time (stat(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// As fstat(2) has it.
    pub(crate) fn new(stat: &rustix::fs::Stat) -> Self {
        #[allow(clippy::useless_conversion)] // Of other widths on other processors.
        Self {
            device: stat.st_dev.into(),
            inode: stat.st_ino.into(),
        }
    }
}

/// The session that a tree's leader began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Session {
    /// The leader has not been reaped.
    Led,
    /// The leader was reaped at this tick; who started later may be in another of the same number.
    Left { at_ticks: u64 },
}

/// What [`Claims::judge`] found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is of this tree.
    Of(JobId),
    /// It is of this tree if somebody who is known to be of it is still in the session.
    IfPinned(JobId),
    /// It carries this, and is of no tree that is known.
    Nobodys { carries: Option<u64> },
}

/// What the trees of all jobs are known by.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    marks: Marks,
    by_session: HashMap<i32, (JobId, Session)>,
    by_mark: HashMap<u64, (JobId, u64)>,
    by_file: HashMap<FileId, (JobId, u64)>,
}

impl Claims {
    /// A new tree's mark; `files` were made for it alone.
    pub(crate) fn begin(&mut self, job: JobId, files: &[FileId]) -> Mark {
        let mark = self.marks.take();
        if let Some((_, value)) = mark.value() {
            self.by_mark.insert(value, (job, mark.since_ticks));
        }
        for &file in files {
            self.by_file.insert(file, (job, mark.since_ticks));
        }
        mark
    }

    /// Goes on with a tree of a server that is gone, which carries this.
    pub(crate) fn go_on(&mut self, job: JobId, carries: Option<u64>, since_ticks: u64) -> Mark {
        let mark = self.marks.go_on(carries, since_ticks);
        if let Some((_, value)) = mark.value() {
            self.by_mark.insert(value, (job, since_ticks));
        }
        mark
    }

    /// Its leader runs. Nobody else can be left in a session of this number.
    pub(crate) fn led(&mut self, job: JobId, leader: i32) {
        self.by_session.insert(leader, (job, Session::Led));
    }

    /// Its leader is about to be reaped.
    pub(crate) fn left(&mut self, job: JobId, leader: i32) {
        if let Some((of, session)) = self.by_session.get_mut(&leader)
            && *of == job
        {
            *session = Session::Left {
                at_ticks: mark::now_ticks(),
            };
        }
    }

    /// These are about to be free for others.
    pub(crate) fn files_closed(&mut self, job: JobId, files: &[FileId]) {
        for file in files {
            if self.by_file.get(file).is_some_and(|(of, _)| *of == job) {
                self.by_file.remove(file);
            }
        }
    }

    /// Nobody asks about the tree any more. Its mark is not handed out before a census.
    pub(crate) fn forget(&mut self, job: JobId, leader: i32, mark: Mark, files: &[FileId]) {
        if self
            .by_session
            .get(&leader)
            .is_some_and(|(of, _)| *of == job)
        {
            self.by_session.remove(&leader);
        }
        if let Some((_, value)) = mark.value() {
            self.by_mark.remove(&value);
        }
        self.files_closed(job, files);
        self.marks.retire(mark);
    }

    /// Whether a forgotten tree had this mark and somebody may still carry it.
    pub(crate) fn is_retired(&self, mark: u64) -> bool {
        self.marks.is_retired(mark)
    }

    /// The marks, for a census.
    pub(crate) fn marks(&mut self) -> &mut Marks {
        &mut self.marks
    }

    /// What a process carries where marks would be.
    pub(crate) fn carried(&self, pid: i32) -> Option<u64> {
        mark::carried(pid, self.marks.kind())
    }

    /// Whose the process is. A child of the server, so its number is its own.
    pub(crate) fn judge(&self, pid: i32, stat: &Stat) -> Verdict {
        let mut by_session = None;
        if let Some(&(job, session)) = self.by_session.get(&stat.session) {
            match session {
                Session::Led => return Verdict::Of(job),
                Session::Left { at_ticks } if stat.session != pid => {
                    by_session = Some(match stat.start_ticks <= at_ticks {
                        true => Verdict::Of(job),
                        false => Verdict::IfPinned(job),
                    });
                }
                Session::Left { .. } => {}
            }
        }
        let started_since = |since_ticks: u64| stat.start_ticks >= since_ticks;
        let carries = self.carried(pid);
        if let Some(value) = carries {
            if let Some(&(job, since_ticks)) = self.by_mark.get(&value)
                && started_since(since_ticks)
            {
                return Verdict::Of(job);
            }
            let was_there = matches!(by_session, Some(Verdict::Of(_)));
            if self.marks.is_retired(value) && !was_there {
                return Verdict::Nobodys { carries };
            }
        }
        if let Some(verdict) = by_session {
            return verdict;
        }
        let file = files(pid).find_map(|file| self.by_file.get(&file));
        match file {
            Some(&(job, since_ticks)) if started_since(since_ticks) => Verdict::Of(job),
            _ => Verdict::Nobodys { carries },
        }
    }
}

/// What descriptors 0 to 2 of a process are, as far as that may be known.
fn files(pid: i32) -> impl Iterator<Item = FileId> {
    (0..3).filter_map(move |fd| {
        let stat = rustix::fs::stat(format!("/proc/{pid}/fd/{fd}")).ok()?;
        Some(FileId::new(&stat))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::tree::procfs;
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    use std::process::{Child, Command, Stdio};

    const OLD: JobId = JobId(1);
    const NEXT: JobId = JobId(2);

    /// A number that no session has.
    const SESSION: i32 = i32::MAX;

    struct Sleeper(Child, FileId);

    impl Sleeper {
        fn new() -> Self {
            let (_reader, writer) = std::io::pipe().unwrap();
            let file = FileId::new(&rustix::fs::fstat(&writer).unwrap());
            let mut sleep = Command::new("sleep");
            let child = sleep.arg("60").stdout(Stdio::from(writer)).spawn();
            Self(child.unwrap(), file)
        }

        /// As if it were in this session and had started at this tick.
        fn judged(&self, claims: &Claims, session: i32, start_ticks: u64) -> Verdict {
            let pid = self.0.id() as i32;
            let mut stat = procfs::stat(pid).unwrap();
            (stat.session, stat.start_ticks) = (session, start_ticks);
            claims.judge(pid, &stat)
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn a_session_is_its_leaders_until_the_number_may_be_anothers() {
        let sleeper = Sleeper::new();
        let mut claims = Claims::default();
        let mark = claims.begin(OLD, &[]);
        claims.led(OLD, SESSION);
        let now = mark::now_ticks();
        let at = |claims: &Claims, ticks| sleeper.judged(claims, SESSION, ticks);
        assert_eq!(at(&claims, now + 100), Verdict::Of(OLD));

        claims.left(OLD, SESSION);
        assert_eq!(at(&claims, now), Verdict::Of(OLD), "it was there before");
        assert_eq!(at(&claims, now + 100), Verdict::IfPinned(OLD));
        // Whoever leads a session of that number now is not of the old one.
        let mut stat = procfs::stat(sleeper.0.id() as i32).unwrap();
        let pid = sleeper.0.id() as i32;
        claims.led(OLD, pid);
        claims.left(OLD, pid);
        (stat.session, stat.start_ticks) = (pid, now);
        assert!(matches!(claims.judge(pid, &stat), Verdict::Nobodys { .. }));

        claims.led(NEXT, SESSION);
        claims.left(OLD, SESSION);
        claims.forget(OLD, SESSION, mark, &[]);
        for ticks in [now, now + 100] {
            assert_eq!(at(&claims, ticks), Verdict::Of(NEXT), "of who has it now");
        }
    }

    #[test]
    fn a_mark_says_whose_it_is_where_the_number_of_a_session_came_again_at_once() {
        let mut claims = Claims::default();
        let old = claims.begin(OLD, &[]);
        claims.led(OLD, SESSION);
        claims.left(OLD, SESSION);
        let next = claims.begin(NEXT, &[]);
        let [of_old, of_next] = [old, next].map(|mark| {
            let child = Command::new("sleep").arg("60").spawn().unwrap();
            let limit = Rlimit {
                current: mark.unique(),
                maximum: None,
            };
            let pid = Pid::from_child(&child);
            prlimit(Some(pid), Resource::Locks, limit).unwrap();
            let mut stat = procfs::stat(child.id() as i32).unwrap();
            stat.session = SESSION;
            (child, stat)
        });
        let later = mark::now_ticks() + 100;
        claims
            .by_session
            .insert(SESSION, (OLD, Session::Left { at_ticks: later }));
        let judged = |(child, stat): &(Child, procfs::Stat)| claims.judge(child.id() as i32, stat);
        assert_eq!(judged(&of_next), Verdict::Of(NEXT));
        assert_eq!(judged(&of_old), Verdict::Of(OLD));
        for (mut child, _) in [of_old, of_next] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    #[test]
    fn a_file_is_its_trees_until_it_is_closed_and_not_of_who_was_there_before() {
        let sleeper = Sleeper::new();
        let mut claims = Claims::default();
        let old = claims.begin(OLD, &[sleeper.1]);
        let now = mark::now_ticks();
        let at = |claims: &Claims, ticks| sleeper.judged(claims, 0, ticks);
        assert_eq!(at(&claims, now), Verdict::Of(OLD));
        assert!(matches!(at(&claims, 0), Verdict::Nobodys { .. }));
        claims.files_closed(NEXT, &[sleeper.1]);
        assert_eq!(at(&claims, now), Verdict::Of(OLD), "closed by another");
        // The number is given out again before the old record is removed.
        claims.begin(NEXT, &[sleeper.1]);
        claims.forget(OLD, 0, old, &[sleeper.1]);
        assert_eq!(at(&claims, mark::now_ticks()), Verdict::Of(NEXT));
        claims.files_closed(NEXT, &[sleeper.1]);
        assert!(matches!(at(&claims, now), Verdict::Nobodys { .. }));
    }
}
