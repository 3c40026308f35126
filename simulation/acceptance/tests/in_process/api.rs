//! The model Kubernetes behind the real client: a service in place of sockets. What reached the server is done, whether
//! whoever asked waits for the answer or not.

use super::faults::{Adapter, Kind};
use super::world::{Life, World};
use agent::kubernetes::translate::HttpCall;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Bytes, Frame};
use kube::client::Body;
use serde_json::{Value, json};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::time::sleep;

/// The API as one process reaches it.
pub(crate) struct Service {
    pub(crate) world: Arc<World>,
    pub(crate) life: Arc<Life>,
}

/// An answer's body, whole or broken off.
pub(crate) struct Answer {
    rest: Option<Bytes>,
    breaks: bool,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match self.rest.take() {
            Some(bytes) if !bytes.is_empty() => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            Some(_) | None if self.breaks => {
                self.breaks = false;
                Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection broke off"))))
            }
            Some(_) | None => Poll::Ready(None),
        }
    }
}

type Answered = Result<Response<Answer>, io::Error>;

impl tower_service::Service<Request<Body>> for Service {
    type Response = Response<Answer>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = Answered> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(exchange(self.world.clone(), self.life.clone(), request))
    }
}

fn lost(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, why)
}

async fn exchange(world: Arc<World>, life: Arc<Life>, request: Request<Body>) -> Answered {
    let (head, body) = request.into_parts();
    let bytes = body.collect().await.map_err(|error| lost(&error.to_string()))?.to_bytes();
    let body: Option<Value> = match bytes.is_empty() {
        true => None,
        false => Some(serde_json::from_slice(&bytes).map_err(|error| lost(&error.to_string()))?),
    };
    let content_type = head.headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let call = HttpCall {
        method: match head.method.as_str() {
            "POST" => "POST",
            "PUT" => "PUT",
            "PATCH" => "PATCH",
            _ => "GET",
        },
        path: head.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        content_type: match content_type {
            "application/merge-patch+json" => "application/merge-patch+json",
            _ => "application/json",
        },
        body,
    };
    let fate = world.strike(Adapter::Api, &life);
    let there = match fate {
        // The server is slow before it is done, or after.
        Some(Kind::Stall) => world.stall(),
        Some(Kind::Error | Kind::LostReply | Kind::Cut | Kind::End) | None => world.delay(1, 12),
    };
    if fate == Some(Kind::Error) {
        sleep(there).await;
        return match world.delay(0, 2).as_millis() {
            0 => Err(lost("connection refused")),
            1 => Ok(answer(503, &json!({"message": "the server is overloaded"}), false)),
            _ => Ok(answer(429, &json!({"message": "too many requests"}), false)),
        };
    }
    // A task of its own: the server goes on whether anybody waits or not.
    let server = {
        let world = world.clone();
        tokio::spawn(async move {
            sleep(there).await;
            let (status, value) = world.kube().handle(world.now(), &life, &call);
            let said = call.body.as_ref().map(ToString::to_string).unwrap_or_default();
            world.tell(format_args!("{}#{} {} {} {said} -> {status}", life.pod, life.number, call.method, call.path));
            (status, value)
        })
    };
    let (status, value) = server.await.map_err(|error| lost(&error.to_string()))?;
    let back = world.delay(1, 12);
    sleep(back).await;
    match fate {
        Some(Kind::LostReply) => Err(lost("the connection was reset")),
        Some(Kind::Cut) => Ok(answer(status, &value, true)),
        Some(Kind::Stall | Kind::Error | Kind::End) | None => Ok(answer(status, &value, false)),
    }
}

fn answer(status: u16, value: &Value, breaks: bool) -> Response<Answer> {
    let mut bytes = Bytes::from(value.to_string());
    if breaks {
        bytes.truncate(bytes.len() / 2);
    }
    let mut response = Response::new(Answer { rest: Some(bytes), breaks });
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    response
}
