//! The command line as a user has it: the built program against a server, in pipes or a terminal.

use std::io::Write as _;
use std::process::{Child, Command, Output, Stdio};

use super::Server;

/// A command of the built program's, for `server`.
pub(crate) fn command(server: &Server, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_procring"));
    command
        .args(args)
        .env("PROCRING_URL", format!("http://{}", server.address))
        .env_remove("PROCRING_TOKEN")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// What a command printed, and how it ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    pub(crate) fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        Self {
            code: output.status.code(),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }

    /// Everything that it printed, if it ended well.
    pub(crate) fn good(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }
}

/// Runs a command to its end.
pub(crate) fn procring(server: &Server, args: &[&str]) -> Said {
    Said::of(command(server, args).output().expect("procring"))
}

/// The same, with an input.
pub(crate) fn fed(server: &Server, args: &[&str], input: &[u8]) -> Said {
    let mut child = begun(command(server, args).stdin(Stdio::piped()));
    let mut stdin = child.0.stdin.take().expect("a pipe");
    let input = input.to_vec();
    // A command that does not read its input must not keep the test from reading its output.
    let feeder = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output();
    let _ = feeder.join();
    Said::of(output)
}

/// A command under way; killed when dropped.
pub(crate) struct Begun(pub(crate) Child);

/// Begins a command.
pub(crate) fn begun(command: &mut Command) -> Begun {
    Begun(command.spawn().expect("procring"))
}

impl Begun {
    pub(crate) fn signal(&self, signal: i32) {
        super::server::send_signal(self.0.id().cast_signed(), signal);
    }

    /// Waits for its end.
    pub(crate) fn wait_with_output(mut self) -> Output {
        use std::io::Read as _;
        let mut output = Output {
            status: Default::default(),
            stdout: Vec::new(),
            stderr: Vec::new(),
        };
        let stderr = self.0.stderr.take();
        let errors = std::thread::spawn(move || {
            let mut errors = Vec::new();
            if let Some(mut stderr) = stderr {
                let _ = stderr.read_to_end(&mut errors);
            }
            errors
        });
        if let Some(mut stdout) = self.0.stdout.take() {
            let _ = stdout.read_to_end(&mut output.stdout);
        }
        output.stderr = errors.join().expect("errors");
        output.status = self.0.wait().expect("an end");
        output
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
