//! A run over HTTP by a server that does nothing else: a thread for each connection reads a request,
//! starts the program, reads its two pipes to their ends, reaps it and answers.
//!
//! No limit, no timeout, no tree: what a run costs before anything is promised about it. It is a
//! process of its own, so that its CPU is told from the generator's, or a thread of the benchmark as
//! the measure of a scenario.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::contenders::Responder;
use crate::http::request;
use crate::load;
use crate::sys;
use crate::trouble::{During, Result, Trouble};

/// Its name as a responder.
pub(crate) const NAME: &str = "bare runs";

/// Clients at once, of each row.
pub(super) const CLIENTS: [usize; 3] = [1, 8, 32];

/// Bytes of one read.
const BLOCK: usize = 4096;

/// One row: CPU of the server per run in µs, runs a second, p99 in µs.
pub(super) fn measure(index: usize, duration: Duration) -> Result<Vec<f64>> {
    let responder = Responder::start(NAME)?;
    let (clients, address) = (CLIENTS[index], responder.address);
    // Connections and caches first.
    runs(address, clients, duration / 10)?;
    let cpu = || sys::process_cpu(responder.pid()).during("read a responder's CPU clock");
    let (began, before) = (Instant::now(), cpu()?);
    let load = runs(address, clients, duration)?;
    let spent = (cpu()? - before).as_secs_f64();
    if load.wrong > 0 {
        return Err(Trouble::Protocol(format!("{} wrong answers", load.wrong)));
    }
    Ok(vec![
        spent * 1e6 / load.count as f64,
        load.count as f64 / began.elapsed().as_secs_f64(),
        load.latency.value_at_quantile(0.99) as f64 / 1e3,
    ])
}

/// Runs of /bin/true in a closed loop.
pub(crate) fn runs(address: SocketAddr, clients: usize, duration: Duration) -> Result<load::Load> {
    let request = request("POST", "/v1/processes/run", br#"{"command":"/bin/true"}"#);
    load::threads(address, clients, duration, &|connection| {
        let right = br#"{"exitCode":0,"timedOut":false,"#;
        Ok(connection.exchange(&request)? == 200 && connection.body().starts_with(right))
    })
}

/// The server; ends with its process.
pub(crate) fn serve(listener: TcpListener) -> Result<()> {
    for stream in listener.incoming() {
        let stream = stream.during("accept")?;
        // Whoever measures sees that its answers do not come.
        std::thread::spawn(|| connection(stream));
    }
    Ok(())
}

fn connection(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut input = Vec::new();
    let mut block = [0; BLOCK];
    loop {
        let whole = parse(&input)?.filter(|(head, body)| input.len() >= head + body);
        let Some((head, body)) = whole else {
            match stream.read(&mut block)? {
                0 => return Ok(()),
                len => input.extend_from_slice(&block[..len]),
            }
            continue;
        };
        let whole = head + body;
        let asked: serde_json::Value = serde_json::from_slice(&input[head..whole])?;
        input.drain(..whole);
        stream.write_all(&run(asked["command"].as_str().unwrap_or_default())?)?;
    }
}

/// Bytes of the request's head and of its body.
fn parse(input: &[u8]) -> io::Result<Option<(usize, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; 16];
    let mut request = httparse::Request::new(&mut headers);
    let status = request.parse(input).map_err(io::Error::other)?;
    let httparse::Status::Complete(head) = status else {
        return Ok(None);
    };
    let length = request.headers.iter().find_map(|header| {
        let is_length = header.name.eq_ignore_ascii_case("content-length");
        let text = is_length.then(|| std::str::from_utf8(header.value).ok());
        text.flatten()?.parse().ok()
    });
    Ok(Some((head, length.unwrap_or(0))))
}

fn run(command: &str) -> io::Result<Vec<u8>> {
    let began = Instant::now();
    let child = Command::new(command)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let output = child.wait_with_output()?;
    let text = |bytes: &[u8]| serde_json::json!(String::from_utf8_lossy(bytes)).to_string();
    let body = format!(
        r#"{{"exitCode":{},"timedOut":false,"stdout":{},"stderr":{},"stdoutTruncated":false,"stderrTruncated":false,"durationMs":{}}}"#,
        output.status.code().unwrap_or(-1),
        text(&output.stdout),
        text(&output.stderr),
        began.elapsed().as_millis(),
    );
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    Ok([head.as_bytes(), body.as_bytes()].concat())
}
