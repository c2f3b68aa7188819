//! A key as text, for a server that goes on where there is a keeper.
//!
//! In: what is known of a key. Out: the same, in a server of the same or another version. It is JSON,
//! of which unknown fields are skipped and missing ones have a default, and behind it the body of the
//! answer as it is.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Name, Print};
use crate::api::access::Credential;
use crate::api::reply::Reply;
use crate::api::routes;
use crate::types::{JobId, Monotonic};

/// Longer answers are not written down: a server that goes on reads them all before it serves.
const BODY_BYTES_MAX: usize = 64 << 10;

/// What is written down of answers.
const JSON: &str = "application/json";

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Written {
    /// `none`, `token`, `named` or `user`.
    credential: String,
    client: Option<String>,
    user: Option<u32>,
    route: String,
    key: String,
    body_len: usize,
    body_hash: [u64; 2],
    /// What is carried out for it, as soon as it may have begun.
    job: Option<u64>,
    /// It has been answered, which is kept until then.
    until: Option<u64>,
    /// With this, if that is kept.
    status: Option<u16>,
}

/// What a server has left of a key.
#[derive(Debug)]
pub(crate) struct Left {
    /// Whose it is.
    pub name: Name,
    pub(super) print: Print,
    /// What has become of the request.
    pub state: LeftState,
}

impl Left {
    /// Whether more is known of the request than `other` says: of a key that was being written down
    /// anew there are two.
    pub(crate) fn is_newer(&self, other: &Self) -> bool {
        let rank = |state: &LeftState| match state {
            LeftState::UnderWay(None) => 0,
            LeftState::UnderWay(Some(_)) => 1,
            LeftState::Answered { answer: None, .. } => 2,
            LeftState::Answered {
                answer: Some(_), ..
            } => 3,
        };
        rank(&self.state) > rank(&other.state)
    }
}

/// What had become of a request when its server died.
#[derive(Debug)]
pub(crate) enum LeftState {
    /// It was to be carried out, as this job if that may have begun.
    UnderWay(Option<JobId>),
    /// It had been answered; with what, if that was kept.
    Answered {
        /// With this.
        answer: Option<Reply>,
        /// For so long it is known.
        until: Monotonic,
    },
}

/// The text of a key.
pub(super) fn write(
    name: &Name,
    print: &Print,
    job: Option<JobId>,
    answered: Option<(Option<&Reply>, Monotonic)>,
) -> Vec<u8> {
    let (credential, client, user) = match &name.credential {
        Credential::None => ("none", None, None),
        Credential::Token => ("token", None, None),
        Credential::Named(client) => ("named", Some(client.to_string()), None),
        Credential::User(user) => ("user", None, Some(*user)),
    };
    let answer = answered.and_then(|(answer, _)| answer).filter(|answer| {
        let is_plain = answer.content_type == Some(JSON) && answer.headers.is_empty();
        is_plain && answer.body.len() <= BODY_BYTES_MAX
    });
    let written = Written {
        credential: credential.to_owned(),
        client,
        user,
        route: name.route.to_owned(),
        key: name.key.as_ref().to_owned(),
        body_len: print.len,
        body_hash: print.hashes,
        job: job.map(|job| job.0),
        until: answered.map(|(_, until)| until.nanos()),
        status: answer.map(|answer| answer.status),
    };
    let mut text = serde_json::to_vec(&written).unwrap_or_default();
    text.push(b'\n');
    text.extend(answer.iter().flat_map(|answer| answer.body.iter()));
    text
}

/// What [`write()`] has written; None if it is damaged, or of a route that is no longer there.
pub(crate) fn read(text: &[u8]) -> Option<Left> {
    let end = memchr::memchr(b'\n', text)?;
    let (head, body) = (text.get(..end)?, text.get(end + 1..)?);
    let written: Written = serde_json::from_slice(head).ok()?;
    let credential = match (&*written.credential, written.client, written.user) {
        ("none", ..) => Credential::None,
        ("token", ..) => Credential::Token,
        ("named", Some(client), _) => Credential::Named(Arc::from(client)),
        ("user", _, Some(user)) => Credential::User(user),
        _ => return None,
    };
    let name = Name {
        credential,
        route: routes::name(&written.route)?,
        key: written.key.into(),
    };
    let print = Print {
        len: written.body_len,
        hashes: written.body_hash,
    };
    let answer = written.status.map(|status| {
        let mut reply = Reply::json(body.to_vec());
        reply.status = status;
        reply
    });
    let state = match written.until {
        None => LeftState::UnderWay(written.job.map(JobId)),
        Some(until) => LeftState::Answered {
            answer,
            until: Monotonic::from_nanos(until),
        },
    };
    Some(Left { name, print, state })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINT: Print = Print {
        len: 3,
        hashes: [u64::MAX, 1],
    };

    fn name(credential: Credential) -> Name {
        Name {
            credential,
            route: "createProcess",
            key: "k".into(),
        }
    }

    #[test]
    fn a_key_is_read_as_it_was_written() {
        let reply = Reply::json(b"{\n}".to_vec());
        let until = Monotonic::from_nanos(9);
        for credential in [
            Credential::None,
            Credential::Token,
            Credential::Named("ci".into()),
            Credential::User(1000),
        ] {
            let name = name(credential);
            let left = read(&write(&name, &PRINT, None, Some((Some(&reply), until)))).unwrap();
            assert_eq!((&left.name, left.print), (&name, PRINT));
            let LeftState::Answered { answer, until: at } = left.state else {
                panic!("{left:?}");
            };
            let answer = answer.unwrap();
            assert_eq!(
                (&*answer.body, answer.status, at),
                (&*reply.body, 200, until)
            );
            let left = read(&write(&name, &PRINT, Some(JobId(7)), None)).unwrap();
            assert!(matches!(left.state, LeftState::UnderWay(Some(JobId(7)))));
        }
    }

    #[test]
    fn a_long_answer_leaves_its_key() {
        let long = Reply::json(vec![b'x'; BODY_BYTES_MAX + 1]);
        let answered = Some((Some(&long), Monotonic::from_nanos(9)));
        let text = write(&name(Credential::Token), &PRINT, None, answered);
        assert!(text.len() < 500);
        let left = read(&text).unwrap();
        assert!(matches!(
            left.state,
            LeftState::Answered { answer: None, .. }
        ));
    }

    #[test]
    fn what_is_damaged_is_no_key() {
        let text = write(&name(Credential::Token), &PRINT, None, None);
        let other = String::from_utf8(text.clone())
            .unwrap()
            .replace("createProcess", "createWorld");
        for text in [
            &text[1..],
            &text[..9],
            b"",
            b"\n",
            b"{}\n",
            other.as_bytes(),
        ] {
            assert!(read(text).is_none(), "{}", String::from_utf8_lossy(text));
        }
    }
}
