//! A whole answer, not yet bytes.

use std::borrow::Cow;

/// One answer with its body in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// Its media type, if it has a body.
    pub content_type: Option<&'static str>,
    /// The body.
    pub body: Cow<'static, [u8]>,
    /// Further header fields, names in lower case.
    pub headers: Vec<(&'static str, Cow<'static, str>)>,
    /// Why the request was refused, in a word of a fixed set, for those who run the server.
    pub reason: Option<&'static str>,
    /// The same in a sentence without arguments, inputs and tokens.
    pub detail: Option<Box<str>>,
}

impl Reply {
    /// An answer without a body.
    pub fn new(status: u16) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }

    /// The same answer, refused for this reason, which is also told in a sentence.
    pub fn refused(mut self, reason: &'static str, detail: impl Into<Box<str>>) -> Self {
        self.reason = Some(reason);
        self.detail = Some(detail.into());
        self
    }

    /// 200 with a JSON body.
    pub fn json(body: impl Into<Cow<'static, [u8]>>) -> Self {
        Self::new(200).typed("application/json", body)
    }

    /// The same answer with a body.
    pub fn typed(
        mut self,
        content_type: &'static str,
        body: impl Into<Cow<'static, [u8]>>,
    ) -> Self {
        self.content_type = Some(content_type);
        self.body = body.into();
        self
    }

    /// The same answer with one more header field.
    pub fn header(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}
