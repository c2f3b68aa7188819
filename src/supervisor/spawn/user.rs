//! How a child becomes another user.
//!
//! In: numbers of a user and its groups. Out: the calling process is that user, and nothing of what
//! the server may do is left to it. Knows no name.
//!
//! The child runs in the server's memory until exec, so two things are different here from what
//! setpriv(1) does. The C library's setuid(3) would change every thread that it knows of, which are
//! the server's; so the kernel's own calls are made, which are about the calling task alone. And
//! with the user the kernel resets whether the memory may be looked at (PR_SET_DUMPABLE), by what
//! /proc/sys/fs/suid_dumpable says: it is refused again at once.

use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Gid, Uid, set_dumpable_behavior};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, set_capabilities,
    set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use crate::types::Credentials;

/// A user that a child is to become, in the form that system calls take.
#[derive(Debug)]
pub(crate) struct User {
    uid: Uid,
    gid: Gid,
    groups: Box<[Gid]>,
}

impl User {
    pub(crate) fn new(of: &Credentials) -> Self {
        Self {
            uid: Uid::from_raw(of.uid),
            gid: Gid::from_raw(of.gid),
            groups: of.groups.iter().copied().map(Gid::from_raw).collect(),
        }
    }

    /// Who it is.
    pub(crate) fn uid(&self) -> Uid {
        self.uid
    }

    /// Makes the calling process this user. Fit for a child between vfork and exec: system calls on
    /// memory that was prepared before.
    ///
    /// # Errors
    /// Where the kernel refuses; the process must not go on then.
    pub(super) fn put_on(&self) -> Result<(), Errno> {
        let (uid, gid) = (self.uid, self.gid);
        set_thread_groups(&self.groups)?;
        set_thread_res_gid(gid, gid, gid)?;
        set_thread_res_uid(uid, uid, uid)?;
        // A refusal was one at the server's start, too.
        let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
        if uid.is_root() {
            return Ok(());
        }
        // Leaving root takes capabilities, too; leaving another user that has some does not. A kernel
        // without ambient ones (before 4.3) says so.
        let _ = clear_ambient_capability_set();
        set_capabilities(
            None,
            CapabilitySets {
                effective: CapabilitySet::empty(),
                permitted: CapabilitySet::empty(),
                inheritable: CapabilitySet::empty(),
            },
        )?;
        set_no_new_privs(true)
    }
}

/// Whether this process may make a child another user, give it its terminal, and end it then.
pub(crate) fn may_change() -> bool {
    let needed =
        CapabilitySet::SETUID | CapabilitySet::SETGID | CapabilitySet::CHOWN | CapabilitySet::KILL;
    capabilities(None).is_ok_and(|sets| sets.effective.contains(needed))
}
