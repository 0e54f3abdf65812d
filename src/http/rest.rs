//! Requests that are commands: each is read by the same shapes as a frame and carried out in the same way.

use actix_web::http::{ConnectionType, StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;

use super::kill::Unread;
use super::listener::Connection;
use super::payload::{self, Expects};
use super::problem::Problem;
use super::routes::Route;
use super::visit::Visit;
use super::{Edge, address, credentials};
use crate::actors::{asking, paging};
use crate::wire::{Ask, Dialect, Kind, Refusal, Reply, decode_request};

/// How a client that sends again says that it does (draft-ietf-httpapi-idempotency-key-header, section 2).
pub const IDEMPOTENCY_KEY: &str = "Idempotency-Key";

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
        Err(problem) => refused(&request, &problem),
    }
}

/// A refusal of a request whose body may not have been read: the connection ends behind it.
pub(super) fn refused(request: &HttpRequest, problem: &Problem) -> HttpResponse {
    let mut response = problem.response();
    if payload::is_announced(request) {
        response.head_mut().set_connection_type(ConnectionType::Close);
        response.extensions_mut().insert(Unread);
    }
    response
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
    if let Some(Connection { kill, .. }) = request.conn_data::<Connection>() {
        kill.allow(body_time + time);
    }
    let mut members = address::members(route.path, &route.query_names(), request.uri().path(), request.query_string())
        .map_err(Problem::of)?;
    if takes_client_id(kind) {
        members.extend(idempotency_key(request)?.map(|key| ("client_id", key)));
    }
    // What shows what is for members only is a visit that a removal finds. What any other command is answered is its
    // sender's own, and no removal has to cut it; a revocation finds both.
    let visit = if reads_a_room(kind) { Visit::begin(request, edge, by)? } else { Visit::command(request, edge, by)? };
    // A user may send as many at once as there may be connections of theirs.
    let grown = || edge.door.admit(request, Some(visit.by())).map_err(|problem| problem.refusal);
    let body = tokio::select! {
        biased;
        refusal = paging::gone(visit.link()) => Err(refusal),
        body = payload::read(request, payload, route.expects(), bytes_max, body_time, grown) => body,
    };
    let body = body.map_err(Problem::of)?;
    // The body may have taken its time.
    visit.is_good().map_err(Problem::of)?;
    if kind == Kind::Auth {
        let reply = Reply::Authenticated { principal: visit.by().clone(), token: String::new() };
        return Ok(visit.end(encoded(StatusCode::OK, &reply)));
    }
    let given: Vec<_> = members.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let ask = decode_request(kind, &given, &body).map_err(Problem::of)?;
    let reply = tokio::time::timeout(time, carried_out(&visit, ask)).await;
    let reply = reply.map_err(|_| Problem::of(Refusal::unavailable()))?;
    Ok(visit.end(answered(kind, &reply)?))
}

async fn carried_out(visit: &Visit, ask: Ask) -> Reply {
    let leaving = match &ask {
        Ask::Command { room, command, .. } if command.leaves(&visit.by().user) => {
            let room = visit.worker().registry().resolve(&visit.by().tenant, room).await;
            room.ok().map(|room| visit.leaving(room.room))
        }
        Ask::Command { .. }
        | Ask::Auth { .. }
        | Ask::Create { .. }
        | Ask::Attach { .. }
        | Ask::Forward { .. }
        | Ask::History { .. }
        | Ask::Thread { .. }
        | Ask::Reactions { .. }
        | Ask::Edits { .. }
        | Ask::Pins { .. }
        | Ask::Room { .. }
        | Ask::Members { .. }
        | Ask::Bans { .. }
        | Ask::Mutes { .. }
        | Ask::Rules { .. }
        | Ask::Readers { .. }
        | Ask::Typing { .. }
        | Ask::Presence { .. }
        | Ask::Presences { .. }
        | Ask::Settings { .. }
        | Ask::ProfileUpdate { .. }
        | Ask::Users { .. }
        | Ask::FindUsers { .. }
        | Ask::Invite { .. }
        | Ask::Block { .. }
        | Ask::Blocks { .. }
        | Ask::Report { .. }
        | Ask::ResolveReport { .. }
        | Ask::Hide { .. }
        | Ask::Hidden { .. }
        | Ask::Inbox { .. }
        | Ask::InboxChanges { .. }
        | Ask::InboxUpdate { .. }
        | Ask::Follow { .. }
        | Ask::Unfollow { .. }
        | Ask::FollowAll { .. }
        | Ask::UnfollowAll
        | Ask::Rooms { .. }
        | Ask::Channel(_)
        | Ask::NotYet => None,
    };
    let reply = asking::answer(visit.worker(), visit.link(), visit.by().clone(), ask).await;
    drop(leaving);
    reply
}

/// Whether the answer shows what is for members only.
fn reads_a_room(kind: Kind) -> bool {
    match kind {
        Kind::History
        | Kind::Thread
        | Kind::Reactions
        | Kind::Edits
        | Kind::Pins
        | Kind::Room
        | Kind::Members
        | Kind::Bans
        | Kind::Mutes
        | Kind::Rules
        | Kind::Readers
        | Kind::Presences
        | Kind::Inbox
        | Kind::InboxUpdate
        | Kind::Report
        | Kind::Hide
        | Kind::Unhide
        | Kind::Hidden => true,
        Kind::Auth
        | Kind::ResolveReport
        | Kind::Create
        | Kind::Update
        | Kind::Archive
        | Kind::Join
        | Kind::Leave
        | Kind::Invite
        | Kind::Kick
        | Kind::Role
        | Kind::Rights
        | Kind::RulesUpdate
        | Kind::Ban
        | Kind::Unban
        | Kind::Mute
        | Kind::Unmute
        | Kind::Post
        | Kind::Edit
        | Kind::Delete
        | Kind::React
        | Kind::Unreact
        | Kind::Pin
        | Kind::Unpin
        | Kind::Follow
        | Kind::Unfollow
        | Kind::FollowAll
        | Kind::UnfollowAll
        | Kind::Rooms
        | Kind::Typing
        | Kind::Presence
        | Kind::InboxChanges
        | Kind::Settings
        | Kind::SettingsUpdate
        | Kind::ProfileUpdate
        | Kind::Users
        | Kind::FindUsers
        | Kind::Block
        | Kind::Unblock
        | Kind::Blocks => false,
    }
}

fn answered(kind: Kind, reply: &Reply) -> Result<HttpResponse, Problem> {
    match reply {
        Reply::Refused(refusal) => Err(Problem::of(refusal.clone())),
        Reply::Created { room, .. } => {
            let mut response = encoded(StatusCode::CREATED, reply);
            let place = format!("/v1/rooms/{}", room.room);
            let place = header::HeaderValue::from_str(&place).expect("a uuid is plain text");
            response.headers_mut().insert(header::LOCATION, place);
            Ok(response)
        }
        Reply::Published { duplicate: false, .. } if kind == Kind::Post => Ok(encoded(StatusCode::CREATED, reply)),
        Reply::Authenticated { .. }
        | Reply::Channel(_)
        | Reply::Joined { .. }
        | Reply::Changed { .. }
        | Reply::Published { .. }
        | Reply::Following { .. }
        | Reply::Unfollowed { .. }
        | Reply::Signaled { .. }
        | Reply::Present { .. }
        | Reply::Presences { .. }
        | Reply::FollowingAll { .. }
        | Reply::UnfollowedAll
        | Reply::History { .. }
        | Reply::Thread { .. }
        | Reply::Reactions { .. }
        | Reply::Edits { .. }
        | Reply::Pins { .. }
        | Reply::Page { .. }
        | Reply::Rooms { .. }
        | Reply::Room { .. }
        | Reply::Members { .. }
        | Reply::Bans { .. }
        | Reply::Mutes { .. }
        | Reply::Rules { .. }
        | Reply::Readers { .. }
        | Reply::Inbox(_)
        | Reply::InboxChanges(_)
        | Reply::Settings(_)
        | Reply::Profile(_)
        | Reply::Users(_)
        | Reply::FoundUsers(_)
        | Reply::Blocked { .. }
        | Reply::Reported { .. }
        | Reply::Blocks { .. }
        | Reply::Hidden { .. }
        | Reply::InboxUpdated { .. } => Ok(encoded(StatusCode::OK, reply)),
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
        | Kind::Rights
        | Kind::RulesUpdate
        | Kind::Ban
        | Kind::Unban
        | Kind::Mute
        | Kind::Unmute
        | Kind::React
        | Kind::Unreact
        | Kind::Pin
        | Kind::Unpin
        | Kind::Follow
        | Kind::Unfollow
        | Kind::FollowAll
        | Kind::UnfollowAll
        | Kind::History
        | Kind::Thread
        | Kind::Reactions
        | Kind::Edits
        | Kind::Pins
        | Kind::Rooms
        | Kind::Room
        | Kind::Members
        | Kind::Bans
        | Kind::Mutes
        | Kind::Rules
        | Kind::Readers
        | Kind::Inbox
        | Kind::InboxChanges
        | Kind::Typing
        | Kind::Presence
        | Kind::Presences
        | Kind::InboxUpdate
        | Kind::Settings
        | Kind::SettingsUpdate
        | Kind::ProfileUpdate
        | Kind::Users
        | Kind::FindUsers
        | Kind::Block
        | Kind::Unblock
        | Kind::Blocks
        | Kind::Report
        | Kind::ResolveReport
        | Kind::Hide
        | Kind::Unhide
        | Kind::Hidden => false,
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
