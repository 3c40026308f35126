//! Datagrams and connections between pilots.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UdpSocket, UnixStream, tcp, unix};

/// A network. Cheap to clone.
pub trait Network: Clone + Send + Sync + 'static {
    /// A socket for datagrams.
    type Datagrams: Datagrams;
    /// Takes connections in.
    type Listener: Listener<Stream = Self::Stream>;
    /// A connection.
    type Stream: ByteStream;

    /// Takes a port for datagrams; port 0 takes a free one. The receive buffer is as large as was asked for, or as the
    /// system grants.
    fn datagrams(
        &self,
        listen: SocketAddr,
        receive_buffer: usize,
    ) -> impl Future<Output = io::Result<Self::Datagrams>> + Send;

    /// Takes a port for connections; port 0 takes a free one.
    fn listen(&self, listen: SocketAddr) -> impl Future<Output = io::Result<Self::Listener>> + Send;

    /// Connects.
    fn connect(&self, to: SocketAddr) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

/// A socket for datagrams.
pub trait Datagrams: Send + Sync + 'static {
    /// Where it listens.
    ///
    /// # Errors
    /// When the system does not say.
    fn local_addr(&self) -> io::Result<SocketAddr>;

    /// The next datagram and who sent it. Cancel-safe.
    fn recv_from(&self, buffer: &mut [u8]) -> impl Future<Output = io::Result<(usize, SocketAddr)>> + Send;

    /// Sends, or fails at once.
    ///
    /// # Errors
    /// When it was not sent.
    fn try_send_to(&self, datagram: &[u8], to: SocketAddr) -> io::Result<usize>;
}

/// Takes connections in.
pub trait Listener: Send + Sync + 'static {
    /// A connection.
    type Stream: ByteStream;

    /// Where it listens.
    ///
    /// # Errors
    /// When the system does not say.
    fn local_addr(&self) -> io::Result<SocketAddr>;

    /// The next connection and where it is from. Cancel-safe.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, SocketAddr)>> + Send;
}

/// A connection: bytes both ways.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// Its reading end.
    type Read: AsyncRead + Send + Unpin + 'static;
    /// Its writing end; dropped, it closes that way.
    type Write: AsyncWrite + Send + Unpin + 'static;

    /// Sends small writes at once.
    ///
    /// # Errors
    /// When the connection is gone.
    fn set_nodelay(&self) -> io::Result<()>;

    /// Both ends, each for a task of its own.
    fn into_split(self) -> (Self::Read, Self::Write);
}

/// The sockets of the system.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sockets;

impl Network for Sockets {
    type Datagrams = UdpSocket;
    type Listener = TcpListener;
    type Stream = TcpStream;

    async fn datagrams(&self, listen: SocketAddr, receive_buffer: usize) -> io::Result<UdpSocket> {
        let socket = UdpSocket::bind(listen).await?;
        // The system may grant less; then a burst loses more, and gossip repeats it.
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, receive_buffer);
        Ok(socket)
    }

    async fn listen(&self, listen: SocketAddr) -> io::Result<TcpListener> {
        TcpListener::bind(listen).await
    }

    async fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        TcpStream::connect(to).await
    }
}

impl Datagrams for UdpSocket {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }

    async fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.recv_from(buffer).await
    }

    fn try_send_to(&self, datagram: &[u8], to: SocketAddr) -> io::Result<usize> {
        self.try_send_to(datagram, to)
    }
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }

    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.accept().await
    }
}

impl ByteStream for TcpStream {
    type Read = tcp::OwnedReadHalf;
    type Write = tcp::OwnedWriteHalf;

    fn set_nodelay(&self) -> io::Result<()> {
        self.set_nodelay(true)
    }

    fn into_split(self) -> (Self::Read, Self::Write) {
        self.into_split()
    }
}

impl ByteStream for UnixStream {
    type Read = unix::OwnedReadHalf;
    type Write = unix::OwnedWriteHalf;

    fn set_nodelay(&self) -> io::Result<()> {
        Ok(())
    }

    fn into_split(self) -> (Self::Read, Self::Write) {
        self.into_split()
    }
}
