//! What to start: program, arguments, environment, directory and descriptors.
//!
//! In: what a request asks for. Out: a [`SpawnSpec`] with everything that needs memory prepared,
//! so that a child between clone and exec needs none. Starts nothing.

use std::ffi::{CStr, CString, OsStr};
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use rustix::fs::{FileType, fchown, fstat, major};

use crate::supervisor::spawn::environment::{Environment, pair};
use crate::supervisor::spawn::rlimits::Rlimits;
use crate::supervisor::spawn::search::{self, Search};
use crate::supervisor::spawn::user::User;
use crate::supervisor::tree::claims::FileId;
use crate::types::{Credentials, Limits, SpawnError, SpawnStage};

/// `PATH` when neither the request nor the server has one (`confstr(_CS_PATH)`).
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// Device numbers of pseudoterminals' slaves (Documentation/admin-guide/devices.txt).
const TERMINAL_MAJORS: RangeInclusive<u32> = 136..=143;

/// What to start.
#[derive(Debug)]
pub(crate) struct SpawnSpec {
    pub(crate) argv: Vec<CString>,
    pub(crate) cwd: Option<CString>,
    pub(crate) stdio: Stdio,
    base: Arc<Environment>,
    /// `NAME=value`, on top of `base`.
    own: Vec<CString>,
    /// Names that are in `own`, sorted.
    own_names: Vec<String>,
    path: Path,
    held: Held,
}

/// What a child is held to, and who it is, where a request says so. Few do.
#[derive(Debug, Default)]
struct Held {
    limits: Option<Box<Limits>>,
    rlimits: Rlimits,
    user: Option<Box<User>>,
}

/// Where the PATH is in which the program is looked for.
#[derive(Clone, Copy, Debug)]
enum Path {
    /// The program's name has a slash.
    Unused,
    /// Among the request's own variables, at this place.
    Own(usize),
    /// Among the server's.
    Base,
    /// Nowhere.
    Default,
}

/// What becomes descriptors 0, 1 and 2.
#[derive(Debug)]
pub(crate) enum Stdio {
    /// One each.
    Separate(Box<[OwnedFd; 3]>),
    /// `/dev/null` as 0, these as 1 and 2.
    Outputs(Box<[OwnedFd; 2]>),
    /// A terminal's slave side for all three, which becomes the controlling terminal.
    Terminal(OwnedFd),
}

impl Stdio {
    /// What becomes descriptors 0, 1 and 2; `null` is `/dev/null`.
    pub(crate) fn fds<'a>(&'a self, null: BorrowedFd<'a>) -> [BorrowedFd<'a>; 3] {
        match self {
            Stdio::Separate(fds) => fds.each_ref().map(AsFd::as_fd),
            Stdio::Outputs(fds) => [null, fds[0].as_fd(), fds[1].as_fd()],
            Stdio::Terminal(slave) => [slave.as_fd(); 3],
        }
    }

    fn own(&self) -> &[OwnedFd] {
        match self {
            Stdio::Separate(fds) => fds.as_slice(),
            Stdio::Outputs(fds) => fds.as_slice(),
            Stdio::Terminal(slave) => std::slice::from_ref(slave),
        }
    }
}

impl SpawnSpec {
    /// Prepares everything that needs memory.
    ///
    /// The child's environment is `base` with `own` on top. The program is looked up in its
    /// `PATH` unless it contains a slash; a relative one is resolved after changing to `cwd`.
    ///
    /// # Errors
    /// [`SpawnStage::Prepare`] for a NUL byte anywhere, [`SpawnStage::Exec`] for a program that
    /// cannot be looked for (see [`search::check`]).
    pub(crate) fn new<'a>(
        command: &str,
        args: &[String],
        base: &Arc<Environment>,
        own: impl Iterator<Item = (&'a str, &'a str)>,
        cwd: Option<&str>,
        stdio: Stdio,
    ) -> Result<Self, SpawnError> {
        let nul = |_| SpawnError {
            stage: SpawnStage::Prepare,
            errno: 0,
        };
        let (mut own_pairs, mut own_names) = (Vec::new(), Vec::new());
        let mut path = match base.value("PATH") {
            Some(_) => Path::Base,
            None => Path::Default,
        };
        for (name, value) in own {
            if name == "PATH" {
                path = Path::Own(own_pairs.len());
            }
            own_pairs.push(pair(name.into(), value.as_bytes()).map_err(nul)?);
            own_names.push(name.to_owned());
        }
        let mut argv = vec![CString::new(command).map_err(nul)?];
        for arg in args {
            argv.push(CString::new(arg.as_str()).map_err(nul)?);
        }
        if command.contains('/') {
            path = Path::Unused;
        }
        own_names.sort_unstable();
        let cwd = cwd.map(CString::new).transpose().map_err(nul)?;
        let spec = Self {
            argv,
            cwd,
            stdio,
            base: base.clone(),
            own: own_pairs,
            own_names,
            path,
            held: Held::default(),
        };
        if let Some(path) = spec.path() {
            search::check(path, command.as_bytes()).map_err(|errno| SpawnError {
                stage: SpawnStage::Exec,
                errno,
            })?;
        }
        Ok(spec)
    }

    /// Holds the tree to these.
    #[must_use]
    pub(crate) fn with_limits(mut self, limits: Option<Box<Limits>>) -> Self {
        if let Some(limits) = limits {
            self.held.rlimits = Rlimits::new(&limits);
            self.held.limits = Some(limits);
        }
        self
    }

    /// Makes the child this user, and its terminal or its pipes that user's: a program opens them
    /// again by name (`/dev/tty`, `/dev/stdout`).
    ///
    /// # Errors
    /// As fchown(2).
    pub(crate) fn with_user(mut self, credentials: &Credentials) -> Result<Self, SpawnError> {
        let user = Box::new(User::new(credentials));
        for fd in self.stdio.own() {
            fchown(fd, Some(user.uid()), None).map_err(|errno| SpawnError {
                stage: SpawnStage::User,
                errno: errno.raw_os_error(),
            })?;
        }
        self.held.user = Some(user);
        Ok(self)
    }

    /// What its tree is held to.
    pub(crate) fn limits(&self) -> Option<&Limits> {
        self.held.limits.as_deref()
    }

    /// What each of its processes is held to.
    pub(super) fn rlimits(&self) -> &Rlimits {
        &self.held.rlimits
    }

    /// Who it is to become.
    pub(super) fn user(&self) -> Option<&User> {
        self.held.user.as_deref()
    }

    /// The PATH to look in; None if the program's name says where it is.
    fn path(&self) -> Option<&[u8]> {
        let path = match self.path {
            Path::Unused => return None,
            Path::Own(at) => self.own.get(at).and_then(|own| value(own)),
            Path::Base => self.base.value("PATH").map(OsStr::as_bytes),
            Path::Default => None,
        };
        Some(path.unwrap_or(DEFAULT_PATH.as_bytes()))
    }

    /// Where to look for the program; None if its name says where it is.
    pub(super) fn search(&self) -> Option<Search<'_>> {
        let name = self.argv.first()?;
        Some(Search::new(self.path()?, name))
    }

    /// The environment, each as `NAME=value`.
    pub(crate) fn environment(&self) -> impl Iterator<Item = &CStr> {
        let own = self.own.iter().map(CString::as_c_str);
        let terminal = matches!(self.stdio, Stdio::Terminal(_));
        self.base.without(&self.own_names, terminal).chain(own)
    }

    /// The pipes and the terminal that only this child and its descendants have.
    pub(crate) fn files(&self) -> Vec<FileId> {
        let of_its_own = |stat: &rustix::fs::Stat| match FileType::from_raw_mode(stat.st_mode) {
            FileType::Fifo => true,
            FileType::CharacterDevice => TERMINAL_MAJORS.contains(&major(stat.st_rdev)),
            _ => false,
        };
        let stats = self.stdio.own().iter().filter_map(|fd| fstat(fd).ok());
        stats
            .filter(of_its_own)
            .map(|stat| FileId::new(&stat))
            .collect()
    }
}

/// What stands behind `PATH=`.
fn value(pair: &CString) -> Option<&[u8]> {
    pair.as_bytes().strip_prefix(b"PATH=")
}
