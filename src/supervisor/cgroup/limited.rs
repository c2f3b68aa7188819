//! Groups with bounds, for trees whose limits the kernel is to keep.
//!
//! In: [`Bounds`]. Out: a group that has them before anybody is in it, or why there is none. Owns the
//! controllers that it has switched on and the group that these groups are made in, beside that of the
//! children without limits: those shall not pay for controllers that they do not need.
//!
//! Nothing is switched on before a request first needs it. That it can be done is told at the start
//! as far as it can be seen ([`offer`]); if it fails later, that is told then.
//!
//! A group is used again only while nothing in it tells of who was there before ([`is_as_new`]): no
//! process ever met a bound, none is counted, and next to no memory is charged (files that were
//! read stay charged, and so does what was left in /dev/shm). One with a quota of processor time or
//! with swap is not used again at all. To make and to remove one costs more than all else that a
//! limit costs.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::aside::{Aside, Refusal, check_alone, may_be_there};
use super::bounds::{Bounds, Controller};
use super::group::{Group, Home, boxed};
use super::limits::Limits as Shown;
use super::ours;
use super::usage::value;
use crate::types::KeptLimits;
use rustix::fs::{Access, AtFlags, CWD, FlockOperation, accessat, flock};

/// Follows the name of the children's group.
pub(super) const SUFFIX: &str = "-limited";

/// Empty groups kept for the next trees.
const IDLE_MAX: usize = 16;

/// What tells of who was in a group before.
const COUNTERS: [&str; 4] = [
    "memory.events",
    "memory.current",
    "pids.events",
    "pids.current",
];

/// Memory that may be charged to a group that is used again: this much, and no more than a share of
/// its bound. The kernel charges in advance, some for each processor; that is given back when it is
/// needed.
const LEFT_MAX: u64 = 1 << 20;
const LEFT_SHARE: u64 = 16;

/// Why there is no group with bounds.
#[derive(Debug)]
pub(crate) enum LimitedError {
    /// Limits of this kind cannot be kept here, as is told from now on.
    Unkept,
    /// There is no room for another group, now.
    NoGroup(io::Error),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Limited {
    /// Where the server was started.
    parent: PathBuf,
    /// The group of the children without limits.
    children: PathBuf,
    /// What children see anyway.
    shown: Shown,
    /// None if the server need not step aside, or has done so elsewhere.
    aside: Option<Aside>,
    may_stay: bool,
    home: Option<Home>,
    /// Controllers of these groups.
    on: Vec<&'static str>,
    /// Those that were off below the parent.
    switched: Vec<&'static str>,
    idle: Vec<Arc<Group>>,
    /// Groups to be removed.
    spoilt: Vec<Arc<Group>>,
}

/// Whether limits can be kept for children of a server in `parent`, as far as can be seen. It need not
/// step aside if it has done so already.
pub(super) fn offer(parent: &Path, is_aside: bool) -> KeptLimits {
    match reachable(parent, is_aside) {
        Err(why) => KeptLimits::none(&why),
        Ok(there) => {
            let why_not = |controller: Controller| absent(controller.name(), &there, parent);
            KeptLimits {
                memory: why_not(Controller::Memory),
                cpu: why_not(Controller::Cpu),
                pids: why_not(Controller::Pids),
            }
        }
    }
}

/// Why a controller cannot be had that is not `there`: of all that are missing the same, so that it is
/// said once.
fn absent(controller: &str, there: &str, group: &Path) -> Option<String> {
    let is_there = |name: &str| there.split_whitespace().any(|there| there == name);
    if is_there(controller) {
        return None;
    }
    let all = Controller::ALL.into_iter().map(Controller::name);
    let missing: Vec<_> = all.filter(|name| !is_there(name)).collect();
    Some(format!(
        "{} has no controller for {} (cgroup version 1 uses it, or it is not delegated)",
        group.display(),
        missing.join(", ")
    ))
}

/// Which controllers could be switched on below `parent`, or why none can.
fn reachable(parent: &Path, is_aside: bool) -> Result<String, String> {
    let said = |file: &str, error: io::Error| format!("{}: {error}", parent.join(file).display());
    let switch = parent.join("cgroup.subtree_control");
    accessat(CWD, &switch, Access::WRITE_OK, AtFlags::EACCESS)
        .map_err(|errno| said("cgroup.subtree_control", errno.into()))?;
    if !is_aside && !is_root(parent) {
        check_alone(parent).map_err(|refusal| crowded(&refusal, parent))?;
    }
    fs::read_to_string(parent.join("cgroup.controllers"))
        .map_err(|error| said("cgroup.controllers", error))
}

fn crowded(refusal: &Refusal, parent: &Path) -> String {
    format!(
        "{refusal} ({}); in a delegated group of its own the server could (systemd: Delegate=yes)",
        parent.display()
    )
}

/// The root of the hierarchy may have members beside groups with controllers.
fn is_root(group: &Path) -> bool {
    !group.join("cgroup.type").exists()
}

impl Limited {
    /// Nothing is switched on yet. `is_aside` as for [`offer`].
    pub(super) fn new(parent: &Path, children: &Path, shown: Shown, is_aside: bool) -> Self {
        Self {
            parent: parent.to_owned(),
            children: children.to_owned(),
            shown,
            aside: None,
            may_stay: is_aside || is_root(parent),
            home: None,
            on: Vec::new(),
            switched: Vec::new(),
            idle: Vec::new(),
            spoilt: Vec::new(),
        }
    }

    /// Makes sure that these bounds can be kept; the group that groups with them are made in. What
    /// cannot be kept is noted in `kept`.
    pub(super) fn home_for(
        &mut self,
        bounds: &Bounds,
        kept: &mut KeptLimits,
    ) -> Result<Home, LimitedError> {
        for controller in bounds.controllers() {
            let why_not = match controller {
                Controller::Memory => &mut kept.memory,
                Controller::Cpu => &mut kept.cpu,
                Controller::Pids => &mut kept.pids,
            };
            // What stood in the way may have gone, or have come.
            *why_not = self.switch_on(controller.name()).err();
            if why_not.is_some() {
                return Err(LimitedError::Unkept);
            }
        }
        let home = self.home.clone();
        home.ok_or_else(|| LimitedError::NoGroup(io::ErrorKind::NotFound.into()))
    }

    fn switch_on(&mut self, controller: &'static str) -> Result<(), String> {
        if self.on.contains(&controller) {
            return Ok(());
        }
        let there = fs::read_to_string(self.parent.join("cgroup.controllers")).unwrap_or_default();
        if let Some(why) = absent(controller, &there, &self.parent) {
            return Err(why);
        }
        if !self.may_stay && self.aside.is_none() {
            let aside = Aside::step(&self.parent, &self.children);
            self.aside = Some(aside.map_err(|refusal| crowded(&refusal, &self.parent))?);
        }
        let failed = |at: &Path, error: io::Error| {
            let at = at.join("cgroup.subtree_control");
            format!("+{controller} in {}: {error}", at.display())
        };
        let was_on = is_on(&self.parent, controller);
        switch(&self.parent, '+', controller).map_err(|error| failed(&self.parent, error))?;
        if !was_on {
            self.switched.push(controller);
        }
        let home = self.home().map_err(|error| error.to_string())?;
        // What is shown anyway has to be shown here, too.
        switch(&home.path, '+', controller).map_err(|error| failed(&home.path, error))?;
        self.on.push(controller);
        for shown in self.shown.controllers() {
            if !self.on.contains(&shown) {
                switch(&home.path, '+', shown).map_err(|error| failed(&home.path, error))?;
                self.on.push(shown);
            }
        }
        Ok(())
    }

    /// The group that these groups are made in, made and locked.
    fn home(&mut self) -> io::Result<Home> {
        if let Some(home) = &self.home {
            return Ok(home.clone());
        }
        let path = beside(&self.children);
        match fs::create_dir(&path) {
            // Made by a server that is gone, of the same keeper: the name is that of this one's group.
            Err(error) if may_be_there(&error) => {}
            made => made?,
        }
        let dir = File::open(&path)?;
        flock(&dir, FlockOperation::NonBlockingLockExclusive)?;
        ours::mark(&dir);
        let dir: OwnedFd = dir.into();
        let home = Home::new(dir, path);
        self.home = Some(home.clone());
        Ok(home)
    }

    /// The group that these groups are in, if it is there.
    pub(super) fn there(&self) -> Option<Home> {
        let there = || Some(Home::new(File::open(self.path()).ok()?.into(), self.path()));
        self.home.clone().or_else(there)
    }

    /// An empty group that has these bounds by now, if there is one that was used before.
    pub(super) fn take_idle(&mut self, bounds: &Bounds) -> Option<Arc<Group>> {
        if !bounds.leave_nothing() {
            return None;
        }
        let same = self
            .idle
            .iter()
            .rposition(|group| group.bounds() == *bounds);
        if let Some(at) = same {
            return Some(self.idle.swap_remove(at));
        }
        // What is charged already could be more than so little, and would have to be reclaimed.
        let least = LEFT_MAX * LEFT_SHARE;
        if bounds.memory.is_some_and(|memory| memory < least) {
            return None;
        }
        // The thread that has started the last child in it may be about to let go of it.
        let at = self
            .idle
            .iter_mut()
            .rposition(|of| Arc::get_mut(of).is_some())?;
        let mut group = self.idle.swap_remove(at);
        let changed = Arc::get_mut(&mut group)?;
        for (file, text) in changed.bounds().changes_to(bounds, &self.shown) {
            if changed.write(file, &text).is_err() {
                // It has neither these bounds nor those; there is nobody in it.
                self.spoilt.push(group);
                return None;
            }
        }
        changed.bounds = boxed(*bounds);
        Some(group)
    }

    /// Writes these bounds into a new group.
    pub(super) fn write(&self, group: &Path, bounds: &Bounds) -> io::Result<()> {
        for (file, text) in bounds.files(&self.shown) {
            match fs::write(group.join(file), text) {
                // A kernel without swap has no such file, and nothing to bound.
                Err(error)
                    if file == "memory.swap.max" && error.kind() == io::ErrorKind::NotFound => {}
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    let text = format!("{file}: {error}");
                    return Err(io::Error::new(error.kind(), text));
                }
                result => result?,
            }
        }
        Ok(())
    }

    /// Keeps a group for later, if it is as new. Returns what its descriptors count as.
    pub(super) fn keep(&mut self, group: Arc<Group>) -> Result<usize, Arc<Group>> {
        if self.idle.len() >= IDLE_MAX || !group.bounds().leave_nothing() {
            return Err(group);
        }
        // It is most likely kept again and again.
        group.hold(&COUNTERS);
        if !is_as_new(&group, &self.on) {
            return Err(group);
        }
        let weight = group.weight();
        self.idle.push(group);
        Ok(weight)
    }

    /// Groups to be removed.
    pub(super) fn take_spoilt(&mut self) -> Vec<Arc<Group>> {
        std::mem::take(&mut self.spoilt)
    }

    /// An empty group, to be removed.
    pub(super) fn take_any(&mut self) -> Option<Arc<Group>> {
        self.idle.pop()
    }

    /// The path of the group that these groups are made in, whether it is there or not.
    pub(super) fn path(&self) -> PathBuf {
        beside(&self.children)
    }

    /// Makes undone what was switched on, when the groups are gone.
    pub(super) fn end(&mut self) {
        for controller in self.switched.drain(..) {
            let _ = switch(&self.parent, '-', controller);
        }
        if let Some(aside) = self.aside.take() {
            aside.back();
        }
    }
}

/// Where the groups with bounds are of a server whose other children are in `children`.
pub(super) fn beside(children: &Path) -> PathBuf {
    let mut limited = children.to_owned().into_os_string();
    limited.push(SUFFIX);
    limited.into()
}

fn is_on(group: &Path, controller: &str) -> bool {
    let on = fs::read_to_string(group.join("cgroup.subtree_control"));
    on.is_ok_and(|on| on.split_whitespace().any(|on| on == controller))
}

fn switch(group: &Path, sign: char, controller: &str) -> io::Result<()> {
    fs::write(
        group.join("cgroup.subtree_control"),
        format!("{sign}{controller}"),
    )
}

/// Whether the next tree in a group finds it as if it had just been made. Nobody is in it.
fn is_as_new(group: &Group, on: &[&'static str]) -> bool {
    let number = |file: &str| {
        let text = group.read(file)?;
        std::str::from_utf8(text.bytes())
            .ok()?
            .trim()
            .parse::<u64>()
            .ok()
    };
    let all_zero = |file: &str| {
        let text = group.read(file)?;
        let mut lines = text
            .bytes()
            .split(|&b| b == b'\n')
            .filter(|line| !line.is_empty());
        Some(lines.all(|line| line.ends_with(b" 0")))
    };
    let of_memory = !on.contains(&"memory") || {
        let bound = group.bounds().memory.unwrap_or(u64::MAX);
        let left_max = LEFT_MAX.min(bound / LEFT_SHARE);
        all_zero("memory.events") == Some(true)
            && number("memory.current").is_some_and(|left| left <= left_max)
    };
    // Who has died and was not reaped is counted.
    let of_pids = !on.contains(&"pids")
        || all_zero("pids.events") == Some(true) && number("pids.current") == Some(0);
    of_memory && of_pids
}

impl Group {
    /// How often somebody of it was killed for want of memory; None where that is not counted.
    pub(crate) fn ooms(&self) -> Option<u64> {
        value(self.read("memory.events")?.bytes(), b"oom_kill")
    }

    /// Under which number changes of its memory are told.
    pub(crate) fn watch(&self) -> Option<i32> {
        self.watch.get().copied()
    }

    /// The bound of its memory, as it stands there.
    pub(super) fn memory_max(&self) -> Option<u64> {
        let text = self.read("memory.max")?;
        std::str::from_utf8(text.bytes()).ok()?.trim().parse().ok()
    }

    /// Whether its memory has a bound of its own.
    pub(crate) fn bounds_memory(&self) -> bool {
        self.bounds().memory.is_some()
    }

    /// Whether who is to be born here must not be born anywhere else.
    pub(crate) fn is_limited(&self) -> bool {
        self.bounds.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::cgroup::testing::Tree;

    /// A delegated group whose only member is this process, and a group in it for children.
    fn delegated(name: &str) -> (Tree, PathBuf, PathBuf) {
        let tree = Tree::new(name);
        let (parent, children) = (tree.group("box"), tree.group("box/procring-1-0"));
        tree.write("box/cgroup.type", "domain\n");
        tree.write("box/cgroup.controllers", "cpu io memory pids\n");
        tree.write("box/cgroup.procs", &format!("{}\n", std::process::id()));
        tree.write("box/cgroup.subtree_control", "");
        (tree, parent, children)
    }

    #[test]
    fn what_can_be_kept_is_seen_without_touching_anything() {
        let (tree, parent, _) = delegated("offer");
        assert_eq!(offer(&parent, false), KeptLimits::default());
        tree.write("box/cgroup.controllers", "cpu memory\n");
        let kept = offer(&parent, false);
        assert!(kept.pids.unwrap().contains("has no controller for pids ("));
        assert_eq!((kept.memory, kept.cpu), (None, None));
        tree.write("box/cgroup.controllers", "hugetlb\n");
        let none = offer(&parent, false);
        assert_eq!(none.missing().len(), 1, "{none:?}");
        // What the first request finds out is nothing new.
        let mut kept = none.clone();
        let pids = Bounds {
            pids: Some(3),
            ..Bounds::default()
        };
        let children = parent.join("procring-1-0");
        let mut limited = Limited::new(&parent, &children, Shown::default(), false);
        assert!(limited.home_for(&pids, &mut kept).is_err());
        assert_eq!(kept, none);
        tree.write("box/cgroup.controllers", "cpu memory\n");
        let text = format!("{}\n1\n", std::process::id());
        tree.write("box/cgroup.procs", &text);
        let crowded = offer(&parent, false).missing();
        assert_eq!(crowded.len(), 1, "{crowded:?}");
        assert!(crowded[0].contains("other processes in the server's group: 1"));
        assert!(crowded[0].contains("Delegate=yes"), "{crowded:?}");
        // Who has stepped aside, or is in the root, does not mind.
        assert_eq!(offer(&parent, true).memory, None);
        fs::remove_file(parent.join("cgroup.type")).unwrap();
        assert_eq!(offer(&parent, false).memory, None);
        fs::remove_file(parent.join("cgroup.subtree_control")).unwrap();
        let missing = offer(&parent, false).missing();
        assert!(missing[0].contains("cgroup.subtree_control"), "{missing:?}");
        assert_eq!(tree.read("box/cgroup.procs"), text);
    }

    #[test]
    fn controllers_are_switched_on_when_they_are_needed_and_off_at_the_end() {
        let (tree, parent, children) = delegated("switch");
        let mut limited = Limited::new(&parent, &children, Shown::default(), false);
        assert_eq!(tree.read("box/cgroup.subtree_control"), "");
        let mut kept = KeptLimits::default();
        let pids = Bounds {
            pids: Some(3),
            ..Bounds::default()
        };
        // The folder of a group that was just made has no such file, as a real one has.
        tree.group("box/procring-1-0-limited");
        let refused = limited.home_for(&pids, &mut kept);
        assert!(matches!(refused, Err(LimitedError::Unkept)));
        assert!(kept.pids.unwrap().contains("File exists"));
        fs::remove_dir(limited.path()).unwrap();
        let mut kept = KeptLimits::default();
        let home = limited.home_for(&pids, &mut kept).unwrap();
        assert_eq!(kept, KeptLimits::default());
        assert_eq!(tree.read("box/cgroup.subtree_control"), "+pids");
        assert_eq!(
            fs::read_to_string(home.path.join("cgroup.subtree_control")).unwrap(),
            "+pids"
        );
        let me = std::process::id().to_string();
        assert_eq!(tree.read("box/procring-1-0-server/cgroup.procs"), me);
        limited.end();
        assert_eq!(tree.read("box/cgroup.subtree_control"), "-pids");
        assert_eq!(tree.read("box/cgroup.procs"), me);
    }
}
