//! Named runs of the simulator: what must hold, as sentences. The invariants are checked after every step of each.

mod cores;
mod databases;
mod etcd;
mod fronts;
mod large;
mod leading;
mod membership;
mod network;
mod searching;
mod support;
