//! Process ids that go on after a restart (`--state-dir`).
//!
//! In: the ids that have been taken. Out: where a new server begins, behind all that were ever
//! given. Owns one small file. Knows no process.
//!
//! The file holds a number, and the boot in which it was written: no id up to the number is to be
//! given again. It is raised by a block at a time, before the first id of the block is told, so
//! that one create in a thousand costs three system calls and all others none. A server that ends
//! in order lowers it to the last id that it gave.
//!
//! The kernel has what was written, however the server ends. What the machine's end takes away is
//! made good for by a margin: the last half minute of writes may be missing then
//! (`dirty_expire_centisecs`, proc_sys_vm(5)).

use std::fs::{File, OpenOptions, read_to_string};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use crate::supervisor::state_dir::open_plain;

/// The file's name in the state directory.
const NAME: &str = "process-ids";

/// Ids that are taken hold of at once.
const BLOCK: u64 = 1024;

/// Ids that are skipped after another boot: at 1500 creates a second, more than 40 s of them.
const MARGIN: u64 = 1 << 16;

/// Beyond this a number is damage.
const ID_MAX: u64 = 1 << 62;

/// What stands for the boot after an end in order.
const IN_ORDER: &str = "-";

/// Another server holds the lock for as long as it takes to read and write a line.
const LOCK_TRIES: u32 = 200;
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// See the module.
#[derive(Debug)]
pub(crate) struct Ids {
    path: PathBuf,
    file: File,
    boot: String,
    /// No id beyond this one may be told.
    covered: u64,
    /// What other servers hold, as far as it was seen.
    others: u64,
}

impl Ids {
    /// Takes hold of the first block; also returns the last id that may have been given.
    ///
    /// Servers may share the directory: each begins behind what the others hold, and goes on from
    /// its own last id.
    ///
    /// # Errors
    /// When the file cannot be read, written or locked, or is damaged.
    pub(crate) fn open(dir: &Path) -> io::Result<(Self, u64)> {
        let path = dir.join(NAME);
        let mut options = OpenOptions::new();
        let file = open_plain(&path, options.read(true).write(true).create(true))?;
        let boot = read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let mut ids = Self {
            path,
            file,
            boot: boot.trim().to_owned(),
            covered: 0,
            others: 0,
        };
        let mut tries = 0;
        let last = loop {
            match ids.raise(0) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && tries < LOCK_TRIES => {
                    tries += 1;
                    thread::sleep(LOCK_PAUSE);
                }
                result => break result?,
            }
        };
        // The file itself must outlive the machine; what is written later has the margin.
        ids.file.sync_all()?;
        Ok((ids, last))
    }

    /// Where the file is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes sure that no other server will give an id up to `id`. Begins well before that is
    /// needed, so that a refusal of the disk can pass.
    ///
    /// # Errors
    /// When `id` is not covered and the file cannot be written.
    pub(crate) fn cover(&mut self, id: u64) -> io::Result<()> {
        if id.saturating_add(BLOCK / 2) <= self.covered {
            return Ok(());
        }
        match self.raise(id) {
            Err(error) if id > self.covered => Err(error),
            _ => Ok(()),
        }
    }

    /// The server ends in order; `last` is the last id that it gave.
    pub(crate) fn end(self, last: u64) {
        let _ = self.locked(|ids| {
            // Else another server has begun behind this one, and the number is its own.
            if ids.read()?.0 == ids.covered {
                let alone = ids.others <= last;
                ids.write(
                    last.max(ids.others),
                    if alone { IN_ORDER } else { &ids.boot },
                )?;
                ids.file.sync_all()?;
            }
            Ok(())
        });
    }

    /// Takes hold of a block behind `id` and all that is held; returns where it begins.
    fn raise(&mut self, id: u64) -> io::Result<u64> {
        let (found, last) = self.locked(|ids| {
            let (number, boot) = ids.read()?;
            let found = if boot == ids.boot || boot == IN_ORDER {
                number
            } else {
                number + MARGIN
            };
            let last = found.max(id);
            ids.write(last + BLOCK, &ids.boot)?;
            Ok((found, last))
        })?;
        if found != self.covered {
            self.others = found;
        }
        self.covered = last + BLOCK;
        Ok(last)
    }

    /// Never waits: who holds the lock may be stopped.
    fn locked<T>(&self, f: impl FnOnce(&Self) -> io::Result<T>) -> io::Result<T> {
        flock(&self.file, FlockOperation::NonBlockingLockExclusive)?;
        let result = f(self);
        let _ = flock(&self.file, FlockOperation::Unlock);
        result
    }

    /// The number and the boot; 0 for a file that was just made.
    fn read(&self) -> io::Result<(u64, String)> {
        let mut line = [0; 128];
        let len = self.file.read_at(&mut line, 0)?;
        let text = std::str::from_utf8(&line[..len]).unwrap_or_default();
        if len == 0 {
            return Ok((0, IN_ORDER.to_owned()));
        }
        let fields = text.trim_end().split_once(' ');
        fields
            .and_then(|(number, boot)| Some((number.parse().ok()?, boot.trim_start().to_owned())))
            .filter(|(number, _)| *number <= ID_MAX)
            .ok_or_else(|| {
                let message = format!(
                    "{} is damaged; write the number of an id beyond all that were given and \" -\" \
                     into it, or remove it to begin again with proc_1",
                    self.path.display()
                );
                io::Error::new(io::ErrorKind::InvalidData, message)
            })
    }

    /// One write of always the same length, over the last one.
    fn write(&self, number: u64, boot: &str) -> io::Result<()> {
        let line = format!("{number:020} {boot:<36}\n");
        self.file.write_all_at(line.as_bytes(), 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A directory of one test.
    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let name = format!("procring-ids-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn open(&self) -> (Ids, u64) {
            Ids::open(&self.0).unwrap()
        }

        fn number(&self) -> u64 {
            self.text().split_once(' ').unwrap().0.parse().unwrap()
        }

        fn text(&self) -> String {
            fs::read_to_string(self.0.join(NAME)).unwrap()
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn an_end_in_order_leaves_no_gap_and_a_crash_no_repetition() {
        let dir = Dir::new("order");
        let (mut ids, last) = dir.open();
        assert_eq!(last, 0);
        for id in 1..=3000 {
            ids.cover(id).unwrap();
            assert!(ids.covered >= id);
        }
        ids.end(3000);
        let (mut ids, last) = dir.open();
        assert_eq!(last, 3000);
        ids.cover(3001).unwrap();
        drop(ids);
        let (_, last) = dir.open();
        assert!((3001..3001 + 2 * BLOCK).contains(&last), "{last}");
    }

    #[test]
    fn a_block_is_taken_hold_of_once() {
        let dir = Dir::new("once");
        let (mut ids, _) = dir.open();
        let mut changes = 0;
        let mut before = dir.text();
        for id in 1..=10 * BLOCK {
            ids.cover(id).unwrap();
            if id % 64 == 0 && dir.text() != before {
                before = dir.text();
                changes += 1;
            }
        }
        assert!(changes <= 20, "{changes}");
    }

    #[test]
    fn servers_that_share_the_directory_do_not_lower_each_others_numbers() {
        let dir = Dir::new("share");
        let (mut one, a) = dir.open();
        let (mut two, b) = dir.open();
        assert_eq!((a, b), (0, BLOCK));
        one.cover(BLOCK).unwrap();
        two.cover(2 * BLOCK).unwrap();
        let (held_by_one, held_by_two) = (one.covered, two.covered);
        assert!(held_by_two > held_by_one);
        // The number is that of two.
        one.end(700);
        assert_eq!(dir.number(), held_by_two);
        // And below it stand those that one may have given.
        two.end(b + 5);
        assert_eq!(dir.number(), held_by_one);
    }

    #[test]
    fn another_boot_skips_what_may_not_have_been_written() {
        let dir = Dir::new("boot");
        let (mut ids, _) = dir.open();
        ids.cover(5).unwrap();
        let number = ids.covered;
        ids.boot = "another".to_owned();
        ids.write(number, &ids.boot).unwrap();
        let (_, last) = dir.open();
        assert_eq!(last, number + MARGIN);
        // In the same boot, and after an end in order, nothing is.
        assert_eq!(dir.open().1, last + BLOCK);
    }

    #[test]
    fn a_disk_that_refuses_is_felt_only_when_the_block_is_used_up() {
        let dir = Dir::new("refuses");
        let (mut ids, _) = dir.open();
        let path = ids.path().to_owned();
        // A descriptor that cannot be written stands for a disk that cannot.
        ids.file = File::open(path).unwrap();
        for id in 1..=BLOCK {
            ids.cover(id).unwrap();
        }
        assert!(ids.cover(BLOCK + 1).is_err());
    }

    #[test]
    fn damage_is_told_and_not_guessed_at() {
        let dir = Dir::new("damage");
        for text in ["x -", "5", "-1 -", "99999999999999999999 -", "\u{fc}\u{fc}"] {
            fs::write(dir.0.join(NAME), text).unwrap();
            let error = Ids::open(&dir.0).unwrap_err();
            assert!(error.to_string().contains("is damaged"), "{text}: {error}");
        }
        fs::write(dir.0.join(NAME), "5 -").unwrap();
        assert_eq!(dir.open().1, 5);
    }
}
