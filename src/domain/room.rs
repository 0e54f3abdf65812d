//! A room: the state its log folds to, and what may be done in it.
//!
//! [`Room::decide`] says what a command leads to and changes nothing; [`Room::apply`] takes note of what happened and
//! cannot refuse. Replaying a log through `apply` always gives the same room.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::channel::{Admission, Admissions};
use super::event::MENTIONS_MAX;
use super::file::ATTACHMENTS_MAX;
use super::policy::{Entry, History, Leave, Policy};
use super::{
    Alias, Attach, Attachments, Capabilities, Capability, Command, Content, Create, Emoji, Event, FileId, Forwarded,
    InReplyTo, Mentions, Name, Num, Original, Position, Principal, Record, RecordId, Rejection, Rights, Role,
    RoomEvent, RoomId, RoomKind, Rules, Seq, Timestamp, UserId,
};

mod audit;
mod collection;
mod moderation;

/// The most members a room may have.
pub const MEMBERS_MAX: usize = 10_000;

/// The most edits of one message: each is a record, and deleting the message erases them all.
pub const EDITS_MAX: usize = 256;

/// In how many ways a user may react to one message, and all users together.
pub const REACTIONS_OF_ONE_MAX: usize = 10;
pub const REACTIONS_MAX: usize = 20;

/// The most messages that are pinned in a room at once.
pub const PINS_MAX: usize = 50;

/// The most users that are banned from a room at once.
pub const BANS_MAX: usize = 10_000;

/// The most users that are muted in a room at once.
pub const MUTES_MAX: usize = 10_000;

/// The most users in a room whose rights differ from what their roles allow.
pub const RIGHTS_MAX: usize = 10_000;

/// What a room is, apart from who is in it: small, and the same until somebody changes the room itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    pub kind: RoomKind,
    pub num: Num,
    pub alias: Option<Alias>,
    pub created_at: Timestamp,
    pub archived: bool,
    /// The last record that has been trimmed; at seq 0 none has.
    pub trimmed: Position,
    pub settings: Settings,
    /// Of an audit room: the room whose decisions it holds; that of the tenant has none.
    pub audits: Option<RoomId>,
    /// Something has been decided in it that its audit room is told of.
    pub audited: bool,
}

/// What may be changed of a room.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Settings {
    pub name: Option<Name>,
    /// Members may see what messages said before they were edited.
    pub edit_history: bool,
    /// How long a member waits from one message to the next; 0 is not at all.
    pub slow_mode_ms: u32,
    pub history: History,
    /// How long what was said is kept; 0 is for ever.
    pub keep_ms: u64,
}

impl Settings {
    /// The same where the operator has decided, too: the shorter time counts.
    pub fn keep_ms(&self, operator: Option<u64>) -> Option<u64> {
        let own = Some(self.keep_ms).filter(|keep_ms| *keep_ms > 0);
        own.into_iter().chain(operator).min()
    }
}

impl Header {
    /// The first record that a member may read.
    pub fn shown_from(&self, member: &Member) -> Seq {
        let may = match self.settings.history {
            History::All => Seq::ZERO.next(),
            History::FromJoin => member.joined.seq(),
        };
        may.max(self.kept_from())
    }

    /// The first record that there is.
    pub fn kept_from(&self) -> Seq {
        self.trimmed.seq.next()
    }

    /// What a member of this role may do, for whom `rights` was decided.
    pub fn allows(&self, role: Role, rights: Rights) -> Capabilities {
        let by_role = self.kind.policy().capabilities(role);
        // Somebody has to answer for a room: whatever was denied before does not bind an owner.
        if role == Role::Owner { by_role } else { rights.over(by_role) }
    }

    /// The same as it holds now: in an archived room nobody may do anything.
    pub fn may(&self, role: Role, rights: Rights) -> Capabilities {
        if self.archived { Capabilities::NONE } else { self.allows(role, rights) }
    }

    /// Refuses who does not have `capability` among those it `may`.
    pub fn check(&self, may: Capabilities, capability: Capability) -> Result<(), Rejection> {
        if self.kind.policy().least(capability).is_none() {
            return Err(Rejection::KindForbids);
        }
        if may.has(capability) { Ok(()) } else { Err(Rejection::Forbidden) }
    }
}

/// Somebody's membership.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    pub role: Role,
    /// The record by which it began; leave and kick name it.
    pub joined: RecordId,
}

/// That somebody may not come into a room.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ban {
    /// Who banned, and when.
    pub by: UserId,
    pub at: Timestamp,
    /// What that user was then: who is less does not take it back.
    pub rank: Role,
    /// When it ends by itself.
    pub until: Option<Timestamp>,
    pub reason: Option<Name>,
}

impl Ban {
    pub fn holds(&self, now: Timestamp) -> bool {
        lasts(self.until, now)
    }
}

/// That somebody may read in a room and not write, member or not: who leaves and comes back is muted still.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mute {
    /// Who muted, when, and what that user was then, as with a [`Ban`].
    pub by: UserId,
    pub at: Timestamp,
    pub rank: Role,
    /// When it ends by itself.
    pub until: Option<Timestamp>,
}

impl Mute {
    /// Refuses what the muted may not do, while it holds.
    pub fn check(&self, now: Timestamp) -> Result<(), Rejection> {
        if self.holds(now) { Err(Rejection::Muted { wait_ms: wait_ms(self.until, now) }) } else { Ok(()) }
    }

    pub fn holds(&self, now: Timestamp) -> bool {
        lasts(self.until, now)
    }
}

fn lasts(until: Option<Timestamp>, now: Timestamp) -> bool {
    until.is_none_or(|until| until > now)
}

/// How long something lasts still that ends at `until`, if it does.
fn wait_ms(until: Option<Timestamp>, now: Timestamp) -> Option<u64> {
    until?.0.saturating_sub(now.0).try_into().ok()
}

/// What a room has to know of a message to decide about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    pub id: RecordId,
    pub author: UserId,
    /// The message that its thread began with, where it is a reply.
    pub thread: Option<RecordId>,
    /// It says what somebody else has said.
    pub forwarded: bool,
    /// Where its edits are recorded, oldest first.
    pub edits: Vec<Seq>,
    pub deleted: bool,
    /// How many users have reacted with what, in the order of the first ones.
    pub reactions: Vec<(Emoji, u32)>,
    /// The files that it refers to.
    pub files: Vec<FileId>,
}

impl Message {
    /// Of the record by which it was posted; `None` where that posted none.
    pub fn of(record: &Record) -> Option<Self> {
        let Event::Room(RoomEvent::MessagePosted { reply, forwarded, attachments, .. }) = &record.event else {
            return None;
        };
        let thread = reply.as_ref().map(|reply| reply.thread);
        Some(Self {
            id: record.id,
            author: record.author.clone(),
            thread,
            forwarded: forwarded.is_some(),
            edits: Vec::new(),
            deleted: false,
            reactions: Vec::new(),
            files: attachments.iter().map(|attachment| attachment.id).collect(),
        })
    }
}

impl Message {
    /// Whether it may be known to `user`, who reads from `shown_from` on: who has posted a message answers for it,
    /// however long ago.
    pub fn is_shown(&self, user: &UserId, shown_from: Option<Seq>) -> bool {
        self.author == *user || shown_from.is_some_and(|first| self.id.seq() >= first)
    }

    /// How many users have reacted with `emoji`.
    pub fn count(&self, emoji: &Emoji) -> u32 {
        self.reactions.iter().find(|(other, _)| other == emoji).map_or(0, |(_, count)| *count)
    }
}

/// That a message stands above the others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pin {
    pub message: RecordId,
    /// Who pinned it, and with which record.
    pub by: UserId,
    pub position: Position,
    pub at: Timestamp,
}

/// A room's state.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Room {
    header: Option<Header>,
    head: Option<Position>,
    members: BTreeMap<UserId, Member>,
    invited: BTreeMap<UserId, Role>,
    /// Also those that have ended and have not been taken away.
    bans: BTreeMap<UserId, Ban>,
    /// Also those that have ended and have not been taken away.
    mutes: BTreeMap<UserId, Mute>,
    /// Also of who has left, as far as they outlast the membership.
    rights: BTreeMap<UserId, Rights>,
    /// Who has blocked the other one of a direct room.
    blocks: BTreeSet<UserId>,
    rules: Arc<Rules>,
    /// Not part of a snapshot: see [`Room::abide`].
    tenant_rules: Arc<Rules>,
    /// The same.
    admissions: Arc<Admissions>,
    /// By where the messages were posted.
    pins: BTreeMap<Seq, Pin>,
    /// When members have posted last, while there is slow mode. Not part of a snapshot: see [`Room::recall`].
    spoken: BTreeMap<UserId, Timestamp>,
    /// Of an audit room: up to where it has taken what was decided.
    taken: Option<Position>,
    /// Of an audit room, and not part of a snapshot: who has reported what of late, and which reports have been seen to.
    reported: BTreeMap<(RecordId, UserId), Seq>,
    resolved: BTreeSet<Seq>,
    /// Of a collection.
    documents: collection::Documents,
    /// The messages that commands referred to of late: see [`Room::know`].
    known: BTreeMap<Seq, Message>,
    /// What some users feel about some of these.
    reacted: BTreeMap<(Seq, UserId), BTreeSet<Emoji>>,
}

/// A command that is being decided: of which room, who asks, and when.
struct Asked<'a> {
    header: &'a Header,
    policy: Policy,
    user: &'a UserId,
    now: Timestamp,
}

/// Everything that a room is at one position, to be kept and woken from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    pub head: Position,
    pub header: Header,
    pub members: BTreeMap<UserId, Member>,
    pub invited: BTreeMap<UserId, Role>,
    pub bans: BTreeMap<UserId, Ban>,
    pub mutes: BTreeMap<UserId, Mute>,
    pub rights: BTreeMap<UserId, Rights>,
    pub blocks: BTreeSet<UserId>,
    pub rules: Arc<Rules>,
    pub pins: BTreeMap<Seq, Pin>,
    pub taken: Option<Position>,
    /// Of a collection: how many documents there are.
    pub documents: u64,
    /// The paths by which these are found, and whether all of them are.
    pub indexes: BTreeMap<Box<str>, bool>,
}

impl Room {
    /// Wakes a room as it was at `snapshot.head`.
    pub fn restore(snapshot: Snapshot) -> Self {
        Self {
            header: Some(snapshot.header),
            head: Some(snapshot.head),
            members: snapshot.members,
            invited: snapshot.invited,
            bans: snapshot.bans,
            mutes: snapshot.mutes,
            rights: snapshot.rights,
            blocks: snapshot.blocks,
            rules: snapshot.rules,
            tenant_rules: Arc::default(),
            admissions: Arc::default(),
            pins: snapshot.pins,
            spoken: BTreeMap::new(),
            taken: snapshot.taken,
            reported: BTreeMap::new(),
            resolved: BTreeSet::new(),
            documents: collection::Documents::restored(snapshot.documents, snapshot.indexes),
            known: BTreeMap::new(),
            reacted: BTreeMap::new(),
        }
    }

    /// What [`Room::restore`] needs; `None` for a room that does not exist yet.
    pub fn snapshot(&self) -> Option<Snapshot> {
        Some(Snapshot {
            head: self.head?,
            header: self.header.clone()?,
            members: self.members.clone(),
            invited: self.invited.clone(),
            bans: self.bans.clone(),
            mutes: self.mutes.clone(),
            rights: self.rights.clone(),
            blocks: self.blocks.clone(),
            rules: Arc::clone(&self.rules),
            pins: self.pins.clone(),
            taken: self.taken,
            documents: self.document_count(),
            indexes: self.indexes().clone(),
        })
    }

    /// The position of the last record taken note of.
    pub fn head(&self) -> Option<Position> {
        self.head
    }

    /// What the room is; `None` while it does not exist.
    pub fn header(&self) -> Option<&Header> {
        self.header.as_ref()
    }

    pub fn member(&self, user: &UserId) -> Option<&Member> {
        self.members.get(user)
    }

    pub fn members(&self) -> impl Iterator<Item = (&UserId, &Member)> {
        self.members.iter()
    }

    /// The role with which `user` is invited.
    pub fn invitation(&self, user: &UserId) -> Option<Role> {
        self.invited.get(user).copied()
    }

    /// The ban of `user`, also one that has ended and has not been taken away.
    pub fn ban(&self, user: &UserId) -> Option<&Ban> {
        self.bans.get(user)
    }

    /// The mute of `user`, also one that has ended and has not been taken away.
    pub fn mute(&self, user: &UserId) -> Option<&Mute> {
        self.mutes.get(user)
    }

    /// What was decided about `user`, whatever the role says.
    pub fn rights(&self, user: &UserId) -> Rights {
        self.rights.get(user).copied().unwrap_or_default()
    }

    /// From now on `rules` hold, too: those of the room's tenant, which its operator decides and no log tells.
    pub fn abide(&mut self, rules: Arc<Rules>, admissions: Arc<Admissions>) {
        self.admissions = admissions;
        self.tenant_rules = rules;
    }

    /// What `user` may do; `None` for who is not a member.
    pub fn may(&self, user: &UserId) -> Option<Capabilities> {
        Some(self.header.as_ref()?.may(self.members.get(user)?.role, self.rights(user)))
    }

    /// The pin of a message; `None` where it is not pinned.
    pub fn pin(&self, message: RecordId) -> Option<&Pin> {
        self.pins.get(&message.seq()).filter(|pin| pin.message == message)
    }

    /// Takes note of a record of before it was woken, as far as slow mode and reports have to know of it. What was deleted
    /// was said.
    pub fn recall(&mut self, record: &Record) {
        if let Event::Room(RoomEvent::MessagePosted { .. } | RoomEvent::MessageErased) = &record.event {
            self.spoke(record);
        }
        self.note_report(record);
    }

    /// Lets the room know a message that the next command refers to. From then on `apply` keeps what is known of it
    /// up to date, so a message is loaded once, however many commands about it are under way.
    pub fn know(&mut self, message: Message) {
        // It may have been trimmed since it was loaded.
        if self.header.as_ref().is_some_and(|header| message.id.seq() < header.kept_from()) {
            return;
        }
        self.known.entry(message.id.seq()).or_insert(message);
    }

    /// The message of this id, if it is known.
    pub fn known(&self, id: RecordId) -> Option<&Message> {
        self.known.get(&id.seq()).filter(|message| message.id == id)
    }

    /// Lets the room know what `user` feels about a message that it knows, as [`Room::know`] does with the message.
    pub fn know_reactions(&mut self, message: RecordId, user: UserId, emojis: BTreeSet<Emoji>) {
        self.reacted.entry((message.seq(), user)).or_insert(emojis);
    }

    /// What `user` feels about a message, if that is known.
    pub fn reactions_of(&self, message: RecordId, user: &UserId) -> Option<&BTreeSet<Emoji>> {
        self.reacted.get(&(message.seq(), user.clone()))
    }

    /// Whether everything is known that it takes to decide about `command`: what it refers to matters only where its
    /// sender can do anything at all.
    pub fn can_decide(&self, user: &UserId, command: &Command) -> bool {
        let acts = self.members.contains_key(user) && self.header.as_ref().is_some_and(|header| !header.archived);
        let knows = |message| {
            self.known(message).is_some() && (!command.reacts() || self.reactions_of(message, user).is_some())
        };
        !acts || command.target().is_none_or(knows)
    }

    /// Forgets the known messages but those in `changed`, by the seqs that they were posted at: every message that a
    /// record has changed which is applied and not committed.
    pub fn forget_messages(&mut self, changed: &BTreeSet<Seq>) {
        self.known.retain(|seq, _| changed.contains(seq));
        self.reacted.retain(|(seq, _), _| changed.contains(seq));
    }

    /// How much is known of messages.
    pub fn known_count(&self) -> usize {
        self.known.len() + self.reacted.len()
    }

    /// Returns the events that `command` leads to, or why not. Changes nothing. No events means that the room is as
    /// asked already. `now` is the time that the record of one would have.
    ///
    /// The message that the command refers to has to be [known](Room::know); one that is not does not exist.
    pub fn decide(&self, by: &Principal, command: Command, now: Timestamp) -> Result<Vec<RoomEvent>, Rejection> {
        let Some(header) = &self.header else {
            return match command {
                Command::Create(create) => created(by, create),
                Command::Audit(audit) => audit::begun(audit),
                Command::Write(write) => collection::begun(&write),
                Command::Update(_)
                | Command::Archive
                | Command::Join
                | Command::Leave
                | Command::Invite { .. }
                | Command::Kick { .. }
                | Command::ChangeRole { .. }
                | Command::ChangeRights { .. }
                | Command::ChangeRules(_)
                | Command::Ban { .. }
                | Command::Unban { .. }
                | Command::Mute { .. }
                | Command::Unmute { .. }
                | Command::Block { .. }
                | Command::Unblock { .. }
                | Command::Post { .. }
                | Command::Forward { .. }
                | Command::Edit { .. }
                | Command::Delete { .. }
                | Command::React { .. }
                | Command::Unreact { .. }
                | Command::Pin { .. }
                | Command::Unpin { .. }
                | Command::Trim { .. }
                | Command::Administer(_)
                | Command::Watch
                | Command::Report(_)
                | Command::ResolveReport { .. } => Err(Rejection::RoomNotFound),
            };
        };
        let user = &by.user;
        let asked = Asked { header, policy: header.kind.policy(), user, now };

        let event = match command {
            Command::Create(_) => return Err(self.existence(&asked, Rejection::RoomExists)),
            Command::Audit(audit) => return self.written_down(&asked, audit),
            Command::Administer(administer) => return self.administered(&asked, administer),
            Command::Write(write) => return self.written(&asked, &write),
            // Its host does it: nothing is recorded.
            Command::Watch => return Ok(Vec::new()),
            Command::Report(report) => return self.report_taken(&asked, report),
            Command::ResolveReport { report, note, found } => {
                return self.report_resolved(&asked, (report, note), found);
            }
            Command::Join => RoomEvent::MemberJoined { user: user.clone(), role: self.entry_role(&asked)? },
            Command::Leave => {
                let member = self.insider(&asked)?;
                self.may_leave(asked.policy, member)?;
                RoomEvent::MemberLeft { user: user.clone(), joined: member.joined }
            }
            Command::Update(update) => {
                self.acting(&asked, Capability::Update)?;
                let settings = update.of(&header.settings);
                if settings == header.settings {
                    return Ok(Vec::new());
                }
                if settings.keep_ms != header.settings.keep_ms {
                    // It deletes what others have said.
                    self.acting(&asked, Capability::Delete)?;
                }
                RoomEvent::RoomUpdated(settings)
            }
            Command::Archive if *user == UserId::operator() => {
                // It answers for the machine, and is no member of anything.
                if header.kind == RoomKind::Audit {
                    return Err(Rejection::KindForbids);
                }
                if header.archived {
                    return Err(Rejection::RoomArchived);
                }
                RoomEvent::RoomArchived
            }
            Command::Archive => {
                self.acting(&asked, Capability::Archive)?;
                RoomEvent::RoomArchived
            }
            Command::Invite { user: guest, role } => return self.invited(&asked, guest, role),
            Command::Kick { user: target, reason } => self.kicked(&asked, target, reason)?,
            Command::ChangeRole { user: target, role } => return self.role_changed(&asked, target, role),
            Command::ChangeRights { user: target, rights } => return self.rights_changed(&asked, target, rights),
            Command::ChangeRules(change) => {
                self.acting(&asked, Capability::Update)?;
                let rules = self.rules.changed(change);
                if rules == *self.rules {
                    return Ok(Vec::new());
                }
                RoomEvent::RulesChanged(Box::new(rules))
            }
            Command::Ban { user: target, until, reason } => return self.banned(&asked, target, until, reason),
            Command::Unban { user: target } => return self.unbanned(&asked, target),
            Command::Mute { user: target, until } => return self.muted(&asked, target, until),
            Command::Unmute { user: target } => return self.unmuted(&asked, target),
            Command::Block { user: target } => return self.blocked(&asked, target),
            Command::Unblock { user: target } => return self.unblocked(&asked, target),
            Command::Post { content, reply_to, mentions, attachments } => {
                let may = self.posting(&asked)?;
                if attachments.is_empty() || content != Content::default() {
                    checked(&content)?;
                }
                self.allowed(may, &content)?;
                let (reply, mentions) = (self.in_reply_to(&asked, reply_to)?, self.mentioned(mentions)?);
                let attachments = attached(attachments)?;
                RoomEvent::MessagePosted { content, reply, mentions, forwarded: None, attachments }
            }
            Command::Forward { source, reply_to, mentions } => {
                let may = self.posting(&asked)?;
                let tag = source.tag();
                let Original { content, attachments, by, at } = source.original.ok_or(Rejection::MessageNotFound)?;
                self.allowed(may, &content)?;
                let (reply, mentions) = (self.in_reply_to(&asked, reply_to)?, self.mentioned(mentions)?);
                let forwarded = Some(Box::new(Forwarded { by, at, source: tag }));
                RoomEvent::MessagePosted { content, reply, mentions, forwarded, attachments }
            }
            Command::Edit { message, content, mentions } => {
                let may = self.speaking(&asked, Capability::Post)?;
                let message = self.standing(&asked, message)?;
                // What somebody else has said is forwarded as it was said.
                if message.author != *user || message.forwarded {
                    return Err(Rejection::NotAuthor);
                }
                if message.edits.len() >= EDITS_MAX {
                    return Err(Rejection::TooManyEdits);
                }
                checked(&content)?;
                self.allowed(may, &content)?;
                let (message, by) = (message.id, message.author.clone());
                RoomEvent::MessageEdited { message, by, content, mentions: self.mentioned(mentions)? }
            }
            Command::Delete { message } => {
                let (_, may) = self.active(&asked)?;
                let moderates = may.has(Capability::Delete);
                let message = self.standing_for(&asked, moderates, message)?;
                if message.author != *user && !moderates {
                    return Err(Rejection::Forbidden);
                }
                RoomEvent::MessageDeleted { message: message.id, by: message.author.clone() }
            }
            Command::React { message, emoji } => {
                self.speaking(&asked, Capability::React)?;
                let message = self.standing(&asked, message)?;
                let own = self.reactions_of(message.id, user).ok_or(Rejection::MessageNotFound)?;
                if own.contains(&emoji) {
                    return Ok(Vec::new());
                }
                let count = message.count(&emoji);
                if own.len() >= REACTIONS_OF_ONE_MAX || (count == 0 && message.reactions.len() >= REACTIONS_MAX) {
                    return Err(Rejection::TooManyReactions);
                }
                RoomEvent::ReactionAdded { message: message.id, by: message.author.clone(), emoji, count: count + 1 }
            }
            Command::Unreact { message, emoji } => {
                self.active(&asked)?;
                let message = self.standing(&asked, message)?;
                let own = self.reactions_of(message.id, user).ok_or(Rejection::MessageNotFound)?;
                if !own.contains(&emoji) {
                    return Ok(Vec::new());
                }
                let count = message.count(&emoji).saturating_sub(1);
                RoomEvent::ReactionRemoved { message: message.id, by: message.author.clone(), emoji, count }
            }
            Command::Pin { message } => {
                self.pinning(&asked)?;
                let message = self.standing(&asked, message)?;
                if self.pin(message.id).is_some() {
                    return Ok(Vec::new());
                }
                if self.pins.len() >= PINS_MAX {
                    return Err(Rejection::TooManyPins);
                }
                RoomEvent::MessagePinned { message: message.id, by: message.author.clone() }
            }
            Command::Unpin { message } => {
                self.pinning(&asked)?;
                let message = self.standing_for(&asked, true, message)?;
                if self.pin(message.id).is_none() {
                    return Ok(Vec::new());
                }
                RoomEvent::MessageUnpinned { message: message.id, by: message.author.clone() }
            }
            Command::Trim { until, at, operator } => {
                if *user != UserId::operator() {
                    return Err(self.existence(&asked, Rejection::Forbidden));
                }
                let is_due = header.settings.keep_ms(operator).is_some_and(|keep_ms| at.is_past(keep_ms, now));
                let is_there = until.seq >= header.kept_from() && self.head.is_some_and(|head| until.seq <= head.seq);
                if !(is_due && is_there) {
                    return Ok(Vec::new());
                }
                RoomEvent::HistoryTrimmed { until }
            }
        };
        Ok(vec![event])
    }

    /// Takes note of a record. Cannot refuse: what is in the log has happened.
    pub fn apply(&mut self, record: &Record) {
        self.head = Some(record.position);
        let Event::Room(event) = &record.event else { return };
        if let Some(header) = &mut self.header {
            header.audited |= header.is_audited_for(record);
        }
        match event {
            RoomEvent::RoomCreated { kind, alias, num, name, audits } => {
                self.header = Some(Header {
                    kind: *kind,
                    num: *num,
                    alias: alias.clone(),
                    created_at: record.at,
                    archived: false,
                    trimmed: Position::start(record.position.epoch),
                    settings: Settings { name: name.clone(), ..Settings::default() },
                    audits: *audits,
                    audited: false,
                });
            }
            RoomEvent::RoomUpdated(settings) => {
                if let Some(header) = &mut self.header {
                    header.settings.clone_from(settings);
                }
                if settings.slow_mode_ms == 0 {
                    self.spoken.clear();
                }
            }
            RoomEvent::DocumentCreated { .. }
            | RoomEvent::DocumentUpdated { .. }
            | RoomEvent::DocumentDeleted { .. } => self.note_document(record),
            RoomEvent::RoomArchived => {
                if let Some(header) = &mut self.header {
                    header.archived = true;
                }
            }
            RoomEvent::MemberJoined { user, role } => {
                self.invited.remove(user);
                self.members.insert(user.clone(), Member { role: *role, joined: record.id });
            }
            RoomEvent::MemberInvited { user, role } => {
                self.invited.insert(user.clone(), *role);
            }
            RoomEvent::MemberLeft { user, .. } | RoomEvent::MemberKicked { user, .. } => {
                self.members.remove(user);
                self.decided(user, self.rights(user).after_membership());
            }
            RoomEvent::MemberBanned { user, until, reason, .. } => {
                let rank = self.rank(&record.author);
                self.members.remove(user);
                self.invited.remove(user);
                self.decided(user, self.rights(user).after_membership());
                let (by, at, until, reason) = (record.author.clone(), record.at, *until, reason.clone());
                self.bans.insert(user.clone(), Ban { by, at, rank, until, reason });
            }
            RoomEvent::MemberUnbanned { user } => {
                self.bans.remove(user);
            }
            RoomEvent::MemberMuted { user, until } => {
                let (by, at, rank) = (record.author.clone(), record.at, self.rank(&record.author));
                self.mutes.insert(user.clone(), Mute { by, at, rank, until: *until });
            }
            RoomEvent::MemberUnmuted { user } => {
                self.mutes.remove(user);
            }
            RoomEvent::MemberBlocked { .. } => {
                self.blocks.insert(record.author.clone());
            }
            RoomEvent::MemberUnblocked { .. } => {
                self.blocks.remove(&record.author);
            }
            RoomEvent::RoleChanged { user, role, .. } => {
                if let Some(member) = self.members.get_mut(user) {
                    member.role = *role;
                }
            }
            RoomEvent::RightsChanged { user, rights, .. } => self.decided(user, *rights),
            RoomEvent::RulesChanged(rules) => self.rules = Arc::new(Rules::clone(rules)),
            RoomEvent::MessageEdited { message, .. } => {
                if let Some(known) = self.known.get_mut(&message.seq()) {
                    known.edits.push(record.position.seq);
                }
            }
            RoomEvent::MessageDeleted { message, .. } => {
                self.pins.remove(&message.seq());
                if let Some(known) = self.known.get_mut(&message.seq()) {
                    known.deleted = true;
                    known.reactions.clear();
                }
            }
            RoomEvent::ReactionAdded { message, emoji, count, .. } => {
                self.reacted_to(*message, emoji, *count);
                if let Some(own) = self.reacted.get_mut(&(message.seq(), record.author.clone())) {
                    own.insert(emoji.clone());
                }
            }
            RoomEvent::ReactionRemoved { message, emoji, count, .. } => {
                self.reacted_to(*message, emoji, *count);
                if let Some(own) = self.reacted.get_mut(&(message.seq(), record.author.clone())) {
                    own.remove(emoji);
                }
            }
            RoomEvent::MessagePinned { message, .. } => {
                let (by, position, at) = (record.author.clone(), record.position, record.at);
                self.pins.insert(message.seq(), Pin { message: *message, by, position, at });
            }
            RoomEvent::MessageUnpinned { message, .. } => {
                self.pins.remove(&message.seq());
            }
            RoomEvent::MessagePosted { .. } => self.spoke(record),
            RoomEvent::HistoryTrimmed { until } => self.forget_up_to(*until),
            RoomEvent::Audited(audited) => self.taken = Some(audited.position),
            RoomEvent::Reported(_) | RoomEvent::ReportResolved { .. } => self.note_report(record),
            RoomEvent::Administered(_) | RoomEvent::MessageErased => {}
        }
    }

    fn forget_up_to(&mut self, until: Position) {
        if let Some(header) = &mut self.header {
            header.trimmed = until;
        }
        self.pins.retain(|seq, _| *seq > until.seq);
        self.known.retain(|seq, _| *seq > until.seq);
        self.reacted.retain(|(seq, _), _| *seq > until.seq);
    }

    /// What somebody is who decides about others.
    fn rank(&self, user: &UserId) -> Role {
        self.members.get(user).map_or(Role::Viewer, |member| member.role)
    }

    fn decided(&mut self, user: &UserId, rights: Rights) {
        if rights.is_empty() {
            self.rights.remove(user);
        } else {
            self.rights.insert(user.clone(), rights);
        }
    }

    /// `refusal` for those who may know that the room exists, `RoomNotFound` for the others: an answer must not tell
    /// a stranger more than silence would.
    fn existence(&self, asked: &Asked, refusal: Rejection) -> Rejection {
        let known = self.members.contains_key(asked.user) || self.invited.contains_key(asked.user);
        if asked.policy.is_known_to(known) { refusal } else { Rejection::RoomNotFound }
    }

    fn insider(&self, asked: &Asked) -> Result<&Member, Rejection> {
        self.members.get(asked.user).ok_or_else(|| self.existence(asked, Rejection::NotMember))
    }

    /// The member that asks and what it may do, provided that the room can be changed.
    fn active(&self, asked: &Asked) -> Result<(&Member, Capabilities), Rejection> {
        let member = self.insider(asked)?;
        if asked.header.archived {
            return Err(Rejection::RoomArchived);
        }
        Ok((member, asked.header.allows(member.role, self.rights(asked.user))))
    }

    /// The same, provided that this is among it.
    fn acting(&self, asked: &Asked, capability: Capability) -> Result<(&Member, Capabilities), Rejection> {
        let (member, may) = self.active(asked)?;
        asked.header.check(may, capability)?;
        Ok((member, may))
    }

    /// The same for who says something, and may not be muted; in a direct room nobody is heard who has been blocked, or
    /// has blocked the other.
    fn speaking(&self, asked: &Asked, capability: Capability) -> Result<Capabilities, Rejection> {
        let (_, may) = self.acting(asked, capability)?;
        if !self.blocks.is_empty() {
            return Err(Rejection::Blocked);
        }
        self.mutes.get(asked.user).map_or(Ok(()), |mute| mute.check(asked.now))?;
        Ok(may)
    }

    /// The same for who puts something above the rest.
    fn pinning(&self, asked: &Asked) -> Result<(), Rejection> {
        self.acting(asked, Capability::Pin)?;
        if self.blocks.is_empty() { Ok(()) } else { Err(Rejection::Blocked) }
    }

    /// The same for who says something new, and may have to wait for it.
    fn posting(&self, asked: &Asked) -> Result<Capabilities, Rejection> {
        let may = self.speaking(asked, Capability::Post)?;
        if may.has(Capability::BypassSlowMode) {
            return Ok(may);
        }
        let slow_mode_ms = asked.header.settings.slow_mode_ms.into();
        let due = self.spoken.get(asked.user).map(|last| Timestamp(last.0.saturating_add(slow_mode_ms)));
        match wait_ms(due.filter(|due| *due > asked.now), asked.now) {
            Some(wait_ms) => Err(Rejection::SlowMode { wait_ms }),
            None => Ok(may),
        }
    }

    /// Refuses content that the rules do not allow, of the room or of its tenant, for who may not say it all the same.
    fn allowed(&self, may: Capabilities, content: &Content) -> Result<(), Rejection> {
        if may.has(Capability::BypassRules) {
            return Ok(());
        }
        self.rules.check(content)?;
        self.tenant_rules.check(content)
    }

    fn spoke(&mut self, record: &Record) {
        let Some(header) = self.header.as_ref().filter(|header| header.settings.slow_mode_ms > 0) else { return };
        if self.spoken.len() >= MEMBERS_MAX {
            let since = record.at.0.saturating_sub(header.settings.slow_mode_ms.into());
            // Who comes, speaks and leaves again and again must not make it grow.
            self.spoken.retain(|user, last| last.0 > since && self.members.contains_key(user));
        }
        self.spoken.insert(record.author.clone(), record.at);
    }

    fn entry_role(&self, &Asked { header, policy, user, now }: &Asked) -> Result<Role, Rejection> {
        if self.members.contains_key(user) {
            return Err(Rejection::AlreadyMember);
        }
        let invitation = self.invitation(user);
        let role = match policy.entry {
            Entry::Open => {
                let admission = header.alias.as_ref().map_or(Admission::Members, |alias| self.admissions.of(alias));
                admission.role(invitation).ok_or(Rejection::Forbidden)?
            }
            Entry::Invited => invitation.ok_or(Rejection::RoomNotFound)?,
            Entry::Added | Entry::Closed => return Err(Rejection::RoomNotFound),
        };
        // In a room that is not known to strangers they have no invitation, and have been answered as any stranger.
        if let Some(ban) = self.bans.get(user).filter(|ban| ban.holds(now)) {
            return Err(Rejection::Banned { wait_ms: wait_ms(ban.until, now) });
        }
        if header.archived {
            return Err(Rejection::RoomArchived);
        }
        if self.members.len() >= MEMBERS_MAX {
            return Err(Rejection::RoomFull);
        }
        // Whoever comes into an empty room answers for it from then on.
        Ok(if self.members.is_empty() { policy.creator } else { role })
    }

    fn may_leave(&self, policy: Policy, member: &Member) -> Result<(), Rejection> {
        let owner = member.role == Role::Owner;
        match policy.leave {
            Leave::Never => Err(Rejection::KindForbids),
            Leave::UnlessOwner if owner => Err(Rejection::LastOwner),
            Leave::UnlessLastOwner if owner && self.owners() == 1 && self.members.len() > 1 => {
                Err(Rejection::LastOwner)
            }
            Leave::UnlessOwner | Leave::UnlessLastOwner => Ok(()),
        }
    }

    /// A message that has not been deleted, and that the member who asks may read or has posted.
    fn standing(&self, asked: &Asked, id: RecordId) -> Result<&Message, Rejection> {
        let shown_from = self.members.get(asked.user).map(|member| asked.header.shown_from(member));
        let known = self.known(id).filter(|message| message.is_shown(asked.user, shown_from));
        undeleted(known)
    }

    /// The same for who answers for the room, also for what was said before; nothing of it is shown.
    fn standing_for(&self, asked: &Asked, moderates: bool, id: RecordId) -> Result<&Message, Rejection> {
        if moderates { undeleted(self.known(id)) } else { self.standing(asked, id) }
    }

    fn reacted_to(&mut self, message: RecordId, emoji: &Emoji, count: u32) {
        let Some(known) = self.known.get_mut(&message.seq()) else { return };
        let at = known.reactions.iter().position(|(other, _)| other == emoji);
        match (at, count) {
            (Some(at), 0) => drop(known.reactions.remove(at)),
            (Some(at), count) => known.reactions[at].1 = count,
            (None, 0) => {}
            (None, count) => known.reactions.push((emoji.clone(), count)),
        }
    }

    fn in_reply_to(&self, asked: &Asked, message: Option<RecordId>) -> Result<Option<Box<InReplyTo>>, Rejection> {
        let Some(message) = message else { return Ok(None) };
        let message = self.standing(asked, message)?;
        let (id, by) = (message.id, message.author.clone());
        Ok(Some(Box::new(InReplyTo { message: id, by, thread: message.thread.unwrap_or(id) })))
    }

    /// Each of them once; all have to be members.
    fn mentioned(&self, mut users: Vec<UserId>) -> Result<Mentions, Rejection> {
        users.sort_unstable();
        users.dedup();
        if users.len() > MENTIONS_MAX {
            return Err(Rejection::TooManyMentions);
        }
        if users.iter().any(|user| !self.members.contains_key(user)) {
            return Err(Rejection::NoSuchMember);
        }
        Ok(users.into())
    }
}

fn created(by: &Principal, create: Create) -> Result<Vec<RoomEvent>, Rejection> {
    let Create { kind, num, alias, name, members } = create;
    let policy = kind.policy();
    if !RoomKind::MADE_BY_USERS.contains(&kind) {
        return Err(Rejection::KindForbids);
    }
    if policy.needs_alias && alias.is_none() {
        return Err(Rejection::AliasRequired);
    }
    if members.len() >= MEMBERS_MAX {
        return Err(Rejection::RoomFull);
    }
    let others: BTreeMap<UserId, Role> = members.into_iter().filter(|(user, _)| *user != by.user).collect();
    if kind == RoomKind::Direct && others.len() != 1 {
        return Err(Rejection::NotAPair);
    }
    let joined = |(user, role)| match kind {
        RoomKind::Direct => RoomEvent::MemberJoined { user, role: policy.creator },
        RoomKind::Channel
        | RoomKind::Group
        | RoomKind::Box
        | RoomKind::Canvas
        | RoomKind::Collection
        | RoomKind::Audit => match policy.entry {
            Entry::Added => RoomEvent::MemberJoined { user, role },
            Entry::Open | Entry::Invited | Entry::Closed => RoomEvent::MemberInvited { user, role },
        },
    };
    let mut events = vec![
        RoomEvent::RoomCreated { kind, alias, num, name, audits: None },
        RoomEvent::MemberJoined { user: by.user.clone(), role: policy.creator },
    ];
    events.extend(others.into_iter().map(joined));
    Ok(events)
}

fn undeleted(message: Option<&Message>) -> Result<&Message, Rejection> {
    let message = message.ok_or(Rejection::MessageNotFound)?;
    if message.deleted { Err(Rejection::MessageDeleted) } else { Ok(message) }
}

/// Each of them once, in the order they were named.
fn attached(attachments: Vec<Attach>) -> Result<Attachments, Rejection> {
    if attachments.len() > ATTACHMENTS_MAX {
        return Err(Rejection::TooManyAttachments);
    }
    let mut attached = Vec::new();
    for Attach { found, .. } in attachments {
        let found = found.ok_or(Rejection::FileNotFound)?;
        if !attached.contains(&found) {
            attached.push(found);
        }
    }
    Ok(attached.into())
}

fn checked(content: &Content) -> Result<(), Rejection> {
    match content.bytes() {
        1..=Content::BYTES_MAX => Ok(()),
        _ => Err(Rejection::ContentSize),
    }
}

#[cfg(test)]
mod tests;
