//! The limit, names, what exited logs come to, and who makes room for whom.

use super::*;
use crate::log::SLOT_BYTES;
use crate::log::capture::Keep;
use crate::log::find::{Search, Step};
use crate::process::captures::Captures;
use crate::types::{Exit, ExitStatus, SpawnError, SpawnStage, Stream, StreamFilter};

fn describe() -> Description {
    Description {
        command: "true".into(),
        ..Description::default()
    }
}

fn begin_run(table: &mut Table) -> JobId {
    let run = table.begin_run();
    run.captures = Some(Box::new(Captures::new(Keep::Head, 100)));
    run.job
}

fn on(table: &mut Table, job: JobId, event: Event) -> Effects {
    let effects = table.on(job, event, Monotonic::default(), UnixMs(0));
    assert_eq!(table.counts(), walked(table));
    effects.unwrap()
}

/// What looking at every record comes to.
fn walked(table: &Table) -> Counts {
    let mut counts = Counts::default();
    for process in table.jobs.values() {
        counts.moved(Standing::Nothing, process.counts_as());
    }
    counts
}

fn exit_leaving(table: &mut Table, job: JobId, left: u32) -> Vec<JobId> {
    let exit = Exit::from(ExitStatus::Code(0));
    for event in [
        Event::Spawned { pid: 1, outputs: 0 },
        Event::Exited { exit, left },
        Event::RestRead { whole: true },
    ] {
        on(table, job, event);
    }
    assert!(table.job(job).unwrap().is_over());
    table.retire(job).into_iter().map(|of| of.job).collect()
}

fn exit(table: &mut Table, job: JobId) -> Vec<JobId> {
    exit_leaving(table, job, 0)
}

fn id(table: &Table, job: JobId) -> ProcessId {
    table.job(job).unwrap().id
}

#[test]
fn the_limit_counts_what_is_starting_and_frees_its_place_on_exit_or_failure() {
    let mut table = Table::new(Arena::new().unwrap(), 10, 2);
    let a = table.reserve(describe(), 2).unwrap();
    let b = table.reserve(describe(), 2).unwrap();
    assert_eq!(table.reserve(describe(), 2), Err(Refused::Places));
    begin_run(&mut table);
    let error = SpawnError {
        stage: SpawnStage::Exec,
        errno: 2,
    };
    assert!(on(&mut table, a, Event::SpawnFailed(error)).retire);
    assert!(table.retire(a).is_empty());
    let c = table.reserve(describe(), 2).unwrap();
    assert_eq!(id(&table, c), ProcessId(3));
    exit(&mut table, b);
    assert!(table.reserve(describe(), 2).is_ok());
}

#[test]
fn what_is_starting_and_a_run_are_not_shown() {
    let mut table = Table::new(Arena::new().unwrap(), 10, 2);
    let job = table.reserve(describe(), 2).unwrap();
    begin_run(&mut table);
    assert!(table.get(id(&table, job)).is_none());
    assert_eq!(table.iter().count(), 0);
}

fn named(name: &str) -> Tags {
    Tags {
        name: Some(name.into()),
        labels: None,
    }
}

#[test]
fn a_name_is_held_from_the_reservation_until_the_record_goes() {
    let mut table = Table::new(Arena::new().unwrap(), 1, 2);
    let jobs: Vec<_> = (0..4)
        .map(|_| table.reserve(describe(), 10).unwrap())
        .collect();
    table.tag(jobs[0], named("a"));
    assert_eq!(table.holder("a"), Some(ProcessId(1)));
    assert!(table.get_named("a").is_none(), "it has not started");
    exit(&mut table, jobs[0]);
    assert_eq!(table.get_named("a").map(|of| of.job), Some(jobs[0]));
    exit(&mut table, jobs[1]);
    assert_eq!(table.holder("a"), None, "its record has made room");
    table.tag(jobs[2], named("a"));
    table.cancel(jobs[2]);
    assert_eq!(table.holder("a"), None, "it has not been started");
    table.tag(jobs[3], named("a"));
    let error = SpawnError {
        stage: SpawnStage::Exec,
        errno: 2,
    };
    on(&mut table, jobs[3], Event::SpawnFailed(error));
    table.retire(jobs[3]);
    assert_eq!(table.holder("a"), None, "its start has failed");
    assert!(table.names.is_empty());
}

#[test]
fn records_behind_an_id_that_is_gone_are_found() {
    let mut table = Table::new(Arena::new().unwrap(), 9, 2);
    for _ in 0..4 {
        let job = table.reserve(describe(), 10).unwrap();
        on(&mut table, job, Event::Spawned { pid: 1, outputs: 0 });
    }
    let job = table.get(ProcessId(2)).unwrap().job;
    table.remove(job);
    let behind = |id| -> Vec<u64> {
        let behind = table.iter_behind(ProcessId(id));
        behind.map(|process| process.id.0).collect()
    };
    assert_eq!(behind(0), [1, 3, 4]);
    assert_eq!(behind(2), [3, 4]);
    assert_eq!(behind(u64::MAX), [0; 0]);
}

fn write(table: &mut Table, job: JobId, len: usize) {
    let (process, arena) = table.job_mut(job).unwrap();
    process.log.tail(arena).unwrap()[..len].fill(b'x');
    process.log.commit(arena, len, Stream::Stdout, 0, 1 << 20);
}

#[test]
fn the_bytes_of_exited_logs_are_counted_while_they_grow_and_until_they_go() {
    let mut table = Table::new(Arena::new().unwrap(), 2, 2);
    let jobs: Vec<_> = (0..3)
        .map(|_| table.reserve(describe(), 10).unwrap())
        .collect();
    write(&mut table, jobs[0], 100);
    assert_eq!(table.exited_bytes, 0, "a running one does not count");
    exit(&mut table, jobs[0]);
    write(&mut table, jobs[0], 20);
    table.recount(jobs[0]);
    write(&mut table, jobs[1], 3);
    exit(&mut table, jobs[1]);
    assert_eq!(table.exited_bytes, 123);
    exit(&mut table, jobs[2]);
    assert_eq!(table.exited_bytes, 3, "the oldest has gone");
    table.remove(jobs[1]);
    assert_eq!(table.exited_bytes, 0);
}

#[test]
fn a_record_whose_tree_lives_stays_while_there_are_others() {
    let mut table = Table::new(Arena::new().unwrap(), 2, 2);
    let jobs: Vec<_> = (0..5)
        .map(|_| table.reserve(describe(), 10).unwrap())
        .collect();
    assert!(exit_leaving(&mut table, jobs[0], 3).is_empty());
    assert!(exit_leaving(&mut table, jobs[1], 0).is_empty());
    assert_eq!(exit_leaving(&mut table, jobs[2], 1), [jobs[1]]);
    let all_others_live = exit_leaving(&mut table, jobs[3], 0);
    assert_eq!(all_others_live, [jobs[0]]);
    on(&mut table, jobs[2], Event::Left(0));
    assert_eq!(exit(&mut table, jobs[4]), [jobs[2]]);
}

/// A run that has ended and left something.
fn leftover(table: &mut Table) -> (JobId, ProcessId) {
    let job = begin_run(table);
    let status = ExitStatus::Code(0);
    on(table, job, Event::TimedOut(Some(status)));
    on(table, job, Event::Left(1));
    let id = table.take_id();
    assert!(table.list(job, id, describe(), 200, 1000).is_empty());
    (job, id)
}

#[test]
fn a_run_that_left_something_takes_an_id_and_only_so_many_do() {
    let mut table = Table::new(Arena::new().unwrap(), 10, 2);
    let first = table.reserve(describe(), 10).unwrap();
    let runs = [leftover(&mut table), leftover(&mut table)];
    assert_eq!(id(&table, first), ProcessId(1));
    assert_eq!([runs[0].1, runs[1].1], [2, 3].map(ProcessId));
    assert!(
        table
            .get(runs[0].1)
            .is_some_and(|run| run.captures.is_none())
    );
    // What a managed process left is not of their number.
    exit_leaving(&mut table, first, 1);
    assert_eq!(table.surplus_leftover(), None);
    leftover(&mut table);
    assert_eq!(table.surplus_leftover().map(|of| of.job), Some(runs[0].0));
    assert_eq!(table.surplus_leftover(), None, "each is named once");
    on(&mut table, runs[1].0, Event::Left(0));
    leftover(&mut table);
    assert_eq!(table.surplus_leftover(), None, "one is gone by itself");
}

#[test]
fn a_recorded_run_keeps_what_it_is_answered_with_though_its_record_goes() {
    let mut table = Table::new(Arena::new().unwrap(), 1, 2);
    let run = table.begin_record(describe());
    run.captures = Some(Box::new(Captures::new(Keep::Head, 100)));
    let (job, run_id) = (run.job, run.id);
    table.tag(job, named("a"));
    assert!(table.get(run_id).is_none(), "it has not started");
    on(&mut table, job, Event::Spawned { pid: 7, outputs: 2 });
    assert_eq!(table.get_named("a").and_then(|of| of.life.pid()), Some(7));
    let (run, arena) = table.job_mut(job).unwrap();
    let captures = run.captures.as_mut().unwrap();
    captures.of(Stream::Stdout).append(arena, b"kept");
    write(&mut table, job, 10);
    let exit = Exit::from(ExitStatus::Code(0));
    on(&mut table, job, Event::Exited { exit, left: 0 });
    on(&mut table, job, Event::OutputEnded);
    assert!(on(&mut table, job, Event::OutputEnded).retire);
    assert!(table.retire(job).is_empty());
    assert_eq!((table.occupied, table.exited_bytes), (0, 10));
    // Another one takes its place.
    let other = table.reserve(describe(), 10).unwrap();
    assert_eq!(exit_leaving(&mut table, other, 0), [job]);
    assert!(table.get(run_id).is_none() && table.holder("a").is_none());
    let later = table.reserve(describe(), 10).unwrap();
    table.tag(later, named("a"));
    let run = table.job(job).unwrap();
    assert_eq!(run.captures.as_ref().unwrap().stdout.written(), 4);
    assert!(run.is_over() && table.arena.in_use() > 0);
    table.disown(job);
    assert!(table.job(job).is_none());
    assert_eq!((table.arena.in_use(), table.exited_bytes), (0, 0));
    assert_eq!(table.holder("a"), Some(id(&table, later)));
}

#[test]
fn the_oldest_exited_record_goes_first() {
    let mut table = Table::new(Arena::new().unwrap(), 2, 2);
    let jobs: Vec<_> = (0..4)
        .map(|_| table.reserve(describe(), 10).unwrap())
        .collect();
    let ids: Vec<_> = jobs.iter().map(|job| id(&table, *job)).collect();
    assert!(exit(&mut table, jobs[2]).is_empty());
    assert!(exit(&mut table, jobs[0]).is_empty());
    assert_eq!(exit(&mut table, jobs[1]), [jobs[2]]);
    assert!(table.get(ids[2]).is_none() && table.get(ids[0]).is_some());
}

#[test]
fn no_log_gives_up_for_another_process_what_somebody_is_about_to_look_at() {
    const LIMIT: u64 = 1 << 20;
    let mut table = Table::new(Arena::new().unwrap(), 10, 2);
    table.count_in(Budget::new(2 << 20));
    let job = table.reserve(describe(), 10).unwrap();
    on(&mut table, job, Event::Spawned { pid: 1, outputs: 0 });
    let (process, arena) = table.job_mut(job).unwrap();
    let place = process.begin_search();
    while process.room_for_searches(2 * LIMIT) > 0 {
        process.log.tail(arena).unwrap();
        let stream = Stream::Stdout;
        process.log.commit(arena, SLOT_BYTES, stream, 1, 2 * LIMIT);
    }
    table.recount(job);
    let more = table.budget().free();
    assert!(!table.make_memory_for_log(more));
    assert_eq!(table.job(job).unwrap().log.first(), 1);

    let (process, arena) = table.job_mut(job).unwrap();
    let mut search = Search::new(b"nowhere", StreamFilter::Combined, 0).unwrap();
    assert_eq!(search.step(&process.log, arena, usize::MAX), Step::Nothing);
    place.moved(&search, &process.log);
    assert!(table.make_memory_for_log(more));
    assert!(table.job(job).unwrap().log.first() > 1);
}
