//! A cgroup that was delegated to a server, with the controllers that limits of trees need.

use std::fs;
use std::io;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Backend, Launch, eventually, skipped, skipped_anywhere};
use crate::supervision_trees::unprivileged;

const CONTROLLERS: [&str; 3] = ["memory", "cpu", "pids"];

/// Where the version 2 hierarchy is mounted.
pub(crate) fn unified() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "))?;
    mount.split(' ').nth(4).map(PathBuf::from)
}

/// A group of the test's own; removed when dropped, with what is in it.
pub(crate) struct Delegated(pub(crate) PathBuf);

impl Delegated {
    /// One with the controllers; None, and said in plain sight, where there are none to be had. A
    /// machine that has them and does not give them to a test in CI is a failure.
    pub(crate) fn new() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let Some(root) = unified() else {
            skipped_anywhere("no cgroup v2 hierarchy: limits of trees are not tested");
            return None;
        };
        let there = fs::read_to_string(root.join("cgroup.controllers")).unwrap();
        let has = |controller: &&str| there.split_whitespace().any(|there| there == *controller);
        if let Some(absent) = CONTROLLERS.iter().find(|controller| !has(controller)) {
            skipped_anywhere(&format!(
                "no {absent} controller of cgroup version 2 in {}: limits of trees are not tested",
                root.display()
            ));
            return None;
        }
        let serial = NEXT.fetch_add(1, Ordering::Relaxed);
        // Servers that start in the root remove what other servers have left there, by its name.
        let group = root.join(format!("test-delegated-{}-{serial}", std::process::id()));
        let made = CONTROLLERS
            .iter()
            .try_for_each(|controller| {
                fs::write(
                    root.join("cgroup.subtree_control"),
                    format!("+{controller}"),
                )
            })
            .and_then(|()| fs::create_dir(&group));
        match made {
            Ok(()) => Some(Self(group)),
            Err(error) => {
                // As on any machine where the tests do not run as root.
                let why = format!(
                    "no group can be made in {}: {error}; limits of trees are not tested",
                    root.display()
                );
                match rustix::process::getuid().is_root() {
                    true => skipped(&why),
                    false => skipped_anywhere(&why),
                }
                None
            }
        }
    }

    /// How a server is started in it.
    pub(crate) fn launch(&self, backend: Backend) -> Launch {
        Launch::new(backend)
            .args(&["--no-token"])
            .through_exec(&self.entering())
    }

    /// The same as another user whose group it is then; None if that cannot be.
    pub(crate) fn launch_unprivileged(&self, backend: Backend) -> Option<Launch> {
        let user = unprivileged()?;
        // As systemd does for `Delegate=yes` (systemd.resource-control(5)).
        for file in [
            "",
            "cgroup.procs",
            "cgroup.threads",
            "cgroup.subtree_control",
        ] {
            chown(self.0.join(file), Some(user.uid), Some(user.uid)).unwrap();
        }
        let mut through = self.entering();
        through.extend(user.prefix());
        let launch = Launch::new(backend).args(&["--no-token"]);
        Some(launch.program(&user.program).through_exec(&through))
    }

    fn entering(&self) -> Vec<String> {
        let enter = r#"echo $$ > "$0/cgroup.procs" && exec "$@""#;
        ["sh", "-c", enter, self.0.to_str().unwrap()]
            .map(str::to_owned)
            .to_vec()
    }

    /// What is switched on below it.
    pub(crate) fn switched_on(&self) -> String {
        let on = fs::read_to_string(self.0.join("cgroup.subtree_control")).unwrap();
        on.trim().to_owned()
    }

    /// The groups in it, and those in these.
    pub(crate) fn groups(&self) -> Vec<PathBuf> {
        let within = |path: &Path| {
            let entries = fs::read_dir(path).into_iter().flatten().flatten();
            let groups = entries.filter(|entry| entry.file_type().is_ok_and(|of| of.is_dir()));
            groups.map(|entry| entry.path()).collect::<Vec<_>>()
        };
        let mut groups = within(&self.0);
        let below: Vec<_> = groups.iter().flat_map(|path| within(path)).collect();
        groups.extend(below);
        groups
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        let gone = |path: &Path| {
            let is_gone = |error: io::Error| error.kind() == io::ErrorKind::NotFound;
            fs::remove_dir(path).map_or_else(is_gone, |()| true)
        };
        if std::thread::panicking() {
            let _ = fs::remove_dir(&self.0);
            return;
        }
        eventually("the test's group to be empty", || {
            for group in self.groups().iter().rev() {
                gone(group);
            }
            gone(&self.0).then_some(())
        });
    }
}
