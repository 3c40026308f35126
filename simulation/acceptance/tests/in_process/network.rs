//! A network in memory: datagrams and streams that take their time, and more than that where a fault is drawn.

use super::faults::{Adapter, Kind};
use super::world::{Life, World, lock};
use agent::machine::{ByteStream, Datagrams, Listener, Network};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, ReadHalf, WriteHalf};
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Sleep, sleep};

/// Datagrams that wait in a socket.
const SOCKET: usize = 512;
/// Bytes that wait in a stream.
const PIPE: usize = 64 * 1024;

type Datagram = (Vec<u8>, SocketAddr);

/// Who listens where, in which life.
#[derive(Default)]
pub(crate) struct Net {
    sockets: BTreeMap<SocketAddr, (u64, mpsc::Sender<Datagram>)>,
    listeners: BTreeMap<SocketAddr, (u64, mpsc::Sender<(Stream, SocketAddr)>)>,
    /// Addresses of pods that are there.
    pub(crate) hosts: BTreeMap<IpAddr, u64>,
}

impl Net {
    /// The process is no more, and so are its ports.
    pub(crate) fn forget(&mut self, life: u64) {
        self.sockets.retain(|_, (owner, _)| *owner != life);
        self.listeners.retain(|_, (owner, _)| *owner != life);
    }
}

/// The network as one process has it.
#[derive(Clone)]
pub(crate) struct Cable {
    pub(crate) world: Arc<World>,
    pub(crate) life: Arc<Life>,
}

fn lost(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, what)
}

impl Network for Cable {
    type Datagrams = Socket;
    type Listener = Door;
    type Stream = Stream;

    async fn datagrams(&self, listen: SocketAddr, _receive_buffer: usize) -> io::Result<Socket> {
        let (to, inbox) = mpsc::channel(SOCKET);
        self.world.net().sockets.insert(listen, (self.life.number, to));
        Ok(Socket { cable: self.clone(), listen, inbox: Mutex::new(inbox) })
    }

    async fn listen(&self, listen: SocketAddr) -> io::Result<Door> {
        let (to, inbox) = mpsc::channel(SOCKET);
        self.world.net().listeners.insert(listen, (self.life.number, to));
        Ok(Door { cable: self.clone(), listen, inbox: Mutex::new(inbox) })
    }

    async fn connect(&self, to: SocketAddr) -> io::Result<Stream> {
        let fate = self.world.strike(Adapter::Connect, &self.life);
        match fate {
            Some(Kind::Stall) => sleep(self.world.stall()).await,
            // Never "refused": that is said by a host on which nobody listens, and by nobody else.
            Some(Kind::Error) => return Err(io::Error::new(io::ErrorKind::HostUnreachable, "no route")),
            Some(Kind::LostReply | Kind::Cut | Kind::End) | None => sleep(self.world.delay(1, 4)).await,
        }
        let door = {
            let net = self.world.net();
            if !net.hosts.contains_key(&to.ip()) {
                None
            } else {
                Some(net.listeners.get(&to).map(|(_, door)| door.clone()))
            }
        };
        let Some(door) = door else {
            sleep(Duration::from_secs(3)).await;
            return Err(io::Error::new(io::ErrorKind::HostUnreachable, "no such host"));
        };
        let refused = || io::Error::new(io::ErrorKind::ConnectionRefused, "nobody listens");
        let door = door.ok_or_else(refused)?;
        let (own, other) = pair(&self.world, Some((Adapter::StreamRead, Adapter::StreamWrite)), &self.life);
        let from = SocketAddr::new(self.life.address, 40_000);
        door.try_send((other, from)).map_err(|_| refused())?;
        match fate {
            Some(Kind::LostReply) => Err(lost("it stood, and was lost")),
            Some(Kind::Stall | Kind::Error | Kind::Cut | Kind::End) | None => Ok(own),
        }
    }
}

/// A socket for datagrams.
pub(crate) struct Socket {
    cable: Cable,
    listen: SocketAddr,
    inbox: Mutex<mpsc::Receiver<Datagram>>,
}

impl Datagrams for Socket {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.listen)
    }

    async fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let mut inbox = self.inbox.lock().await;
        loop {
            let Some((bytes, from)) = inbox.recv().await else {
                // The process is no more.
                std::future::pending::<()>().await;
                return Err(lost("the socket is closed"));
            };
            match self.cable.world.strike(Adapter::GossipReceive, &self.cable.life) {
                Some(Kind::Stall) => sleep(self.cable.world.stall()).await,
                Some(Kind::Error) => return Err(lost("the socket has something against it")),
                Some(Kind::LostReply) => continue,
                Some(Kind::Cut | Kind::End) | None => {}
            }
            let length = bytes.len().min(buffer.len());
            buffer[..length].copy_from_slice(&bytes[..length]);
            return Ok((length, from));
        }
    }

    fn try_send_to(&self, datagram: &[u8], to: SocketAddr) -> io::Result<usize> {
        let Cable { world, life } = &self.cable;
        if life.is_over() {
            return Err(lost("the process is no more"));
        }
        let wait = match world.strike(Adapter::GossipSend, life) {
            Some(Kind::Error) => return Err(io::Error::new(io::ErrorKind::WouldBlock, "the buffer is full")),
            Some(Kind::LostReply) => return Ok(datagram.len()),
            Some(Kind::Stall) => world.stall(),
            Some(Kind::Cut | Kind::End) | None => world.delay(1, 15),
        };
        world.tell(format_args!("{}#{} gossips {} bytes to {to}", life.pod, life.number, datagram.len()));
        let (bytes, from, world) = (datagram.to_vec(), self.listen, world.clone());
        tokio::spawn(async move {
            sleep(wait).await;
            let socket = world.net().sockets.get(&to).map(|(_, socket)| socket.clone());
            // Lost where nobody listens, or where too many wait.
            let _ = socket.map(|socket| socket.try_send((bytes, from)));
        });
        Ok(datagram.len())
    }
}

/// Takes connections in.
pub(crate) struct Door {
    cable: Cable,
    listen: SocketAddr,
    inbox: Mutex<mpsc::Receiver<(Stream, SocketAddr)>>,
}

impl Listener for Door {
    type Stream = Stream;

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.listen)
    }

    async fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        let mut inbox = self.inbox.lock().await;
        let Some((mut stream, from)) = inbox.recv().await else {
            std::future::pending::<()>().await;
            return Err(lost("the port is closed"));
        };
        let Cable { world, life } = &self.cable;
        match world.strike(Adapter::Accept, life) {
            Some(Kind::Stall) => sleep(world.stall()).await,
            Some(Kind::Error | Kind::LostReply) => return Err(lost("it died in the queue")),
            Some(Kind::Cut | Kind::End) | None => {}
        }
        stream.owner = Some(life.clone());
        Ok((stream, from))
    }
}

/// One end of a connection.
pub(crate) struct Stream {
    inner: DuplexStream,
    world: Arc<World>,
    owner: Option<Arc<Life>>,
    /// Where faults are drawn for reading and writing.
    adapters: Option<(Adapter, Adapter)>,
    reading: Turn,
    writing: Turn,
    broken: bool,
}

/// How far one await has come.
enum Turn {
    /// It has not been asked what befalls it.
    Fresh,
    /// It is late.
    Late(Pin<Box<Sleep>>),
    /// It goes on as usual.
    Plain,
    /// It is done and says that it failed.
    Lies,
    /// Half of it is done, then the connection is gone.
    Half,
    /// The connection is gone.
    Fails,
}

/// Both ends of a connection; the second one gets its owner where it is taken in.
pub(crate) fn pair(world: &Arc<World>, adapters: Option<(Adapter, Adapter)>, owner: &Arc<Life>) -> (Stream, Stream) {
    let (a, a_wire) = tokio::io::duplex(PIPE);
    let (b, b_wire) = tokio::io::duplex(PIPE);
    let (a_read, a_write) = tokio::io::split(a_wire);
    let (b_read, b_write) = tokio::io::split(b_wire);
    tokio::spawn(pump(world.clone(), a_read, b_write));
    tokio::spawn(pump(world.clone(), b_read, a_write));
    let end = |inner, owner| Stream {
        inner,
        world: world.clone(),
        owner,
        adapters,
        reading: Turn::Fresh,
        writing: Turn::Fresh,
        broken: false,
    };
    (end(a, Some(owner.clone())), end(b, None))
}

/// Carries bytes one way, each a little later.
async fn pump(world: Arc<World>, mut from: ReadHalf<DuplexStream>, mut to: WriteHalf<DuplexStream>) {
    let mut buffer = vec![0; 4096];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        sleep(world.delay(1, 3)).await;
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
    // The other end may be gone as well.
    let _ = to.shutdown().await;
}

impl Stream {
    /// What befalls the await that begins now.
    fn turn(&self, reads: bool) -> Turn {
        let (Some((read, write)), Some(owner)) = (self.adapters, &self.owner) else { return Turn::Plain };
        match self.world.strike(if reads { read } else { write }, owner) {
            None => Turn::Plain,
            Some(Kind::Stall) => Turn::Late(Box::pin(sleep(self.world.stall()))),
            Some(Kind::Error | Kind::End) => Turn::Fails,
            Some(Kind::LostReply) => Turn::Lies,
            Some(Kind::Cut) => Turn::Half,
        }
    }
}

fn late(turn: &mut Turn, context: &mut Context<'_>) -> Poll<()> {
    if let Turn::Late(until) = turn {
        std::task::ready!(until.as_mut().poll(context));
        *turn = Turn::Plain;
    }
    Poll::Ready(())
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.broken {
            return Poll::Ready(Err(lost("the connection was reset")));
        }
        if matches!(this.reading, Turn::Fresh) {
            this.reading = this.turn(true);
        }
        std::task::ready!(late(&mut this.reading, context));
        if matches!(this.reading, Turn::Half | Turn::Lies | Turn::Fails) {
            this.broken = true;
            return Poll::Ready(Err(lost("the connection was reset")));
        }
        let before = buffer.filled().len();
        std::task::ready!(Pin::new(&mut this.inner).poll_read(context, buffer))?;
        this.reading = Turn::Fresh;
        if let (Some(owner), true) = (&this.owner, this.adapters.is_some()) {
            let length = buffer.filled().len() - before;
            this.world.tell(format_args!("{}#{} reads {length} bytes", owner.pod, owner.number));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.broken {
            return Poll::Ready(Err(lost("the connection was reset")));
        }
        if matches!(this.writing, Turn::Fresh) {
            this.writing = this.turn(false);
        }
        std::task::ready!(late(&mut this.writing, context));
        let part = match this.writing {
            Turn::Fails => {
                this.broken = true;
                return Poll::Ready(Err(lost("the connection was reset")));
            }
            Turn::Half => &bytes[..bytes.len() / 2],
            Turn::Fresh | Turn::Late(_) | Turn::Plain | Turn::Lies => bytes,
        };
        let written = std::task::ready!(Pin::new(&mut this.inner).poll_write(context, part))?;
        if let Turn::Half | Turn::Lies = std::mem::replace(&mut this.writing, Turn::Fresh) {
            this.broken = true;
            return Poll::Ready(Err(lost("the connection was reset")));
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

impl ByteStream for Stream {
    type Read = ReadEnd;
    type Write = WriteEnd;

    fn set_nodelay(&self) -> io::Result<()> {
        Ok(())
    }

    fn into_split(self) -> (Self::Read, Self::Write) {
        let both = Arc::new(std::sync::Mutex::new(self));
        (ReadEnd(both.clone()), WriteEnd(both))
    }
}

/// The reading end. As with a socket's, a panic here leaves the other end as it is.
pub(crate) struct ReadEnd(Arc<std::sync::Mutex<Stream>>);

/// The writing end. As a socket's, it closes its way when it is dropped.
pub(crate) struct WriteEnd(Arc<std::sync::Mutex<Stream>>);

impl AsyncRead for ReadEnd {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *lock(&self.0)).poll_read(context, buffer)
    }
}

impl AsyncWrite for WriteEnd {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *lock(&self.0)).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *lock(&self.0)).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *lock(&self.0)).poll_shutdown(context)
    }
}

impl Drop for WriteEnd {
    fn drop(&mut self) {
        // A pipe in memory closes at once.
        let _ = Pin::new(&mut *lock(&self.0)).poll_shutdown(&mut Context::from_waker(Waker::noop()));
    }
}
