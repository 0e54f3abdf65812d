//! The members of each command, as they are written.

use serde::Deserialize;
use serde::de::Deserializer;

use super::lists::{Files, Invitees, Mentioned, UserList};
use super::notation::Object;
use super::values::{Declared, Parsed, RoomText};
use crate::domain::policy;
use crate::domain::profile::{Audience, Avatar, ContactHash, Email, Telephone};
use crate::domain::rules::Links;
use crate::domain::{Alias, Capability, ClientId, Emoji, Name, RecordId, Role, RoomId, RoomKind, UserId};
use crate::wire::Activity;
use crate::wire::native::content::{Content, Text};

#[derive(Deserialize)]
pub struct Auth<'a> {
    #[serde(borrow)]
    pub token: Text<'a>,
}

#[derive(Deserialize)]
pub struct Create {
    pub kind: Parsed<RoomKind>,
    pub alias: Option<Parsed<Alias>>,
    pub name: Option<Parsed<Name>>,
    pub members: Option<Invitees>,
}

/// A `name` that is null is none; one that is not there stays.
#[derive(Deserialize)]
pub struct Update {
    pub room: RoomText,
    #[serde(default, deserialize_with = "said")]
    pub name: Option<Option<Parsed<Name>>>,
    pub edit_history: Option<bool>,
    pub slow_mode_ms: Option<u32>,
    pub history: Option<Parsed<policy::History>>,
    pub keep_ms: Option<u64>,
}

#[derive(Deserialize)]
pub struct Room {
    pub room: RoomText,
}

#[derive(Deserialize)]
pub struct Invite {
    pub room: RoomText,
    pub user: Parsed<UserId>,
    pub role: Option<Parsed<Role>>,
}

#[derive(Deserialize)]
pub struct Report {
    pub room: RoomText,
    pub message: Parsed<RecordId>,
    pub reason: Option<Parsed<Name>>,
}

#[derive(Deserialize)]
pub struct ResolveReport {
    pub room: RoomText,
    pub report: Parsed<RecordId>,
    pub note: Option<Parsed<Name>>,
}

#[derive(Deserialize)]
pub struct Kick {
    pub room: RoomText,
    pub user: Parsed<UserId>,
    pub reason: Option<Parsed<Name>>,
}

#[derive(Deserialize)]
pub struct Ban {
    pub room: RoomText,
    pub user: Parsed<UserId>,
    pub until: Option<i64>,
    pub reason: Option<Parsed<Name>>,
}

#[derive(Deserialize)]
pub struct Mute {
    pub room: RoomText,
    pub user: Parsed<UserId>,
    pub until: Option<i64>,
}

/// The commands that name a user and nothing else.
#[derive(Deserialize)]
pub struct OfUser {
    pub room: RoomText,
    pub user: Parsed<UserId>,
}

#[derive(Deserialize)]
pub struct ChangeRole {
    pub room: RoomText,
    pub user: Parsed<UserId>,
    pub role: Parsed<Role>,
}

/// What is not there is none.
#[derive(Deserialize)]
pub struct ChangeRules {
    pub room: RoomText,
    pub words: Option<Vec<String>>,
    pub links: Option<Parsed<Links>>,
    pub hosts: Option<Vec<String>>,
}

#[derive(Deserialize)]
pub struct ChangeRights {
    pub room: RoomText,
    pub user: Parsed<UserId>,
    pub allow: Option<Vec<Parsed<Capability>>>,
    pub deny: Option<Vec<Parsed<Capability>>>,
}

#[derive(Deserialize)]
pub struct Post {
    pub room: RoomText,
    pub content: Option<Content>,
    pub attachments: Option<Files>,
    pub forward: Option<Object<OfMessage>>,
    pub reply_to: Option<Parsed<RecordId>>,
    pub mentions: Option<Mentioned>,
    pub client_id: Option<Parsed<ClientId>>,
}

#[derive(Deserialize)]
pub struct Edit {
    pub room: RoomText,
    pub message: Parsed<RecordId>,
    pub content: Content,
    pub mentions: Option<Mentioned>,
    pub client_id: Option<Parsed<ClientId>>,
}

#[derive(Deserialize)]
pub struct Delete {
    pub room: RoomText,
    pub message: Parsed<RecordId>,
    pub client_id: Option<Parsed<ClientId>>,
}

/// The commands that name a message and nothing else, and what is forwarded.
#[derive(Deserialize)]
pub struct OfMessage {
    pub room: RoomText,
    pub message: Parsed<RecordId>,
}

#[derive(Deserialize)]
pub struct React {
    pub room: RoomText,
    pub message: Parsed<RecordId>,
    pub emoji: Parsed<Emoji>,
}

#[derive(Deserialize)]
pub struct Reactions {
    pub room: RoomText,
    pub message: Parsed<RecordId>,
    pub emoji: Parsed<Emoji>,
    pub after: Option<Parsed<UserId>>,
    pub limit: Option<u64>,
}

#[derive(Deserialize)]
pub struct Follow<'a> {
    pub room: RoomText,
    #[serde(borrow)]
    pub from: Option<Text<'a>>,
}

#[derive(Deserialize)]
pub struct FollowAll<'a> {
    #[serde(borrow)]
    pub from: Option<Text<'a>>,
}

#[derive(Deserialize)]
pub struct Nothing {}

#[derive(Deserialize)]
pub struct History<'a> {
    pub room: RoomText,
    #[serde(borrow)]
    pub before: Option<Text<'a>>,
    pub limit: Option<u64>,
}

#[derive(Deserialize)]
pub struct Thread<'a> {
    pub room: RoomText,
    pub message: Parsed<RecordId>,
    #[serde(borrow)]
    pub after: Option<Text<'a>>,
    pub limit: Option<u64>,
}

#[derive(Deserialize)]
pub struct Rooms {
    pub after: Option<Parsed<RoomId>>,
    pub limit: Option<u64>,
}

#[derive(Deserialize)]
pub struct Members {
    pub room: RoomText,
    pub after: Option<Parsed<UserId>>,
    pub limit: Option<u64>,
}

#[derive(Deserialize)]
pub struct Said {
    pub presence: Parsed<Declared>,
}

#[derive(Deserialize)]
pub struct Typing {
    pub room: RoomText,
    pub typing: Option<bool>,
}

#[derive(Deserialize)]
pub struct Readers {
    pub room: RoomText,
    pub message: Parsed<RecordId>,
    pub after: Option<Parsed<UserId>>,
    pub limit: Option<u64>,
}

#[derive(Deserialize)]
pub struct Inbox {
    pub archived: Option<bool>,
    pub after: Option<Parsed<Activity>>,
    pub limit: Option<u64>,
}

#[derive(Deserialize)]
pub struct InboxChanges<'a> {
    #[serde(borrow)]
    pub since: Text<'a>,
    pub limit: Option<u64>,
}

/// What is not there stays; null takes away.
#[derive(Deserialize)]
pub struct InboxUpdate<'a> {
    pub room: RoomText,
    pub delivered_to: Option<u64>,
    pub read_to: Option<u64>,
    #[serde(default, deserialize_with = "said")]
    pub muted_until: Option<Option<i64>>,
    pub pinned: Option<bool>,
    pub archived: Option<bool>,
    #[serde(borrow, default, deserialize_with = "said")]
    pub draft: Option<Option<Text<'a>>>,
}

#[derive(Deserialize)]
pub struct Hidden {
    pub room: RoomText,
    pub after: Option<Parsed<RecordId>>,
    pub limit: Option<u64>,
}

#[derive(Deserialize)]
pub struct SettingsUpdate {
    pub private_reading: Option<bool>,
    pub contacts: Option<Parsed<Audience>>,
    pub invisible: Option<bool>,
}

/// What is null is taken away; what is not there stays.
#[derive(Deserialize)]
pub struct ProfileUpdate {
    #[serde(default, deserialize_with = "said")]
    pub name: Option<Option<Parsed<Name>>>,
    #[serde(default, deserialize_with = "said")]
    pub avatar: Option<Option<Parsed<Avatar>>>,
    #[serde(default, deserialize_with = "said")]
    pub about: Option<Option<Parsed<Name>>>,
    #[serde(default, deserialize_with = "said")]
    pub email: Option<Option<Parsed<Email>>>,
    #[serde(default, deserialize_with = "said")]
    pub telephone: Option<Option<Parsed<Telephone>>>,
    #[serde(default, deserialize_with = "said")]
    pub fields: Option<Option<Content>>,
}

#[derive(Deserialize)]
pub struct Blocking {
    pub user: Parsed<UserId>,
}

#[derive(Deserialize)]
pub struct Blocks {
    pub after: Option<Parsed<UserId>>,
    pub limit: Option<u64>,
}

#[derive(Deserialize)]
pub struct Users {
    pub users: UserList,
}

#[derive(Deserialize)]
pub struct FindUsers {
    pub hashes: Vec<Parsed<ContactHash>>,
}

/// A member that is there, and be it null.
fn said<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}
