//! The loop with a clock of its own, and what is due to whom.

use super::message::{Escalation, SignalRequest};
use super::spawn::spec::{SpawnSpec, Stdio};
use super::*;
use crate::types::signal::Scope;
use crate::types::{Exit, ExitReason, ExitStatus};

fn options() -> Options {
    Options {
        hangup: Hangup::Reload,
        shutdown_grace: Duration::ZERO,
        inheritance: Inheritance::for_tests(),
        state: None,
        kept: None,
        dues: Vec::new(),
    }
}

/// Nothing but the child is touched: orphans and signals are left to the other tests' own.
fn supervisor() -> Supervisor {
    Supervisor::new(options()).unwrap().0
}

fn spec(command: &str) -> Box<SpawnSpec> {
    spec_of(command, &[])
}

fn spec_of(command: &str, args: &[&str]) -> Box<SpawnSpec> {
    let null = || std::fs::File::open("/dev/null").unwrap().into();
    let stdio = Stdio::Outputs(Box::new([null(), null()]));
    let (base, env) = (Arc::default(), std::iter::empty());
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    Box::new(SpawnSpec::new(command, &args, &base, env, None, stdio).unwrap())
}

#[test]
fn nobody_looks_at_a_port_that_nobody_waits_for() {
    let mut supervisor = supervisor();
    let job = JobId(1);
    let watch = |watch| Command::WatchPort {
        job,
        port: 1,
        watch,
    };
    supervisor.on_command(watch(1));
    assert!(
        supervisor.deadlines.next().is_none(),
        "there is no such job"
    );
    supervisor.start(job, spec("/bin/true"), None, (false, false), None);
    while supervisor.deadlines.pop(Monotonic::now()).is_some() {}
    let before = supervisor.deadlines.next();
    for number in 2..1000 {
        supervisor.on_command(watch(number));
    }
    supervisor.begin_look_at_ports(job);
    assert!(supervisor.has_steps_to_make());
    for number in 2..1000 {
        supervisor.on_command(Command::UnwatchPort { job, watch: number });
    }
    assert!(!supervisor.ports.is_looking());
    assert_eq!(supervisor.deadlines.next(), before);
}

#[test]
fn nothing_is_due_to_a_child_that_has_ended() {
    const YEAR: Duration = Duration::from_secs(31_536_000);
    let mut supervisor = supervisor();
    let job = JobId(1);
    let year = Monotonic::now() + YEAR;
    supervisor.start(job, spec("/bin/true"), Some(year), (false, false), None);
    supervisor.on_command(Command::KillAt { job, at: year });
    for _ in 0..3 {
        supervisor.on_command(Command::Stop {
            job,
            grace: Some(YEAR),
        });
        for signal in [libc::SIGKILL, libc::SIGHUP, 64] {
            let after = YEAR;
            supervisor.on_command(Command::Signal {
                job,
                request: SignalRequest {
                    signal: libc::SIGCONT,
                    scope: Scope::Group,
                    foreground: 0,
                    escalation: Some(Escalation { signal, after }),
                },
                ticket: 0,
            });
        }
    }
    // The look at orphans is due in a moment, and a pass that has become superfluous.
    let due_late = |supervisor: &mut Supervisor| {
        while supervisor
            .deadlines
            .pop(Monotonic::now() + YEAR / 2)
            .is_some()
        {}
        supervisor.deadlines.next()
    };
    assert!(due_late(&mut supervisor).is_some());
    while !supervisor.jobs[&job].life.has_exited() {
        supervisor.on_inbox();
        supervisor.on_exit(job);
        std::thread::yield_now();
    }
    assert_eq!(due_late(&mut supervisor), None);
    // Nor to one that has ended when it is asked for.
    supervisor.on_command(Command::Stop {
        job,
        grace: Some(YEAR),
    });
    supervisor.on_command(Command::KillAt { job, at: year });
    assert_eq!(due_late(&mut supervisor), None);
}

const ALONE: &str = "PROCRING_TEST_ALONE";

/// Runs a test of this module in a process of its own: a loop that goes round reaps every child
/// there is.
fn alone(name: &str, test: impl FnOnce()) {
    if std::env::var_os(ALONE).is_some() {
        signals::block_all();
        return test();
    }
    let name = format!("supervisor::tests::{name}");
    let own = std::process::Command::new(std::env::current_exe().unwrap())
        .args([&*name, "--exact", "--nocapture", "--test-threads=1"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&own.stdout) + String::from_utf8_lossy(&own.stderr);
    assert!(own.status.success() && told.contains("1 passed"), "{told}");
}

/// The loop, going round when it is told to, by a clock that goes on when it is told to.
struct Loop {
    supervisor: Supervisor,
    events: Receiver<Event>,
    ready: Vec<epoll::Event>,
    told: VecDeque<Event>,
}

impl Loop {
    fn new(shutdown_grace: Duration) -> Self {
        let options = Options {
            shutdown_grace,
            ..options()
        };
        let (mut supervisor, _, events) = Supervisor::new(options).unwrap();
        supervisor.clock.advance(Duration::ZERO);
        Self {
            supervisor,
            events,
            ready: Vec::with_capacity(64),
            told: VecDeque::new(),
        }
    }

    fn now(&self) -> Monotonic {
        self.supervisor.clock.now()
    }

    fn turn(&mut self, at_most: Duration) {
        self.supervisor.wait(Some(at_most), &mut self.ready);
        self.supervisor.turn(&self.ready);
        self.told.extend(self.events.take());
    }

    /// Later, with all that is due by then done.
    fn advance(&mut self, ms: u64) {
        self.supervisor.clock.advance(Duration::from_millis(ms));
        self.turn(Duration::ZERO);
        while self.supervisor.has_steps_to_make() {
            self.turn(Duration::ZERO);
        }
    }

    /// Goes round until something is so; the clock goes on with it.
    fn until<T>(&mut self, mut so: impl FnMut(&mut Self) -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(value) = so(self) {
                return value;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", self.told);
            if !self.supervisor.has_steps_to_make() {
                self.supervisor.clock.advance(Duration::from_millis(1));
            }
            let pause = self.supervisor.pause().unwrap_or(Duration::MAX);
            self.turn(pause.min(Duration::from_millis(10)));
        }
    }

    /// The next event of this kind.
    fn told<T>(&mut self, kind: impl Fn(&Event) -> Option<T>) -> T {
        self.until(|this| {
            let at = this.told.iter().position(|event| kind(event).is_some())?;
            kind(&this.told.remove(at)?)
        })
    }

    fn exit(&mut self, of: JobId) -> Exit {
        self.told(|event| match event {
            Event::Exited { job, exit, .. } if *job == of => Some(*exit),
            _ => None,
        })
    }

    /// Starts `sleep`, and waits until it runs. One that does not heed SIGTERM, if `heeds` is false.
    fn sleeper(&mut self, job: JobId, heeds: bool, deadline: Option<Monotonic>) {
        let spec = match heeds {
            true => spec_of("sleep", &["600"]),
            false => spec_of("sh", &["-c", "trap '' TERM; exec sleep 600"]),
        };
        self.supervisor
            .start(job, spec, deadline, (false, false), None);
        self.until(|this| {
            let pid = this.supervisor.jobs[&job].leader.as_ref()?.pid();
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
            (name == "sleep\n").then_some(())
        });
    }

    fn is_running(&self, job: JobId) -> bool {
        let leader = self.supervisor.jobs[&job].leader.as_ref();
        leader.is_some_and(|leader| !leader.has_ended())
    }
}

fn killed() -> ExitStatus {
    ExitStatus::Signal(libc::SIGKILL)
}

#[test]
fn a_run_is_killed_when_its_time_has_passed_and_not_before() {
    alone(
        "a_run_is_killed_when_its_time_has_passed_and_not_before",
        || {
            let (mut it, job) = (Loop::new(Duration::ZERO), JobId(1));
            let at = it.now() + Duration::from_secs(3600);
            it.sleeper(job, true, Some(at));
            it.advance(3_500_000);
            assert!(it.is_running(job) && it.told.is_empty(), "{:?}", it.told);
            it.advance(100_000);
            let status = it.told(|event| match event {
                Event::TimedOut { status, .. } => Some(*status),
                _ => None,
            });
            assert_eq!(status, Some(killed()));
            assert!(it.told.is_empty(), "told twice: {:?}", it.told);
        },
    );
}

#[test]
fn nothing_is_due_to_a_child_that_runs() {
    alone("nothing_is_due_to_a_child_that_runs", || {
        let (mut it, job) = (Loop::new(Duration::ZERO), JobId(1));
        it.sleeper(job, true, None);
        // Whether it has come to its program is looked at once more by then.
        it.advance(1000);
        assert_eq!(it.supervisor.pause(), None);
        it.supervisor.on_command(Command::ShutDown);
        it.exit(job);
    });
}

#[test]
fn who_does_not_heed_a_stop_is_killed_when_the_earliest_grace_is_over() {
    alone(
        "who_does_not_heed_a_stop_is_killed_when_the_earliest_grace_is_over",
        || {
            let (mut it, job) = (Loop::new(Duration::ZERO), JobId(1));
            it.sleeper(job, false, None);
            for seconds in [3600, 60, 7200] {
                let grace = Some(Duration::from_secs(seconds));
                it.supervisor.on_command(Command::Stop { job, grace });
            }
            it.advance(59_000);
            assert!(it.is_running(job) && it.told.is_empty(), "{:?}", it.told);
            it.advance(1_000);
            assert_eq!(it.exit(job), Exit::from(killed()));
        },
    );
}

#[test]
fn a_tree_whose_lifetime_is_over_dies_of_that() {
    alone("a_tree_whose_lifetime_is_over_dies_of_that", || {
        let (mut it, job) = (Loop::new(Duration::ZERO), JobId(1));
        it.sleeper(job, true, None);
        let at = it.now() + Duration::from_secs(60);
        it.supervisor.on_command(Command::KillAt { job, at });
        it.advance(59_000);
        assert!(it.is_running(job) && it.told.is_empty(), "{:?}", it.told);
        it.advance(1_000);
        let reason = Some(ExitReason::Deadline);
        let status = killed();
        assert_eq!(it.exit(job), Exit { status, reason });
        it.supervisor.on_command(Command::Forget { job });
        it.until(|this| this.supervisor.jobs.is_empty().then_some(()));
    });
}

#[test]
fn a_signal_that_is_due_later_comes_when_it_is_due() {
    alone("a_signal_that_is_due_later_comes_when_it_is_due", || {
        let (mut it, job) = (Loop::new(Duration::ZERO), JobId(1));
        it.sleeper(job, true, None);
        let escalation = Some(Escalation {
            signal: libc::SIGHUP,
            after: Duration::from_secs(60),
        });
        let request = SignalRequest {
            signal: libc::SIGCONT,
            scope: Scope::Leader,
            foreground: 0,
            escalation,
        };
        it.supervisor.on_command(Command::Signal {
            job,
            request,
            ticket: 7,
        });
        let sent = it.told(|event| match event {
            Event::Signalled { ticket: 7, result } => Some(*result),
            _ => None,
        });
        assert_eq!(sent, Ok(()));
        it.advance(59_000);
        assert!(it.is_running(job) && it.told.is_empty(), "{:?}", it.told);
        it.advance(1_000);
        let hung_up = ExitStatus::Signal(libc::SIGHUP);
        assert_eq!(it.exit(job), Exit::from(hung_up));
    });
}

#[test]
fn the_end_waits_for_who_does_not_heed_it_for_its_grace_and_no_longer() {
    alone(
        "the_end_waits_for_who_does_not_heed_it_for_its_grace_and_no_longer",
        || {
            let mut it = Loop::new(Duration::from_secs(60));
            let (heeds, does_not) = (JobId(1), JobId(2));
            it.sleeper(heeds, true, None);
            it.sleeper(does_not, false, None);
            it.supervisor.on_command(Command::ShutDown);
            let terminated = ExitStatus::Signal(libc::SIGTERM);
            assert_eq!(it.exit(heeds), Exit::from(terminated));
            assert!(it.is_running(does_not));
            let is_over = |told: &VecDeque<Event>| told.iter().any(|e| matches!(e, Event::AllGone));
            it.advance(30_000);
            assert!(it.is_running(does_not) && !is_over(&it.told));
            it.advance(30_000);
            assert_eq!(it.exit(does_not), Exit::from(killed()));
            it.until(|this| is_over(&this.told).then_some(()));
        },
    );
}
