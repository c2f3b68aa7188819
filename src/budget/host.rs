//! How much memory there is for this process: the machine's, or less where a cgroup bounds it.
//!
//! In: sysinfo(2), `/proc/self/cgroup` and the files of the groups it names, of either version. Out:
//! bytes. Knows nothing of who uses them.

use std::fs;
use std::path::Path;

use rustix::system::sysinfo;

/// Where hierarchies are mounted.
const MOUNTED: &str = "/sys/fs/cgroup";

/// Bytes of memory that this process and those beside it may use.
pub(crate) fn memory() -> u64 {
    let machine = sysinfo();
    let machine = u64::from(machine.mem_unit.max(1)).saturating_mul(machine.totalram);
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    group_limit(&groups, Path::new(MOUNTED)).map_or(machine, |limit| limit.min(machine))
}

/// The tightest limit of the groups that `/proc/self/cgroup` names, and of those above them.
///
/// A container may see the hierarchy from its own group down, under the path that the group has
/// outside: then only the top is there, and it is the container's.
fn group_limit(groups: &str, mounted: &Path) -> Option<u64> {
    let limits = groups.lines().flat_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next(), fields.next().unwrap_or_default());
        let is_memory = |of: &str| of.split(',').any(|name| name == "memory");
        let (top, files): (_, &[&str]) = match controllers {
            Some("") => (mounted.to_owned(), &["memory.max", "memory.high"]),
            Some(of) if is_memory(of) => (mounted.join("memory"), &["memory.limit_in_bytes"]),
            _ => return Vec::new(),
        };
        // Version 2 beside version 1.
        let tops = [top.clone(), mounted.join("unified")];
        let limits = tops.iter().flat_map(|top| {
            let own = top.join(path.trim_start_matches('/'));
            let above = own.ancestors().take_while(|group| group.starts_with(top));
            let found = above.flat_map(|group| files.iter().map(|file| group.join(file)));
            found.collect::<Vec<_>>()
        });
        limits.collect::<Vec<_>>()
    });
    let bytes = |file| fs::read_to_string(file).ok()?.trim().parse::<u64>().ok();
    limits.filter_map(bytes).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory with these files, removed when dropped.
    struct Tree(std::path::PathBuf);

    impl Tree {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let name = format!("procring-budget-{name}-{}", std::process::id());
            let top = std::env::temp_dir().join(name);
            for (file, text) in files {
                let file = top.join(file);
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(file, text).unwrap();
            }
            Self(top)
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_tightest_limit_of_all_groups_above_counts_in_both_versions() {
        let tree = Tree::new(
            "both",
            &[
                ("memory.max", "max\n"),
                ("a/memory.max", "3000\n"),
                ("a/b/memory.max", "4000\n"),
                ("a/b/memory.high", "max\n"),
                ("c/memory.high", "2000\n"),
                ("memory/d/memory.limit_in_bytes", "1000\n"),
                ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
                ("unified/e/memory.max", "500\n"),
            ],
        );
        let limit = |groups| group_limit(groups, &tree.0);
        assert_eq!(limit("0::/a/b\n"), Some(3000));
        assert_eq!(limit("0::/c\n"), Some(2000));
        assert_eq!(limit("0::/\n"), None);
        assert_eq!(limit("5:cpu,memory:/d\n1:name=x:/a\n"), Some(1000));
        assert_eq!(limit("5:memory:/\n0::/e\n"), Some(500));
        // A container that sees its own group at the top.
        assert_eq!(limit("5:memory:/docker/x\n"), Some(9223372036854771712));
        assert_eq!(limit("4:cpu:/d\n"), None);
        assert_eq!(limit(""), None);
    }

    #[test]
    fn there_is_some_memory() {
        assert!(memory() > 1 << 20);
    }
}
