//! What may befall an await: by adapter and kind, drawn from the seed, for a while.

use simulation::world::chance::Chance;
use std::collections::BTreeMap;
use std::fmt;

/// Where a pilot waits for its machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Adapter {
    /// A call to the Kubernetes API.
    Api,
    /// A datagram is sent.
    GossipSend,
    /// The next datagram is waited for.
    GossipReceive,
    /// A connection of another pilot is waited for.
    Accept,
    /// Another pilot is dialled.
    Connect,
    /// A stream is read.
    StreamRead,
    /// A stream is written.
    StreamWrite,
    /// The launcher's socket is dialled.
    LauncherConnect,
    /// The launcher is heard.
    LauncherRead,
    /// The launcher is asked.
    LauncherWrite,
    /// The driver looks at the database.
    Look,
    /// The driver renders a start.
    Program,
    /// The driver looks at the volume.
    Volume,
    /// The memory is written.
    Memory,
    /// A name is resolved.
    Names,
}

/// All of them.
pub(crate) const ADAPTERS: [Adapter; 15] = [
    Adapter::Api,
    Adapter::GossipSend,
    Adapter::GossipReceive,
    Adapter::Accept,
    Adapter::Connect,
    Adapter::StreamRead,
    Adapter::StreamWrite,
    Adapter::LauncherConnect,
    Adapter::LauncherRead,
    Adapter::LauncherWrite,
    Adapter::Look,
    Adapter::Program,
    Adapter::Volume,
    Adapter::Memory,
    Adapter::Names,
];

/// What happens there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// It takes long: often longer than whoever waits is willing to, who then drops the future.
    Stall,
    /// It fails, and nothing was done.
    Error,
    /// It is done, and says that it failed, or nothing at all.
    LostReply,
    /// It breaks off in the middle.
    Cut,
    /// The task that waits ends (by a panic, the only way in which one ends unasked).
    End,
}

/// All of them.
pub(crate) const KINDS: [Kind; 5] = [Kind::Stall, Kind::Error, Kind::LostReply, Kind::Cut, Kind::End];

impl fmt::Display for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Api => "api",
            Self::GossipSend => "gossip send",
            Self::GossipReceive => "gossip receive",
            Self::Accept => "stream accept",
            Self::Connect => "stream connect",
            Self::StreamRead => "stream read",
            Self::StreamWrite => "stream write",
            Self::LauncherConnect => "launcher connect",
            Self::LauncherRead => "launcher read",
            Self::LauncherWrite => "launcher write",
            Self::Look => "driver look",
            Self::Program => "driver program",
            Self::Volume => "driver volume",
            Self::Memory => "memory write",
            Self::Names => "name service",
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Stall => "stall",
            Self::Error => "error",
            Self::LostReply => "lost reply",
            Self::Cut => "cut off",
            Self::End => "task ends",
        })
    }
}

/// Why a kind cannot happen at an adapter; nothing where it can.
pub(crate) fn impossible(adapter: Adapter, kind: Kind) -> Option<&'static str> {
    use Adapter::{
        Accept, Api, Connect, GossipReceive, GossipSend, LauncherConnect, LauncherRead, LauncherWrite, Look, Memory,
        Names, Program, StreamRead, StreamWrite, Volume,
    };
    match (adapter, kind) {
        (GossipSend, Kind::Cut) | (GossipReceive, Kind::Cut) => Some("a datagram is there whole or not at all"),
        (Accept | Connect | LauncherConnect, Kind::Cut) => Some("cut off is what a read or write of it is"),
        (Look | Volume, Kind::Error | Kind::LostReply | Kind::Cut) => Some("a look has no error: it says unknown"),
        (Program, Kind::Stall | Kind::LostReply | Kind::Cut) => Some("it is a function that does nothing"),
        (Memory, Kind::Cut) => Some("the file's own tests cut writes off"),
        (Names, Kind::LostReply | Kind::Cut) => Some("a look-up changes nothing"),
        (StreamRead | LauncherRead, Kind::LostReply) => Some("what is lost on the way is cut off"),
        (
            Api | GossipSend | GossipReceive | Accept | Connect | StreamRead | StreamWrite | LauncherConnect
            | LauncherRead | LauncherWrite | Look | Program | Volume | Memory | Names,
            Kind::Stall | Kind::Error | Kind::LostReply | Kind::Cut | Kind::End,
        ) => None,
    }
}

/// How often in a thousand awaits, where it is drawn at all: as often as leaves time for other things.
fn rate(adapter: Adapter, kind: Kind) -> u64 {
    let rate = match adapter {
        Adapter::Api => 60,
        Adapter::GossipSend | Adapter::GossipReceive => 60,
        Adapter::Accept | Adapter::Connect | Adapter::LauncherConnect => 200,
        Adapter::StreamRead | Adapter::StreamWrite => 10,
        Adapter::LauncherRead | Adapter::LauncherWrite => 60,
        Adapter::Look | Adapter::Volume => 40,
        Adapter::Program => 250,
        Adapter::Memory | Adapter::Names => 80,
    };
    match (kind, adapter) {
        (Kind::End, Adapter::GossipSend | Adapter::GossipReceive) => 2,
        (Kind::End, _) => rate / 8 + 1,
        (Kind::Stall | Kind::Error | Kind::LostReply | Kind::Cut, _) => rate,
    }
}

/// How often in a thousand awaits, where nothing else happens.
fn often(adapter: Adapter, kind: Kind) -> u64 {
    let rate = match adapter {
        Adapter::Api => 200,
        Adapter::GossipSend | Adapter::GossipReceive => 200,
        Adapter::StreamRead | Adapter::StreamWrite => 60,
        Adapter::Accept | Adapter::Connect | Adapter::Look | Adapter::Volume => 400,
        Adapter::LauncherConnect | Adapter::LauncherRead | Adapter::LauncherWrite => 300,
        Adapter::Program => 600,
        Adapter::Memory | Adapter::Names => 300,
    };
    match (kind, adapter) {
        (Kind::End, Adapter::GossipSend | Adapter::GossipReceive) => 10,
        (Kind::Stall | Kind::Error | Kind::LostReply | Kind::Cut | Kind::End, _) => rate,
    }
}

/// The faults of a run.
#[derive(Debug)]
pub(crate) struct Faults {
    chance: Chance,
    /// Times in a thousand, by what is drawn.
    rates: BTreeMap<(Adapter, Kind), u64>,
    from: u64,
    until: u64,
    /// The next await is struck, whatever is drawn.
    sure: bool,
    /// How often each happened.
    pub(crate) reached: BTreeMap<(Adapter, Kind), u64>,
}

impl Faults {
    /// None ever.
    pub(crate) fn none(seed: u64) -> Self {
        Self {
            chance: Chance::of(seed, "faults"),
            rates: BTreeMap::new(),
            from: 0,
            until: 0,
            sure: false,
            reached: BTreeMap::new(),
        }
    }

    /// Each kind at each adapter with one chance in two, for about a minute.
    pub(crate) fn drawn(seed: u64) -> Self {
        let mut faults = Self::none(seed);
        for adapter in ADAPTERS {
            for kind in KINDS {
                if impossible(adapter, kind).is_none() && faults.chance.happens(500) {
                    faults.rates.insert((adapter, kind), rate(adapter, kind));
                }
            }
        }
        faults.from = faults.chance.between(0, 40_000);
        faults.until = faults.from + faults.chance.between(40_000, 80_000);
        faults
    }

    /// From now on until then this alone: the first await of its kind, and then often.
    pub(crate) fn only(&mut self, adapter: Adapter, kind: Kind, from: u64, until: u64) {
        self.rates = BTreeMap::from([((adapter, kind), often(adapter, kind))]);
        self.from = from;
        self.until = until;
        self.sure = true;
    }

    /// When the last fault may happen.
    pub(crate) fn heals_at(&self) -> u64 {
        self.until
    }

    /// What happens at this await, if anything.
    pub(crate) fn strike(&mut self, now: u64, adapter: Adapter) -> Option<Kind> {
        if now < self.from || now >= self.until {
            return None;
        }
        for kind in KINDS {
            let Some(rate) = self.rates.get(&(adapter, kind)).copied() else { continue };
            if self.chance.happens(rate) || self.sure {
                self.sure = false;
                *self.reached.entry((adapter, kind)).or_default() += 1;
                return Some(kind);
            }
        }
        None
    }

    /// Which process of so many is killed, or told to end, at this moment; seldom any.
    pub(crate) fn ends(&mut self, now: u64, many: usize) -> Option<(usize, bool)> {
        if self.rates.len() < 2 || now < self.from || now >= self.until || !self.chance.happens(4) {
            return None;
        }
        let which = usize::try_from(self.chance.below(many as u64)).unwrap_or(0);
        Some((which, self.chance.happens(500)))
    }

    /// How long something takes that takes long: mostly longer than whoever waits is willing to, now and then longer than
    /// anybody is.
    pub(crate) fn stall(&mut self) -> u64 {
        if self.chance.happens(100) { self.chance.between(20_000, 60_000) } else { self.chance.between(300, 9_000) }
    }

    /// How long something takes.
    pub(crate) fn delay(&mut self, from: u64, to: u64) -> u64 {
        self.chance.between(from, to)
    }
}
