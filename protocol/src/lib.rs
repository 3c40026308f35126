//! What pilots say to each other, to their launcher and to durable storage.
//!
//! Nothing here does IO or decides: these are the words of the mesh, and the one codec that turns them into bytes.
//! Types that carry a rule can only be built in a way that keeps it.

pub mod codec;
pub mod database;
pub mod epoch;
pub mod id;
pub mod keys;
pub mod launcher;
pub mod message;
pub mod order;
pub mod promise;
pub mod record;
pub mod report;
pub mod shared;
pub mod time;
pub mod view;
