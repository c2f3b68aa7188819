//! An echo server on `procring::wire::ws`, for WebSocket conformance suites.
//!
//! `cargo run --release --example ws_echo -- PORT` (0: the kernel chooses);
//! prints the address it listens on. Echoes text and binary messages of up to
//! 16 MiB, answers pings, echoes closes, and fails a connection with the code of
//! its violation. One thread a connection; the framing is the library's.

use procring::wire::Parsed;
use procring::wire::http::head::{Head, HeadLimits, HeadScan, parse_head};
use procring::wire::ws::close::{write_close, write_echo};
use procring::wire::ws::frame::{Opcode, frame_head, write_frame};
use procring::wire::ws::handshake::{Accept, HandshakeError, UpgradeRequest, accept};
use procring::wire::ws::message::{Event, Reader, ReaderLimits};
use std::io::{self, ErrorKind, IoSlice, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::{Duration, Instant};

const MESSAGE_BYTES_MAX: u64 = 16 << 20;
const READ_BYTES: usize = 64 << 10;

/// How long the other side may take to end the connection after our Close.
const LINGER: Duration = Duration::from_secs(2);

fn main() -> io::Result<()> {
    let port = match std::env::args().nth(1).map(|text| text.parse::<u16>()) {
        Some(Ok(port)) => port,
        _ => {
            eprintln!("usage: ws_echo PORT");
            std::process::exit(2);
        }
    };
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    println!("listening on {}", listener.local_addr()?);
    for stream in listener.incoming() {
        // A client that has gone before it was accepted ends nothing.
        let Ok(stream) = stream else { continue };
        std::thread::spawn(move || {
            if let Err(error) = serve(stream) {
                eprintln!("connection ended: {error}");
            }
        });
    }
    Ok(())
}

fn serve(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::new();
    let Some(head_len) = upgrade(&mut stream, &mut buffer)? else {
        return Ok(());
    };

    let mut reader = Reader::new(ReaderLimits {
        frame_bytes_max: MESSAGE_BYTES_MAX,
        message_bytes_max: MESSAGE_BYTES_MAX,
    });
    // Frames may have come in the same read as the request.
    let mut over = echo(&mut reader, &buffer[head_len..], &mut stream)?;
    buffer.resize(READ_BYTES, 0);
    while !over {
        let len = stream.read(&mut buffer)?;
        if len == 0 {
            return Ok(());
        }
        over = echo(&mut reader, &buffer[..len], &mut stream)?;
    }

    // Unread input would turn the close into a reset, which may overtake the
    // Close frame: end our side, then read until the client ends its own.
    stream.shutdown(Shutdown::Write)?;
    let until = Instant::now() + LINGER;
    while let Some(left) = until
        .checked_duration_since(Instant::now())
        .filter(|t| !t.is_zero())
    {
        stream.set_read_timeout(Some(left))?;
        if matches!(stream.read(&mut buffer), Ok(0) | Err(_)) {
            break;
        }
    }
    Ok(())
}

/// Answers everything in `input`; true once the last Close has been sent.
fn echo(reader: &mut Reader, mut input: &[u8], stream: &mut TcpStream) -> io::Result<bool> {
    loop {
        let mut out = Vec::new();
        match reader.next(&mut input) {
            Ok(None) => return Ok(false),
            Ok(Some(Event::Text(text))) => send(stream, Opcode::Text, text.as_bytes())?,
            Ok(Some(Event::Binary(bytes))) => send(stream, Opcode::Binary, &bytes)?,
            Ok(Some(Event::Ping(payload))) => {
                write_frame(Opcode::Pong, &payload, &mut out);
                stream.write_all(&out)?;
            }
            Ok(Some(Event::Pong(_))) => {}
            Ok(Some(Event::Close(received))) => {
                write_echo(received.as_ref(), &mut out);
                stream.write_all(&out)?;
                return Ok(true);
            }
            Err(error) => {
                write_close(error.close_code(), &error.to_string(), &mut out);
                stream.write_all(&out)?;
                return Ok(true);
            }
        }
    }
}

/// Head and payload in one call, without copying the payload behind the head.
fn send(stream: &mut TcpStream, opcode: Opcode, payload: &[u8]) -> io::Result<()> {
    let mut head = [0; 10];
    let head_len = frame_head(opcode, true, payload.len() as u64, &mut head);
    let mut slices = [IoSlice::new(&head[..head_len]), IoSlice::new(payload)];
    let mut rest = &mut slices[..];
    while !rest.is_empty() {
        match stream.write_vectored(rest) {
            Ok(0) if rest.iter().any(|slice| !slice.is_empty()) => {
                return Err(ErrorKind::WriteZero.into());
            }
            Ok(written) => IoSlice::advance_slices(&mut rest, written),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads the request and answers it. Gives the length of its head in `buffer`,
/// or `None` if it was refused.
fn upgrade(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<usize>> {
    let (mut scan, limits) = (HeadScan::default(), HeadLimits::default());
    let (head_len, decision) = loop {
        let start = buffer.len();
        buffer.resize(start + 4096, 0);
        let len = stream.read(&mut buffer[start..])?;
        buffer.truncate(start + len);
        if len == 0 {
            return Ok(None);
        }
        match parse_head(buffer, &mut scan, &limits) {
            Ok(Parsed::NeedMore) => {}
            Ok(Parsed::Done { value, used }) => break (used, decide(&value)),
            Err(error) => return Err(io::Error::new(ErrorKind::InvalidData, error)),
        }
    };
    match decision {
        Ok(Accept { accept, protocol }) => {
            let mut answer = b"HTTP/1.1 101 Switching Protocols\r\nserver: ws_echo\r\n\
                connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: "
                .to_vec();
            answer.extend_from_slice(&accept);
            if let Some(protocol) = protocol {
                answer.extend_from_slice(b"\r\nsec-websocket-protocol: ");
                answer.extend_from_slice(protocol.as_bytes());
            }
            answer.extend_from_slice(b"\r\n\r\n");
            stream.write_all(&answer)?;
            Ok(Some(head_len))
        }
        Err(error) => {
            let body = error.to_string();
            write!(
                stream,
                "HTTP/1.1 400 Bad Request\r\nconnection: close\r\nsec-websocket-version: 13\r\n\
                 content-length: {}\r\n\r\n{body}",
                body.len()
            )?;
            Ok(None)
        }
    }
}

fn decide(head: &Head<'_>) -> Result<Accept, HandshakeError> {
    let all = |name: &str| head.headers(name).collect::<Vec<_>>();
    let single = |name: &str| match all(name)[..] {
        [value] => Some(value),
        _ => None,
    };
    accept(&UpgradeRequest {
        connection: &all("connection"),
        upgrade: &all("upgrade"),
        version: single("sec-websocket-version"),
        key: single("sec-websocket-key"),
        protocols: &all("sec-websocket-protocol"),
    })
}
