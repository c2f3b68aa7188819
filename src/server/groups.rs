//! Cgroups for children, and the record for the server after a killed one.
//!
//! In: `--cgroup` and `--state-dir`. Out: groups as far as they are wanted and to be had, or why
//! there are none; the directory, after what a killed server left there has been ended.

use std::path::Path;

use rustix::process::{Resource, getrlimit};

use crate::config::flags::{CgroupChoice, ServerArgs};
use crate::journal::Event as Told;
use crate::supervisor::Groups;
use crate::supervisor::cgroup::{Cgroups, IfHiding};
use crate::supervisor::state_dir::StateDir;

use super::announce::Missing;
use super::error::{StartError, unusable};

/// Children that have a cgroup of their own at the same time; more are swept for.
const CGROUPS_MAX: usize = 4096;

/// Groups at the same time.
pub(super) fn groups_max() -> usize {
    // Two descriptors each: an eighth of them at most.
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(descriptors / 16).map_or(CGROUPS_MAX, |n| n.min(CGROUPS_MAX))
}

/// Groups for children, as far as they are wanted and to be had, and the record of both.
pub(super) fn groups_and_state(
    args: &ServerArgs,
    missing: &mut Missing<'_>,
) -> Result<(Groups, Option<StateDir>), StartError> {
    let open_max = groups_max();
    let cgroups = match (args.cgroup, &args.state_dir) {
        (CgroupChoice::Off, _) => Err("--cgroup off".to_owned()),
        (CgroupChoice::On, _) => {
            let made = Cgroups::new(open_max, IfHiding::Accept);
            let made = made.map_err(StartError::Cgroups)?;
            if let Some(hidden) = made.hidden() {
                missing.warn(format!("--cgroup on hides {hidden}"));
            }
            Ok(made)
        }
        (CgroupChoice::Auto, None) if !args.keep => {
            return Ok((Groups::AtBegin { open_max }, None));
        }
        // The record names them, or they are for servers to come, too.
        (CgroupChoice::Auto, _) => {
            Cgroups::new(open_max, IfHiding::Refuse).map_err(|error| error.to_string())
        }
    };
    let state = args.state_dir.as_deref();
    let state = state.map(|dir| state_dir(dir, cgroups.as_ref().ok(), missing));
    let groups = match cgroups {
        Ok(made) => Groups::Made(Box::new(made)),
        Err(why) => Groups::None(why),
    };
    Ok((groups, state.transpose()?))
}

/// Ends what a killed server left behind, and begins the record for the next one.
fn state_dir(
    dir: &Path,
    cgroups: Option<&Cgroups>,
    missing: &mut Missing<'_>,
) -> Result<StateDir, StartError> {
    let groups = cgroups.map(Cgroups::path);
    let (state, ended) = StateDir::open(dir, groups.as_deref()).map_err(unusable(dir))?;
    if ended > 0 {
        let sentence = format!("ended {ended} processes that a killed server left behind");
        missing.journal.tell(&Told::Told(&sentence));
    }
    if !Path::new("/proc/self/stat").exists() {
        let sentence = "--state-dir: without /proc nobody that this server leaves when it is \
                        killed can be told from others, so the next one ends nobody";
        missing.warn(sentence.to_owned());
    }
    Ok(state)
}
