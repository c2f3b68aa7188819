//! The bounds that a tree has by its group, and the files that they are written to.
//!
//! In: limits that a request asks for, and those that children are to see anyway. Out: which
//! controllers keep them, and what stands in their files (Documentation/admin-guide/cgroup-v2.rst).

use super::limits::Limits as Shown;
use crate::types::{Limit, Limits};

/// A controller that keeps limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Controller {
    /// Memory and swap.
    Memory,
    /// Processor time.
    Cpu,
    /// Processes.
    Pids,
}

impl Controller {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Memory, Self::Cpu, Self::Pids];

    /// As the kernel calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Pids => "pids",
        }
    }
}

/// What a tree may use; None is no bound of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Bytes.
    pub memory: Option<u64>,
    /// Bytes. None is nothing where there is a bound on memory: what is swapped out is memory all the
    /// same, and a tree that may swap is slow instead of ended.
    pub swap: Option<u64>,
    /// Thousandths of a processor.
    pub cpu_millis: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
}

/// The usual period of a quota, in microseconds.
const PERIOD_US: u64 = 100_000;

/// The longest period. With it a quota of the least that the kernel takes, 1000 us, is a thousandth.
const PERIOD_MAX_US: u64 = 1_000_000;

/// Quotas below this are not taken.
const QUOTA_MIN_US: u64 = 1000;

/// A quota of more processors than there can be is none.
const CPU_MILLIS_MAX: u64 = 1_000_000_000;

/// `pids.max` takes no more (PID_MAX_LIMIT), and there cannot be more.
const PIDS_MAX: u64 = 4 << 20;

/// What stands in a file where there is no bound.
const NONE: &str = "max";

impl From<&Limits> for Bounds {
    fn from(limits: &Limits) -> Self {
        Self {
            memory: limits.get(Limit::MemoryBytes),
            swap: limits.get(Limit::SwapBytes),
            cpu_millis: limits.get(Limit::CpuMillis),
            pids: limits.get(Limit::Pids),
        }
    }
}

impl Bounds {
    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Who keeps them.
    pub(crate) fn controllers(&self) -> impl Iterator<Item = Controller> {
        let memory = self.memory.is_some() || self.swap.is_some();
        let (cpu, pids) = (self.cpu_millis.is_some(), self.pids.is_some());
        let wanted = [memory, cpu, pids];
        let all = Controller::ALL.into_iter().zip(wanted);
        all.filter_map(|(controller, wanted)| wanted.then_some(controller))
    }

    /// What is to stand in the files of a group that shows `shown` anyway.
    pub(super) fn files(&self, shown: &Shown) -> Vec<(&'static str, String)> {
        let mut files = Vec::new();
        let mut add = |file, text: Option<String>| files.extend(text.map(|text| (file, text)));
        let memory = tighter(self.memory, shown.memory_max());
        add("memory.max", memory.map(|bytes| bytes.to_string()));
        add(
            "memory.high",
            shown.memory_high().map(|bytes| bytes.to_string()),
        );
        let swap = self.swap.or(self.memory.map(|_| 0));
        add("memory.swap.max", swap.map(|bytes| bytes.to_string()));
        add("cpu.max", self.cpu_max(shown));
        add("pids.max", self.pids.map(pids_max));
        files
    }

    fn cpu_max(&self, shown: &Shown) -> Option<String> {
        let own = self.cpu_millis.map(|millis| {
            let millis = millis.min(CPU_MILLIS_MAX);
            let quota = |period: u64| millis * period / 1000;
            match quota(PERIOD_US) {
                QUOTA_MIN_US.. => (quota(PERIOD_US), PERIOD_US),
                _ => (quota(PERIOD_MAX_US).max(QUOTA_MIN_US), PERIOD_MAX_US),
            }
        });
        let Some((quota, period)) = own else {
            return shown.cpu_max();
        };
        Some(
            shown
                .cpu_max_below(quota, period)
                .unwrap_or(format!("{quota} {period}")),
        )
    }

    /// Whether a group of theirs may be used again for others: what is left of a quota of processor
    /// time and what was swapped out is not seen.
    pub(super) fn leave_nothing(&self) -> bool {
        self.cpu_millis.is_none() && self.swap.is_none_or(|swap| swap == 0)
    }

    /// What is to be written into a group that has these bounds so that it has `others`, as far as
    /// both [leave nothing](Bounds::leave_nothing).
    pub(super) fn changes_to(&self, others: &Self, shown: &Shown) -> Vec<(&'static str, String)> {
        let mut files = Vec::new();
        let mut change = |file, from: Option<String>, to: Option<String>| {
            if from != to {
                files.push((file, to.unwrap_or_else(|| NONE.to_owned())));
            }
        };
        let file = |of: &Self, name: &str| {
            let mut all = of.files(shown).into_iter();
            all.find_map(|(file, text)| (file == name).then_some(text))
        };
        for name in ["memory.max", "memory.swap.max", "pids.max"] {
            change(name, file(self, name), file(others, name));
        }
        files
    }
}

fn pids_max(pids: u64) -> String {
    match pids {
        0..PIDS_MAX => pids.to_string(),
        _ => NONE.to_owned(),
    }
}

fn tighter(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::cgroup::testing::Tree;

    fn text(files: Vec<(&'static str, String)>) -> String {
        let lines = files.iter().map(|(file, text)| format!("{file}={text}"));
        lines.collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn bounds_stand_in_the_files_of_their_controllers_and_memory_takes_swap_with_it() {
        let none = Shown::default();
        assert_eq!(text(Bounds::default().files(&none)), "");
        let all = Bounds {
            memory: Some(64 << 20),
            swap: Some(5),
            cpu_millis: Some(1500),
            pids: Some(50),
        };
        assert_eq!(
            text(all.files(&none)),
            "memory.max=67108864, memory.swap.max=5, cpu.max=150000 100000, pids.max=50"
        );
        let names: Vec<_> = all.controllers().map(Controller::name).collect();
        assert_eq!(names, ["memory", "cpu", "pids"]);
        let memory = Bounds {
            memory: Some(1),
            ..Bounds::default()
        };
        assert_eq!(text(memory.files(&none)), "memory.max=1, memory.swap.max=0");
        assert_eq!(memory.controllers().count(), 1);
    }

    #[test]
    fn small_and_great_numbers_are_what_the_kernel_takes() {
        let cpu = |cpu_millis| {
            let bounds = Bounds {
                cpu_millis: Some(cpu_millis),
                ..Bounds::default()
            };
            text(bounds.files(&Shown::default()))
        };
        assert_eq!(cpu(1), "cpu.max=1000 1000000");
        assert_eq!(cpu(9), "cpu.max=9000 1000000");
        assert_eq!(cpu(10), "cpu.max=1000 100000");
        assert_eq!(cpu(u64::MAX), "cpu.max=100000000000 100000");
        for (pids, shown) in [(1, "1"), (4_194_303, "4194303"), (u64::MAX, "max")] {
            let bounds = Bounds {
                pids: Some(pids),
                ..Bounds::default()
            };
            let file = text(bounds.files(&Shown::default()));
            assert_eq!(file, format!("pids.max={shown}"));
        }
    }

    #[test]
    fn a_tighter_limit_of_the_servers_own_group_holds() {
        let tree = Tree::new("bounds");
        let own = tree.group("own");
        tree.write("own/memory.max", "1000\n");
        tree.write("own/memory.high", "900\n");
        tree.write("own/cpu.max", "50000 100000\n");
        let shown = Shown::of(&own, tree.top());
        let bounds = |memory, cpu_millis| {
            let bounds = Bounds {
                memory,
                cpu_millis,
                ..Bounds::default()
            };
            text(bounds.files(&shown))
        };
        let high = "memory.high=900";
        assert_eq!(
            bounds(Some(5000), Some(600)),
            format!("memory.max=1000, {high}, memory.swap.max=0, cpu.max=50000 100000")
        );
        assert_eq!(
            bounds(None, Some(200)),
            format!("memory.max=1000, {high}, cpu.max=20000 100000")
        );
    }

    #[test]
    fn what_differs_is_written_into_a_group_that_is_used_again() {
        let shown = Shown::default();
        let one = Bounds {
            memory: Some(1),
            ..Bounds::default()
        };
        let other = Bounds {
            pids: Some(3),
            ..Bounds::default()
        };
        assert_eq!(text(one.changes_to(&one, &shown)), "");
        assert_eq!(
            text(one.changes_to(&other, &shown)),
            "memory.max=max, memory.swap.max=max, pids.max=3"
        );
        assert_eq!(
            text(other.changes_to(&one, &shown)),
            "memory.max=1, memory.swap.max=0, pids.max=max"
        );
        let both = Bounds {
            pids: Some(3),
            ..one
        };
        assert_eq!(text(both.changes_to(&one, &shown)), "pids.max=max");
        assert!(both.leave_nothing());
        let swapping = Bounds {
            swap: Some(1),
            ..one
        };
        assert!(!swapping.leave_nothing());
    }
}
