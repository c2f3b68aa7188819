//! Limits of a process and its tree: what they are called and which values they take.
//!
//! In: names and numbers, from JSON, flags or the command line. Out: [`Limits`]. Knows nothing of
//! how any of them is kept to.

use std::fmt;

use super::nearest::nearest;
use super::size;

/// One limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Memory of the whole tree.
    MemoryBytes,
    /// Swap of the whole tree.
    SwapBytes,
    /// Processor time of the whole tree: 1000 is one core.
    CpuMillis,
    /// Processes and threads of the whole tree.
    Pids,
    /// Descriptors of each process (RLIMIT_NOFILE).
    Nofile,
    /// Size of a file that a process writes (RLIMIT_FSIZE).
    FileBytes,
    /// Size of a core dump (RLIMIT_CORE).
    CoreBytes,
    /// Address space of each process (RLIMIT_AS).
    AddressSpaceBytes,
    /// Seconds on a processor of each process (RLIMIT_CPU).
    CpuSeconds,
    /// What is read of all outputs together, in a second.
    OutputBytesPerSecond,
}

impl Limit {
    /// How many there are.
    pub const COUNT: usize = 10;

    /// All of them.
    pub const ALL: [Self; Self::COUNT] = [
        Self::MemoryBytes,
        Self::SwapBytes,
        Self::CpuMillis,
        Self::Pids,
        Self::Nofile,
        Self::FileBytes,
        Self::CoreBytes,
        Self::AddressSpaceBytes,
        Self::CpuSeconds,
        Self::OutputBytesPerSecond,
    ];

    /// Their names, in the same order.
    pub const NAMES: [&'static str; Self::COUNT] = [
        "memoryBytes",
        "swapBytes",
        "cpuMillis",
        "pids",
        "nofile",
        "fileBytes",
        "coreBytes",
        "addressSpaceBytes",
        "cpuSeconds",
        "outputBytesPerSecond",
    ];

    /// As clients call it.
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|limit| limit.name() == name)
    }

    /// Whether the kernel keeps to it by a cgroup of the tree, which not every server has.
    pub fn is_of_group(self) -> bool {
        matches!(
            self,
            Self::MemoryBytes | Self::SwapBytes | Self::CpuMillis | Self::Pids
        )
    }

    /// The least that it may be; where 0 would mean that nothing can run at all, it is no value.
    pub fn least(self) -> u64 {
        match self {
            Self::SwapBytes | Self::FileBytes | Self::CoreBytes => 0,
            _ => 1,
        }
    }
}

/// Limits that are given; the others are absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits([Option<u64>; Limit::COUNT]);

impl Limits {
    /// What this one is to be.
    pub fn get(&self, limit: Limit) -> Option<u64> {
        self.0[limit as usize]
    }

    /// Gives one, or takes it away.
    pub fn set(&mut self, limit: Limit, value: Option<u64>) {
        self.0[limit as usize] = value;
    }

    /// Those that are given.
    pub fn iter(&self) -> impl Iterator<Item = (Limit, u64)> {
        let all = Limit::ALL.into_iter().zip(self.0);
        all.filter_map(|(limit, value)| Some((limit, value?)))
    }

    /// These, and of the others those that are given there.
    pub fn or(&self, others: &Self) -> Self {
        let mut all = *others;
        self.iter()
            .for_each(|(limit, value)| all.set(limit, Some(value)));
        all
    }

    /// Whether none is given.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }

    /// Whether one is given that needs a cgroup.
    pub fn need_group(&self) -> bool {
        self.iter().any(|(limit, _)| limit.is_of_group())
    }

    /// Reads `KEY=VALUE`, several behind commas; values may end in K, M or G.
    ///
    /// # Errors
    /// What must stand there instead.
    pub fn parse(text: &str) -> Result<Self, LimitsError> {
        let mut limits = Self::default();
        for pair in text
            .split(',')
            .map(str::trim)
            .filter(|pair| !pair.is_empty())
        {
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| LimitsError::NoPair(pair.to_owned()))?;
            let (key, value) = (key.trim(), value.trim());
            let limit = Limit::named(key).ok_or_else(|| LimitsError::Unknown(key.to_owned()))?;
            let value = size::parse(value).filter(|value| *value >= limit.least());
            let value = value.ok_or(LimitsError::Value(limit))?;
            limits.set(limit, Some(value));
        }
        Ok(limits)
    }
}

/// Why a text is no limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LimitsError {
    /// It has no `=`.
    NoPair(String),
    /// There is no limit of this name.
    Unknown(String),
    /// This one cannot be so.
    Value(Limit),
}

impl fmt::Display for LimitsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPair(pair) => write!(f, "{pair:?} must be KEY=VALUE, as memoryBytes=64M"),
            Self::Unknown(key) => {
                let names = Limit::NAMES;
                let nearest = nearest(key, names).unwrap_or_default();
                let all = names.join(", ");
                write!(
                    f,
                    "there is no limit {key:?} (nearest: {nearest}), only: {all}"
                )
            }
            Self::Value(limit) => write!(
                f,
                "{} must be a whole number of at least {}, with K, M or G behind it or without",
                limit.name(),
                limit.least()
            ),
        }
    }
}

impl std::error::Error for LimitsError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_has_the_name_that_stands_at_its_place() {
        for (at, limit) in Limit::ALL.into_iter().enumerate() {
            assert_eq!(limit as usize, at);
            assert_eq!(Limit::named(Limit::NAMES[at]), Some(limit));
        }
        assert_eq!(Limit::named("Pids"), None);
    }

    #[test]
    fn a_list_is_read_with_units_and_the_last_one_counts() {
        let limits = Limits::parse("memoryBytes=64M, pids=100,swapBytes=0,pids=7,").unwrap();
        let all: Vec<_> = limits.iter().collect();
        assert_eq!(
            all,
            [
                (Limit::MemoryBytes, 64 << 20),
                (Limit::SwapBytes, 0),
                (Limit::Pids, 7)
            ]
        );
        assert!(limits.need_group());
        assert!(Limits::parse("").unwrap().is_empty());
        assert!(!Limits::parse("nofile=1").unwrap().need_group());
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_can() {
        for (text, part) in [
            ("pids", "KEY=VALUE"),
            ("pid=1", "nearest: pids"),
            ("pids=0", "pids must be a whole number of at least 1"),
            ("pids=-1", "at least 1"),
            ("pids=1.5", "whole number"),
            ("pids=", "whole number"),
            ("coreBytes=x", "at least 0"),
            ("memoryBytes=99999999999G", "memoryBytes"),
        ] {
            let error = Limits::parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        for limit in Limit::ALL {
            let zero = Limits::parse(&format!("{}=0", limit.name()));
            assert_eq!(zero.is_ok(), limit.least() == 0, "{limit:?}");
        }
    }
}
