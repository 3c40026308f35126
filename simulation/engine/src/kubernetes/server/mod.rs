//! The model over HTTP/1.1 on loopback: real clients, real kubectl.
//!
//! This is an adapter: it reads the clock, carries bytes, and applies the faults the model holds as data.
//! Who asks is known by a bearer token that simply names the user, or by a prefix `/as/USER` of the path: kubectl
//! sends no token over plain HTTP, but keeps the path of its server. This server is for one machine and one test.

mod kubeconfig;
mod stream;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http_body_util::{BodyExt, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, JoinSet};

use super::api::ModelApi;
use super::error::{ApiError, Reason};
use super::faults::{Fate, Matcher, RuleId, Verdict};
use super::request::{Body, Method, Request, Response};
use super::time::ModelTime;

use stream::{StreamBody, WatchStream};

/// The largest request body: etcd takes 1.5 MiB, real servers 3 MiB.
const BODY_LIMIT: usize = 3 * 1024 * 1024;

/// How often a held request looks whether it was released by other means than its handle.
const RELEASE_POLL: Duration = Duration::from_millis(50);

/// Paths may begin with this prefix and the user's name.
const PATH_PREFIX: &str = "/as/";

/// Tokens are this prefix and the user's name.
const TOKEN_PREFIX: &str = "model-";

/// The model, shared by the server and whoever drives controllers and kubelets.
pub type SharedApi = Arc<Mutex<ModelApi>>;

/// Why the server could not begin.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is not of this machine alone.
    #[error("{0} is not a loopback address, and the model lets everybody do everything: listen on 127.0.0.1")]
    NotLoopback(SocketAddr),
    /// The port could not be had.
    #[error("could not listen on {address}: {source}; choose another port, or 0 for any")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Real time, as the server stamps it on objects.
#[must_use]
pub fn real_now() -> ModelTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    ModelTime(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Serves the model until the handle is dropped.
///
/// # Errors
/// Where the address is not on loopback, or taken.
pub async fn serve(api: SharedApi, listen: SocketAddr) -> Result<ServerHandle, ServeError> {
    if !listen.ip().is_loopback() {
        return Err(ServeError::NotLoopback(listen));
    }
    let (revision, _) = watch::channel(0);
    let teller = revision.clone();
    {
        let mut api = lock(&api);
        api.show_managed_fields();
        api.on_change(Box::new(move |newest| {
            teller.send_replace(newest);
        }));
    }
    let shared = Arc::new(Shared { api, revision, released: Notify::new() });
    let listener = bind(listen).await?;
    let address = listener.local_addr().unwrap_or(listen);
    let accepting = Mutex::new(Some(tokio::spawn(accept(Arc::clone(&shared), listener))));
    Ok(ServerHandle { address, shared, accepting })
}

async fn bind(listen: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(listen).await.map_err(|source| ServeError::Listen { address: listen, source })
}

/// What all connections share.
struct Shared {
    api: SharedApi,
    revision: watch::Sender<u64>,
    released: Notify,
}

/// A running server. Dropping it ends it and all its connections; the objects live on in the model.
pub struct ServerHandle {
    /// Where it listens (or will again, while stopped).
    pub address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Mutex<Option<JoinHandle<()>>>,
}

impl std::fmt::Debug for ServerHandle {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ServerHandle").field("address", &self.address).finish_non_exhaustive()
    }
}

impl ServerHandle {
    /// Closes the port and every connection. Objects are kept; controllers and kubelets of the model
    /// find the server away as well.
    pub async fn stop(&self) {
        self.api().faults_mut().set_outage(true);
        let accepting = lock(&self.accepting).take();
        if let Some(accepting) = accepting {
            accepting.abort();
            // Aborted is what it should be; only then is the port free.
            let _aborted = accepting.await;
        }
    }

    /// Listens again on the same port; does nothing where it runs.
    ///
    /// # Errors
    /// Where somebody took the port meanwhile.
    pub async fn start(&self) -> Result<(), ServeError> {
        if self.is_running() {
            return Ok(());
        }
        let listener = bind(self.address).await?;
        self.api().faults_mut().set_outage(false);
        let task = tokio::spawn(accept(Arc::clone(&self.shared), listener));
        if let Some(other) = lock(&self.accepting).replace(task) {
            other.abort();
        }
        Ok(())
    }

    /// Whether the port is open.
    #[must_use]
    pub fn is_running(&self) -> bool {
        lock(&self.accepting).is_some()
    }

    /// The model, to read it, to drive controllers, or to change faults.
    pub fn api(&self) -> MutexGuard<'_, ModelApi> {
        lock(&self.shared.api)
    }

    /// A kubeconfig (YAML) with which a client is this user, in the namespace `default`.
    #[must_use]
    pub fn kubeconfig_for(&self, user: &str) -> String {
        kubeconfig::kubeconfig(&self.url_for(user), user, &token_of(user))
    }

    fn url_for(&self, user: &str) -> String {
        format!("http://{}{PATH_PREFIX}{user}", self.address)
    }

    /// Where and as whom, for clients configured without a file: `(url, bearer token)`.
    #[must_use]
    pub fn credentials_for(&self, user: &str) -> (String, String) {
        (self.url_for(user), token_of(user))
    }

    /// Holds the next matching request inside the API, unexecuted, until released.
    #[must_use]
    pub fn hold(&self, matcher: Matcher) -> HoldHandle {
        let rule = self.api().faults_mut().add(matcher, Fate::Hold, Some(1));
        HoldHandle { rule, shared: Arc::clone(&self.shared) }
    }

    /// Cuts a user off: requests are neither executed nor answered, watches fall silent.
    pub fn cut(&self, user: &str) {
        self.api().faults_mut().cut(user);
    }

    /// Reconnects a user.
    pub fn heal(&self, user: &str) {
        self.api().faults_mut().heal(user);
        // Silent watches have something to tell again.
        self.shared.revision.send_modify(|_| {});
    }
}

impl Drop for ServerHandle {
    fn drop(&mut self) {
        if let Some(accepting) = lock(&self.accepting).take() {
            accepting.abort();
        }
    }
}

/// A held request. Dropping the handle releases it too.
pub struct HoldHandle {
    rule: RuleId,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for HoldHandle {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("HoldHandle").field("rule", &self.rule).finish_non_exhaustive()
    }
}

impl HoldHandle {
    /// Whether a request has been caught.
    #[must_use]
    pub fn has_caught(&self) -> bool {
        lock(&self.shared.api).faults().caught(self.rule) > 0
    }

    /// Waits until a request has been caught.
    pub async fn caught(&self) {
        while !self.has_caught() {
            tokio::time::sleep(RELEASE_POLL).await;
        }
    }

    /// Lets the request be executed now. Its client may be long gone.
    pub fn release(self) {
        drop(self);
    }
}

impl Drop for HoldHandle {
    fn drop(&mut self) {
        lock(&self.shared.api).faults_mut().release(self.rule);
        self.shared.released.notify_waiters();
    }
}

/// A panic while the lock was held is reported where it happened; the model's state is whole between calls.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn token_of(user: &str) -> String {
    format!("{TOKEN_PREFIX}{user}")
}

async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    // Dropped with this task: stopping the server closes every connection.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => {
                    let shared = Arc::clone(&shared);
                    connections.spawn(async move {
                        let service = service_fn(move |request| answer(Arc::clone(&shared), request));
                        let served = hyper::server::conn::http1::Builder::new()
                            .serve_connection(TokioIo::new(socket), service)
                            .await;
                        if let Err(error) = served {
                            tracing::debug!(%error, "a connection ended early");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "could not accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_ended) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

/// Why a connection is closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the API server is away")]
struct Away;

async fn answer(shared: Arc<Shared>, incoming: hyper::Request<Incoming>) -> Result<http::Response<StreamBody>, Away> {
    let request = match understood(incoming).await {
        Ok(request) => request,
        Err(error) => return Ok(refusal(&error)),
    };
    let verdict = lock(&shared.api).faults_mut().verdict(&request);
    match verdict {
        Verdict::Answer => Ok(execute(&shared, request)),
        Verdict::Refuse => Err(Away),
        Verdict::TimeOut | Verdict::Fate(Fate::LoseRequest, _) => never().await,
        Verdict::Fate(Fate::LoseReply, _) => {
            drop(execute(&shared, request));
            never().await
        }
        Verdict::Fate(Fate::Answer(status), _) => {
            let error = ApiError::new(Reason::InternalError, "a fault was injected here");
            let mut body = error.to_status();
            body["code"] = Value::from(status);
            Ok(respond(&Response { status, body: Body::Made(body) }))
        }
        Verdict::Fate(Fate::Hold, rule) => {
            // In a task of its own: a client that gives up must not take its request back.
            let held = tokio::spawn(async move {
                loop {
                    let released = shared.released.notified();
                    if !lock(&shared.api).faults().is_active(rule) {
                        break;
                    }
                    // Released by the handle, or by somebody who changed the faults directly.
                    let _either = tokio::time::timeout(RELEASE_POLL, released).await;
                }
                execute(&shared, request)
            });
            held.await.map_err(|_| Away)
        }
    }
}

/// The client waits until it gives up.
async fn never<T>() -> T {
    std::future::pending().await
}

fn execute(shared: &Arc<Shared>, request: Request) -> http::Response<StreamBody> {
    let now = real_now();
    let kept = request.clone();
    let response = lock(&shared.api).handle(now, request);
    match response.body {
        Body::Watch(cursor) => {
            let stream = WatchStream {
                api: Arc::clone(&shared.api),
                revision: shared.revision.subscribe(),
                cursor: *cursor,
                request: kept,
            };
            http_response(response.status, "application/json", stream.begin())
        }
        Body::Object(_) | Body::List { .. } | Body::Made(_) => respond(&response),
    }
}

async fn understood(incoming: hyper::Request<Incoming>) -> Result<Request, ApiError> {
    let (head, body) = incoming.into_parts();
    let header =
        |name: http::HeaderName| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("").to_owned();
    let (named, path) = split_user(head.uri.path());
    let user = match header(http::header::AUTHORIZATION).as_str() {
        "" => "system:anonymous".to_owned(),
        text => text
            .strip_prefix("Bearer ")
            .and_then(|token| token.strip_prefix(TOKEN_PREFIX))
            .map(str::to_owned)
            .ok_or_else(|| ApiError::new(Reason::Unauthorized, "Unauthorized"))?,
    };
    let user = named.map_or(user, str::to_owned);
    let path = path.to_owned();
    let method = Method::parse(head.method.as_str())
        .ok_or_else(|| ApiError::new(Reason::MethodNotAllowed, format!("unknown method {}", head.method)))?;
    let content_type = header(http::header::CONTENT_TYPE);
    let body = Limited::new(body, BODY_LIMIT)
        .collect()
        .await
        .map_err(|error| ApiError::bad_request(format!("the body could not be read: {error}")))?
        .to_bytes();
    Ok(Request {
        method,
        path,
        query: head.uri.query().unwrap_or("").to_owned(),
        accept: header(http::header::ACCEPT),
        agent: header(http::header::USER_AGENT).split('/').next().unwrap_or("").to_owned(),
        user,
        body: decoded(&content_type, &body)?,
        content_type,
    })
}

/// Takes `/as/USER` off a path.
fn split_user(path: &str) -> (Option<&str>, &str) {
    let Some(rest) = path.strip_prefix(PATH_PREFIX) else {
        return (None, path);
    };
    match rest.find('/') {
        Some(end) => (Some(&rest[..end]), &rest[end..]),
        None => (Some(rest), "/"),
    }
}

fn decoded(content_type: &str, body: &Bytes) -> Result<Value, ApiError> {
    if body.is_empty() {
        return Ok(Value::Null);
    }
    if content_type.contains("protobuf") || content_type.contains("cbor") {
        return Err(ApiError::new(
            Reason::UnsupportedMediaType,
            format!("{content_type} is not understood here: send application/json"),
        ));
    }
    match serde_json::from_slice(body) {
        Ok(value) => Ok(value),
        Err(error) if !content_type.contains("yaml") => {
            Err(ApiError::bad_request(format!("the body is not JSON: {error}")))
        }
        Err(_) => {
            let text = std::str::from_utf8(body).map_err(|error| ApiError::bad_request(error.to_string()))?;
            serde_saphyr::from_str(text)
                .map_err(|error| ApiError::bad_request(format!("the body is not YAML: {error}")))
        }
    }
}

fn refusal(error: &ApiError) -> http::Response<StreamBody> {
    respond(&Response { status: error.reason.code(), body: Body::Made(error.to_status()) })
}

fn respond(response: &Response) -> http::Response<StreamBody> {
    // Health checks answer with a bare word.
    if let Body::Made(Value::String(word)) = &response.body {
        return http_response(response.status, "text/plain", StreamBody::whole(word.clone().into()));
    }
    match serde_json::to_vec(&response.body) {
        Ok(bytes) => http_response(response.status, "application/json", StreamBody::whole(bytes.into())),
        Err(error) => http_response(500, "text/plain", StreamBody::whole(error.to_string().into())),
    }
}

fn http_response(status: u16, content_type: &'static str, body: StreamBody) -> http::Response<StreamBody> {
    let mut response = http::Response::new(body);
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    response
}

/// Streams never fail: they end.
type StreamError = Infallible;
