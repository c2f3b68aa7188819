//! A server for one command, where nobody named one and none is there.
//!
//! It is this very program, started as a child. Connections go to it over a pair of sockets, one
//! descriptor each, so that it has no address that anybody else could reach. When this program goes,
//! however that happens, its end of the pair closes, and the server ends with all that it started.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};

use super::context::Context;
use super::error::{CliError, Result};
use crate::client::{Client, ClientError, Endpoint};

const CONFIG: &str = "/v1/processes/config";

/// The context with a server that is there: the named one, the usual one, or one of its own.
pub(super) fn or_own(context: &Context) -> Result<Context> {
    if context.is_named {
        return Ok(context.clone());
    }
    match context.client.connect() {
        Err(error @ ClientError::Absent { .. }) if error.is_absence() => start(),
        _ => Ok(context.clone()),
    }
}

/// Where this program lies. Without /proc nobody knows but who started it by a path.
fn this_program() -> io::Result<PathBuf> {
    std::env::current_exe().or_else(|error| {
        let named = std::env::args_os().next().map(PathBuf::from);
        let is_path = |named: &PathBuf| named.components().count() > 1;
        named.filter(is_path).ok_or(error)
    })
}

/// `/dev/null`; in an image without it, what cannot be written to.
fn nowhere() -> io::Result<Stdio> {
    match File::options().write(true).open("/dev/null") {
        Ok(file) => Ok(file.into()),
        Err(_) => Ok(pipe_with(PipeFlags::CLOEXEC)?.0.into()),
    }
}

fn start() -> Result<Context> {
    let failed = |what: &str| CliError::local(format!("a server for this command: {what}"));
    let pair = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    );
    let (ours, theirs): (OwnedFd, OwnedFd) = pair.map_err(|e| failed("sockets")(e.into()))?;
    let program = this_program().map_err(failed("this program"))?;
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        // They are for another server.
        if name.to_string_lossy().starts_with("PROCRING_") {
            command.env_remove(name);
        }
    }
    let mut child = command
        .args(["server", "--listen", "starter", "--log-level", "error"])
        // The user is the operator, too.
        .args(["--allow-user", "*", "--allow-user", "root"])
        // Ctrl-C is the command's, not the server's.
        .process_group(0)
        .stdin(Stdio::from(theirs))
        .stdout(nowhere().map_err(failed("a place for its output"))?)
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed("start"))?;
    let client = Client::new(Endpoint::handed(ours), None);
    let error = match client.get(CONFIG) {
        Err(error) => error,
        Ok(mut limits) => {
            // The user is the operator, too: the command lasts as long as it lasts.
            limits["maxRunTimeoutMs"] = u64::MAX.into();
            client.post(CONFIG, &limits)?;
            return Ok(Context {
                client,
                is_named: true,
                is_own: true,
                server_flags: Vec::new(),
            });
        }
    };
    let mut why = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        // It is about to end, or has.
        drop(client);
        let _ = stderr.read_to_string(&mut why);
    }
    let why = if why.is_empty() {
        error.to_string()
    } else {
        why
    };
    Err(CliError::Failed(
        format!(
            "a server for this command did not start: {}",
            why.trim_end()
        ),
        super::error::SERVER_TROUBLE,
    ))
}
