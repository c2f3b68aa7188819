//! The server steps out of the group that it was started in, into one of its own below.
//!
//! In: the group, and that of the children. Out: nobody is in the first one, so that controllers can be
//! switched on below it (cgroups(7), "no internal processes"). Owns the group that the server moves to.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, Ordering};

use super::ours;

/// Follows the name of the children's group.
pub(super) const SUFFIX: &str = "-server";

/// Why controllers cannot be switched on.
#[derive(Debug)]
pub(super) enum Refusal {
    /// This controller is not there to be switched on.
    NoController(&'static str),
    /// So many other processes are in the server's group.
    NotAlone(usize),
    /// What the kernel said.
    Kernel(io::Error),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NoController(name) => write!(f, "the {name} controller is not delegated"),
            Refusal::NotAlone(others) => {
                write!(f, "other processes in the server's group: {others}")
            }
            Refusal::Kernel(error) => error.fmt(f),
        }
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Kernel(error)
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Aside {
    /// Where the server was.
    parent: PathBuf,
    /// Where it is.
    own: PathBuf,
}

impl Aside {
    /// Moves the server, if it is alone in `parent`.
    ///
    /// # Errors
    /// Why not; then everything is as it was.
    pub(super) fn step(parent: &Path, children: &Path) -> Result<Self, Refusal> {
        check_alone(parent)?;
        let aside = Self {
            parent: parent.to_owned(),
            own: beside(children),
        };
        let made = match fs::create_dir(&aside.own) {
            // Made by a server that is gone, of the same keeper.
            Err(error) if may_be_there(&error) => Ok(()),
            made => made,
        };
        let moved = made.and_then(|()| move_to(&aside.own));
        match moved {
            Ok(()) => {
                if let Ok(own) = fs::File::open(&aside.own) {
                    ours::mark(&own);
                }
                Ok(aside)
            }
            Err(error) => {
                aside.back();
                Err(Refusal::Kernel(error))
            }
        }
    }

    /// Where the server is.
    pub(super) fn own(&self) -> &Path {
        &self.own
    }

    /// Moves it back.
    pub(super) fn back(&self) {
        let _ = move_to(&self.parent);
        let _ = fs::remove_dir(&self.own);
    }
}

/// Whether nobody but this process is in `group`.
///
/// # Errors
/// How many others are.
pub(super) fn check_alone(group: &Path) -> Result<(), Refusal> {
    let us = us();
    let members = fs::read_to_string(group.join("cgroup.procs"))?;
    // Those of other pid namespaces are shown as 0.
    match members
        .lines()
        .filter(|pid| !us.iter().any(|us| us == pid))
        .count()
    {
        0 => Ok(()),
        others => Err(Refusal::NotAlone(others)),
    }
}

/// The keeper, if there is one.
static KEEPER: AtomicI32 = AtomicI32::new(0);

/// The server is not alone, but with its keeper.
pub(super) fn with_keeper(keeper: i32) {
    KEEPER.store(keeper, Ordering::Relaxed);
}

/// Whether a group that cannot be made for this reason is that of a server which is gone, of the same
/// keeper.
pub(super) fn may_be_there(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AlreadyExists && KEEPER.load(Ordering::Relaxed) != 0
}

/// This process, and its keeper.
fn us() -> Vec<String> {
    let own = std::process::id().to_string();
    let keeper = Some(KEEPER.load(Ordering::Relaxed)).filter(|keeper| *keeper != 0);
    let keeper = keeper.map(|keeper| keeper.to_string());
    std::iter::once(own).chain(keeper).collect()
}

fn move_to(group: &Path) -> io::Result<()> {
    us().into_iter()
        .try_for_each(|pid| fs::write(group.join("cgroup.procs"), pid))
}

/// Where a server is whose children are in `children`.
fn beside(children: &Path) -> PathBuf {
    let mut own = children.to_owned().into_os_string();
    own.push(SUFFIX);
    own.into()
}

/// Removes the group that a killed server was in, unless somebody is.
pub(super) fn remove_left_behind(children: &Path) {
    let _ = fs::remove_dir(beside(children));
}
