//! A raw HTTP/1.1 client over `TcpStream`, strict about what the server writes.
//!
//! In: request bytes a test made itself. Out: `Response`. Anything RFC 9112 forbids a
//! server to send fails the test at once, here, for every test.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::WAIT;

/// One answer, read to the end of its body.
#[derive(Debug, Clone)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) version: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// The value of a header that must not be doubled.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut found = self
            .headers
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case(name));
        let first = found.next().map(|(_, v)| v.as_str());
        assert!(
            found.next().is_none(),
            "header {name} is doubled: {:?}",
            self.headers
        );
        first
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is UTF-8")
    }

    /// Asserts the status, showing the body where it differs.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(
            self.status,
            status,
            "{:?} {}",
            self.headers,
            String::from_utf8_lossy(&self.body)
        );
        self
    }

    /// Asserts an answer without a body.
    #[track_caller]
    pub(crate) fn expect_empty(self, status: u16) -> Self {
        let this = self.expect(status);
        assert!(
            this.body.is_empty(),
            "unexpected body {:?}",
            String::from_utf8_lossy(&this.body)
        );
        this
    }

    /// Whether the server said that it closes the connection.
    pub(crate) fn says_close(&self) -> bool {
        self.header("connection")
            .is_some_and(|v| v.eq_ignore_ascii_case("close"))
    }
}

/// One connection, with the bytes read ahead of the parser.
#[derive(Debug)]
pub(crate) struct Conn {
    stream: TcpStream,
    ahead: Vec<u8>,
}

impl Conn {
    pub(crate) fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, WAIT).expect("connect");
        stream.set_nodelay(true).unwrap();
        stream.set_write_timeout(Some(WAIT)).unwrap();
        Self {
            stream,
            ahead: Vec::new(),
        }
    }

    /// A connection whose receive buffer is the smallest there is (socket(7), SO_RCVBUF), so that
    /// the server can send little at a time.
    pub(crate) fn narrow(address: SocketAddr) -> Self {
        use rustix::net::{AddressFamily, SocketType, connect, socket, sockopt};
        let family = match address {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let fd = socket(family, SocketType::STREAM, None).expect("a socket");
        sockopt::set_socket_recv_buffer_size(&fd, 1).expect("SO_RCVBUF");
        connect(&fd, &address).expect("connect");
        let stream = TcpStream::from(fd);
        stream.set_nodelay(true).unwrap();
        stream.set_write_timeout(Some(WAIT)).unwrap();
        Self {
            stream,
            ahead: Vec::new(),
        }
    }

    /// Gives a narrow connection room, for the rest to come at once: through the smallest of windows the
    /// kernel sends some hundred bytes each time that its timer looks whether there is one (persist).
    pub(crate) fn widen(&self) {
        use rustix::net::sockopt::set_socket_recv_buffer_size;
        set_socket_recv_buffer_size(&self.stream, 1 << 20).expect("SO_RCVBUF");
    }

    /// Writes all of `bytes`, one to seven at a time; for the tests of `short`.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn send_in_bits(&mut self, bytes: impl AsRef<[u8]>) {
        let mut rest = bytes.as_ref();
        for size in (1..=7).cycle() {
            let (bit, after) = rest.split_at(rest.len().min(size));
            self.send(bit);
            rest = after;
            if rest.is_empty() {
                return;
            }
        }
    }

    /// Writes all of `bytes`.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream
            .write_all(bytes.as_ref())
            .expect("write to the server");
    }

    /// Writes as much as the server takes; it may close while bytes are under way.
    pub(crate) fn send_some(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref());
    }

    /// Writes for at most a tenth of a second: to a server that rightly stops reading.
    pub(crate) fn send_for(&mut self, bytes: &[u8]) {
        let end = Instant::now() + Duration::from_millis(100);
        let mut rest = bytes;
        self.stream.set_nonblocking(true).unwrap();
        while !rest.is_empty() && Instant::now() < end {
            match self.stream.write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(_) => break,
            }
        }
        self.stream.set_nonblocking(false).unwrap();
    }

    /// Two handles of one connection, for a thread that reads and one that writes.
    pub(crate) fn split(self) -> (TcpStream, TcpStream) {
        let reading = self.stream.try_clone().expect("a second handle");
        (reading, self.stream)
    }

    /// Half-closes: no more requests on this connection.
    pub(crate) fn finish_writing(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// The connection and the bytes read ahead, for another protocol after an upgrade.
    pub(crate) fn into_parts(self) -> (TcpStream, Vec<u8>) {
        (self.stream, self.ahead)
    }

    /// Closes with a reset in place of a FIN.
    pub(crate) fn reset(self) {
        use std::os::fd::AsRawFd as _;
        let linger = libc::linger {
            l_onoff: 1,
            l_linger: 0,
        };
        // SAFETY: the descriptor is open for as long as `self.stream`; the option value
        // is a `linger` of the size given and outlives the call.
        let done = unsafe {
            libc::setsockopt(
                self.stream.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_LINGER,
                (&raw const linger).cast(),
                size_of::<libc::linger>() as libc::socklen_t,
            )
        };
        assert_eq!(done, 0, "SO_LINGER");
    }

    /// Reads more bytes: `Ok(0)` at the end, also where the peer reset the connection.
    pub(crate) fn fill(&mut self, until: Instant) -> io::Result<usize> {
        let left = until
            .saturating_duration_since(Instant::now())
            .max(Duration::from_millis(1));
        self.stream.set_read_timeout(Some(left))?;
        let mut piece = [0; 65536];
        match self.stream.read(&mut piece) {
            Ok(count) => {
                self.ahead.extend_from_slice(&piece[..count]);
                Ok(count)
            }
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => Ok(0),
            // A read with a timeout is not restarted by the kernel (signal(7)).
            Err(e) if e.kind() == io::ErrorKind::Interrupted => self.fill(until),
            Err(e) => Err(e),
        }
    }

    /// Takes `count` bytes; panics where the connection ends or `WAIT` passes before.
    fn take(&mut self, count: usize, until: Instant) -> Vec<u8> {
        while self.ahead.len() < count {
            let got = self.fill(until).expect("bytes of the body in time");
            assert_ne!(
                got,
                0,
                "the connection ended inside a body: {:?}",
                self.ahead_text()
            );
        }
        self.ahead.drain(..count).collect()
    }

    fn take_line(&mut self, until: Instant) -> String {
        let end = loop {
            if let Some(at) = self.ahead.windows(2).position(|w| w == b"\r\n") {
                break at;
            }
            let got = self.fill(until).expect("a line in time");
            assert_ne!(
                got,
                0,
                "the connection ended inside a line: {:?}",
                self.ahead_text()
            );
        };
        let line = self.take(end + 2, until);
        let line = String::from_utf8(line[..end].to_vec()).expect("a line of text");
        assert!(
            !line.contains(['\r', '\n', '\0']),
            "stray control character in {line:?}"
        );
        line
    }

    /// What was read and not taken, as text.
    pub(crate) fn ahead_text(&self) -> String {
        String::from_utf8_lossy(&self.ahead).into_owned()
    }

    /// Reads status line and headers; `None` where the connection ends before a byte.
    pub(crate) fn head(&mut self, wait: Duration) -> Option<Response> {
        let until = Instant::now() + wait;
        if self.ahead.is_empty() && self.fill(until).expect("an answer in time") == 0 {
            return None;
        }
        let status_line = self.take_line(until);
        let mut parts = status_line.splitn(3, ' ');
        let version = parts.next().unwrap_or_default().to_owned();
        assert!(
            matches!(version.as_str(), "HTTP/1.1" | "HTTP/1.0"),
            "status line {status_line:?}"
        );
        let code = parts.next().unwrap_or_default();
        assert!(
            code.len() == 3 && code.bytes().all(|b| b.is_ascii_digit()),
            "{status_line:?}"
        );
        assert!(
            parts.next().is_some(),
            "no space after the status in {status_line:?}"
        );
        let mut headers = Vec::new();
        loop {
            let line = self.take_line(until);
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').expect("a colon in a header line");
            let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
            assert!(
                !name.is_empty() && name.bytes().all(token),
                "header name in {line:?}"
            );
            assert!(
                !value.bytes().any(|b| b < b' ' && b != b'\t'),
                "header value in {line:?}"
            );
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
        Some(Response {
            status: code.parse().unwrap(),
            version,
            headers,
            body: Vec::new(),
        })
    }

    /// Reads one answer to a request made with `method`; `None` where the server closed
    /// without a byte.
    pub(crate) fn try_response(&mut self, method: &str, wait: Duration) -> Option<Response> {
        let mut response = self.head(wait)?;
        let until = Instant::now() + wait;
        let length = response
            .header("content-length")
            .map(|v| v.parse::<usize>().expect("a length"));
        let coding = response.header("transfer-encoding").map(str::to_owned);
        if let Some(coding) = &coding {
            assert_eq!(coding, "chunked");
            assert_eq!(length, None, "content-length beside transfer-encoding");
        }
        if response.status < 200 || matches!(response.status, 204 | 304) {
            assert_eq!(
                (length, &coding),
                (None, &None),
                "framing headers on {}",
                response.status
            );
            return Some(response);
        }
        if method == "HEAD" {
            return Some(response);
        }
        match (coding, length) {
            (Some(_), _) => {
                while let Some(chunk) = self.chunk(until) {
                    response.body.extend_from_slice(&chunk);
                }
            }
            (None, Some(length)) => response.body = self.take(length, until),
            (None, None) => panic!("an answer without framing: {response:?}"),
        }
        Some(response)
    }

    /// Reads one answer.
    #[track_caller]
    pub(crate) fn response(&mut self, method: &str) -> Response {
        self.try_response(method, WAIT)
            .expect("an answer, not the end of the connection")
    }

    /// One chunk of a chunked body (RFC 9112, 7.1); `None` after the last.
    pub(crate) fn chunk(&mut self, until: Instant) -> Option<Vec<u8>> {
        let line = self.take_line(until);
        assert!(
            line.bytes().all(|b| b.is_ascii_hexdigit()),
            "chunk size line {line:?}"
        );
        let size = usize::from_str_radix(&line, 16).expect("a chunk size");
        if size == 0 {
            assert_eq!(self.take_line(until), "", "trailers are not expected");
            return None;
        }
        let chunk = self.take(size, until);
        assert_eq!(
            self.take(2, until),
            b"\r\n",
            "chunk data is not followed by CR LF"
        );
        Some(chunk)
    }

    /// Whether a whole chunk is to be had before `until`; leaves it unread.
    pub(crate) fn chunk_ready(&mut self, until: Instant) -> bool {
        loop {
            if let Some(at) = self.ahead.windows(2).position(|w| w == b"\r\n") {
                let size = std::str::from_utf8(&self.ahead[..at]).ok();
                let size = size
                    .and_then(|s| usize::from_str_radix(s, 16).ok())
                    .expect("a chunk size");
                if self.ahead.len() >= at + 2 + size + 2 {
                    return true;
                }
            }
            match self.fill(until) {
                Ok(0) => panic!(
                    "the connection ended inside a chunked body: {:?}",
                    self.ahead_text()
                ),
                Ok(_) => {}
                Err(e)
                    if matches!(
                        e.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                    ) =>
                {
                    return false;
                }
                Err(e) => panic!("reading a chunked body: {e}"),
            }
        }
    }

    /// The rest of a chunked body, up to the end of the connection, and whether it ended with its
    /// last chunk.
    pub(crate) fn chunks_to_end(&mut self) -> (Vec<u8>, bool) {
        unchunked(&self.read_to_end())
    }

    /// All bytes up to the end of the connection.
    pub(crate) fn read_to_end(&mut self) -> Vec<u8> {
        let until = Instant::now() + WAIT;
        while self.fill(until).expect("the end of the connection in time") > 0 {}
        std::mem::take(&mut self.ahead)
    }

    /// Asserts that the server closes without sending another byte.
    #[track_caller]
    pub(crate) fn expect_closed(&mut self) {
        let got = self
            .fill(Instant::now() + WAIT)
            .expect("the end of the connection in time");
        assert!(
            got == 0 && self.ahead.is_empty(),
            "more bytes: {:?}",
            self.ahead_text()
        );
    }
}

/// The data of a chunked body that may be cut off, and whether it ended with its last chunk.
pub(crate) fn unchunked(mut rest: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    while let Some(at) = rest.windows(2).position(|pair| pair == b"\r\n") {
        let size = std::str::from_utf8(&rest[..at]).expect("a chunk size");
        let size = usize::from_str_radix(size, 16).expect("a chunk size");
        rest = &rest[at + 2..];
        if size == 0 {
            assert_eq!(rest, b"\r\n", "bytes behind the last chunk");
            return (body, true);
        }
        let (data, after) = rest.split_at(size.min(rest.len()));
        body.extend_from_slice(data);
        assert!(
            after.len() < 2 || after.starts_with(b"\r\n"),
            "chunk data is not followed by CR LF"
        );
        rest = after.get(2..).unwrap_or_default();
    }
    (body, false)
}
