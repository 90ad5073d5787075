//! What a host tells the edge about its machines.

use crate::machines::Service;
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// What the edge knows of one machine. Sent whole at every change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Route {
    /// App name.
    pub app: String,
    /// Machine id.
    pub machine: String,
    /// Region code of its host.
    pub region: String,
    /// Version of its config.
    pub instance: String,
    /// What it does.
    pub state: RouteState,
    /// Private IPv4 address; it stays the same over stops and starts.
    pub address: Ipv4Addr,
    /// Ports reachable on that address, pushed by the guest. Empty unless started.
    pub listening: Vec<u16>,
    /// Not routed to and not woken.
    pub cordoned: bool,
    /// `services` of its config.
    pub services: Vec<Service>,
    /// `env.PRIMARY_REGION` of its config.
    pub primary_region: Option<String>,
    /// Why the last start failed, in words, if it is stopped because of that.
    pub last_failure: Option<String>,
    /// It sleeps with its memory kept: it wakes faster than one that does not.
    pub suspended: bool,
    /// Milliseconds by stage of the start that made it `Started`, in order.
    pub stages_ms: Vec<(String, f64)>,
}

/// What a machine does, as far as routing goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RouteState {
    /// Neither runs nor can be woken: being created, replaced or destroyed.
    Unavailable,
    /// Can be woken.
    Asleep,
    /// On its way up.
    Starting,
    /// Runs; requests go to it once its port listens.
    Started,
    /// On its way down; a wake starts it again once it is down.
    Stopping,
}

/// One change to the edge's table. Changes of one host are numbered without gaps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum RouteChange {
    /// A machine is new or changed.
    Upsert(Box<Route>),
    /// A machine is gone.
    Remove {
        /// Its id.
        machine: String,
    },
}

/// The edge's table of one host as of one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RouteSnapshot {
    /// Number of the last change that is part of it.
    pub generation: u64,
    /// One per machine.
    pub routes: Vec<Route>,
}

/// Why a wake failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WakeRefused {
    /// No such machine here (any more).
    Gone,
    /// Its state does not allow a start (PM08).
    NotStartable(String),
    /// The host has no room (PM07).
    NoCapacity(String),
    /// The start was tried and failed (PM07).
    Failed(String),
}
