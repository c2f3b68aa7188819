//! Every state times every event, and the orders that races produce.

use super::*;

const NOW: Monotonic = Monotonic::from_nanos(1_000_000_000);
const DONE: ExitStatus = ExitStatus::Code(0);

const EVENTS: [Event; 12] = [
    Event::Started,
    Event::Exited(ExitStatus::Code(1)),
    Event::Stop,
    Event::Awaited,
    Event::Kill,
    Event::GraceOver,
    Event::TimeoutPassed,
    Event::LifetimeOver { has_ended: false },
    Event::LifetimeOver { has_ended: true },
    Event::AnswerDue,
    Event::TreeGone,
    Event::Forgotten,
];

fn starting(stop: bool, is_awaited: bool) -> State {
    State::Starting { stop, is_awaited }
}

/// After these events.
fn after(state: State, events: &[Event]) -> (Life, Effects) {
    let mut life = Life::resumed(state);
    let mut last = Effects::default();
    for event in events {
        last = life.on(*event, NOW);
    }
    (life, last)
}

#[test]
fn every_state_takes_every_event() {
    let none = Effects::default();
    let pass = Effects { pass: true, ..none };
    let stop = Effects { stop: true, ..none };
    let tell = Effects {
        tell_exit: true,
        ..none
    };
    let awaited = Effects {
        awaited: true,
        ..none
    };
    let no_longer = Effects {
        no_longer_awaited: true,
        ..none
    };
    let too_long = Effects {
        answer_soon: true,
        ..pass
    };
    let (plain, stopped) = (starting(false, false), starting(true, true));
    let (running, exited) = (State::Running, State::Exited(DONE));
    let failed = State::Exited(ExitStatus::Code(1));
    let started_and_stopped = Effects {
        stop: true,
        ..no_longer
    };
    let ended_unseen = Effects {
        tell_exit: true,
        ..no_longer
    };
    let from = [plain, stopped, running, exited];
    let unmoved = |effects| from.map(|state| (state, effects));
    let table = [
        [
            (running, none),
            (running, started_and_stopped),
            (running, none),
            (exited, none),
        ],
        [
            (failed, tell),
            (failed, ended_unseen),
            (failed, tell),
            (exited, none),
        ],
        [
            (stopped, awaited),
            (stopped, none),
            (running, stop),
            (exited, none),
        ],
        [
            (starting(false, true), awaited),
            (stopped, none),
            (running, none),
            (exited, none),
        ],
        unmoved(pass),
        [
            (plain, pass),
            (stopped, pass),
            (running, pass),
            (exited, none),
        ],
        [
            (plain, too_long),
            (stopped, too_long),
            (running, too_long),
            (exited, none),
        ],
        unmoved(pass),
        unmoved(pass),
        unmoved(none),
        unmoved(none),
        unmoved(none),
    ];
    for (event, row) in EVENTS.into_iter().zip(table) {
        for (state, (next, effects)) in from.into_iter().zip(row) {
            let (life, got) = after(state, &[event]);
            assert_eq!((life.state(), got), (next, effects), "{state:?} {event:?}");
        }
    }
}

#[test]
fn in_no_order_of_events_is_an_end_told_twice_or_a_start_miscounted() {
    let mut orders: Vec<Vec<Event>> = vec![Vec::new()];
    for _ in 0..4 {
        let longer = orders.iter().flat_map(|order| {
            let next = EVENTS.iter().map(|event| [&order[..], &[*event]].concat());
            next.collect::<Vec<_>>()
        });
        orders = longer.collect();
    }
    for order in orders {
        let mut life = Life::new();
        let (mut told, mut awaited, mut passes_asked) = (0, 0_i32, false);
        for event in &order {
            let was = life.state();
            let effects = life.on(*event, NOW);
            told += usize::from(effects.tell_exit) + usize::from(effects.tell_timeout.is_some());
            awaited += i32::from(effects.awaited) - i32::from(effects.no_longer_awaited);
            passes_asked |= effects.pass;
            assert_eq!(awaited, i32::from(life.is_awaited()), "{order:?}");
            assert!(
                !matches!(was, State::Exited(_)) || life.state() == was,
                "{order:?}"
            );
            assert!(!life.is_ending() || passes_asked, "{order:?}");
        }
        assert!(told <= 1, "{order:?}");
    }
}

#[test]
fn a_run_that_ran_too_long_is_told_of_that_with_its_status_if_it_died_in_time() {
    let (life, effects) = after(
        State::Running,
        &[Event::TimeoutPassed, Event::Exited(DONE), Event::AnswerDue],
    );
    assert_eq!(effects.tell_timeout, Some(Some(DONE)));
    assert!(life.is_ending() && !life.is_unanswered());
    let (_, effects) = after(State::Running, &[Event::TimeoutPassed, Event::AnswerDue]);
    assert_eq!(effects.tell_timeout, Some(None));
    // The exit came first.
    let (_, effects) = after(
        State::Running,
        &[Event::Exited(DONE), Event::TimeoutPassed, Event::AnswerDue],
    );
    assert_eq!(effects, Effects::default());
}

#[test]
fn only_who_lives_and_is_not_being_killed_dies_of_its_lifetime() {
    let over = |has_ended| Event::LifetimeOver { has_ended };
    for (state, before, event, reason) in [
        (State::Running, None, over(false), true),
        (starting(false, false), None, over(true), true),
        (State::Running, None, over(true), false),
        (State::Exited(DONE), None, over(true), false),
        (State::Running, Some(Event::Kill), over(false), false),
    ] {
        let events: Vec<_> = before.into_iter().chain([event]).collect();
        let (life, _) = after(state, &events);
        let expected = reason.then_some(ExitReason::Deadline);
        assert_eq!(life.reason(), expected, "{state:?} {events:?}");
        assert!(life.is_ending());
    }
}

#[test]
fn a_job_is_done_with_once_it_is_forgotten_has_exited_and_its_tree_is_gone() {
    let all = [
        Event::Forgotten,
        Event::Kill,
        Event::Exited(DONE),
        Event::TreeGone,
    ];
    for count in 0..all.len() {
        assert!(
            !after(State::Running, &all[..count]).0.is_done(),
            "{count} of {all:?}"
        );
    }
    assert!(after(State::Running, &all).0.is_done());
}

#[test]
fn a_death_brings_the_next_pass_forward() {
    let mut life = Life::resumed(State::Running);
    life.on(Event::Kill, NOW);
    let later = NOW + Duration::from_millis(70);
    life.ending_mut().unwrap().next = later + Duration::from_millis(30);
    assert!(life.on(Event::Exited(DONE), later).pass);
    assert_eq!(life.ending().unwrap().next, later);
}
