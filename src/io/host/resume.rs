//! Goes on with what another server of the same keeper had under its hands.
//!
//! In: the table that was made of its records. Out: our ends of children, read on; lives that end
//! where there is nothing more to come. To be called once, before anybody is served.

use std::os::fd::AsFd;
use std::rc::Rc;

use crate::config::Settings;
use crate::journal::Event;
use crate::ledger::RecordId;
use crate::ledger::records::End;
use crate::process::terminal::Terminal;
use crate::supervisor::keeper;
use crate::supervisor::spawn::pty;
use crate::types::{JobId, Stream, WindowSize};

use crate::io::host::input::Input;
use crate::io::host::leftovers;
use crate::io::host::outputs::ingest;
use crate::io::host::paced::Output;
use crate::io::runtime;
use crate::io::runtime::source::Source;
use crate::io::server::{Child, Server};
use crate::io::upgrade::{input_before, runs};

/// See the module. `settings` are those that somebody has changed.
pub(crate) fn resume(server: &Rc<Server>, settings: Option<Settings>) {
    if let Some(settings) = settings {
        server.settings.set(settings);
    }
    let records = server
        .table
        .borrow()
        .kept()
        .map(|kept| kept.records().clone());
    for record in records.iter().flat_map(|records| records.unname_shared()) {
        let job = records.as_ref().map(|records| records.job(record));
        let what = "an end of its pipes or terminal is another one's, too, and is lost";
        job.into_iter().for_each(|job| damaged(server, job, what));
    }
    let jobs: Vec<(JobId, RecordId, bool)> = {
        let table = server.table.borrow();
        let kept = |job| table.job(job).and_then(|process| process.record);
        let listed = table.iter().map(|process| process.job);
        let waited_for = runs::before_all(server)
            .into_iter()
            .filter_map(|job| Some(table.job(job)?.job));
        let mut jobs: Vec<JobId> = listed.chain(waited_for).collect();
        // A run that is listed is among both.
        jobs.sort_unstable();
        jobs.dedup();
        let all = jobs
            .into_iter()
            .filter_map(|job| Some((job, table.job(job)?.is_over())));
        all.filter_map(|(job, is_over)| Some((job, kept(job)?, is_over)))
            .collect()
    };
    for (job, record, is_over) in jobs {
        let outputs: Vec<_> = Stream::ALL
            .into_iter()
            .filter_map(|stream| {
                let source = taken_over(server, job, record, End::Output(stream))?;
                Some((stream, Rc::new(source)))
            })
            .collect();
        let master = outputs.iter().find(|(stream, _)| *stream == Stream::Pty);
        if let Some((_, master)) = master {
            resume_terminal(server, job, pty::size(master.as_fd()).unwrap_or_default());
        }
        let is_fed = runs::is_fed(server, job);
        let input = match master {
            Some((_, master)) => Input::terminal_of(master.clone()),
            None if is_fed => Input::closed(),
            None => match taken_over(server, job, record, End::Input) {
                Some(pipe) => Input::pipe(Rc::new(pipe)),
                None => Input::closed(),
            },
        };
        input.goes_on(input_before(server, job));
        if runs::is_handed(server, job) {
            // It is read on when who waits for it is there.
            let is_listed = |job| Some(server.table.borrow().job(job)?.is_listed());
            let input = is_listed(job).unwrap_or(false).then_some(input);
            let child = Child { outputs, input };
            server.children.borrow_mut().insert(job, Rc::new(child));
            continue;
        }
        for &(stream, ref source) in &outputs {
            // A limit on how fast it is read is not written down.
            let is_paced = false;
            let output = Output { stream, is_paced };
            runtime::spawn(ingest(server.clone(), job, output, source.clone()));
        }
        if is_over {
            leftovers::note_open(server, job, outputs.iter().map(|(_, source)| source));
        } else {
            let input = Some(input);
            let child = Child { outputs, input };
            server.children.borrow_mut().insert(job, Rc::new(child));
        }
    }
}

fn taken_over(server: &Rc<Server>, job: JobId, record: RecordId, end: End) -> Option<Source> {
    let records = server.table.borrow().kept()?.records().clone();
    let fd = match keeper::take_over(&records, record, end) {
        Err(()) => {
            damaged(server, job, "an end of its pipes or terminal is lost");
            return None;
        }
        Ok(fd) => fd?,
    };
    let source = Source::new(fd).ok()?;
    let source = named(server, job, end, source);
    Some(match end {
        End::Output(Stream::Pty) => super::create::with_farewell(server, job, source),
        _ => source,
    })
}

/// Where the rest of an input is to be written that another server has begun with.
pub(super) fn pipe_of_input(server: &Rc<Server>, job: JobId) -> Option<Source> {
    let record = server.table.borrow().job(job)?.record?;
    taken_over(server, job, record, End::Input)
}

/// Something in the record of a job was damaged.
pub(super) fn damaged(server: &Server, job: JobId, what: &str) {
    let table = server.table.borrow();
    let id = table.job(job).map(|process| process.id);
    let id = id.filter(|id| id.0 != 0);
    if let Some(kept) = table.kept() {
        kept.records().count_lost(1);
    }
    server.tell(&Event::Damaged { id, what });
}

/// Notes which end of a job this is, where there is a keeper.
pub(super) fn named(server: &Server, job: JobId, end: End, source: Source) -> Source {
    let name = server.table.borrow().name_end(job, end, source.number());
    match name {
        Some(name) => source.named(name),
        None => source,
    }
}

fn resume_terminal(server: &Server, job: JobId, size: WindowSize) {
    if let Some((process, _)) = server.table.borrow_mut().job_mut(job) {
        let terminal = Terminal::resumed(process.log.first(), size);
        process.extras.make().terminal = Some(Box::new(terminal));
    }
}
