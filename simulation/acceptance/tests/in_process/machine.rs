//! The machine of one process: the model network, names, disk, launcher and API in place of the system's.

use super::api::Service;
use super::codec::Codec;
use super::faults::{Adapter, Kind};
use super::network::{Cable, Stream, pair};
use super::world::{Life, World, lock};
use agent::gossip::GossipCodec;
use agent::http::{Board, ServeError};
use agent::machine::{Clock, Machine, SharedClock, Signals};
use agent::runtime::api::ApiError;
use agent::runtime::keeper::{Disk, Keeper, MemoryError, write_newest};
use agent::state_file::{Loaded, StateFileError};
use protocol::id::PilotName;
use simulation::world::clock::WALL;
use simulation::world::cluster::NAMESPACE;
use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc;
use tokio::time::sleep;

/// The machine of one process.
#[derive(Clone)]
pub(crate) struct Simulated {
    pub(crate) world: Arc<World>,
    pub(crate) life: Arc<Life>,
    pub(crate) codec: Option<Arc<Codec>>,
}

/// The paused clock, begun elsewhere for every pod.
struct Paused {
    world: Arc<World>,
    offset: u64,
}

impl Clock for Paused {
    fn boot(&self) -> Duration {
        Duration::from_millis(self.offset + self.world.now())
    }

    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(WALL + self.world.now())
    }
}

/// What a pod's clock shows when the run begins.
pub(crate) fn offset(pod: &PilotName) -> u64 {
    1_000_000 + u64::from(pod.ordinal().unwrap_or(0)) * 7_777_777
}

impl Machine for Simulated {
    type Network = Cable;
    type Launcher = Stream;
    type Disk = Memory;
    type Endpoints = ();
    type Signals = Word;

    fn clock(&self) -> SharedClock {
        Arc::new(Paused { world: self.world.clone(), offset: offset(&self.life.pod) })
    }

    fn network(&self) -> Cable {
        Cable { world: self.world.clone(), life: self.life.clone() }
    }

    fn gossip_codec(&self) -> Option<Arc<dyn GossipCodec>> {
        self.codec.clone().map(|codec| codec as Arc<dyn GossipCodec>)
    }

    async fn resolve(&self, name: &str) -> io::Result<Vec<SocketAddr>> {
        match self.world.strike(Adapter::Names, &self.life) {
            Some(Kind::Stall) => sleep(self.world.stall()).await,
            Some(Kind::Error) => return Err(io::Error::new(io::ErrorKind::NotFound, "the name service is away")),
            Some(Kind::LostReply | Kind::Cut | Kind::End) | None => sleep(self.world.delay(1, 10)).await,
        }
        let unknown = || io::Error::new(io::ErrorKind::NotFound, "no such name");
        let (host, port) = name.split_once(':').ok_or_else(unknown)?;
        let port: u16 = port.parse().map_err(|_| unknown())?;
        let address = self.world.kube().address_of(host).ok_or_else(unknown)?;
        Ok(vec![SocketAddr::new(address, port)])
    }

    async fn launcher(&self, _socket: &Path) -> io::Result<Stream> {
        let fate = self.world.strike(Adapter::LauncherConnect, &self.life);
        match fate {
            Some(Kind::Stall) => sleep(self.world.stall()).await,
            Some(Kind::Error) => return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "nobody listens")),
            Some(Kind::LostReply | Kind::Cut | Kind::End) | None => sleep(Duration::from_millis(1)).await,
        }
        let door = self.world.kube().launcher_of(&self.life.pod, &self.life.uid);
        let door = door.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such socket"))?;
        let adapters = Some((Adapter::LauncherRead, Adapter::LauncherWrite));
        let (own, other) = pair(&self.world, adapters, &self.life);
        door.connect(other).map_err(|()| io::Error::new(io::ErrorKind::ConnectionRefused, "it has just ended"))?;
        match fate {
            Some(Kind::LostReply) => Err(io::Error::new(io::ErrorKind::ConnectionReset, "it stood, and was lost")),
            Some(Kind::Stall | Kind::Error | Kind::Cut | Kind::End) | None => Ok(own),
        }
    }

    fn memory(&self, path: &Path) -> Result<(Memory, Loaded), MemoryError> {
        let loaded = match self.world.kube().volume(&self.life.claim).memory.clone() {
            Some(bytes) => Loaded::Good(bytes),
            None => Loaded::Fresh,
        };
        let disk = Memory { world: self.world.clone(), life: self.life.clone(), path: path.to_owned(), fate: None };
        Ok((disk, loaded))
    }

    fn keep(&self, mut disk: Memory) -> Keeper {
        let (to, mut asked) = mpsc::unbounded_channel();
        let (done, from) = mpsc::unbounded_channel();
        let (world, life) = (self.world.clone(), self.life.clone());
        tokio::spawn(async move {
            while let Some(newest) = asked.recv().await {
                disk.fate = world.strike(Adapter::Memory, &life);
                match disk.fate {
                    Some(Kind::Stall) => sleep(world.stall()).await,
                    Some(Kind::Error | Kind::LostReply | Kind::Cut | Kind::End) | None => {
                        sleep(world.delay(1, 8)).await;
                    }
                }
                if done.send(write_newest(&mut disk, newest, &mut asked)).is_err() {
                    return;
                }
            }
        });
        (to, from)
    }

    async fn beside<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
        // As a thread of its own does it: a panic is told to whoever waits.
        let done = std::panic::catch_unwind(AssertUnwindSafe(|| {
            let fate = self.world.strike(Adapter::Volume, &self.life);
            (fate, work())
        }));
        let (fate, value) = done.map_err(|_| "it panicked".to_owned())?;
        match fate {
            Some(Kind::Stall) => sleep(self.world.stall()).await,
            Some(Kind::Error | Kind::LostReply | Kind::Cut | Kind::End) | None => sleep(self.world.delay(1, 9)).await,
        }
        Ok(value)
    }

    async fn api(&self, _kubeconfig: Option<&Path>) -> Result<kube::Client, ApiError> {
        Ok(kube::Client::new(Service { world: self.world.clone(), life: self.life.clone() }, NAMESPACE))
    }

    async fn serve(&self, listen: SocketAddr, board: Board) -> Result<(SocketAddr, ()), ServeError> {
        self.world.kube().show(&self.life.pod, self.life.number, board);
        Ok((listen, ()))
    }

    fn signals(&self) -> io::Result<Word> {
        let told = lock(&self.life.told).take();
        told.map(Word).ok_or_else(|| io::Error::other("somebody hears the signals of this process already"))
    }
}

/// The word to end.
pub(crate) struct Word(mpsc::Receiver<()>);

impl Signals for Word {
    async fn told_to_end(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending().await
        }
    }
}

/// The pilot's memory on its volume.
pub(crate) struct Memory {
    world: Arc<World>,
    life: Arc<Life>,
    path: PathBuf,
    fate: Option<Kind>,
}

impl Disk for Memory {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StateFileError> {
        let failed = |path: &Path| StateFileError::Io {
            doing: "write",
            path: path.to_owned(),
            source: io::Error::other("the disk has failed"),
        };
        let fate = self.fate.take();
        if fate == Some(Kind::Error) || self.life.is_over() {
            return Err(failed(&self.path));
        }
        let text = String::from_utf8_lossy(bytes);
        self.world.tell(format_args!("{}#{} remembers {text}", self.life.pod, self.life.number));
        let judged = self.world.kube().remember(&self.life, bytes, fate != Some(Kind::LostReply));
        if let Err(why) = judged {
            self.world.kube().broken(why);
        }
        if fate == Some(Kind::LostReply) { Err(failed(&self.path)) } else { Ok(()) }
    }
}
