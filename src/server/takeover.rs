//! Going on with what another program has kept in this process: an upgrade, seen from the new side.
//!
//! In: the arguments of a keeper, and what it hands over. Out: the configuration that the server was
//! started with, and its descriptors. If this program cannot go on, that one does.

use std::ffi::OsString;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use crate::config::flags::{self, Invocation, ServerArgs};
use crate::config::load::load;
use crate::io::Listening;
use crate::ledger::Heritage;
use crate::ledger::heritage::{Groups as HandedGroups, Socket};
#[cfg(debug_assertions)]
use crate::ledger::variant;
use crate::notice;
use crate::supervisor::Groups;
use crate::supervisor::cgroup::Cgroups;
use crate::supervisor::keeper;
use crate::token;

use super::error::{StartError, step};
use super::groups::groups_max;
use super::{Ready, begin};

/// A program is asked to take over, or whether it could.
#[derive(Debug)]
pub struct Asked {
    fd: RawFd,
    /// Only whether it could.
    pub is_check: bool,
}

/// Follows [`keeper::HERITAGE`] where a program is asked whether it could take over.
const CHECK: &str = "--check";

/// What it says then.
pub const TAKES_OVER: &str = concat!(
    "procring ",
    env!("CARGO_PKG_VERSION"),
    " with all runs and bodies takes over\n"
);

/// Whether these arguments, without the program's name, are not a user's but a keeper's.
pub fn heritage_asked(args: &[OsString]) -> Option<Asked> {
    let [command, heritage, rest @ ..] = args else {
        return None;
    };
    let fd = heritage.to_str()?.strip_prefix(keeper::HERITAGE)?;
    let fd = fd.parse().ok().filter(|_| command == "server")?;
    match rest {
        [] => Some(Asked {
            fd,
            is_check: false,
        }),
        [check] if check == CHECK => Some(Asked { fd, is_check: true }),
        _ => None,
    }
}

/// What is handed over, and the configuration with which the server was started.
///
/// # Errors
/// Why this program cannot go on with that, in a sentence.
pub fn heritage(asked: Asked) -> Result<(Heritage, ServerArgs), String> {
    let fd = match asked.fd {
        0 => rustix::io::dup(rustix::stdio::stdin()).ok(),
        fd => keeper::owned(fd),
    };
    let heritage = Heritage::read(fd.ok_or("nothing is handed over")?)?;
    let arguments = heritage.arguments.iter().cloned().map(OsString::from_vec);
    let token = heritage.token.clone().map(OsString::from_vec);
    let token = token.map(|token| (OsString::from(token::VARIABLE), token));
    let others = std::env::vars_os().filter(|(name, _)| name != token::VARIABLE);
    match flags::parse(arguments, others.chain(token)) {
        Ok(Invocation::Server(args)) => {
            let args = load(&args).map_err(|error| error.sentence())?;
            Ok((heritage, args))
        }
        Ok(_) => Err("what was handed over is no server's".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Goes on with what another program has kept in this process. If this one cannot, or panics before
/// there is a server, that program goes on.
///
/// # Errors
/// What is in the way, if that program cannot go on either.
pub fn take_over(args: &ServerArgs, mut heritage: Heritage) -> Result<Ready, StartError> {
    // It was begun by the number of a descriptor, and is called so.
    let _ = rustix::thread::set_name(c"procring");
    go_back_on_panic(heritage.clone());
    #[cfg(debug_assertions)]
    variant::fail_at_once();
    let ready = begin(args, Some(&mut heritage));
    // In a server, or where there is to be none.
    drop(std::panic::take_hook());
    if let Err(error) = &ready {
        keeper::go_back(&heritage, error.to_string(), |line| notice::line(line));
    }
    ready
}

fn go_back_on_panic(heritage: Heritage) {
    let own = std::process::id();
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tell(panic);
        // A server is another process.
        if std::process::id() == own {
            let why = "it panicked before it had a server".to_owned();
            keeper::go_back(&heritage, why, |line| notice::line(line));
        }
    }));
}

/// A descriptor that another program has left to this one.
pub(super) fn handed(fd: RawFd) -> Result<OwnedFd, StartError> {
    let missing = || io::Error::new(io::ErrorKind::NotFound, format!("no descriptor {fd}"));
    keeper::handed_over(fd).ok_or_else(|| step("what was handed over")(missing()))
}

/// Goes on with the sockets of another program.
pub(super) fn open_again(heritage: &Heritage) -> Result<Vec<Listening>, StartError> {
    let again =
        |about: &Socket| Listening::again(handed(about.fd)?, about).map_err(StartError::Listen);
    heritage.sockets.iter().map(again).collect()
}

/// Goes on with the groups of another program, whatever `--cgroup` says now.
pub(super) fn groups_again(about: &HandedGroups) -> Groups {
    let path = PathBuf::from(OsString::from_vec(about.path.clone()));
    let why = match keeper::handed_over(about.dir) {
        None => "its directory was not handed over".to_owned(),
        Some(dir) => match Cgroups::again(dir, path, groups_max()) {
            Ok(groups) => return Groups::Made(Box::new(groups)),
            Err(error) => error.to_string(),
        },
    };
    Groups::None(why)
}
