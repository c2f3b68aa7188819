//! Where this process is in the hierarchy of groups, by /proc/self/cgroup and mountinfo
//! (proc_pid_mountinfo(5)).

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// A group in the file system.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) group: PathBuf,
    /// Where the hierarchy is mounted: nothing above is to be seen.
    pub(super) top: PathBuf,
}

impl Place {
    /// This process's group.
    pub(super) fn own() -> Option<Self> {
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
}
