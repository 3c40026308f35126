//! How the objects of a cluster are labelled, as Kubernetes recommends it.

use crate::manifest::tree::{Map, map};

/// The labels of one cluster's objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels {
    /// Which database: `app.kubernetes.io/name`.
    pub database: String,
    /// Which cluster of it: `app.kubernetes.io/instance`, the set's name.
    pub instance: String,
}

impl Labels {
    /// The labels of a Cassandra cluster.
    pub fn cassandra(set: &str) -> Self {
        Self { database: "cassandra".to_owned(), instance: set.to_owned() }
    }

    /// What pods are selected by. Selectors cannot be changed later: nothing in it that ever changes.
    pub fn selector(&self) -> Map {
        map! { "app.kubernetes.io/name": &self.database, "app.kubernetes.io/instance": &self.instance }
    }

    /// What every object carries.
    pub fn object(&self) -> Map {
        let mut labels = self.selector();
        labels.set("app.kubernetes.io/part-of", "pilotmesh");
        labels
    }
}
