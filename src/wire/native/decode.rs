//! What clients send, as objects, and how it becomes a [`Request`].
//!
//! A message is read up to its `id` and `type`, which most clients write first, and then as a command of that type.
//! Members that the command does not have are skipped without being built; a member that comes twice is refused.

mod head;
mod kind;
mod lists;
mod notation;
mod shapes;
mod values;

pub use self::kind::Kind;
pub use self::notation::{Payload, shallow};
pub use self::values::AVATAR_FILE;

use self::head::Head;
use self::lists::{Invitees, USERS_MAX, UserList};
use self::notation::{Message, MsgpackPayload, Object, json};
use self::shapes::*;
use self::values::{Parsed, RoomText};
use super::content::{Content, Text};
use crate::domain::file::ATTACHMENTS_MAX;
use crate::domain::policy::{KEEP_MAX_MS, KEEP_MIN_MS, SLOW_MODE_MAX_MS};
use crate::domain::profile::FIELDS_BYTES_MAX;
use crate::domain::{self, Capability, ClientId, Command, Rejection, Rights, Role, RulesChange, Seq, Timestamp, inbox};
use crate::wire::{Ask, DecodeError, From, Refusal, Request};

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

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_list_is_not_taken_for_an_object_nor_a_number_for_a_name() {
        assert!(decode_json(br#"["7","rooms"]"#).is_err());
        assert!(decode_json(br#"{"id":"7","type":"create","kind":"group","members":[["ann","member"]]}"#).is_err());
        assert!(decode_msgpack(b"\x92\xa17\xa5rooms").is_err());
        assert!(decode_msgpack(b"\x82\x00\xa17\x01\xa5rooms").is_err());
        assert!(decode_msgpack(b"\x82\xa2id\xa17\xa4type\xa5rooms").is_ok());
    }
}
