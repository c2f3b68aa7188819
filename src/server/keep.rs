//! `--keep`: what outlives this server, and what the program after it is given.
//!
//! In: groups, and what another program has left. Out: the keeper's side of it, and what an upgrade
//! starts from. From [`keep`] on this is one of possibly many servers of one keeper.

use std::cell::RefCell;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::RawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::flags::ServerArgs;
use crate::io::Listening;
use crate::io::upgrade::Upgrades;
use crate::journal::{Event as Told, Journal};
use crate::ledger::heritage::STATE;
use crate::ledger::{Heritage, Records};
use crate::supervisor::Groups;
use crate::supervisor::keeper::{self, Kept};

use super::error::{StartError, step};
use super::takeover::handed;

/// Where this program is, also if it has been replaced there.
fn own_program() -> io::Result<PathBuf> {
    let path = std::env::current_exe()?;
    let bytes = path.as_os_str().as_bytes();
    // proc_pid_exe(5)
    Ok(match bytes.strip_suffix(b" (deleted)") {
        Some(path) => OsStr::from_bytes(path).into(),
        None => path,
    })
}

/// Begins to keep; comes back in the server.
pub(super) fn keep(
    groups: &mut Groups,
    journal: &Journal,
    heritage: Option<&mut Heritage>,
) -> Result<Kept, StartError> {
    if !Path::new("/proc/self/stat").exists() {
        let why = "it needs /proc: without it nobody is found who lost his parents";
        return Err(step("--keep")(io::Error::other(why)));
    }
    let records = match &heritage {
        None => Records::new(),
        Some(heritage) => Records::again(handed(heritage.records)?),
    };
    let records = records.map_err(step("--keep: memory for records"))?;
    if let Groups::Made(groups) = groups {
        groups.rest();
    }
    let last = || {
        if let Groups::Made(groups) = groups {
            groups.remove_all();
        }
    };
    // The keeper has no thread to write.
    let say = |sentence: &str| journal.tell_at_once(&Told::Warning(sentence));
    keeper::keep(&Arc::new(records), heritage, say, last).map_err(step("--keep"))
}

/// What this server has that the next one is to have, too.
pub(super) struct Own<'a> {
    pub(super) nofile: (u64, u64),
    pub(super) started_at: u64,
    /// Of logs, and of their indexes.
    pub(super) memory: [RawFd; 2],
    pub(super) listening: &'a [Listening],
    pub(super) groups: &'a Groups,
}

/// How another program takes over. `before` is what this one was given, `taken` what it has taken of
/// that.
pub(super) fn upgrades(
    args: &ServerArgs,
    kept: &Kept,
    before: Option<&Heritage>,
    taken: Option<Heritage>,
    own: &Own<'_>,
) -> Upgrades {
    let words = args.given.words().into_iter();
    let heritage = Heritage {
        state: STATE,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        arguments: words.map(OsString::into_vec).collect(),
        token: args.given.token_variable().map(|of| of.as_bytes().to_vec()),
        nofile: own.nofile,
        started_at: own.started_at,
        records: kept.records.number(),
        log: own.memory[0],
        index: own.memory[1],
        bell: kept.bell(),
        sockets: own.listening.iter().map(Listening::hand_over).collect(),
        groups: match own.groups {
            Groups::Made(groups) => Some(groups.hand_over()),
            Groups::None(_) | Groups::AtBegin { .. } => None,
        },
        upgrades: before.map_or(0, |of| of.upgrades + u64::from(of.failed.is_none())),
        ..Heritage::default()
    };
    Upgrades {
        kept: kept.clone(),
        heritage,
        taken: RefCell::new(taken),
        program: own_program(),
    }
}
