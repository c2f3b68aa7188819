//! An afternoon of starting, deleting, restarting and killing: random acts over processes,
//! terminals, daemons and runs, with strangers beside them that must never be touched.
//!
//! In: a seed and a number of acts. Out: what went wrong, and at which act. All of it happens in
//! a PID namespace whose numbers come again within seconds (`namespace`), with terminals and a
//! cgroup of its own. A model (`world`) knows of every process whether it must be alive or gone,
//! and looks after each act; who belongs to what is told by a variable in the environment and a
//! pidfd (`census`), never by what the server says.
//!
//! `PROCRING_ACTS=5000 PROCRING_SEED=7 cargo test --test blackbox afternoon::` is a long one.

mod acts;
mod beside;
mod census;
mod checks;
mod ends;
mod kinds;
mod namespace;
mod runs;
mod servers;
mod strangers;
mod tree;
mod world;

use crate::harness::{Backend, on_both};

on_both!(
    random_acts_touch_no_stranger_and_leave_nothing_over,
    random_acts_of_an_unprivileged_server_touch_no_stranger_and_leave_nothing_over,
);

fn random_acts_touch_no_stranger_and_leave_nothing_over(backend: Backend) {
    namespace::inside(
        &format!(
            "afternoon::{}::random_acts_touch_no_stranger_and_leave_nothing_over",
            half(backend)
        ),
        |room| world::Afternoon::begin(backend, room, None).spend(),
    );
}

fn random_acts_of_an_unprivileged_server_touch_no_stranger_and_leave_nothing_over(
    backend: Backend,
) {
    namespace::inside(
        &format!(
            "afternoon::{}::random_acts_of_an_unprivileged_server_touch_no_stranger_and_leave_nothing_over",
            half(backend)
        ),
        |room| world::Afternoon::begin(backend, room, Some(NOBODY)).spend(),
    );
}

/// A user that owns nothing here.
const NOBODY: u32 = 65_534;

/// The module that `on_both!` makes.
fn half(backend: Backend) -> &'static str {
    match backend {
        Backend::Uring => "uring",
        Backend::Epoll => "epoll",
    }
}

/// Numbers that look random and are the same for the same seed (SplitMix64).
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn choose<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.below(from.len()))
    }
}
