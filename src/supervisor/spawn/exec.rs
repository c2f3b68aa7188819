//! Starts one child with a clean slate.
//!
//! In: a [`SpawnSpec`], all of it prepared before. Out: a pid and its pidfd, or the errno and the
//! step that failed. Knows no queue and no job; `supervisor::spawn::pool` calls it on its own threads,
//! because it returns only once the program has been exec'd.
//!
//! A child leads a session and a process group of its own, has descriptors 0, 1 and 2 only (every
//! other one of the server's is close-on-exec), default signal dispositions, an empty signal
//! mask, and the resource limits that the server was started with, or lower ones, and another user,
//! where a request says so.
//!
//! # Safety
//! `clone(CLONE_VM | CLONE_VFORK)` (clone(2)) runs [`child_main`] on a stack of its own in this
//! address space while the calling thread is suspended. What makes that sound:
//! - The child makes system calls through libc wrappers that take no lock and allocate nothing
//!   (the set that posix_spawn(3) itself uses), then execs or exits. It never unwinds or returns
//!   into Rust code that belongs to the parent.
//! - Everything it reads was built before and is borrowed by the suspended caller.
//! - It writes only the last three fields of `ChildPlan`, its own stack, its own room for a path, and
//!   errno (the thread-local of the suspended thread).
//! - All signals but faults are blocked in the caller, and a child that becomes another user has
//!   default dispositions for those before, so no handler can run in the child. `CLONE_SIGHAND` is not given: dispositions are the child's own copies.
//!   Descriptors are, too, or become so before the child touches any ([`Launchpad`]).
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::ledger::PidSlot;
use crate::supervisor::spawn::clone::{self, Birthplace, Cloned, Files, Parent};
use crate::supervisor::spawn::inherit::Inheritance;
use crate::supervisor::spawn::launchpad::Launchpad;
use crate::supervisor::spawn::newborn::Newborn;
use crate::supervisor::spawn::rlimits::Rlimits;
use crate::supervisor::spawn::search::{PATH_BYTES_MAX, Search};
use crate::supervisor::spawn::spec::{SpawnSpec, Stdio};
use crate::supervisor::spawn::user::User;
use crate::supervisor::tree::mark::Mark;
use crate::types::{SpawnError, SpawnStage};

/// A started child.
#[derive(Debug)]
pub(crate) struct Spawned {
    /// Its process, session and group id.
    pub pid: i32,
    /// Refers to it until reaped, whatever happens to the number (pidfd_open(2)). Shared, because
    /// the spawner enters it into the supervisor's epoll set after it has handed it over.
    pub pidfd: Arc<OwnedFd>,
    /// Whether it was born in the cgroup it was meant for.
    pub in_group: bool,
}

struct ChildPlan<'a> {
    /// Where the program is written while it is looked for.
    path: &'a mut [u8; PATH_BYTES_MAX],
    argv: *const *const libc::c_char,
    envp: *const *const libc::c_char,
    cwd: *const libc::c_char,
    stdio: [RawFd; 3],
    /// The descriptor table is the server's; it is left with the numbers below.
    shared_from: Option<u32>,
    terminal: bool,
    inheritance: &'a Inheritance,
    mark: Mark,
    rlimits: &'a Rlimits,
    /// None: it stays who the server is.
    user: Option<&'a User>,
    /// None: `argv[0]` says where the program is.
    search: Option<Search<'a>>,
    failure: Option<SpawnError>,
    /// Whether the child could raise its own OOM score. Before exec it shares this process's
    /// memory descriptor; while that is not dumpable, its files in /proc belong to root.
    oom_score_raised: bool,
}

/// Starts `spec`; returns once the program runs or could not be started.
///
/// `mark` is inherited by every descendant. `group` is the cgroup to be born in. Whoever kills the
/// child because it does not come to its program notes that in `given_up` before.
///
/// # Errors
/// The step and errno.
pub(crate) fn spawn(
    spec: &SpawnSpec,
    inheritance: &Inheritance,
    mark: Mark,
    group: Option<Birthplace<'_>>,
    (pid_slot, given_up): (&PidSlot, &AtomicBool),
    pad: &mut Launchpad,
) -> Result<Spawned, SpawnError> {
    let argv = pointers(spec.argv.iter().map(CString::as_c_str));
    let envp = pointers(spec.environment());
    let null = inheritance.null.as_fd();
    let fds = spec.stdio.fds(null);
    // What cannot be put there is found where it is, in a copy of the whole table.
    // Where another server may go on while the child has not come to exec, that one closes what it
    // does not know: the child has a table of its own there.
    let is_kept = matches!(pid_slot, PidSlot::Kept(..));
    let usable = pad.staging.as_mut().filter(|_| !is_kept);
    let staging = usable.and_then(|staging| {
        let put = staging.put(fds);
        if put.is_err() {
            staging.clear(null);
        }
        put.is_ok().then_some(staging)
    });
    let stdio = match &staging {
        Some(staging) => staging.numbers(),
        None => fds.map(|fd| fd.as_raw_fd()),
    };
    let mut plan = ChildPlan {
        path: &mut pad.path,
        argv: argv.as_ptr(),
        envp: envp.as_ptr(),
        cwd: spec.cwd.as_deref().map_or(std::ptr::null(), CStr::as_ptr),
        stdio,
        shared_from: staging.as_ref().map(|staging| staging.end()),
        terminal: matches!(spec.stdio, Stdio::Terminal(_)),
        inheritance,
        mark,
        rlimits: spec.rlimits(),
        user: spec.user(),
        search: spec.search(),
        failure: None,
        oom_score_raised: false,
    };
    let files = match staging.is_some() {
        true => Files::Shared,
        false => Files::Copied,
    };
    let parent = match pid_slot {
        PidSlot::Own(_) => Parent::This,
        PidSlot::Kept(..) => Parent::Ours,
    };
    // SAFETY: `plan` outlives the call, which returns once the child has exec'd or is gone;
    // `child_main` keeps to the rules of the file header.
    let cloned = unsafe {
        clone::vfork(
            child_main,
            (&raw mut plan).cast(),
            &mut pad.stack,
            (files, parent),
            group,
            pid_slot,
        )
    };
    if let Some(staging) = staging {
        staging.clear(null);
    }
    let Cloned {
        pid,
        pidfd,
        in_group,
    } = cloned.map_err(|errno| SpawnError {
        stage: SpawnStage::Clone,
        errno,
    })?;
    pid_slot.store(pid, Ordering::Release);
    // Read through the pointers the child wrote through; the compiler did not see those writes.
    // SAFETY: `plan` is alive and the child, which alone wrote to it, has exec'd or exited.
    let (failure, plan_raised) = unsafe {
        (
            (&raw const plan.failure).read_volatile(),
            (&raw const plan.oom_score_raised).read_volatile(),
        )
    };
    // A program that has begun just before that ends as one that was killed.
    let killed = || SpawnError {
        stage: SpawnStage::Exec,
        errno: libc::ETIMEDOUT,
    };
    // A keeper has collected it by now, or is about to.
    let never_ran = || never_ran(pid).unwrap_or(is_kept);
    let is_given_up = failure.is_none() && given_up.load(Ordering::Acquire) && never_ran();
    match failure.or_else(|| is_given_up.then(killed)) {
        None => {
            if !plan_raised && let Some(score) = &inheritance.oom_score_adj {
                // A refusal leaves the score as it is.
                let _ = std::fs::write(format!("/proc/{pid}/oom_score_adj"), score.as_bytes());
            }
            Ok(Spawned {
                pid,
                pidfd: Arc::new(pidfd),
                in_group,
            })
        }
        Some(failure) => {
            // It has exited; collect it here, because nobody else knows of it. A keeper does so itself.
            pid_slot.store(0, Ordering::Release);
            let _ = rustix::process::waitid(
                rustix::process::WaitId::PidFd(pidfd.as_fd()),
                rustix::process::WaitIdOptions::EXITED,
            );
            Err(failure)
        }
    }
}

/// Whether this child of ours has not come to a program; None if somebody has collected it.
fn never_ran(pid: i32) -> Option<bool> {
    // PF_FORKNOEXEC of `flags`, the seventh field behind the name (proc_pid_stat(5)).
    const FORKED_ONLY: u64 = 0x40;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let flags = fields.split_whitespace().nth(6);
    let flags = flags.and_then(|flags| flags.parse::<u64>().ok());
    flags.map(|flags| flags & FORKED_ONLY != 0)
}

/// Addresses of the strings, and null behind them.
fn pointers<'a>(strings: impl Iterator<Item = &'a CStr>) -> Vec<*const libc::c_char> {
    strings
        .map(CStr::as_ptr)
        .chain(std::iter::once(std::ptr::null()))
        .collect()
}

/// The child's side: see the file header for what it may do.
extern "C" fn child_main(plan: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `spawn` passed its own `ChildPlan`, which stays alive and untouched while the child
    // runs here.
    let plan = unsafe { &mut *plan.cast::<ChildPlan<'_>>() };
    let fail_with = |plan: &mut ChildPlan<'_>, stage, errno| {
        // SAFETY: a valid, exclusively borrowed field; volatile because the parent's compiler
        // cannot know of it.
        unsafe { (&raw mut plan.failure).write_volatile(Some(SpawnError { stage, errno })) };
        127
    };
    let fail = |plan: &mut ChildPlan<'_>, stage| fail_with(plan, stage, errno());
    // SAFETY: plain system calls on valid arguments. `argv` and `envp` are null-terminated arrays
    // of C strings, `cwd` is null or a C string, all kept alive by `spawn`. execve returns only
    // on failure.
    unsafe {
        // First of all: while it has the server's descriptors, a killed server's record stays locked,
        // and whoever reads the record finds the mark.
        plan.mark.put_on();
        if let Some(from) = plan.shared_from
            && clone::close_from(from, libc::CLOSE_RANGE_UNSHARE) < 0
        {
            return fail(plan, SpawnStage::Stdio);
        }
        let newborn = Newborn::begin();
        if libc::setsid() < 0 {
            return fail(plan, SpawnStage::Stdio);
        }
        // The server never holds 0, 1 or 2 for such a descriptor, so no source is overwritten.
        for (target, &fd) in (0..).zip(plan.stdio.iter()) {
            if libc::dup2(fd, target) < 0 {
                return fail(plan, SpawnStage::Stdio);
            }
        }
        if plan.terminal && libc::ioctl(0, libc::TIOCSCTTY, 0) < 0 {
            return fail(plan, SpawnStage::Stdio);
        }
        // Exec would close them, but exec may hang. Older kernels have no such call.
        clone::close_from(3, 0);
        if let Some(score) = &plan.inheritance.oom_score_adj {
            let path = c"/proc/self/oom_score_adj".as_ptr();
            let fd = libc::open(path, libc::O_WRONLY | libc::O_CLOEXEC);
            if fd >= 0 {
                let len = score.as_bytes().len();
                let raised = libc::write(fd, score.as_ptr().cast(), len) == len.cast_signed();
                (&raw mut plan.oom_score_raised).write_volatile(raised);
                libc::close(fd);
            }
        }
        let (soft, hard) = plan.inheritance.nofile;
        let nofile = libc::rlimit {
            rlim_cur: soft,
            rlim_max: hard,
        };
        libc::setrlimit(libc::RLIMIT_NOFILE, &nofile);
        if let Err(errno) = plan.rlimits.put_on() {
            return fail_with(plan, SpawnStage::Limits, errno.raw_os_error());
        }
        if let Some(user) = plan.user {
            // From here on others of that user may send signals, and some are not blocked.
            for signal in FAULTS {
                default_disposition(signal);
            }
            if let Err(errno) = user.put_on() {
                return fail_with(plan, SpawnStage::User, errno.raw_os_error());
            }
        }
        if !plan.cwd.is_null() && libc::chdir(plan.cwd) < 0 {
            return fail(plan, SpawnStage::Cwd);
        }
        for &signal in &plan.inheritance.ignored_signals {
            default_disposition(signal);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
        if let Some(newborn) = newborn {
            newborn.end();
        }
        match &mut plan.search {
            None => {
                libc::execve(*plan.argv, plan.argv, plan.envp);
            }
            Some(search) => {
                // Where no path fits its room.
                let mut refusal = libc::ENAMETOOLONG;
                let mut denied = false;
                while let Some(path) = search.next(plan.path) {
                    libc::execve(path.as_ptr(), plan.argv, plan.envp);
                    refusal = errno();
                    match refusal {
                        libc::EACCES => denied = true,
                        // As execvp(3): the next directory may have it.
                        libc::ENOENT
                        | libc::ENOTDIR
                        | libc::ESTALE
                        | libc::ENODEV
                        | libc::ETIMEDOUT => {}
                        _ => return fail(plan, SpawnStage::Exec),
                    }
                }
                *libc::__errno_location() = if denied { libc::EACCES } else { refusal };
            }
        }
        fail(plan, SpawnStage::Exec)
    }
}

/// Signals that are not blocked in the server and that its runtime may have handlers for: they tell
/// of a stack that has overflowed.
const FAULTS: [i32; 2] = [libc::SIGSEGV, libc::SIGBUS];

/// Has a signal do what it does by default.
fn default_disposition(signal: i32) {
    // The kernel's own call, since libc's refuses signals 32 and 33.
    // SAFETY: all zeros is SIG_DFL, no flags, no mask; 32 bytes is the largest such structure, and
    // it lives on this stack for the call.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigaction,
            signal,
            [0u64; 4].as_ptr(),
            0usize,
            8usize,
        );
    }
}

fn errno() -> i32 {
    // SAFETY: always valid for the calling thread.
    unsafe { *libc::__errno_location() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::tree::mark::Marks;
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    use std::io::Read;

    fn run(command: &str, args: &[&str], cwd: Option<&str>) -> Result<String, SpawnError> {
        run_in(command, args, cwd, "/usr/bin:/bin")
    }

    fn run_in(
        command: &str,
        args: &[&str],
        cwd: Option<&str>,
        path: &str,
    ) -> Result<String, SpawnError> {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let errors = std::fs::File::open("/dev/null").unwrap();
        let stdio = Stdio::Outputs(Box::new([writer.into(), errors.into()]));
        let args: Vec<String> = args.iter().map(|s| (*s).to_owned()).collect();
        let base = Arc::default();
        let env = [("PATH", path)].into_iter();
        let spec = SpawnSpec::new(command, &args, &base, env, cwd, stdio)?;
        let slot = PidSlot::default();
        let inheritance = Inheritance::for_tests();
        let mut pad = Launchpad::with_staging(inheritance.null.as_fd());
        let mark = Marks::new().take();
        let child = spawn(
            &spec,
            &inheritance,
            mark,
            None,
            (&slot, &AtomicBool::new(false)),
            &mut pad,
        )?;
        assert_eq!(slot.load(Ordering::Relaxed), child.pid);
        drop(spec);
        let mut out = String::new();
        reader.read_to_string(&mut out).unwrap();
        waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED).unwrap();
        Ok(out)
    }

    #[test]
    fn a_child_leads_its_own_session_and_has_three_descriptors() {
        let out = run(
            "sh",
            &[
                "-c",
                "echo $$; cut -d' ' -f5,6 /proc/$$/stat; ls /proc/$$/fd; :",
            ],
            None,
        )
        .unwrap();
        let mut lines = out.lines();
        let pid = lines.next().unwrap();
        assert_eq!(lines.next().unwrap(), format!("{pid} {pid}"));
        // Not through a pipe of the shell's own, which it would have open, too.
        assert_eq!(lines.collect::<Vec<_>>(), ["0", "1", "2"]);
    }

    #[test]
    fn a_child_gets_the_limits_and_dispositions_of_a_clean_start() {
        let out = run(
            "sh",
            &[
                "-c",
                "ulimit -Sn; ulimit -Hn; exec grep -E '^Sig(Ign|Blk)' /proc/self/status",
            ],
            None,
        )
        .unwrap();
        assert_eq!(
            out,
            "512\n1024\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n"
        );
    }

    #[test]
    fn the_failing_step_and_errno_are_told() {
        let error = |command: &str, cwd| run(command, &[], cwd).unwrap_err();
        assert_eq!(
            error("no-such-command-here", None),
            SpawnError {
                stage: SpawnStage::Exec,
                errno: libc::ENOENT
            }
        );
        assert_eq!(
            error("/etc", None),
            SpawnError {
                stage: SpawnStage::Exec,
                errno: libc::EACCES
            }
        );
        assert_eq!(
            error("true", Some("/nowhere")),
            SpawnError {
                stage: SpawnStage::Cwd,
                errno: libc::ENOENT
            }
        );
        assert_eq!(
            error("true", Some("/etc/passwd")),
            SpawnError {
                stage: SpawnStage::Cwd,
                errno: libc::ENOTDIR
            }
        );
        assert_eq!(error("a\0b", None).stage, SpawnStage::Prepare);
    }

    #[test]
    fn a_program_is_looked_for_as_execvp_does() {
        let look = |command: &str, path: &str, cwd| run_in(command, &["hi"], cwd, path);
        let errno = |command: &str, path: &str, cwd| look(command, path, cwd).unwrap_err().errno;
        // What is no directory, is not there or is too long is passed over.
        let long = "d".repeat(PATH_BYTES_MAX);
        let path = format!("/etc/passwd:/nowhere:{long}:/bin");
        assert_eq!(look("echo", &path, None).unwrap(), "hi\n");
        // An empty directory is the current one, and a relative one begins there.
        for path in ["", ":/nowhere", "/nowhere:", "/nowhere::/etc"] {
            assert_eq!(look("echo", path, Some("/bin")).unwrap(), "hi\n", "{path}");
        }
        assert_eq!(look("echo", "bin", Some("/usr")).unwrap(), "hi\n");
        // Denied once is denied, if nothing is found.
        assert_eq!(look("echo", "/:/bin", None).unwrap(), "hi\n");
        assert_eq!(errno("etc", "/:/nowhere", None), libc::EACCES);
        assert_eq!(errno("echo", "/nowhere:/etc/passwd", None), libc::ENOTDIR);
        assert_eq!(errno("echo", "/etc/passwd:/nowhere", None), libc::ENOENT);
        assert_eq!(errno("echo", &long, None), libc::ENAMETOOLONG);
        assert_eq!(errno(&long, "/bin", None), libc::ENAMETOOLONG);
        assert_eq!(errno("echo", &":".repeat(400_000), None), libc::E2BIG);
    }

    #[test]
    fn a_relative_command_with_a_slash_is_resolved_in_cwd() {
        assert_eq!(run("./echo", &["hi"], Some("/bin")).unwrap(), "hi\n");
    }
}
