//! Carries out what starts something, for a client or for several.
//!
//! In: what `api` has decided. Out: the answer, or nothing if nobody is there to have it.

use std::rc::Rc;

use crate::api::{Outcome, Reply};
use crate::budget::Charge;

use crate::io::host::create::create;
use crate::io::host::run::run;
use crate::io::server::Server;
use crate::io::wait::Client;

/// Starts a run or a process, whose body is charged as long as anything of it is there; None if the
/// client is gone, and for an outcome that starts nothing.
pub(crate) async fn start(
    server: &Rc<Server>,
    outcome: Outcome,
    charge: Option<Charge>,
    client: &mut impl Client,
) -> Option<Reply> {
    match outcome {
        Outcome::Run(asked) => run(server, asked, charge, client).await,
        Outcome::Create {
            job,
            launch,
            terminal,
            deadline,
            stdin,
        } => create(server, job, launch, terminal, deadline, stdin, client).await,
        _ => None,
    }
}
