//! Why a child was not started.

use std::fmt;

/// The step that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpawnStage {
    /// An argument, variable or path holds a NUL byte.
    Prepare,
    /// No process could be made (clone(2)).
    Clone,
    /// The session, the descriptors or the terminal could not be set up.
    Stdio,
    /// A limit could not be set (setrlimit(2)).
    Limits,
    /// It could not become another user (setgroups(2), setresgid(2), setresuid(2)).
    User,
    /// There is no cgroup that would keep its limits.
    Group,
    /// The working directory cannot be entered (chdir(2)).
    Cwd,
    /// The program cannot be executed (execve(2)).
    Exec,
}

/// Why there is no child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpawnError {
    /// Where it failed.
    pub stage: SpawnStage,
    /// The errno; 0 for [`SpawnStage::Prepare`], and for [`SpawnStage::Group`] where the server has
    /// told why ([`KeptLimits`](super::KeptLimits)).
    pub errno: i32,
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.stage {
            SpawnStage::Prepare => f.write_str("nul byte found in provided data"),
            SpawnStage::Group if self.errno == 0 => f.write_str("its limits cannot be kept here"),
            SpawnStage::Clone if self.errno == libc::ETIMEDOUT => {
                f.write_str("nothing was started in time, since other starts hang")
            }
            SpawnStage::Exec if self.errno == libc::ETIMEDOUT => {
                f.write_str("the program or its directory did not answer in time")
            }
            _ => write!(f, "{}", std::io::Error::from_raw_os_error(self.errno)),
        }
    }
}

impl std::error::Error for SpawnError {}
