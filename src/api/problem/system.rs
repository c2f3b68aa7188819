//! What the system refuses: descriptors, terminals, programs.
//!
//! In: an errno and where it came from. Out: a problem that names the likely cause, and says whether
//! to try again can help.

use crate::types::{Limit, SpawnError, SpawnStage};

use super::{Details, LOGGED_CHARS_MAX, Problem, shortened};
use crate::api::Launch;

/// Characters of a path that a problem quotes; the kernel takes no longer ones (PATH_MAX).
const PATH_CHARS_MAX: usize = 4096;

impl Problem {
    /// 502: the system refused; `errno` becomes the code.
    pub fn stream(message: impl Into<String>, errno: Option<i32>) -> Self {
        let mut problem = Self::new("stream_error", "Stream Error", 502, message);
        problem.prefix = "stream error: ";
        problem.details = Details::Message;
        problem.code = errno.and_then(errno_name);
        problem
    }

    /// A spawn that failed: 502, or 503 where the server is out of something. Says which file is
    /// missing, since the program and the directory to run it in give the same text.
    pub fn spawn(error: SpawnError, tty: bool, launch: &Launch) -> Self {
        let mut problem = Self::of_spawn(error, tty);
        let limits = launch.limits.as_deref();
        let memory = limits.and_then(|limits| limits.get(Limit::MemoryBytes));
        if let (libc::ENOMEM, Some(bytes)) = (error.errno, memory) {
            let limit = format!("{}; limits.memoryBytes is {bytes}", problem.message);
            problem.message = limit.into();
        }
        let refused = match error.stage {
            SpawnStage::Cwd => launch.cwd.as_deref(),
            SpawnStage::Exec => Some(launch.command.as_str()),
            SpawnStage::Prepare
            | SpawnStage::Clone
            | SpawnStage::Stdio
            | SpawnStage::Limits
            | SpawnStage::User
            | SpawnStage::Group => None,
        };
        let Some(path) = refused else {
            return problem;
        };
        if error.errno == libc::ENOENT {
            problem.details = Details::Path(shortened(path, PATH_CHARS_MAX).into());
        }
        // Behind the first word there may be arguments, where somebody took this for a shell.
        let named = match error.stage {
            SpawnStage::Exec => path.split_whitespace().next().unwrap_or_default(),
            _ => path,
        };
        let named = shortened(named, LOGGED_CHARS_MAX);
        let told = format!("{}: {named}", problem.detail());
        problem.logged(told)
    }

    fn of_spawn(error: SpawnError, tty: bool) -> Self {
        let what = if tty { "tty process" } else { "process" };
        let message = format!("failed to spawn {what}: {error}");
        let exhausted = matches!(
            error.errno,
            libc::EAGAIN | libc::ENOMEM | libc::EMFILE | libc::ENFILE | libc::ETIMEDOUT
        );
        match error.stage {
            SpawnStage::Clone | SpawnStage::Stdio if exhausted => {
                let limit = match error.errno {
                    libc::EAGAIN => {
                        "; no more processes or threads are allowed (pids.max of a cgroup, \
                         RLIMIT_NPROC or kernel.threads-max): end some or raise the limit"
                    }
                    libc::ENOMEM => "; there is no memory left for it",
                    libc::ETIMEDOUT => "",
                    _ => "; no descriptor is left (RLIMIT_NOFILE, fs.file-max)",
                };
                Self::unavailable(format!("{message}{limit}"), errno_name(error.errno))
            }
            // A mount or a device, which may answer again.
            SpawnStage::Exec | SpawnStage::Cwd if error.errno == libc::ETIMEDOUT => {
                Self::unavailable(message, errno_name(error.errno))
            }
            SpawnStage::Group if error.errno == 0 => {
                let message = format!("{error}: GET /v1/server says in `missing` why");
                Self::not_here(message, "limits_unavailable")
            }
            SpawnStage::Group => {
                let message = format!("{message}; there is no cgroup for its limits");
                Self::unavailable(message, errno_name(error.errno))
            }
            SpawnStage::Prepare => Self::stream(message, None).code("nul_byte"),
            // A user namespace that does not have this user, or lets nobody change groups.
            SpawnStage::User => Self::user_unavailable(format!(
                "{message}; the server may not make a child this user (user_namespaces(7))"
            )),
            SpawnStage::Cwd if error.errno == libc::ENOENT => {
                Self::stream(message, None).code("cwd_missing")
            }
            _ => Self::stream(message, Some(error.errno)),
        }
    }

    /// A descriptor, pipe or terminal that could not be made: 503 if the server is out of them.
    pub fn resource(what: &str, errno: i32) -> Self {
        let error = std::io::Error::from_raw_os_error(errno);
        let message = format!("{what}: {error}");
        match errno {
            libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::EAGAIN | libc::ENOSPC => {
                Self::unavailable(message, errno_name(errno))
            }
            _ => Self::stream(message, Some(errno)),
        }
    }

    /// A terminal that could not be made: as [`Problem::resource`], but what is missing is not the
    /// program.
    pub fn no_terminal(errno: i32) -> Self {
        let mut problem = Self::resource("no terminal for the process", errno);
        if problem.status != 503 {
            let needs =
                "; terminals need /dev/ptmx (or /dev/pts/ptmx) and a devpts mounted on /dev/pts";
            problem.message = format!("{}{needs}", problem.message).into();
            problem.code = Some("pty_unavailable");
        }
        problem
    }
}

/// The symbol of an errno that spawning or writing can give (errno(3)).
fn errno_name(errno: i32) -> Option<&'static str> {
    const NAMES: [(i32, &str); 24] = [
        (libc::EPERM, "EPERM"),
        (libc::ENOENT, "ENOENT"),
        (libc::EIO, "EIO"),
        (libc::ENXIO, "ENXIO"),
        (libc::E2BIG, "E2BIG"),
        (libc::ENOEXEC, "ENOEXEC"),
        (libc::EBADF, "EBADF"),
        (libc::EAGAIN, "EAGAIN"),
        (libc::ENOMEM, "ENOMEM"),
        (libc::EACCES, "EACCES"),
        (libc::EFAULT, "EFAULT"),
        (libc::ENODEV, "ENODEV"),
        (libc::ENOTDIR, "ENOTDIR"),
        (libc::EISDIR, "EISDIR"),
        (libc::EINVAL, "EINVAL"),
        (libc::ENFILE, "ENFILE"),
        (libc::EMFILE, "EMFILE"),
        (libc::ETXTBSY, "ETXTBSY"),
        (libc::ENOSPC, "ENOSPC"),
        (libc::EPIPE, "EPIPE"),
        (libc::ENAMETOOLONG, "ENAMETOOLONG"),
        (libc::ELOOP, "ELOOP"),
        (libc::ETIMEDOUT, "ETIMEDOUT"),
        (libc::EROFS, "EROFS"),
    ];
    NAMES
        .iter()
        .find(|(number, _)| *number == errno)
        .map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch() -> Launch {
        Launch::new(
            "no-such".to_owned(),
            Vec::new(),
            Some("/nowhere".to_owned()),
        )
    }

    fn body(problem: &Problem) -> String {
        String::from_utf8(problem.reply().body.into_owned()).unwrap()
    }

    #[test]
    fn a_missing_program_and_a_missing_directory_differ_in_their_code_and_path() {
        let exec = SpawnError {
            stage: SpawnStage::Exec,
            errno: libc::ENOENT,
        };
        let cwd = SpawnError {
            stage: SpawnStage::Cwd,
            errno: libc::ENOENT,
        };
        let of = |error| body(&Problem::spawn(error, false, &launch()));
        let end = r#","path":"no-such"},"code":"ENOENT"}"#;
        assert!(of(exec).ends_with(end), "{}", of(exec));
        let other = r#","path":"/nowhere"},"code":"cwd_missing"}"#;
        assert_eq!(of(exec).replace(end, other), of(cwd));
        assert!(
            of(exec).contains("failed to spawn process: No such file or directory (os error 2)")
        );
    }

    #[test]
    fn logs_name_the_program_or_the_directory_and_no_argument() {
        let logged = |stage, errno| {
            let launch = Launch {
                command: "no-such --secret".to_owned(),
                ..launch()
            };
            let problem = Problem::spawn(SpawnError { stage, errno }, false, &launch);
            problem.reply().detail.unwrap().into_string()
        };
        assert_eq!(
            logged(SpawnStage::Exec, libc::ENOENT),
            "stream error: failed to spawn process: No such file or directory (os error 2): no-such"
        );
        assert_eq!(
            logged(SpawnStage::Cwd, libc::EACCES),
            "stream error: failed to spawn process: Permission denied (os error 13): /nowhere"
        );
        assert!(!logged(SpawnStage::Exec, libc::E2BIG).contains("secret"));
        assert!(!logged(SpawnStage::Clone, libc::EAGAIN).contains("no-such"));
    }

    #[test]
    fn a_missing_terminal_is_not_a_missing_program_and_too_many_can_be_retried() {
        let missing = body(&Problem::no_terminal(libc::ENOENT));
        assert!(
            missing.contains("(os error 2); terminals need /dev/ptmx"),
            "{missing}"
        );
        assert!(
            missing.ends_with(r#""code":"pty_unavailable"}"#),
            "{missing}"
        );
        let too_many = Problem::no_terminal(libc::ENOSPC);
        assert_eq!((too_many.status, too_many.code), (503, Some("ENOSPC")));
    }

    #[test]
    fn running_out_of_processes_is_a_503_that_can_be_retried() {
        let problem = Problem::spawn(
            SpawnError {
                stage: SpawnStage::Clone,
                errno: libc::EAGAIN,
            },
            false,
            &launch(),
        );
        let reply = problem.reply();
        assert_eq!(reply.status, 503);
        assert!(reply.headers.iter().any(|(name, _)| *name == "retry-after"));
    }
}
