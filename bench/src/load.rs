//! Closed-loop HTTP load: one request under way on each connection, and latencies.
//!
//! Two engines. Threads with blocking sockets, for requests that take the server long;
//! one epoll loop, for requests so short that a thread switch would be the measurement.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::http::{Body, Connection, parse_head};
use crate::poll::Poll;
use crate::trouble::{During, Result, Trouble};

/// Latencies in nanoseconds, up to two minutes, three digits.
pub(crate) fn histogram() -> Histogram<u64> {
    // The bounds are constants that the constructor accepts.
    Histogram::new_with_bounds(1, 120_000_000_000, 3)
        .unwrap_or_else(|_| unreachable!("valid bounds"))
}

/// Nanoseconds since `began`, within the histogram's bounds.
pub(crate) fn nanos_since(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_nanos())
        .unwrap_or(u64::MAX)
        .clamp(1, 119_000_000_000)
}

/// What a load produced.
pub(crate) struct Load {
    /// Answers received.
    pub(crate) count: u64,
    /// Answers that were not as expected.
    pub(crate) wrong: u64,
    /// The first of those, cut short.
    pub(crate) example: Option<String>,
    /// Time from a request to its whole answer.
    pub(crate) latency: Histogram<u64>,
}

/// Runs `turn` on `clients` threads, each with its own connection, for `duration`.
/// `turn` makes one round of requests and says whether the answers were right.
pub(crate) fn threads(
    address: SocketAddr,
    clients: usize,
    duration: Duration,
    turn: &(dyn Fn(&mut Connection) -> Result<bool> + Sync),
) -> Result<Load> {
    let client = || -> Result<Load> {
        let mut connection = Connection::open(address)?;
        let mut load = Load {
            count: 0,
            wrong: 0,
            example: None,
            latency: histogram(),
        };
        let began = Instant::now();
        while began.elapsed() < duration {
            let at = Instant::now();
            if !turn(&mut connection)? {
                load.wrong += 1;
                let body = connection.body();
                let body = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
                load.example.get_or_insert(body);
            }
            load.latency.saturating_record(nanos_since(at));
            load.count += 1;
        }
        Ok(load)
    };
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..clients).map(|_| scope.spawn(client)).collect();
        let mut total = Load {
            count: 0,
            wrong: 0,
            example: None,
            latency: histogram(),
        };
        for handle in handles {
            let load = handle
                .join()
                .map_err(|_| Trouble::Setup("a load thread panicked".into()))??;
            total.count += load.count;
            total.wrong += load.wrong;
            total.example = total.example.or(load.example);
            total.latency += load.latency;
        }
        Ok(total)
    })
}

struct Client {
    stream: TcpStream,
    asked: Instant,
    partial: Vec<u8>,
}

/// Sends the same request over `connections` sockets from one epoll loop. An answer is
/// right when it is a 200 of the same length as the first one.
pub(crate) fn epoll(
    address: SocketAddr,
    connections: usize,
    duration: Duration,
    request: &[u8],
) -> Result<Load> {
    let poll = Poll::new()?;
    let mut clients = Vec::new();
    for number in 0..connections {
        let mut stream = TcpStream::connect(address).during("connect")?;
        stream.set_nodelay(true).during("set nodelay")?;
        stream.set_nonblocking(true).during("set nonblocking")?;
        poll.add(&stream, number)?;
        stream.write_all(request).during("send a request")?;
        clients.push(Client {
            stream,
            asked: Instant::now(),
            partial: Vec::new(),
        });
    }
    let mut load = Load {
        count: 0,
        wrong: 0,
        example: None,
        latency: histogram(),
    };
    let mut buffer = vec![0; 64 * 1024];
    let mut ready = Vec::new();
    let mut expected = None;
    let began = Instant::now();
    let mut last = began;
    while began.elapsed() < duration {
        poll.wait(Duration::from_millis(100), &mut ready)?;
        if ready.is_empty() && last.elapsed() > Duration::from_secs(10) {
            return Err(Trouble::TimedOut("an answer"));
        }
        for &number in &ready {
            let client = &mut clients[number];
            let count = match client.stream.read(&mut buffer) {
                Ok(0) => {
                    return Err(Trouble::Protocol(
                        "a keep-alive connection was closed".into(),
                    ));
                }
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error).during("read an answer"),
            };
            last = Instant::now();
            let right = if client.partial.is_empty() {
                judge(&buffer[..count], &mut expected)?
            } else {
                client.partial.extend_from_slice(&buffer[..count]);
                judge(&client.partial, &mut expected)?
            };
            let Some(right) = right else {
                if client.partial.is_empty() {
                    client.partial.extend_from_slice(&buffer[..count]);
                }
                continue;
            };
            client.partial.clear();
            load.count += 1;
            load.wrong += u64::from(!right);
            load.latency.saturating_record(nanos_since(client.asked));
            client.asked = last;
            client.stream.write_all(request).during("send a request")?;
        }
    }
    Ok(load)
}

/// Whether `input` is one whole answer and the right one; `None` while it is incomplete.
/// `expected` is the length of the first answer, which all others share.
fn judge(input: &[u8], expected: &mut Option<usize>) -> Result<Option<bool>> {
    if Some(input.len()) == *expected {
        return Ok(Some(input.starts_with(b"HTTP/1.1 200")));
    }
    let Some(head) = parse_head(input)? else {
        return Ok(None);
    };
    let Body::Length(length) = head.body else {
        return Err(Trouble::Protocol(
            "a chunked answer where a length was expected".into(),
        ));
    };
    let total = head.bytes + length;
    if input.len() < total {
        return Ok(None);
    }
    let first = *expected.get_or_insert(total);
    Ok(Some(
        head.status == 200 && input.len() == total && total == first,
    ))
}
