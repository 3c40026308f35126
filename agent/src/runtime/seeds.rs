//! Where peers may be found: names resolved again and again, beside the main loop, which a slow name service must not stall.

use crate::caught::caught;
use crate::machine::Machine;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Between two looks.
const AGAIN: Duration = Duration::from_secs(5);
/// One name has so long.
const WITHIN: Duration = Duration::from_secs(1);

/// What is resolved.
#[derive(Debug, Clone)]
pub(super) struct Seeds {
    /// `host:port`.
    pub(super) names: Vec<String>,
    /// A file with more of them.
    pub(super) file: Option<PathBuf>,
}

impl Seeds {
    /// The addresses of this moment, in the order of the names. All names are asked at once: together they take no longer
    /// than the slowest of them may.
    pub(super) async fn resolve(&self, machine: &impl Machine) -> Vec<SocketAddr> {
        let mut names = self.names.clone();
        if let Some(path) = &self.file {
            match tokio::fs::read_to_string(path).await {
                Ok(text) => names.extend(text.split_whitespace().map(ToOwned::to_owned)),
                Err(error) => tracing::debug!(%error, "the seed file cannot be read just now"),
            }
        }
        let mut asked = JoinSet::new();
        for (place, name) in names.into_iter().enumerate() {
            let machine = machine.clone();
            asked.spawn(async move {
                match tokio::time::timeout(WITHIN, caught(machine.resolve(&name))).await {
                    Ok(Ok(Ok(addresses))) => (place, addresses),
                    Ok(Err(panicked)) => {
                        tracing::error!(seed = %name, %panicked, "resolving a seed");
                        (place, Vec::new())
                    }
                    Ok(Ok(Err(error))) => {
                        tracing::debug!(seed = %name, %error, "a seed has no address yet");
                        (place, Vec::new())
                    }
                    Err(_) => {
                        tracing::debug!(seed = %name, "the name service is slow");
                        (place, Vec::new())
                    }
                }
            });
        }
        let mut found: Vec<(usize, Vec<SocketAddr>)> = asked.join_all().await;
        found.sort();
        found.into_iter().flat_map(|(_, addresses)| addresses).collect()
    }

    /// Tells the addresses whenever they were looked up, until nobody listens.
    pub(super) fn watch(self, machine: impl Machine, first: Vec<SocketAddr>) -> watch::Receiver<Vec<SocketAddr>> {
        let (to, from) = watch::channel(first);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = tokio::time::sleep(AGAIN) => {}
                    () = to.closed() => return,
                }
                to.send_replace(self.resolve(&machine).await);
            }
        });
        from
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn addresses_come_in_the_order_of_their_names_and_a_missing_file_hides_none() {
        let seeds = Seeds {
            names: vec!["127.0.0.2:7".to_owned(), "127.0.0.1:7".to_owned()],
            file: Some("/nowhere/at/all".into()),
        };
        let found = seeds.resolve(&crate::machine::Host).await;
        assert_eq!(found, ["127.0.0.2:7".parse().unwrap(), "127.0.0.1:7".parse().unwrap()]);
    }
}
