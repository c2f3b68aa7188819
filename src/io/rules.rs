//! What of the configuration requests are carried out by: who may ask, and what they may ask for.
//!
//! In: the configuration, as it was at the start and as it is after each reload. Out: the same for as
//! long as a request looks at it. All of it changes at once; a request that is being carried out goes
//! on with what held when it came.

use std::rc::Rc;

use crate::api::cors::Cors;
use crate::api::guard::Guard;
use crate::api::limits::LimitRules;
use crate::api::user::UserRules;
use crate::config::flags::ReplayChoice;
use crate::types::Stdin;

use crate::io::server::Server;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// Who may ask.
    pub guard: Guard,
    /// The same of connections that are for metrics.
    pub metrics_guard: Guard,
    /// What browsers are told.
    pub cors: Cors,
    /// Whether processes may be sent input where the request does not say.
    pub stdin_default: Stdin,
    /// What the operator says of limits.
    pub limits: LimitRules,
    /// What the operator says of users.
    pub users: UserRules,
    /// What who attaches to a terminal is shown, unless it says so.
    pub terminal_replay: ReplayChoice,
}

impl Rules {
    /// Who may ask on a connection, which may be for metrics.
    pub(super) fn guard(&self, for_metrics: bool) -> &Guard {
        match for_metrics {
            true => &self.metrics_guard,
            false => &self.guard,
        }
    }
}

impl Server {
    /// What holds now.
    pub(super) fn rules(&self) -> Rc<Rules> {
        self.rules.borrow().clone()
    }
}
