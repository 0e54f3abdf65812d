//! Requests about boxes: each is a look at one, or a command of the room that it is.

use std::time::Duration;

use actix_web::dev::HttpServiceFactory;
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, guard, web};
use bytes::Bytes;
use serde::Serialize;

use super::failure::Failure;
use super::{box_id, since};
use crate::actors::boxes::{self, AccessChange, Barred, Boxed, Changed};
use crate::actors::{asking, paging};
use crate::domain::inbox::Update;
use crate::domain::policy::Role;
use crate::domain::{
    Command, Event, Principal, Record, RecordId, RoomEvent, RoomId, RoomKey, RoomKind, RoomName, Seq, TenantId,
};
use crate::http::listener::Connection;
use crate::http::payload::{self, Expects};
use crate::http::rest::json;
use crate::http::visit::Visit;
use crate::http::{Edge, credentials};
use crate::wire::misakey::requests::{self as asked, AccessEvent, BoxView, NewBox, Posting, PublicView, Said};
use crate::wire::misakey::{EventView, Listing, Sender, Time};
use crate::wire::{Ask, Cursor, From as Since, Refusal, Reply};

/// How many boxes an answer has where nothing is said, and at most.
const BOXES: usize = 10;
const BOXES_MAX: usize = 50;

/// How many records are read at once, and the most that one answer has read.
const RECORDS_PER_READ: usize = 100;
const RECORDS_MAX: usize = 20_000;

/// The most that an answer's messages say together, and the edits that are on the way to theirs.
const BYTES_MAX: usize = 8 * 1024 * 1024;

/// How many records are looked at for the last event of a box.
const LAST_RECORDS: usize = 20;

/// How many rooms or members are read at once.
const ROWS_PER_READ: usize = 100;

const TOTAL: &str = "X-Total-Count";

/// What is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Act {
    Make,
    Show,
    List,
    CountBoxes,
    Members,
    Accesses,
    Events,
    CountEvents,
    Post,
    ChangeAccesses,
    Acknowledge,
}

impl Act {
    fn expects(self) -> Expects {
        match self {
            Self::Make | Self::Post | Self::ChangeAccesses | Self::Acknowledge => Expects::Json,
            Self::Show
            | Self::List
            | Self::CountBoxes
            | Self::Members
            | Self::Accesses
            | Self::Events
            | Self::CountEvents => Expects::Perhaps,
        }
    }

    /// Whether the answer shows what is for members only.
    fn reads(self) -> bool {
        self.expects() != Expects::Json
    }
}

pub fn mount(config: &mut web::ServiceConfig) {
    config
        .service(one("/boxes", Method::POST, Act::Make))
        .service(one("/boxes", Method::GET, Act::List))
        .service(one("/boxes", Method::HEAD, Act::CountBoxes))
        .service(one("/boxes/joined", Method::GET, Act::List))
        .service(one("/boxes/joined", Method::HEAD, Act::CountBoxes))
        .service(web::resource("/boxes/{id}/public").guard(guard::Get()).to(show_public))
        .service(one("/boxes/{id}/members", Method::GET, Act::Members))
        .service(one("/boxes/{id}/accesses", Method::GET, Act::Accesses))
        .service(one("/boxes/{id}/events", Method::GET, Act::Events))
        .service(one("/boxes/{id}/events", Method::HEAD, Act::CountEvents))
        .service(one("/boxes/{id}/events", Method::POST, Act::Post))
        .service(one("/boxes/{id}/batch-events", Method::POST, Act::ChangeAccesses))
        .service(one("/boxes/{id}/new-events-count/ack", Method::PUT, Act::Acknowledge))
        .service(one("/boxes/{id}", Method::GET, Act::Show));
}

fn one(path: &'static str, method: Method, act: Act) -> impl HttpServiceFactory + 'static {
    let serve = move |request: HttpRequest, payload, edge: web::ThinData<Edge>| async move {
        carry_out(&request, payload, &edge, act).await.unwrap_or_else(|failure| failure.answer(&request))
    };
    web::resource(path).guard(guard::Method(method)).to(serve)
}

async fn carry_out(
    request: &HttpRequest,
    payload: web::Payload,
    edge: &Edge,
    act: Act,
) -> Result<HttpResponse, Failure> {
    let registry = edge.worker.registry();
    // Where there is one in the address it is one, before anybody has said who it is.
    let room = request.match_info().get("id").map(|_| box_id(request)).transpose()?;
    let by = credentials::principal(request, edge).await?;
    let (bytes_max, body_time, time) = {
        let limits = registry.limits();
        (limits.body_bytes_max, limits.body_deadline, limits.answer_timeout)
    };
    let connection = request.conn_data::<Connection>().ok_or_else(Refusal::unavailable)?;
    connection.kill.allow(body_time + time);
    let visit = if act.reads() { Visit::begin(request, edge, by)? } else { Visit::command(request, edge, by)? };
    let grown = || edge.door.admit(request, Some(visit.by())).map_err(|problem| problem.refusal);
    let body = payload::read(request, payload, act.expects(), bytes_max, body_time, grown).await?;
    visit.is_good()?;
    let key = room.map(|room| RoomKey { tenant: visit.by().tenant.clone(), room });
    let waits = act == Act::Events && credentials::of_query(request, super::SINCE)?.is_some();
    let response = match key {
        Some(key) if waits => poll(request, edge, &visit, connection, &key).await?,
        key => {
            let answer = tokio::time::timeout(time, answer(request, &visit, key, act, &body)).await;
            answer.map_err(|_| Refusal::unavailable())??
        }
    };
    Ok(visit.end(response))
}

async fn answer(
    request: &HttpRequest,
    visit: &Visit,
    key: Option<RoomKey>,
    act: Act,
    body: &Bytes,
) -> Result<HttpResponse, Failure> {
    let (registry, by) = (visit.worker().registry(), visit.by());
    let Some(key) = key else {
        if act == Act::Make {
            let NewBox { public_key, title } = NewBox::read(body)?;
            let key = boxes::make(registry, by.clone(), title, public_key).await?;
            return Ok(written(StatusCode::CREATED, &view(visit, &key, None).await?));
        }
        return if act == Act::List { list(request, visit).await } else { Ok(total(joined(visit).await?.len())) };
    };
    match act {
        Act::Post => match Posting::read(body)? {
            Posting::Join => join(visit, &key).await,
            Posting::Said(said) => post(visit, &key, said).await,
        },
        Act::ChangeAccesses => {
            owner(visit, &key).await?;
            let changed = boxes::change_accesses(registry, &key, by, changes(asked::read_batch(body)?)).await?;
            Ok(written(StatusCode::CREATED, &changed_views(by, changed)))
        }
        Act::Acknowledge => acknowledge(visit, &key, &asked::read_ack(body)?).await,
        Act::Show => {
            boxes::may_read(registry, &key, by).await?;
            Ok(written(StatusCode::OK, &view(visit, &key, None).await?))
        }
        Act::Members => {
            boxes::may_read(registry, &key, by).await?;
            Ok(written(StatusCode::OK, &members(visit, &key).await?))
        }
        Act::Accesses => {
            owner(visit, &key).await?;
            let accesses = boxes::accesses(registry, &key).await?;
            let views = accesses.into_iter().map(|(id, access)| {
                EventView::access_added(id, access.restriction, access.value, &access.by, access.at)
            });
            Ok(written(StatusCode::OK, &views.collect::<Vec<_>>()))
        }
        Act::Events => {
            boxes::may_read(registry, &key, by).await?;
            let (offset, limit) = (number(request, "offset")?, number(request, "limit")?);
            let (offset, limit) = (offset.unwrap_or(0), limit.unwrap_or(usize::MAX));
            let (events, _) = events(visit, &key, Wanted { offset, limit, counted: false }).await?;
            Ok(written(StatusCode::OK, &events))
        }
        Act::CountEvents => {
            boxes::may_read(registry, &key, by).await?;
            let (_, count) = events(visit, &key, Wanted { offset: 0, limit: 0, counted: true }).await?;
            Ok(total(count))
        }
        Act::Make | Act::List | Act::CountBoxes => Err(Failure::malformed_path("id")),
    }
}

/// Refuses who does not own the box.
async fn owner(visit: &Visit, key: &RoomKey) -> Result<(), Failure> {
    match boxes::may_read(visit.worker().registry(), key, visit.by()).await? {
        Role::Owner => Ok(()),
        Role::Admin | Role::Member | Role::Guest | Role::Viewer => Err(Failure::not_admin()),
    }
}

async fn ask(visit: &Visit, ask: Ask) -> Result<Reply, Refusal> {
    match asking::answer(visit.worker(), visit.link(), visit.by().clone(), ask).await {
        Reply::Refused(refusal) => Err(refusal),
        reply => Ok(reply),
    }
}

/// Which events of a box an answer has: the newest are the first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Wanted {
    offset: usize,
    limit: usize,
    /// All are counted, whether the answer has them or not.
    counted: bool,
}

/// The events that are wanted, and how many have been looked at.
async fn events(visit: &Visit, key: &RoomKey, wanted: Wanted) -> Result<(Vec<EventView>, usize), Failure> {
    let Wanted { offset, limit, counted } = wanted;
    let range = offset..offset.saturating_add(limit);
    let (mut listing, mut events, mut before) = (Listing::default(), Vec::new(), None);
    let (mut count, mut read, mut bytes) = (0, 0, 0);
    loop {
        let history = Ask::History { room: RoomName::Id(key.room), before, limit: RECORDS_PER_READ };
        let Reply::History { records, before: earlier, .. } = ask(visit, history).await? else {
            return Err(Refusal::internal().into());
        };
        read += records.len();
        for record in records.iter().rev() {
            let view = event(visit, key, &mut listing, record).await?;
            // What an edit says is kept until its message comes.
            if view.is_none() || range.contains(&count) {
                bytes += said_bytes(record);
            }
            if let Some(view) = view {
                events.extend(range.contains(&count).then_some(view));
                count += 1;
            }
        }
        before = earlier.map(|position| Cursor::encode(key, position).to_string());
        if before.is_none() || (!counted && count >= range.end) {
            return Ok((events, count));
        }
        if read >= RECORDS_MAX || bytes > BYTES_MAX {
            return Err(Refusal::query_too_broad().into());
        }
    }
}

fn said_bytes(record: &Record) -> usize {
    let Event::Room(event) = &record.event else { return 0 };
    event.said().map_or(0, |(content, _)| content.bytes())
}

async fn event(
    visit: &Visit,
    key: &RoomKey,
    listing: &mut Listing,
    record: &Record,
) -> Result<Option<EventView>, Refusal> {
    if let Event::Room(RoomEvent::RoomCreated { name, .. }) = &record.event {
        let title = name.as_ref().map_or("", |name| name.as_str());
        let boxed = boxes::about(visit.worker().registry(), key).await?;
        return Ok(boxed.map(|boxed| EventView::created(record, &boxed.public_key, title)));
    }
    Ok(listing.take(record))
}

/// What has happened behind an event, in its order and as it is told over a socket; where nothing has, what happens until
/// the time is up.
async fn poll(
    request: &HttpRequest,
    edge: &Edge,
    visit: &Visit,
    connection: &Connection,
    key: &RoomKey,
) -> Result<HttpResponse, Failure> {
    let registry = visit.worker().registry();
    boxes::may_read(registry, key, visit.by()).await?;
    let _place = edge.door.admit(request, Some(visit.by()))?;
    let ends = tokio::time::Instant::now() + registry.limits().poll_wait;
    connection.kill.allow(registry.limits().poll_wait + registry.limits().request);
    let mut since = since(request, edge, key).await?;
    loop {
        let wait = ends.saturating_duration_since(tokio::time::Instant::now());
        let (room, link) = (RoomName::Id(key.room), visit.link());
        let page = paging::page(visit.worker(), link, visit.by(), &room, since, RECORDS_PER_READ, wait);
        let page = connection.kill.while_there(page).await.unwrap_or_else(|| Err(Refusal::unavailable()))?;
        let Reply::Page { records, cursor, .. } = page else { return Err(Refusal::internal().into()) };
        let events: Vec<_> = records.iter().filter_map(EventView::pushed).collect();
        if !events.is_empty() || wait == Duration::ZERO {
            return Ok(written(StatusCode::OK, &events));
        }
        since = Since::Cursor(Cursor::encode(key, cursor).to_string());
    }
}

/// A box as `visit` sees it.
async fn view(visit: &Visit, key: &RoomKey, events_count: Option<u32>) -> Result<BoxView, Failure> {
    let boxed = boxes::about(visit.worker().registry(), key).await?.ok_or_else(Refusal::internal)?;
    let Boxed { title, public_key, creator, created_at, closed } = boxed;
    let history = Ask::History { room: RoomName::Id(key.room), before: None, limit: LAST_RECORDS };
    let Reply::History { records, .. } = ask(visit, history).await? else {
        return Err(Refusal::internal().into());
    };
    let (mut listing, mut last_event) = (Listing::default(), None);
    for record in records.iter().rev() {
        last_event = event(visit, key, &mut listing, record).await?;
        if last_event.is_some() {
            break;
        }
    }
    Ok(BoxView {
        id: key.room.to_string(),
        server_created_at: Time(created_at),
        public_key,
        title,
        lifecycle: if closed { "closed" } else { "open" },
        events_count,
        creator: Sender(creator),
        last_event,
    })
}

/// The boxes that somebody is in, and how much is new in each; the latest spoken in first.
async fn joined(visit: &Visit) -> Result<Vec<(RoomId, u32)>, Failure> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let Reply::Inbox(inbox) = ask(visit, Ask::Inbox { archived: false, after, limit: ROWS_PER_READ }).await? else {
            return Err(Refusal::internal().into());
        };
        let boxes = inbox.rooms.iter().filter(|room| room.kind == RoomKind::Box);
        found.extend(boxes.map(|room| (room.room, room.unread.messages)));
        match inbox.after {
            Some(activity) => after = Some(activity),
            None => return Ok(found),
        }
    }
}

async fn list(request: &HttpRequest, visit: &Visit) -> Result<HttpResponse, Failure> {
    let (offset, limit) = (number(request, "offset")?.unwrap_or(0), number(request, "limit")?.unwrap_or(BOXES));
    let mut views = Vec::new();
    for (room, unread) in joined(visit).await?.into_iter().skip(offset).take(limit.min(BOXES_MAX)) {
        let key = RoomKey { tenant: visit.by().tenant.clone(), room };
        match boxes::may_read(visit.worker().registry(), &key, visit.by()).await {
            Ok(_) => views.push(view(visit, &key, Some(unread)).await?),
            // It has been closed, or somebody has just been kicked.
            Err(Barred::Refused(refusal)) => return Err(refusal.into()),
            Err(Barred::NoAccess | Barred::NotMember | Barred::Closed) => {}
        }
    }
    Ok(written(StatusCode::OK, &views))
}

async fn members(visit: &Visit, key: &RoomKey) -> Result<Vec<Sender>, Failure> {
    let (mut senders, mut after) = (Vec::new(), None);
    loop {
        let members = Ask::Members { room: RoomName::Id(key.room), after, limit: ROWS_PER_READ };
        let Reply::Members { members, after: next, .. } = ask(visit, members).await? else {
            return Err(Refusal::internal().into());
        };
        senders.extend(members.into_iter().map(|member| Sender(member.user)));
        match next {
            Some(user) => after = Some(user),
            None => return Ok(senders),
        }
    }
}

/// Makes who asks a member, and answers with the event of it.
async fn join(visit: &Visit, key: &RoomKey) -> Result<HttpResponse, Failure> {
    let done = boxes::enter(visit.worker().registry(), key, visit.by().clone()).await?;
    told(visit, key, done.receipt.position.seq).await
}

/// Carries out what an event asks for, and answers with the event that it has become.
async fn post(visit: &Visit, key: &RoomKey, said: Said) -> Result<HttpResponse, Failure> {
    let (registry, by, room) = (visit.worker().registry(), visit.by(), RoomName::Id(key.room));
    let role = match boxes::may_read(registry, key, by).await {
        Ok(role) => Some(role),
        // What is written in it is a conflict.
        Err(Barred::Closed) => None,
        Err(barred) => return Err(barred.into()),
    };
    let owns = role == Some(Role::Owner);
    let command = match said {
        Said::Close if !owns => return Err(Failure::not_admin()),
        Said::Close => Command::Archive,
        Said::Leave if owns => return Err(Failure::admin_leaves()),
        Said::Leave => Command::Leave,
        Said::File(sealed, file) => {
            let (content, attachments) = (sealed.content(), vec![file]);
            let (reply_to, mentions, client_id) = (None, Vec::new(), None);
            let attach = Ask::Attach { room, content, attachments, reply_to, mentions, client_id };
            return published(visit, key, ask(visit, attach).await?).await;
        }
        Said::Text(sealed) => {
            let (reply_to, mentions, attachments) = (None, Vec::new(), Vec::new());
            Command::Post { content: sealed.content(), reply_to, mentions, attachments }
        }
        Said::Edit(message, sealed) => {
            editable(visit, key, message).await?;
            Command::Edit { message, content: sealed.content(), mentions: Vec::new() }
        }
        Said::Delete(message) => Command::Delete { message },
    };
    let leaving = (command == Command::Leave).then(|| visit.leaving(key.room));
    let reply = ask(visit, Ask::Command { room, command, client_id: None }).await;
    drop(leaving);
    published(visit, key, reply?).await
}

/// Refuses to edit what is no text. What is gone says so itself.
async fn editable(visit: &Visit, key: &RoomKey, message: RecordId) -> Result<(), Failure> {
    let record = boxes::record(visit.worker().registry(), key, message.seq()).await?;
    let Some(Event::Room(event)) = record.filter(|record| record.id == message).map(|record| record.event) else {
        return Ok(());
    };
    let is_text = match event {
        RoomEvent::MessagePosted { attachments, .. } => attachments.is_empty(),
        event => event == RoomEvent::MessageErased,
    };
    if is_text { Ok(()) } else { Err(Failure::not_a_text()) }
}

async fn published(visit: &Visit, key: &RoomKey, reply: Reply) -> Result<HttpResponse, Failure> {
    let position = if let Reply::Published { receipt, .. } = &reply {
        receipt.position
    } else if let Reply::Changed { position, .. } = &reply {
        *position
    } else {
        return Err(Refusal::internal().into());
    };
    told(visit, key, position.seq).await
}

/// The event of this place.
async fn told(visit: &Visit, key: &RoomKey, seq: Seq) -> Result<HttpResponse, Failure> {
    let record = boxes::record(visit.worker().registry(), key, seq).await?;
    let view = record.as_ref().and_then(EventView::pushed).ok_or_else(Refusal::internal)?;
    Ok(written(StatusCode::CREATED, &view))
}

fn changes(events: Vec<AccessEvent>) -> Vec<AccessChange> {
    let change = |event| match event {
        AccessEvent::Add(restriction, value) => AccessChange::Add(restriction, value),
        AccessEvent::Remove(added) => AccessChange::Remove(added),
    };
    events.into_iter().map(change).collect()
}

fn changed_views(by: &Principal, changed: Changed) -> Vec<EventView> {
    let Changed { events, kicks } = changed;
    let view = |(id, change, at)| match change {
        AccessChange::Add(restriction, value) => EventView::access_added(id, restriction, value, &by.user, at),
        AccessChange::Remove(added) => EventView::access_removed(id, added, &by.user, at),
    };
    events.into_iter().map(view).chain(kicks.iter().filter_map(EventView::pushed)).collect()
}

/// Whatever is new is not so any longer.
async fn acknowledge(visit: &Visit, key: &RoomKey, whose: &str) -> Result<HttpResponse, Failure> {
    if whose != visit.by().user.as_str() {
        return Err(Failure::not_yours());
    }
    boxes::may_read(visit.worker().registry(), key, visit.by()).await?;
    let room = RoomName::Id(key.room);
    let Reply::Room { about, .. } = ask(visit, Ask::Room { room: room.clone() }).await? else {
        return Err(Refusal::internal().into());
    };
    let update = Update { read_to: about.head.map(|head| head.seq), ..Update::default() };
    ask(visit, Ask::InboxUpdate { room, update }).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// What anybody may know of a box who knows of it, provided that it lets others in. Whoever does not say who it is asks for
/// one of the default tenant.
async fn show_public(request: HttpRequest, edge: web::ThinData<Edge>) -> HttpResponse {
    public(&request, &edge).await.unwrap_or_else(|failure| failure.answer(&request))
}

async fn public(request: &HttpRequest, edge: &Edge) -> Result<HttpResponse, Failure> {
    let (registry, room) = (edge.worker.registry(), box_id(request)?);
    let by = credentials::presented(request, edge, None).await?;
    if by.is_none() {
        registry.meters().ask(&registry.limits().rates, edge.door.address(request)).map_err(Failure::from)?;
    }
    let tenant = by.map_or_else(TenantId::default_tenant, |by| by.tenant);
    let key = RoomKey { tenant, room };
    let boxed = boxes::about(registry, &key).await?.filter(|boxed| !boxed.closed);
    let shared = !boxes::accesses(registry, &key).await?.is_empty();
    let Boxed { title, .. } = boxed.filter(|_| shared).ok_or(Barred::NoAccess)?;
    Ok(written(StatusCode::OK, &PublicView { title }))
}

fn written(status: StatusCode, body: &impl Serialize) -> HttpResponse {
    json(status, serde_json::to_vec(body).expect("objects of texts can be written to memory").into())
}

fn total(count: usize) -> HttpResponse {
    HttpResponse::NoContent().insert_header((TOTAL, count.to_string())).finish()
}

/// A number in the address.
fn number(request: &HttpRequest, name: &'static str) -> Result<Option<usize>, Failure> {
    let text = credentials::of_query(request, name)?;
    text.map(|text| text.parse().map_err(|_| Failure::malformed_query(name))).transpose()
}
