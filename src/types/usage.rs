//! What a process has used.

/// Of whom a [`Usage`] tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsageScope {
    /// Of the whole tree, which has a cgroup.
    Tree,
    /// Of those that have been reaped.
    Reaped,
}

impl UsageScope {
    /// As clients are told.
    pub fn name(self) -> &'static str {
        match self {
            UsageScope::Tree => "tree",
            UsageScope::Reaped => "reaped",
        }
    }
}

/// What a process has used, as clients are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Of whom this tells.
    pub scope: UsageScope,
    /// The most memory that was resident, in bytes; None where it cannot be told.
    pub max_rss_bytes: Option<u64>,
    /// Microseconds on a processor, of its own.
    pub user_cpu_us: u64,
    /// Microseconds on a processor, of the kernel for it.
    pub system_cpu_us: u64,
    /// Processes that are alive now.
    pub processes: u32,
    /// Input that went through the server.
    pub input_bytes: u64,
    /// Output that went through the server.
    pub output_bytes: u64,
}
