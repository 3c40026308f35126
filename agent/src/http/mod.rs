//! Stub.
use crate::kubernetes::call::Call;
use crate::pilot::decisions::Entry;
use crate::pilot::state::{DecisionsDocument, StateDocument};
/// x
#[derive(Clone)]
pub struct Board;
/// x
pub struct Health { /// x
 pub alive: Result<(), String>, /// x
 pub started: bool, /// x
 pub ready: Vec<(String, Result<(), String>)> }
impl Board { /// x
 pub fn new() -> Self { Self } /// x
 pub fn count_call(&self, _c: &Call, _ok: bool) {} /// x
 pub fn count_decision(&self, _e: &Entry) {} /// x
 pub fn set(&self, _s: StateDocument, _d: DecisionsDocument, _h: Health) {} }
/// x
pub struct Handle(std::net::SocketAddr);
impl Handle { /// x
 pub fn address(&self) -> std::net::SocketAddr { self.0 } }
/// x
pub async fn serve(l: std::net::SocketAddr, _b: Board) -> Result<Handle, std::io::Error> { Ok(Handle(l)) }
