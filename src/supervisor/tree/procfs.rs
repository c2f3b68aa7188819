//! What /proc says of processes and their children.
//!
//! In: a number. Out: what it showed at that moment. Whoever acts on it makes sure that the number
//! still is the same process ([`Process`](super::identity::Process)).

use std::fs;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

use super::mark::TICKS_PER_SECOND;

/// Times that something could not be read for want of descriptors or memory.
static STARVED: AtomicU32 = AtomicU32::new(0);

/// How often something could not be read although it may be there. Who finds nobody while this
/// changes cannot be sure.
pub(crate) fn starved() -> u32 {
    STARVED.load(Ordering::Relaxed)
}

/// None of what is not there, and of what cannot be read, see [`starved`].
fn known<T>(result: io::Result<T>) -> Option<T> {
    if let Err(error) = &result
        && let Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM) = error.raw_os_error()
    {
        STARVED.fetch_add(1, Ordering::Relaxed);
    }
    result.ok()
}

/// The keeper, if there is one.
static KEEPER: AtomicI32 = AtomicI32::new(0);

/// Orphans are given to this process, and not to the own one.
pub(crate) fn set_reaper(keeper: i32) {
    KEEPER.store(keeper, Ordering::Relaxed);
}

/// Whether that is so.
pub(crate) fn is_kept() -> bool {
    KEEPER.load(Ordering::Relaxed) != 0
}

/// Whom orphans are given to.
pub(crate) fn reaper() -> i32 {
    match KEEPER.load(Ordering::Relaxed) {
        0 => std::process::id().cast_signed(),
        keeper => keeper,
    }
}

/// Children of that process, but for this one.
pub(crate) fn children_of_reaper() -> Vec<i32> {
    without_own(children_of(reaper()))
}

fn without_own(mut pids: Vec<i32>) -> Vec<i32> {
    if is_kept() {
        let own = std::process::id().cast_signed();
        pids.retain(|&pid| pid != own);
    }
    pids
}

/// A file of /proc.
pub(crate) fn read(path: &str) -> Option<Vec<u8>> {
    known(fs::read(path))
}

/// In `flags` of a task (include/linux/sched.h).
const PF_EXITING: u32 = 4;

/// What proc_pid_stat(5) says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stat {
    state: u8,
    pub(crate) parent: i32,
    pub(crate) group: i32,
    pub(crate) session: i32,
    threads: u32,
    /// The main thread has begun to end (`PF_EXITING`).
    is_exiting: bool,
    /// Since boot.
    pub(crate) start_ticks: u64,
    /// As waitpid(2) has it; 0 where that is not told.
    pub(crate) exit_status: i32,
    /// Microseconds on a processor, in whole clock ticks, with those of the children that it has
    /// reaped.
    pub(crate) user_us: u64,
    /// The same of the kernel for them.
    pub(crate) system_us: u64,
}

impl Stat {
    /// Some thread runs. The state is the main thread's, which may have ended before the others.
    pub(crate) fn is_alive(&self) -> bool {
        !matches!(self.state, b'Z' | b'X') || self.threads > 1
    }

    /// The main thread has ended: what /proc shows of it is not the process's any more.
    #[cfg(test)]
    pub(crate) fn lost_main_thread(&self) -> bool {
        self.state == b'Z'
    }
}

/// The fields after the command name, which may itself hold spaces and parentheses (proc(5)).
pub(crate) fn stat(pid: i32) -> Option<Stat> {
    let text = read(&format!("/proc/{pid}/stat"))?;
    let after = &text[text.iter().rposition(|&b| b == b')')? + 1..];
    let mut fields = std::str::from_utf8(after).ok()?.split_ascii_whitespace();
    // The numbers of the manual page, of which the state is the third.
    let state = *fields.next()?.as_bytes().first()?;
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    let session = fields.next()?.parse().ok()?;
    let flags: u32 = fields.nth(9 - 7)?.parse().ok()?;
    let mut ticks = fields
        .by_ref()
        .skip(14 - 10)
        .map(|field| field.parse().ok());
    let mut ticks = || ticks.next().flatten().map(us);
    let (user, system, user_below, system_below) = (ticks()?, ticks()?, ticks()?, ticks()?);
    let threads = fields.nth(20 - 18)?.parse().ok()?;
    let start_ticks = fields.nth(22 - 21)?.parse().ok()?;
    let exit_status = fields.nth(52 - 23).and_then(|field| field.parse().ok());
    Some(Stat {
        state,
        parent,
        group,
        session,
        threads,
        is_exiting: flags & PF_EXITING != 0,
        start_ticks,
        exit_status: exit_status.unwrap_or(0),
        user_us: user.saturating_add(user_below),
        system_us: system.saturating_add(system_below),
    })
}

/// Clock ticks in microseconds.
fn us(ticks: u64) -> u64 {
    ticks.saturating_mul(1_000_000 / TICKS_PER_SECOND)
}

/// Bytes that were resident at most, of all that a process has had since its last exec (`VmHWM`).
/// None of one that has ended.
pub(crate) fn peak_rss(pid: i32) -> Option<u64> {
    let text = read(&format!("/proc/{pid}/status"))?;
    let text = String::from_utf8_lossy(&text);
    let value = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = value.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes << 10)
}

/// A line of proc_pid_status(5) that holds a number, such as `TracerPid`.
pub(crate) fn status_number(pid: i32, name: &str) -> Option<i32> {
    // The name of the process is in it, which may be any bytes.
    let text = read(&format!("/proc/{pid}/status"))?;
    let text = String::from_utf8_lossy(&text);
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    value.strip_prefix(':')?.trim().parse().ok()
}

/// Whether a process is about to end: it has begun to, or SIGKILL waits for its main thread.
pub(crate) fn is_on_its_way_out(pid: i32) -> bool {
    let Some(stat) = stat(pid) else { return true };
    if stat.is_exiting || !stat.is_alive() {
        return true;
    }
    let text = read(&format!("/proc/{pid}/status")).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let pending = text.lines().find_map(|line| line.strip_prefix("SigPnd:"));
    let pending = pending.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    pending.is_some_and(|mask| mask & (1 << (libc::SIGKILL - 1)) != 0)
}

/// Threads of a process, the main one first.
pub(crate) fn threads_of(pid: i32) -> Vec<i32> {
    numbers_in(&format!("/proc/{pid}/task")).collect()
}

/// Children of a process, those of all its threads (proc(5), `task/<tid>/children`, kernel 4.2
/// with CONFIG_PROC_CHILDREN); without that file, a look at every process.
pub(crate) fn children_of(pid: i32) -> Vec<i32> {
    children_of_threads(pid, |_| true)
}

/// As [`children_of`], those of some of its threads.
pub(crate) fn children_of_threads(pid: i32, wanted: impl Fn(i32) -> bool) -> Vec<i32> {
    let mut children = Vec::new();
    for thread in threads_of(pid).into_iter().filter(|&thread| wanted(thread)) {
        let thread = format!("/proc/{pid}/task/{thread}");
        match known(fs::read_to_string(format!("{thread}/children"))) {
            Some(list) => children.extend(numbers(&list)),
            // The thread has ended meanwhile, or the file does not exist on this kernel.
            None if fs::exists(&thread).unwrap_or(false) => return children_by_search(pid),
            None => {}
        }
    }
    children
}

/// Children that the kernel gave to this process, and few others: it gives them to the first
/// thread, while a child that was cloned is its thread's (find_new_reaper in kernel/exit.c). So
/// looking for orphans takes no longer where there are many managed children. None without the
/// file, see [`children_of`].
///
/// The list stays open: every exit asks for it, and to find it costs several times what to read it.
pub(crate) fn adopted() -> Option<Vec<i32>> {
    static LIST: OnceLock<fs::File> = OnceLock::new();
    let list = match LIST.get() {
        Some(list) => list,
        None => {
            let own = reaper();
            let list = known(fs::File::open(format!("/proc/{own}/task/{own}/children")))?;
            LIST.get_or_init(|| list)
        }
    };
    let mut text = Vec::new();
    let mut piece = [0; 4096];
    loop {
        match list.read_at(&mut piece, text.len() as u64).ok()? {
            0 => {
                let list = numbers(std::str::from_utf8(&text).ok()?).collect();
                return Some(without_own(list));
            }
            len => text.extend_from_slice(&piece[..len]),
        }
    }
}

fn children_by_search(parent: i32) -> Vec<i32> {
    all_pids()
        .filter(|&pid| stat(pid).is_some_and(|stat| stat.parent == parent))
        .collect()
}

/// Every process there is.
pub(crate) fn all_pids() -> impl Iterator<Item = i32> {
    numbers_in("/proc")
}

fn numbers_in(dir: &str) -> impl Iterator<Item = i32> + use<> {
    known(fs::read_dir(dir))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn numbers(list: &str) -> impl Iterator<Item = i32> + '_ {
    list.split_ascii_whitespace()
        .filter_map(|pid| pid.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::os::unix::process::CommandExt;
    use std::path::Path;
    use std::process::Command;

    #[test]
    fn the_stat_of_a_process_is_read_whatever_its_name_is() {
        let odd = std::env::temp_dir().join(format!("a) Z 0 (b {}", std::process::id()));
        let sleep = ["/bin/sleep", "/usr/bin/sleep"].map(Path::new);
        symlink(sleep.iter().find(|path| path.exists()).unwrap(), &odd).unwrap();
        let mut child = Command::new(&odd)
            .arg("60")
            .process_group(0)
            .spawn()
            .unwrap();
        fs::remove_file(&odd).unwrap();

        let seen = stat(child.id() as i32).unwrap();
        // The kernel says 0 of a session whose leader is outside the pid namespace.
        let own = stat(std::process::id() as i32).unwrap();
        assert_eq!(seen.parent, std::process::id() as i32);
        assert_eq!(seen.group, child.id() as i32);
        assert_eq!(seen.session, own.session);
        assert_eq!(seen.threads, 1);
        assert!(seen.start_ticks >= own.start_ticks);
        assert!(seen.is_alive());

        child.kill().unwrap();
        let dead = std::iter::repeat_with(|| stat(child.id() as i32).unwrap());
        let dead = dead.into_iter().find(|stat| !stat.is_alive()).unwrap();
        assert_eq!(dead.exit_status, libc::SIGKILL);
        child.wait().unwrap();
    }

    #[test]
    fn children_are_found_by_either_way() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id() as i32;
        let me = std::process::id() as i32;
        assert!(children_of(me).contains(&pid));
        assert!(children_by_search(me).contains(&pid));
        assert_eq!(status_number(pid, "PPid"), Some(me));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
