//! Short reads and short writes: one in n of a running server's is cut to 1 to 7 bytes.
//!
//! In: a server. Out: how many calls were cut, by what they were on. Owns a thread that traces
//! all threads of the server (ptrace(2)); children are not traced. Only sockets, pipes and
//! terminals are touched: an eventfd, for one, answers EINVAL to a short read.
//!
//! The length argument is lowered where the call is entered and put back where it returns, since
//! the caller may go on using the register. `readv` and `writev` become a `read` or `write` of
//! the first piece.
//!
//! Safety: this file reopens `unsafe` for ptrace(2), waitpid(2) and the signal that ends a wait.
//! What they write to lives on the tracing thread's stack; the traced memory is not written to.

use std::collections::HashMap;
use std::os::unix::fs::FileExt as _;
use std::os::unix::thread::JoinHandleExt as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{Server, WAIT};

/// What a call is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum On {
    Socket,
    Pipe,
    Terminal,
}

/// Calls that moved bytes after they were cut, by `On` and direction (reading first).
#[derive(Debug, Default)]
pub(crate) struct Counts([[AtomicU64; 2]; 3]);

impl Counts {
    pub(crate) fn reads(&self, on: On) -> u64 {
        self.0[on as usize][0].load(Ordering::Relaxed)
    }

    pub(crate) fn writes(&self, on: On) -> u64 {
        self.0[on as usize][1].load(Ordering::Relaxed)
    }
}

/// A server whose reads and writes are short, for as long as this lives.
pub(crate) struct Shortened {
    pub(crate) counts: Arc<Counts>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Shortened {
    /// Cuts one call in `every`, chosen at random; the error of ptrace(2) where it is not to be had.
    pub(crate) fn attach(server: &Server, every: u64) -> Result<Self, std::io::Error> {
        wake_by_signal();
        let counts = Arc::new(Counts::default());
        let over = Arc::new(AtomicBool::new(false));
        let (tell, attached) = mpsc::channel();
        let tracer = Tracer {
            pid: server.pid,
            every,
            choice: 0x9e37_79b9_7f4a_7c15,
            inside: HashMap::new(),
            counts: Arc::clone(&counts),
            over: Arc::clone(&over),
        };
        let thread = std::thread::spawn(move || tracer.run(&tell));
        let shortened = Self {
            counts,
            over,
            thread: Some(thread),
        };
        attached.recv_timeout(WAIT).expect("word of the tracer")?;
        Ok(shortened)
    }
}

impl Drop for Shortened {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread.take() else {
            return;
        };
        let end = Instant::now() + WAIT;
        // Again and again, as the signal may come just before the wait it is to end.
        while !thread.is_finished() && Instant::now() < end {
            // SAFETY: no pointer; the thread is not joined yet, so its id is valid.
            unsafe { libc::pthread_kill(thread.as_pthread_t(), libc::SIGUSR1) };
            std::thread::sleep(Duration::from_millis(2));
        }
        let ended = thread.is_finished() && thread.join().is_ok();
        assert!(ended || std::thread::panicking(), "the tracer does not end");
    }
}

/// Has SIGUSR1 do nothing but end a wait with EINTR.
fn wake_by_signal() {
    extern "C" fn nothing(_: libc::c_int) {}
    let handler: extern "C" fn(libc::c_int) = nothing;
    // SAFETY: all zero is a valid sigaction: no flags (so no restart), an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as libc::sighandler_t;
    // SAFETY: the handler does nothing; `action` outlives the call; no old action is asked for.
    let done = unsafe { libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()) };
    assert_eq!(done, 0, "sigaction");
}

/// A call that was cut: the registers to put back.
struct Cut {
    number: u64,
    buffer: u64,
    length: u64,
    on: On,
    writes: bool,
}

/// The tracing thread; ptrace(2) knows the thread, not the process.
struct Tracer {
    pid: i32,
    every: u64,
    /// What the next choice depends on; the same sequence in each test.
    choice: u64,
    /// By thread.
    inside: HashMap<i32, Cut>,
    counts: Arc<Counts>,
    over: Arc<AtomicBool>,
}

/// `struct ptrace_syscall_info`: what stop it is, and the call entered.
struct Stop {
    entered: bool,
    number: u64,
    arguments: [u64; 3],
}

impl Tracer {
    /// Returns when told to, or with the server; the kernel then lets go of what was traced.
    fn run(mut self, tell: &mpsc::Sender<Result<(), std::io::Error>>) {
        if let Err(error) = self.seize_all() {
            let _ = tell.send(Err(error));
            return;
        }
        let _ = tell.send(Ok(()));
        loop {
            let mut status = 0;
            // Of this thread only: other tests wait for children of theirs.
            // SAFETY: `status` is an int that outlives the call.
            let thread =
                unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL | libc::__WNOTHREAD) };
            if thread < 0 && std::io::Error::last_os_error().raw_os_error() != Some(libc::EINTR) {
                return;
            }
            if thread > 0 && libc::WIFSTOPPED(status) {
                let signal = self.on_stop(thread, status);
                request(libc::PTRACE_SYSCALL, thread, signal as usize);
            } else if thread > 0 {
                self.inside.remove(&thread);
            }
            if self.over.load(Ordering::Relaxed) && self.inside.is_empty() {
                return;
            }
        }
    }

    fn seize_all(&self) -> Result<(), std::io::Error> {
        let options = libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_TRACECLONE;
        let mut seized = Vec::new();
        // A thread may be born meanwhile; if by a traced one, it is traced already (EPERM).
        loop {
            let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid))?;
            let tasks = tasks.filter_map(|task| task.ok()?.file_name().to_str()?.parse().ok());
            let new: Vec<i32> = tasks.filter(|thread| !seized.contains(thread)).collect();
            if new.is_empty() {
                return Ok(());
            }
            for thread in new {
                if request(libc::PTRACE_SEIZE, thread, options as usize) {
                    request(libc::PTRACE_INTERRUPT, thread, 0);
                } else if seized.is_empty() {
                    return Err(std::io::Error::last_os_error());
                }
                seized.push(thread);
            }
        }
    }

    /// Does what is to be done at a stop; gives the signal to deliver.
    fn on_stop(&mut self, thread: i32, status: i32) -> i32 {
        let signal = libc::WSTOPSIG(status);
        if signal == libc::SIGTRAP | 0x80 {
            match stop(thread) {
                Some(stop) if stop.entered => self.on_entry(thread, &stop),
                Some(_) => self.on_return(thread),
                None => {}
            }
            return 0;
        }
        // An event: attached, or a new thread.
        if status >> 16 != 0 { 0 } else { signal }
    }

    fn on_entry(&mut self, thread: i32, stop: &Stop) {
        let (writes, vectored) = match stop.number as i64 {
            libc::SYS_read | libc::SYS_recvfrom => (false, false),
            libc::SYS_write | libc::SYS_sendto => (true, false),
            libc::SYS_readv => (false, true),
            libc::SYS_writev => (true, true),
            _ => return,
        };
        let Some(on) = self.kind(stop.arguments[0]) else {
            return;
        };
        // Not by counting: a read that gets all and one that gets nothing often alternate.
        self.choice ^= self.choice << 13;
        self.choice ^= self.choice >> 7;
        self.choice ^= self.choice << 17;
        if !self.choice.is_multiple_of(self.every) || self.over.load(Ordering::Relaxed) {
            return;
        }
        let few = 1 + self.choice / self.every % 7;
        let [_, buffer, length] = stop.arguments;
        let Some((start, whole)) = (if vectored {
            self.first_piece(buffer)
        } else {
            Some((buffer, length))
        }) else {
            return;
        };
        let Some(mut registers) = registers(thread) else {
            return;
        };
        if whole == 0 || (whole <= few && !vectored) {
            return;
        }
        let cut = Cut {
            number: registers.orig_rax,
            buffer: registers.rsi,
            length: registers.rdx,
            on,
            writes,
        };
        registers.rsi = start;
        registers.rdx = whole.min(few);
        if vectored {
            let plain = if writes {
                libc::SYS_write
            } else {
                libc::SYS_read
            };
            registers.orig_rax = plain as u64;
        }
        if set_registers(thread, &registers) {
            self.inside.insert(thread, cut);
        }
    }

    fn on_return(&mut self, thread: i32) {
        let Some(cut) = self.inside.remove(&thread) else {
            return;
        };
        let Some(mut registers) = registers(thread) else {
            return;
        };
        if registers.rax as i64 > 0 {
            let count = &self.counts.0[cut.on as usize][usize::from(cut.writes)];
            count.fetch_add(1, Ordering::Relaxed);
        }
        registers.orig_rax = cut.number;
        registers.rsi = cut.buffer;
        registers.rdx = cut.length;
        set_registers(thread, &registers);
    }

    fn kind(&self, descriptor: u64) -> Option<On> {
        let link = std::fs::read_link(format!("/proc/{}/fd/{descriptor}", self.pid)).ok()?;
        match link.to_str()? {
            link if link.starts_with("socket:") => Some(On::Socket),
            link if link.starts_with("pipe:") => Some(On::Pipe),
            link if link.starts_with("/dev/pt") => Some(On::Terminal),
            _ => None,
        }
    }

    /// Address and length of the first `struct iovec` at `at`.
    fn first_piece(&self, at: u64) -> Option<(u64, u64)> {
        let memory = std::fs::File::open(format!("/proc/{}/mem", self.pid)).ok()?;
        let mut piece = [0; 16];
        memory.read_exact_at(&mut piece, at).ok()?;
        let (base, length) = piece.split_at(8);
        let word = |bytes: &[u8]| Some(u64::from_ne_bytes(bytes.try_into().ok()?));
        Some((word(base)?, word(length)?))
    }
}

/// A request without an address; false where the kernel refused it.
fn request(what: libc::c_uint, thread: i32, data: usize) -> bool {
    // SAFETY: PTRACE_SEIZE, PTRACE_INTERRUPT and PTRACE_SYSCALL take numbers only.
    unsafe { libc::ptrace(what, thread, 0usize, data) == 0 }
}

fn registers(thread: i32) -> Option<libc::user_regs_struct> {
    // SAFETY: all zero is a valid value of a struct of integers.
    let mut registers: libc::user_regs_struct = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one such struct to `registers`, which outlives the call.
    let done = unsafe { libc::ptrace(libc::PTRACE_GETREGS, thread, 0usize, &raw mut registers) };
    (done == 0).then_some(registers)
}

fn set_registers(thread: i32, registers: &libc::user_regs_struct) -> bool {
    let registers = std::ptr::from_ref(registers);
    // SAFETY: the kernel reads one such struct from `registers`, which outlives the call.
    unsafe { libc::ptrace(libc::PTRACE_SETREGS, thread, 0usize, registers) == 0 }
}

/// What a thread stopped for (PTRACE_GET_SYSCALL_INFO, kernel 5.3).
fn stop(thread: i32) -> Option<Stop> {
    // The operation in the first byte; number and arguments from byte 24.
    let mut info = [0u64; 16];
    let size = size_of_val(&info);
    let what = libc::PTRACE_GET_SYSCALL_INFO;
    // SAFETY: the kernel writes at most `size` bytes to `info`, which outlives the call.
    let done = unsafe { libc::ptrace(what, thread, size, info.as_mut_ptr()) };
    let [operation, _, _, number, a, b, c, ..] = info;
    (done > 0).then_some(Stop {
        entered: operation & 0xff == u64::from(libc::PTRACE_SYSCALL_INFO_ENTRY),
        number,
        arguments: [a, b, c],
    })
}
