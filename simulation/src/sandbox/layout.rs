//! Where a sandbox keeps what.

use std::path::{Path, PathBuf};

/// The folder of one sandbox.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The sandbox in this folder.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The objects of the embedded Kubernetes API, written again and again.
    pub fn objects(&self) -> PathBuf {
        self.root.join("objects.json")
    }

    /// The mesh keys, as a Secret would be mounted.
    pub fn keys(&self) -> PathBuf {
        self.root.join("keys")
    }

    /// The policy file.
    pub fn policy(&self) -> PathBuf {
        self.root.join("policy.yaml")
    }

    /// The kubeconfig of a user.
    pub fn kubeconfig(&self, user: &str) -> PathBuf {
        self.root.join(format!("kubeconfig-{user}"))
    }

    /// The volume of a claim.
    pub fn volume(&self, claim: &str) -> PathBuf {
        self.root.join("volumes").join(claim)
    }

    /// What a pod has for itself: gone with the pod.
    pub fn pod(&self, uid: &str) -> PathBuf {
        self.root.join("pods").join(uid)
    }

    /// What a container prints.
    pub fn log(&self, pod: &str, container: &str) -> PathBuf {
        self.root.join("logs").join(format!("{pod}-{container}.log"))
    }

    /// Where the running sandbox listens for commands.
    pub fn control(&self) -> PathBuf {
        self.root.join("control.sock")
    }

    /// The peers that this pod is cut off from: a fault test.
    pub fn cuts(&self, pod: &str) -> PathBuf {
        self.root.join("cuts").join(pod)
    }
}
