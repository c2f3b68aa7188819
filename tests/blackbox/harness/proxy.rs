//! Something between a client and a server that loses what passes through it.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::Server;

/// See the module.
pub(crate) struct Proxy {
    port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    open: Mutex<Vec<TcpStream>>,
    is_swallowing: AtomicBool,
    swallowed: AtomicUsize,
    /// Requests whose answers are lost, by what is in them, and how many still.
    unanswered: Mutex<(&'static str, usize)>,
}

impl Proxy {
    pub(crate) fn to(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let state = Arc::new(State::default());
        let (all, address) = (state.clone(), server.address);
        std::thread::spawn(move || {
            for here in listener.incoming().flatten() {
                let Ok(there) = TcpStream::connect(address) else {
                    return;
                };
                State::pass_on(&all, here, there);
            }
        });
        Self { port, state }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Cuts all connections that are open.
    pub(crate) fn cut(&self) {
        for socket in self.state.open.lock().expect("a lock").drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// Whether what clients send arrives no more. A connection that has lost something stays so.
    pub(crate) fn swallow(&self, is_swallowing: bool) {
        self.state
            .is_swallowing
            .store(is_swallowing, Ordering::SeqCst);
    }

    /// How many bytes did not arrive.
    pub(crate) fn swallowed(&self) -> usize {
        self.state.swallowed.load(Ordering::SeqCst)
    }

    /// Cuts the next `count` requests that have this in them when they are about to be answered.
    pub(crate) fn lose_answers(&self, with: &'static str, count: usize) {
        *self.state.unanswered.lock().expect("a lock") = (with, count);
    }

    /// Answers that are still to be lost.
    pub(crate) fn to_lose(&self) -> usize {
        self.state.unanswered.lock().expect("a lock").1
    }
}

impl State {
    fn pass_on(all: &Arc<Self>, here: TcpStream, there: TcpStream) {
        let is_unanswered = Arc::new(AtomicBool::new(false));
        let clone = |socket: &TcpStream| socket.try_clone().expect("a socket");
        let mut open = all.open.lock().expect("a lock");
        open.extend([clone(&here), clone(&there)]);
        let (mut from, mut to) = (clone(&here), clone(&there));
        let (state, lost) = (all.clone(), is_unanswered.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 64 << 10];
            // What follows something that is missing makes no sense.
            let mut is_swallowing = false;
            while let Ok(read @ 1..) = from.read(&mut buffer) {
                is_swallowing |= state.is_swallowing.load(Ordering::SeqCst);
                if is_swallowing {
                    state.swallowed.fetch_add(read, Ordering::SeqCst);
                    continue;
                }
                if state.loses(&buffer[..read]) {
                    lost.store(true, Ordering::SeqCst);
                }
                if to.write_all(&buffer[..read]).is_err() {
                    break;
                }
            }
            let _ = to.shutdown(Shutdown::Write);
        });
        let (mut from, mut to) = (there, here);
        std::thread::spawn(move || {
            let mut buffer = [0; 64 << 10];
            while let Ok(read @ 1..) = from.read(&mut buffer) {
                if is_unanswered.load(Ordering::SeqCst) || to.write_all(&buffer[..read]).is_err() {
                    break;
                }
            }
            let _ = to.shutdown(Shutdown::Both);
        });
    }

    fn loses(&self, request: &[u8]) -> bool {
        let mut unanswered = self.unanswered.lock().expect("a lock");
        let (with, count) = *unanswered;
        let is_meant = count > 0
            && request
                .windows(with.len())
                .any(|part| part == with.as_bytes());
        unanswered.1 -= usize::from(is_meant);
        is_meant
    }
}
