//! Requests that are commands: each is read by the same shapes as a frame and carried out in the same way.

use std::time::Duration;

use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;

use super::body::{self, Expects};
use super::kill::KillSwitch;
use super::problem::Problem;
use super::reader::Reader;
use super::routes::Route;
use super::{Edge, address, credentials};
use crate::actors::asking;
use crate::wire::{Dialect, Kind, Refusal, Reply, decode_request};

/// How a client that sends again says that it does (draft-ietf-httpapi-idempotency-key-header, section 2).
pub const IDEMPOTENCY_KEY: &str = "Idempotency-Key";

/// How long a refusal has to be read while its request is still coming in. actix-http 3.20 would wait for the end of the
/// body before it closes.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Answers a request that is the command `kind`.
pub async fn answer(
    route: &'static Route,
    kind: Kind,
    request: HttpRequest,
    payload: web::Payload,
    edge: web::ThinData<Edge>,
) -> HttpResponse {
    match carry_out(route, kind, &request, payload, &edge).await {
        Ok(response) => response,
        Err(problem) => {
            if let Some(kill) = request.conn_data::<KillSwitch>().filter(|_| body::is_announced(&request)) {
                kill.end_within(LAST_WORDS);
            }
            problem.response()
        }
    }
}

async fn carry_out(
    route: &'static Route,
    kind: Kind,
    request: &HttpRequest,
    payload: web::Payload,
    edge: &Edge,
) -> Result<HttpResponse, Problem> {
    let registry = edge.worker.registry();
    let by = credentials::principal(request, edge).await?;
    let (bytes_max, body_time, time) = {
        let limits = registry.limits();
        (limits.body_bytes_max, limits.body_deadline, limits.answer_timeout)
    };
    if let Some(kill) = request.conn_data::<KillSwitch>() {
        kill.allow(body_time + time);
    }
    let mut members = address::members(route.path, &route.query_names(), request.uri().path(), request.query_string())
        .map_err(Problem::of)?;
    if takes_client_id(kind) {
        members.extend(idempotency_key(request)?.map(|key| ("client_id", key)));
    }
    let body = body::read(request, payload, route.expects(), bytes_max, body_time).await.map_err(Problem::of)?;
    if kind == Kind::Auth {
        return Ok(encoded(StatusCode::OK, &Reply::Authenticated { principal: by }));
    }
    let given: Vec<_> = members.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let ask = decode_request(kind, &given, &body).map_err(Problem::of)?;
    let reader = Reader::begin(&edge.worker, request, &by, &ask)?;
    let answer = asking::answer(&edge.worker, reader.link(), by, ask);
    let reply = tokio::time::timeout(time, answer).await.map_err(|_| Problem::of(Refusal::unavailable()))?;
    match &reply {
        Reply::Refused(refusal) => Err(Problem::of(refusal.clone())),
        Reply::Created { room, .. } => {
            let mut response = encoded(StatusCode::CREATED, &reply);
            let place = format!("/v1/rooms/{}", room.room);
            let place = header::HeaderValue::from_str(&place).expect("a uuid is plain text");
            response.headers_mut().insert(header::LOCATION, place);
            Ok(response)
        }
        Reply::Published { duplicate: false, .. } if kind == Kind::Post => Ok(encoded(StatusCode::CREATED, &reply)),
        Reply::Authenticated { .. }
        | Reply::Changed { .. }
        | Reply::Published { .. }
        | Reply::Following { .. }
        | Reply::Unfollowed { .. }
        | Reply::History { .. }
        | Reply::Rooms { .. }
        | Reply::Room { .. }
        | Reply::Members { .. } => Ok(encoded(StatusCode::OK, &reply)),
    }
}

fn encoded(status: StatusCode, reply: &Reply) -> HttpResponse {
    json(status, Dialect::NativeJson.encode_body(reply))
}

/// An answer in JSON.
pub fn json(status: StatusCode, body: Bytes) -> HttpResponse {
    HttpResponse::build(status).content_type("application/json").body(body)
}

/// Whether sending a command again with the same client id is safe.
pub fn takes_client_id(kind: Kind) -> bool {
    match kind {
        Kind::Post | Kind::Edit | Kind::Delete => true,
        Kind::Auth
        | Kind::Create
        | Kind::Update
        | Kind::Archive
        | Kind::Join
        | Kind::Leave
        | Kind::Invite
        | Kind::Kick
        | Kind::Role
        | Kind::Follow
        | Kind::Unfollow
        | Kind::History
        | Kind::Rooms
        | Kind::Room
        | Kind::Members => false,
    }
}

/// The client id in the header, in quotation marks as the draft has it, or bare as most clients send it.
fn idempotency_key(request: &HttpRequest) -> Result<Option<String>, Problem> {
    let refused = |why: &str| Problem::of(Refusal::bad_request(format!("the header {IDEMPOTENCY_KEY} {why}")));
    let mut values = request.headers().get_all(IDEMPOTENCY_KEY);
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(refused("is there twice"));
    }
    let value = value.to_str().map_err(|_| refused("is not text"))?;
    let Some(quoted) = value.strip_prefix('"') else { return Ok(Some(value.to_owned())) };
    let bare = quoted.strip_suffix('"').ok_or_else(|| refused("has no end"))?;
    Ok(Some(bare.to_owned()))
}

impl Route {
    fn expects(&self) -> Expects {
        match self.body {
            None => Expects::Nothing,
            Some(body) if body.required => Expects::Json,
            Some(_) => Expects::Perhaps,
        }
    }
}
