//! A server that is started from the library, in the process that asks it.
//!
//! It has the process to itself and begins in its first thread (`harness = false` in Cargo.toml): a
//! server blocks the signals of the thread that starts it and takes orphans in, and the SIGTERM that
//! ends it must find no thread that does not block it.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use procring::config::flags::{CgroupChoice, ServerArgs};
use procring::server;
use rustix::process::{Signal, getpid, kill_process};

fn main() {
    let args = ServerArgs {
        port: 0,
        cgroup: CgroupChoice::Off,
        ..ServerArgs::default()
    };
    let ready = server::start(&args).expect("a server");
    let address = ready.addresses().next().expect("an address");
    assert_ne!(
        address.port(),
        0,
        "the port is the one that the kernel chose"
    );
    let client = thread::spawn(move || {
        let answer = health(address);
        // Whatever the answer is: the server must end, or this process would not.
        kill_process(getpid(), Signal::TERM).expect("a signal to this process");
        answer
    });
    ready.run().expect("a server that ends well");
    let answer = client.join().expect("a client that ends");
    let answer = answer.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n{\"status\":\"ok\"}"), "{answer}");
}

fn health(address: SocketAddr) -> io::Result<String> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(Duration::from_secs(60)))?;
    write!(
        socket,
        "GET /v1/health HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    Ok(answer)
}
