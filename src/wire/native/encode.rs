//! What clients are sent, as objects: records, replies and notices, each described once for both notations.

use std::fmt::Write;

use uuid::Uuid;

use super::PROTOCOL;
use super::decode::AVATAR_FILE;
use super::writer::{Plain, Writer};
use crate::domain::inbox::{Entry, Last, Settings, Unread};
use crate::domain::profile::Avatar;
use crate::domain::room::{Ban, Mute, Settings as RoomSettings};
use crate::domain::{
    Alias, Attachment, Audited, Capabilities, Capability, Content, Deed, DirectoryEvent, Emoji, Event, Forwarded,
    InReplyTo, InboxEvent, Name, Position, Presence, Profile, Record, RecordId, Reported, Rights, RoomEvent, RoomId,
    RoomKey, Rules, Signal, Timestamp, UserId,
};
use crate::wire::{
    About, Activity, Beside, Change, Changes, Cursor, Edited, Gap, Inbox, InboxRoom, Listed, ListedMember, Notice,
    Pinned, Presences, Present, Reader, Readers, Refusal, Reply, Tally, UserProfile, Version,
};

/// What a record takes besides its content, or a reply besides its lists: most are half of it.
const FRAME_BYTES: usize = 384;

/// 32 digits and four hyphens (RFC 9562, section 4).
const UUID_BYTES: usize = 36;

/// Writes a record of `room`.
pub fn record(out: &mut impl Writer, room: &RoomKey, record: &Record) {
    out.reserve(record_bytes(record));
    put_record(out, room, record);
}

/// Writes the reply to the request `id`.
pub fn reply(out: &mut impl Writer, id: Option<&str>, reply: &Reply) {
    out.reserve(reply_bytes(reply));
    let open = out.open_map();
    out.member("type", "reply");
    out.member("id", &id);
    out.member("ok", &!matches!(reply, Reply::Refused(_)));
    put_result(out, reply);
    out.close_map(open);
}

/// Writes what a reply has besides its `type`, `id` and `ok`.
pub fn body(out: &mut impl Writer, reply: &Reply) {
    out.reserve(reply_bytes(reply));
    let open = out.open_map();
    put_result(out, reply);
    out.close_map(open);
}

pub fn notice(out: &mut impl Writer, notice: &Notice) {
    out.reserve(FRAME_BYTES);
    let open = out.open_map();
    match notice {
        Notice::Hello { epoch, heartbeat, authenticated, socket: _ } => {
            out.member("type", "hello");
            out.member("protocol", PROTOCOL);
            out.member("epoch", &format!("{:x}", epoch.0));
            out.member("heartbeat_ms", &u64::try_from(heartbeat.as_millis()).unwrap_or(u64::MAX));
            out.member("authenticated", authenticated);
            out.member("durability", "synced");
        }
        Notice::Streaming { epoch, heartbeat, room, at, head } => {
            out.member("type", "hello");
            out.member("protocol", PROTOCOL);
            out.member("epoch", &format!("{:x}", epoch.0));
            out.member("heartbeat_ms", &u64::try_from(heartbeat.as_millis()).unwrap_or(u64::MAX));
            out.member("durability", "synced");
            put_room(out, "room", room.room);
            out.member("cursor", &*Cursor::encode(room, *at));
            out.member("head", &head.0);
        }
        Notice::StreamingAll { epoch, heartbeat, cursor, rooms } => {
            out.member("type", "hello");
            out.member("protocol", PROTOCOL);
            out.member("epoch", &format!("{:x}", epoch.0));
            out.member("heartbeat_ms", &u64::try_from(heartbeat.as_millis()).unwrap_or(u64::MAX));
            out.member("durability", "synced");
            out.member("cursor", cursor);
            out.member("rooms", rooms);
        }
        Notice::Removed { room, reason } => {
            out.member("type", "removed");
            put_room(out, "room", *room);
            out.member("reason", reason.as_str());
        }
        Notice::RoomGained { room, standing, role } => {
            out.member("type", "room_gained");
            put_room(out, "room", *room);
            out.member("standing", standing.as_str());
            out.member("role", role.as_str());
        }
        Notice::RoomLost { room } => {
            out.member("type", "room_lost");
            put_room(out, "room", *room);
        }
        Notice::InboxUpdated { owner, change } => {
            out.member("type", "inbox_updated");
            put_change(out, owner, change);
        }
        Notice::Signal { room, signal: Signal::Typing { user, typing } } => {
            out.member("type", "typing");
            put_room(out, "room", *room);
            out.member("user", user.as_str());
            out.member("typing", typing);
        }
        Notice::Signal { room, signal: Signal::Progress { user, delivered_to, read_to } } => {
            out.member("type", "progress");
            put_room(out, "room", *room);
            out.member("user", user.as_str());
            out.member("delivered_to", &delivered_to.0);
            out.member("read_to", &read_to.0);
        }
        Notice::Signal { room, signal: Signal::Presence { user, presence, last_seen } } => {
            out.member("type", "presence");
            put_room(out, "room", *room);
            put_present(out, user, *presence, *last_seen);
        }
        Notice::Signal { room, signal: Signal::Entered { user, channel: _, handle } } => {
            out.member("type", "entered");
            put_room(out, "room", *room);
            out.member("user", user.as_str());
            out.member("handle", &handle.to_string());
        }
        Notice::MessageHidden { room, message, hidden } => {
            out.member("type", "message_hidden");
            put_room(out, "room", *room);
            put_record_id(out, "message", *message);
            out.member("hidden", hidden);
        }
        Notice::Restarting { retry_after } => {
            out.member("type", "restarting");
            out.member("retry_after_ms", &u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX));
        }
        Notice::UserBlocked { user, blocked } => {
            out.member("type", "user_blocked");
            out.member("user", user.as_str());
            out.member("blocked", blocked);
        }
        Notice::UserUpdated(profile) => {
            out.member("type", "user_updated");
            put_profile(out, profile);
        }
        Notice::Gap { room, gap } => {
            out.member("type", "gap");
            put_room(out, "room", *room);
            put_gap(out, *gap);
        }
        Notice::FollowFailed { room, refusal } => {
            out.member("type", "follow_failed");
            put_room(out, "room", *room);
            put_error(out, refusal);
        }
    }
    out.close_map(open);
}

/// What a record will probably take at most: where a content has much to escape, the buffer grows.
pub fn record_bytes(record: &Record) -> usize {
    let Event::Room(event) = &record.event else { return FRAME_BYTES };
    if let RoomEvent::Audited(_) = event {
        return 2 * FRAME_BYTES;
    }
    if let RoomEvent::Reported(reported) = event {
        let attached: usize = reported.attachments.iter().map(attachment_bytes).sum();
        return FRAME_BYTES + attached + said_bytes(&reported.content, &[]);
    }
    let mut attached = 0;
    if let RoomEvent::MessagePosted { attachments, .. } = event {
        attached = attachments.iter().map(attachment_bytes).sum();
    }
    attached + event.said().map_or(FRAME_BYTES, |(content, mentions)| said_bytes(content, mentions))
}

fn attachment_bytes(attachment: &Attachment) -> usize {
    // Names, quotation marks, the id and a size of ten digits.
    UUID_BYTES + 64 + attachment.name.as_str().len() + attachment.media.as_str().len()
}

fn version_bytes(Version { content, mentions, .. }: &Version) -> usize {
    said_bytes(content, mentions)
}

fn said_bytes(content: &Content, mentions: &[UserId]) -> usize {
    let content = content.bytes();
    // Each in quotation marks, and a comma; in MessagePack less.
    let mentions: usize = mentions.iter().map(|user| user.as_str().len() + 3).sum();
    FRAME_BYTES + content + content / 8 + mentions
}

fn reply_bytes(reply: &Reply) -> usize {
    let list = match reply {
        Reply::History { records, beside, .. }
        | Reply::Thread { records, beside, .. }
        | Reply::Pins { records, beside, .. } => {
            let edited = beside.edited.iter().map(|edited| version_bytes(&edited.version));
            records.iter().map(record_bytes).sum::<usize>() + edited.sum::<usize>() + beside.reactions.len() * 128
        }
        Reply::Edits { versions, .. } => versions.iter().map(version_bytes).sum(),
        Reply::Page { records, .. } => records.iter().map(record_bytes).sum(),
        Reply::Reactions { users, .. } => users.iter().map(|user| user.as_str().len() + 3).sum(),
        Reply::Rooms { rooms, .. } => rooms.len() * 128,
        Reply::Members { members, .. } => members.len() * 128,
        Reply::Bans { bans, .. } => bans.len() * 256,
        Reply::Mutes { mutes, .. } => mutes.len() * 128,
        Reply::Rules { rules, .. } => (rules.words().len() + rules.hosts().len()) * 64,
        Reply::Presences { presences, .. } => presences.users.as_ref().map_or(0, Vec::len) * 96,
        Reply::Readers { readers, .. } => readers.users.len() * 128,
        Reply::Hidden { messages, .. } => messages.len() * (UUID_BYTES + 3),
        Reply::Inbox(inbox) => inbox.rooms.iter().map(InboxRoom::bytes).sum(),
        Reply::InboxChanges(changes) => changes.changes.len() * 256,
        Reply::Authenticated { .. }
        | Reply::Created { .. }
        | Reply::Joined { .. }
        | Reply::Changed { .. }
        | Reply::Published { .. }
        | Reply::Following { .. }
        | Reply::Unfollowed { .. }
        | Reply::Signaled { .. }
        | Reply::Channel(_)
        | Reply::Present { .. }
        | Reply::Settings(_)
        | Reply::Profile(_)
        | Reply::Users(_)
        | Reply::FoundUsers(_)
        | Reply::Blocked { .. }
        | Reply::Reported { .. }
        | Reply::Blocks { .. }
        | Reply::FollowingAll { .. }
        | Reply::UnfollowedAll
        | Reply::Room { .. }
        | Reply::InboxUpdated { .. }
        | Reply::Refused(_) => 0,
    };
    FRAME_BYTES + list
}

fn put_record(out: &mut impl Writer, room: &RoomKey, record: &Record) {
    let Record { position, id, num, at, author, client_id, event } = record;
    let open = out.open_map();
    out.member("type", "record");
    put_room(out, "room", room.room);
    put_position(out, room, *position);
    put_record_id(out, "id", *id);
    out.member("num", &num.0);
    put_time(out, *at);
    out.member("author", author.as_str());
    if let Some(client_id) = client_id {
        out.member("client_id", client_id.as_str());
    }
    match event {
        Event::Room(event) => put_event(out, event),
        // No room's stream has one. Its place would be shown, and what it says kept.
        Event::Directory(DirectoryEvent::RoomReserved { .. } | DirectoryEvent::NumsLeased { .. })
        | Event::Inbox(
            InboxEvent::EntryUpdated { .. }
            | InboxEvent::SettingsUpdated(_)
            | InboxEvent::ProfileUpdated
            | InboxEvent::UserBlocked { .. }
            | InboxEvent::MessageHidden { .. },
        ) => {
            out.member("event", "hidden");
        }
    }
    out.close_map(open);
}

fn put_event(out: &mut impl Writer, event: &RoomEvent) {
    match event {
        RoomEvent::RoomCreated { kind, alias, num, name, audits } => {
            out.member("event", "room_created");
            out.member("kind", kind.as_str());
            out.member("room_num", &num.0);
            out.member("alias", &alias.as_ref().map(Alias::as_str));
            out.member("name", &name.as_ref().map(Name::as_str));
            if let Some(room) = audits {
                put_room(out, "audits", *room);
            }
        }
        RoomEvent::RoomUpdated(settings) => {
            out.member("event", "room_updated");
            out.member("name", &settings.name.as_ref().map(Name::as_str));
            put_settings(out, settings);
        }
        RoomEvent::RoomArchived => out.member("event", "room_archived"),
        // Nobody follows a collection in this dialect. Its place would be shown, and what it says kept.
        RoomEvent::DocumentCreated { .. } | RoomEvent::DocumentUpdated { .. } | RoomEvent::DocumentDeleted { .. } => {
            out.member("event", "hidden");
        }
        RoomEvent::MemberJoined { user, role } => {
            out.member("event", "member_joined");
            out.member("user", user.as_str());
            out.member("role", role.as_str());
        }
        RoomEvent::MemberInvited { user, role } => {
            out.member("event", "member_invited");
            out.member("user", user.as_str());
            out.member("role", role.as_str());
        }
        RoomEvent::MemberLeft { user, joined } => {
            out.member("event", "member_left");
            out.member("user", user.as_str());
            put_record_id(out, "joined", *joined);
        }
        RoomEvent::MemberKicked { user, joined, reason } => {
            out.member("event", "member_kicked");
            out.member("user", user.as_str());
            put_record_id(out, "joined", *joined);
            out.member("reason", &reason.as_ref().map(Name::as_str));
        }
        // Not the words: who reads of them finds others.
        RoomEvent::RulesChanged(rules) => {
            out.member("event", "rules_changed");
            out.member("words", &(rules.words().len() as u64));
            put_links(out, rules);
        }
        RoomEvent::RightsChanged { user, rights: Rights { allow, deny }, may } => {
            out.member("event", "rights_changed");
            out.member("user", user.as_str());
            put_capabilities(out, "allow", *allow);
            put_capabilities(out, "deny", *deny);
            put_capabilities(out, "capabilities", *may);
        }
        RoomEvent::RoleChanged { user, role, was } => {
            out.member("event", "role_changed");
            out.member("user", user.as_str());
            out.member("role", role.as_str());
            out.member("was", was.as_str());
        }
        // Who was invited finds that the room is lost; the others need not know.
        RoomEvent::MemberBanned { user, joined, invited: _, until, reason } => {
            out.member("event", "member_banned");
            out.member("user", user.as_str());
            match joined {
                Some(joined) => put_record_id(out, "joined", *joined),
                None => out.member("joined", &None::<&str>),
            }
            put_ban(out, *until, reason.as_ref());
        }
        RoomEvent::MemberUnbanned { user } => {
            out.member("event", "member_unbanned");
            out.member("user", user.as_str());
        }
        RoomEvent::MemberMuted { user, until } => {
            out.member("event", "member_muted");
            out.member("user", user.as_str());
            put_until(out, *until);
        }
        RoomEvent::MemberUnmuted { user } => {
            out.member("event", "member_unmuted");
            out.member("user", user.as_str());
        }
        RoomEvent::MemberBlocked { user } => {
            out.member("event", "member_blocked");
            out.member("user", user.as_str());
        }
        RoomEvent::MemberUnblocked { user } => {
            out.member("event", "member_unblocked");
            out.member("user", user.as_str());
        }
        RoomEvent::MessagePosted { content, reply, mentions, forwarded, attachments } => {
            out.member("event", "message_posted");
            if let Some(reply) = reply {
                put_in_reply_to(out, reply);
            }
            put_mentions(out, mentions);
            if let Some(forwarded) = forwarded {
                put_forwarded(out, forwarded);
            }
            put_attachments(out, attachments);
            put_content(out, content);
        }
        RoomEvent::MessageEdited { message, by, content, mentions } => {
            out.member("event", "message_edited");
            put_record_id(out, "message", *message);
            out.member("by", by.as_str());
            put_mentions(out, mentions);
            put_content(out, content);
        }
        RoomEvent::MessageDeleted { message, by } => {
            out.member("event", "message_deleted");
            put_record_id(out, "message", *message);
            out.member("by", by.as_str());
        }
        RoomEvent::ReactionAdded { message, by, emoji, count } => {
            out.member("event", "reaction_added");
            put_reaction(out, *message, by, emoji, *count);
        }
        RoomEvent::ReactionRemoved { message, by, emoji, count } => {
            out.member("event", "reaction_removed");
            put_reaction(out, *message, by, emoji, *count);
        }
        RoomEvent::MessagePinned { message, by } => {
            out.member("event", "message_pinned");
            put_record_id(out, "message", *message);
            out.member("by", by.as_str());
        }
        RoomEvent::MessageUnpinned { message, by } => {
            out.member("event", "message_unpinned");
            put_record_id(out, "message", *message);
            out.member("by", by.as_str());
        }
        RoomEvent::HistoryTrimmed { until } => {
            out.member("event", "history_trimmed");
            out.member("before", &until.seq.next().0);
        }
        RoomEvent::MessageErased => out.member("event", "message_erased"),
        RoomEvent::Audited(audited) => put_audited(out, audited),
        RoomEvent::Administered(deed) => {
            out.member("event", "administered");
            put_deed(out, deed);
        }
        RoomEvent::Reported(reported) => put_reported(out, reported),
        RoomEvent::ReportResolved { report, note } => {
            out.member("event", "report_resolved");
            put_record_id(out, "report", *report);
            out.member("note", &note.as_ref().map(Name::as_str));
        }
    }
}

/// What was decided, as the record in the room says it.
fn put_audited(out: &mut impl Writer, Audited { room, position, id, at, by: _, decided }: &Audited) {
    out.member("event", "audited");
    out.key("decided");
    let open = out.open_map();
    put_room(out, "room", *room);
    out.member("seq", &position.seq.0);
    put_record_id(out, "id", *id);
    put_time(out, *at);
    put_event(out, decided);
    out.close_map(open);
}

/// What somebody has decided about others in the tenant.
fn put_deed(out: &mut impl Writer, deed: &Deed) {
    match deed {
        Deed::AccountAdded { user, rank } => {
            out.member("deed", "account_added");
            out.member("user", user.as_str());
            out.member("rank", rank.as_str());
        }
        Deed::AccountChanged { user, rank, disabled } => {
            out.member("deed", "account_changed");
            out.member("user", user.as_str());
            out.member("rank", rank.as_str());
            out.member("disabled", disabled);
        }
        Deed::ResetMade { user } => {
            out.member("deed", "reset_made");
            out.member("user", user.as_str());
        }
        Deed::InviteMade { invite, rank } => {
            out.member("deed", "invite_made");
            put_uuid(out, "invite", *invite);
            out.member("rank", rank.as_str());
        }
        Deed::InviteTakenBack { invite } => {
            out.member("deed", "invite_taken_back");
            put_uuid(out, "invite", *invite);
        }
        Deed::Banned { user, until, reason } => {
            out.member("deed", "user_banned");
            out.member("user", user.as_str());
            put_ban(out, *until, reason.as_ref());
        }
        Deed::Unbanned { user } => {
            out.member("deed", "user_unbanned");
            out.member("user", user.as_str());
        }
        Deed::TokensRevoked { user, since } => {
            out.member("deed", "tokens_revoked");
            out.member("user", &user.as_ref().map(UserId::as_str));
            out.member("since", &since.0);
        }
    }
}

/// The message as it was when it was reported.
fn put_reported(out: &mut impl Writer, reported: &Reported) {
    let Reported { room, message, by, at, content, attachments, reason } = reported;
    out.member("event", "reported");
    out.member("reason", &reason.as_ref().map(Name::as_str));
    out.key("reported");
    let open = out.open_map();
    put_room(out, "room", *room);
    put_record_id(out, "message", *message);
    out.member("by", by.as_str());
    put_time(out, *at);
    put_attachments(out, attachments);
    put_content(out, content);
    out.close_map(open);
}

fn put_result(out: &mut impl Writer, reply: &Reply) {
    match reply {
        Reply::Authenticated { principal, token: _ } => {
            out.member("user", principal.user.as_str());
            out.member("tenant", principal.tenant.as_str());
            out.member("expires_at", &principal.expires_at.0);
        }
        Reply::Created { room, num, alias, may, receipt } => {
            put_room(out, "room", room.room);
            out.member("num", &num.0);
            out.member("alias", &alias.as_ref().map(Alias::as_str));
            put_position(out, room, receipt.position);
            put_time(out, receipt.at);
            put_capabilities(out, "capabilities", *may);
            put_audit(out, room, *may);
        }
        Reply::Joined { room, position, at, may } => {
            put_room(out, "room", room.room);
            put_position(out, room, *position);
            put_time(out, *at);
            put_capabilities(out, "capabilities", *may);
            put_audit(out, room, *may);
        }
        Reply::Changed { room, position, at } => {
            put_room(out, "room", room.room);
            put_position(out, room, *position);
            put_time(out, *at);
        }
        Reply::Published { room, receipt, duplicate } => {
            put_room(out, "room", room.room);
            put_position(out, room, receipt.position);
            put_record_id(out, "record", receipt.id);
            out.member("num", &receipt.num.0);
            put_time(out, receipt.at);
            if *duplicate {
                out.member("duplicate", &true);
            }
        }
        Reply::Following { room, at, head } => {
            put_room(out, "room", room.room);
            out.member("cursor", &*Cursor::encode(room, *at));
            out.member("head", &head.0);
        }
        Reply::Unfollowed { room } => put_room(out, "room", *room),
        Reply::Signaled { room } => put_room(out, "room", room.room),
        Reply::FollowingAll { cursor, rooms } => {
            out.member("cursor", cursor);
            out.member("rooms", rooms);
        }
        Reply::UnfollowedAll | Reply::Channel(_) => {}
        Reply::History { room, records, beside, before, gap } => {
            put_room(out, "room", room.room);
            put_records(out, room, records);
            put_beside(out, beside);
            out.member("before", &before.map(|before| Cursor::encode(room, before)).as_deref());
            put_gap_member(out, *gap);
        }
        Reply::Reactions { room, message, emoji, count, users, after } => {
            put_room(out, "room", room.room);
            put_record_id(out, "message", *message);
            out.member("emoji", emoji.as_str());
            out.member("count", &u64::from(*count));
            out.key("users");
            let open = out.open_list();
            for user in users {
                out.item();
                user.as_str().put(out);
            }
            out.close_list(open);
            out.member("after", &after.as_ref().map(UserId::as_str));
        }
        Reply::Thread { room, thread, records, beside, after } => {
            put_room(out, "room", room.room);
            put_record_id(out, "thread", *thread);
            put_records(out, room, records);
            put_beside(out, beside);
            out.member("after", &after.map(|after| Cursor::encode(room, after)).as_deref());
        }
        Reply::Edits { room, message, versions, after } => {
            put_room(out, "room", room.room);
            put_record_id(out, "message", *message);
            out.key("versions");
            let open = out.open_list();
            for version in versions {
                out.item();
                let open = out.open_map();
                put_version(out, version);
                out.close_map(open);
            }
            out.close_list(open);
            out.member("after", &after.map(|after| Cursor::encode(room, after)).as_deref());
        }
        Reply::Pins { room, pins, records, beside, before } => {
            put_room(out, "room", room.room);
            out.key("pins");
            let open = out.open_list();
            for pin in pins {
                out.item();
                put_pinned(out, pin);
            }
            out.close_list(open);
            put_records(out, room, records);
            put_beside(out, beside);
            out.member("before", &before.map(|before| Cursor::encode(room, before)).as_deref());
        }
        Reply::Page { room, records, cursor, complete, head, gap } => {
            put_room(out, "room", room.room);
            put_records(out, room, records);
            out.member("cursor", &*Cursor::encode(room, *cursor));
            out.member("complete", complete);
            out.member("head", &head.0);
            put_gap_member(out, *gap);
        }
        Reply::Rooms { rooms, after } => {
            out.key("rooms");
            let open = out.open_list();
            for listed in rooms {
                out.item();
                put_listed(out, listed);
            }
            out.close_list(open);
            match after {
                Some(after) => put_room(out, "after", *after),
                None => out.member("after", &None::<&str>),
            }
        }
        Reply::Room { room, about } => put_about(out, room, about),
        Reply::Members { room, members, after } => {
            put_room(out, "room", room.room);
            out.key("members");
            let open = out.open_list();
            for member in members {
                out.item();
                put_member(out, member);
            }
            out.close_list(open);
            out.member("after", &after.as_ref().map(UserId::as_str));
        }
        Reply::Bans { room, bans, after } => {
            put_room(out, "room", room.room);
            out.key("bans");
            let open = out.open_list();
            for (user, Ban { by, at, rank: _, until, reason }) in bans {
                out.item();
                let open = out.open_map();
                out.member("user", user.as_str());
                out.member("by", by.as_str());
                put_time(out, *at);
                put_ban(out, *until, reason.as_ref());
                out.close_map(open);
            }
            out.close_list(open);
            out.member("after", &after.as_ref().map(UserId::as_str));
        }
        Reply::Rules { room, rules } => {
            put_room(out, "room", room.room);
            put_texts(out, "words", rules.words());
            put_links(out, rules);
        }
        Reply::Mutes { room, mutes, after } => {
            put_room(out, "room", room.room);
            out.key("mutes");
            let open = out.open_list();
            for (user, Mute { by, at, rank: _, until }) in mutes {
                out.item();
                let open = out.open_map();
                out.member("user", user.as_str());
                out.member("by", by.as_str());
                put_time(out, *at);
                put_until(out, *until);
                out.close_map(open);
            }
            out.close_list(open);
            out.member("after", &after.as_ref().map(UserId::as_str));
        }
        Reply::Readers { room, message, readers, after } => {
            put_room(out, "room", room.room);
            put_record_id(out, "message", *message);
            put_readers(out, readers);
            out.member("after", &after.as_ref().map(UserId::as_str));
        }
        Reply::Present { presence } => out.member("presence", said(*presence)),
        Reply::Presences { room, presences: Presences { members, online, away, users }, after } => {
            put_room(out, "room", room.room);
            out.member("members", &u64::from(*members));
            out.member("online", &u64::from(*online));
            out.member("away", &u64::from(*away));
            if let Some(users) = users {
                out.key("users");
                let open = out.open_list();
                for Present { user, presence, last_seen } in users {
                    out.item();
                    let open = out.open_map();
                    put_present(out, user, *presence, *last_seen);
                    out.close_map(open);
                }
                out.close_list(open);
                out.member("after", &after.as_ref().map(UserId::as_str));
            }
        }
        Reply::Inbox(inbox) => put_inbox(out, inbox),
        Reply::Hidden { room, messages, after } => {
            put_room(out, "room", room.room);
            put_ids(out, "messages", messages);
            match after {
                Some(after) => put_record_id(out, "after", *after),
                None => out.member("after", &None::<&str>),
            }
        }
        Reply::Settings(Settings { private_reading, contacts, invisible }) => {
            out.member("private_reading", private_reading);
            out.member("contacts", contacts.as_str());
            out.member("invisible", invisible);
        }
        Reply::Profile(profile) => put_profile(out, profile),
        Reply::Reported { room, message } => {
            put_room(out, "room", room.room);
            put_record_id(out, "message", *message);
        }
        Reply::Blocked { user, blocked } => {
            out.member("user", user.as_str());
            out.member("blocked", blocked);
        }
        Reply::Blocks { users, after } => {
            put_users(out, "users", users);
            out.member("after", &after.as_ref().map(UserId::as_str));
        }
        Reply::Users(profiles) => {
            out.key("users");
            let open = out.open_list();
            for profile in profiles {
                out.item();
                let open = out.open_map();
                put_profile(out, profile);
                out.close_map(open);
            }
            out.close_list(open);
        }
        Reply::FoundUsers(found) => {
            out.key("users");
            let open = out.open_list();
            for (hash, profile) in found {
                out.item();
                let open = out.open_map();
                out.member("hash", &*hash.to_string());
                put_profile(out, profile);
                out.close_map(open);
            }
            out.close_list(open);
        }
        Reply::InboxChanges(Changes { owner, changes, cursor, complete }) => {
            out.key("changes");
            let open = out.open_list();
            for change in changes {
                out.item();
                let open = out.open_map();
                put_change(out, owner, change);
                out.close_map(open);
            }
            out.close_list(open);
            out.member("cursor", &*Cursor::encode(owner, *cursor));
            out.member("complete", complete);
        }
        Reply::InboxUpdated { owner, change, unread } => {
            put_change(out, owner, change);
            put_unread(out, *unread);
        }
        Reply::Refused(refusal) => put_error(out, refusal),
    }
}

fn put_present(out: &mut impl Writer, user: &UserId, presence: Option<Presence>, last_seen: Option<Timestamp>) {
    out.member("user", user.as_str());
    out.member("presence", said(presence));
    if let Some(last_seen) = last_seen {
        out.member("last_seen", &last_seen.0);
    }
}

/// The word for it; nobody is told apart who is not there and who does not say so.
fn said(presence: Option<Presence>) -> &'static str {
    presence.map_or("offline", Presence::as_str)
}

fn put_ids(out: &mut impl Writer, name: &str, ids: &[RecordId]) {
    out.key(name);
    let open = out.open_list();
    for RecordId(id) in ids {
        out.item();
        let mut text = [0; UUID_BYTES];
        let text: &str = id.hyphenated().encode_lower(&mut text);
        text.put(out);
    }
    out.close_list(open);
}

fn put_readers(out: &mut impl Writer, Readers { members, delivered, read, users }: &Readers) {
    out.member("members", &u64::from(*members));
    out.member("delivered", &u64::from(*delivered));
    out.member("read", &u64::from(*read));
    out.key("users");
    let open = out.open_list();
    for Reader { user, delivered_to, read_to } in users {
        out.item();
        let open = out.open_map();
        out.member("user", user.as_str());
        out.member("delivered_to", &delivered_to.0);
        out.member("read_to", &read_to.0);
        out.close_map(open);
    }
    out.close_list(open);
}

fn put_inbox(out: &mut impl Writer, Inbox { owner, rooms, after, unread, mentions, cursor }: &Inbox) {
    out.key("rooms");
    let open = out.open_list();
    for room in rooms {
        out.item();
        put_inbox_room(out, room);
    }
    out.close_list(open);
    out.member("after", &after.map(Activity::encode).as_deref());
    out.member("unread", unread);
    out.member("mentions", mentions);
    out.member("cursor", &*Cursor::encode(owner, *cursor));
}

fn put_inbox_room(out: &mut impl Writer, room: &InboxRoom) {
    let open = out.open_map();
    put_room(out, "room", room.room);
    out.member("kind", room.kind.as_str());
    out.member("role", room.role.as_str());
    out.member("num", &room.num.0);
    out.member("alias", &room.alias.as_ref().map(Alias::as_str));
    out.member("name", &room.name.as_ref().map(Name::as_str));
    out.member("head", &room.head.0);
    put_last(out, room.last.as_ref());
    put_unread(out, room.unread);
    put_entry(out, &room.entry);
    out.close_map(open);
}

/// The last message, or null.
fn put_last(out: &mut impl Writer, last: Option<&Last>) {
    let Some(Last { id, at, author, text }) = last else { return out.member("last", &None::<&str>) };
    out.key("last");
    let open = out.open_map();
    put_record_id(out, "id", *id);
    out.member("seq", &id.seq().0);
    put_time(out, *at);
    out.member("author", author.as_str());
    out.member("text", &text.as_deref());
    out.close_map(open);
}

fn put_unread(out: &mut impl Writer, Unread { messages, mentions, more }: Unread) {
    out.member("unread", &u64::from(messages));
    out.member("mentions", &u64::from(mentions));
    if more {
        out.member("more_unread", &true);
    }
}

fn put_change(out: &mut impl Writer, owner: &RoomKey, Change { room, entry, position }: &Change) {
    put_room(out, "room", *room);
    out.member("cursor", &*Cursor::encode(owner, *position));
    put_entry(out, entry);
}

/// What most entries do not have is not said.
fn put_entry(out: &mut impl Writer, entry: &Entry) {
    let Entry { delivered, read, muted_until, pinned, archived, draft } = entry;
    out.member("delivered_to", &delivered.0.seq.0);
    out.member("read_to", &read.0.seq.0);
    if let Some(until) = muted_until {
        out.member("muted_until", &until.0);
    }
    if *pinned {
        out.member("pinned", &true);
    }
    if *archived {
        out.member("archived", &true);
    }
    if let Some(draft) = draft {
        out.member("draft", &**draft);
    }
}

fn put_about(out: &mut impl Writer, room: &RoomKey, about: &About) {
    let About { kind, num, alias, created_at, archived, settings, place, may, head, audits, audit } = about;
    put_room(out, "room", room.room);
    out.member("kind", kind.as_str());
    out.member("num", &num.0);
    out.member("alias", &alias.as_ref().map(Alias::as_str));
    out.member("name", &settings.name.as_ref().map(Name::as_str));
    out.member("created_at", &created_at.0);
    out.member("archived", archived);
    put_settings(out, settings);
    out.member("role", &place.map(|(role, _)| role.as_str()));
    out.member("standing", &place.map(|(_, standing)| standing.as_str()));
    put_capabilities(out, "capabilities", *may);
    if let Some(room) = audits {
        put_room(out, "audits", *room);
    }
    if let Some(room) = audit {
        put_room(out, "audit", *room);
    }
    out.member("head", &head.map(|head| head.seq.0));
    out.member("cursor", &head.map(|head| Cursor::encode(room, head)).as_deref());
}

/// What is not said of a user is not there, but for the name.
fn put_profile(out: &mut impl Writer, UserProfile { user, profile }: &UserProfile) {
    let Profile { name, avatar, about, email, telephone, fields } = profile;
    out.member("user", user.as_str());
    out.member("name", &name.as_ref().map(Name::as_str));
    if let Some(avatar) = avatar {
        match avatar {
            Avatar::Address(address) => out.member("avatar", &**address),
            Avatar::File(file) => out.member("avatar", &*format!("{AVATAR_FILE}{file}")),
        }
    }
    if let Some(about) = about {
        out.member("about", about.as_str());
    }
    if let Some(email) = email {
        out.member("email", email.as_str());
        out.member("email_hash", &*hash_of(&email.normal()));
    }
    if let Some(telephone) = telephone {
        out.member("telephone", telephone.as_str());
        out.member("telephone_hash", &*hash_of(telephone.as_str()));
    }
    if *fields != Content::default() {
        put_object(out, "fields", fields);
    }
}

/// SHA-256 in hexadecimal digits: by it clients find the people of an address book without sending it.
fn hash_of(contact: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, contact.as_bytes());
    digest.as_ref().iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// Where there is one, under its own name.
fn put_gap_member(out: &mut impl Writer, gap: Option<Gap>) {
    let Some(gap) = gap else { return };
    out.key("gap");
    let open = out.open_map();
    put_gap(out, gap);
    out.close_map(open);
}

fn put_gap(out: &mut impl Writer, Gap { from, to, reason }: Gap) {
    out.member("from", &from.0);
    out.member("to", &to.0);
    out.member("reason", reason.as_str());
}

/// All but the name.
fn put_settings(out: &mut impl Writer, settings: &RoomSettings) {
    let RoomSettings { name: _, edit_history, slow_mode_ms, history, keep_ms } = settings;
    out.member("edit_history", edit_history);
    out.member("slow_mode_ms", &u64::from(*slow_mode_ms));
    out.member("history", history.as_str());
    out.member("keep_ms", keep_ms);
}

fn put_member(out: &mut impl Writer, ListedMember { user, role, rights, muted, joined }: &ListedMember) {
    let open = out.open_map();
    out.member("user", user.as_str());
    out.member("role", role.as_str());
    put_record_id(out, "joined", *joined);
    if !rights.is_empty() {
        put_capabilities(out, "allow", rights.allow);
        put_capabilities(out, "deny", rights.deny);
    }
    if let Some(mute) = muted {
        out.key("muted");
        let open = out.open_map();
        put_until(out, mute.until);
        out.close_map(open);
    }
    out.close_map(open);
}

/// Where links may lead.
fn put_links(out: &mut impl Writer, rules: &Rules) {
    out.member("links", rules.links().as_str());
    put_texts(out, "hosts", rules.hosts());
}

fn put_texts(out: &mut impl Writer, name: &str, texts: &[String]) {
    out.key(name);
    let open = out.open_list();
    for text in texts {
        out.item();
        text.as_str().put(out);
    }
    out.close_list(open);
}

fn put_pinned(out: &mut impl Writer, Pinned { message, by, at }: &Pinned) {
    let open = out.open_map();
    put_record_id(out, "message", *message);
    out.member("by", by.as_str());
    put_time(out, *at);
    out.close_map(open);
}

/// Until when, null for good, and why.
fn put_ban(out: &mut impl Writer, until: Option<Timestamp>, reason: Option<&Name>) {
    put_until(out, until);
    out.member("reason", &reason.map(Name::as_str));
}

fn put_until(out: &mut impl Writer, until: Option<Timestamp>) {
    match until {
        Some(until) => out.member("until", &until.0),
        None => out.member("until", &None::<&str>),
    }
}

fn put_records(out: &mut impl Writer, room: &RoomKey, records: &[Record]) {
    out.key("records");
    let open = out.open_list();
    for record in records {
        out.item();
        put_record(out, room, record);
    }
    out.close_list(open);
}

fn put_listed(out: &mut impl Writer, Listed { room, kind, role, standing }: &Listed) {
    let open = out.open_map();
    put_room(out, "room", *room);
    out.member("kind", kind.as_str());
    out.member("role", role.as_str());
    out.member("standing", standing.as_str());
    out.close_map(open);
}

fn put_error(out: &mut impl Writer, refusal: &Refusal) {
    out.key("error");
    let open = out.open_map();
    out.member("code", refusal.code());
    out.member("message", refusal.message());
    out.member("retry", refusal.retry().as_str());
    if let Some(after) = refusal.retry_after_ms() {
        out.member("retry_after_ms", &after);
    }
    if let Some(limit) = refusal.limit() {
        out.member("limit", limit);
    }
    if let Some(until) = refusal.until() {
        out.member("until", &until.0);
    }
    if let Some(reason) = refusal.reason() {
        out.member("reason", reason);
    }
    out.close_map(open);
}

fn put_reaction(out: &mut impl Writer, message: RecordId, by: &UserId, emoji: &Emoji, count: u32) {
    put_record_id(out, "message", message);
    out.member("by", by.as_str());
    out.member("emoji", emoji.as_str());
    out.member("count", &u64::from(count));
}

/// Most pages have none of either, and do not say so.
fn put_beside(out: &mut impl Writer, Beside { reactions, edited, hidden }: &Beside) {
    put_tallies(out, reactions);
    if !hidden.is_empty() {
        put_ids(out, "hidden", hidden);
    }
    if edited.is_empty() {
        return;
    }
    out.key("edited");
    let open = out.open_list();
    for Edited { message, version } in edited {
        out.item();
        let open = out.open_map();
        put_record_id(out, "message", *message);
        put_version(out, version);
        out.close_map(open);
    }
    out.close_list(open);
}

fn put_version(out: &mut impl Writer, Version { seq, at, content, mentions }: &Version) {
    out.member("seq", &seq.0);
    put_time(out, *at);
    put_mentions(out, mentions);
    put_content(out, content);
}

fn put_tallies(out: &mut impl Writer, tallies: &[Tally]) {
    if tallies.is_empty() {
        return;
    }
    out.key("reactions");
    let open = out.open_list();
    for Tally { message, emoji, count, mine } in tallies {
        out.item();
        let open = out.open_map();
        put_record_id(out, "message", *message);
        out.member("emoji", emoji.as_str());
        out.member("count", &u64::from(*count));
        out.member("mine", mine);
        out.close_map(open);
    }
    out.close_list(open);
}

fn put_in_reply_to(out: &mut impl Writer, InReplyTo { message, by, thread }: &InReplyTo) {
    out.key("reply_to");
    let open = out.open_map();
    put_record_id(out, "message", *message);
    out.member("by", by.as_str());
    put_record_id(out, "thread", *thread);
    out.close_map(open);
}

fn put_forwarded(out: &mut impl Writer, Forwarded { by, at, source: _ }: &Forwarded) {
    out.key("forwarded");
    let open = out.open_map();
    out.member("by", by.as_str());
    put_time(out, *at);
    out.close_map(open);
}

/// Most messages have none, and do not say so.
fn put_attachments(out: &mut impl Writer, attachments: &[Attachment]) {
    if attachments.is_empty() {
        return;
    }
    out.key("attachments");
    let open = out.open_list();
    for Attachment { id, name, media, size } in attachments {
        out.item();
        let open = out.open_map();
        out.member("id", &*id.0.hyphenated().encode_lower(&mut [0; UUID_BYTES]));
        out.member("name", name.as_str());
        out.member("media_type", media.as_str());
        out.member("size", size);
        out.close_map(open);
    }
    out.close_list(open);
}

/// Where it is written down what is decided in `room`, for who may read that.
fn put_audit(out: &mut impl Writer, room: &RoomKey, may: Capabilities) {
    if may.has(Capability::Audit) {
        put_room(out, "audit", RoomId::audit(&room.tenant, room.room));
    }
}

fn put_capabilities(out: &mut impl Writer, name: &str, capabilities: Capabilities) {
    out.key(name);
    let open = out.open_list();
    for capability in capabilities.iter() {
        out.item();
        capability.as_str().put(out);
    }
    out.close_list(open);
}

/// Most messages mention nobody, and do not say so.
fn put_mentions(out: &mut impl Writer, mentions: &[UserId]) {
    if !mentions.is_empty() {
        put_users(out, "mentions", mentions);
    }
}

fn put_users(out: &mut impl Writer, name: &str, users: &[UserId]) {
    out.key(name);
    let open = out.open_list();
    for user in users {
        out.item();
        user.as_str().put(out);
    }
    out.close_list(open);
}

/// The content as the one object it was posted as.
fn put_content(out: &mut impl Writer, content: &Content) {
    put_object(out, "content", content);
}

fn put_object(out: &mut impl Writer, name: &str, content: &Content) {
    out.key(name);
    let open = out.open_map();
    if let Some(text) = &content.text {
        out.member("text", &**text);
    }
    if let Some(body) = &content.body {
        out.members_of(body);
    }
    out.close_map(open);
}

fn put_position(out: &mut impl Writer, room: &RoomKey, position: Position) {
    out.member("seq", &position.seq.0);
    out.member("cursor", &*Cursor::encode(room, position));
}

fn put_time(out: &mut impl Writer, at: Timestamp) {
    out.member("at", &at.0);
}

fn put_room(out: &mut impl Writer, name: &str, RoomId(id): RoomId) {
    put_uuid(out, name, id);
}

fn put_record_id(out: &mut impl Writer, name: &str, RecordId(id): RecordId) {
    put_uuid(out, name, id);
}

fn put_uuid(out: &mut impl Writer, name: &str, id: Uuid) {
    out.member(name, &*id.hyphenated().encode_lower(&mut [0; UUID_BYTES]));
}
