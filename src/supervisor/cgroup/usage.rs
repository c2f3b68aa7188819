//! What the members of a group have used: `cpu.stat` and, where memory is counted, `memory.peak`.
//!
//! Both count from the making of the group, and a group is used again. So what it showed before a job
//! is subtracted from processor times; the peak is told of a group's first job only.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::Ordering;

use super::Group;
use rustix::fs::{Mode, OFlags, openat};

/// Time on processors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Processor {
    /// Microseconds of the programs' own.
    pub user_us: u64,
    /// Microseconds of the kernel for them.
    pub system_us: u64,
}

impl Processor {
    /// What has been used since it was `before`.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            user_us: self.user_us.saturating_sub(before.user_us),
            system_us: self.system_us.saturating_sub(before.system_us),
        }
    }

    fn parse(text: &[u8]) -> Option<Self> {
        Some(Self {
            user_us: value(text, b"user_usec")?,
            system_us: value(text, b"system_usec")?,
        })
    }
}

impl Group {
    /// What its members have used since it was made.
    pub(crate) fn processor(&self) -> Option<Processor> {
        Processor::parse(self.read("cpu.stat")?.bytes())
    }

    /// The most memory that its members had in use together; None where that is not counted.
    pub(crate) fn memory_peak(&self) -> Option<u64> {
        if self.had_others.load(Ordering::Relaxed) {
            return None;
        }
        let text = self.read("memory.peak")?;
        std::str::from_utf8(text.bytes()).ok()?.trim().parse().ok()
    }

    /// Keeps these files open, if it is open itself.
    pub(super) fn hold(&self, names: &[&'static str]) {
        let Some(open) = self.open.as_ref().filter(|_| self.held.get().is_none()) else {
            return;
        };
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = |&name: &&'static str| {
            let file = openat(&open.dir, name, flags, Mode::empty()).ok()?;
            Some((name, file))
        };
        let _ = self.held.set(names.iter().filter_map(file).collect());
    }

    /// Writes to one of its files.
    pub(super) fn write(&self, name: &str, text: &str) -> io::Result<()> {
        let Some(open) = &self.open else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let file = openat(&open.dir, name, flags, Mode::empty())?;
        rustix::io::write(file, text.as_bytes())?;
        Ok(())
    }

    /// The beginning of one of its files.
    pub(super) fn read(&self, name: &str) -> Option<Text> {
        let held = self.held.get().into_iter().flatten();
        if let Some((_, file)) = held.into_iter().find(|(held, _)| *held == name) {
            return Text::of(file.as_fd());
        }
        match &self.open {
            Some(open) => Text::read(open.dir.as_fd(), name),
            None => {
                let dir = self.dir().ok()?;
                Text::read(dir.as_fd(), name)
            }
        }
    }
}

/// The beginning of a file, which is most often all of it.
pub(super) struct Text {
    bytes: [u8; 1024],
    len: usize,
}

impl Text {
    fn read(dir: BorrowedFd<'_>, name: &str) -> Option<Self> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = openat(dir, name, flags, Mode::empty()).ok()?;
        Self::of(file.as_fd())
    }

    fn of(file: BorrowedFd<'_>) -> Option<Self> {
        let mut bytes = [0; 1024];
        let len = rustix::io::pread(file, &mut bytes[..], 0).ok()?;
        Some(Self { bytes, len })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// The number behind a key, as `oom_kill 3` has it on a line of its own.
pub(super) fn value(text: &[u8], key: &[u8]) -> Option<u64> {
    let line = text.split(|&byte| byte == b'\n').find_map(|line| {
        let rest = line.strip_prefix(key)?;
        rest.strip_prefix(b" ")
    })?;
    std::str::from_utf8(line).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_whatever_else_stands_there() {
        let text = b"usage_usec 30\nuser_usec 10\nsystem_usec 20\nnice_usec 0\nnr_periods 0\n";
        let processor = Processor::parse(text).unwrap();
        assert_eq!((processor.user_us, processor.system_us), (10, 20));
        let before = Processor {
            user_us: 4,
            system_us: 21,
        };
        let since = processor.since(before);
        assert_eq!((since.user_us, since.system_us), (6, 0));
        for broken in [
            "",
            "user_usec 1\n",
            "user_usec x\nsystem_usec 1\n",
            "xuser_usec 1\n",
        ] {
            assert_eq!(Processor::parse(broken.as_bytes()), None, "{broken:?}");
        }
    }
}
