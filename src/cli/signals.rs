//! Signals of the user: a thread of its own hears of them, so that no handler does anything.

use std::thread;

use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGWINCH};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use super::error::{CliError, Result};
use super::terminal;

/// What a user means by a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Ctrl-C.
    Interrupt,
    /// The command is to end: SIGTERM, SIGQUIT, or the window is closed.
    End(i32),
    /// The window has another size.
    Resized,
    /// This program was stopped (SIGTSTP, SIGSTOP) and goes on; the terminal may be as others left it.
    Continued,
}

/// Calls `heard` for each signal, on a thread of its own.
pub(super) fn listen(heard: impl Fn(Wish) + Send + 'static) -> Result<()> {
    let all = [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH, SIGTSTP, SIGCONT];
    let mut signals = Signals::new(all).map_err(CliError::local("signals"))?;
    beside(move || {
        for signal in signals.forever() {
            heard(match signal {
                SIGINT => Wish::Interrupt,
                SIGWINCH => Wish::Resized,
                SIGCONT => Wish::Continued,
                // Nobody could have it go on.
                SIGTSTP if !has_job_control() => continue,
                SIGTSTP => {
                    terminal::hand_back();
                    // It stops here, as who sent the signal wants; SIGCONT is heard behind that.
                    let _ = emulate_default_handler(SIGTSTP);
                    continue;
                }
                signal => Wish::End(signal),
            });
        }
    })?;
    Ok(())
}

/// Whether there is a shell that can have this program go on after it was stopped: a process of the
/// same session and another process group, which began this program or the leader of its group. (A
/// default SIGTSTP stops no group without such a one, but this program has to stop itself by
/// SIGSTOP.)
///
/// The numbers are those of /proc: of who is outside of this PID namespace they are 0 there, and in
/// system calls as well, where rustix takes it for impossible.
fn has_job_control() -> bool {
    let Some(own) = Kin::of("self") else {
        return false;
    };
    let is_shell = |pid: i32| {
        let kin = Kin::of(&pid.to_string());
        kin.is_some_and(|kin| kin.session == own.session && kin.group != own.group)
    };
    let leader = Kin::of(&own.group.to_string());
    is_shell(own.parent) || leader.is_some_and(|leader| is_shell(leader.parent))
}

/// To whom a process belongs (proc_pid_stat(5)).
struct Kin {
    parent: i32,
    group: i32,
    session: i32,
}

impl Kin {
    /// Of `/proc/[process]`; none of one that is gone or outside of this PID namespace.
    fn of(process: &str) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        let (_, behind_name) = stat.rsplit_once(')')?;
        let mut numbers = behind_name.split_ascii_whitespace().skip(1);
        let mut next = || numbers.next()?.parse().ok();
        Some(Self {
            parent: next()?,
            group: next()?,
            session: next()?,
        })
    }
}

/// Does something on a thread of its own.
pub(super) fn beside<T: Send + 'static>(
    what: impl FnOnce() -> T + Send + 'static,
) -> Result<thread::JoinHandle<T>> {
    let begun = thread::Builder::new().spawn(what);
    begun.map_err(CliError::local("a thread of this command"))
}

/// Ends this program as a signal would have, with the terminal put back.
pub(super) fn exit_by(signal: i32) -> ! {
    terminal::put_back();
    std::process::exit(128 + signal)
}
