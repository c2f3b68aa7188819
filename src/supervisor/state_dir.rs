//! What a killed server leaves behind, written down for the next one (`--state-dir`).
//!
//! In: jobs as they begin and are forgotten. Out: one small file per server, and at the next start
//! the end of what is left. Owns the file. Knows nothing of jobs but their leaders' pids.
//!
//! The file is locked (flock(2)) as long as its server lives: who gets the lock knows it is gone.
//! Its lines: `boot ID`, `group PATH` if there are cgroups, `+PID START SLACK` and `-PID`, where
//! START is in clock ticks since boot (proc_pid_stat(5)) and SLACK is the tree's timer slack.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use crate::supervisor::cgroup;
use crate::supervisor::tree::kill;

/// What the names of the files end with.
const SUFFIX: &str = ".jobs";

/// Lines beyond those of living jobs before the file is written anew.
const STALE_LINES_MAX: usize = 4096;

/// Passes over what is left, and the pause between them.
const PASSES_MAX: u32 = 200;
const PASS_PAUSE: Duration = Duration::from_millis(5);

/// The leader of a recorded tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Leader {
    start_ticks: u64,
    timer_slack_ns: u64,
}

/// The record of this server.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    file: File,
    header: String,
    known: BTreeMap<i32, Leader>,
    lines: usize,
}

impl StateDir {
    /// Ends what killed servers left, as far as `dir` tells, and begins a record of its own.
    ///
    /// Returns how many processes were ended.
    ///
    /// # Errors
    /// When the directory or the file cannot be made.
    pub fn open(dir: &Path, groups: Option<&Path>) -> io::Result<(Self, usize)> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)?;
        let boot = boot_id();
        let ended = end_left_behind(dir, &boot)?;
        let mut header = format!("boot {boot}\n");
        if let Some(groups) = groups {
            let _ = writeln!(header, "group {}", groups.display());
        }
        // One pid may belong to several servers, each in a namespace of its own.
        let path = (0..u32::MAX)
            .map(|n| dir.join(format!("{}-{n}{SUFFIX}", std::process::id())))
            .find(|path| !path.exists())
            .ok_or(io::ErrorKind::AlreadyExists)?;
        let file = begin(&path, &header)?;
        let state = Self {
            path,
            file,
            header,
            known: BTreeMap::new(),
            lines: 0,
        };
        Ok((state, ended))
    }

    /// Writes a new tree down. A full disk only means that it is missing.
    pub(crate) fn begun(&mut self, pid: i32, timer_slack_ns: u64) {
        let Some(stat) = kill::stat(pid) else { return };
        let leader = Leader {
            start_ticks: stat.start_ticks,
            timer_slack_ns,
        };
        self.known.insert(pid, leader);
        self.append(&line(pid, leader));
    }

    /// Nobody will ask about the tree again.
    pub(crate) fn forgotten(&mut self, pid: i32) {
        if self.known.remove(&pid).is_some() {
            self.append(&format!("-{pid}\n"));
        }
    }

    /// The server ends in order.
    pub(crate) fn remove(&mut self) {
        let _ = fs::remove_file(&self.path);
    }

    fn append(&mut self, text: &str) {
        let _ = self.file.write_all(text.as_bytes());
        self.lines += 1;
        if self.lines > STALE_LINES_MAX + self.known.len() {
            let mut all = self.header.clone();
            for (&pid, &leader) in &self.known {
                all.push_str(&line(pid, leader));
            }
            if let Ok(file) = begin(&self.path, &all) {
                self.file = file;
            }
            self.lines = self.known.len();
        }
    }
}

fn line(pid: i32, leader: Leader) -> String {
    format!("+{pid} {} {}\n", leader.start_ticks, leader.timer_slack_ns)
}

/// A locked file with this content, in place of what is there.
fn begin(path: &Path, content: &str) -> io::Result<File> {
    let new = path.with_extension("new");
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&new)?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    file.set_len(0)?;
    file.write_all(content.as_bytes())?;
    fs::rename(&new, path)?;
    Ok(file)
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|id| id.trim().to_owned())
        .unwrap_or_default()
}

/// Ends what the files in `dir` name, those of living servers excepted, and removes them.
fn end_left_behind(dir: &Path, boot: &str) -> io::Result<usize> {
    let mut ended = 0;
    for entry in fs::read_dir(dir)?.flatten() {
        let path = entry.path();
        let ours = path.to_str().is_some_and(|path| path.ends_with(SUFFIX));
        let Ok(file) = File::open(&path) else {
            continue;
        };
        if !ours || flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            continue;
        }
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        let record = Record::parse(&text);
        // After a reboot nothing is left, and the numbers are other processes'.
        if record.boot == boot {
            if let Some(group) = record.group {
                ended += cgroup::end_left_behind(Path::new(group));
            }
            ended += end_trees(&record.leaders);
        }
        fs::remove_file(&path)?;
    }
    Ok(ended)
}

#[derive(Debug, PartialEq, Eq)]
struct Record<'a> {
    boot: &'a str,
    group: Option<&'a str>,
    leaders: HashMap<i32, Leader>,
}

impl<'a> Record<'a> {
    /// Lines that make no sense, such as the last one of a crash, are left out.
    fn parse(text: &'a str) -> Self {
        let mut record = Self {
            boot: "",
            group: None,
            leaders: HashMap::new(),
        };
        for line in text.lines() {
            if let Some(boot) = line.strip_prefix("boot ") {
                record.boot = boot;
            } else if let Some(group) = line.strip_prefix("group ") {
                record.group = Some(group);
            } else if let Some(begun) = line.strip_prefix('+') {
                let mut numbers = begun.split(' ').map(str::parse::<u64>);
                if let (Some(Ok(pid)), Some(Ok(start_ticks)), Some(Ok(timer_slack_ns))) =
                    (numbers.next(), numbers.next(), numbers.next())
                    && let Ok(pid) = i32::try_from(pid)
                    && pid > 1
                {
                    let leader = Leader {
                        start_ticks,
                        timer_slack_ns,
                    };
                    record.leaders.insert(pid, leader);
                }
            } else if let Some(Ok(pid)) = line.strip_prefix('-').map(str::parse) {
                record.leaders.remove(&pid);
            }
        }
        record
    }
}

/// Kills the recorded leaders that still are who they were, what else is in their sessions or
/// carries their timer slack, and all descendants.
fn end_trees(leaders: &HashMap<i32, Leader>) -> usize {
    let mut ended = HashSet::new();
    for _ in 0..PASSES_MAX {
        if leaders.is_empty() {
            break;
        }
        let found = kill::kill_all_with_descendants(&|pid, stat| {
            if let Some(leader) = leaders.get(&pid) {
                return leader.start_ticks == stat.start_ticks;
            }
            let slack = kill::timer_slack_ns(pid);
            let carries = |leader: &Leader| {
                stat.start_ticks >= leader.start_ticks && slack == Some(leader.timer_slack_ns)
            };
            match leaders.get(&stat.session) {
                Some(leader) if slack.is_none() => stat.start_ticks >= leader.start_ticks,
                Some(leader) => carries(leader),
                // A daemon in a session of its own; living servers' have them among their children.
                None => leaders.values().any(carries) && !kill::has_server_above(stat.parent),
            }
        });
        if found.is_empty() {
            break;
        }
        ended.extend(found);
        std::thread::sleep(PASS_PAUSE);
    }
    ended.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_holds_who_was_begun_and_not_forgotten() {
        let text = "boot b-1\ngroup /x/procring-7-0\n+10 500 50001\n+11 501 50002\n-10\n+12 50";
        let record = Record::parse(text);
        assert_eq!(
            (record.boot, record.group),
            ("b-1", Some("/x/procring-7-0"))
        );
        let leader = Leader {
            start_ticks: 501,
            timer_slack_ns: 50_002,
        };
        assert_eq!(record.leaders, HashMap::from([(11, leader)]));
        for text in ["+1 2 3\n", "+-5 2 3\n", "+5 x 3\n", "\n-\n+\n"] {
            assert_eq!(Record::parse(text).leaders, HashMap::new(), "{text:?}");
        }
    }

    #[test]
    fn a_long_record_is_written_anew_and_stays_locked() {
        let dir = std::env::temp_dir().join(format!("procring-state-{}", std::process::id()));
        let (mut state, ended) = StateDir::open(&dir, None).unwrap();
        assert_eq!(ended, 0);
        let me = std::process::id() as i32;
        for _ in 0..STALE_LINES_MAX {
            state.begun(me, 50_001);
            state.forgotten(me);
        }
        state.begun(me, 50_001);
        let text = fs::read_to_string(&state.path).unwrap();
        assert!(text.lines().count() < STALE_LINES_MAX + 8);
        assert!(Record::parse(&text).leaders.contains_key(&me));
        let (mut other, _) = StateDir::open(&dir, None).unwrap();
        assert!(state.path.exists(), "the record of a living server");
        state.remove();
        other.remove();
        fs::remove_dir(&dir).unwrap();
    }
}
