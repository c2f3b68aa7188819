//! Hands the limits of the server's group on to the groups of children.
//!
//! In: the server's group, limits, the group that children's groups are made in. Out: groups below
//! it that show the limits, or why there can be none. Owns the group that the server moves to.
//!
//! Controllers can be switched on below a group only while nobody is in it (cgroups(7), "no
//! internal processes"). So the server, if it is alone there, moves to a group of its own beside
//! that of its children; at the end it moves back, so that the group is as it was.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::aside::{Aside, Refusal};
use super::limits::Limits;

/// Limits that are handed on.
#[derive(Debug)]
pub(super) struct HandingOn {
    limits: Limits,
    /// Where the server was, and where its controllers are on now.
    parent: PathBuf,
    /// The group that children's groups are made in.
    children: PathBuf,
    aside: Aside,
}

impl HandingOn {
    /// Switches the controllers on below `parent`, which this process is alone in, and below
    /// `children`, an empty group in it.
    ///
    /// # Errors
    /// Why not; then everything is as it was.
    pub(super) fn begin(limits: Limits, parent: &Path, children: &Path) -> Result<Self, Refusal> {
        let there = fs::read_to_string(parent.join("cgroup.controllers"))?;
        let mut wanted = limits.controllers().into_iter();
        if let Some(missing) = wanted.find(|name| !there.split_whitespace().any(|c| c == *name)) {
            return Err(Refusal::NoController(missing));
        }
        let handing_on = Self {
            limits,
            parent: parent.to_owned(),
            children: children.to_owned(),
            aside: Aside::step(parent, children)?,
        };
        match handing_on.switch_on() {
            Ok(()) => Ok(handing_on),
            Err(error) => {
                handing_on.end();
                Err(Refusal::Kernel(error))
            }
        }
    }

    fn switch_on(&self) -> io::Result<()> {
        let on = self.switches('+');
        fs::write(self.parent.join("cgroup.subtree_control"), &on)?;
        fs::write(self.children.join("cgroup.subtree_control"), &on)?;
        // Children that there is no group for are born where the server is.
        self.limits.write(self.aside.own())
    }

    /// What is handed on.
    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Has a new group below that of the children show the limits.
    ///
    /// # Errors
    /// As open(2) and write(2).
    pub(super) fn write(&self, group: &str) -> io::Result<()> {
        self.limits.write(&self.children.join(group))
    }

    /// Makes it undone as far as it was done.
    pub(super) fn end(&self) {
        let off = self.switches('-');
        let _ = fs::write(self.children.join("cgroup.subtree_control"), &off);
        let _ = fs::write(self.parent.join("cgroup.subtree_control"), &off);
        self.aside.back();
    }

    /// As `+memory +cpu`.
    fn switches(&self, sign: char) -> String {
        let controllers = self.limits.controllers();
        let switches: Vec<_> = controllers.iter().map(|c| format!("{sign}{c}")).collect();
        switches.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::cgroup::testing::Tree;

    /// A box with limits, whose only member is this process, and a group in it for children.
    fn delegated(name: &str) -> (Tree, PathBuf, PathBuf, Limits) {
        let tree = Tree::new(name);
        let (parent, children) = (tree.group("box"), tree.group("box/procring-1-0"));
        tree.write("box/memory.max", "536870912\n");
        tree.write("box/cpu.max", "50000 100000\n");
        tree.write("box/cgroup.controllers", "cpu io memory pids\n");
        tree.write("box/cgroup.procs", &format!("{}\n", std::process::id()));
        tree.write("box/cgroup.subtree_control", "");
        let limits = Limits::of(&parent, tree.top());
        (tree, parent, children, limits)
    }

    #[test]
    fn a_server_that_is_alone_moves_aside_and_new_groups_show_the_limits() {
        let (tree, parent, children, limits) = delegated("alone");
        let handing_on = HandingOn::begin(limits, &parent, &children).unwrap();
        let me = std::process::id().to_string();
        assert_eq!(tree.read("box/procring-1-0-server/cgroup.procs"), me);
        for group in ["box", "box/procring-1-0"] {
            let file = format!("{group}/cgroup.subtree_control");
            assert_eq!(tree.read(&file), "+memory +cpu");
        }
        let job = tree.group("box/procring-1-0/1");
        handing_on.write("1").unwrap();
        for group in [&job, &tree.group("box/procring-1-0-server")] {
            assert_eq!(Limits::of(group, group), limits);
        }
        handing_on.end();
        assert_eq!(tree.read("box/cgroup.procs"), me);
        assert_eq!(tree.read("box/cgroup.subtree_control"), "-memory -cpu");
    }

    #[test]
    fn nothing_is_touched_where_the_server_is_not_alone_or_a_controller_is_missing() {
        let (tree, parent, children, limits) = delegated("refused");
        let refusal = || {
            let refusal = HandingOn::begin(limits, &parent, &children).unwrap_err();
            assert_eq!(tree.read("box/cgroup.subtree_control"), "");
            assert!(!parent.join("procring-1-0-server").exists());
            refusal.to_string()
        };
        let text = format!("{}\n1\n0\n", std::process::id());
        tree.write("box/cgroup.procs", &text);
        assert_eq!(refusal(), "other processes in the server's group: 2");
        tree.write("box/cgroup.controllers", "memory pids\n");
        assert_eq!(refusal(), "the cpu controller is not delegated");
    }
}
