//! What a process has used.

/// Of whom a [`Used`] tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsageScope {
    /// Of the whole tree, which has a cgroup.
    Tree,
    /// Of the first process, with those that it or the server has reaped.
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

/// What the kernel says that a process and its tree have used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    /// Of whom this tells.
    pub scope: UsageScope,
    /// The most memory that was in use, in bytes: of the tree where its cgroup counts memory,
    /// otherwise of the largest process. None where it cannot be told.
    pub max_rss_bytes: Option<u64>,
    /// Microseconds on a processor, of its own.
    pub user_cpu_us: u64,
    /// Microseconds on a processor, of the kernel for it.
    pub system_cpu_us: u64,
    /// Processes that are alive now.
    pub processes: u32,
}

/// The same, and what went through the server, as clients are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// What the kernel says.
    pub used: Used,
    /// Input that went through the server.
    pub input_bytes: u64,
    /// Output that went through the server.
    pub output_bytes: u64,
    /// Who follows its output now.
    pub followers: u32,
}
