//! The numbered rows in the database.

use super::{Protocol, WriterSettings};
use crate::model_database::Table;
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::statement::Consistency;
use scylla::statement::prepared::PreparedStatement;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::net::SocketAddr;
use std::time::Duration;

/// Rows are spread over so many partitions.
const PARTITIONS: u64 = 64;

/// A stopped process keeps its connections open: they are given up after so long without an answer.
const KEEPALIVE: Duration = Duration::from_secs(2);

/// A connected table.
pub(super) enum Rows {
    Cql(Box<CqlRows>),
    Model(Table),
}

impl Rows {
    /// Connects, and makes keyspace and table where they are not there.
    pub(super) async fn connect(
        contacts: &[SocketAddr],
        settings: &WriterSettings,
        request_timeout: Duration,
    ) -> Result<Self, String> {
        Ok(match settings.protocol {
            Protocol::Cql => Self::Cql(Box::new(CqlRows::connect(contacts, settings, request_timeout).await?)),
            Protocol::Model => {
                Self::Model(Table::connect(contacts, &settings.keyspace, settings.row_bytes, request_timeout).await?)
            }
        })
    }

    /// Writes one row; returns when a quorum has it.
    pub(super) async fn write(&self, number: u64) -> Result<(), String> {
        match self {
            Self::Cql(rows) => rows.write(number).await,
            Self::Model(table) => table.write(number).await,
        }
    }

    /// The numbers of all rows, as a quorum has them.
    pub(super) async fn read_all(&self) -> Result<BTreeSet<u64>, String> {
        match self {
            Self::Cql(rows) => rows.read_all().await,
            Self::Model(table) => table.read_all().await,
        }
    }
}

/// A table of Cassandra's.
pub(super) struct CqlRows {
    session: Session,
    insert: PreparedStatement,
    select: PreparedStatement,
    payload: String,
}

impl CqlRows {
    /// Connects, and makes keyspace and table where they are not there.
    async fn connect(
        contacts: &[SocketAddr],
        settings: &WriterSettings,
        request_timeout: Duration,
    ) -> Result<Self, String> {
        let profile =
            ExecutionProfile::builder().consistency(Consistency::Quorum).request_timeout(Some(request_timeout)).build();
        let mut builder = SessionBuilder::new();
        if let Some((name, password)) = &settings.role {
            builder = builder.user(name, password);
        }
        let session = builder
            .known_nodes_addr(contacts)
            .default_execution_profile_handle(profile.into_handle())
            .disallow_shard_aware_port(true)
            .connection_timeout(KEEPALIVE)
            .keepalive_interval(KEEPALIVE)
            .keepalive_timeout(KEEPALIVE)
            .build()
            .await
            .map_err(said)?;
        let keyspace = &settings.keyspace;
        let insert = format!("INSERT INTO {keyspace}.rows (part, number, payload) VALUES (?, ?, ?)");
        let mut insert = match session.prepare(insert.as_str()).await {
            Ok(statement) => statement,
            // Not there yet. Asked for in this order, so that a reconnecting writer changes no schema.
            Err(_) => {
                make(&session, settings).await?;
                session.prepare(insert).await.map_err(said)?
            }
        };
        insert.set_is_idempotent(true);
        let mut select =
            session.prepare(format!("SELECT number FROM {keyspace}.rows WHERE part = ?")).await.map_err(said)?;
        select.set_is_idempotent(true);
        Ok(Self { session, insert, select, payload: "x".repeat(settings.row_bytes) })
    }

    /// Writes one row; returns when a quorum has it.
    async fn write(&self, number: u64) -> Result<(), String> {
        let (part, signed) = place(number)?;
        self.session.execute_unpaged(&self.insert, (part, signed, self.payload.as_str())).await.map(drop).map_err(said)
    }

    /// The numbers of all rows, as a quorum has them.
    async fn read_all(&self) -> Result<BTreeSet<u64>, String> {
        let mut all = BTreeSet::new();
        for part in 0..PARTITIONS {
            let part = i32::try_from(part).map_err(said)?;
            let rows = self
                .session
                .execute_unpaged(&self.select, (part,))
                .await
                .map_err(said)?
                .into_rows_result()
                .map_err(said)?;
            for row in rows.rows::<(i64,)>().map_err(said)? {
                let (number,) = row.map_err(said)?;
                all.insert(u64::try_from(number).map_err(said)?);
            }
        }
        Ok(all)
    }
}

async fn make(session: &Session, settings: &WriterSettings) -> Result<(), String> {
    let keyspace = &settings.keyspace;
    for statement in [
        format!(
            "CREATE KEYSPACE IF NOT EXISTS {keyspace} WITH replication = \
             {{'class': 'SimpleStrategy', 'replication_factor': {}}}",
            settings.replication
        ),
        format!(
            "CREATE TABLE IF NOT EXISTS {keyspace}.rows (part int, number bigint, payload text, \
             PRIMARY KEY (part, number))"
        ),
    ] {
        session.query_unpaged(statement, &[]).await.map_err(said)?;
    }
    Ok(())
}

fn place(number: u64) -> Result<(i32, i64), String> {
    Ok((i32::try_from(number % PARTITIONS).map_err(said)?, i64::try_from(number).map_err(said)?))
}

fn said(error: impl Display) -> String {
    error.to_string()
}
