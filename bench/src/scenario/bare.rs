//! Bare relays between a socket and a child's pipe: what procring does, and no more, as its measure
//! in the same round.
//!
//! In: a request that nobody looks at. Out: its body in a child's input, or a child's output as it is.
//! Both read and write blocking, 64 KiB at a time, on a thread of their own.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::trouble::{During as _, Result};

/// Bytes of one read.
const BLOCK: usize = 64 << 10;

/// Serves one connection after the other until the bench ends.
fn serve(serve: impl Fn(TcpStream) -> io::Result<()> + Send + 'static) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").during("bind")?;
    let address = listener.local_addr().during("getsockname")?;
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // Whoever measures sees that its bytes do not arrive.
            let _ = stream.and_then(&serve);
        }
    });
    Ok(address)
}

/// Reads a head, and nothing behind it.
fn skip_head(stream: &mut TcpStream) -> io::Result<()> {
    let mut last = [0; 4];
    while last != *b"\r\n\r\n" {
        last.rotate_left(1);
        stream.read_exact(&mut last[3..])?;
    }
    Ok(())
}

/// Passes `total` bytes of a body on to `cat > /dev/null`, and then answers.
pub(super) fn to_pipe(total: u64) -> Result<SocketAddr> {
    serve(move |mut stream| {
        skip_head(&mut stream)?;
        let mut child = Command::new("sh")
            .args(["-c", "cat > /dev/null"])
            .stdin(Stdio::piped())
            .spawn()?;
        let (mut left, mut block) = (total, vec![0; BLOCK]);
        if let Some(mut pipe) = child.stdin.take() {
            while left > 0 {
                let most = BLOCK.min(usize::try_from(left).unwrap_or(BLOCK));
                match stream.read(&mut block[..most])? {
                    0 => break,
                    len => {
                        pipe.write_all(&block[..len])?;
                        left -= len as u64;
                    }
                }
            }
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?;
        child.wait().map(drop)
    })
}

/// Sends what `program child flood` writes, `total` bytes, and closes.
pub(super) fn from_pipe(program: &Path, total: u64) -> Result<SocketAddr> {
    let program = program.to_owned();
    serve(move |mut stream| {
        skip_head(&mut stream)?;
        let mut child = Command::new(&program)
            .args(["child", "flood", &total.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        if let Some(mut begin) = child.stdin.take() {
            begin.write_all(b"\n")?;
        }
        let mut block = vec![0; BLOCK];
        if let Some(mut pipe) = child.stdout.take() {
            loop {
                match pipe.read(&mut block)? {
                    0 => break,
                    len => stream.write_all(&block[..len])?,
                }
            }
        }
        child.wait().map(drop)
    })
}
