//! What clients send, as objects, and how it becomes a [`Request`].
//!
//! A message is read up to its `id` and `type`, which most clients write first, and then as a command of that type.
//! Members that the command does not have are skipped without being built; a member that comes twice is refused.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::{CowStrDeserializer, MapAccessDeserializer};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, IntoDeserializer, MapAccess, SeqAccess, Visitor};

use super::DEPTH_MAX;
use super::content::{Content, Text};
use crate::domain::event::MENTIONS_MAX;
use crate::domain::file::ATTACHMENTS_MAX;
use crate::domain::ids::IdError;
use crate::domain::policy::{KEEP_MAX_MS, KEEP_MIN_MS, SLOW_MODE_MAX_MS};
use crate::domain::profile::{AVATAR_BYTES_MAX, Audience, Avatar, ContactHash, Email, FIELDS_BYTES_MAX, Telephone};
use crate::domain::room::MEMBERS_MAX;
use crate::domain::rules::Links;
use crate::domain::{
    self, Alias, Capability, ClientId, Command, Emoji, FileId, Name, Num, Presence, RecordId, Rejection, Rights, Role,
    RoomId, RoomKind, RoomName, RulesChange, Seq, Timestamp, UserId, inbox,
};
use crate::wire::{Activity, Ask, DecodeError, From, Refusal, Request};

/// The longest `id` of a request.
const ID_BYTES_MAX: usize = 64;

/// The most that one page of history or of rooms holds.
const PAGE_MAX: u64 = 100;
/// The most rooms that an inbox lists at once.
const INBOX_MAX: u64 = 5_000;
/// A page of history of a client that does not say how much it wants.
const HISTORY_PAGE: u64 = 50;

pub fn decode_json(payload: &[u8]) -> Result<Request, DecodeError> {
    decode(&json(payload)?)
}

pub fn decode_json_before_auth(payload: &[u8]) -> Result<Request, DecodeError> {
    decode_before_auth(&json(payload)?)
}

pub fn decode_msgpack(payload: &[u8]) -> Result<Request, DecodeError> {
    decode(&MsgpackPayload(payload))
}

pub fn decode_msgpack_before_auth(payload: &[u8]) -> Result<Request, DecodeError> {
    decode_before_auth(&MsgpackPayload(payload))
}

fn decode<'de>(message: &impl Message<'de>) -> Result<Request, DecodeError> {
    let mut found = Head::default();
    message.begin(&mut found);
    let (id, kind) = match found.known() {
        Ok(known) => known,
        Err(_) => head(message)?,
    };
    match ask(message, kind) {
        Ok(ask) => Ok(Request { id, ask }),
        // What is no message to its end has no id.
        Err(refusal) => head(message).and(Err(DecodeError { id: Some(id), refusal })),
    }
}

fn decode_before_auth<'de>(message: &impl Message<'de>) -> Result<Request, DecodeError> {
    match head(message)? {
        (_, Kind::Auth) => decode(message),
        (id, _) => Ok(Request { id, ask: Ask::NotYet }),
    }
}

/// What can be read as any of the shapes below.
pub(super) trait Payload<'de> {
    fn read<T: Deserialize<'de>>(&self) -> Result<T, Refusal>;
}

/// A message of a client.
trait Message<'de>: Payload<'de> {
    /// Reads on until `head` has what it needs, or something is wrong.
    fn begin(&self, head: &mut Head<'de>);
}

/// Text that is not nested too deep.
struct JsonPayload<'de>(&'de str);

struct MsgpackPayload<'de>(&'de [u8]);

impl<'de> Payload<'de> for JsonPayload<'de> {
    fn read<T: Deserialize<'de>>(&self) -> Result<T, Refusal> {
        serde_json::from_str(self.0).map(|Object(read)| read).map_err(Refusal::bad_request)
    }
}

impl<'de> Message<'de> for JsonPayload<'de> {
    fn begin(&self, head: &mut Head<'de>) {
        // An error mostly, as the object goes on behind what is read. Whoever reads all of it finds out.
        let _ = serde_json::Deserializer::from_str(self.0).deserialize_map(Beginning(head));
    }
}

impl<'de> MsgpackPayload<'de> {
    fn deserializer(&self) -> rmp_serde::Deserializer<rmp_serde::decode::ReadRefReader<'de, [u8]>> {
        let mut deserializer = rmp_serde::Deserializer::from_read_ref(self.0);
        // It counts down and refuses at zero.
        deserializer.set_max_depth(DEPTH_MAX + 1);
        deserializer
    }
}

impl<'de> Message<'de> for MsgpackPayload<'de> {
    fn begin(&self, head: &mut Head<'de>) {
        // As above.
        let _ = self.deserializer().deserialize_map(Beginning(head));
    }
}

impl<'de> Payload<'de> for MsgpackPayload<'de> {
    fn read<T: Deserialize<'de>>(&self) -> Result<T, Refusal> {
        let mut deserializer = self.deserializer();
        let Object(read) = Object::deserialize(&mut deserializer).map_err(|error| match error {
            rmp_serde::decode::Error::DepthLimitExceeded => Refusal::too_deep(),
            error => Refusal::bad_request(error),
        })?;
        // The end is where no further marker can be read.
        match IgnoredAny::deserialize(&mut deserializer) {
            Err(rmp_serde::decode::Error::InvalidMarkerRead(_)) => Ok(read),
            _ => Err(Refusal::bad_request("something follows the object")),
        }
    }
}

fn json(payload: &[u8]) -> Result<JsonPayload<'_>, DecodeError> {
    shallow(payload).map(JsonPayload).map_err(|refusal| DecodeError { id: None, refusal })
}

/// The text of `payload`, provided that it is not nested too deep.
pub(super) fn shallow(payload: &[u8]) -> Result<&str, Refusal> {
    let text = std::str::from_utf8(payload).map_err(|_| Refusal::bad_request("this is not UTF-8"))?;
    // Counting all of them is much quicker, and nearly always enough.
    let opening = text.bytes().filter(|byte| matches!(byte, b'{' | b'[')).count();
    if opening > DEPTH_MAX && depth(text) > DEPTH_MAX { Err(Refusal::too_deep()) } else { Ok(text) }
}

/// How deep brackets are nested outside of strings. Whether they match is found out by the parser.
fn depth(json: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut bytes = json.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => {
                while let Some(byte) = bytes.next() {
                    match byte {
                        b'\\' => drop(bytes.next()),
                        b'"' => break,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    deepest
}

/// The head of a message that can be read to its end.
fn head<'de>(message: &impl Message<'de>) -> Result<(String, Kind), DecodeError> {
    let head: Head<'_> = message.read().map_err(|refusal| DecodeError { id: None, refusal })?;
    head.known()
}

pub(super) fn ask<'de>(payload: &impl Payload<'de>, kind: Kind) -> Result<Ask, Refusal> {
    Ok(match kind {
        Kind::Auth => {
            let Auth { token: Text(token) } = payload.read()?;
            Ask::Auth { token: token.into_owned() }
        }
        Kind::Create => {
            let Create { kind, alias, name, members } = payload.read()?;
            let members = members.map_or_else(Vec::new, |Invitees(members)| members);
            Ask::Create { kind: kind.0, alias: alias.map(|it| it.0), name: name.map(|it| it.0), members }
        }
        Kind::Update => {
            let Update { room, name, edit_history, slow_mode_ms, history, keep_ms } = payload.read()?;
            let (name, history) = (name.map(|name| name.map(|it| it.0)), history.map(|it| it.0));
            let update = domain::Update { name, edit_history, slow_mode_ms, history, keep_ms };
            if update == domain::Update::default() {
                let known = "`name`, `edit_history`, `slow_mode_ms`, `history` or `keep_ms` has to be there";
                return Err(Refusal::bad_request(known));
            }
            if slow_mode_ms.is_some_and(|time| time > SLOW_MODE_MAX_MS) {
                return Err(Refusal::bad_request(format!("`slow_mode_ms` has to be 0 to {SLOW_MODE_MAX_MS}")));
            }
            if keep_ms.is_some_and(|time| time != 0 && !(KEEP_MIN_MS..=KEEP_MAX_MS).contains(&time)) {
                let range = format!("`keep_ms` has to be 0 or {KEEP_MIN_MS} to {KEEP_MAX_MS}");
                return Err(Refusal::bad_request(range));
            }
            command(room, Command::Update(update))
        }
        Kind::Archive => {
            let Room { room } = payload.read()?;
            command(room, Command::Archive)
        }
        Kind::Join => {
            let Room { room } = payload.read()?;
            command(room, Command::Join)
        }
        Kind::Leave => {
            let Room { room } = payload.read()?;
            command(room, Command::Leave)
        }
        Kind::Invite => {
            let Invite { room, user, role } = payload.read()?;
            Ask::Invite { room: room.0, user: user.0, role: role.map_or(Role::Member, |it| it.0) }
        }
        Kind::Kick => {
            let Kick { room, user, reason } = payload.read()?;
            command(room, Command::Kick { user: user.0, reason: reason.map(|it| it.0) })
        }
        Kind::Role => {
            let ChangeRole { room, user, role } = payload.read()?;
            command(room, Command::ChangeRole { user: user.0, role: role.0 })
        }
        Kind::Rights => {
            let ChangeRights { room, user, allow, deny } = payload.read()?;
            let of = |named: Option<Vec<Parsed<Capability>>>| named.into_iter().flatten().map(|it| it.0).collect();
            let rights = Rights { allow: of(allow), deny: of(deny) };
            if rights.allow.without(rights.deny) != rights.allow {
                return Err(Refusal::bad_request("what is in `allow` cannot be in `deny`, too"));
            }
            command(room, Command::ChangeRights { user: user.0, rights })
        }
        Kind::Rules => {
            let Room { room } = payload.read()?;
            Ask::Rules { room: room.0 }
        }
        Kind::RulesUpdate => {
            let ChangeRules { room, words, links, hosts } = payload.read()?;
            if words.is_none() && links.is_none() && hosts.is_none() {
                return Err(Refusal::bad_request("`words`, `links` or `hosts` has to be there"));
            }
            let change = RulesChange::new(words, links.map(|it| it.0), hosts).map_err(Refusal::bad_request)?;
            command(room, Command::ChangeRules(change))
        }
        Kind::Ban => {
            let Ban { room, user, until, reason } = payload.read()?;
            let (until, reason) = (until.map(Timestamp), reason.map(|it| it.0));
            command(room, Command::Ban { user: user.0, until, reason })
        }
        Kind::Unban => {
            let OfUser { room, user } = payload.read()?;
            command(room, Command::Unban { user: user.0 })
        }
        Kind::Bans => {
            let Members { room, after, limit } = payload.read()?;
            Ask::Bans { room: room.0, after: after.map(|it| it.0), limit: page(limit.unwrap_or(PAGE_MAX))? }
        }
        Kind::Mutes => {
            let Members { room, after, limit } = payload.read()?;
            Ask::Mutes { room: room.0, after: after.map(|it| it.0), limit: page(limit.unwrap_or(PAGE_MAX))? }
        }
        Kind::Mute => {
            let Mute { room, user, until } = payload.read()?;
            command(room, Command::Mute { user: user.0, until: until.map(Timestamp) })
        }
        Kind::Unmute => {
            let OfUser { room, user } = payload.read()?;
            command(room, Command::Unmute { user: user.0 })
        }
        Kind::Post => {
            let Post { room, content, attachments, forward, reply_to, mentions, client_id } = payload.read()?;
            let (reply_to, mentions) = (reply_to.map(|it| it.0), mentions.unwrap_or_default().0);
            let attachments = attachments.unwrap_or_default().0;
            if attachments.len() > ATTACHMENTS_MAX {
                return Err(Rejection::TooManyAttachments.into());
            }
            match (content, forward) {
                (content, None) if !attachments.is_empty() => {
                    let content = content.map_or_else(domain::Content::default, |Content(content)| content);
                    let (room, client_id) = (room.0, client_id.map(|it| it.0));
                    Ask::Attach { room, content, attachments, reply_to, mentions, client_id }
                }
                (Some(content), None) => {
                    let (content, attachments) = (filled(content)?, Vec::new());
                    publish(room, Command::Post { content, reply_to, mentions, attachments }, client_id)
                }
                (None, Some(Object(OfMessage { room: source, message }))) if attachments.is_empty() => {
                    let (room, source, message) = (room.0, source.0, message.0);
                    Ask::Forward { room, source, message, reply_to, mentions, client_id: client_id.map(|it| it.0) }
                }
                (Some(_) | None, Some(_)) | (None, None) => {
                    let either = "a message has `content`, `attachments` or both, or else `forward`";
                    return Err(Refusal::bad_request(either));
                }
            }
        }
        Kind::Edit => {
            let Edit { room, message, content, mentions, client_id } = payload.read()?;
            let (message, mentions) = (message.0, mentions.unwrap_or_default().0);
            publish(room, Command::Edit { message, content: filled(content)?, mentions }, client_id)
        }
        Kind::Delete => {
            let Delete { room, message, client_id } = payload.read()?;
            publish(room, Command::Delete { message: message.0 }, client_id)
        }
        Kind::React => {
            let React { room, message, emoji } = payload.read()?;
            command(room, Command::React { message: message.0, emoji: emoji.0 })
        }
        Kind::Unreact => {
            let React { room, message, emoji } = payload.read()?;
            command(room, Command::Unreact { message: message.0, emoji: emoji.0 })
        }
        Kind::Follow => {
            let Follow { room, from } = payload.read()?;
            Ask::Follow { room: room.0, from: from.map_or(From::Now, |Text(from)| start(&from)) }
        }
        Kind::Unfollow => {
            let Room { room } = payload.read()?;
            Ask::Unfollow { room: room.0 }
        }
        Kind::FollowAll => {
            let FollowAll { from } = payload.read()?;
            Ask::FollowAll { from: from.map_or(From::Now, |Text(from)| start(&from)) }
        }
        Kind::UnfollowAll => {
            let Nothing {} = payload.read()?;
            Ask::UnfollowAll
        }
        Kind::History => {
            let History { room, before, limit } = payload.read()?;
            let before = before.map(|Text(before)| before.into_owned());
            Ask::History { room: room.0, before, limit: page(limit.unwrap_or(HISTORY_PAGE))? }
        }
        Kind::Thread => {
            let Thread { room, message, after, limit } = payload.read()?;
            let after = after.map(|Text(after)| after.into_owned());
            Ask::Thread { room: room.0, thread: message.0, after, limit: page(limit.unwrap_or(HISTORY_PAGE))? }
        }
        Kind::Reactions => {
            let Reactions { room, message, emoji, after, limit } = payload.read()?;
            let limit = page(limit.unwrap_or(PAGE_MAX))?;
            let after = after.map(|it| it.0);
            Ask::Reactions { room: room.0, message: message.0, emoji: emoji.0, after, limit }
        }
        Kind::Edits => {
            let Thread { room, message, after, limit } = payload.read()?;
            let after = after.map(|Text(after)| after.into_owned());
            Ask::Edits { room: room.0, message: message.0, after, limit: page(limit.unwrap_or(HISTORY_PAGE))? }
        }
        Kind::Pin => {
            let OfMessage { room, message } = payload.read()?;
            command(room, Command::Pin { message: message.0 })
        }
        Kind::Unpin => {
            let OfMessage { room, message } = payload.read()?;
            command(room, Command::Unpin { message: message.0 })
        }
        Kind::Pins => {
            let History { room, before, limit } = payload.read()?;
            let before = before.map(|Text(before)| before.into_owned());
            Ask::Pins { room: room.0, before, limit: page(limit.unwrap_or(HISTORY_PAGE))? }
        }
        Kind::Rooms => {
            let Rooms { after, limit } = payload.read()?;
            Ask::Rooms { after: after.map(|it| it.0), limit: page(limit.unwrap_or(PAGE_MAX))? }
        }
        Kind::Room => {
            let Room { room } = payload.read()?;
            Ask::Room { room: room.0 }
        }
        Kind::Presence => {
            let Said { presence } = payload.read()?;
            Ask::Presence { presence: presence.0.0 }
        }
        Kind::Presences => {
            let Members { room, after, limit } = payload.read()?;
            let (after, limit) = (after.map(|it| it.0), page(limit.unwrap_or(PAGE_MAX))?);
            Ask::Presences { room: room.0, after, limit }
        }
        Kind::Typing => {
            let Typing { room, typing } = payload.read()?;
            Ask::Typing { room: room.0, typing: typing.unwrap_or(true) }
        }
        Kind::Readers => {
            let Readers { room, message, after, limit } = payload.read()?;
            let (after, limit) = (after.map(|it| it.0), page(limit.unwrap_or(PAGE_MAX))?);
            Ask::Readers { room: room.0, message: message.0, after, limit }
        }
        Kind::Inbox => {
            let Inbox { archived, after, limit } = payload.read()?;
            let limit = page_of(limit.unwrap_or(PAGE_MAX), INBOX_MAX)?;
            Ask::Inbox { archived: archived.unwrap_or(false), after: after.map(|it| it.0), limit }
        }
        Kind::InboxChanges => {
            let InboxChanges { since: Text(since), limit } = payload.read()?;
            let limit = page_of(limit.unwrap_or(PAGE_MAX), INBOX_MAX)?;
            Ask::InboxChanges { since: since.into_owned(), limit }
        }
        Kind::Report => {
            let Report { room, message, reason } = payload.read()?;
            Ask::Report { room: room.0, message: message.0, reason: reason.map(|it| it.0) }
        }
        Kind::ResolveReport => {
            let ResolveReport { room, report, note } = payload.read()?;
            Ask::ResolveReport { room: room.0, report: report.0, note: note.map(|it| it.0) }
        }
        Kind::Hide => {
            let OfMessage { room, message } = payload.read()?;
            Ask::Hide { room: room.0, message: message.0, hidden: true }
        }
        Kind::Unhide => {
            let OfMessage { room, message } = payload.read()?;
            Ask::Hide { room: room.0, message: message.0, hidden: false }
        }
        Kind::Hidden => {
            let Hidden { room, after, limit } = payload.read()?;
            let (after, limit) = (after.map(|it| it.0), page(limit.unwrap_or(PAGE_MAX))?);
            Ask::Hidden { room: room.0, after, limit }
        }
        Kind::Settings => {
            let Nothing {} = payload.read()?;
            Ask::Settings { update: None }
        }
        Kind::SettingsUpdate => {
            let SettingsUpdate { private_reading, contacts, invisible } = payload.read()?;
            let update = inbox::SettingsUpdate { private_reading, contacts: contacts.map(|it| it.0), invisible };
            if update == inbox::SettingsUpdate::default() {
                return Err(Refusal::bad_request("`private_reading`, `contacts` or `invisible` has to be there"));
            }
            Ask::Settings { update: Some(update) }
        }
        Kind::ProfileUpdate => {
            let ProfileUpdate { name, avatar, about, email, telephone, fields } = payload.read()?;
            let fields = fields.map(|fields| fields.map_or_else(domain::Content::default, |Content(fields)| fields));
            if fields.as_ref().is_some_and(|fields| fields.bytes() > FIELDS_BYTES_MAX) {
                return Err(Refusal::bad_request(format!("`fields` has more than {FIELDS_BYTES_MAX} bytes")));
            }
            let update = domain::ProfileUpdate {
                name: name.map(|name| name.map(|it| it.0)),
                avatar: avatar.map(|avatar| avatar.map(|it| it.0)),
                about: about.map(|about| about.map(|it| it.0)),
                email: email.map(|email| email.map(|it| it.0)),
                telephone: telephone.map(|telephone| telephone.map(|it| it.0)),
                fields,
            };
            if update == domain::ProfileUpdate::default() {
                return Err(Refusal::bad_request("an update has to say what is to change"));
            }
            Ask::ProfileUpdate { update }
        }
        Kind::Block => {
            let Blocking { user } = payload.read()?;
            Ask::Block { user: user.0, blocked: true }
        }
        Kind::Unblock => {
            let Blocking { user } = payload.read()?;
            Ask::Block { user: user.0, blocked: false }
        }
        Kind::Blocks => {
            let Blocks { after, limit } = payload.read()?;
            Ask::Blocks { after: after.map(|it| it.0), limit: page(limit.unwrap_or(PAGE_MAX))? }
        }
        Kind::Users => {
            let Users { users: UserList(users) } = payload.read()?;
            Ask::Users { users }
        }
        Kind::FindUsers => {
            let FindUsers { hashes } = payload.read()?;
            if !(1..=USERS_MAX).contains(&hashes.len()) {
                return Err(Refusal::bad_request(format!("`hashes` has to be 1 to {USERS_MAX} hashes")));
            }
            Ask::FindUsers { hashes: hashes.into_iter().map(|Parsed(hash)| hash).collect() }
        }
        Kind::InboxUpdate => {
            let InboxUpdate { room, delivered_to, read_to, muted_until, pinned, archived, draft } = payload.read()?;
            let update = inbox::Update {
                delivered_to: delivered_to.map(Seq),
                read_to: read_to.map(Seq),
                muted_until: muted_until.map(|until| until.map(Timestamp)),
                pinned,
                archived,
                draft: draft.map(|draft| draft.map(|Text(draft)| draft.into())),
            };
            if update == inbox::Update::default() {
                return Err(Refusal::bad_request("an update has to say what is to change"));
            }
            Ask::InboxUpdate { room: room.0, update }
        }
        Kind::Members => {
            let Members { room, after, limit } = payload.read()?;
            Ask::Members { room: room.0, after: after.map(|it| it.0), limit: page(limit.unwrap_or(PAGE_MAX))? }
        }
    })
}

fn command(room: RoomText, command: Command) -> Ask {
    Ask::Command { room: room.0, command, client_id: None }
}

fn publish(room: RoomText, command: Command, client_id: Option<Parsed<ClientId>>) -> Ask {
    Ask::Command { room: room.0, command, client_id: client_id.map(|it| it.0) }
}

/// The content, provided that it says anything at all.
fn filled(Content(content): Content) -> Result<domain::Content, Refusal> {
    if content == domain::Content::default() { Err(Rejection::ContentSize.into()) } else { Ok(content) }
}

fn start(from: &str) -> From {
    match from {
        "start" => From::Start,
        "now" => From::Now,
        cursor => From::Cursor(cursor.to_owned()),
    }
}

fn page(limit: u64) -> Result<usize, Refusal> {
    page_of(limit, PAGE_MAX)
}

fn page_of(limit: u64, max: u64) -> Result<usize, Refusal> {
    match usize::try_from(limit) {
        Ok(rows) if (1..=max).contains(&limit) => Ok(rows),
        _ => Err(Refusal::bad_request(format!("`limit` has to be 1 to {max}"))),
    }
}

/// The `type` of a message: every command there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Auth,
    Create,
    Update,
    Archive,
    Join,
    Leave,
    Invite,
    Kick,
    Role,
    Rights,
    Ban,
    Unban,
    Bans,
    Mutes,
    Rules,
    RulesUpdate,
    Mute,
    Unmute,
    Post,
    Edit,
    Delete,
    React,
    Unreact,
    Pin,
    Unpin,
    Follow,
    Unfollow,
    FollowAll,
    UnfollowAll,
    History,
    Thread,
    Reactions,
    Edits,
    Pins,
    Rooms,
    Room,
    Members,
    Readers,
    Inbox,
    InboxChanges,
    InboxUpdate,
    Typing,
    Presence,
    Presences,
    Settings,
    SettingsUpdate,
    ProfileUpdate,
    Users,
    FindUsers,
    Block,
    Unblock,
    Blocks,
    Report,
    ResolveReport,
    Hide,
    Unhide,
    Hidden,
}

impl Kind {
    pub const ALL: [Self; 57] = [
        Self::Auth,
        Self::Create,
        Self::Update,
        Self::Archive,
        Self::Join,
        Self::Leave,
        Self::Invite,
        Self::Kick,
        Self::Role,
        Self::Rights,
        Self::Ban,
        Self::Unban,
        Self::Bans,
        Self::Mutes,
        Self::Rules,
        Self::RulesUpdate,
        Self::Mute,
        Self::Unmute,
        Self::Post,
        Self::Edit,
        Self::Delete,
        Self::React,
        Self::Unreact,
        Self::Pin,
        Self::Unpin,
        Self::Follow,
        Self::Unfollow,
        Self::FollowAll,
        Self::UnfollowAll,
        Self::History,
        Self::Thread,
        Self::Reactions,
        Self::Edits,
        Self::Pins,
        Self::Rooms,
        Self::Room,
        Self::Members,
        Self::Readers,
        Self::Inbox,
        Self::InboxChanges,
        Self::InboxUpdate,
        Self::Typing,
        Self::Presence,
        Self::Presences,
        Self::Settings,
        Self::SettingsUpdate,
        Self::ProfileUpdate,
        Self::Users,
        Self::FindUsers,
        Self::Block,
        Self::Unblock,
        Self::Blocks,
        Self::Report,
        Self::ResolveReport,
        Self::Hide,
        Self::Unhide,
        Self::Hidden,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Create => "create",
            Self::Update => "update",
            Self::Archive => "archive",
            Self::Join => "join",
            Self::Leave => "leave",
            Self::Invite => "invite",
            Self::Kick => "kick",
            Self::Role => "role",
            Self::Rights => "rights",
            Self::Ban => "ban",
            Self::Unban => "unban",
            Self::Bans => "bans",
            Self::Mutes => "mutes",
            Self::Rules => "rules",
            Self::RulesUpdate => "rules_update",
            Self::Mute => "mute",
            Self::Unmute => "unmute",
            Self::Post => "post",
            Self::Edit => "edit",
            Self::Delete => "delete",
            Self::React => "react",
            Self::Unreact => "unreact",
            Self::Pin => "pin",
            Self::Unpin => "unpin",
            Self::Follow => "follow",
            Self::Unfollow => "unfollow",
            Self::FollowAll => "follow_all",
            Self::UnfollowAll => "unfollow_all",
            Self::History => "history",
            Self::Thread => "thread",
            Self::Reactions => "reactions",
            Self::Edits => "edits",
            Self::Pins => "pins",
            Self::Rooms => "rooms",
            Self::Room => "room",
            Self::Members => "members",
            Self::Readers => "readers",
            Self::Inbox => "inbox",
            Self::InboxChanges => "inbox_changes",
            Self::InboxUpdate => "inbox_update",
            Self::Report => "report",
            Self::ResolveReport => "resolve_report",
            Self::Hide => "hide",
            Self::Unhide => "unhide",
            Self::Hidden => "hidden",
            Self::Settings => "settings",
            Self::SettingsUpdate => "settings_update",
            Self::ProfileUpdate => "profile_update",
            Self::Users => "users",
            Self::FindUsers => "find_users",
            Self::Block => "block",
            Self::Unblock => "unblock",
            Self::Blocks => "blocks",
            Self::Typing => "typing",
            Self::Presence => "presence",
            Self::Presences => "presences",
        }
    }
}

#[derive(Deserialize, Default)]
struct Head<'a> {
    #[serde(borrow)]
    id: Option<Text<'a>>,
    #[serde(borrow, rename = "type")]
    kind: Option<Text<'a>>,
}

impl Head<'_> {
    fn known(self) -> Result<(String, Kind), DecodeError> {
        let id = self.id.map(|Text(id)| id.into_owned()).filter(|id| (1..=ID_BYTES_MAX).contains(&id.len()));
        let Some(id) = id else {
            let refusal = Refusal::bad_request("`id` has to be a string of 1 to 64 bytes");
            return Err(DecodeError { id: None, refusal });
        };
        let Some(Text(kind)) = self.kind else {
            return Err(DecodeError { id: Some(id), refusal: Refusal::bad_request("`type` is missing") });
        };
        match Kind::ALL.into_iter().find(|known| known.as_str() == kind) {
            Some(kind) => Ok((id, kind)),
            None => Err(DecodeError { id: Some(id), refusal: Refusal::unknown_command(&kind) }),
        }
    }
}

/// Reads members until a head is complete. One that comes twice is seen by [`TextNames`].
struct Beginning<'h, 'de>(&'h mut Head<'de>);

impl<'de> Visitor<'de> for Beginning<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while self.0.id.is_none() || self.0.kind.is_none() {
            match map.next_key()? {
                Some(Text(Cow::Borrowed("id"))) => self.0.id = map.next_value()?,
                Some(Text(Cow::Borrowed("type"))) => self.0.kind = map.next_value()?,
                Some(Text(_)) => _ = map.next_value::<IgnoredAny>()?,
                None => break,
            }
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct Auth<'a> {
    #[serde(borrow)]
    token: Text<'a>,
}

#[derive(Deserialize)]
struct Create {
    kind: Parsed<RoomKind>,
    alias: Option<Parsed<Alias>>,
    name: Option<Parsed<Name>>,
    members: Option<Invitees>,
}

/// A `name` that is null is none; one that is not there stays.
#[derive(Deserialize)]
struct Update {
    room: RoomText,
    #[serde(default, deserialize_with = "said")]
    name: Option<Option<Parsed<Name>>>,
    edit_history: Option<bool>,
    slow_mode_ms: Option<u32>,
    history: Option<Parsed<domain::policy::History>>,
    keep_ms: Option<u64>,
}

#[derive(Deserialize)]
struct Room {
    room: RoomText,
}

#[derive(Deserialize)]
struct Invite {
    room: RoomText,
    user: Parsed<UserId>,
    role: Option<Parsed<Role>>,
}

#[derive(Deserialize)]
struct Report {
    room: RoomText,
    message: Parsed<RecordId>,
    reason: Option<Parsed<Name>>,
}

#[derive(Deserialize)]
struct ResolveReport {
    room: RoomText,
    report: Parsed<RecordId>,
    note: Option<Parsed<Name>>,
}

#[derive(Deserialize)]
struct Kick {
    room: RoomText,
    user: Parsed<UserId>,
    reason: Option<Parsed<Name>>,
}

#[derive(Deserialize)]
struct Ban {
    room: RoomText,
    user: Parsed<UserId>,
    until: Option<i64>,
    reason: Option<Parsed<Name>>,
}

#[derive(Deserialize)]
struct Mute {
    room: RoomText,
    user: Parsed<UserId>,
    until: Option<i64>,
}

/// The commands that name a user and nothing else.
#[derive(Deserialize)]
struct OfUser {
    room: RoomText,
    user: Parsed<UserId>,
}

#[derive(Deserialize)]
struct ChangeRole {
    room: RoomText,
    user: Parsed<UserId>,
    role: Parsed<Role>,
}

/// What is not there is none.
#[derive(Deserialize)]
struct ChangeRules {
    room: RoomText,
    words: Option<Vec<String>>,
    links: Option<Parsed<Links>>,
    hosts: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct ChangeRights {
    room: RoomText,
    user: Parsed<UserId>,
    allow: Option<Vec<Parsed<Capability>>>,
    deny: Option<Vec<Parsed<Capability>>>,
}

#[derive(Deserialize)]
struct Post {
    room: RoomText,
    content: Option<Content>,
    attachments: Option<Files>,
    forward: Option<Object<OfMessage>>,
    reply_to: Option<Parsed<RecordId>>,
    mentions: Option<Mentioned>,
    client_id: Option<Parsed<ClientId>>,
}

#[derive(Deserialize)]
struct Edit {
    room: RoomText,
    message: Parsed<RecordId>,
    content: Content,
    mentions: Option<Mentioned>,
    client_id: Option<Parsed<ClientId>>,
}

#[derive(Deserialize)]
struct Delete {
    room: RoomText,
    message: Parsed<RecordId>,
    client_id: Option<Parsed<ClientId>>,
}

/// The commands that name a message and nothing else, and what is forwarded.
#[derive(Deserialize)]
struct OfMessage {
    room: RoomText,
    message: Parsed<RecordId>,
}

#[derive(Deserialize)]
struct React {
    room: RoomText,
    message: Parsed<RecordId>,
    emoji: Parsed<Emoji>,
}

#[derive(Deserialize)]
struct Reactions {
    room: RoomText,
    message: Parsed<RecordId>,
    emoji: Parsed<Emoji>,
    after: Option<Parsed<UserId>>,
    limit: Option<u64>,
}

#[derive(Deserialize)]
struct Follow<'a> {
    room: RoomText,
    #[serde(borrow)]
    from: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct FollowAll<'a> {
    #[serde(borrow)]
    from: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Nothing {}

#[derive(Deserialize)]
struct History<'a> {
    room: RoomText,
    #[serde(borrow)]
    before: Option<Text<'a>>,
    limit: Option<u64>,
}

#[derive(Deserialize)]
struct Thread<'a> {
    room: RoomText,
    message: Parsed<RecordId>,
    #[serde(borrow)]
    after: Option<Text<'a>>,
    limit: Option<u64>,
}

#[derive(Deserialize)]
struct Rooms {
    after: Option<Parsed<RoomId>>,
    limit: Option<u64>,
}

#[derive(Deserialize)]
struct Members {
    room: RoomText,
    after: Option<Parsed<UserId>>,
    limit: Option<u64>,
}

#[derive(Deserialize)]
struct Said {
    presence: Parsed<Declared>,
}

/// What a connection says of its user; `offline` is that it does not count.
struct Declared(Option<Presence>);

impl FromText for Declared {
    type Error = &'static str;

    fn from_text(text: &str) -> Result<Self, Self::Error> {
        let known = Presence::ALL.into_iter().find(|presence| presence.as_str() == text);
        match known {
            None if text != "offline" => Err("`presence` is one of online, away, offline"),
            said => Ok(Self(said)),
        }
    }
}

#[derive(Deserialize)]
struct Typing {
    room: RoomText,
    typing: Option<bool>,
}

#[derive(Deserialize)]
struct Readers {
    room: RoomText,
    message: Parsed<RecordId>,
    after: Option<Parsed<UserId>>,
    limit: Option<u64>,
}

#[derive(Deserialize)]
struct Inbox {
    archived: Option<bool>,
    after: Option<Parsed<Activity>>,
    limit: Option<u64>,
}

#[derive(Deserialize)]
struct InboxChanges<'a> {
    #[serde(borrow)]
    since: Text<'a>,
    limit: Option<u64>,
}

#[derive(Deserialize)]
struct Hidden {
    room: RoomText,
    after: Option<Parsed<RecordId>>,
    limit: Option<u64>,
}

#[derive(Deserialize)]
struct SettingsUpdate {
    private_reading: Option<bool>,
    contacts: Option<Parsed<Audience>>,
    invisible: Option<bool>,
}

/// What is null is taken away; what is not there stays.
#[derive(Deserialize)]
struct ProfileUpdate {
    #[serde(default, deserialize_with = "said")]
    name: Option<Option<Parsed<Name>>>,
    #[serde(default, deserialize_with = "said")]
    avatar: Option<Option<Parsed<Avatar>>>,
    #[serde(default, deserialize_with = "said")]
    about: Option<Option<Parsed<Name>>>,
    #[serde(default, deserialize_with = "said")]
    email: Option<Option<Parsed<Email>>>,
    #[serde(default, deserialize_with = "said")]
    telephone: Option<Option<Parsed<Telephone>>>,
    #[serde(default, deserialize_with = "said")]
    fields: Option<Option<Content>>,
}

#[derive(Deserialize)]
struct Blocking {
    user: Parsed<UserId>,
}

#[derive(Deserialize)]
struct Blocks {
    after: Option<Parsed<UserId>>,
    limit: Option<u64>,
}

#[derive(Deserialize)]
struct Users {
    users: UserList,
}

#[derive(Deserialize)]
struct FindUsers {
    hashes: Vec<Parsed<ContactHash>>,
}

/// The most users that are asked for at once.
pub const USERS_MAX: usize = 100;

/// Users as a list, or as one text between commas, as a query has it.
struct UserList(Vec<UserId>);

impl<'de> Deserialize<'de> for UserList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;

        impl<'de> Visitor<'de> for List {
            type Value = Vec<UserId>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of user ids")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                let users = text.split(',').take(USERS_MAX + 1).map(|user| UserId::new(user).map_err(E::custom));
                few_enough(users.collect::<Result<_, _>>()?)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut users = Vec::new();
                while let Some(Parsed(user)) = seq.next_element()? {
                    users.push(user);
                    if users.len() > USERS_MAX {
                        break;
                    }
                }
                few_enough(users)
            }
        }

        fn few_enough<E: Error>(users: Vec<UserId>) -> Result<Vec<UserId>, E> {
            if (1..=USERS_MAX).contains(&users.len()) {
                Ok(users)
            } else {
                Err(E::custom(format!("`users` has to be 1 to {USERS_MAX} user ids")))
            }
        }

        deserializer.deserialize_any(List).map(Self)
    }
}

/// Before the id of a file in the address of a picture that is one.
pub const AVATAR_FILE: &str = "/v1/files/";

/// What is not there stays; null takes away.
#[derive(Deserialize)]
struct InboxUpdate<'a> {
    room: RoomText,
    delivered_to: Option<u64>,
    read_to: Option<u64>,
    #[serde(default, deserialize_with = "said")]
    muted_until: Option<Option<i64>>,
    pinned: Option<bool>,
    archived: Option<bool>,
    #[serde(borrow, default, deserialize_with = "said")]
    draft: Option<Option<Text<'a>>>,
}

/// A member that is there, and be it null.
fn said<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// `mentions` of a message: at most twice as many as there may be, since the same may be there again.
#[derive(Default)]
struct Mentioned(Vec<UserId>);

impl<'de> Deserialize<'de> for Mentioned {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;

        impl<'de> Visitor<'de> for List {
            type Value = Vec<UserId>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of user ids")
            }

            /// Grows with what is there, as above.
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut users = Vec::new();
                while let Some(Parsed(user)) = seq.next_element()? {
                    if users.len() >= 2 * MENTIONS_MAX {
                        return Err(A::Error::custom("`mentions` has far more users than a message may mention"));
                    }
                    users.push(user);
                }
                Ok(users)
            }
        }

        deserializer.deserialize_any(List).map(Self)
    }
}

/// `attachments` of a message: one more than there may be tells that there are too many.
#[derive(Default)]
struct Files(Vec<FileId>);

impl<'de> Deserialize<'de> for Files {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;

        impl<'de> Visitor<'de> for List {
            type Value = Vec<FileId>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of the ids of files")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut files = Vec::new();
                while let Some(Parsed(file)) = seq.next_element()? {
                    if files.len() <= ATTACHMENTS_MAX {
                        files.push(file);
                    }
                }
                Ok(files)
            }
        }

        deserializer.deserialize_any(List).map(Self)
    }
}

/// `members` of a new room.
struct Invitees(Vec<(UserId, Role)>);

#[derive(Deserialize)]
struct Invitee {
    user: Parsed<UserId>,
    role: Option<Parsed<Role>>,
}

impl<'de> Deserialize<'de> for Invitees {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;

        impl<'de> Visitor<'de> for List {
            type Value = Vec<(UserId, Role)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of members")
            }

            /// Grows with what is there: the length that MessagePack announces is the client's word only.
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(Object(Invitee { user, role })) = seq.next_element()? {
                    if members.len() >= MEMBERS_MAX {
                        return Err(A::Error::custom("there are more members than a room may have"));
                    }
                    members.push((user.0, role.map_or(Role::Member, |it| it.0)));
                }
                Ok(members)
            }
        }

        deserializer.deserialize_any(List).map(Self)
    }
}

/// A room by its uuid, its number or its alias; the number as a number or as text.
struct RoomText(RoomName);

impl<'de> Deserialize<'de> for RoomText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumOrText;

        impl Visitor<'_> for NumOrText {
            type Value = RoomName;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a room: its uuid, its number or its alias")
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<RoomName, E> {
                Ok(RoomName::Num(Num(value)))
            }

            /// MessagePack libraries may write a positive number as a signed one.
            fn visit_i64<E: Error>(self, value: i64) -> Result<RoomName, E> {
                let value = u64::try_from(value).map_err(|_| E::custom("a room's number is not negative"))?;
                self.visit_u64(value)
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<RoomName, E> {
                RoomName::parse(value).map_err(E::custom)
            }
        }

        deserializer.deserialize_any(NumOrText).map(Self)
    }
}

/// A text that is the name of one of the domain's values.
struct Parsed<T>(T);

trait FromText: Sized {
    type Error: fmt::Display;

    fn from_text(text: &str) -> Result<Self, Self::Error>;
}

impl<'de, T: FromText> Deserialize<'de> for Parsed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Text(text) = Text::deserialize(deserializer)?;
        T::from_text(&text).map(Self).map_err(D::Error::custom)
    }
}

macro_rules! from_text {
    ($($name:ident)*) => {$(
        impl FromText for $name {
            type Error = IdError;

            fn from_text(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }
    )*};
}

from_text! { UserId ClientId Emoji Name Alias }

impl FromText for Links {
    type Error = &'static str;

    fn from_text(text: &str) -> Result<Self, Self::Error> {
        let known = Self::ALL.into_iter().find(|known| known.as_str() == text);
        known.ok_or("`links` has to be any, none or listed")
    }
}

impl FromText for RecordId {
    type Error = &'static str;

    fn from_text(text: &str) -> Result<Self, Self::Error> {
        text.parse().map(Self).map_err(|_| "`message` has to be the id of a record")
    }
}

impl FromText for FileId {
    type Error = &'static str;

    fn from_text(text: &str) -> Result<Self, Self::Error> {
        text.parse().map(Self).map_err(|_| "an attachment has to be the id of a file")
    }
}

impl FromText for ContactHash {
    type Error = &'static str;

    fn from_text(text: &str) -> Result<Self, Self::Error> {
        Self::parse(text).ok_or("a hash has to be 64 hexadecimal digits")
    }
}

impl FromText for RoomId {
    type Error = &'static str;

    fn from_text(text: &str) -> Result<Self, Self::Error> {
        text.parse().map(Self).map_err(|_| "`after` has to be the uuid of a room")
    }
}

impl FromText for Activity {
    type Error = &'static str;

    fn from_text(text: &str) -> Result<Self, Self::Error> {
        Self::parse(text).ok_or("`after` has to be that of an answer")
    }
}

impl FromText for Role {
    type Error = &'static str;

    fn from_text(text: &str) -> Result<Self, Self::Error> {
        let known = Self::ALL.into_iter().find(|role| role.as_str() == text);
        known.ok_or("a role is one of viewer, guest, member, admin, owner")
    }
}

impl FromText for Capability {
    type Error = &'static str;

    fn from_text(text: &str) -> Result<Self, Self::Error> {
        let known = Self::ALL.into_iter().find(|capability| capability.as_str() == text);
        known.ok_or("there is no capability of this name; `room` lists those that you have")
    }
}

impl FromText for domain::policy::History {
    type Error = &'static str;

    fn from_text(text: &str) -> Result<Self, Self::Error> {
        let known = Self::ALL.into_iter().find(|history| history.as_str() == text);
        known.ok_or("a history is one of all, join")
    }
}

impl FromText for Audience {
    type Error = &'static str;

    fn from_text(text: &str) -> Result<Self, Self::Error> {
        let known = Self::ALL.into_iter().find(|audience| audience.as_str() == text);
        known.ok_or("`contacts` is one of nobody, owners, everybody")
    }
}

impl FromText for Email {
    type Error = &'static str;

    fn from_text(text: &str) -> Result<Self, Self::Error> {
        Self::new(text)
    }
}

impl FromText for Telephone {
    type Error = &'static str;

    fn from_text(text: &str) -> Result<Self, Self::Error> {
        Self::new(text)
    }
}

impl FromText for Avatar {
    type Error = String;

    /// Never one that a browser would carry out.
    fn from_text(text: &str) -> Result<Self, Self::Error> {
        if let Some(file) = text.strip_prefix(AVATAR_FILE) {
            return file.parse().map(|id| Self::File(FileId(id))).map_err(|_| "there is no such file".to_owned());
        }
        let web = text.starts_with("https://") || text.starts_with("http://");
        let plain = text.bytes().all(|byte| byte.is_ascii_graphic());
        if web && plain && text.len() <= AVATAR_BYTES_MAX {
            Ok(Self::Address(text.into()))
        } else {
            Err(format!(
                "an avatar is the address of a picture, https://..., http://... or {AVATAR_FILE}ID, of up to \
                 {AVATAR_BYTES_MAX} bytes"
            ))
        }
    }
}

impl FromText for RoomKind {
    type Error = &'static str;

    fn from_text(text: &str) -> Result<Self, Self::Error> {
        // An audit room is made by nobody.
        let known = Self::ALL.into_iter().find(|kind| kind.as_str() == text && *kind != Self::Audit);
        known.ok_or("a kind is one of channel, group, direct, box, canvas")
    }
}

/// A `T` written as an object whose names are strings. Left to itself, serde takes a list of the members in their
/// order for the same, and MessagePack's numbers for their names.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(TextNames { map, has_id: false, has_type: false }))
            }
        }

        deserializer.deserialize_map(Members(PhantomData)).map(Self)
    }
}

/// Sees to it that those of a head, which commands do not have, do not come twice either.
struct TextNames<A> {
    map: A,
    has_id: bool,
    has_type: bool,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for TextNames<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        let Some(Text(name)) = self.map.next_key()? else { return Ok(None) };
        match &*name {
            "id" if std::mem::replace(&mut self.has_id, true) => return Err(A::Error::duplicate_field("id")),
            "type" if std::mem::replace(&mut self.has_type, true) => return Err(A::Error::duplicate_field("type")),
            _ => {}
        }
        let name: CowStrDeserializer<'_, A::Error> = name.into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_count_outside_of_strings_only() {
        assert_eq!(depth(r#"{"a":[[]],"b":{}}"#), 3);
        assert_eq!(depth(r#"{"[[[[\"[[\\":"[["}"#), 1);
        assert_eq!(depth("]]]]["), 1);
        assert_eq!(depth(r#"""#), 0);
        assert_eq!(depth(r#""\"#), 0);
    }

    #[test]
    fn the_head_may_stand_anywhere_and_comes_once() {
        let id_of = |json: &str| match decode_json(json.as_bytes()) {
            Ok(request) => Ok(request.id),
            Err(error) => Err(error.id),
        };
        let known = || Some("7".to_owned());
        assert_eq!(id_of(r#"{"id":"7","type":"unfollow_all"}"#), Ok("7".to_owned()));
        assert_eq!(id_of(r#"{"room":{"id":"8"},"type":"unfollow_all","id":"7"}"#), Ok("7".to_owned()));
        assert_eq!(id_of(r#"{"\u0069d":"7","type":"unfollow_all"}"#), Ok("7".to_owned()));
        assert_eq!(id_of(r#"{"id":"7","type":"room"}"#), Err(known()), "the room is missing");
        for broken in [
            r#"{"id":"7","type":"unfollow_all""#,
            r#"{"id":"7","type":"unfollow_all"}}"#,
            r#"{"id":"7","type":"room","room":1"#,
            r#"{"id":"7","type":"unfollow_all","id":"8"}"#,
            r#"{"id":"7","type":"unfollow_all","\u0069d":"8"}"#,
            r#"{"id":"7","type":"unfollow_all","type":"unfollow_all"}"#,
            r#"{"id":7,"type":"unfollow_all"}"#,
        ] {
            assert_eq!(id_of(broken), Err(None), "{broken}");
        }
        assert!(decode_msgpack(b"\x83\xa2id\xa17\xa4type\xa5rooms\xa2id\xa18").is_err_and(|error| error.id.is_none()));
    }

    #[test]
    fn every_type_is_found_by_its_name() {
        for kind in Kind::ALL {
            assert_eq!(Kind::ALL.into_iter().find(|known| known.as_str() == kind.as_str()), Some(kind));
        }
    }

    #[test]
    fn a_list_is_not_taken_for_an_object_nor_a_number_for_a_name() {
        assert!(decode_json(br#"["7","rooms"]"#).is_err());
        assert!(decode_json(br#"{"id":"7","type":"create","kind":"group","members":[["ann","member"]]}"#).is_err());
        assert!(decode_msgpack(b"\x92\xa17\xa5rooms").is_err());
        assert!(decode_msgpack(b"\x82\x00\xa17\x01\xa5rooms").is_err());
        assert!(decode_msgpack(b"\x82\xa2id\xa17\xa4type\xa5rooms").is_ok());
    }
}
