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
mod handing_on;
mod limited;
mod limits;
mod ours;
#[cfg(test)]
mod testing;
mod usage;
mod watch;

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use self::aside::Refusal;
pub use self::bounds::Bounds;
use self::handing_on::HandingOn;
use self::limited::Limited;
pub use self::limited::LimitedError;
use self::limits::Limits;
use self::ours::{PREFIX, remove_stale, remove_with_children};
pub use self::usage::Processor;
pub use self::watch::Watcher;
use crate::ledger::heritage::Groups as Handed;
use crate::supervisor::spawn::clone::{self, Birthplace};
use crate::types::KeptLimits;
use rustix::fs::{
    Access, AtFlags, FileType, FlockOperation, Mode, OFlags, accessat, flock, mkdirat, openat,
    unlinkat,
};

/// Names tried for the server's own group.
const NAMES_MAX: u32 = 1024;

/// Empty groups kept for the next jobs.
const IDLE_MAX: usize = 64;

/// Births that may fail, for want of memory for instance, before no more are tried.
const REFUSALS_MAX: u32 = 64;

/// Groups within a job's group that are looked into, one below the other.
const DEPTH_MAX: u32 = 16;

/// Groups below a job's own that are looked into or removed in one go.
const AT_ONCE_MAX: usize = 256;

/// Abandoned groups looked at whenever one is wanted.
const ABANDONED_PER_LOOK: usize = 2;

/// What to do where children in groups of their own would not see limits of the server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfHiding {
    /// Have no groups.
    Refuse,
    /// Have them all the same.
    Accept,
}

/// Why there are no cgroups to be had.
#[derive(Debug)]
pub enum CgroupError {
    /// No version 2 hierarchy is mounted, or the server is outside of what is.
    NotMounted,
    /// The kernel has no `cgroup.kill` (before 5.14).
    NoKill,
    /// A child cannot be born in a group, or does not survive it.
    NoBirth,
    /// Children would not see limits that the server has.
    HidesLimits(Box<Hidden>),
    /// The server's own group cannot be made or opened.
    Refused {
        /// The directory it would be in.
        parent: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
}

impl fmt::Display for CgroupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CgroupError::NotMounted => f.write_str("no cgroup v2 hierarchy is mounted here"),
            CgroupError::NoKill => f.write_str("this kernel has no cgroup.kill (5.14)"),
            CgroupError::NoBirth => {
                f.write_str("no child can be started in a group; likely a seccomp profile")
            }
            CgroupError::HidesLimits(hidden) => write!(
                f,
                "it would hide {hidden}; alone in a delegated group the server could, and \
                 --cgroup on hides them"
            ),
            CgroupError::Refused { parent, error } => write!(
                f,
                "no group can be made in {}: {error}; likely mounted read-only or not delegated",
                parent.display()
            ),
        }
    }
}

impl std::error::Error for CgroupError {}

/// Limits that children in groups of their own do not see.
#[derive(Debug)]
pub struct Hidden {
    limits: Limits,
    refusal: Refusal,
}

impl fmt::Display for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limits, refusal } = self;
        write!(
            f,
            "{limits} from commands, which cannot be handed on: {refusal}"
        )
    }
}

/// A group for one job.
#[derive(Debug)]
pub struct Group {
    name: String,
    home: Home,
    /// What its members may use, besides what the server may; None is all that. Boxed, because few
    /// groups have bounds.
    bounds: Option<Box<Bounds>>,
    /// None once its job has exited: it may be needed for as long as what the job left behind
    /// lives, and is opened anew then.
    open: Option<Open>,
    killed: AtomicBool,
    /// Its counters have counted for others before.
    had_others: AtomicBool,
    /// Under which number changes of its memory are told.
    watch: OnceLock<i32>,
    /// Files that are read each time before it is used again, by their names.
    held: OnceLock<Box<[(&'static str, OwnedFd)]>>,
}

/// The group that groups are made in.
#[derive(Clone, Debug)]
struct Home {
    dir: Arc<OwnedFd>,
    path: Arc<Path>,
}

impl Home {
    fn new(dir: OwnedFd, path: PathBuf) -> Self {
        Self {
            dir: Arc::new(dir),
            path: path.into(),
        }
    }
}

/// The descriptors of a group whose job runs.
#[derive(Debug)]
struct Open {
    dir: OwnedFd,
    events: OwnedFd,
}

/// As a group has them.
fn boxed(bounds: Bounds) -> Option<Box<Bounds>> {
    (!bounds.is_empty()).then(|| Box::new(bounds))
}

impl Group {
    fn open(home: &Home, name: String, bounds: Bounds) -> io::Result<Self> {
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

    fn bounds(&self) -> Bounds {
        self.bounds.as_deref().copied().unwrap_or_default()
    }

    /// SIGKILL to every member. Nothing if the descriptor table is full: the sweep follows.
    pub fn kill(&self) {
        self.killed.store(true, Ordering::Relaxed);
        let _ = match &self.open {
            Some(open) => kill(open.dir.as_fd()),
            None => self.dir().and_then(|dir| kill(dir.as_fd())),
        };
    }

    fn dir(&self) -> io::Result<OwnedFd> {
        open_dir(self.home.dir.as_fd(), &self.name)
    }

    fn path(&self) -> PathBuf {
        self.home.path.join(&self.name)
    }

    /// Whether anybody lives in it; also true if that cannot be found out.
    pub fn is_populated(&self) -> bool {
        if let Some(open) = &self.open {
            return is_populated(open.events.as_fd());
        }
        match self.dir().and_then(|dir| open_events(dir.as_fd())) {
            Ok(events) => is_populated(events.as_fd()),
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        }
    }

    /// What its descriptors count as, two of them for one.
    fn weight(&self) -> usize {
        let held = self.held.get().map_or(0, |held| held.len().div_ceil(2));
        held + usize::from(self.open.is_some())
    }

    /// Whether it is empty, thawed and without groups within.
    fn is_as_made(&self) -> bool {
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
    pub fn members(&self) -> Vec<i32> {
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
    pub fn used_before(&self) -> Option<Processor> {
        match self.had_others.load(Ordering::Relaxed) {
            true => self.processor(),
            false => Some(Processor::default()),
        }
    }

    /// The last part of its path.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// All groups of this server.
#[derive(Debug)]
pub struct Cgroups {
    name: String,
    /// Locked (flock(2)) as long as the server lives: who gets the lock knows it is gone.
    home: Home,
    idle: Vec<Arc<Group>>,
    /// Groups whose job is forgotten while somebody still lives in them.
    abandoned: VecDeque<(Home, String)>,
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
    pub fn new(open_max: usize, if_hiding: IfHiding) -> Result<Self, CgroupError> {
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
    pub fn hidden(&self) -> Option<&Hidden> {
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
    pub fn kept(&self) -> &KeptLimits {
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
        remove_stale(parent);
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
    pub fn path(&self) -> PathBuf {
        self.home.path.to_path_buf()
    }

    /// An empty group; None if there are too many or the kernel refuses one more.
    pub fn take(&mut self) -> Option<Arc<Group>> {
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
    pub fn take_limited(&mut self, bounds: &Bounds, new: bool) -> Result<Arc<Group>, LimitedError> {
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
    pub fn watch(&mut self, group: &Group) -> Option<(&Watcher, i32)> {
        if self.watcher.is_none() {
            self.watcher = Some(Watcher::new().ok()?);
        }
        let watcher = self.watcher.as_ref()?;
        Some((watcher, watcher.watch(group)?))
    }

    /// What tells of such changes, if any are told.
    pub fn watcher(&self) -> Option<&Watcher> {
        self.watcher.as_ref()
    }

    /// The server has a keeper, which goes where it goes.
    pub(crate) fn with_keeper(keeper: i32) {
        aside::with_keeper(keeper);
    }

    /// The group with this number, which a server that is gone has taken, and whether it has bounds;
    /// None if it is gone. It is not used again: of its bounds only that of memory is known.
    pub(crate) fn take_over(&mut self, number: u64) -> Option<(Arc<Group>, bool)> {
        self.made = self.made.max(number);
        let open = |home: &Home| Group::open(home, number.to_string(), Bounds::default()).ok();
        let free = open(&self.home).map(|group| (group, false));
        let found = free.or_else(|| Some((open(&self.limited.there()?)?, true)));
        let (mut group, is_limited) = found?;
        if is_limited {
            group.bounds = boxed(Bounds {
                memory: group.memory_max(),
                ..Bounds::default()
            });
        }
        group.killed.store(true, Ordering::Relaxed);
        self.open += 1;
        Some((Arc::new(group), is_limited))
    }

    /// Groups that a server which is gone had besides those that were taken over are removed as soon
    /// as nobody lives in them.
    pub(crate) fn abandon_others(&mut self) {
        for home in [Some(self.home.clone()), self.limited.there()]
            .into_iter()
            .flatten()
        {
            let entries = fs::read_dir(&home.path).into_iter().flatten().flatten();
            let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
            for name in names {
                if let Ok(number) = name.parse::<u64>() {
                    self.made = self.made.max(number);
                    self.abandoned.push_back((home.clone(), name));
                }
            }
        }
    }

    /// What another program needs to go on with them.
    pub fn hand_over(&self) -> Handed {
        Handed {
            dir: self.home.dir.as_raw_fd(),
            path: self.home.path.as_os_str().as_bytes().to_vec(),
        }
    }

    /// Goes on with the groups that a server of this process has made, whose directory is this one. Of
    /// those in them [`Cgroups::take_over`] and [`Cgroups::abandon_others`] know.
    ///
    /// # Errors
    /// Why there can be none.
    pub fn again(dir: OwnedFd, path: PathBuf, open_max: usize) -> Result<Self, CgroupError> {
        let place = Place::own().ok_or(CgroupError::NotMounted)?;
        let parent = path.parent().unwrap_or(&path).to_owned();
        let name = path.file_name().unwrap_or_default();
        aside::with_keeper(std::process::id().cast_signed());
        let mut groups = Self::of(name.to_string_lossy().into(), dir, path, open_max);
        let limits = Limits::of(&parent, &place.top);
        if limits.is_some() {
            match HandingOn::begin(limits, &parent, &groups.path()) {
                Ok(handing_on) => groups.hand_on(handing_on),
                Err(refusal) => groups.hidden = Some(Box::new(Hidden { limits, refusal })),
            }
        }
        Ok(groups)
    }

    /// No group is open any more, for a server that begins when another one has.
    pub(crate) fn rest(&mut self) {
        self.open -= self.idle.len();
        for group in std::mem::take(&mut self.idle) {
            self.remove(&group.home, group.name.clone());
        }
    }

    /// Takes a group back whose job is forgotten. Who still lives in it lives on.
    ///
    /// One that its members have changed as far as that shows (frozen, groups within) is not used
    /// again: the next child would be born into it.
    pub fn give_back(&mut self, group: Arc<Group>) {
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
    pub fn close(&mut self, group: &Group) -> Arc<Group> {
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
    pub fn members(&self, group: &Group) -> usize {
        members(&group.path())
    }

    /// The name of the group of this server that a process is in or was when it died.
    pub fn name_of(&self, pid: i32) -> Option<String> {
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
    pub fn refused(&mut self, group: Arc<Group>) -> bool {
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
    pub fn kill_all(&self) {
        let _ = kill(self.home.dir.as_fd());
        if let Ok(limited) = File::open(self.limited.path()) {
            let _ = kill(limited.as_fd());
        }
    }

    /// Removes every group that is empty, at the server's end.
    pub fn remove_all(&mut self) {
        self.idle.clear();
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

/// Adds the members of the group `dir` and of those below it.
fn members_below(dir: BorrowedFd<'_>, depth: u32, pids: &mut Vec<i32>) {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let mut text = String::new();
    if let Ok(file) = openat(dir, "cgroup.procs", flags, Mode::empty()) {
        // In part read, in part unreadable: who is missed is met later.
        if File::from(file).read_to_string(&mut text).is_err() {
            threads_in(dir, pids);
        }
    }
    pids.extend(text.lines().filter_map(|pid| pid.parse::<i32>().ok()));
    if depth == 0 {
        return;
    }
    let entries = rustix::fs::Dir::read_from(dir).into_iter().flatten();
    for entry in entries.flatten() {
        let name = entry.file_name();
        if entry.file_type() == FileType::Directory
            && !matches!(name.to_bytes(), b"." | b"..")
            && let Ok(below) = openat(
                dir,
                name,
                OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
            )
        {
            members_below(below.as_fd(), depth - 1, pids);
        }
    }
}

/// Adds the threads in the group `dir`: a member may have made it one of threads (`cgroup.type`), for
/// which there is neither `cgroup.kill` nor a list of processes. The number of a process is that of
/// its first thread, and nobody can be opened by the number of another one.
fn threads_in(dir: BorrowedFd<'_>, pids: &mut Vec<i32>) {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let mut text = String::new();
    if let Ok(file) = openat(dir, "cgroup.threads", flags, Mode::empty()) {
        let _ = File::from(file).read_to_string(&mut text);
    }
    pids.extend(text.lines().filter_map(|thread| thread.parse::<i32>().ok()));
}

fn open_dir(parent: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(openat(parent, name, flags, Mode::empty())?)
}

fn open_events(dir: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    Ok(openat(dir, "cgroup.events", flags, Mode::empty())?)
}

fn kill(dir: BorrowedFd<'_>) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = openat(dir, "cgroup.kill", flags, Mode::empty())?;
    rustix::io::write(file, b"1")?;
    Ok(())
}

/// `populated 1` in cgroup.events; a group that is gone has nobody in it.
fn is_populated(file: BorrowedFd<'_>) -> bool {
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

/// Ends everybody in the groups that a killed server left at `path` and beside it, and removes them.
///
/// Returns how many there were. Never touches a group whose server lives. `lock` takes the lock of
/// that server, or says that it cannot be had; `kill_members` is for those whom the group does not
/// reach.
pub(crate) fn end_left_behind(
    path: &Path,
    lock: impl Fn(&File) -> bool,
    kill_members: &dyn Fn(Vec<i32>),
) -> usize {
    let limited = limited::beside(path);
    let both = [&*limited, path].map(|path| end_in(path, &lock, kill_members));
    aside::remove_left_behind(path);
    both.iter().sum()
}

fn end_in(path: &Path, lock: &impl Fn(&File) -> bool, kill_members: &dyn Fn(Vec<i32>)) -> usize {
    let Ok(dir) = File::open(path) else {
        return 0;
    };
    if !path.file_name().is_some_and(ours::is_name) || !lock(&dir) {
        return 0;
    }
    let Ok(events) = File::open(path.join("cgroup.events")) else {
        return 0;
    };
    let members = members(path);
    // A second at most: what cannot die in that time does so when it can.
    for pass in 0..200 {
        if !is_populated(events.as_fd()) {
            break;
        }
        let _ = kill(dir.as_fd());
        if pass > 1 {
            // As in `Group::members`.
            let mut pids = Vec::new();
            members_below(dir.as_fd(), DEPTH_MAX, &mut pids);
            kill_members(pids);
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    remove_with_children(path);
    members
}

/// How many processes are in the group at `path` and those below, of more than a few hundred at
/// least so many.
fn members(path: &Path) -> usize {
    let list = |group: &PathBuf| fs::read_to_string(group.join("cgroup.procs"));
    let groups = Below::of(path).take(AT_ONCE_MAX);
    groups
        .map(|group| list(&group).map_or(0, |list| list.lines().count()))
        .sum()
}

/// A group and those below it, each after the one that it is in. Members may have made any number,
/// one in the other: this keeps a list, not a stack frame for each.
struct Below(Vec<PathBuf>);

impl Below {
    fn of(path: &Path) -> Self {
        Self(vec![path.to_owned()])
    }
}

impl Iterator for Below {
    type Item = PathBuf;

    fn next(&mut self) -> Option<PathBuf> {
        let path = self.0.pop()?;
        let entries = fs::read_dir(&path).into_iter().flatten().flatten();
        let groups = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        self.0.extend(groups.map(|entry| entry.path()));
        Some(path)
    }
}

/// A group in the file system.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    group: PathBuf,
    /// Where the hierarchy is mounted: nothing above is to be seen.
    top: PathBuf,
}

impl Place {
    /// This process's group.
    fn own() -> Option<Self> {
        let membership = fs::read_to_string("/proc/self/cgroup").ok()?;
        let own = membership
            .lines()
            .find_map(|line| line.strip_prefix("0::"))?;
        // Names of other mounts may be any bytes.
        let mountinfo = fs::read("/proc/self/mountinfo").ok()?;
        place(own, &String::from_utf8_lossy(&mountinfo))
    }
}

/// Where the group `own` is, by mountinfo (proc_pid_mountinfo(5)).
fn place(own: &str, mountinfo: &str) -> Option<Place> {
    if own.split('/').any(|part| part == "..") {
        // Outside of this cgroup namespace.
        return None;
    }
    mountinfo.lines().find_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        if filesystem.split(' ').next() != Some("cgroup2") {
            return None;
        }
        let mut fields = mount.split(' ').skip(3);
        let root = unescape(fields.next()?);
        let top = unescape(fields.next()?);
        let below = Path::new(own).strip_prefix(root).ok()?;
        let group = match below.as_os_str().is_empty() {
            true => top.clone(),
            false => top.join(below),
        };
        Some(Place { group, top })
    })
}

/// Spaces, tabs, newlines and backslashes are written as three octal digits.
fn unescape(field: &str) -> PathBuf {
    let bytes = field.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let digits = bytes.get(at + 1..at + 4).filter(|_| byte == b'\\');
        let code = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                out.push(code);
                at += 4;
            }
            None => {
                out.push(byte);
                at += 1;
            }
        }
    }
    PathBuf::from(OsString::from_vec(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
        32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime shared:3 - cgroup cgroup rw,cpu\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n";

    #[test]
    fn the_own_group_is_found_wherever_it_is_mounted() {
        let found = |own, text: &str| place(own, text).map(|p| p.group.display().to_string());
        assert_eq!(
            found("/a/b", HYBRID).as_deref(),
            Some("/sys/fs/cgroup/unified/a/b")
        );
        let bound = r"41 31 0:38 /slice/a /mnt/with\040space rw - cgroup2 none rw";
        assert_eq!(
            found("/slice/a/b", bound).as_deref(),
            Some("/mnt/with space/b")
        );
        assert_eq!(found("/slice/ab", bound), None);
        assert_eq!(found("/../outside", HYBRID), None);
        assert_eq!(found("/", "31 23 0:28 / /x rw - cgroup cgroup rw\n"), None);
        assert_eq!(found("/", "garbage\n - cgroup2\n"), None);
    }

    #[test]
    fn only_three_octal_digits_are_unescaped() {
        for (escaped, plain) in [(r"a\040b", "a b"), (r"a\9", r"a\9"), (r"\134\", r"\\")] {
            assert_eq!(unescape(escaped), Path::new(plain));
        }
    }

    #[test]
    fn a_limited_group_that_is_taken_over_still_says_that_its_memory_has_a_bound() {
        let tree = testing::Tree::new("taken");
        let children = tree.group("procring-1-0");
        let at = |group: &str, max: &str| {
            tree.group(group);
            tree.write(&format!("{group}/cgroup.events"), "populated 1\nfrozen 0\n");
            tree.write(&format!("{group}/memory.max"), max);
        };
        at("procring-1-0-limited/5", "67108864\n");
        at("procring-1-0-limited/6", "max\n");
        at("procring-1-0/7", "4096\n");
        let limited = Limited::new(tree.top(), &children, Limits::default(), true);
        let mut groups = Cgroups {
            name: "procring-1-0".to_owned(),
            home: Home::new(File::open(&children).unwrap().into(), children),
            idle: Vec::new(),
            abandoned: VecDeque::new(),
            open: 0,
            open_max: 9,
            made: 0,
            refusals: 0,
            usable: true,
            handing_on: None,
            hidden: None,
            limited: Box::new(limited),
            watcher: None,
            kept: KeptLimits::default(),
        };
        let mut taken = |number| {
            let (group, is_limited) = groups.take_over(number)?;
            Some((is_limited, group.bounds_memory()))
        };
        assert_eq!(taken(5), Some((true, true)));
        assert_eq!(taken(6), Some((true, false)));
        assert_eq!(taken(7), Some((false, false)));
        assert_eq!(taken(9), None);
        assert_eq!(groups.made, 9, "no number comes again");
    }

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
