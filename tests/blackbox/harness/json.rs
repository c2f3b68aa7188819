//! JSON as the contract compares it: with its keys in order, and problems as bytes.

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Value, json};

use super::Response;

/// An object whose keys keep the order in which they were sent.
#[derive(Debug)]
pub(crate) struct Ordered(pub(crate) Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Ordered {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Ordered;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Ordered, M::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Ordered(pairs))
            }
        }
        from.deserialize_map(Pairs)
    }
}

/// The keys of the object in `text`, in the order sent.
#[track_caller]
pub(crate) fn keys(text: &str) -> Vec<String> {
    let object: Ordered = serde_json::from_str(text).expect("a JSON object");
    object.0.into_iter().map(|(key, _)| key).collect()
}

/// A request body that runs `script` with `sh -c`.
pub(crate) fn sh(script: &str) -> Value {
    json!({"command": "sh", "args": ["-c", script]})
}

/// A problem as the contract's section 3.1 spells it, to compare answers with.
pub(crate) struct Problem {
    status: u16,
    kind: &'static str,
    title: &'static str,
    detail: String,
    details: Option<String>,
    code: Code,
}

enum Code {
    Absent,
    Is(&'static str),
    /// The contract does not say which word, or whether there is one.
    Open,
}

impl Problem {
    /// 400 by a handler.
    pub(crate) fn invalid(message: &str) -> Self {
        Self::new(
            400,
            "invalid_request",
            "Invalid Request",
            format!("invalid request: {message}"),
        )
    }

    /// 404 for an unknown route.
    pub(crate) fn no_route() -> Self {
        Self::new(
            404,
            "invalid_request",
            "Not Found",
            "endpoint not found".to_owned(),
        )
    }

    /// 404 for an unknown process.
    pub(crate) fn no_process(id: &str) -> Self {
        let details = format!(r#"{{"id":{},"resource":"process"}}"#, json!(id));
        Self::new(
            404,
            "not_found",
            "Not Found",
            format!("not found: process {id}"),
        )
        .details(details)
    }

    /// 409.
    pub(crate) fn conflict(message: &str) -> Self {
        let details = format!(r#"{{"message":{}}}"#, json!(message));
        Self::new(409, "conflict", "Conflict", format!("conflict: {message}")).details(details)
    }

    /// 413 for input over `limit`.
    pub(crate) fn input_too_large(limit: u64) -> Self {
        let detail =
            format!("invalid request: input payload exceeds maxInputBytesPerRequest ({limit})");
        let problem = Self::new(413, "invalid_request", "Payload Too Large", detail);
        Self {
            code: Code::Open,
            ..problem
        }
    }

    /// 401.
    pub(crate) fn no_token() -> Self {
        Self::new(
            401,
            "token_invalid",
            "Token Invalid",
            "token invalid".to_owned(),
        )
        .details(r#"{"message":"missing or invalid bearer token"}"#.to_owned())
    }

    /// 502.
    pub(crate) fn refused_by_os(message: &str) -> Self {
        let details = format!(r#"{{"message":{}}}"#, json!(message));
        Self::new(
            502,
            "stream_error",
            "Stream Error",
            format!("stream error: {message}"),
        )
        .details(details)
    }

    /// Adds the file that is missing to the details of [`Problem::refused_by_os`].
    pub(crate) fn path(self, path: &str) -> Self {
        // Another server has no path; see `PROCRING_TEST_BIN`.
        if super::launch::foreign().is_some() {
            return self;
        }
        let details = self.details.as_deref().and_then(|d| d.strip_suffix('}'));
        let details = details.expect("details to add to");
        let details = format!(r#"{details},"path":{}}}"#, json!(path));
        self.details(details)
    }

    fn new(status: u16, kind: &'static str, title: &'static str, detail: String) -> Self {
        Self {
            status,
            kind,
            title,
            detail,
            details: None,
            code: Code::Absent,
        }
    }

    fn details(self, details: String) -> Self {
        Self {
            details: Some(details),
            ..self
        }
    }

    /// Adds the `code` that section 16 promises for this cause.
    pub(crate) fn code(self, code: &'static str) -> Self {
        Self {
            code: Code::Is(code),
            ..self
        }
    }

    /// Allows any `code`, or none.
    pub(crate) fn any_code(self) -> Self {
        Self {
            code: Code::Open,
            ..self
        }
    }

    /// Compares byte for byte, `code` apart.
    #[track_caller]
    pub(crate) fn check(&self, response: &Response) {
        assert_eq!(
            response.status,
            self.status,
            "{}",
            String::from_utf8_lossy(&response.body)
        );
        assert_eq!(
            response.header("content-type"),
            Some("application/problem+json")
        );
        let details = self.details.as_ref().map(|d| format!(r#","details":{d}"#));
        let plain = format!(
            r#"{{"type":"urn:sandbox-agent:error:{}","title":"{}","status":{},"detail":{}{}}}"#,
            self.kind,
            self.title,
            self.status,
            json!(self.detail),
            details.unwrap_or_default(),
        );
        let (rest, code) = without_code(response.text());
        assert_eq!(rest, plain);
        // Another server has no codes; see `PROCRING_TEST_BIN`.
        if super::launch::foreign().is_none() {
            match self.code {
                Code::Absent => assert_eq!(code, None, "an unexpected code"),
                Code::Is(expected) => assert_eq!(code.as_deref(), Some(expected)),
                Code::Open => {}
            }
        }
    }
}

/// Cuts the key `code` off the end of a problem; elsewhere it is not looked for.
fn without_code(text: &str) -> (String, Option<String>) {
    let object: Ordered = serde_json::from_str(text).expect("a problem object");
    match object.0.last() {
        Some((key, Value::String(code))) if key == "code" => {
            let tail = format!(r#","code":{}}}"#, json!(code));
            let rest = text
                .strip_suffix(&tail)
                .expect("no blanks around the last key");
            (format!("{rest}}}"), Some(code.clone()))
        }
        _ => (text.to_owned(), None),
    }
}

impl Response {
    /// The JSON of a success body.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        assert_eq!(self.header("content-type"), Some("application/json"));
        serde_json::from_slice(&self.body).expect("a JSON body")
    }

    /// Asserts a problem whose wording is ours to choose: the status, the kind, the
    /// order of keys, and a detail that is there. Gives the whole object.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16, kind: &str) -> Value {
        assert_eq!(
            self.status,
            status,
            "{}",
            String::from_utf8_lossy(&self.body)
        );
        let content_type = self.header("content-type");
        if super::launch::foreign().is_some() && content_type != Some("application/problem+json") {
            return Value::Null; // 14.26: the reference sends text here; its status is compared.
        }
        assert_eq!(content_type, Some("application/problem+json"));
        let order = keys(self.text());
        let known = ["type", "title", "status", "detail", "details", "code"];
        let expected: Vec<_> = known
            .iter()
            .filter(|k| order.iter().any(|o| o == *k))
            .collect();
        assert_eq!(
            order.iter().collect::<Vec<_>>(),
            expected,
            "keys out of order or unknown"
        );
        let body: Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(body["type"], format!("urn:sandbox-agent:error:{kind}"));
        assert_eq!(body["status"], status);
        assert!(
            body["title"].as_str().is_some_and(|t| !t.is_empty()),
            "{body}"
        );
        assert!(
            body["detail"].as_str().is_some_and(|t| !t.is_empty()),
            "{body}"
        );
        body
    }
}
