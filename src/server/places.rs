//! Where a server listens, and what follows from that.
//!
//! In: the sockets that are asked for, or handed down by whoever started the program. Out: sockets
//! that listen; whether others than this machine can reach them.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use crate::config::flags::{self, ServerArgs, UsageError};
use crate::io::{Kind, Listening};

use super::error::StartError;

/// Where connections come from.
pub(super) struct Places {
    pub(super) for_metrics: Vec<Kind>,
    pub(super) others: Vec<Kind>,
}

impl Places {
    pub(super) fn of(listening: &[Listening]) -> Self {
        let of = |for_metrics: bool| {
            let such = listening
                .iter()
                .filter(|one| one.is_for_metrics() == for_metrics);
            such.map(Listening::kind).collect()
        };
        Self {
            for_metrics: of(true),
            others: of(false),
        }
    }

    /// Addresses where commands can be run. Where there are metrics only, nobody runs any.
    pub(super) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.others.iter().filter_map(|kind| match kind {
            Kind::Tcp(address) => Some(*address),
            Kind::Unix | Kind::Starter => None,
        })
    }

    /// Refuses an open server where others can reach it.
    pub(super) fn check(&self, args: &ServerArgs, has_token: bool) -> Result<(), UsageError> {
        let mut addresses = self.addresses();
        addresses.try_for_each(|address| flags::check_bound(args, has_token, address))
    }
}

/// Whether only this machine can reach them.
pub(super) fn are_near(kinds: &[Kind]) -> bool {
    kinds.iter().all(|kind| match kind {
        Kind::Tcp(address) => address.ip().is_loopback(),
        Kind::Unix | Kind::Starter => true,
    })
}

/// Opens every socket that is asked for.
pub(super) fn open_all(
    args: &ServerArgs,
    mut inherited: Vec<OwnedFd>,
) -> Result<Vec<Listening>, StartError> {
    let mut all = Vec::new();
    for listen in args.listen() {
        let opened = crate::io::open(&listen, args.unix_mode, &mut inherited);
        all.extend(opened.map_err(StartError::Listen)?);
    }
    if let Some(listen) = &args.metrics_listen {
        let opened = crate::io::open(listen, args.unix_mode, &mut Vec::new());
        let opened = opened.map_err(StartError::Listen)?;
        all.extend(opened.into_iter().map(Listening::for_metrics));
    }
    Ok(all)
}
