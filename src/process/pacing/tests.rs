use super::*;

const KIB: u64 = 1 << 10;

/// A log, a clock, and a terminal whose program always has more to say.
struct World {
    pacing: Pacing,
    extent: Extent,
    now: Monotonic,
}

impl World {
    fn new(limit: u64) -> Self {
        let extent = Extent {
            end: 0,
            last: 0,
            limit,
            entries_max: (limit / 64).max(1024),
            exited: false,
        };
        Self {
            pacing: Pacing::default(),
            extent,
            now: Monotonic::now(),
        }
    }

    fn join(&mut self) -> ViewerId {
        let place = self.at_end();
        self.pacing.join(place, self.now)
    }

    fn at_end(&self) -> Place {
        Place {
            at: self.extent.end,
            next: self.extent.last + 1,
            owes: false,
        }
    }

    fn pass(&mut self, ms: u64) {
        self.now = self.now + Duration::from_millis(ms);
    }

    fn permit(&mut self) -> Permit {
        self.pacing.permit(self.extent, self.now)
    }

    fn waits(&mut self) -> bool {
        matches!(self.permit(), Permit::Wait { .. })
    }

    /// One turn: what is permitted, at most 256 KiB, in reads of at most 4 KiB.
    fn turn(&mut self) -> u64 {
        let Permit::Read { bytes } = self.permit() else {
            return 0;
        };
        let bytes = bytes.min(256 * KIB);
        self.extent.end += bytes;
        self.extent.last += bytes.div_ceil(4 * KIB);
        bytes
    }

    /// Turns until there is a pause; what they brought.
    fn turns(&mut self) -> u64 {
        let mut brought = 0;
        loop {
            match self.turn() {
                0 => return brought,
                bytes => brought += bytes,
            }
            assert!(brought < 100 << 20, "there is no pause");
        }
    }

    /// A viewer takes so much of what it lacks.
    fn take(&mut self, id: ViewerId, bytes: u64) {
        let viewers = &self.pacing.viewers;
        let mut place = viewers.iter().find(|v| v.id == id).unwrap().place;
        place.at = (place.at + bytes).min(self.extent.end);
        if place.at == self.extent.end {
            place.next = self.extent.last + 1;
        } else {
            place.next = (place.next + bytes / (4 * KIB)).min(self.extent.last);
        }
        self.pacing
            .took(id, place, bytes, self.extent.end, self.now);
    }

    fn unbounded(&mut self) -> bool {
        self.permit() == Permit::Read { bytes: u64::MAX }
    }
}

#[test]
fn nobody_who_may_type_is_no_pause() {
    let mut world = World::new(10 << 20);
    assert!(world.unbounded());
    let id = world.join();
    world.turns();
    world.pacing.leave(id);
    assert!(world.unbounded() && world.pacing.is_empty());
}

#[test]
fn one_viewer_is_waited_for_and_never_passed_whatever_the_limit() {
    for limit in [1, 2, 3, 4, 5, 100, 4 * KIB, 100 * KIB, 256 * KIB, 10 << 20] {
        let mut world = World::new(limit);
        let id = world.join();
        for round in 0..200 {
            world.turns();
            let lacks = world.extent.end - world.pacing.viewers[0].place.at;
            assert!((1..=limit).contains(&lacks), "{limit}, {round}: {lacks}");
            assert!(lacks <= 128 * KIB, "{limit}, {round}: {lacks}");
            world.pass(100);
            // As much as keeps it counting.
            world.take(id, (KIB / 4).min(lacks));
        }
    }
}

#[test]
fn many_small_entries_are_no_more_than_the_log_may_hold() {
    let mut world = World::new(KIB * KIB);
    let id = world.join();
    while !world.waits() {
        world.extent.end += 1;
        world.extent.last += 1;
        assert!(world.extent.last < world.extent.entries_max / 2);
    }
    assert!(world.extent.end < BEHIND_MAX);
    world.take(id, u64::MAX / 2);
    assert!(!world.waits());
}

#[test]
fn a_pause_ends_at_half_of_what_begins_it() {
    let mut world = World::new(10 << 20);
    let id = world.join();
    let brought = world.turns();
    assert!((64 * KIB..=128 * KIB).contains(&brought), "{brought}");
    let resumed = world.pacing.resumed().clone();
    let seen = resumed.version();
    world.take(id, brought - 32 * KIB - 1);
    assert!(world.waits() && resumed.version() == seen);
    world.take(id, 1);
    assert!(resumed.version() > seen && !world.waits());
}

#[test]
fn a_viewer_that_takes_nothing_for_two_seconds_holds_nobody() {
    let mut world = World::new(10 << 20);
    let id = world.join();
    world.turns();
    world.take(id, 8 * KIB);
    let Permit::Wait { until } = world.permit() else {
        panic!("no pause");
    };
    let counts = until.since(world.now);
    assert!((VIEWER_COUNTS_FOR..=VIEWER_COUNTS_FOR + PART).contains(&counts));
    world.now = until - Duration::from_millis(1);
    assert!(world.waits());
    world.now = until;
    assert!(world.unbounded());
    // It takes on, but is behind: the others do not wait for it.
    world.turn();
    world.take(id, 64 * KIB);
    assert!(world.unbounded());
    // Now it has everything, or is shown where things are.
    world.take(id, u64::MAX / 2);
    assert!(world.turns() <= 128 * KIB);
    world.pass(3000);
    assert!(world.unbounded());
    world.turn();
    let place = world.at_end();
    world.pacing.redrawn(id, place, world.now);
    assert!(world.turns() <= 128 * KIB);
}

#[test]
fn four_kib_in_two_seconds_are_enough_and_a_byte_now_and_then_is_not() {
    for (every_ms, bytes, counts) in [
        (100, 256, true),
        (900, 2048, true),
        (1900, 4096, true),
        (100, 1, false),
        (1000, 1024, false),
        (2500, 64 * KIB, false),
    ] {
        let mut world = World::new(10 << 20);
        let id = world.join();
        world.turns();
        let mut held = true;
        for _ in 0..100 {
            // As the task does that waits: it asks again when it was told to, and when it is told.
            let next = world.now + Duration::from_millis(every_ms);
            while let Permit::Wait { until } = world.permit() {
                if until > next {
                    break;
                }
                world.now = until;
            }
            held &= !world.unbounded();
            world.now = next;
            world.take(id, bytes);
            world.turns_if_held(held);
        }
        assert_eq!(held, counts, "{bytes} bytes every {every_ms} ms");
    }
}

impl World {
    fn turns_if_held(&mut self, held: bool) {
        if held {
            self.turns();
        }
    }
}

#[test]
fn the_fastest_viewer_decides() {
    let mut world = World::new(10 << 20);
    let (laptop, phone) = (world.join(), world.join());
    for _ in 0..100 {
        world.turns();
        world.pass(10);
        world.take(laptop, u64::MAX / 2);
        world.take(phone, 100);
    }
    assert!(world.extent.end > 5 << 20, "{}", world.extent.end);
    // The phone still counts, but is too far behind to end a pause; without the laptop it holds.
    world.turns();
    assert!(world.waits());
    world.pacing.leave(laptop);
    assert!(world.waits());
    world.take(phone, u64::MAX / 2);
    assert!(!world.waits());
}

#[test]
fn a_viewer_that_has_been_idle_counts_when_a_burst_begins() {
    let mut world = World::new(10 << 20);
    let id = world.join();
    world.pass(3_600_000);
    assert!(world.turns() <= 128 * KIB);
    world.pass(1999);
    assert!(world.waits());
    world.pass(1);
    assert!(world.unbounded());
    world.take(id, 1);
}

#[test]
fn what_is_owed_counts_as_not_taken() {
    let mut world = World::new(10 << 20);
    let id = world.join();
    world.turn();
    let mut place = world.at_end();
    place.owes = true;
    world.pacing.took(id, place, 0, world.extent.end, world.now);
    world.pass(2001);
    assert!(world.unbounded(), "it has not acknowledged anything");
    world
        .pacing
        .took(id, place, 5000, world.extent.end, world.now);
    assert!(world.unbounded(), "nor everything");
    place.owes = false;
    world
        .pacing
        .took(id, place, 5000, world.extent.end, world.now);
    assert!(!world.unbounded());
}

#[test]
fn after_the_exit_all_is_read_that_fits_beside_what_the_viewer_lacks() {
    for limit in [100, 4 * KIB, 64 * KIB, 10 << 20] {
        let mut world = World::new(limit);
        let id = world.join();
        world.turns();
        world.extent.exited = true;
        let before = world.extent.end;
        world.turns();
        assert!(world.extent.end > before, "{limit}");
        assert!(world.extent.end <= limit, "{limit}: {}", world.extent.end);
        // It goes on as long as that takes, and not for ever.
        let mut rounds = 0;
        while !world.unbounded() {
            world.take(id, (4 * KIB).min(limit));
            world.turns();
            world.pass(100);
            rounds += 1;
        }
        assert_eq!(u128::from(HELD_OUTPUT_MAX.as_millis() as u64 / 100), rounds);
    }
}

#[test]
fn what_is_told_is_told_once_and_of_whom_there_is() {
    let mut world = World::new(10 << 20);
    let id = world.join();
    let resumed = world.pacing.resumed().clone();
    let seen = resumed.version();
    for _ in 0..10 {
        world.turn();
        world.take(id, u64::MAX / 2);
    }
    assert_eq!(resumed.version(), seen, "there was no pause");
    world.turns();
    world.pacing.leave(id);
    assert!(resumed.version() > seen);
    let place = world.at_end();
    world.pacing.took(id, place, 1, 1, world.now);
    world.pacing.redrawn(id, place, world.now);
    assert!(world.pacing.is_empty());
}

#[test]
fn parts_make_up_the_time_that_they_are_parts_of() {
    assert_eq!(PART * u32::try_from(PARTS).unwrap(), VIEWER_COUNTS_FOR);
}
