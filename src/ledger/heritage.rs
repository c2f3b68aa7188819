//! What one program hands to another that takes its place (an upgrade): facts, and the numbers of
//! descriptors that stay open over exec.
//!
//! In: what there is. Out: the same, in the other program. It is JSON in a memfd: unknown keys are
//! skipped and missing ones have a default, so that either program may be the older one. What has
//! to be understood in another way than before gets another number of the [state](STATE), and who
//! does not know that number refuses it. Owns no descriptor.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;

use serde::{Deserialize, Serialize};

/// What records, indexes and logs mean. A program goes on with a state of this number only.
pub(crate) const STATE: u32 = 1;

/// The form that this program knows.
fn known() -> u32 {
    #[cfg(debug_assertions)]
    if super::variant::has_another_state() {
        return STATE + 1;
    }
    STATE
}

/// A heritage is not longer than this.
const BYTES_MAX: u64 = 1 << 30;

/// See the module. It holds a secret, so it shows nothing of itself.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Heritage {
    /// Which state this is.
    pub state: u32,
    /// Of which version the program is that hands over.
    pub version: String,
    /// What the server was started with.
    pub arguments: Vec<Vec<u8>>,
    /// The variable with the token, which is no longer in the environment.
    pub token: Option<Vec<u8>>,
    /// The soft and hard RLIMIT_NOFILE that it was started with.
    pub nofile: (u64, u64),
    /// When it was started, in milliseconds.
    pub started_at: u64,
    /// Upgrades before this one.
    pub upgrades: u64,
    /// Memory of records.
    pub records: RawFd,
    /// Memory of logs.
    pub log: RawFd,
    /// Memory of their indexes.
    pub index: RawFd,
    /// What the keeper rings.
    pub bell: RawFd,
    /// Where connections come from.
    pub sockets: Vec<Socket>,
    /// What groups of children are made in.
    pub groups: Option<Groups>,
    /// The server that hands over. It does nothing any more.
    pub server: i32,
    /// The program that it is.
    pub before: RawFd,
    /// The program that takes over.
    pub program: RawFd,
    /// Connections that another server can go on with.
    pub connections: Vec<Connection>,
    /// Runs that those on connections wait for.
    pub runs: Vec<Run>,
    /// Bytes of input that jobs have taken, by the numbers of jobs.
    pub inputs: HashMap<u64, u64>,
    /// What was typed and jobs have not read, in order.
    pub typed: Vec<Typed>,
    /// Jobs whose input ends behind that.
    pub ends: Vec<u64>,
    /// The number of the last event, and the last of them as text.
    pub events: (u64, String),
    /// What was due to happen to jobs.
    pub dues: Vec<Due>,
    /// When the upgrade was asked for, in nanoseconds of the monotonic clock.
    pub asked_at: u64,
    /// Why another program could not take over: this is the one from before.
    pub failed: Option<String>,
}

impl fmt::Debug for Heritage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Heritage")
    }
}

/// A socket that connections come from.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Socket {
    /// It.
    pub fd: RawFd,
    /// `tcp`, `unix` or `starter`.
    pub kind: String,
    /// As a client would write it.
    pub name: String,
    /// The path that was made for it.
    pub path: Option<Vec<u8>>,
    /// The service manager has it, too.
    pub shared: bool,
    /// It is for metrics only.
    pub for_metrics: bool,
}

/// The group of a server that groups of children are made in.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Groups {
    /// Its directory, which is locked.
    pub dir: RawFd,
    /// Where that is.
    pub path: Vec<u8>,
}

/// A connection on which nothing of an answer has been sent.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Connection {
    /// It.
    pub fd: RawFd,
    /// It is for metrics only.
    pub for_metrics: bool,
    /// The server's starter speaks for whoever is at its other end.
    pub of_starter: bool,
    /// What has come and is to be answered.
    pub bytes: Vec<u8>,
    /// For so long has its client waited, in milliseconds.
    pub waited: u64,
    /// It has asked for this upgrade.
    pub asked: bool,
    /// It has asked for a run.
    pub is_run: bool,
    /// The number of the job that this is, if it has begun.
    pub job: Option<u64>,
    /// That run was another request's before, with the same key.
    pub is_repeat: bool,
    /// The body of that request, if it has not begun.
    pub body: Text,
    /// Its client has been told to send the body.
    pub told: bool,
    /// A body is under way to a process on it.
    pub upload: Option<Upload>,
}

/// A body that is passed on to a process as it comes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Upload {
    /// Something of it may have been passed on.
    pub is_begun: bool,
    /// Bytes that were.
    pub written: u64,
    /// Bytes of what comes that the process had before, or that are not of the body.
    pub skip: u64,
    /// Bytes of it that have not come, unless it comes in chunks.
    pub left: Option<u64>,
    /// What has come and has not been passed on.
    pub piece: Text,
    /// That is the last of it.
    pub is_last: bool,
}

/// A run that somebody waits for.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Run {
    /// The number of the job.
    pub job: u64,
    /// When it began, in nanoseconds of the monotonic clock and milliseconds of the other.
    pub since: (u64, u64),
    /// What it was asked for with, as far as that counts from then on.
    pub asked: Asked,
    /// What it has written to its standard output and error.
    pub outputs: [Output; 2],
    /// What of its input is still to be written, if something is.
    pub input: Option<Text>,
    /// Bytes of it that have been.
    pub input_bytes: u64,
    /// How far it has been sent, if it is streamed.
    pub stream: Option<Streamed>,
}

/// How far a streamed run has been sent.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Streamed {
    /// As events, not as lines.
    pub as_events: bool,
    /// As text, not as base64.
    pub as_text: bool,
    /// Bytes that are sent of each output.
    pub max: u64,
    /// The entry of the log that comes next.
    pub next: u64,
    /// How far its standard output and error have.
    pub outputs: [Passed; 2],
    /// What has been made of them and is still to be sent.
    pub unsent: Text,
    /// What was in its pipes when it was over, if it is.
    pub rest: Option<[u64; 3]>,
    /// The last entry that is its own, if that is known.
    pub last: Option<u64>,
}

/// How far an output has been sent.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Passed {
    /// Bytes that have come.
    pub written: u64,
    /// Bytes of those that are within the bound.
    pub sent: u64,
    /// The beginning of a character whose end has not come.
    pub held: Text,
    /// The number and the time of the last entry that something was sent of.
    pub last: Option<(u64, u64)>,
}

/// What is wanted of a run once it has begun.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Asked {
    /// Its program.
    pub command: String,
    /// The arguments of that.
    pub args: Vec<String>,
    /// Its directory.
    pub cwd: Option<String>,
    /// Bytes kept of each output.
    pub output_max: u64,
    /// Which of them.
    pub keep: String,
    /// Its answer tells how many bytes there were.
    pub tells_bytes: bool,
    /// And what it used.
    pub tells_usage: bool,
    /// It goes on without its client.
    pub outlives_client: bool,
    /// It was listed from its start.
    pub is_record: bool,
    /// The id of the request, if it brought one.
    pub request: Option<String>,
    /// How many bytes of it are read in a second, if that is limited.
    pub rate: Option<u64>,
}

/// What a run has written to a stream.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Output {
    /// So many bytes.
    pub written: u64,
    /// Of which these are kept: the first, those before the last, and the last.
    pub kept: [Text; 3],
    /// And where they are, instead.
    pub slots: Option<Slots>,
}

/// Slots of the memory of logs that what is kept of an output is in.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Slots {
    /// Of the first bytes.
    pub head: Vec<u32>,
    /// So many of these may be kept.
    pub head_max: u64,
    /// Of the last bytes.
    pub tail: Vec<u32>,
    /// Which slot of the stream the first of those is.
    pub tail_number: u64,
    /// Bytes before this one are of the first, or are not kept.
    pub tail_from: u64,
}

impl Slots {
    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = u32> + '_ {
        self.head.iter().chain(&self.tail).copied()
    }
}

/// What was typed and a job has not read.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Typed {
    /// The number of the job.
    pub job: u64,
    /// It.
    pub data: Text,
    /// Where it belongs among the bytes of the input, if its client has said so.
    pub offset: Option<u64>,
    /// It is the end of input.
    pub is_end: bool,
}

/// A signal that is due to the tree of a job whose leader runs then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Due {
    /// The number of the job.
    pub job: u64,
    /// Which signal; none is the end of the grace of a stop.
    pub signal: Option<i32>,
    /// In so many milliseconds.
    pub after_ms: u64,
}

/// Bytes, written as the text of which they are the code points: much shorter than numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Text(pub Vec<u8>);

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.0.into_iter().map(char::from).collect()
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        let byte = |char| u8::try_from(u32::from(char)).unwrap_or(b'?');
        Self(text.chars().map(byte).collect())
    }
}

impl Heritage {
    /// Every descriptor that has to stay open, but those that records name.
    pub fn descriptors(&self) -> impl Iterator<Item = RawFd> + '_ {
        let memory = [self.records, self.log, self.index, self.bell];
        let programs = [self.before, self.program];
        let sockets = self.sockets.iter().map(|socket| socket.fd);
        let groups = self.groups.iter().map(|groups| groups.dir);
        let connections = self.connections.iter().map(|of| of.fd);
        memory
            .into_iter()
            .chain(programs)
            .chain(sockets)
            .chain(groups)
            .chain(connections)
            .filter(|&fd| fd > 2)
    }

    /// Slots of the memory of logs that it leads to.
    pub fn slots(&self) -> impl Iterator<Item = u32> + '_ {
        let outputs = self.runs.iter().flat_map(|run| &run.outputs);
        let slots = outputs.filter_map(|output| output.slots.as_ref());
        slots.flat_map(Slots::all)
    }

    /// The same, with what only the first server goes on with, which is much: that is gone here.
    pub fn take(&mut self) -> Self {
        let guests = self.take_guests();
        Self {
            connections: guests.connections,
            runs: guests.runs,
            typed: guests.typed,
            events: guests.events,
            ..self.clone()
        }
    }

    /// What only the first server goes on with.
    pub fn take_guests(&mut self) -> Self {
        Self {
            connections: std::mem::take(&mut self.connections),
            runs: std::mem::take(&mut self.runs),
            typed: std::mem::take(&mut self.typed),
            events: std::mem::take(&mut self.events),
            ..Self::default()
        }
    }

    /// Writes it into memory of its own.
    ///
    /// # Errors
    /// If there is none, and of more than [`Heritage::read`] takes.
    pub fn write(&self) -> io::Result<OwnedFd> {
        let text = serde_json::to_vec(self)?;
        if text.len() as u64 > BYTES_MAX {
            return Err(io::Error::other("there is too much to hand over"));
        }
        let made = memfd::MemfdOptions::new().create("procring-heritage");
        let mut file = made.map_err(io::Error::other)?.into_file();
        file.write_all(&text)?;
        Ok(file.into())
    }

    /// Reads what [`Heritage::write`] has written.
    ///
    /// # Errors
    /// A sentence, if it is no heritage, or one of a state that this program does not know.
    pub fn read(fd: OwnedFd) -> Result<Self, String> {
        let file = File::from(fd);
        let whole = || {
            let len = file.metadata()?.len().min(BYTES_MAX);
            let mut text = vec![0; usize::try_from(len).unwrap_or_default()];
            file.read_exact_at(&mut text, 0)?;
            Ok::<_, io::Error>(text)
        };
        let number = file.as_raw_fd();
        let text = whole().map_err(|error| format!("descriptor {number}: {error}"))?;
        let heritage: Self = serde_json::from_slice(&text).map_err(|error| {
            format!("descriptor {number} is not what a server hands over: {error}")
        })?;
        let known = known();
        match heritage.state {
            state if state == known => Ok(heritage),
            state => Err(format!(
                "the running server keeps its state in form {state} (procring {}), and this program \
                 (procring {}) knows form {known} only: take one that knows it, or stop the server \
                 and start it anew",
                heritage.version,
                env!("CARGO_PKG_VERSION")
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> OwnedFd {
        let made = memfd::MemfdOptions::new().create("test").unwrap();
        let mut file = made.into_file();
        file.write_all(text.as_bytes()).unwrap();
        file.into()
    }

    #[test]
    fn what_is_handed_over_is_read_by_an_older_and_a_newer_program() {
        let connection = Connection {
            fd: 9,
            bytes: b"GET / HTTP/1.1\r\n\xff".to_vec(),
            body: Text((0..=255).collect()),
            ..Connection::default()
        };
        let heritage = Heritage {
            state: STATE,
            arguments: vec![b"server".to_vec(), b"--host=\xff".to_vec()],
            connections: vec![connection],
            log: 5,
            ..Heritage::default()
        };
        let read = Heritage::read(heritage.write().unwrap()).unwrap();
        assert_eq!(read.arguments, heritage.arguments);
        assert_eq!(read.connections[0].bytes, heritage.connections[0].bytes);
        assert_eq!(read.connections[0].body, heritage.connections[0].body);
        assert_eq!(read.descriptors().collect::<Vec<_>>(), [5, 9]);
        let newer = format!(r#"{{"state":{STATE},"colour":{{"x":[1]}},"log":7}}"#);
        assert_eq!(Heritage::read(written(&newer)).unwrap().log, 7);
    }

    #[test]
    fn a_state_of_another_form_is_refused_with_what_to_do() {
        let other = Heritage::read(written(r#"{"state":77,"version":"9.9.9"}"#)).unwrap_err();
        assert!(other.contains("form 77 (procring 9.9.9)"), "{other}");
        assert!(other.contains("start it anew"), "{other}");
        for text in ["", "{}", "[]", "procring"] {
            assert!(Heritage::read(written(text)).is_err(), "{text}");
        }
    }
}
