//! Which output an entry came from, and which a reader asked for.

/// Where a log entry came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stream {
    /// The pipe on descriptor 1.
    Stdout = 0,
    /// The pipe on descriptor 2.
    Stderr = 1,
    /// The terminal's master side.
    Pty = 2,
}

impl Stream {
    /// How many variants there are; tables are indexed by `stream as usize`.
    pub const COUNT: usize = 3;

    /// All of them.
    pub const ALL: [Stream; Self::COUNT] = [Stream::Stdout, Stream::Stderr, Stream::Pty];

    /// The name used on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
            Stream::Pty => "pty",
        }
    }
}

/// Which entries a reader asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StreamFilter {
    /// Every entry.
    #[default]
    Combined,
    /// Entries of one stream.
    Only(Stream),
}

impl StreamFilter {
    /// Reads the `stream` query parameter.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "combined" => StreamFilter::Combined,
            "stdout" => StreamFilter::Only(Stream::Stdout),
            "stderr" => StreamFilter::Only(Stream::Stderr),
            "pty" => StreamFilter::Only(Stream::Pty),
            _ => return None,
        })
    }

    /// The name used on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            StreamFilter::Combined => "combined",
            StreamFilter::Only(stream) => stream.as_str(),
        }
    }

    /// Whether an entry of `stream` was asked for.
    pub fn matches(self, stream: Stream) -> bool {
        match self {
            StreamFilter::Combined => true,
            StreamFilter::Only(only) => only == stream,
        }
    }
}
