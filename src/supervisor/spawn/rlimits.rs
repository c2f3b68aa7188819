//! Limits that a process sets on itself and that its children inherit (setrlimit(2)).
//!
//! In: the limits of a tree. Out: those of them that are resource limits, in the form that the
//! kernel takes; a child sets them on itself. RLIMIT_LOCKS is none of them: it is the mark of a tree.

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::types::{Limit, Limits};

/// Resource limits among all limits.
const OF_PROCESSES: [(Limit, Resource); 5] = [
    (Limit::Nofile, Resource::Nofile),
    (Limit::FileBytes, Resource::Fsize),
    (Limit::CoreBytes, Resource::Core),
    (Limit::AddressSpaceBytes, Resource::As),
    (Limit::CpuSeconds, Resource::Cpu),
];

/// Between SIGXCPU, which a program may handle, and SIGKILL.
const CPU_GRACE_SECONDS: u64 = 5;

/// The kernel counts nanoseconds in 64 bits: more seconds than this (300 years) would overflow.
const CPU_SECONDS_MAX: u64 = 10_000_000_000;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Rlimits(Box<[(Resource, Rlimit)]>);

impl Rlimits {
    /// Those of a tree.
    pub(crate) fn new(limits: &Limits) -> Self {
        let own = OF_PROCESSES.into_iter().filter_map(|(limit, resource)| {
            let value = limits.get(limit)?;
            let rlimit = match limit {
                Limit::CpuSeconds => {
                    let hard = getrlimit(resource).maximum.unwrap_or(u64::MAX);
                    let soft = value.min(CPU_SECONDS_MAX);
                    Rlimit {
                        current: Some(soft),
                        maximum: Some((soft + CPU_GRACE_SECONDS).min(hard)),
                    }
                }
                _ => Rlimit {
                    current: Some(value),
                    maximum: Some(value),
                },
            };
            Some((resource, rlimit))
        });
        Self(own.collect())
    }

    /// Sets them on the calling process. Fit for a child between vfork and exec: system calls on
    /// memory that was prepared before. To be called when nothing is to be opened any more.
    ///
    /// # Errors
    /// As setrlimit(2).
    pub(super) fn put_on(&self) -> Result<(), Errno> {
        let mut all = self.0.iter();
        all.try_for_each(|(resource, rlimit)| setrlimit(*resource, *rlimit))
    }
}

/// What this process is held to itself, and its children with it.
pub(crate) fn hard_limits() -> Limits {
    let mut hard = Limits::default();
    for (limit, resource) in OF_PROCESSES {
        hard.set(limit, getrlimit(resource).maximum);
    }
    hard
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_resource_limits_are_taken_and_the_processor_has_a_grace() {
        let limits =
            Limits::parse("pids=1,memoryBytes=1,outputBytesPerSecond=1,nofile=7,cpuSeconds=3");
        let rlimits = Rlimits::new(&limits.unwrap());
        let pairs: Vec<_> = rlimits
            .0
            .iter()
            .map(|(_, rlimit)| (rlimit.current, rlimit.maximum))
            .collect();
        let hard = getrlimit(Resource::Cpu).maximum.unwrap_or(u64::MAX);
        assert_eq!(pairs, [(Some(7), Some(7)), (Some(3), Some(8.min(hard)))]);
    }

    #[test]
    fn more_seconds_than_the_kernel_can_count_are_as_many_as_it_can() {
        let mut limits = Limits::default();
        limits.set(Limit::CpuSeconds, Some(u64::MAX));
        let (_, rlimit) = &Rlimits::new(&limits).0[0];
        assert!(rlimit.current.unwrap().checked_mul(1_000_000_000).is_some());
        assert!(rlimit.maximum.unwrap().checked_mul(1_000_000_000).is_some());
    }
}
