//! A body that is passed on to a process as it comes.
//!
//! In: the request and its body. Out: the answer when the process has taken everything. Owns the
//! charge for what is held of the body meanwhile.

use crate::api::query::StdinQuery;
use crate::budget::Kind;
use crate::types::ProcessId;

use super::receive::Request;
use super::{Conn, Persistence};
use crate::io::stdin::{Announced, upload};

/// What is held of a body that is passed on, at most. README, "Limits".
const UPLOAD_BYTES: u64 = 256 << 10;

impl Conn {
    pub(super) async fn upload(
        &mut self,
        mut request: Box<Request>,
        id: ProcessId,
        query: StdinQuery,
    ) -> Persistence {
        let body = Announced {
            framing: request.framing,
            expects_continue: request.expects_continue,
        };
        let _charge = match self.server.charge(Kind::Bodies, UPLOAD_BYTES) {
            Ok(charge) => charge,
            Err(problem) => return self.refuse_body_and_reply(request, problem.reply()).await,
        };
        self.reader.passes_on(true);
        let before = self.standing.as_ref().and_then(|of| of.take_upload());
        let client = (&mut self.reader, &mut self.writer);
        let answer = upload(&self.server, id, query, body, before, client).await;
        self.reader.passes_on(false);
        let Some((reply, whole)) = answer else {
            return Persistence::Close;
        };
        // What is left of the body could not be told from another request.
        request.close |= !whole;
        self.reply(&request, reply).await
    }
}
