//! Channels: event streams with requests beside them, and WebSockets.
//!
//! A connection begins before anybody has said who it is, and its name goes out first. What is said by a request reaches the
//! connection that it names, whichever kind that is, and is answered there.

use std::rc::Rc;
use std::sync::Arc;

use actix::Actor;
use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use uuid::Uuid;

use super::{Plain, people, shown, tenant};
use crate::actors::sockets::Said;
use crate::actors::{Link, SessionActor, channels, documents};
use crate::domain::Content;
use crate::http::listener::Connection;
use crate::http::payload::{self, Expects};
use crate::http::visit::Visit;
use crate::http::{Edge, credentials, events, sse, ws};
use crate::wire::{Dialect, Refusal, collection_of};

/// The connection that a command is for.
#[derive(Deserialize)]
struct Named {
    #[serde(default)]
    sid: String,
}

/// What is to be said.
#[derive(Deserialize)]
struct Published {
    channel: String,
    #[serde(default, rename = "type")]
    kind: String,
    data: String,
}

pub fn mount(config: &mut web::ServiceConfig) {
    config
        .route("/sse/connect", web::get().to(connect))
        .route("/sse/msg", web::post().to(say))
        .route("/ws", web::get().to(open))
        .route("/publish", web::post().to(publish))
        .route("/publish-message", web::post().to(publish));
}

/// Streams what happens in the channels that are joined on it.
async fn connect(request: HttpRequest, edge: web::ThinData<Edge>) -> Result<HttpResponse, Plain> {
    let registry = edge.worker.registry();
    if registry.draining() {
        return Err(Refusal::shutting_down().into());
    }
    let tenant = tenant(&request, &edge)?;
    let connection = request.conn_data::<Connection>().ok_or_else(Refusal::unavailable)?;
    let guard = edge.door.admit(&request, None)?;
    let link = Rc::new(Link::events(Dialect::StaticBackendSse, Box::new(connection.kill.clone())));
    link.counts_as(guard);
    let (worker, gate, its_link) = (Rc::clone(&edge.worker), Arc::clone(&edge.gate), Rc::clone(&link));
    let come_back = events::last_event_id(&request)?.map(str::to_owned);
    SessionActor::create(move |_| {
        SessionActor::new(worker, its_link, gate, None).of_tenant(Some(tenant)).resuming(come_back)
    });
    Ok(sse::answer(&edge, connection, link))
}

/// Takes a command for the connection that it names. One that there is not hears nothing: as in the original the answer
/// says only that the request has come.
async fn say(request: HttpRequest, payload: web::Payload, edge: web::ThinData<Edge>) -> Result<HttpResponse, Plain> {
    let registry = edge.worker.registry();
    let tenant = tenant(&request, &edge)?;
    let by = match request.headers().contains_key(header::AUTHORIZATION) {
        true => credentials::presented(&request, &edge, None).await.ok().flatten(),
        false => None,
    };
    if by.as_ref().is_some_and(|by| by.tenant != tenant) {
        return Err(Refusal::token_invalid().into());
    }
    let limits = registry.limits();
    let bytes_max = usize::try_from(limits.frame_bytes_max).unwrap_or(usize::MAX);
    let payload = payload::read(&request, payload, Expects::Json, bytes_max, limits.request, || Ok(())).await?;
    let named: Named = serde_json::from_slice(&payload).map_err(Refusal::bad_request)?;
    let session = Uuid::try_parse(&named.sid).ok().and_then(|sid| registry.sockets().get(sid));
    if let Some(session) = session {
        let taken = tokio::time::timeout(limits.answer_timeout, session.send(Said { payload, by })).await;
        match taken {
            Ok(Ok(taken)) => taken?,
            // It has ended meanwhile.
            Ok(Err(_)) => {}
            Err(_) => return Err(Refusal::unavailable().into()),
        }
    }
    Ok(HttpResponse::Ok().content_type("application/json").body("true"))
}

/// Says something in a channel for who answers for the tenant. Its shipped clients call it by either name.
async fn publish(
    request: HttpRequest,
    payload: web::Payload,
    edge: web::ThinData<Edge>,
) -> Result<HttpResponse, Plain> {
    let (registry, limits) = (edge.worker.registry(), edge.worker.registry().limits());
    let visit = Visit::command(&request, &edge, people::somebody(&request, &edge).await?)?;
    if documents::root(registry, visit.by()).await?.is_none() {
        return Err(Plain::no_root());
    }
    let bytes_max = usize::try_from(limits.frame_bytes_max).unwrap_or(usize::MAX);
    let body = payload::read(&request, payload, Expects::Json, bytes_max, limits.request, || Ok(())).await?;
    let Published { channel, kind, data } =
        serde_json::from_slice(&body).map_err(|_| Plain::bad("invalid body".to_owned()))?;
    if !matches!(&*kind, "" | "chan_out") {
        return Err(Plain::bad(format!("{kind} is nothing that is said in a channel: chan_out is")));
    }
    if collection_of(&channel).is_some() {
        return Err(Plain::bad("you cannot write to database channel".to_owned()));
    }
    if data.len() > Content::BYTES_MAX {
        return Err(Plain::bad("the data is too long".to_owned()));
    }
    visit.is_good()?;
    let published = channels::publish(registry, visit.by(), &channel, &data);
    let published = tokio::time::timeout(limits.answer_timeout, published).await;
    published.map_err(|_| Refusal::unavailable())??;
    Ok(visit.end(HttpResponse::Ok().content_type("application/json").body("true")))
}

/// Opens a WebSocket. The shipped clients send no public key here: the token says the tenant.
async fn open(request: HttpRequest, payload: web::Payload, edge: web::ThinData<Edge>) -> Result<HttpResponse, Plain> {
    let tenant = shown(&request, &edge)?;
    Ok(ws::open_channels(&request, payload, &edge, tenant)?)
}
