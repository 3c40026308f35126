//! The folder of a sandbox: whose it is, who runs in it, and what it was made with.

use super::engine::MARK;
use super::layout::Layout;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Processes of a killed sandbox are given so long to end: a launcher that nobody tells whether to leave drains when
/// its pod's grace period, two minutes, is nearly over.
const PATIENCE: Duration = Duration::from_secs(150);
/// The second octets that sandboxes take for themselves: sixteen, because JMX ports are derived from it.
const OCTETS: std::ops::Range<u8> = 64..76;
/// Where a range's last address is held by who has the range.
const TAKEN_PORT: u16 = 7302;

/// Which database, as people write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Apache Cassandra, fetched on first use.
    Cassandra,
    /// A small replicated store of our own: fifty pilots fit on two cores.
    Model,
}

impl Kind {
    /// As it is written.
    pub fn word(self) -> &'static str {
        match self {
            Self::Cassandra => "cassandra",
            Self::Model => "model",
        }
    }
}

/// What a folder says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// The version that made it.
    pub version: String,
    /// The database whose data lies here.
    pub database: Kind,
    /// The second octet of its pods' addresses.
    pub octet: u8,
}

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// The file system.
    #[error("cannot {doing} {path}: {source}", path = path.display())]
    Io {
        /// What was being attempted.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another sandbox runs here.
    #[error("a sandbox runs in {dir} already (process {pid}): stop it with `kill {pid}`, or choose another folder with --dir", dir = dir.display())]
    Running {
        /// The folder.
        dir: PathBuf,
        /// Who holds the lock.
        pid: String,
    },
    /// It holds something else.
    #[error("{dir} holds files but no sandbox.json, so it is no sandbox's folder: choose another one with --dir", dir = dir.display())]
    Foreign {
        /// The folder.
        dir: PathBuf,
    },
    /// The marker is damaged.
    #[error("{path} is not what a sandbox writes ({why}): remove the folder, or choose another one with --dir", path = path.display())]
    Damaged {
        /// The marker.
        path: PathBuf,
        /// The fault.
        why: String,
    },
    /// Another database's data lies here.
    #[error("{dir} holds a sandbox of {found}, but --database is {asked}: leave the flag out, add --fresh to begin anew, or choose another folder with --dir", dir = dir.display(), found = found.word(), asked = asked.word())]
    OtherDatabase {
        /// The folder.
        dir: PathBuf,
        /// What lies there.
        found: Kind,
        /// What was asked for.
        asked: Kind,
    },
    /// Processes of a sandbox that was killed.
    #[error("processes of a killed sandbox still run in {dir}:{list}\nend them with `kill {pids}`, or with `kill -9` what does not end", dir = dir.display(), list = lines(left), pids = pids(left))]
    Leftovers {
        /// The folder.
        dir: PathBuf,
        /// They.
        left: Vec<Process>,
    },
    /// No address of this range can be used here.
    #[error(
        "cannot use addresses of 127.{octet}.0.0/16: {error}; does this machine have all of 127.0.0.0/8, as Linux does?"
    )]
    Addresses {
        /// The second octet.
        octet: u8,
        /// Why.
        error: io::Error,
    },
    /// Every range of addresses is in use.
    #[error("all of 127.{}.0.0/16 to 127.{}.0.0/16 are taken by other sandboxes: stop one of them", OCTETS.start, OCTETS.end - 1)]
    NoAddresses,
    /// Sockets in the folder would have no valid address.
    #[error("the path of {dir} is {more} bytes too long for the sockets inside: choose a shorter one with --dir", dir = dir.display())]
    TooLong {
        /// The folder.
        dir: PathBuf,
        /// By so much.
        more: usize,
    },
    /// There is no place for the default folder.
    #[error("neither XDG_STATE_HOME nor HOME is set: choose a folder with --dir")]
    NoDefault,
}

fn lines(left: &[Process]) -> String {
    left.iter().map(|p| format!("\n  {} {}", p.pid, p.command)).collect()
}

fn pids(left: &[Process]) -> String {
    left.iter().map(|p| p.pid.to_string()).collect::<Vec<_>>().join(" ")
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> HomeError {
    let path = path.to_owned();
    move |source| HomeError::Io { doing, path, source }
}

/// Where `sandbox up` keeps everything unless it is told otherwise.
///
/// # Errors
/// When the environment names no home.
pub fn default_dir() -> Result<PathBuf, HomeError> {
    let of = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let state = of("XDG_STATE_HOME").filter(|path| path.is_absolute());
    let state = state.or_else(|| Some(of("HOME")?.join(".local").join("state"))).ok_or(HomeError::NoDefault)?;
    Ok(state.join("pilotmesh").join("sandbox"))
}

/// A folder that is ours while this lives.
#[derive(Debug)]
pub struct Home {
    /// What lies where.
    pub layout: Layout,
    /// What it was made with.
    pub made: Made,
    /// It held a sandbox before.
    pub returning: bool,
    _lock: File,
    _addresses: UdpSocket,
}

/// What is asked of a folder.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wish {
    /// The database; `None` takes what lies there, Cassandra in a new one.
    pub database: Option<Kind>,
    /// Forget what lies there.
    pub fresh: bool,
    /// The second octet of addresses; `None` takes what was used before, or one that is free.
    pub octet: Option<u8>,
}

impl Home {
    /// Takes a folder, making it where it is not there.
    ///
    /// # Errors
    /// When somebody else has it, or it is no sandbox's.
    pub fn take(dir: &Path, wish: Wish) -> Result<Self, HomeError> {
        // Children are told this path and do not start where we do.
        let dir = std::path::absolute(dir).map_err(failed("find", dir))?;
        let layout = Layout::new(&dir);
        let marker = layout.marker();
        if let Some(more) = layout.too_long_by() {
            return Err(HomeError::TooLong { dir, more });
        }
        if !is_sandbox_or_empty(&layout)? {
            return Err(HomeError::Foreign { dir });
        }
        // The mesh keys lie here.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(failed("make", &dir))?;
        let lock = lock(&layout)?;
        wait_for_leftovers(&dir)?;
        if wish.fresh {
            forget(&layout)?;
        }
        let found = read_marker(&marker)?;
        if let (Some(found), Some(asked)) = (&found, wish.database)
            && found.database != asked
        {
            return Err(HomeError::OtherDatabase { dir, found: found.database, asked });
        }
        let returning = found.is_some() && layout.objects().exists();
        let preferred = wish.octet.or(found.as_ref().map(|f| f.octet));
        let (octet, addresses) = take_addresses(preferred, wish.octet.is_some())?;
        let database = wish.database.or(found.map(|f| f.database)).unwrap_or(Kind::Cassandra);
        let made = Made { version: env!("CARGO_PKG_VERSION").to_owned(), database, octet };
        let text = serde_json::to_vec_pretty(&made).unwrap_or_default();
        fs::write(&marker, text).map_err(failed("write", &marker))?;
        Ok(Self { layout, made, returning, _lock: lock, _addresses: addresses })
    }
}

fn read_marker(marker: &Path) -> Result<Option<Made>, HomeError> {
    match fs::read(marker) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|e| HomeError::Damaged { path: marker.to_owned(), why: e.to_string() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", marker)(error)),
    }
}

fn is_sandbox_or_empty(layout: &Layout) -> Result<bool, HomeError> {
    let root = layout.root();
    match fs::read_dir(root) {
        Ok(mut entries) => {
            // A start that was cut off may have left its lock and nothing else.
            let only_ours = entries.all(|e| e.is_ok_and(|e| e.path() == layout.lock()));
            Ok(only_ours || layout.marker().is_file())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(failed("read", root)(error)),
    }
}

fn lock(layout: &Layout) -> Result<File, HomeError> {
    let path = layout.lock();
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(failed("open", &path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            // Only told to people: where it cannot be read, so be it.
            let _ = file.read_to_string(&mut pid);
            return Err(HomeError::Running { dir: layout.root().to_owned(), pid: pid.trim().to_owned() });
        }
        Err(TryLockError::Error(error)) => return Err(failed("lock", &path)(error)),
    }
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(failed("write", &path))?;
    Ok(file)
}

/// Removes what a sandbox wrote, but for the lock that we hold. The folder was looked at before.
fn forget(layout: &Layout) -> Result<(), HomeError> {
    let root = layout.root();
    for entry in fs::read_dir(root).map_err(failed("read", root))? {
        let path = entry.map_err(failed("read", root))?.path();
        // The marker goes last: should this be cut off, the rest is still known to be a sandbox's.
        if path == layout.lock() || path == layout.marker() {
            continue;
        }
        let removed =
            if path.is_dir() && !path.is_symlink() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(failed("remove", &path))?;
    }
    match fs::remove_file(layout.marker()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", &layout.marker())(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Takes a range of addresses for as long as the socket lives. It is bound in that range, so whoever takes it is seen by all
/// of this machine, whatever their folders, and it is free again when its sandbox ends in whichever way.
fn take_addresses(preferred: Option<u8>, only: bool) -> Result<(u8, UdpSocket), HomeError> {
    let others = OCTETS.filter(|o| !only && Some(*o) != preferred);
    for octet in preferred.into_iter().chain(others) {
        // No pod has this address: they are counted from the other end.
        match UdpSocket::bind((Ipv4Addr::new(127, octet, 255, 254), TAKEN_PORT)) {
            Ok(socket) => return Ok((octet, socket)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(HomeError::Addresses { octet, error }),
        }
    }
    Err(HomeError::NoAddresses)
}

/// A process of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// What it runs, in short.
    pub command: String,
}

/// Every process that was started by the sandbox of this folder and has not ended, whoever its parent is now.
pub fn processes_of(dir: &Path) -> Vec<Process> {
    let mark = format!("{MARK}={}", dir.display());
    let mut found: Vec<Process> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            // Another user's process cannot be read, and is none of ours.
            let environment = fs::read(entry.path().join("environ")).ok()?;
            let ours = environment.split(|b| *b == 0).any(|v| v == mark.as_bytes());
            (ours && pid != std::process::id()).then(|| Process { pid, command: command_of(&entry.path()) })
        })
        .collect();
    found.sort_by_key(|p| p.pid);
    found
}

/// The first words of a command line that tell what it is.
fn command_of(proc: &Path) -> String {
    let bytes = fs::read(proc.join("cmdline")).unwrap_or_default();
    let mut words = bytes.split(|b| *b == 0).map(String::from_utf8_lossy);
    let program = words.next().unwrap_or_default().into_owned();
    let program = program.rsplit('/').next().unwrap_or_default().to_owned();
    let rest: Vec<String> = words.take(2).map(|w| w.chars().take(30).collect()).collect();
    format!("{program} {}", rest.join(" ")).trim().to_owned()
}

fn wait_for_leftovers(dir: &Path) -> Result<(), HomeError> {
    let begun = Instant::now();
    let mut told = false;
    loop {
        let left = processes_of(dir);
        if left.is_empty() {
            return Ok(());
        }
        if begun.elapsed() > PATIENCE {
            return Err(HomeError::Leftovers { dir: dir.to_owned(), left });
        }
        if !told {
            told = true;
            eprintln!(
                "waiting for {} processes of a killed sandbox to drain and end, two minutes at most; quicker with `kill -9 {}`",
                left.len(),
                pids(&left)
            );
        }
        std::thread::sleep(Duration::from_millis(250));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish() -> Wish {
        Wish { database: Some(Kind::Model), ..Wish::default() }
    }

    #[test]
    fn a_folder_with_foreign_files_is_left_alone_even_when_it_shall_be_fresh() {
        let folder = tempfile::tempdir().expect("folder");
        fs::write(folder.path().join("thesis.txt"), "years").expect("file");
        let error = Home::take(folder.path(), Wish { fresh: true, ..wish() }).expect_err("refused");
        assert!(matches!(error, HomeError::Foreign { .. }), "{error}");
        assert!(folder.path().join("thesis.txt").exists());
    }

    #[test]
    fn a_second_sandbox_in_one_folder_is_told_who_runs_there() {
        let folder = tempfile::tempdir().expect("folder");
        let home = Home::take(folder.path(), wish()).expect("taken");
        let error = Home::take(folder.path(), wish()).expect_err("refused");
        assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
        drop(home);
        Home::take(folder.path(), wish()).expect("free again");
    }

    #[test]
    fn another_database_is_refused_and_fresh_forgets_everything() {
        let folder = tempfile::tempdir().expect("folder");
        drop(Home::take(folder.path(), wish()).expect("taken"));
        fs::create_dir(folder.path().join("volumes")).expect("volumes");
        let other = Wish { database: Some(Kind::Cassandra), ..Wish::default() };
        let error = Home::take(folder.path(), other).expect_err("refused");
        assert!(matches!(error, HomeError::OtherDatabase { .. }), "{error}");
        let kept = Home::take(folder.path(), Wish::default()).expect("taken");
        assert_eq!(kept.made.database, Kind::Model, "what lies there is taken without being named");
        drop(kept);
        drop(Home::take(folder.path(), Wish { fresh: true, ..other }).expect("taken"));
        assert!(!folder.path().join("volumes").exists());
    }

    #[test]
    fn two_sandboxes_have_different_addresses_and_one_keeps_its_own() {
        let (one, two) = (tempfile::tempdir().expect("folder"), tempfile::tempdir().expect("folder"));
        let first = Home::take(one.path(), wish()).expect("taken");
        let second = Home::take(two.path(), wish()).expect("taken");
        assert_ne!(first.made.octet, second.made.octet);
        let before = second.made.octet;
        drop(second);
        assert_eq!(Home::take(two.path(), wish()).expect("taken").made.octet, before);
    }
}
