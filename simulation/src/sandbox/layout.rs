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

    /// What a pod has for itself: gone with the pod. Named by the first part of its uid, because the paths of sockets
    /// below must be short.
    pub fn pod(&self, uid: &str) -> PathBuf {
        self.root.join("pods").join(uid.split('-').next().unwrap_or(uid))
    }

    /// The launcher's socket of a pod, as the launcher and its agent are told it.
    pub fn launcher_socket(&self, uid: &str) -> PathBuf {
        self.pod(uid).join("shared").join("launcher.sock")
    }

    /// How many bytes the folder's path has beyond what sockets inside allow; `None` where it fits.
    pub fn too_long_by(&self) -> Option<usize> {
        /// The longest path of a Unix socket, without its closing zero.
        const LONGEST_SOCKET: usize = 107;
        let longest = self.launcher_socket("00000000").as_os_str().len().max(self.control().as_os_str().len());
        longest.checked_sub(LONGEST_SOCKET).filter(|more| *more > 0)
    }

    /// What makes a folder a sandbox's, and what it was made with.
    pub fn marker(&self) -> PathBuf {
        self.root.join("sandbox.json")
    }

    /// Locked by the sandbox that runs in this folder.
    pub fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// What the sandbox itself has to say.
    pub fn own_log(&self) -> PathBuf {
        self.root.join("logs").join("sandbox.log")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_too_long_when_a_socket_inside_would_be() {
        assert_eq!(Layout::new("/tmp/x").too_long_by(), None);
        assert_eq!(Layout::new(format!("/{}", "x".repeat(71))).too_long_by(), None);
        assert_eq!(Layout::new(format!("/{}", "x".repeat(81))).too_long_by(), Some(10));
    }
}
