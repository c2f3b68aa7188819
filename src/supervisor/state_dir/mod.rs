//! What a killed server leaves behind, written down for the next one (`--state-dir`).
//!
//! In: jobs as they begin and are forgotten. Out: one small file per server, and at the next start
//! the end of what is left. Owns the file. Knows nothing of jobs but their leaders' pids. A tree
//! whose job is forgotten while somebody of it lives stays in the file.
//!
//! The file is locked (flock(2)) as long as its server lives: who gets the lock knows it is gone.
//! Its lines:
//! - `boot ID` and `pids INODE`: numbers are valid since this boot, in this PID namespace;
//! - `group PATH` if there are cgroups;
//! - `~SINCE locks MARK` before a tree is begun, and `^locks MARK` if it was not;
//! - `+PID START locks MARK` when its leader runs, and `-PID START` when nobody of it is left.
//!
//! SINCE and START are in clock ticks since boot (proc_pid_stat(5)); MARK is the tree's mark
//! ([`Mark::unique`]). A leader without one has `-` there; before it runs, nothing tells such a tree.
//! A mark that is another number than this server's own could be a stranger's, who would be ended
//! for it: none is written down.
//!
//! Others may write to the directory, so a name in it may be anything: only a regular file of this
//! user's own with one name is read, written or believed ([`open_plain`]).

mod left;
mod record;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use self::left::end_left_behind;
use self::record::{Carried, MARK, line, line_before, line_over};
use crate::supervisor::tree::identity::Process;
use crate::supervisor::tree::mark::Mark;
use crate::supervisor::tree::procfs;
use crate::types::JobId;

/// What the names of the files end with.
const SUFFIX: &str = ".jobs";

/// Lines beyond those of living jobs before the file is written anew.
const STALE_LINES_MAX: usize = 4096;

/// The record of this server.
#[derive(Debug)]
pub(crate) struct StateDir {
    path: PathBuf,
    file: File,
    header: String,
    /// A leader may be long gone, and its number another leader's.
    known: BTreeMap<JobId, (Process, Carried)>,
    /// Trees whose leaders are not known yet.
    starting: BTreeMap<JobId, Mark>,
    /// Trees of forgotten jobs, of whom somebody is alive: the leader that was, by mark.
    left: BTreeMap<u64, Process>,
    lines: usize,
    /// A line is missing or in part, for want of room.
    torn: bool,
}

impl StateDir {
    /// Ends what killed servers left, as far as `dir` tells, and begins a record of its own.
    ///
    /// Returns how many processes were ended.
    ///
    /// # Errors
    /// When the directory or the file cannot be made.
    pub(crate) fn open(dir: &Path, groups: Option<&Path>) -> io::Result<(Self, usize)> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)?;
        let place = place();
        let ended = end_left_behind(dir, &place)?;
        let mut header = place;
        if let Some(groups) = groups {
            let _ = writeln!(header, "group {}", groups.display());
        }
        // One pid may belong to several servers, each in a namespace of its own.
        let path = (0..u32::MAX)
            .map(|n| dir.join(format!("{}-{n}{SUFFIX}", std::process::id())))
            .find(|path| path.symlink_metadata().is_err())
            .ok_or(io::ErrorKind::AlreadyExists)?;
        let file = begin(&path, &header)?;
        let state = Self {
            path,
            file,
            header,
            known: BTreeMap::new(),
            starting: BTreeMap::new(),
            left: BTreeMap::new(),
            lines: 0,
            torn: false,
        };
        Ok((state, ended))
    }

    /// Writes down that a tree with this mark is about to be begun. A server that is killed between
    /// the clone and [`StateDir::begun`] has told nothing else of it.
    pub(crate) fn starts(&mut self, job: JobId, mark: Mark) {
        if let Some(value) = mark.unique() {
            self.starting.insert(job, mark);
            self.append(&line_before(value, mark.since_ticks));
        }
    }

    /// Writes a new tree down. A full disk only means that it is missing until there is room.
    pub(crate) fn begun(&mut self, job: JobId, pid: i32, mark: Mark) {
        let Some(stat) = procfs::stat(pid) else {
            return;
        };
        let (leader, carried) = (Process::new(pid, &stat), mark.unique());
        self.known.insert(job, (leader, carried));
        self.starting.remove(&job);
        self.append(&line(leader, carried));
    }

    /// Nobody will ask about the tree again, or it was not begun. `lives` says whether somebody of
    /// it may be alive; if so, its mark tells the next server who that is.
    pub(crate) fn forgotten(&mut self, job: JobId, lives: bool) {
        if let Some(mark) = self.starting.remove(&job)
            && let Some(value) = mark.unique()
        {
            self.append(&format!("^{MARK} {value}\n"));
        }
        match self.known.remove(&job) {
            Some((leader, Some(value))) if lives => {
                self.left.insert(value, leader);
            }
            Some((leader, _)) => self.append(&line_over(leader)),
            None => {}
        }
    }

    /// Of forgotten trees only those may have somebody whose mark `is_carried`.
    pub(crate) fn settle(&mut self, is_carried: impl Fn(u64) -> bool) {
        let over = self.left.keys().copied().filter(|&mark| !is_carried(mark));
        for mark in over.collect::<Vec<_>>() {
            if let Some(leader) = self.left.remove(&mark) {
                self.append(&line_over(leader));
            }
        }
    }

    /// The server ends in order.
    pub(crate) fn remove(&mut self) {
        let _ = fs::remove_file(&self.path);
        // Left where there was no room for it.
        let _ = fs::remove_file(self.path.with_extension("new"));
    }

    fn append(&mut self, text: &str) {
        if !self.torn {
            self.torn = self.file.write_all(text.as_bytes()).is_err();
            self.lines += 1;
        }
        let needed = self.known.len() + self.starting.len() + self.left.len();
        if self.torn || self.lines > STALE_LINES_MAX + needed {
            let mut all = self.header.clone();
            let left = self
                .left
                .iter()
                .map(|(&mark, &leader)| (leader, Some(mark)));
            for (leader, carried) in self.known.values().copied().chain(left) {
                all.push_str(&line(leader, carried));
            }
            for mark in self.starting.values() {
                let before = mark
                    .unique()
                    .map(|value| line_before(value, mark.since_ticks));
                all.extend(before);
            }
            if let Ok(file) = begin(&self.path, &all) {
                self.file = file;
                self.torn = false;
            }
            self.lines = needed;
        }
    }
}

/// A locked file with this content, in place of what is there.
fn begin(path: &Path, content: &str) -> io::Result<File> {
    let new = path.with_extension("new");
    let open = || {
        let mut options = OpenOptions::new();
        open_plain(&new, options.create(true).append(true))
    };
    let mut file = open().or_else(|_| {
        fs::remove_file(&new)?;
        open()
    })?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    file.set_len(0)?;
    file.write_all(content.as_bytes())?;
    fs::rename(&new, path)?;
    Ok(file)
}

/// Opens a regular file that belongs to this process's user and has one name; waits for nobody, as
/// open(2) of a FIFO would.
///
/// # Errors
/// As open(2); EPERM for anything else.
pub(crate) fn open_plain(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let file = options
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)?;
    let is = file.metadata()?;
    let own = rustix::process::geteuid().as_raw();
    match is.is_file() && is.uid() == own && is.nlink() == 1 {
        true => Ok(file),
        false => Err(io::ErrorKind::PermissionDenied.into()),
    }
}

/// Where numbers of processes are valid, as the first lines of a record.
fn place() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let pids = rustix::fs::stat("/proc/self/ns/pid").map_or(0, |stat| stat.st_ino);
    format!("boot {}\npids {pids}\n", boot.trim())
}

#[cfg(test)]
mod tests {
    use super::record::Record;
    use super::*;
    use crate::supervisor::tree::mark::Marks;
    use std::collections::HashMap;

    #[test]
    fn a_tree_is_written_down_before_it_is_begun_and_until_it_is_not() {
        let dir = temp("starts");
        let (mut state, _) = StateDir::open(&dir, None).unwrap();
        let mut marks = Marks::new();
        let me = std::process::id() as i32;
        let starting = |state: &StateDir| {
            let text = fs::read_to_string(&state.path).unwrap();
            Record::parse(&text).starting
        };
        let [begun, failed, hung] = [1, 2, 3].map(|n| (JobId(n), marks.take()));
        for (job, mark) in [begun, failed, hung] {
            state.starts(job, mark);
        }
        assert_eq!(starting(&state).len(), 3);
        state.begun(begun.0, me, begun.1);
        state.forgotten(failed.0, false);
        let left = HashMap::from([(hung.1.unique().unwrap(), hung.1.since_ticks)]);
        assert_eq!(starting(&state), left);
        // It is in a record that is written anew, too.
        for _ in 0..=STALE_LINES_MAX {
            state.append("\n");
        }
        let text = fs::read_to_string(&state.path).unwrap();
        assert!(text.lines().count() < STALE_LINES_MAX);
        assert_eq!(starting(&state), left);
        state.remove();
        fs::remove_dir(&dir).unwrap();
    }

    #[test]
    fn a_tree_whose_job_is_forgotten_stays_in_the_record_while_its_mark_is_carried() {
        let dir = temp("left");
        let (mut state, _) = StateDir::open(&dir, None).unwrap();
        let mut marks = Marks::new();
        let me = std::process::id() as i32;
        let recorded = |state: &StateDir| {
            let text = fs::read_to_string(&state.path).unwrap();
            let leaders = Record::parse(&text).leaders;
            let mut marks: Vec<u64> = leaders.into_values().flatten().collect();
            marks.sort_unstable();
            marks
        };
        let parent = rustix::process::getppid().unwrap().as_raw_nonzero().get();
        let (left, over) = (marks.take(), marks.take());
        state.begun(JobId(1), me, left);
        state.begun(JobId(2), parent, over);
        state.forgotten(JobId(1), true);
        state.forgotten(JobId(2), false);
        let left = left.unique().unwrap();
        assert_eq!(recorded(&state), [left]);
        for _ in 0..=STALE_LINES_MAX {
            state.append("\n");
        }
        assert_eq!(recorded(&state), [left], "written anew");
        state.settle(|mark| mark == left);
        assert_eq!(recorded(&state), [left]);
        state.settle(|_| false);
        assert_eq!(recorded(&state), [0; 0]);
        state.remove();
        fs::remove_dir(&dir).unwrap();
    }

    #[test]
    fn a_long_record_is_written_anew_and_stays_locked() {
        let dir = std::env::temp_dir().join(format!("procring-state-{}", std::process::id()));
        let (mut state, ended) = StateDir::open(&dir, None).unwrap();
        assert_eq!(ended, 0);
        let me = std::process::id() as i32;
        for _ in 0..STALE_LINES_MAX {
            state.begun(JobId(1), me, Mark::none());
            state.forgotten(JobId(1), false);
        }
        state.begun(JobId(2), me, Mark::none());
        let text = fs::read_to_string(&state.path).unwrap();
        assert!(text.lines().count() < STALE_LINES_MAX + 8);
        let leader = Process::new(me, &procfs::stat(me).unwrap());
        assert!(Record::parse(&text).leaders.contains_key(&leader));
        let (mut other, _) = StateDir::open(&dir, None).unwrap();
        assert!(state.path.exists(), "the record of a living server");
        state.remove();
        other.remove();
        fs::remove_dir(&dir).unwrap();
    }

    fn temp(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("procring-{name}-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        dir
    }

    #[test]
    fn names_that_others_put_into_the_directory_are_neither_waited_for_nor_followed() {
        let dir = temp("odd-names");
        let outside = temp("outside");
        let precious = outside.join("precious");
        fs::write(&precious, "as it was").unwrap();
        let fifo = dir.join("1-0.jobs");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &fifo,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RWXU,
            0,
        )
        .unwrap();
        for (name, target) in [
            ("2-0", "/dev/zero"),
            ("3-0", "/dev/ptmx"),
            ("4-0", "/nowhere"),
        ] {
            std::os::unix::fs::symlink(target, dir.join(format!("{name}.jobs"))).unwrap();
        }
        fs::create_dir(dir.join("5-0.jobs")).unwrap();
        // Where this server will write.
        let own = format!("{}-0", std::process::id());
        let [soft, hard] = ["0", "1"].map(|n| dir.join(format!("{}-{n}.new", std::process::id())));
        std::os::unix::fs::symlink(&precious, &soft).unwrap();
        fs::hard_link(&precious, &hard).unwrap();
        let (mut first, _) = StateDir::open(&dir, None).unwrap();
        assert_eq!(first.path, dir.join(format!("{own}.jobs")));
        let (mut second, _) = StateDir::open(&dir, None).unwrap();
        assert_eq!(fs::read_to_string(&precious).unwrap(), "as it was");
        for state in [&mut first, &mut second] {
            assert!(fs::read_to_string(&state.path).unwrap().starts_with("boot"));
            state.remove();
        }
        for dir in [dir, outside] {
            fs::remove_dir_all(dir).unwrap();
        }
    }

    #[test]
    fn nobody_is_ended_whom_another_users_record_names() {
        if !rustix::process::geteuid().is_root() {
            // Nobody else can give a file away.
            return;
        }
        let dir = temp("foreign");
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let pid = child.id() as i32;
        let start = procfs::stat(pid).unwrap().start_ticks;
        let record = format!("{}+{pid} {start} -\n", place());
        let path = dir.join("1-0.jobs");
        fs::write(&path, &record).unwrap();
        std::os::unix::fs::chown(&path, Some(65_534), None).unwrap();
        let (mut state, ended) = StateDir::open(&dir, None).unwrap();
        assert_eq!(ended, 0);
        assert!(path.exists());
        state.remove();
        std::os::unix::fs::chown(&path, Some(0), None).unwrap();
        let (mut state, ended) = StateDir::open(&dir, None).unwrap();
        assert_eq!(ended, 1, "it is this user's own now");
        state.remove();
        child.wait().unwrap();
        fs::remove_dir(&dir).unwrap();
    }

    #[test]
    fn a_record_that_there_was_no_room_for_is_whole_when_there_is() {
        let dir = temp("full");
        let (mut state, _) = StateDir::open(&dir, None).unwrap();
        let me = std::process::id() as i32;
        let parent = rustix::process::getppid().unwrap().as_raw_nonzero().get();
        state.file = OpenOptions::new().write(true).open("/dev/full").unwrap();
        // Nor is there for a new one.
        let new = state.path.with_extension("new");
        fs::create_dir(&new).unwrap();
        state.begun(JobId(1), me, Mark::none());
        let text = fs::read_to_string(&state.path).unwrap();
        assert!(Record::parse(&text).leaders.is_empty());
        fs::remove_dir(&new).unwrap();
        state.begun(JobId(2), parent, Mark::none());
        let text = fs::read_to_string(&state.path).unwrap();
        let leaders = Record::parse(&text).leaders;
        for pid in [me, parent] {
            let leader = Process::new(pid, &procfs::stat(pid).unwrap());
            assert!(leaders.contains_key(&leader));
        }
        state.remove();
        fs::remove_dir(&dir).unwrap();
    }
}
