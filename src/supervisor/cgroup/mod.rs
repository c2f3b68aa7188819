//! One cgroup per job, where the server may make any (cgroups(7), version 2).
//!
//! In: the server's own place in the hierarchy. Out: a [`Group`] to start a child in, and later
//! the certainty that nobody of its tree is left. Owns the directories it made. Knows no job.
//!
//! A group is the one mark that no process can shed by forking, calling setsid or closing
//! descriptors, and `cgroup.kill` (kernel 5.14) ends all of it at once, also what is forking right
//! now. Many hosts have version 1 only or mount it read-only, so nothing depends on it: without a
//! group, and for a child that moved itself elsewhere, a walk of `supervisor::tree` does the work.
//!
//! Groups are used again: a child started right into an existing one (clone3(2),
//! CLONE_INTO_CGROUP) costs nothing that could be measured (711 against 709 us for /bin/true with
//! exec and exit, medians of 600 in turns). Making and removing one each time costs 14 %.
//! A `run` of /bin/true takes 1136 us with and 1124 us without, over HTTP. A group
//! that was killed is not: kernels compare its count of kills with that of the parent's group
//! (seen on 6.18), and kill whoever is born into it. The same can be true of the server's own
//! group from the start, so [`Cgroups::new`] tries.
//!
//! Children see the limits of the server's group all the same ([`handing_on`]), or there are no
//! groups for them.

mod aside;
mod bounds;
mod error;
mod group;
mod handing_on;
mod left_behind;
mod limited;
mod limits;
mod members;
mod ours;
mod place;
mod succession;
#[cfg(test)]
mod testing;
mod usage;
mod watch;

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use rustix::fs::{
    Access, AtFlags, FlockOperation, Mode, OFlags, accessat, flock, mkdirat, openat, unlinkat,
};

pub(crate) use self::bounds::Bounds;
pub(crate) use self::error::{CgroupError, Hidden};
pub(crate) use self::group::Group;
use self::group::{Home, is_populated, kill, open_dir};
use self::handing_on::HandingOn;
pub(crate) use self::left_behind::end_left_behind;
use self::limited::Limited;
pub(crate) use self::limited::LimitedError;
use self::limits::Limits;
use self::members::{AT_ONCE_MAX, Below, members};
use self::ours::{PREFIX, remove_stale, remove_with_children};
use self::place::Place;
pub(crate) use self::usage::Processor;
pub(crate) use self::watch::Watcher;
use crate::supervisor::spawn::clone;
use crate::types::KeptLimits;

/// Names tried for the server's own group.
const NAMES_MAX: u32 = 1024;

/// Empty groups kept for the next jobs.
const IDLE_MAX: usize = 64;

/// Births that may fail, for want of memory for instance, before no more are tried.
const REFUSALS_MAX: u32 = 64;

/// Abandoned groups looked at whenever one is wanted.
const ABANDONED_PER_LOOK: usize = 2;

/// What to do where children in groups of their own would not see limits of the server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IfHiding {
    /// Have no groups.
    Refuse,
    /// Have them all the same.
    Accept,
}

/// All groups of this server.
#[derive(Debug)]
pub(crate) struct Cgroups {
    name: String,
    /// Locked (flock(2)) as long as the server lives: who gets the lock knows it is gone.
    home: Home,
    idle: Vec<Arc<Group>>,
    /// Groups whose job is forgotten while somebody still lives in them.
    abandoned: VecDeque<(Home, String)>,
    /// Groups of killed servers in which somebody lived at the start.
    stale: Vec<PathBuf>,
    open: usize,
    open_max: usize,
    made: u64,
    refusals: u32,
    usable: bool,
    handing_on: Option<Box<HandingOn>>,
    hidden: Option<Box<Hidden>>,
    limited: Box<Limited>,
    watcher: Option<Watcher>,
    kept: KeptLimits,
}

impl Cgroups {
    /// Makes the server's own group below the one it is in, and removes empty ones that killed
    /// servers left there.
    ///
    /// At most `open_max` groups, two descriptors each or a few more, are open at the same time. With
    /// [`IfHiding::Accept`] there are groups even if they hide limits ([`Cgroups::hidden`]).
    ///
    /// # Errors
    /// Why there cannot be groups.
    pub(crate) fn new(open_max: usize, if_hiding: IfHiding) -> Result<Self, CgroupError> {
        let place = Place::own().ok_or(CgroupError::NotMounted)?;
        let mut groups = Self::below(&place.group, open_max)?;
        let limits = Limits::of(&place.group, &place.top);
        if limits.is_some() {
            match HandingOn::begin(limits, &place.group, &groups.path()) {
                Ok(handing_on) => groups.hand_on(handing_on),
                Err(refusal) => {
                    let hidden = Box::new(Hidden { limits, refusal });
                    if if_hiding == IfHiding::Refuse {
                        groups.remove_all();
                        return Err(CgroupError::HidesLimits(hidden));
                    }
                    groups.hidden = Some(hidden);
                }
            }
        }
        Ok(groups)
    }

    /// The limits that children do not see.
    pub(crate) fn hidden(&self) -> Option<&Hidden> {
        self.hidden.as_deref()
    }

    /// New groups show the limits; those that are there do not.
    fn hand_on(&mut self, handing_on: HandingOn) {
        let (parent, children) = (self.parent(), self.path());
        self.kept = limited::offer(&parent, true);
        *self.limited = Limited::new(&parent, &children, *handing_on.limits(), true);
        self.handing_on = Some(Box::new(handing_on));
        for group in std::mem::take(&mut self.idle) {
            self.open -= 1;
            self.remove(&group.home, group.name.clone());
        }
    }

    /// Which limits can be kept by groups.
    pub(crate) fn kept(&self) -> &KeptLimits {
        &self.kept
    }

    /// Where the server was started.
    fn parent(&self) -> PathBuf {
        let path = &*self.home.path;
        path.parent().unwrap_or(path).to_owned()
    }

    fn below(parent: &Path, open_max: usize) -> Result<Self, CgroupError> {
        let refused = |error: io::Error| CgroupError::Refused {
            parent: parent.to_owned(),
            error,
        };
        let stale = remove_stale(parent);
        let parent_dir: OwnedFd = File::open(parent).map_err(refused)?.into();
        let mut made = None;
        for n in 0..NAMES_MAX {
            let name = format!("{PREFIX}{}-{n}", std::process::id());
            match mkdirat(&parent_dir, name.as_str(), Mode::from(0o755)) {
                Ok(()) => {}
                Err(rustix::io::Errno::EXIST) => continue,
                Err(errno) => return Err(refused(errno.into())),
            }
            let locked = open_dir(parent_dir.as_fd(), &name).and_then(|dir| {
                flock(&dir, FlockOperation::NonBlockingLockExclusive)?;
                openat(&dir, "cgroup.events", OFlags::CLOEXEC, Mode::empty())?;
                ours::mark(&dir);
                Ok(dir)
            });
            if let Ok(dir) = locked {
                made = Some((name, dir));
                break;
            }
            let _ = unlinkat(&parent_dir, name.as_str(), AtFlags::REMOVEDIR);
        }
        let (name, dir) = made.ok_or_else(|| refused(io::ErrorKind::AlreadyExists.into()))?;
        let kill = accessat(&dir, "cgroup.kill", Access::WRITE_OK, AtFlags::empty());
        if kill.is_err() {
            let _ = unlinkat(&parent_dir, name.as_str(), AtFlags::REMOVEDIR);
            return Err(CgroupError::NoKill);
        }
        let path = parent.join(&name);
        let mut groups = Self::of(name, dir, path, open_max);
        groups.stale = stale;
        let born = groups.take().is_some_and(|group| {
            let born = group.birthplace().is_some_and(clone::can_be_born_in);
            groups.give_back(group);
            born
        });
        if !born {
            groups.remove_all();
            return Err(CgroupError::NoBirth);
        }
        Ok(groups)
    }

    fn of(name: String, dir: OwnedFd, path: PathBuf, open_max: usize) -> Self {
        let parent = path.parent().unwrap_or(&path);
        let limited = Limited::new(parent, &path, Limits::default(), false);
        let kept = limited::offer(parent, false);
        Self {
            name,
            home: Home::new(dir, path),
            idle: Vec::new(),
            abandoned: VecDeque::new(),
            stale: Vec::new(),
            open: 0,
            open_max,
            made: 0,
            refusals: 0,
            usable: true,
            handing_on: None,
            hidden: None,
            limited: Box::new(limited),
            watcher: None,
            kept,
        }
    }

    /// The directory of this server's groups.
    pub(crate) fn path(&self) -> PathBuf {
        self.home.path.to_path_buf()
    }

    /// An empty group; None if there are too many or the kernel refuses one more.
    pub(crate) fn take(&mut self) -> Option<Arc<Group>> {
        if !self.usable {
            return None;
        }
        self.look_at_abandoned();
        if let Some(group) = self.idle.pop() {
            return Some(group);
        }
        if self.open >= self.open_max {
            return None;
        }
        self.made += 1;
        // Few are made, since they are used again.
        self.stale.retain(|group| ours::stays(group) == Some(true));
        let name = self.made.to_string();
        mkdirat(&self.home.dir, name.as_str(), Mode::from(0o755)).ok()?;
        let shown = self
            .handing_on
            .as_ref()
            .map_or(Ok(()), |on| on.write(&name));
        match shown.and_then(|()| Group::open(&self.home, name.clone(), Bounds::default())) {
            Ok(group) => {
                self.open += 1;
                Some(Arc::new(group))
            }
            Err(_) => {
                self.remove(&self.home.clone(), name);
                None
            }
        }
    }

    /// An empty group with bounds; a `new` one if its counters of memory matter.
    ///
    /// # Errors
    /// Why there is none. What could be kept before and cannot any more is not [kept](Self::kept)
    /// from then on.
    pub(crate) fn take_limited(
        &mut self,
        bounds: &Bounds,
        new: bool,
    ) -> Result<Arc<Group>, LimitedError> {
        let home = self.limited.home_for(bounds, &mut self.kept)?;
        self.look_at_abandoned();
        let idle = (!new).then(|| self.limited.take_idle(bounds)).flatten();
        for group in self.limited.take_spoilt() {
            self.drop_group(&group);
        }
        if let Some(group) = idle {
            return Ok(group);
        }
        if self.open >= self.open_max {
            let unused = self.idle.pop().or_else(|| self.limited.take_any());
            let full = || LimitedError::NoGroup(io::Error::from_raw_os_error(libc::EMFILE));
            self.drop_group(&*unused.ok_or_else(full)?);
        }
        self.made += 1;
        let name = self.made.to_string();
        mkdirat(&home.dir, name.as_str(), Mode::from(0o755))
            .map_err(|errno| LimitedError::NoGroup(errno.into()))?;
        let written = self.limited.write(&home.path.join(&name), bounds);
        match written.and_then(|()| Group::open(&home, name.clone(), *bounds)) {
            Ok(group) => {
                self.open += 1;
                Ok(Arc::new(group))
            }
            Err(error) => {
                self.remove(&home, name);
                Err(LimitedError::NoGroup(error))
            }
        }
    }

    /// Has changes of the memory of a group told, under a number; None where that cannot be had.
    pub(crate) fn watch(&mut self, group: &Group) -> Option<(&Watcher, i32)> {
        if self.watcher.is_none() {
            self.watcher = Some(Watcher::new().ok()?);
        }
        let watcher = self.watcher.as_ref()?;
        Some((watcher, watcher.watch(group)?))
    }

    /// What tells of such changes, if any are told.
    pub(crate) fn watcher(&self) -> Option<&Watcher> {
        self.watcher.as_ref()
    }

    /// Takes a group back whose job is forgotten. Who still lives in it lives on.
    ///
    /// One that its members have changed as far as that shows (frozen, groups within) is not used
    /// again: the next child would be born into it.
    pub(crate) fn give_back(&mut self, group: Arc<Group>) {
        let clean = !group.killed.load(Ordering::Relaxed) && group.is_as_made();
        group.had_others.store(true, Ordering::Relaxed);
        if clean && group.is_limited() {
            let before = group.weight();
            match self.limited.keep(group) {
                Ok(weight) => self.open += weight - before,
                Err(group) => {
                    self.open += group.weight() - before;
                    self.drop_group(&group);
                }
            }
        } else if clean && self.usable && self.idle.len() < IDLE_MAX {
            self.idle.push(group);
        } else {
            self.drop_group(&group);
        }
    }

    fn drop_group(&mut self, group: &Group) {
        if let Some(watcher) = &self.watcher {
            watcher.unwatch(group);
        }
        self.open -= group.weight();
        self.remove(&group.home, group.name.clone());
    }

    /// The same group without its descriptors: its job has exited, and what the job left behind
    /// lives in it, perhaps for long.
    pub(crate) fn close(&mut self, group: &Group) -> Arc<Group> {
        self.open -= group.weight();
        Arc::new(Group {
            name: group.name.clone(),
            home: group.home.clone(),
            bounds: group.bounds.clone(),
            open: None,
            killed: AtomicBool::new(group.killed.load(Ordering::Relaxed)),
            had_others: AtomicBool::new(group.had_others.load(Ordering::Relaxed)),
            watch: group.watch.clone(),
            held: OnceLock::new(),
        })
    }

    /// How many processes live in a group and those below it.
    pub(crate) fn members(&self, group: &Group) -> usize {
        members(&group.path())
    }

    /// The name of the group of this server that a process is in or was when it died.
    pub(crate) fn name_of(&self, pid: i32) -> Option<String> {
        let membership = fs::read(format!("/proc/{pid}/cgroup")).ok()?;
        let membership = String::from_utf8_lossy(&membership);
        let path = membership
            .lines()
            .find_map(|line| line.strip_prefix("0::"))?;
        let is_home = |part: &str| {
            let rest = part.strip_prefix(&*self.name);
            rest.is_some_and(|rest| rest.is_empty() || rest == limited::SUFFIX)
        };
        let mut parts = path.split('/').skip_while(|part| !is_home(part));
        parts.nth(1).map(str::to_owned)
    }

    /// A child could not be born in its group. Makes no more of them if that goes on; whether that
    /// begins now.
    pub(crate) fn refused(&mut self, group: Arc<Group>) -> bool {
        // Nor shall anybody else be born there.
        group.killed.store(true, Ordering::Relaxed);
        self.give_back(group);
        self.refusals += 1;
        let too_many = self.usable && self.refusals >= REFUSALS_MAX;
        if too_many {
            self.give_up();
        }
        too_many
    }

    fn give_up(&mut self) {
        self.usable = false;
        for group in std::mem::take(&mut self.idle) {
            self.give_back(group);
        }
    }

    /// SIGKILL to everybody in any of the groups.
    pub(crate) fn kill_all(&self) {
        let _ = kill(self.home.dir.as_fd());
        if let Ok(limited) = File::open(self.limited.path()) {
            let _ = kill(limited.as_fd());
        }
    }

    /// Removes every group that is empty, at the server's end, and what killed servers left beside.
    pub(crate) fn remove_all(&mut self) {
        self.idle.clear();
        remove_stale(&self.parent());
        remove_with_children(&self.limited.path());
        remove_with_children(&self.path());
        self.limited.end();
        if let Some(handing_on) = self.handing_on.take() {
            handing_on.end();
        }
    }

    fn look_at_abandoned(&mut self) {
        for _ in 0..ABANDONED_PER_LOOK.min(self.abandoned.len()) {
            if let Some((home, name)) = self.abandoned.pop_front() {
                self.remove(&home, name);
            }
        }
    }

    /// Removes a group, now or when nobody is in it any more. With it go those that members made
    /// in it; what many are left is removed at another time.
    fn remove(&mut self, home: &Home, name: String) {
        let removed = || unlinkat(&home.dir, name.as_str(), AtFlags::REMOVEDIR);
        let is_left = || removed() == Err(rustix::io::Errno::BUSY);
        if is_left() {
            let path = home.path.join(&name);
            let events = File::open(path.join("cgroup.events"));
            if events.is_ok_and(|events| !is_populated(events.as_fd())) {
                let within: Vec<PathBuf> = Below::of(&path).take(AT_ONCE_MAX).collect();
                for group in within.iter().rev() {
                    let _ = fs::remove_dir(group);
                }
            }
            if is_left() {
                self.abandoned.push_back((home.clone(), name));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_used_again_once_it_is_empty_and_all_are_removed_at_the_end() {
        let Ok(mut groups) = Cgroups::new(2, IfHiding::Accept) else {
            // No hierarchy to write to: the black-box tests say so in plain sight.
            return;
        };
        let path = groups.path();
        let first = groups.take().unwrap();
        let second = groups.take().unwrap();
        assert_ne!(first.name, second.name);
        assert!(groups.take().is_none(), "a third of two");
        let name = first.name.clone();
        groups.give_back(first);
        let mut sleeper = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let third = groups.take().unwrap();
        assert_eq!(third.name, name);
        fs::write(
            path.join(&third.name).join("cgroup.procs"),
            sleeper.id().to_string(),
        )
        .unwrap();
        assert!(third.is_populated());
        // Another server neither removes nor ends it.
        remove_stale(path.parent().unwrap());
        let lock = |dir: &File| flock(dir, FlockOperation::NonBlockingLockExclusive).is_ok();
        assert_eq!(end_left_behind(&path, lock, &|_| ()), 0);
        third.kill();
        sleeper.wait().unwrap();
        while third.is_populated() {
            std::thread::yield_now();
        }
        groups.give_back(third);
        groups.give_back(second);
        groups.remove_all();
        assert!(!path.exists());
    }
}
