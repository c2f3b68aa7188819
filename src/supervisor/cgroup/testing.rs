//! A folder that looks like a hierarchy, for what reads and writes one.

use std::fs;
use std::path::{Path, PathBuf};

/// Removed when dropped.
pub(super) struct Tree(PathBuf);

impl Tree {
    /// `name` is the test's own.
    pub(super) fn new(name: &str) -> Self {
        let name = format!("procring-cgroup-{name}-{}", std::process::id());
        let top = std::env::temp_dir().join(name);
        fs::create_dir_all(&top).unwrap();
        Self(top)
    }

    pub(super) fn top(&self) -> &Path {
        &self.0
    }

    /// The folder of a group, and those above it.
    pub(super) fn group(&self, path: &str) -> PathBuf {
        let group = self.0.join(path);
        fs::create_dir_all(&group).unwrap();
        group
    }

    pub(super) fn write(&self, file: &str, text: &str) {
        fs::write(self.0.join(file), text).unwrap();
    }

    pub(super) fn read(&self, file: &str) -> String {
        fs::read_to_string(self.0.join(file)).unwrap()
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
