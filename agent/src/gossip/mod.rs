//! Gossip: what pilots say of themselves, to all, sealed. Knowledge, never authority.
//!
//! [`ChitchatMembership`] runs chitchat behind the [`Membership`] trait. Its datagrams go through [`seal`]: nothing is
//! decoded, kept or answered that is not from a pilot of this mesh, new, and of its newest life.
//!
//! What a shared key cannot do: it proves *a* pilot, not *which*. A pilot that turns on its peers can still lie.

mod chitchat;
mod counters;
mod cut;
pub mod frame;
mod membership;
mod network;
mod observe;
pub mod reassembly;
mod replay;
pub mod seal;
mod settings;
mod transport;
mod wake;

#[cfg(test)]
mod tests;

pub use self::chitchat::{ChitchatMembership, GossipError, GossipStart, NextGeneration};
pub use ::chitchat::ChitchatEnvelope;
pub use counters::GossipCounters;
pub use cut::{Cut, CutsNotAllowed};
pub use membership::{
    DEPARTING, Incident, IncidentKind, KEYS, Membership, MembershipView, OwnView, PeerView, PublishError, Values,
    check_values,
};
pub use replay::ReplayWindow;
pub use settings::GossipSettings;
pub use transport::GossipCodec;
pub use wake::{WakeGuard, boottime};
