//! A client: numbered rows, written and read at quorum through any member.

use super::message::{ClientAsk, ClientReply, Reply, Request};
use agent::driver::model::wire::{read_frame, write_frame};
use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Rows are listed in so many parts, so that no answer is too long.
const PARTS: u64 = 64;

/// Numbered rows below one prefix.
pub struct Table {
    prefix: String,
    payload: String,
    within: Duration,
    contacts: Vec<SocketAddr>,
    turn: AtomicUsize,
    links: Mutex<Vec<(SocketAddr, TcpStream)>>,
}

impl Table {
    /// Rows of `row_bytes` under the name `keyspace`, through any of `contacts`; a request may take `within`.
    ///
    /// # Errors
    /// When no contact takes a connection.
    pub async fn connect(
        contacts: &[SocketAddr],
        keyspace: &str,
        row_bytes: usize,
        within: Duration,
    ) -> Result<Self, String> {
        let table = Self {
            prefix: format!("{keyspace}/"),
            payload: "x".repeat(row_bytes),
            within,
            contacts: contacts.to_vec(),
            turn: AtomicUsize::new(0),
            links: Mutex::new(Vec::new()),
        };
        let mut last = "no address is known".to_owned();
        for contact in contacts {
            match timeout(within, TcpStream::connect(*contact)).await {
                Ok(Ok(stream)) => {
                    table.keep(*contact, stream);
                    return Ok(table);
                }
                Ok(Err(error)) => last = format!("{contact}: {error}"),
                Err(_) => last = format!("{contact} did not answer in time"),
            }
        }
        Err(last)
    }

    /// Writes one row; returns when a quorum has it. Writing the same again changes nothing.
    ///
    /// # Errors
    /// When no member acknowledged it in time: it may be there or not.
    pub async fn write(&self, number: u64) -> Result<(), String> {
        let key = format!("{}{number:020}", self.prefix);
        let reply = self.ask(&ClientAsk::Write { key, value: self.payload.clone() }).await?;
        if let ClientReply::Done = reply { Ok(()) } else { Err(unexpected(reply)) }
    }

    /// Whether a row is there, as a quorum has it.
    ///
    /// # Errors
    /// When no member could read it in time.
    pub async fn read(&self, number: u64) -> Result<bool, String> {
        let key = format!("{}{number:020}", self.prefix);
        let reply = self.ask(&ClientAsk::Read { key }).await?;
        if let ClientReply::Value(value) = reply {
            Ok(value.is_some_and(|value| value == self.payload))
        } else {
            Err(unexpected(reply))
        }
    }

    /// The numbers of all rows, as a quorum of each has them.
    ///
    /// # Errors
    /// When some part of the rows could not be listed in time.
    pub async fn read_all(&self) -> Result<BTreeSet<u64>, String> {
        let mut all = BTreeSet::new();
        for part in 0..PARTS {
            let ask = ClientAsk::List { prefix: self.prefix.clone(), part, parts: PARTS };
            let reply = self.ask(&ask).await?;
            let ClientReply::Keys(keys) = reply else { return Err(unexpected(reply)) };
            for key in keys {
                let number = key.strip_prefix(&self.prefix).and_then(|digits| digits.parse().ok());
                all.insert(number.ok_or_else(|| format!("`{key}` is no numbered row: use another keyspace"))?);
            }
        }
        Ok(all)
    }

    /// Asks the contacts in turn, until one does it or the time is over.
    async fn ask(&self, ask: &ClientAsk) -> Result<ClientReply, String> {
        let mut last = "no address is known".to_owned();
        let tries = async {
            for _ in 0..self.contacts.len() {
                let turn = self.turn.fetch_add(1, Ordering::Relaxed);
                let Some(contact) = turn.checked_rem(self.contacts.len()).map(|turn| self.contacts[turn]) else {
                    continue;
                };
                match timeout(self.within / 2, self.talk(contact, ask)).await {
                    Ok(Ok(ClientReply::Failed(why))) => last = format!("{contact}: {why}"),
                    Ok(Ok(reply)) => return Some(reply),
                    Ok(Err(error)) => last = format!("{contact}: {error}"),
                    Err(_) => last = format!("{contact} did not answer in time"),
                }
            }
            None
        };
        timeout(self.within, tries).await.ok().flatten().ok_or(last)
    }

    async fn talk(&self, contact: SocketAddr, ask: &ClientAsk) -> io::Result<ClientReply> {
        let request = Request::Client(ask.clone());
        if let Some(mut stream) = self.kept(contact)
            && let Ok(reply) = exchange(&mut stream, &request).await
        {
            self.keep(contact, stream);
            return Ok(reply);
        }
        let mut stream = TcpStream::connect(contact).await?;
        stream.set_nodelay(true)?;
        let reply = exchange(&mut stream, &request).await?;
        self.keep(contact, stream);
        Ok(reply)
    }

    fn kept(&self, contact: SocketAddr) -> Option<TcpStream> {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        let found = links.iter().position(|(at, _)| *at == contact)?;
        Some(links.swap_remove(found).1)
    }

    fn keep(&self, contact: SocketAddr, stream: TcpStream) {
        self.links.lock().unwrap_or_else(PoisonError::into_inner).push((contact, stream));
    }
}

async fn exchange(stream: &mut TcpStream, request: &Request) -> io::Result<ClientReply> {
    write_frame(stream, request).await?;
    match read_frame(stream).await? {
        Some(Reply::Client(reply)) => Ok(reply),
        Some(Reply::Tool(_) | Reply::Peer(_)) => Err(ErrorKind::InvalidData.into()),
        None => Err(ErrorKind::UnexpectedEof.into()),
    }
}

fn unexpected(reply: ClientReply) -> String {
    match reply {
        ClientReply::Failed(why) => why,
        ClientReply::Done | ClientReply::Value(_) | ClientReply::Keys(_) => "answered another question".to_owned(),
    }
}
