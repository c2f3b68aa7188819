//! Which TCP ports processes listen on, as the kernel's tables show it, in steps.
//!
//! In: processes and ports. Out: those of the ports on which one of the processes listens. Makes no
//! connection, so nobody who listens is disturbed.
//!
//! A table of sockets (proc_net_tcp(5)) is that of a network namespace, so each that a process is in
//! is read. It has the listening sockets before all others, and of these nothing is read. Only if
//! somebody listens on a port, the descriptors of the processes are looked through for that socket:
//! the table does not say whose it is.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, ReadDir};
use std::io::Read;
use std::os::unix::fs::MetadataExt as _;
use std::time::Instant;

use super::identity::Process;
use super::procfs;

/// What is read of a table at a time, in bytes.
const PIECE_BYTES: usize = 16 << 10;

/// Threads of a process that are asked for what its main thread no longer shows.
const THREADS_MAX: usize = 16;

/// States as the table has them (include/net/tcp_states.h).
const LISTEN: &str = "0A";

/// Old kernels list connections that are being made beside the socket that they come to.
const SYN_RECEIVED: &str = "03";

/// A look under way.
#[derive(Debug)]
pub(crate) struct Look {
    wanted: HashSet<u16>,
    members: Vec<Process>,
    /// The next member to be asked, first for its namespace, then for its descriptors.
    at: usize,
    namespaces: HashSet<u64>,
    tables: Vec<String>,
    table: Option<Table>,
    /// Sockets that listen on ports that are wanted.
    listening: HashMap<u64, u16>,
    descriptors: Option<ReadDir>,
    found: HashSet<u16>,
    /// Namespaces and tables are known.
    tables_read: bool,
}

/// A table that is being read.
#[derive(Debug)]
struct Table {
    file: File,
    /// The beginning of a line whose end has not been read.
    line: Vec<u8>,
}

impl Look {
    /// Looks for these ports among these processes.
    pub(crate) fn new(wanted: HashSet<u16>, members: Vec<Process>) -> Self {
        Self {
            wanted,
            members,
            at: 0,
            namespaces: HashSet::new(),
            tables: Vec::new(),
            table: None,
            listening: HashMap::new(),
            descriptors: None,
            found: HashSet::new(),
            tables_read: false,
        }
    }

    /// Ports on which one of the processes listens.
    pub(crate) fn found(&self) -> &HashSet<u16> {
        &self.found
    }

    /// Whether there is somebody who listens on a port that is wanted and was not found.
    pub(crate) fn missed_somebody(&self) -> bool {
        let mut ports = self.listening.values();
        ports.any(|port| !self.found.contains(port))
    }

    /// Goes on until `until`; whether it is over.
    pub(crate) fn step(&mut self, until: Instant) -> bool {
        loop {
            let over = if self.tables_read {
                self.ask_for_descriptors()
            } else {
                self.read_tables();
                false
            };
            if over || Instant::now() >= until {
                return over;
            }
        }
    }

    /// One more namespace, or one more piece of a table.
    fn read_tables(&mut self) {
        if let Some(table) = &mut self.table {
            if !table.read(&self.wanted, &mut self.listening) {
                self.table = None;
            }
        } else if let Some(path) = self.tables.pop() {
            let opened = File::open(path).ok();
            self.table = opened.map(|file| Table {
                file,
                line: Vec::new(),
            });
        } else if let Some(member) = self.members.get(self.at) {
            self.at += 1;
            for place in places(member.pid()) {
                if let Ok(namespace) = fs::metadata(format!("{place}/ns/net")) {
                    if self.namespaces.insert(namespace.ino()) {
                        self.tables.push(format!("{place}/net/tcp"));
                        self.tables.push(format!("{place}/net/tcp6"));
                    }
                    break;
                }
            }
        } else {
            self.tables_read = true;
            self.at = 0;
        }
    }

    /// One more descriptor; whether there are no more, or no more are needed.
    fn ask_for_descriptors(&mut self) -> bool {
        if !self.missed_somebody() {
            return true;
        }
        let Some(&member) = self.members.get(self.at) else {
            return true;
        };
        let Some(descriptors) = &mut self.descriptors else {
            let mut places = places(member.pid());
            self.descriptors = places.find_map(|place| fs::read_dir(format!("{place}/fd")).ok());
            self.at += usize::from(self.descriptors.is_none());
            return false;
        };
        let Some(descriptor) = descriptors.next() else {
            self.descriptors = None;
            self.at += 1;
            return false;
        };
        let socket = descriptor
            .ok()
            .and_then(|descriptor| fs::read_link(descriptor.path()).ok())
            .and_then(|link| {
                let number = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
                number.parse().ok()
            });
        if let Some(port) = socket.and_then(|socket: u64| self.listening.get(&socket))
            // Whose descriptors were listed may be another one of the same number by now.
            && member.is_current()
        {
            self.found.insert(*port);
        }
        false
    }
}

/// Where /proc shows what threads of a process share. A main thread that has ended shows nothing,
/// though others run.
fn places(pid: i32) -> impl Iterator<Item = String> {
    let others = std::iter::once_with(move || procfs::threads_of(pid))
        .flatten()
        .take(THREADS_MAX)
        .map(move |thread| format!("/proc/{pid}/task/{thread}"));
    std::iter::once(format!("/proc/{pid}")).chain(others)
}

impl Table {
    /// Reads a piece; false if there is no more to be read.
    fn read(&mut self, wanted: &HashSet<u16>, listening: &mut HashMap<u64, u16>) -> bool {
        let mut piece = [0; PIECE_BYTES];
        let Ok(len @ 1..) = self.file.read(&mut piece) else {
            return false;
        };
        self.line.extend_from_slice(&piece[..len]);
        let mut rest = &self.line[..];
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            let line = std::str::from_utf8(&rest[..end]).unwrap_or_default();
            rest = &rest[end + 1..];
            match listener(line) {
                Line::Listens { port, socket } if wanted.contains(&port) => {
                    listening.insert(socket, port);
                }
                Line::Listens { .. } | Line::Other => {}
                Line::Connection => return false,
            }
        }
        self.line = rest.to_vec();
        true
    }
}

/// What a line of a table says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Listens {
        port: u16,
        socket: u64,
    },
    /// No listening socket comes behind it.
    Connection,
    Other,
}

fn listener(line: &str) -> Line {
    let mut fields = line.split_ascii_whitespace();
    let (Some(local), Some(state)) = (fields.nth(1), fields.nth(1)) else {
        return Line::Other;
    };
    match state {
        LISTEN => {}
        SYN_RECEIVED | "st" => return Line::Other,
        _ => return Line::Connection,
    }
    let port = local.rsplit(':').next();
    let port = port.and_then(|port| u16::from_str_radix(port, 16).ok());
    // Behind the queues, the timer, retransmissions, the user and the timeout.
    let socket = fields.nth(5).and_then(|socket| socket.parse().ok());
    match (port, socket) {
        (Some(port), Some(socket)) => Line::Listens { port, socket },
        _ => Line::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    fn look(ports: &[u16], pid: i32) -> Look {
        let process = Process::new(pid, &procfs::stat(pid).unwrap());
        let mut look = Look::new(ports.iter().copied().collect(), vec![process]);
        // The least work there is.
        while !look.step(Instant::now()) {}
        look
    }

    #[test]
    fn lines_of_the_table_are_read_as_the_kernel_writes_them() {
        let head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";
        let v4 = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 00000000 100 0 0 10 0";
        let v6 = "   1: 00000000000000000000000001000000:0016 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 815 1";
        let connected = v4.replace(" 0A ", " 01 ");
        assert_eq!(listener(head), Line::Other);
        let (port, socket) = (8080, 4711);
        assert_eq!(listener(v4), Line::Listens { port, socket });
        let (port, socket) = (22, 815);
        assert_eq!(listener(v6), Line::Listens { port, socket });
        assert_eq!(listener(&connected), Line::Connection);
        assert_eq!(listener(&v4.replace(" 0A ", " 03 ")), Line::Other);
        for line in ["", "x", "0: 1 2 0A", "0: 1:GG 2 0A 1 2 3 4 5 6"] {
            assert_eq!(listener(line), Line::Other, "{line}");
        }
    }

    #[test]
    fn a_port_is_found_in_who_listens_on_it_and_nobody_else() {
        let own = std::process::id().cast_signed();
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        // A connection to the same port is no listener.
        let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let _server = listener.accept().unwrap();
        let client_port = client.local_addr().unwrap().port();
        assert_eq!(look(&[port, client_port], own).found(), &[port].into());

        // Descriptors are not handed on to it.
        let mut other = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let others = look(&[port], other.id().cast_signed());
        assert!(others.found().is_empty() && others.missed_somebody());
        other.kill().unwrap();
        other.wait().unwrap();

        drop(listener);
        let closed = look(&[port], own);
        assert!(closed.found().is_empty());
    }
}
