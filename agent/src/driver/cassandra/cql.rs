//! One client connection to one node: it asks what this node knows, and goes to no other.

use super::credentials::{Credentials, CredentialsError};
use super::rows::{Gossip, Keyspace, Local, Peer, Rows, Stream};
use protocol::id::DatabaseIdentity;
use scylla::client::PoolSize;
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::cluster::metadata::Peer as Discovered;
use scylla::deserialize::row::DeserializeRow;
use scylla::errors::{ExecutionError, IntoRowsResultError, NewSessionError, RowsError};
use scylla::policies::host_filter::HostFilter;
use scylla::policies::retry::FallthroughRetryPolicy;
use scylla::statement::Consistency;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const LOCAL: &str = "SELECT CAST(host_id AS text), bootstrapped, release_version, CAST(schema_version AS text) \
     FROM system.local WHERE key = 'local'";
const PEERS: &str = "SELECT peer, CAST(host_id AS text), CAST(schema_version AS text) FROM system.peers_v2";
const GOSSIP: &str = "SELECT address, generation, heartbeat, host_id, status_with_port, status, \"schema\", load \
     FROM system_views.gossip_info";
const KEYSPACES: &str = "SELECT replication FROM system_schema.keyspaces";
const STREAMS: &str = "SELECT status, bytes_received, bytes_sent, bytes_to_receive, bytes_to_send \
     FROM system_views.streaming";

/// Nobody asks the driver library's own picture of the cluster: it is read once, and then almost never.
const METADATA_INTERVAL: Duration = Duration::from_secs(24 * 3600);

/// A session that stays with one node.
pub(super) struct Node {
    session: Session,
}

/// Why a node could not be asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum CqlError {
    #[error("no credentials: {0}")]
    Credentials(#[from] CredentialsError),
    #[error("cannot open a session: {0}")]
    Open(#[from] Box<NewSessionError>),
    #[error("a statement failed: {0}")]
    Execute(#[from] Box<ExecutionError>),
    #[error("an answer is no rows: {0}")]
    NoRows(#[from] Box<IntoRowsResultError>),
    #[error("an answer has other columns than asked for: {0}")]
    Columns(#[from] RowsError),
    #[error("a row cannot be read: {0}")]
    Row(#[from] scylla::deserialize::DeserializationError),
}

struct Only(IpAddr);

impl HostFilter for Only {
    fn accept(&self, peer: &Discovered) -> bool {
        peer.address.ip() == self.0
    }
}

impl Node {
    /// Opens a session with the node at this address and no other, as the role whose credentials lie in this folder.
    pub(super) async fn open(
        address: SocketAddr,
        timeout: Duration,
        credentials: Option<&Path>,
    ) -> Result<Self, CqlError> {
        // A few bytes of a mounted file: quicker than a thread for them.
        let role = credentials.map(Credentials::read).transpose()?;
        let profile = ExecutionProfile::builder()
            .consistency(Consistency::One)
            .request_timeout(Some(timeout))
            .retry_policy(Arc::new(FallthroughRetryPolicy::new()))
            .build();
        let mut builder = SessionBuilder::new();
        if let Some(Credentials { username, password }) = role {
            builder = builder.user(username, password);
        }
        let session = builder
            .known_node_addr(address)
            .host_filter(Arc::new(Only(address.ip())))
            .pool_size(PoolSize::PerHost(NonZeroUsize::MIN))
            .disallow_shard_aware_port(true)
            .fetch_schema_metadata(false)
            .fetch_full_schema_metadata(false)
            .cluster_metadata_refresh_interval(METADATA_INTERVAL)
            .auto_await_schema_agreement(false)
            .connection_timeout(timeout)
            .default_execution_profile_handle(profile.into_handle())
            .build()
            .await
            .map_err(Box::new)?;
        Ok(Self { session })
    }

    /// Everything one look needs.
    pub(super) async fn look(&self) -> Result<Rows, CqlError> {
        let (local, peers, gossip, keyspaces, streams) =
            tokio::try_join!(self.local(), self.peers(), self.gossip(), self.keyspaces(), self.streams())?;
        Ok(Rows { local, peers, gossip, keyspaces, streams })
    }

    /// Where this node knows a peer to be, or to have been.
    pub(super) async fn address_of(&self, identity: &DatabaseIdentity) -> Result<Option<IpAddr>, CqlError> {
        let peers = self.peers().await?;
        let same = |peer: &Peer| peer.host_id.as_deref() == Some(identity.as_str());
        Ok(peers.into_iter().find(same).map(|peer| peer.address))
    }

    async fn local(&self) -> Result<Local, CqlError> {
        type Row = (Option<String>, Option<String>, Option<String>, Option<String>);
        let rows = self.rows::<Row>(LOCAL).await?;
        Ok(rows
            .into_iter()
            .next()
            .map(|(host_id, bootstrapped, version, schema)| Local { host_id, bootstrapped, version, schema })
            .unwrap_or_default())
    }

    async fn peers(&self) -> Result<Vec<Peer>, CqlError> {
        type Row = (IpAddr, Option<String>, Option<String>);
        let rows = self.rows::<Row>(PEERS).await?;
        Ok(rows.into_iter().map(|(address, host_id, schema)| Peer { address, host_id, schema }).collect())
    }

    async fn gossip(&self) -> Result<Vec<Gossip>, CqlError> {
        type Row = (
            IpAddr,
            Option<i32>,
            Option<i32>,
            Option<String>,
            Option<String>,
            Option<String>,
            Option<String>,
            Option<String>,
        );
        let rows = self.rows::<Row>(GOSSIP).await?;
        Ok(rows
            .into_iter()
            .map(|(address, generation, heartbeat, host_id, with_port, status, schema, load)| {
                Gossip {
                    address,
                    generation: generation.unwrap_or_default(),
                    heartbeat: heartbeat.unwrap_or_default(),
                    host_id,
                    // The older `status` stays empty for most members.
                    status: with_port.or(status),
                    schema,
                    load,
                }
            })
            .collect())
    }

    async fn keyspaces(&self) -> Result<Vec<Keyspace>, CqlError> {
        let rows = self.rows::<(BTreeMap<String, String>,)>(KEYSPACES).await?;
        Ok(rows.into_iter().map(|(replication,)| Keyspace { replication }).collect())
    }

    async fn streams(&self) -> Result<Vec<Stream>, CqlError> {
        type Row = (Option<String>, Option<i64>, Option<i64>, Option<i64>, Option<i64>);
        let rows = self.rows::<Row>(STREAMS).await?;
        let sum = |a: Option<i64>, b: Option<i64>| a.unwrap_or(0).saturating_add(b.unwrap_or(0));
        Ok(rows
            .into_iter()
            .map(|(status, received, sent, to_receive, to_send)| Stream {
                status,
                done: sum(received, sent),
                total: sum(to_receive, to_send),
            })
            .collect())
    }

    async fn rows<R>(&self, statement: &str) -> Result<Vec<R>, CqlError>
    where
        R: for<'f, 'm> DeserializeRow<'f, 'm>,
    {
        let result =
            self.session.query_unpaged(statement, &[]).await.map_err(Box::new)?.into_rows_result().map_err(Box::new)?;
        let mut rows = Vec::new();
        for row in result.rows::<R>()? {
            rows.push(row?);
        }
        Ok(rows)
    }
}
