//! The limits that a container or a unit has by its cgroup, as programs look for them.
//!
//! In: the server's group and those above it. Out: the tightest [`Limits`], and the files of a group
//! that shows them. Moves nobody.
//!
//! Many programs size themselves by the files of their own group only (Node.js 20 and Java 17 their
//! heap, Java its threads). A group without the controllers has no such files, so a program in it
//! believes in all of the machine, and meets the OOM killer where it would have collected garbage.
//! What programs learn in another way needs no handing on: cpuset by sched_getaffinity(2), and
//! nobody sizes itself by pids.max.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

/// What is limited; None is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Limits {
    /// Bytes.
    memory_max: Option<u64>,
    /// Bytes.
    memory_high: Option<u64>,
    cpu_max: Option<Quota>,
}

/// Microseconds of CPU in each period of so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Quota {
    quota: u64,
    period: u64,
}

impl Limits {
    /// The tightest that hold for members of the group at `own`: its own and those of the groups
    /// above it, up to the one at `top`. The root of the hierarchy has no such files.
    pub(super) fn of(own: &Path, top: &Path) -> Self {
        let groups = own.ancestors().take_while(|group| group.starts_with(top));
        groups.fold(Self::default(), |tightest, group| {
            let read = |file| fs::read_to_string(group.join(file)).ok();
            let bytes = |file| read(file).and_then(|text| text.trim().parse().ok());
            let quota = read("cpu.max").and_then(|text| Quota::parse(&text));
            Self {
                memory_max: tighter(tightest.memory_max, bytes("memory.max"), |a, b| a < b),
                memory_high: tighter(tightest.memory_high, bytes("memory.high"), |a, b| a < b),
                cpu_max: tighter(tightest.cpu_max, quota, Quota::is_below),
            }
        })
    }

    /// Whether there is any.
    pub(super) fn is_some(&self) -> bool {
        *self != Self::default()
    }

    /// Bytes.
    pub(super) fn memory_max(&self) -> Option<u64> {
        self.memory_max
    }

    /// Bytes.
    pub(super) fn memory_high(&self) -> Option<u64> {
        self.memory_high
    }

    /// As `cpu.max` has it.
    pub(super) fn cpu_max(&self) -> Option<String> {
        self.cpu_max.map(|quota| quota.to_string())
    }

    /// The same, if it is tighter than this.
    pub(super) fn cpu_max_below(&self, quota: u64, period: u64) -> Option<String> {
        let other = Quota { quota, period };
        let own = self.cpu_max.filter(|own| own.is_below(&other))?;
        Some(own.to_string())
    }

    /// The controllers whose files show them.
    pub(super) fn controllers(&self) -> Vec<&'static str> {
        let memory = self.memory_max.is_some() || self.memory_high.is_some();
        let named = [(memory, "memory"), (self.cpu_max.is_some(), "cpu")];
        let wanted = named.into_iter().filter(|(wanted, _)| *wanted);
        wanted.map(|(_, name)| name).collect()
    }

    /// Writes them into the files of the group at `group`, whose controllers are on.
    ///
    /// # Errors
    /// As open(2) and write(2).
    pub(super) fn write(&self, group: &Path) -> io::Result<()> {
        self.files()
            .try_for_each(|(file, text)| fs::write(group.join(file), text))
    }

    fn files(&self) -> impl Iterator<Item = (&'static str, String)> {
        [
            ("memory.max", self.memory_max.map(|max| max.to_string())),
            ("memory.high", self.memory_high.map(|high| high.to_string())),
            ("cpu.max", self.cpu_max.map(|max| max.to_string())),
        ]
        .into_iter()
        .filter_map(|(file, text)| Some((file, text?)))
    }
}

/// As `memory.max 536870912, cpu.max 50000 100000`.
impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (file, text)) in self.files().enumerate() {
            write!(f, "{}{file} {text}", if n > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}

fn tighter<T>(one: Option<T>, other: Option<T>, is_below: impl Fn(&T, &T) -> bool) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) if is_below(&other, &one) => Some(other),
        (one, other) => one.or(other),
    }
}

impl Quota {
    /// `max` is no limit.
    fn parse(text: &str) -> Option<Self> {
        let (quota, period) = text.trim().split_once(' ')?;
        let (quota, period) = (quota.parse().ok()?, period.parse().ok()?);
        (period > 0).then_some(Self { quota, period })
    }

    fn is_below(&self, other: &Self) -> bool {
        let share = |of: &Self, by: &Self| u128::from(of.quota) * u128::from(by.period);
        share(self, other) < share(other, self)
    }
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.quota, self.period)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::cgroup::testing::Tree;

    #[test]
    fn the_tightest_of_all_groups_above_holds() {
        let tree = Tree::new("tightest");
        let own = tree.group("slice/box");
        let limits = || Limits::of(&own, tree.top());
        assert!(!limits().is_some(), "files are missing, as in the root");
        tree.write("slice/memory.max", "max\n");
        tree.write("slice/box/cpu.max", "max 100000\n");
        assert!(!limits().is_some());
        tree.write("slice/memory.max", "1000\n");
        tree.write("slice/box/memory.max", "2000\n");
        tree.write("slice/box/memory.high", "500\n");
        // Half a core of a second is tighter than 0.6 of a tenth.
        tree.write("slice/cpu.max", "500000 1000000\n");
        tree.write("slice/box/cpu.max", "60000 100000\n");
        let text = "memory.max 1000, memory.high 500, cpu.max 500000 1000000";
        assert_eq!(limits().to_string(), text);
        assert_eq!(limits().controllers(), ["memory", "cpu"]);
        // What is above the mount is nobody's to see.
        assert_eq!(
            Limits::of(&own, &own).to_string(),
            "memory.max 2000, memory.high 500, cpu.max 60000 100000"
        );
    }

    #[test]
    fn text_that_is_no_limit_is_none() {
        for text in ["", "max", "max 100000", "5", "5 0", "-1 5", "x 100000"] {
            assert_eq!(Quota::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn limits_that_are_written_are_read_again() {
        let tree = Tree::new("written");
        let (own, other) = (tree.group("own"), tree.group("other"));
        tree.write("own/memory.high", "7\n");
        tree.write("own/cpu.max", "1 2\n");
        let limits = Limits::of(&own, tree.top());
        limits.write(&other).unwrap();
        assert_eq!(Limits::of(&other, tree.top()), limits);
        assert_eq!(limits.controllers(), ["memory", "cpu"]);
        assert!(!other.join("memory.max").exists());
    }
}
