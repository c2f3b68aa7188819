//! What the kernel says about processes: who carries a mark, who is a zombie.

use std::fs;

/// Pids of living processes whose environment holds `mark` as a whole entry.
pub(crate) fn pids_with_environment(mark: &str) -> Vec<i32> {
    all_pids()
        .filter(|pid| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment
                .split(|b| *b == 0)
                .any(|entry| entry == mark.as_bytes())
                && !matches!(state(*pid), None | Some('Z' | 'X'))
        })
        .collect()
}

/// Pids of zombies whose parent is `parent`.
pub(crate) fn zombies_of(parent: i32) -> Vec<i32> {
    all_pids()
        .filter(|pid| state(*pid) == Some('Z') && field(*pid, 1) == Some(parent))
        .collect()
}

/// Pids of the direct children of `parent`.
pub(crate) fn children_of(parent: i32) -> Vec<i32> {
    all_pids()
        .filter(|pid| field(*pid, 1) == Some(parent))
        .collect()
}

/// Its children that have not come to their program. Not the one that a server makes as it begins, to
/// see whether it may make them in groups.
pub(crate) fn starting(server: i32) -> Vec<i32> {
    let is_starting = |pid: &i32| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm"));
        name.is_ok_and(|name| name == "spawner\n")
    };
    let mut all = children_of(server);
    all.retain(is_starting);
    all
}

/// A number of kibibytes that the kernel tells of a process: `VmRSS` is what is resident, `VmHWM` the
/// most that ever was, `RssAnon` heap and stacks (proc_pid_status(5)).
pub(crate) fn kib(pid: i32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let is_it = |line: &&str| line.split(':').next() == Some(field);
    let line = status.lines().find(is_it).expect(field);
    let number = line.split_whitespace().nth(1).expect(field);
    number.parse().expect("a number")
}

/// The one-letter state of a process (proc_pid_stat(5), field 3); `None` once it is gone.
pub(crate) fn state(pid: i32) -> Option<char> {
    after_name(pid)?.chars().next()
}

/// Whether the process is there and not merely waiting to be reaped. The state is that of its main
/// thread, which may have ended before the others.
pub(crate) fn alive(pid: i32) -> bool {
    !matches!(state(pid), None | Some('Z' | 'X')) || field(pid, 17).is_some_and(|n| n > 1)
}

/// A number of proc_pid_stat(5); `index` 1 is the parent, 2 the group, 3 the session, 17 counts the
/// threads.
pub(crate) fn field(pid: i32, index: usize) -> Option<i32> {
    after_name(pid)?.split(' ').nth(index)?.parse().ok()
}

/// Who a pid stands for: its start time in clock ticks since boot (proc_pid_stat(5), field 22).
/// `None` once the process is gone or waits to be reaped.
pub(crate) fn started(pid: i32) -> Option<u64> {
    let rest = after_name(pid)?;
    if rest.starts_with(['Z', 'X']) {
        return None;
    }
    rest.split(' ').nth(19)?.parse().ok()
}

/// A hexadecimal mask of `/proc/<pid>/status`, such as `SigIgn`.
pub(crate) fn mask(status: &str, name: &str) -> u64 {
    let line = status
        .lines()
        .find_map(|l| l.strip_prefix(name)?.strip_prefix(":\t"));
    u64::from_str_radix(line.expect("a line of that name"), 16).expect("a mask")
}

fn after_name(pid: i32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(stat[stat.rfind(')')? + 2..].to_owned())
}

/// Every process there is.
pub(crate) fn all_pids() -> impl Iterator<Item = i32> {
    fs::read_dir("/proc")
        .expect("/proc")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// How often threads of a process have gone to sleep (proc_pid_status(5)).
pub(crate) fn switches(pid: i32) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("threads");
    let of = |status: String| {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.expect("a count")
            .trim()
            .parse::<u64>()
            .expect("a number")
    };
    tasks
        .map(|task| std::fs::read_to_string(task.unwrap().path().join("status")).unwrap())
        .map(of)
        .sum()
}
