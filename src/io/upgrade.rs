//! Another program takes over, while everything that runs goes on (SIGUSR2, `procring upgrade`).
//!
//! In: a word to do it. Out: another server in the place of this one; or a sentence that says why not,
//! and this one goes on. Only where there is a keeper (`supervisor::keeper`).
//!
//! 1. The program is asked whether it can go on with what is handed over ([`check`]): it reads the
//!    heritage and the configuration, and says so within a time. This server serves meanwhile.
//! 2. No connection is accepted and no request is begun. Clients see a short silence: sockets stay
//!    open, and what they send stays in the kernel. What is being answered comes to its end; if that
//!    takes too long, the upgrade is refused. Downloads are waited for a little; streams are not, since
//!    they can be resumed.
//! 3. The supervisor rests, and this thread after it: nobody reads or writes what is handed over.
//! 4. The keeper becomes the program, which goes on with the same children, descriptors and memory.
//!    Connections that rest or wait for something are among them; requests that wait are begun again,
//!    less the time that they have waited.

pub(super) mod runs;
mod typed;

use std::cell::RefCell;
use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::config::timeouts;
use crate::journal::Event;
use crate::ledger::Heritage;
use crate::ledger::heritage::Connection;
use crate::supervisor::keeper::{self, Kept};
use crate::supervisor::mailbox;
use crate::supervisor::message::{self, Rest};
use crate::types::{JobId, Monotonic};

use crate::io::conn::listener::take_up;
use crate::io::conn::standing::{Doing, Had, Standing};
use crate::io::host::handed::Handed;
use crate::io::repeats;
use crate::io::runtime::race::{First, race};
use crate::io::runtime::source::Source;
use crate::io::runtime::timer::sleep;
use crate::io::server::{Child, Server};
use crate::io::watchdog;

/// What a server needs to be upgraded.
#[derive(Debug)]
pub(crate) struct Upgrades {
    /// Who keeps what it has.
    pub kept: Kept,
    /// What does not change of what it hands over.
    pub heritage: Heritage,
    /// What it has taken over from another program.
    pub taken: RefCell<Option<Heritage>>,
    /// Where its own program is.
    pub program: io::Result<PathBuf>,
}

/// Between two looks whether everything is answered.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// What a program may say before it is stopped.
const SAID_MAX: u64 = 4096;

/// Has the server upgraded, and tells what came of it. The error is for whoever has asked; without one
/// this server does not come back.
pub(super) async fn upgrade(
    server: &Rc<Server>,
    binary: Option<PathBuf>,
) -> Result<Infallible, String> {
    if server.upgrading.replace(true) {
        return Err("an upgrade is under way".to_owned());
    }
    let manager = &server.options.manager;
    manager.reloading();
    let why = match try_upgrade(server, binary).await {
        Ok(never) => match never {},
        Err(why) => why,
    };
    server.gate.shut(false);
    server.stills.set(false);
    server.hold(false);
    server.upgrading.set(false);
    manager.ready(&watchdog::status(server));
    server.tell(&Event::UpgradeRefused { why: &why });
    Err(why)
}

async fn try_upgrade(server: &Rc<Server>, binary: Option<PathBuf>) -> Result<Infallible, String> {
    let asked_at = Monotonic::now().nanos();
    let Some(upgrades) = &server.options.upgrades else {
        return Err(
            "this server has no keeper, so that everything would end with it: start it with --keep"
                .to_owned(),
        );
    };
    if server.shutting_down.get() {
        return Err("the server is ending".to_owned());
    }
    let own = || match &upgrades.program {
        Ok(path) => Ok(path.clone()),
        Err(error) => Err(format!(
            "this server's own program cannot be found: {error}"
        )),
    };
    let path = binary.map_or_else(own, Ok)?;
    let of = |path: &Path, error: io::Error| format!("{}: {error}", path.display());
    let program = open(&path).map_err(|error| of(&path, error))?;
    let itself = Path::new("/proc/self/exe");
    let before = open(itself).map_err(|error| of(itself, error))?;
    let mut heritage = Heritage {
        server: std::process::id().cast_signed(),
        program: program.as_raw_fd(),
        before: before.as_raw_fd(),
        asked_at,
        ..upgrades.heritage.clone()
    };
    let checked = ask(program, &heritage).await;
    let (program, takes) = checked.map_err(|why| format!("{}: {why}", path.display()))?;
    server.stills.set(takes.bodies);
    server.hold(true);
    let since = Instant::now();
    let _rests = loop {
        answered(server, takes, since).await?;
        // Nobody is told to come back for nothing.
        typed::hand_over(server)?;
        say_good_bye(server).await;
        // What is being read comes, and nothing is from then on.
        server.gate.shut(true);
        for _ in 0..2 {
            sleep(LOOK_EVERY).await;
        }
        let left = Left::of(server, takes);
        if left.answers > 0 || left.runs > 0 {
            // Something has begun or ended meanwhile.
            server.gate.shut(false);
            continue;
        }
        let (begun, says) = mpsc::channel();
        // The supervisor rests until this is dropped.
        let (rests, until) = mpsc::channel();
        server.command(message::Command::Rest(Rest { begun, until }));
        match says.recv_timeout(timeouts::UPGRADE_REST_MAX) {
            Ok(Some(dues)) => {
                heritage.dues = dues;
                break rests;
            }
            // None is begun any more.
            Ok(None) if since.elapsed() < timeouts::UPGRADE_ANSWERS_MAX => {
                drop(rests);
                server.gate.shut(false);
                sleep(LOOK_EVERY).await;
            }
            Ok(None) => return Err("a program is being started; try again".to_owned()),
            Err(_) => return Err("the supervisor is busy; try again".to_owned()),
        }
    };
    let (runs, _named) = runs::hand_over(server, takes.bodies);
    heritage.runs = runs;
    let mut standing: Vec<_> = server.standing.borrow().values().cloned().collect();
    // Who was in line first is so again.
    standing.sort_by_key(|of| of.since());
    heritage.connections = standing.iter().filter_map(|of| of.hand_over()).collect();
    heritage.typed = typed::hand_over(server)?;
    heritage.ends = typed::ends(server);
    let table = server.table.borrow();
    heritage.events = (table.history().last(), table.history().written());
    drop(table);
    let children = server.children.borrow();
    let taken =
        |(job, child): (&JobId, &Rc<Child>)| Some((job.0, child.input.as_ref()?.accepted()));
    let inputs = children.iter().filter_map(taken);
    heritage.inputs = inputs.filter(|(_, bytes)| *bytes > 0).collect();
    drop(children);
    // What has been told is written, as far as somebody takes it.
    server.telling.journal.finish();
    if let Some(audit) = &server.audit {
        audit.finish();
    }
    let failed = match upgrades.kept.hand_over(&heritage) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    upgrades.kept.records.forget_handover();
    drop(program);
    Err(of(&path, failed))
}

fn open(path: &Path) -> io::Result<OwnedFd> {
    let file = File::open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file.into()),
        false => Err(io::Error::other("it is no file")),
    }
}

/// What is under way that another server cannot go on with.
struct Left {
    answers: usize,
    runs: usize,
    /// Answers on their way that can be asked for again.
    sends: usize,
}

impl Left {
    fn of(server: &Server, takes: Takes) -> Self {
        let count = |doing| {
            let standing = server.standing.borrow();
            let is_so = |of: &&Rc<Standing>| of.doing() == doing && !of.is_still();
            standing.values().filter(is_so).count()
        };
        // Another server goes on with those, and with who waits for them.
        let (waiting, going_on) = match takes.runs {
            true => runs::handable(server, takes.bodies),
            false => (0, 0),
        };
        let runs = server.table.borrow().counts().runs;
        Self {
            answers: count(Doing::Answers).saturating_sub(waiting),
            runs: runs.saturating_sub(going_on),
            sends: count(Doing::Sends),
        }
    }
}

/// Waits until nothing is being answered.
async fn answered(server: &Server, takes: Takes, since: Instant) -> Result<(), String> {
    loop {
        let Left {
            answers,
            runs,
            sends,
        } = Left::of(server, takes);
        let took = since.elapsed();
        if answers == 0 && runs == 0 && (sends == 0 || took >= timeouts::UPGRADE_SENDS_MAX) {
            return Ok(());
        }
        if took >= timeouts::UPGRADE_ANSWERS_MAX {
            return Err(format!(
                "after {} s {runs} runs and {answers} requests were still being answered; try again \
                 when they are over",
                timeouts::UPGRADE_ANSWERS_MAX.as_secs()
            ));
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Closes what viewers look through, so that they know at once that they are to come back. One that
/// takes nothing is cut off.
async fn say_good_bye(server: &Server) {
    server.leaves.set(true);
    server.held.notify();
    let since = Instant::now();
    while server.web_sockets.get() > 0 && since.elapsed() < timeouts::UPGRADE_CLOSES_MAX {
        sleep(LOOK_EVERY).await;
    }
}

/// Asks a program whether it can go on with this, on a thread of its own. Gives its descriptor back,
/// and what it goes on with.
async fn ask(program: OwnedFd, heritage: &Heritage) -> Result<(OwnedFd, Takes), String> {
    let failed = |error: io::Error| format!("it cannot be asked: {error}");
    let heritage = heritage.write().map_err(failed)?;
    let (sender, receiver) = mailbox::channel().map_err(failed)?;
    let asker = thread::Builder::new().name("upgrade".to_owned());
    let asking = move || {
        let checked = check(&program, heritage);
        sender.send(checked.map(|takes| (program, takes)));
    };
    asker.stack_size(256 << 10).spawn(asking).map_err(failed)?;
    let bell = rustix::io::fcntl_dupfd_cloexec(&receiver, 3).map_err(|error| failed(error.into()));
    let bell = Source::new(bell?).map_err(failed)?;
    let late = pin!(sleep(timeouts::UPGRADE_CHECK_MAX));
    if let First::Right(()) = race(pin!(bell.readable()), late).await {
        return Err("it does not answer".to_owned());
    }
    let checked = receiver.drain().next();
    checked.unwrap_or_else(|| Err("nobody has asked it".to_owned()))
}

/// What a program goes on with besides, if it can take over; older ones do with less.
#[derive(Clone, Copy, Debug)]
struct Takes {
    /// Runs that somebody waits for.
    runs: bool,
    /// Bodies under way to processes, and what runs have written where it is.
    bodies: bool,
}

/// Whether a program says that it can, and then with what. What it exits with does not matter: it may
/// be reaped by somebody else.
fn check(program: &OwnedFd, heritage: OwnedFd) -> Result<Takes, String> {
    let failed = |error: io::Error| error.to_string();
    let mut child = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()))
        .args(["server", &format!("{}0", keeper::HERITAGE), "--check"])
        .stdin(Stdio::from(heritage))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let said = |pipe: Option<&mut dyn Read>| {
        let mut text = Vec::new();
        if let Some(pipe) = pipe {
            // What it says besides is of no interest.
            let _ = pipe.take(SAID_MAX).read_to_end(&mut text);
        }
        String::from_utf8_lossy(&text).trim().to_owned()
    };
    let out = said(child.stdout.as_mut().map(|pipe| pipe as &mut dyn Read));
    let err = said(child.stderr.as_mut().map(|pipe| pipe as &mut dyn Read));
    let _ = child.kill();
    let _ = child.wait();
    let (name, rest) = out.split_once(' ').unwrap_or_default();
    match (name, rest.ends_with("takes over"), err.is_empty()) {
        ("procring", true, _) => Ok(Takes {
            runs: rest.contains(" with all runs "),
            bodies: rest.contains(" and bodies "),
        }),
        (.., false) => Err(err.lines().next().unwrap_or_default().to_owned()),
        _ => Err("it is no procring that can take over from this one".to_owned()),
    }
}

/// Goes on with the connections of another program, and tells of the upgrade.
pub(super) fn arrive(server: &Rc<Server>) {
    let Some(connections) = taken(server, |taken| std::mem::take(&mut taken.connections)) else {
        return;
    };
    // All have their places before anybody in line looks for one.
    let had = |mut about: Connection| {
        let had = about.is_run.then(|| match about.job.map(JobId) {
            None => Had::InLine(std::mem::take(&mut about.body.0)),
            Some(job) => match repeats::joins(server, job) {
                Some(waiting) => Had::Joins(waiting, about.is_repeat),
                None => Handed::new(server, job).map_or(Had::Lost, |of| Had::Begun(of.into())),
            },
        });
        (about, had)
    };
    let connections: Vec<_> = connections.into_iter().map(had).collect();
    repeats::go_on(server);
    typed::go_on(server);
    // Nobody waits for those.
    for job in runs::before_all(server) {
        drop(Handed::new(server, job));
    }
    for (about, had) in connections {
        if let Some(fd) = keeper::owned(about.fd) {
            take_up(server, fd, about, had);
        }
    }
    // Should this server die, who waits is gone.
    if let Some(upgrades) = &server.options.upgrades {
        upgrades.kept.records.forget_handover();
    }
    taken(server, |taken| match &taken.failed {
        Some(why) => server.tell(&Event::UpgradeRefused { why }),
        None => {
            let asked = Monotonic::from_nanos(taken.asked_at);
            let took = Monotonic::now().since(asked).as_millis();
            server.tell(&Event::Upgraded {
                from: &taken.version,
                duration_ms: u64::try_from(took).unwrap_or(u64::MAX),
            });
        }
    });
}

/// What is known of what this server has taken over from another program; None if it has not.
fn taken<T>(server: &Server, of: impl FnOnce(&mut Heritage) -> T) -> Option<T> {
    let upgrades = server.options.upgrades.as_ref()?;
    upgrades.taken.borrow_mut().as_mut().map(of)
}

/// Bytes of input that a job had taken before another program.
pub(super) fn input_before(server: &Server, job: JobId) -> u64 {
    let bytes = taken(server, |taken| taken.inputs.get(&job.0).copied());
    bytes.flatten().unwrap_or_default()
}

/// What came of the upgrade that this server has taken part in.
///
/// # Errors
/// Why the other program does not serve.
pub(super) fn arrived(server: &Server) -> Result<(), String> {
    let failed = taken(server, |taken| taken.failed.clone());
    failed.flatten().map_or(Ok(()), Err)
}

impl Server {
    /// Begins no request and accepts no connection for now, or does again.
    pub(super) fn hold(&self, holds: bool) {
        self.holds.set(holds);
        self.leaves.set(false);
        self.held.notify();
    }

    /// Completes with `news` for a viewer, or when it is to leave.
    pub(super) fn news(&self, news: impl Future<Output = ()>) -> impl Future<Output = ()> {
        let held = self.held.changed(self.held.version());
        async move {
            race(pin!(news), pin!(held)).await;
        }
    }

    /// Completes when requests are begun.
    pub(super) async fn begins(&self) {
        crate::io::wait::until(|| match self.holds.get() {
            false => Ok(()),
            true => Err(self.held.clone()),
        })
        .await;
    }
}
