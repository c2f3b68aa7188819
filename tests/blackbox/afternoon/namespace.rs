//! The room in which an afternoon is spent: namespaces of PIDs and mounts, a devpts instance, a
//! cgroup, and a directory, none of which anybody else uses.
//!
//! In: a test. Out: the same test, run once more by this program in there, as child of a shell
//! that is PID 1 and reaps what is left to it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::harness::{one_heavy_test_at_a_time, skipped_anywhere};

/// Set inside, to the directory of the room.
const ROOM: &str = "PROCRING_AFTERNOON_ROOM";
/// Set inside where the room has a cgroup.
const GROUP: &str = "PROCRING_AFTERNOON_GROUP";

/// Numbers below 300 do not come again (RESERVED_PIDS): those from there to this one do.
const PID_MAX: u32 = 700;

/// `$1` is the group, `$2` the highest pid, both perhaps empty. Not by exec: PID 1 must reap.
const SETUP: &str = r#"
mount -t devpts -o newinstance,mode=620,ptmxmode=0666 devpts /dev/pts || exit 97
[ -z "$1" ] || echo $$ > "$1/cgroup.procs" || exit 98
[ -z "$2" ] || echo "$2" > /proc/sys/kernel/pid_max || exit 99
echo 300 > /proc/sys/kernel/ns_last_pid
shift 2
"$@"
exit $?
"#;

/// What is in the room.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) dir: PathBuf,
    /// The group that everything in here is in, or below.
    pub(super) group: Option<PathBuf>,
    /// `helper.c`.
    pub(super) helper: PathBuf,
    /// The built server.
    pub(super) program: PathBuf,
    /// The same under the name of the program that it replaces.
    pub(super) renamed: PathBuf,
}

impl Room {
    fn new(dir: PathBuf, group: Option<PathBuf>) -> Self {
        Self {
            helper: dir.join("helper"),
            program: dir.join("procring"),
            renamed: dir.join("sandbox-agent"),
            dir,
            group,
        }
    }

    /// Makes what is in it, where another user can reach it.
    fn furnish(&self) {
        fs::create_dir(&self.dir).expect("a directory");
        let open = |path: &Path| {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("chmod");
        };
        open(&self.dir);
        for copy in [&self.program, &self.renamed] {
            fs::copy(env!("CARGO_BIN_EXE_procring"), copy).expect("a copy of the server");
            open(copy);
        }
        let source = self.dir.join("helper.c");
        fs::write(&source, include_str!("helper.c")).expect("helper.c");
        let built = Command::new("cc")
            .args(["-O1", "-pthread", "-o"])
            .args([&self.helper, &source])
            .status();
        assert!(built.is_ok_and(|status| status.success()), "cc helper.c");
    }
}

/// Runs `afternoon` in a room of its own; `test` is the name of the calling test.
pub(super) fn inside(test: &str, afternoon: impl FnOnce(Room)) {
    if let Some(dir) = std::env::var_os(ROOM) {
        let group = std::env::var_os(GROUP).map(PathBuf::from);
        return afternoon(Room::new(dir.into(), group));
    }
    let unshare = ["--pid", "--fork", "--kill-child", "--mount-proc"];
    let can = Command::new("unshare")
        .args(unshare)
        .args([
            "mount",
            "-t",
            "devpts",
            "-o",
            "newinstance",
            "devpts",
            "/dev/pts",
        ])
        .output();
    if !can.is_ok_and(|output| output.status.success()) {
        return skipped_anywhere("unshare(1) cannot make the namespaces of a random afternoon");
    }
    let _heavy = one_heavy_test_at_a_time();
    // Not as a server names its own: others that start meanwhile remove those that are empty.
    let name = format!("afternoon-of-{}", std::process::id());
    let room = Room::new(std::env::temp_dir().join(&name), make_group(&name));
    room.furnish();
    let group = room.group.as_deref().unwrap_or(Path::new(""));
    let mut command = Command::new("unshare");
    command
        .args(unshare)
        .args(["sh", "-c", SETUP, "sh"])
        .arg(group)
        .arg(if pid_max_is_the_namespaces() {
            PID_MAX.to_string()
        } else {
            String::new()
        })
        .arg(std::env::current_exe().expect("this program"))
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(ROOM, &room.dir)
        .stdin(Stdio::null());
    if let Some(group) = &room.group {
        command.env(GROUP, group);
    }
    // A long one is watched while it goes on.
    let (status, told) = if std::env::var_os("PROCRING_ACTS").is_some() {
        (command.status().expect("unshare"), String::new())
    } else {
        let output = command.output().expect("unshare");
        let told = [output.stdout, output.stderr].concat();
        (output.status, String::from_utf8_lossy(&told).into_owned())
    };
    let _ = fs::remove_dir_all(&room.dir);
    let left = room.group.as_deref().map(groups_left).unwrap_or_default();
    assert!(status.success(), "{status}\n{told}");
    assert_eq!(left, [""; 0], "cgroups left over");
}

/// A group of version 2 below the test's own.
fn make_group(name: &str) -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let mounted = mounts.lines().find(|line| line.contains(" - cgroup2 "))?;
    let membership = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = membership
        .lines()
        .find_map(|line| line.strip_prefix("0::/"))?;
    let dir = Path::new(mounted.split(' ').nth(4)?).join(own).join(name);
    fs::create_dir(&dir).ok().map(|()| dir)
}

/// What is below a group, by name; removes it and them.
fn groups_left(group: &Path) -> Vec<String> {
    let entries = fs::read_dir(group).into_iter().flatten().flatten();
    let left = entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| {
            for below in fs::read_dir(entry.path()).into_iter().flatten().flatten() {
                let _ = fs::remove_dir(below.path());
            }
            let _ = fs::remove_dir(entry.path());
            entry.file_name().to_string_lossy().into_owned()
        })
        .collect();
    let _ = fs::remove_dir(group);
    left
}

/// Since 6.14 a PID namespace has a `pid_max` of its own; before, it is the machine's.
fn pid_max_is_the_namespaces() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(['.', '-']).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= (6, 14),
        _ => false,
    }
}

/// Has the next process of this namespace get the number `pid`, if it is free
/// (CONFIG_CHECKPOINT_RESTORE; without it numbers come again by themselves).
pub(super) fn next_pid(pid: i32) {
    let _ = fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string());
}
