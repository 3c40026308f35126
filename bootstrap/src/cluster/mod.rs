//! The cluster document: what one database cluster shall be, as a person writes it, and the objects made of it.

mod quantity;
mod read;
mod reader;
mod render;
pub mod schema;
mod spec;

pub use quantity::Quantity;
pub use render::render;
pub use spec::*;

use policies::fault::Faults;

/// The `apiVersion` of a cluster document.
pub const API_VERSION: &str = "pilotmesh.io/v1alpha1";
/// The `kind` of a Cassandra cluster's document.
pub const KIND: &str = "CassandraCluster";

impl CassandraCluster {
    /// Reads and checks a document.
    ///
    /// # Errors
    /// With every fault of it together, each with its place, the rule and the remedy.
    pub fn parse(text: &str, source: &str) -> Result<Self, Faults> {
        read::parse(text, source)
    }
}
