//! Level-triggered epoll over numbered sockets (epoll(7)).

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{Timespec, epoll};

use crate::trouble::{During, Result};

/// Members reported in one turn.
const EVENTS_MAX: usize = 256;

/// An epoll set whose members are known by a number of the caller's.
pub(crate) struct Poll {
    epoll: OwnedFd,
}

impl Poll {
    /// An empty set.
    pub(crate) fn new() -> Result<Poll> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).during("epoll_create")?;
        Ok(Poll { epoll })
    }

    /// Adds a member that is reported when it is readable.
    pub(crate) fn add(&self, member: impl AsFd, number: usize) -> Result<()> {
        let data = epoll::EventData::new_u64(number as u64);
        epoll::add(&self.epoll, member, data, epoll::EventFlags::IN).during("epoll add")
    }

    /// Takes a member out.
    pub(crate) fn remove(&self, member: impl AsFd) -> Result<()> {
        epoll::delete(&self.epoll, member).during("epoll delete")
    }

    /// Waits up to `timeout` and lists the readable members.
    pub(crate) fn wait(&self, timeout: Duration, ready: &mut Vec<usize>) -> Result<()> {
        ready.clear();
        let mut events = [MaybeUninit::uninit(); EVENTS_MAX];
        let timeout = Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        match epoll::wait(&self.epoll, &mut events, Some(&timeout)) {
            Ok((events, _)) => ready.extend(events.iter().map(|event| event.data.u64() as usize)),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).during("epoll wait"),
        }
        Ok(())
    }
}
