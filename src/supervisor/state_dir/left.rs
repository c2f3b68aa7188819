//! The end of what killed servers left, as their records tell.
//!
//! In: a directory of records. Out: how many processes were ended. Whom a record does not name by
//! something that nobody else has, lives on.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use super::record::{Carried, Record};
use super::{SUFFIX, open_plain};
use crate::supervisor::cgroup;
use crate::supervisor::living::{Servers, lock};
use crate::supervisor::tree::identity::Process;
use crate::supervisor::tree::mark::{Kind, carried};
use crate::supervisor::tree::procfs::{self, Stat};
use crate::supervisor::tree::walk::Walk;

/// Bytes of a record that are read: beyond what any number of processes needs.
const RECORD_BYTES_MAX: u64 = 64 << 20;

/// Passes over what is left, and the pause between them.
const PASSES_MAX: u32 = 200;
const PASS_PAUSE: Duration = Duration::from_millis(5);

/// Ends what the files in `dir` name, those of living servers excepted, and removes them.
pub(super) fn end_left_behind(dir: &Path, place: &str) -> io::Result<usize> {
    let mut ended = 0;
    for entry in fs::read_dir(dir)?.flatten() {
        let path = entry.path();
        let ours = path.to_str().is_some_and(|path| path.ends_with(SUFFIX));
        if !ours {
            continue;
        }
        let Ok(file) = open_plain(&path, OpenOptions::new().read(true)) else {
            continue;
        };
        if !lock(&file, || !is_of_a_living_server(&path)) {
            continue;
        }
        // A living server that wrote its record anew has let go of the one before.
        if file.metadata().map_or(0, |is| is.nlink()) == 0 {
            continue;
        }
        let mut bytes = Vec::new();
        let mut record = (&file).take(RECORD_BYTES_MAX);
        if record.read_to_end(&mut bytes).is_err() {
            continue;
        }
        // Whoever damaged a line made it one that makes no sense.
        let text = String::from_utf8_lossy(&bytes);
        // After a reboot, and in another PID namespace, nothing is left that could be known, and
        // the numbers are other processes'.
        if let Some(text) = text.strip_prefix(place) {
            let record = Record::parse(text);
            if let Some(group) = record.group {
                let wait = |dir: &File| lock(dir, || true);
                ended += cgroup::end_left_behind(Path::new(group), wait, &kill_members);
            }
            ended += end_trees(&record);
        }
        // What cannot be removed is read once more at the next start.
        let _ = fs::remove_file(&path);
    }
    Ok(ended)
}

/// By the pid in its name; true if that cannot be found out.
pub(super) fn is_of_a_living_server(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    let pid = name.and_then(|name| name.split('-').next()?.parse().ok());
    match (pid, Servers::now()) {
        (Some(pid), Some(servers)) => servers.include(pid),
        _ => true,
    }
}

/// Kills these, who are members of a group that was left, and all descendants.
fn kill_members(pids: Vec<i32>) {
    let mut walk = Walk::default();
    walk.add_listed(pids);
    walk.step(None);
}

/// Kills those that [`Left::includes`], and all descendants. Returns how many there were.
pub(super) fn end_trees(record: &Record<'_>) -> usize {
    let mut ended: HashSet<Process> = HashSet::new();
    for _ in 0..PASSES_MAX {
        if record.leaders.is_empty() && record.starting.is_empty() {
            break;
        }
        let left = Left::now(record);
        let own = std::process::id().cast_signed();
        let found = procfs::all_pids()
            .filter(|&pid| pid != own)
            .filter_map(|pid| {
                let stat = procfs::stat(pid)?;
                (stat.is_alive() && left.includes(pid, &stat)).then(|| Process::new(pid, &stat))
            });
        let mut walk = Walk::default();
        walk.add(found);
        walk.step(None);
        if walk.met_nobody() {
            break;
        }
        ended.extend(walk.met());
        std::thread::sleep(PASS_PAUSE);
    }
    ended.len()
}

/// Who a killed server left.
struct Left<'a> {
    leaders: &'a HashMap<Process, Carried>,
    /// Marks and when their trees began.
    marks: HashMap<u64, u64>,
    servers: Option<Servers>,
}

impl<'a> Left<'a> {
    fn now(record: &'a Record<'_>) -> Self {
        let marks = record.leaders.iter();
        Self {
            leaders: &record.leaders,
            marks: marks
                .filter_map(|(leader, carried)| Some(((*carried)?, leader.start_ticks())))
                .chain(record.starting.iter().map(|(&mark, &since)| (mark, since)))
                .collect(),
            servers: Servers::now(),
        }
    }

    /// A recorded leader that still is who it was, who is in the session of such a one, or who
    /// carries a recorded mark and is not below a server that lives: whoever may set limits there
    /// may have put it on, to be mistaken for another.
    fn includes(&self, pid: i32, stat: &Stat) -> bool {
        let leads = |pid, stat: &Stat| self.leaders.contains_key(&Process::new(pid, stat));
        if leads(pid, stat) || procfs::stat(stat.session).is_some_and(|of| leads(stat.session, &of))
        {
            return true;
        }
        let began = carried(pid, Kind::LocksLimit).and_then(|value| self.marks.get(&value));
        let of_a_tree = began.is_some_and(|began| stat.start_ticks >= *began);
        let below_none = |servers: &Servers| !servers.include_ancestor_of(pid);
        of_a_tree && self.servers.as_ref().is_some_and(below_none)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_leader_and_its_session_are_known_by_when_it_started() {
        let mut child = std::process::Command::new("setsid")
            .args(["sh", "-c", "sleep 61 & wait"])
            .spawn()
            .unwrap();
        let leader = child.id() as i32;
        let (member, stat) = std::iter::repeat_with(|| procfs::children_of(leader))
            .find_map(|children| {
                let member = *children.first()?;
                Some((member, procfs::stat(member)?))
            })
            .unwrap();
        assert_eq!(stat.session, leader);
        let is = procfs::stat(leader).unwrap();
        let known = |start_ticks| Record {
            leaders: HashMap::from([(Process::recorded(leader, start_ticks), None)]),
            ..Record::default()
        };
        let same = known(is.start_ticks);
        assert!(Left::now(&same).includes(leader, &is));
        assert!(Left::now(&same).includes(member, &stat));
        // The record is of one that had the number before.
        let earlier = known(is.start_ticks - 1);
        assert!(!Left::now(&earlier).includes(leader, &is));
        assert!(!Left::now(&earlier).includes(member, &stat));
        assert_eq!(end_trees(&same), 2);
        child.wait().unwrap();
    }

    #[test]
    fn a_record_holds_the_marks_of_trees_that_may_have_been_begun() {
        // One that was not, one that runs, one whose line is not whole.
        let text = "~5 locks 50001\n~6 locks 50002\n^locks 50001\n~7 locks 50003\n\
                    +9 7 locks 50003\n~8 slack 50004\n~8 locks 5000";
        let record = Record::parse(text);
        assert_eq!(record.starting, HashMap::from([(50_002, 6)]));
        let left = Left::now(&record);
        assert_eq!(left.marks, HashMap::from([(50_002, 6), (50_003, 7)]));
        for text in [
            "~\n",
            "~x locks 3\n",
            "~5 locks\n",
            "~5 -\n",
            "~5 3\n",
            "^\n",
        ] {
            assert_eq!(Record::parse(text), Record::default(), "{text:?}");
        }
    }
}
