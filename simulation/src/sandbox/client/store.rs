//! The numbered rows in whichever database is written to.

use super::WriterSettings;
use super::rows;
use crate::model_database::Table;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

/// Which database a writer speaks to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Store {
    /// Apache Cassandra, by CQL.
    #[default]
    Cassandra,
    /// The model database.
    Model,
}

/// A connected table.
pub(super) enum Rows {
    Cassandra(Box<rows::Rows>),
    Model(Table),
}

impl Rows {
    /// Connects, and makes keyspace and table where the database wants them made.
    pub(super) async fn connect(
        contacts: &[SocketAddr],
        settings: &WriterSettings,
        within: Duration,
    ) -> Result<Self, String> {
        match settings.store {
            Store::Cassandra => {
                rows::Rows::connect(contacts, settings, within).await.map(Box::new).map(Self::Cassandra)
            }
            // Its copies are a setting of the members.
            Store::Model => {
                Table::connect(contacts, &settings.keyspace, settings.row_bytes, within).await.map(Self::Model)
            }
        }
    }

    /// Writes one row; returns when a quorum has it.
    pub(super) async fn write(&self, number: u64) -> Result<(), String> {
        match self {
            Self::Cassandra(rows) => rows.write(number).await,
            Self::Model(table) => table.write(number).await,
        }
    }

    /// The numbers of all rows, as a quorum has them.
    pub(super) async fn read_all(&self) -> Result<BTreeSet<u64>, String> {
        match self {
            Self::Cassandra(rows) => rows.read_all().await,
            Self::Model(table) => table.read_all().await,
        }
    }
}
