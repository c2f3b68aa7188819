//! Every state times every event, and the orders that races produce.

use super::*;
use crate::types::SpawnStage;

const GRACES: Graces = Graces {
    log: Duration::from_millis(250),
    pipes: Duration::from_millis(180),
    tree: Duration::from_millis(100),
};
const NOW: Monotonic = Monotonic::from_nanos(1_000_000_000);
const WALL: UnixMs = UnixMs(7);
const STATUS: ExitStatus = ExitStatus::Code(3);
const ERROR: SpawnError = SpawnError {
    stage: SpawnStage::Exec,
    errno: 2,
};

const SPAWNED: Event = Event::Spawned { pid: 9, outputs: 2 };
const EXIT: Exit = Exit {
    status: STATUS,
    reason: None,
};
const EXITED: Event = Event::Exited {
    exit: EXIT,
    left: 0,
};
const REST: Event = Event::RestRead { whole: true };
const PART: Event = Event::RestRead { whole: false };
const LATE: Event = Event::TimedOut(None);
const FAILED: Event = Event::SpawnFailed(ERROR);

fn after(ms: u64) -> Monotonic {
    NOW + Duration::from_millis(ms)
}

fn life(kind: Kind) -> Life {
    Life::new(kind, if kind.is_run() { 2 } else { 0 })
}

/// The state as one letter, and what is to be done as words, in their order.
fn told(life: &Life, effects: Effects) -> String {
    let state = match life.state() {
        State::StartPending => "start",
        State::Running { .. } => "running",
        State::Draining { .. } => "draining",
        State::Over { .. } => "over",
        State::Failed(_) => "failed",
    };
    let answer = effects.answer.map(|answer| match answer {
        Answer::Started => "started",
        Answer::Failed(_) => "refused",
        Answer::Ended(End::Exited(_)) => "ended",
        Answer::Ended(End::TimedOut(_)) => "late",
    });
    let words = [
        Some(state),
        effects.listen.then_some("listen"),
        effects.read_rest.then_some("rest"),
        effects.retire.then_some("retire"),
        answer,
        effects.tell.then_some("tell"),
        effects.wake_at.map(|_| "wake"),
        effects.kill.then_some("kill"),
    ];
    words.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// The events in the order of the table's columns; time comes when the grace is over.
const EVENTS: [(Event, u64); 11] = [
    (SPAWNED, 0),
    (FAILED, 0),
    (EXITED, 0),
    (LATE, 0),
    (Event::OutputEnded, 0),
    (REST, 0),
    (PART, 0),
    (Event::Time, 250),
    (Event::Left(4), 0),
    (Event::Abandoned, 0),
    (Event::OutputHeld, 0),
];

/// How a job gets into the state that a row is about, and what each event does there.
type Row = (&'static [Event], [&'static str; 11]);

fn check(kind: Kind, rows: &[Row]) {
    for (history, expected) in rows {
        for ((event, ms), expected) in EVENTS.iter().zip(expected) {
            let mut job = life(kind);
            for past in *history {
                job.on(*past, NOW, WALL, &GRACES);
            }
            let effects = job.on(*event, after(*ms), WALL, &GRACES);
            assert_eq!(
                told(&job, effects),
                *expected,
                "{kind:?} after {history:?}: {event:?}"
            );
        }
    }
}

#[test]
fn every_event_in_every_state_of_a_managed_process() {
    check(
        Kind::Managed,
        &[
            (
                &[],
                [
                    "running listen started tell",
                    "failed retire refused tell",
                    "draining rest tell",
                    "over retire tell",
                    "start tell",
                    "start",
                    "start",
                    "start",
                    "start tell",
                    "start",
                    "start",
                ],
            ),
            (
                &[SPAWNED],
                [
                    "running",
                    "running",
                    "draining rest tell",
                    "over retire tell",
                    "running tell",
                    "running",
                    "running",
                    "running",
                    "running tell",
                    "running",
                    "running",
                ],
            ),
            (
                &[SPAWNED, EXITED],
                [
                    "draining",
                    "draining",
                    "draining",
                    "over retire tell",
                    "draining tell wake",
                    "over retire tell",
                    "draining wake",
                    "over retire tell",
                    "draining tell wake",
                    "draining",
                    "draining",
                ],
            ),
            (
                &[SPAWNED, EXITED, REST],
                [
                    "over",
                    "over",
                    "over",
                    "over",
                    "over tell",
                    "over",
                    "over",
                    "over",
                    "over tell",
                    "over",
                    "over",
                ],
            ),
            (
                &[FAILED],
                [
                    "failed",
                    "failed",
                    "failed",
                    "failed",
                    "failed tell",
                    "failed",
                    "failed",
                    "failed",
                    "failed tell",
                    "failed",
                    "failed",
                ],
            ),
        ],
    );
}

#[test]
fn every_event_in_every_state_of_a_run() {
    check(
        Kind::Run,
        &[
            (
                &[],
                [
                    "running tell",
                    "failed refused tell",
                    "draining tell wake",
                    "over rest late tell",
                    "start tell",
                    "start",
                    "start",
                    "start",
                    "start tell",
                    "start kill",
                    "start",
                ],
            ),
            (
                &[SPAWNED],
                [
                    "running",
                    "running",
                    "draining tell wake",
                    "over rest late tell",
                    "running tell",
                    "running",
                    "running",
                    "running",
                    "running tell",
                    "running kill",
                    "running",
                ],
            ),
            (
                &[EXITED],
                [
                    "draining",
                    "draining",
                    "draining",
                    "over rest late tell",
                    "draining tell",
                    "draining",
                    "draining",
                    "over rest ended tell",
                    "draining tell",
                    "draining kill",
                    "draining",
                ],
            ),
            (
                &[LATE],
                [
                    "over",
                    "over",
                    "over",
                    "over",
                    "over tell",
                    "over",
                    "over",
                    "over",
                    "over tell",
                    "over",
                    "over",
                ],
            ),
            (
                &[FAILED],
                [
                    "failed",
                    "failed",
                    "failed",
                    "failed",
                    "failed tell",
                    "failed",
                    "failed",
                    "failed",
                    "failed tell",
                    "failed",
                    "failed",
                ],
            ),
        ],
    );
}

#[test]
fn every_event_in_every_state_of_a_run_that_is_listed_from_its_start() {
    check(
        Kind::Recorded,
        &[
            (
                &[],
                [
                    "running tell",
                    "failed retire refused tell",
                    "draining tell wake",
                    "over rest retire late tell",
                    "start tell",
                    "start",
                    "start",
                    "start",
                    "start tell",
                    "start kill",
                    "start",
                ],
            ),
            (
                &[SPAWNED],
                [
                    "running",
                    "running",
                    "draining tell wake",
                    "over rest retire late tell",
                    "running tell",
                    "running",
                    "running",
                    "running",
                    "running tell",
                    "running kill",
                    "running",
                ],
            ),
            (
                &[EXITED],
                [
                    "draining",
                    "draining",
                    "draining",
                    "over rest retire late tell",
                    "draining tell",
                    "draining",
                    "draining",
                    "over rest retire ended tell",
                    "draining tell",
                    "draining kill",
                    "draining",
                ],
            ),
            (
                &[LATE],
                [
                    "over",
                    "over",
                    "over",
                    "over",
                    "over tell",
                    "over",
                    "over",
                    "over",
                    "over tell",
                    "over",
                    "over",
                ],
            ),
            (
                &[FAILED],
                [
                    "failed",
                    "failed",
                    "failed",
                    "failed",
                    "failed tell",
                    "failed",
                    "failed",
                    "failed",
                    "failed tell",
                    "failed",
                    "failed",
                ],
            ),
        ],
    );
}

/// Plays events at their milliseconds; what came of each.
fn play(kind: Kind, events: &[(Event, u64)]) -> Vec<String> {
    let mut job = life(kind);
    let step = |(event, ms): &(Event, u64)| {
        let effects = job.on(*event, after(*ms), WALL, &GRACES);
        told(&job, effects)
    };
    events.iter().map(step).collect()
}

#[test]
fn a_run_is_answered_when_its_exit_and_both_ends_are_known_in_any_order() {
    let ended = (Event::OutputEnded, 1);
    for order in [
        [(EXITED, 1), ended, ended],
        [ended, (EXITED, 1), ended],
        [ended, ended, (EXITED, 1)],
    ] {
        let told = play(Kind::Run, &order);
        assert_eq!(told[2], "over ended tell", "{order:?}");
        assert!(told[..2].iter().all(|step| !step.contains("over")));
    }
}

#[test]
fn a_deadline_and_an_exit_at_once_give_one_answer() {
    let both = play(
        Kind::Run,
        &[(EXITED, 1), (LATE, 1), (Event::OutputEnded, 1)],
    );
    assert_eq!(both[1..], ["over rest late tell", "over tell"]);
    let both = play(
        Kind::Run,
        &[(LATE, 1), (EXITED, 1), (Event::OutputEnded, 1)],
    );
    assert_eq!(both, ["over rest late tell", "over", "over tell"]);
}

#[test]
fn an_output_that_others_hold_open_delays_the_end_by_the_grace_and_no_more() {
    let mut job = life(Kind::Run);
    let exited = job.on(EXITED, NOW, WALL, &GRACES);
    assert_eq!(exited.wake_at, Some(after(180)));
    let early = job.on(Event::Time, after(179), WALL, &GRACES);
    assert_eq!(early, Effects::default(), "its time has been asked for");
    let due = job.on(Event::Time, after(180), WALL, &GRACES);
    assert_eq!(told(&job, due), "over rest ended tell");
    let State::Over { end, .. } = job.state() else {
        panic!("{:?}", job.state());
    };
    assert_eq!(end, End::Exited(EXIT));
}

#[test]
fn a_tree_that_lives_on_delays_the_answer_of_a_run_a_little() {
    let (ended, left) = ((Event::OutputEnded, 1), |n| (Event::Left(n), 20));
    let exited = Event::Exited {
        exit: EXIT,
        left: 2,
    };
    let gone = play(Kind::Run, &[ended, ended, (exited, 1), left(1), left(0)]);
    assert_eq!(
        gone[2..],
        ["draining tell wake", "draining tell", "over ended tell"]
    );
    let stays = play(
        Kind::Run,
        &[ended, ended, (exited, 1), (Event::Time, 101), left(1)],
    );
    assert_eq!(stays[3..], ["over ended tell", "over tell"]);
}

#[test]
fn a_terminal_is_over_at_its_hangup_or_after_the_grace() {
    let mut job = life(Kind::Managed);
    job.on(Event::Spawned { pid: 9, outputs: 1 }, NOW, WALL, &GRACES);
    job.on(EXITED, NOW, WALL, &GRACES);
    let partly = job.on(PART, NOW, WALL, &GRACES);
    assert_eq!((job.pid(), partly.wake_at), (Some(9), Some(after(250))));
    assert!(job.is_running());
    let mut hung_up = job;
    let effects = hung_up.on(Event::OutputEnded, after(3), WALL, &GRACES);
    assert_eq!(told(&hung_up, effects), "over retire tell");
    assert!(hung_up.is_complete(after(3)), "nothing can follow");
    let effects = job.on(Event::Time, after(250), WALL, &GRACES);
    assert_eq!(told(&job, effects), "over retire tell");
    assert!(!job.is_running() && job.pid().is_none());
}

#[test]
fn what_others_write_after_the_exit_belongs_to_the_log_until_the_grace_is_over() {
    let mut job = life(Kind::Managed);
    for event in [SPAWNED, EXITED, REST] {
        job.on(event, NOW, WALL, &GRACES);
    }
    assert_eq!(job.open_outputs(), 2);
    assert!(!job.is_complete(after(249)) && job.is_complete(after(250)));
}

#[test]
fn a_log_is_complete_only_when_what_is_held_of_the_output_is_read_or_given_up() {
    for held_at in [100, 249, 260] {
        let mut job = life(Kind::Managed);
        for event in [SPAWNED, EXITED, PART] {
            job.on(event, NOW, WALL, &GRACES);
        }
        let mut on = |event, ms| job.on(event, after(ms), WALL, &GRACES);
        if held_at < 250 {
            on(Event::OutputHeld, held_at);
        }
        on(Event::Time, 250);
        if held_at > 250 {
            on(Event::OutputHeld, held_at);
        }
        assert!(
            matches!(job.state(), State::Over { .. }),
            "it is told in time"
        );
        let complete_at = held_at + 250;
        assert!(!job.is_complete(after(complete_at - 1)), "{held_at}");
        assert!(job.is_complete(after(complete_at)), "{held_at}");
        for _ in 0..2 {
            job.on(Event::OutputEnded, after(260), WALL, &GRACES);
        }
        assert!(job.is_complete(after(260)), "{held_at}");
    }
}

#[test]
fn a_run_whose_client_is_gone_is_killed_once_and_never_answered() {
    let told = play(
        Kind::Run,
        &[
            (Event::Abandoned, 0),
            (Event::Abandoned, 0),
            (EXITED, 1),
            (Event::OutputEnded, 1),
            (Event::OutputEnded, 1),
        ],
    );
    assert_eq!(told[0], "start kill");
    assert_eq!(told[1], "start");
    assert_eq!(told[4], "over tell");
}

#[test]
fn a_life_has_no_more_room_for_a_reason_than_without_one() {
    #[derive(Debug)]
    #[expect(dead_code, reason = "it is only measured")]
    enum Plain {
        Exited(ExitStatus),
        TimedOut(Option<ExitStatus>),
    }
    assert_eq!(size_of::<End>(), size_of::<Plain>());
}
