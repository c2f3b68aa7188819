//! Why a request head is refused, and with which status.
//!
//! Out: one closed enum. Knows no answer body: text for clients is made in `api`.

/// Why a head was refused. The connection must be closed after the answer, since
/// nobody can say where the next request starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadError {
    /// A CR that no LF follows.
    BareCr,
    /// A LF without a CR before it.
    BareLf,
    /// More than two empty lines before the request line.
    LeadingLines,
    /// A byte that no method can hold, or no space after it.
    MethodByte,
    /// A method of more than 64 bytes.
    MethodTooLong,
    /// An empty target, or a byte that no target can hold: control, space, `#`, or
    /// outside ASCII.
    TargetByte,
    /// The target passed `target_bytes_max`.
    TargetTooLong,
    /// A target in none of the forms that its method allows (RFC 9112, 3.2).
    TargetForm,
    /// The version is neither `HTTP/1.0` nor `HTTP/1.1`.
    Version,
    /// A line begins with white space: obsolete folding (RFC 9112, 5.2), or white
    /// space before the first field.
    Folded,
    /// White space between a field name and its colon (RFC 9112, 5.1).
    SpaceBeforeColon,
    /// An empty field name, or a byte that no name can hold.
    NameByte,
    /// A byte that no field value can hold: NUL or another control byte.
    ValueByte,
    /// More field lines than `header_lines_max`.
    TooManyLines,
    /// The head passed `head_bytes_max`.
    TooLong,
    /// HTTP/1.1 without `Host` (RFC 9112, 3.2).
    HostMissing,
    /// More than one `Host`, even if they agree.
    HostRepeated,
    /// `Host` is empty or no authority.
    HostMalformed,
    /// `Content-Length` is not a run of digits, or exceeds 64 bits.
    LengthMalformed,
    /// More than one `Content-Length`, even if they agree.
    LengthRepeated,
    /// `Transfer-Encoding` is anything but one `chunked`, or is sent with HTTP/1.0.
    Coding,
    /// More than one `Transfer-Encoding`.
    CodingRepeated,
    /// The scan accepted the head, `httparse` did not.
    Disagreement,
}

impl HeadError {
    /// The status to answer with: 414, 431, or 400 for the rest.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::TargetTooLong => 414,
            Self::TooLong | Self::TooManyLines => 431,
            _ => 400,
        }
    }
}

impl std::fmt::Display for HeadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::BareCr => "CR without LF",
            Self::BareLf => "LF without CR",
            Self::LeadingLines => "empty lines before the request line",
            Self::MethodByte => "malformed method",
            Self::MethodTooLong => "method too long",
            Self::TargetByte => "malformed request target",
            Self::TargetTooLong => "request target too long",
            Self::TargetForm => "request target does not fit the method",
            Self::Version => "version is neither HTTP/1.0 nor HTTP/1.1",
            Self::Folded => "folded header line",
            Self::SpaceBeforeColon => "white space before a colon",
            Self::NameByte => "malformed header name",
            Self::ValueByte => "control byte in a header value",
            Self::TooManyLines => "too many header lines",
            Self::TooLong => "header too long",
            Self::HostMissing => "Host is missing",
            Self::HostRepeated => "more than one Host",
            Self::HostMalformed => "malformed Host",
            Self::LengthMalformed => "malformed Content-Length",
            Self::LengthRepeated => "more than one Content-Length",
            Self::Coding => "transfer coding is not supported",
            Self::CodingRepeated => "more than one Transfer-Encoding",
            Self::Disagreement => "malformed request",
        })
    }
}

impl std::error::Error for HeadError {}
