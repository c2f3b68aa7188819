//! A log as bytes, beside a loop that does nothing but send as many.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use super::{Scenario, Stage, rate, share};
use crate::account::{Meter, memory};
use crate::http::request;
use crate::load::{self, Load};
use crate::sample::{Loss, Sample};
use crate::trouble::{During as _, Result, Trouble};

/// Bytes held.
const HELD: u64 = 8_000_000;

/// Bytes of one held entry.
const BLOCK: u64 = 8000;

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "logs-raw",
    title: "a log as bytes, 8 MB held in blocks of 8 kB (reference: as JSON)",
    rows: &[
        rate("rate", "log fetched", "MB/s", 6.0, 20.0),
        share("of a bare send loop"),
    ],
    run: fetch,
}];

/// Fetches the log in a closed loop: as bytes, or as JSON from a server that has nothing better.
/// Before and behind that, as long together, the same client is sent as much by a bare loop.
fn fetch(stage: &Stage<'_>) -> Result<Sample> {
    let server = stage.start()?;
    let mut api = stage.api(&server)?;
    let held = stage.pick(HELD, HELD / 8);
    let blocks = (held / BLOCK).to_string();
    let process = api.create_child(&["paced", &blocks, &BLOCK.to_string()], false)?;
    process.await_end(Duration::from_secs(60))?;
    std::thread::sleep(Duration::from_millis(50));
    let raw = request("GET", &process.path("/logs/raw"), b"");
    let json = request("GET", &process.path("/logs"), b"");
    let request = match api.connection().exchange(&raw)? {
        200 => raw,
        _ => json,
    };
    if api.connection().exchange(&request)? != 200 {
        return Err(Trouble::Protocol("logs were not answered".into()));
    }
    let length = api.connection().body().len();
    let (bare, half) = (bare_sender(length)?, stage.duration() / 2);
    let fetched = |address: SocketAddr, duration: Duration| -> Result<Load> {
        load::threads(address, 1, duration, &|connection| {
            Ok(connection.exchange(&request)? == 200 && connection.body().len() == length)
        })
    };
    let before = fetched(bare, half)?;
    let meter = Meter::start(server.pid())?;
    let load = fetched(server.address, stage.duration())?;
    let usage = meter.stop()?;
    let behind = fetched(bare, half)?;
    let floor = (before.count + behind.count) as f64;
    Ok(Sample::new(usage, memory(server.pid())?)
        .value("rate", load.count as f64 * held as f64 / 1e6 / usage.wall_s)
        .value("share", load.count as f64 / floor)
        .latency("fetch", &load.latency)
        .example(load.example)
        .lost(Loss {
            errors: load.wrong + before.wrong + behind.wrong,
            ..Loss::default()
        }))
}

/// Answers whatever comes with `length` bytes from one buffer, on one connection after the other,
/// until the bench ends.
fn bare_sender(length: usize) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").during("bind")?;
    let address = listener.local_addr().during("getsockname")?;
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
    std::thread::spawn(move || {
        let body = vec![b'x'; length];
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let _ = stream.set_nodelay(true);
            let mut asked = [0; 4096];
            while stream.read(&mut asked).is_ok_and(|len| len > 0) {
                let sent = stream.write_all(head.as_bytes());
                if sent.and_then(|()| stream.write_all(&body)).is_err() {
                    break;
                }
            }
        }
    });
    Ok(address)
}
