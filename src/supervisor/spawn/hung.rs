//! A timer of a spawner thread, which wakes the supervisor if what it starts hangs.
//!
//! In: when a spawn begins and ends. Out: [`TOKEN_HUNG`] in the supervisor's epoll set, once, if it has
//! not ended in time. A thread makes one spawn at a time, so what the supervisor begins and the thread
//! ends is never that of another. A deadline in the supervisor instead would wake it after every last
//! spawn, hung or not: who has come to its program wakes nobody.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::epoll::{self, EventFlags};
use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use crate::supervisor::{TOKEN_HUNG, timespec};

/// See the module. Clones are the same one.
#[derive(Clone, Debug)]
pub(super) struct HungTimer(Arc<OwnedFd>);

impl HungTimer {
    /// One that tells in this epoll set.
    ///
    /// # Errors
    /// As timerfd_create(2) and epoll_ctl(2).
    pub(super) fn new(epoll: &OwnedFd) -> Result<Self, Errno> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        // Told once each time that it expires, so nobody has to read it.
        let flags = EventFlags::IN | EventFlags::ET;
        epoll::add(epoll, &timer, epoll::EventData::new_u64(TOKEN_HUNG), flags)?;
        Ok(Self(Arc::new(timer)))
    }

    /// A spawn begins, which is to end in this time.
    pub(super) fn begin(&self, within: Duration) {
        self.set(timespec(within));
    }

    /// It has ended.
    pub(super) fn end(&self) {
        self.set(Timespec::default());
    }

    fn set(&self, value: Timespec) {
        let once = Itimerspec {
            it_interval: Timespec::default(),
            it_value: value,
        };
        // Fails for a time that is none only.
        let _ = timerfd_settime(&*self.0, TimerfdTimerFlags::empty(), &once);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(epoll: &OwnedFd, at_most: Duration) -> usize {
        let mut ready = Vec::with_capacity(4);
        let buffer = rustix::buffer::spare_capacity(&mut ready);
        epoll::wait(epoll, buffer, Some(&timespec(at_most))).unwrap()
    }

    #[test]
    fn only_what_has_not_ended_in_time_is_told_and_once() {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        let timer = HungTimer::new(&epoll).unwrap();
        timer.begin(Duration::from_millis(1));
        assert_eq!(told(&epoll, Duration::from_secs(60)), 1);
        assert_eq!(told(&epoll, Duration::ZERO), 0);
        timer.begin(Duration::from_millis(1));
        timer.end();
        assert_eq!(told(&epoll, Duration::from_millis(20)), 0);
        timer.begin(Duration::from_millis(1));
        assert_eq!(told(&epoll, Duration::from_secs(60)), 1);
    }
}
