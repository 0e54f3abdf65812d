//! How one command is carried out for somebody, whatever transport it came by.
//!
//! A session hands over what is not for one room's rules alone; a request over HTTP hands over everything. Nothing
//! here keeps a state: what lasts, such as a follow, belongs to the session.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::task::{JoinError, JoinHandle};

use super::auditing;
use super::blocking;
use super::failure::read_failed;
use super::files::Hold;
use super::inbox::{Granted, What, list_rooms as rooms_of, settings_of};
use super::link::Link;
use super::overview::{self, Wanted};
use super::presences;
use super::profiles;
use super::reading::{self, Insider};
use super::registry::{BUSY, Registry};
use super::room::{Answer, Done};
use super::worker::{Follower, Worker};
use crate::domain::inbox::Update;
use crate::domain::recent::Receipt;
use crate::domain::{
    Alias, Attach, Capabilities, Capability, ClientId, Command, Create, FileId, Name, Presence, Principal, Profile,
    RecordId, Rejection, Role, RoomId, RoomKey, RoomKind, RoomName, Seq, Source, StreamId, UserId,
};
use crate::store::Store;
use crate::wire::{Ask, Cursor, Refusal, Reply, UserProfile};

/// Carries out `ask` for `by`, whose connection is `link`. What only a session can do, because it lasts longer than the
/// answer, is refused as unknown.
pub async fn answer(worker: &Rc<Worker>, link: &Rc<Link>, by: Principal, ask: Ask) -> Reply {
    let registry = worker.registry();
    let answered = match ask {
        Ask::Command { room, command, client_id } => submit(registry, by, room, command, client_id, None).await,
        Ask::Attach { room, content, attachments, reply_to, mentions, client_id } => {
            match find_files(registry, &by, &room, &attachments).await {
                Ok((attachments, hold)) => {
                    let command = Command::Post { content, reply_to, mentions, attachments };
                    submit(registry, by, room, command, client_id, Some(hold)).await
                }
                Err(refusal) => Err(refusal),
            }
        }
        Ask::Create { kind, alias, name, members } => create(registry, by, kind, alias, name, members).await,
        Ask::Forward { room, source, message, reply_to, mentions, client_id } => {
            match find_source(registry, &by, &source, message).await {
                Ok((source, hold)) => {
                    let command = Command::Forward { source, reply_to, mentions };
                    submit(registry, by, room, command, client_id, hold).await
                }
                Err(refusal) => Err(refusal),
            }
        }
        Ask::History { room, before, limit } => {
            let history = async move |store: &dyn Store, reader: &Rc<Follower>| {
                reading::history(store, reader, before, limit).await
            };
            read("history", worker, link, &by, &room, history).await
        }
        Ask::Thread { room, thread, after, limit } => {
            let thread = async move |store: &dyn Store, reader: &Rc<Follower>| {
                reading::thread(store, reader, thread, after, limit).await
            };
            read("thread", worker, link, &by, &room, thread).await
        }
        Ask::Reactions { room, message, emoji, after, limit } => {
            let reactions = async move |store: &dyn Store, reader: &Rc<Follower>| {
                reading::reactions(store, reader, (message, emoji), after, limit).await
            };
            read("reactions", worker, link, &by, &room, reactions).await
        }
        Ask::Edits { room, message, after, limit } => {
            let edits = async move |store: &dyn Store, reader: &Rc<Follower>| {
                reading::edits(store, reader, message, after, limit).await
            };
            read("edits", worker, link, &by, &room, edits).await
        }
        Ask::Pins { room, before, limit } => {
            let pins =
                async move |store: &dyn Store, reader: &Rc<Follower>| reading::pins(store, reader, before, limit).await;
            read("pins", worker, link, &by, &room, pins).await
        }
        Ask::Rooms { after, limit } => counted(registry, "rooms", list_rooms(registry, &by, after, limit).await),
        Ask::Room { room } => read("room", worker, link, &by, &room, reading::room).await,
        Ask::Members { room, after, limit } => {
            let now = registry.now();
            let members = async move |store: &dyn Store, reader: &Rc<Follower>| {
                reading::members(store, reader, after, limit, now).await
            };
            read("members", worker, link, &by, &room, members).await
        }
        Ask::Bans { room, after, limit } => {
            let now = registry.now();
            let bans = async move |store: &dyn Store, reader: &Rc<Follower>| {
                reading::bans(store, reader, after, limit, now).await
            };
            read("bans", worker, link, &by, &room, bans).await
        }
        Ask::Mutes { room, after, limit } => {
            let now = registry.now();
            let mutes = async move |store: &dyn Store, reader: &Rc<Follower>| {
                reading::mutes(store, reader, after, limit, now).await
            };
            read("mutes", worker, link, &by, &room, mutes).await
        }
        Ask::Rules { room } => read("rules", worker, link, &by, &room, reading::rules).await,
        Ask::Typing { room, typing } => {
            let signal = async |store: &dyn Store, reader: &Rc<Follower>| {
                registry.meters().user(&registry.limits().rates, &by)?;
                reading::may_post(store, reader, registry.now()).await?;
                let own = StreamId::User(by.tenant.clone(), by.user.clone());
                let settings = settings_of(store, &own).await.map_err(|error| read_failed(&error))?;
                // Whoever writes is there; that it does no longer may have to be told of before.
                worker.typing(reader.room(), &by.user, link, typing && !settings.invisible);
                Ok(Reply::Signaled { room: reader.room().clone() })
            };
            read("typing", worker, link, &by, &room, signal).await
        }
        Ask::Presence { presence } => {
            counted(registry, "presence", present(worker, registry, &by, link, presence).await)
        }
        Ask::Presences { room, after, limit } => {
            let presences = async |_: &dyn Store, reader: &Rc<Follower>| {
                registry.meters().user(&registry.limits().rates, &by)?;
                reading::presences(registry, reader, after, limit).await
            };
            read("presences", worker, link, &by, &room, presences).await
        }
        Ask::Readers { room, message, after, limit } => {
            let readers = async |store: &dyn Store, reader: &Rc<Follower>| {
                registry.meters().user(&registry.limits().rates, &by)?;
                reading::readers(store, reader, message, after, limit).await
            };
            read("readers", worker, link, &by, &room, readers).await
        }
        Ask::Inbox { archived, after, limit } => {
            let wanted = Wanted { archived, after, limit };
            counted(registry, "inbox", inbox(registry, link, by, wanted).await)
        }
        Ask::InboxChanges { since, limit } => {
            counted(registry, "inbox_changes", inbox_changes(registry, &by, &since, limit).await)
        }
        Ask::Report { room, message, reason } => {
            let report = async |_: &dyn Store, reader: &Rc<Follower>| {
                registry.meters().report(&registry.limits().rates, &by)?;
                registry.meters().tenant(&registry.limits(), &by.tenant)?;
                auditing::report(registry, reader, &by, message, reason).await
            };
            read("report", worker, link, &by, &room, report).await
        }
        Ask::ResolveReport { room, report, note } => resolve(registry, by, room, report, note).await,
        Ask::Hide { room, message, hidden } => {
            let kind = if hidden { "hide" } else { "unhide" };
            let hide = async |store: &dyn Store, reader: &Rc<Follower>| {
                let room = reader.room().clone();
                // What has been hidden may be gone by now.
                if hidden || !reading::is_hidden(store, reader, message).await? {
                    reading::message(store, reader, message).await?;
                }
                registry.ask_inbox(&by, What::Hide { room: room.room, message, hidden }).await?;
                Ok(Reply::Hidden { room, messages: vec![message], after: None })
            };
            read(kind, worker, link, &by, &room, hide).await
        }
        Ask::Hidden { room, after, limit } => {
            let hidden =
                async |store: &dyn Store, reader: &Rc<Follower>| reading::hidden(store, reader, after, limit).await;
            read("hidden", worker, link, &by, &room, hidden).await
        }
        Ask::Settings { update: None } => {
            let stream = StreamId::User(by.tenant.clone(), by.user.clone());
            let found = settings_of(&**registry.store(), &stream).await;
            counted(registry, "settings", found.map(Reply::Settings).map_err(|error| read_failed(&error)))
        }
        Ask::Settings { update: Some(update) } => {
            let granted = match registry.ask_inbox(&by, What::Decide(update)).await {
                Ok(Granted::Settings(settings)) => Ok(Reply::Settings(settings)),
                Ok(Granted::Updated(_) | Granted::Profile(_) | Granted::Done) => Err(Refusal::unavailable()),
                Err(refusal) => Err(refusal),
            };
            counted(registry, "settings_update", granted)
        }
        Ask::ProfileUpdate { update } => {
            let granted = match registry.ask_inbox(&by, What::Profile(update)).await {
                Ok(Granted::Profile(profile)) => {
                    let (user, profile) = (by.user.clone(), Profile::clone(&profile));
                    Ok(Reply::Profile(Box::new(UserProfile { user, profile })))
                }
                Ok(Granted::Updated(_) | Granted::Settings(_) | Granted::Done) => Err(Refusal::unavailable()),
                Err(refusal) => Err(refusal),
            };
            counted(registry, "profile_update", granted)
        }
        Ask::Invite { room, user, role } => invite(registry, by, room, user, role).await,
        Ask::Block { user, blocked } => {
            let kind = if blocked { "block" } else { "unblock" };
            counted(registry, kind, blocking::block(registry, &by, user, blocked).await)
        }
        Ask::Blocks { after, limit } => {
            counted(registry, "blocks", blocking::blocks(registry, &by, after, limit).await)
        }
        Ask::Users { users } => {
            counted(registry, "users", profiles::users(registry, &by, users).await.map(Reply::Users))
        }
        Ask::FindUsers { hashes } => {
            counted(registry, "find_users", profiles::find(registry, &by, hashes).await.map(Reply::FoundUsers))
        }
        Ask::InboxUpdate { room, update } => {
            let update = async |_: &dyn Store, reader: &Rc<Follower>| inbox_update(registry, &by, reader, update).await;
            read("inbox_update", worker, link, &by, &room, update).await
        }
        Ask::Auth { .. } => Err(Refusal::already_authenticated()),
        Ask::NotYet => Err(Refusal::unauthenticated()),
        Ask::Channel(_) => Err(Refusal::unknown_command("channel")),
        Ask::Follow { .. } => Err(Refusal::unknown_command("follow")),
        Ask::Unfollow { .. } => Err(Refusal::unknown_command("unfollow")),
        Ask::FollowAll { .. } => Err(Refusal::unknown_command("follow_all")),
        Ask::UnfollowAll => Err(Refusal::unknown_command("unfollow_all")),
    };
    answered.unwrap_or_else(Reply::Refused)
}

/// Reads something of a room for `by`, who is registered as a follower meanwhile.
async fn read(
    kind: &'static str,
    worker: &Rc<Worker>,
    link: &Rc<Link>,
    by: &Principal,
    room: &RoomName,
    read: impl AsyncFnOnce(&dyn Store, &Rc<Follower>) -> Result<Reply, Refusal>,
) -> Result<Reply, Refusal> {
    let registry = worker.registry();
    let reads = async {
        let key = registry.resolve_for(by, room).await?;
        let reader = worker.register(key, by.user.clone(), link);
        read(&**registry.store(), reader.follower()).await
    };
    counted(registry, kind, registry.look_up(by, reads).await)
}

/// Notes what came of what is not for a room alone; its commands are counted where it answers.
fn counted(registry: &Registry, kind: &'static str, answer: Result<Reply, Refusal>) -> Result<Reply, Refusal> {
    registry.metrics().command(kind, &answer);
    answer
}

async fn submit(
    registry: &Arc<Registry>,
    by: Principal,
    room: RoomName,
    command: Command,
    client_id: Option<ClientId>,
    hold: Option<Hold>,
) -> Result<Reply, Refusal> {
    let key = registry.look_up(&by, registry.find(&by, &room)).await?;
    let publishes = publishes(&command);
    Ok(done(key.clone(), publishes, registry.submit_holding(&key, by, command, client_id, hold).await))
}

/// The room that `by` may upload files for; refused to who may not post there.
pub async fn uploads_for(
    worker: &Rc<Worker>,
    link: &Rc<Link>,
    by: &Principal,
    room: &RoomName,
) -> Result<RoomId, Refusal> {
    let registry = worker.registry();
    let reads = async {
        let key = registry.resolve_for(by, room).await?;
        let reader = worker.register(key, by.user.clone(), link);
        reading::may_post(&**registry.store(), reader.follower(), registry.now()).await?;
        Ok(reader.follower().room().room)
    };
    registry.look_up(by, reads).await
}

/// Looks at the files that `by` wants to attach in `room`. That there is none, or not for that, only the room says, to who
/// may post in it: they may have been attached before.
async fn find_files(
    registry: &Registry,
    by: &Principal,
    room: &RoomName,
    files: &[FileId],
) -> Result<(Vec<Attach>, Hold), Refusal> {
    registry.meters().may_look_up(by)?;
    let key = registry.resolve_for(by, room).await?;
    registry.files()?.find(&key, &by.user, files).await
}

/// Looks at a message that `by` wants to forward. What `by` may not read is not told from what is not there, and only the
/// room that it is to be posted in says so: it may have been posted before.
async fn find_source(
    registry: &Registry,
    by: &Principal,
    room: &RoomName,
    message: RecordId,
) -> Result<(Source, Option<Hold>), Refusal> {
    let key = registry.resolve_for(by, room).await?;
    let original = match registry.look_up(by, reading::original(&**registry.store(), &key, &by.user, message)).await {
        Ok(original) => Some(original),
        Err(refusal) if UNREADABLE.map(Rejection::code).contains(&refusal.code()) => None,
        Err(refusal) => return Err(refusal),
    };
    let source = Source { room: key.room, message, original };
    let attached = source.original.as_ref().map(|original| &*original.attachments).unwrap_or_default();
    if attached.is_empty() {
        return Ok((source, None));
    }
    match registry.files()?.hold_all(attached.iter().map(|attachment| attachment.id).collect()).await? {
        Some(hold) => Ok((source, Some(hold))),
        // It was deleted meanwhile, and what it had attached is gone.
        None => Ok((Source { original: None, ..source }, None)),
    }
}

/// Why there is nothing to forward.
const UNREADABLE: [Rejection; 4] =
    [Rejection::RoomNotFound, Rejection::NotMember, Rejection::MessageNotFound, Rejection::MessageDeleted];

/// Whether a command is answered with the record that it led to.
pub(super) fn publishes(command: &Command) -> bool {
    matches!(command, Command::Post { .. } | Command::Forward { .. } | Command::Edit { .. } | Command::Delete { .. })
}

/// The reply to a command that its room has answered.
pub(super) fn done(room: RoomKey, publishes: bool, answer: Answer) -> Reply {
    match answer {
        Ok(done) if publishes => Reply::Published { room, receipt: done.receipt, duplicate: done.duplicate },
        Ok(Done { receipt: Receipt { position, at, .. }, may: Some(may), .. }) => {
            Reply::Joined { room, position, at, may }
        }
        Ok(done) => Reply::Changed { room, position: done.receipt.position, at: done.receipt.at },
        Err(refusal) => Reply::Refused(refusal),
    }
}

async fn list_rooms(
    registry: &Registry,
    by: &Principal,
    after: Option<RoomId>,
    limit: usize,
) -> Result<Reply, Refusal> {
    let listing = rooms_of(&**registry.store(), &by.tenant, &by.user, after, limit).await;
    let listing = listing.map_err(|error| read_failed(&error))?;
    let after = listing.rooms.last().filter(|_| listing.more).map(|listed| listed.room);
    Ok(Reply::Rooms { rooms: listing.rooms, after })
}

/// How often a list of rooms is made again because a membership ended meanwhile.
const LISTINGS_MAX: usize = 4;

/// The user's rooms, with nothing of one that the user has been removed from meanwhile.
async fn inbox(registry: &Arc<Registry>, link: &Link, by: Principal, wanted: Wanted) -> Result<Reply, Refusal> {
    registry.meters().user(&registry.limits().rates, &by)?;
    let _only = registry.overviews().begin(&by).await.ok_or_else(|| Refusal::busy(BUSY))?;
    for _ in 0..LISTINGS_MAX {
        let removals = link.removals();
        // On its own, so that others have their turn on the thread where there are many rooms; given up with whoever asks.
        let overview = actix::spawn(overview::overview(Arc::clone(registry), by.clone(), wanted));
        let overview = AbortOnDrop(overview);
        let inbox = overview.await.map_err(|_| Refusal::unavailable())??;
        if link.removals() == removals {
            return Ok(Reply::Inbox(inbox));
        }
    }
    Err(Refusal::unavailable())
}

/// A task that ends with whoever waits for it.
struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Future for AbortOnDrop<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx)
    }
}

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn inbox_changes(registry: &Registry, by: &Principal, since: &str, limit: usize) -> Result<Reply, Refusal> {
    registry.meters().user(&registry.limits().rates, by)?;
    let since = Cursor::parse(since, &overview::inbox_key(by))?;
    Ok(Reply::InboxChanges(overview::changes(registry, by, since, limit).await?))
}

async fn present(
    worker: &Worker,
    registry: &Arc<Registry>,
    by: &Principal,
    link: &Rc<Link>,
    presence: Option<Presence>,
) -> Result<Reply, Refusal> {
    registry.meters().user(&registry.limits().rates, by)?;
    worker.present(by, link, presence);
    // When it has been said: whatever is decided from then on meets it.
    let heeded = presences::heed(registry, (by.tenant.clone(), by.user.clone())).await;
    heeded.map_err(|error| read_failed(&error))?;
    Ok(Reply::Present { presence })
}

async fn inbox_update(
    registry: &Arc<Registry>,
    by: &Principal,
    reader: &Rc<Follower>,
    update: Update,
) -> Result<Reply, Refusal> {
    let (room, store) = (reader.room(), &**registry.store());
    let Insider { member, .. } = Insider::of(store, room, &by.user).await?;
    let granted = registry.ask_inbox(by, What::Update { room: room.room, update }).await?;
    let Granted::Updated(updated) = granted else { return Err(Refusal::unavailable()) };
    let joined = member.joined.seq();
    let unread = overview::unread(registry, room, &by.user, updated.entry.read, joined).await;
    let unread = unread.map_err(|error| read_failed(&error))?;
    if !reader.follow().borrow().stands(joined) {
        return Err(Rejection::NotMember.into());
    }
    Ok(Reply::InboxUpdated { owner: overview::inbox_key(by), change: updated.change(), unread })
}

/// Reserves a room's names, then creates it.
async fn create(
    registry: &Arc<Registry>,
    by: Principal,
    kind: RoomKind,
    alias: Option<Alias>,
    name: Option<Name>,
    members: Vec<(UserId, Role)>,
) -> Result<Reply, Refusal> {
    let id = match (kind, members.as_slice()) {
        (RoomKind::Direct, [(other, _)]) => Some(RoomId::direct(&by.tenant, &by.user, other)),
        (RoomKind::Direct, _) => return Err(Rejection::NotAPair.into()),
        (RoomKind::Collection | RoomKind::Audit, _) => return Err(Rejection::KindForbids.into()),
        (RoomKind::Channel, _) if alias.is_none() => return Err(Rejection::AliasRequired.into()),
        (RoomKind::Channel | RoomKind::Group | RoomKind::Box | RoomKind::Canvas, _) => None,
    };
    let others: Vec<_> = members.iter().map(|(user, _)| user).collect();
    if !others.is_empty() {
        blocking::check(registry, &by, &others).await?;
    }
    // A direct room is found by its pair.
    let alias = alias.filter(|_| kind != RoomKind::Direct);
    let reserved = registry.reserve(&by, alias.clone(), id).await?;
    let (room, num) = (RoomKey { tenant: by.tenant.clone(), room: reserved.room }, reserved.num);
    let create = Command::Create(Create { kind, num, alias: alias.clone(), name, members });
    let user = by.user.clone();
    let made = match kind {
        // Goes on when whoever asked has gone, so that the room learns of blocks.
        RoomKind::Direct => {
            let made = actix::spawn(create_direct(Arc::clone(registry), room.clone(), by, create));
            made.await.unwrap_or_else(|_| Err(Refusal::unavailable()))
        }
        RoomKind::Channel
        | RoomKind::Group
        | RoomKind::Box
        | RoomKind::Canvas
        | RoomKind::Collection
        | RoomKind::Audit => registry.submit(&room, by, create, None).await,
    };
    let (receipt, may) = match made {
        Ok(done) => (done.receipt, done.may.unwrap_or_default()),
        // Whichever of the two asks first makes it; the other finds it.
        Err(refusal) if kind == RoomKind::Direct && refusal.code() == Rejection::RoomExists.code() => {
            let store = &**registry.store();
            (first_record(store, &room).await?, may(store, &room, &user).await?)
        }
        Err(refusal) => return Err(refusal),
    };
    Ok(Reply::Created { room, num, alias, may, receipt })
}

async fn create_direct(registry: Arc<Registry>, room: RoomKey, by: Principal, create: Command) -> Answer {
    let done = registry.submit(&room, by.clone(), create, None).await?;
    blocking::carry_over(&registry, &by, &room).await?;
    Ok(done)
}

/// Invites somebody, unless one of the two has blocked the other; only who may invite there learns of that.
async fn invite(
    registry: &Arc<Registry>,
    by: Principal,
    room: RoomName,
    user: UserId,
    role: Role,
) -> Result<Reply, Refusal> {
    let key = registry.look_up(&by, registry.find(&by, &room)).await?;
    if may(&**registry.store(), &key, &by.user).await.is_ok_and(|may| may.has(Capability::Invite)) {
        blocking::check(registry, &by, &[&user]).await?;
    }
    Ok(done(key.clone(), false, registry.submit(&key, by, Command::Invite { user, role }, None).await))
}

async fn may(store: &dyn Store, key: &RoomKey, user: &UserId) -> Result<Capabilities, Refusal> {
    Insider::of(store, key, user).await?.may(store, key, user).await
}

/// Says that a report has been seen to. That there is none only the room says, to who is in it.
async fn resolve(
    registry: &Arc<Registry>,
    by: Principal,
    room: RoomName,
    report: RecordId,
    note: Option<Name>,
) -> Result<Reply, Refusal> {
    let key = registry.look_up(&by, registry.find(&by, &room)).await?;
    let found = reading::report(&**registry.store(), &key, report).await?;
    let resolve = Command::ResolveReport { report, note, found };
    Ok(done(key.clone(), false, registry.submit(&key, by, resolve, None).await))
}

async fn first_record(store: &dyn Store, room: &RoomKey) -> Result<Receipt, Refusal> {
    let page = store.read(&room.stream(), Seq::ZERO, 1).await.map_err(|error| read_failed(&error))?;
    page.records.first().map(Receipt::of).ok_or_else(Refusal::unavailable)
}
