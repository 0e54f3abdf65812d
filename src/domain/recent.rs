//! The publications of late by their authors' own ids, so that sending one again leads to the same record.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{
    ClientId, Command, Content, Event, FileId, Num, Position, Record, RecordId, RoomEvent, Seq, Timestamp, UserId,
};

/// How many publications a room remembers. `docs/protocols/native.md` promises it.
pub const COUNT_MAX: usize = 10_000;

/// For how long a room remembers a publication, in milliseconds: a day. `docs/protocols/native.md` promises it.
pub const AGE_MAX_MS: i64 = 24 * 60 * 60 * 1000;

/// What an author is told of what was published.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Receipt {
    pub position: Position,
    pub id: RecordId,
    pub num: Num,
    pub at: Timestamp,
}

impl Receipt {
    pub fn of(record: &Record) -> Self {
        Self { position: record.position, id: record.id, num: record.num, at: record.at }
    }
}

/// A room's index of recent publications: the last [`COUNT_MAX`], none older than [`AGE_MAX_MS`]. Rebuilt from the
/// tail of the log when the room wakes.
#[derive(Clone, Debug, Default)]
pub struct Recent {
    by_key: BTreeMap<(UserId, ClientId), Entry>,
    by_age: VecDeque<(Timestamp, UserId, ClientId)>,
}

#[derive(Clone, Debug)]
struct Entry {
    receipt: Receipt,
    said: Said,
}

/// What was published, as far as it takes to tell whether a repetition says the same.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Said {
    /// With what it answers.
    Posted(Option<RecordId>, u64),
    /// With what it answers, the tag of its source, and its mentions.
    Forwarded(Option<RecordId>, u64, u64),
    Edited(RecordId, u64),
    Deleted(RecordId),
    /// Its content is gone; whatever is repeated counts as the same.
    Erased,
}

/// What is known of a client id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seen {
    Never,
    /// The same was published before, with this result.
    Before(Receipt),
    /// The client id was used for something else.
    Otherwise,
}

impl Recent {
    /// Looks up what `author` published as `client_id`, and compares it with what `command` asks for now.
    pub fn seen(&self, author: &UserId, client_id: &ClientId, command: &Command, now: Timestamp) -> Seen {
        let Some(entry) = self.by_key.get(&(author.clone(), client_id.clone())) else { return Seen::Never };
        if entry.receipt.at.0 + AGE_MAX_MS < now.0 {
            return Seen::Never;
        }
        if entry.said == Said::Erased || asked(command).is_some_and(|asked| asked == entry.said) {
            Seen::Before(entry.receipt)
        } else {
            Seen::Otherwise
        }
    }

    /// Takes note of a record.
    pub fn apply(&mut self, record: &Record) {
        let (Some(client_id), Event::Room(event)) = (&record.client_id, &record.event) else { return };
        let Some(said) = said(event) else { return };
        let key = (record.author.clone(), client_id.clone());
        self.by_age.push_back((record.at, key.0.clone(), key.1.clone()));
        self.by_key.insert(key, Entry { receipt: Receipt::of(record), said });
        while self.by_age.len() > COUNT_MAX
            || self.by_age.front().is_some_and(|(at, ..)| at.0 + AGE_MAX_MS < record.at.0)
        {
            let Some((at, author, client_id)) = self.by_age.pop_front() else { break };
            let key = (author, client_id);
            // The id may have been used again since; then the younger entry stays.
            if self.by_key.get(&key).is_some_and(|entry| entry.receipt.at == at) {
                self.by_key.remove(&key);
            }
        }
    }

    /// The first record that the tail has to be read from to rebuild the index of a room whose head is `head`.
    pub fn tail_from(head: Seq) -> Seq {
        Seq(head.0.saturating_sub(COUNT_MAX as u64))
    }
}

fn asked(command: &Command) -> Option<Said> {
    match command {
        Command::Post { content, reply_to, mentions, attachments } => {
            // As the room takes them.
            let mentions: BTreeSet<&UserId> = mentions.iter().collect();
            let said = digest(content, mentions) ^ files(attachments.iter().map(|attach| attach.file));
            Some(Said::Posted(*reply_to, said))
        }
        Command::Forward { source, reply_to, mentions } => {
            let mentions: BTreeSet<&UserId> = mentions.iter().collect();
            Some(Said::Forwarded(*reply_to, source.tag(), digest(&Content::default(), mentions)))
        }
        Command::Edit { message, content, mentions } => {
            let mentions: BTreeSet<&UserId> = mentions.iter().collect();
            Some(Said::Edited(*message, digest(content, mentions)))
        }
        Command::Delete { message } => Some(Said::Deleted(*message)),
        Command::Create(_)
        | Command::Update(_)
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
        | Command::React { .. }
        | Command::Unreact { .. }
        | Command::Write(_)
        | Command::Audit(_)
        | Command::Administer(_)
        | Command::Watch
        | Command::Report(_)
        | Command::ResolveReport { .. }
        | Command::Pin { .. }
        | Command::Unpin { .. }
        | Command::Trim { .. } => None,
    }
}

fn said(event: &RoomEvent) -> Option<Said> {
    match event {
        RoomEvent::MessagePosted { content, reply, mentions, forwarded, attachments } => {
            let reply_to = reply.as_ref().map(|reply| reply.message);
            Some(match forwarded {
                Some(forwarded) => Said::Forwarded(reply_to, forwarded.source, digest(&Content::default(), mentions)),
                None => {
                    let said = digest(content, mentions) ^ files(attachments.iter().map(|attachment| attachment.id));
                    Said::Posted(reply_to, said)
                }
            })
        }
        RoomEvent::MessageEdited { message, content, mentions, .. } => {
            Some(Said::Edited(*message, digest(content, mentions)))
        }
        RoomEvent::MessageDeleted { message, .. } => Some(Said::Deleted(*message)),
        RoomEvent::MessageErased => Some(Said::Erased),
        RoomEvent::RoomCreated { .. }
        | RoomEvent::RoomUpdated(_)
        | RoomEvent::RoomArchived
        | RoomEvent::DocumentCreated { .. }
        | RoomEvent::DocumentUpdated { .. }
        | RoomEvent::DocumentDeleted { .. }
        | RoomEvent::MemberJoined { .. }
        | RoomEvent::MemberInvited { .. }
        | RoomEvent::MemberLeft { .. }
        | RoomEvent::MemberKicked { .. }
        | RoomEvent::RoleChanged { .. }
        | RoomEvent::RightsChanged { .. }
        | RoomEvent::RulesChanged(_)
        | RoomEvent::MemberBanned { .. }
        | RoomEvent::MemberUnbanned { .. }
        | RoomEvent::MemberMuted { .. }
        | RoomEvent::MemberUnmuted { .. }
        | RoomEvent::MemberBlocked { .. }
        | RoomEvent::MemberUnblocked { .. }
        | RoomEvent::ReactionAdded { .. }
        | RoomEvent::ReactionRemoved { .. }
        | RoomEvent::MessagePinned { .. }
        | RoomEvent::MessageUnpinned { .. }
        | RoomEvent::HistoryTrimmed { .. }
        | RoomEvent::Audited(_)
        | RoomEvent::Administered(_)
        | RoomEvent::Reported(_)
        | RoomEvent::ReportResolved { .. } => None,
    }
}

/// Tells an honest client's mistake, not an attacker's: authors only ever meet their own ids.
fn digest<'a>(content: &Content, mentions: impl IntoIterator<Item = &'a UserId>) -> u64 {
    let text = content.text.as_deref().unwrap_or_default();
    let body = content.body.as_deref().unwrap_or_default();
    let mentions = mentions.into_iter().flat_map(|user| std::iter::once(0xff).chain(user.as_str().bytes()));
    fnv(text.bytes().chain([0xff]).chain(body.bytes()).chain(mentions))
}

/// Of the files that are attached, each once and in any order; 0 where there are none.
fn files(files: impl Iterator<Item = FileId>) -> u64 {
    let files: BTreeSet<FileId> = files.collect();
    files.into_iter().fold(0, |all, file| all ^ fnv(file.0.as_bytes().iter().copied()))
}

/// FNV-1a, 64 bits.
pub(super) fn fnv(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Epoch;

    #[test]
    fn a_repetition_is_known_and_something_else_is_told_apart() {
        let mut recent = Recent::default();
        recent.apply(&posted("ann", 1, "c-1", "hi", 0));
        let seen = |author: &str, id: &str, text: &str| recent.seen(&user(author), &client_id(id), &post(text), at(0));
        assert!(matches!(seen("ann", "c-1", "hi"), Seen::Before(receipt) if receipt.position.seq == Seq(1)));
        assert_eq!(seen("ann", "c-1", "ho"), Seen::Otherwise);
        assert_eq!(seen("ann", "c-2", "hi"), Seen::Never);
        assert_eq!(seen("bob", "c-1", "hi"), Seen::Never);
        let delete = Command::Delete { message: RecordId::new(at(0), Seq(1), 0) };
        assert_eq!(recent.seen(&user("ann"), &client_id("c-1"), &delete, at(0)), Seen::Otherwise);
    }

    #[test]
    fn text_and_body_are_not_confused() {
        let split = |text: &str, body: &str| digest(&Content { text: Some(text.into()), body: Some(body.into()) }, []);
        assert_ne!(split("ab", "c"), split("a", "bc"));
    }

    #[test]
    fn what_was_erased_is_the_same_whatever_is_repeated() {
        let mut recent = Recent::default();
        let erased = Record { event: Event::Room(RoomEvent::MessageErased), ..posted("ann", 1, "c-1", "hi", 0) };
        recent.apply(&erased);
        let seen = recent.seen(&user("ann"), &client_id("c-1"), &post("hi"), at(0));
        assert_eq!(seen, Seen::Before(Receipt::of(&erased)));
    }

    #[test]
    fn a_day_later_a_client_id_is_new_again() {
        let mut recent = Recent::default();
        recent.apply(&posted("ann", 1, "c-1", "hi", 0));
        let seen = |recent: &Recent, now| recent.seen(&user("ann"), &client_id("c-1"), &post("hi"), at(now));
        assert!(matches!(seen(&recent, AGE_MAX_MS), Seen::Before(_)));
        assert_eq!(seen(&recent, AGE_MAX_MS + 1), Seen::Never);
        recent.apply(&posted("ann", 2, "c-1", "hi", AGE_MAX_MS + 1));
        assert!(matches!(seen(&recent, AGE_MAX_MS + 1), Seen::Before(receipt) if receipt.position.seq == Seq(2)));
        assert_eq!(recent.by_key.len(), 1);
    }

    #[test]
    fn the_latest_ten_thousand_are_remembered_and_no_more() {
        let mut recent = Recent::default();
        let count = COUNT_MAX as u64 + 10;
        for seq in 1..=count {
            recent.apply(&posted("ann", seq, &seq.to_string(), "hi", 0));
        }
        let seen = |seq: u64| recent.seen(&user("ann"), &client_id(&seq.to_string()), &post("hi"), at(0));
        assert_eq!(seen(10), Seen::Never);
        assert!(matches!(seen(11), Seen::Before(_)));
        assert!(matches!(seen(count), Seen::Before(_)));
        assert_eq!((recent.by_key.len(), recent.by_age.len()), (COUNT_MAX, COUNT_MAX));
    }

    fn posted(author: &str, seq: u64, id: &str, text: &str, millis: i64) -> Record {
        Record {
            position: Position { epoch: Epoch(1), seq: Seq(seq) },
            id: RecordId::new(at(millis), Seq(seq), 0),
            num: Num(seq),
            at: at(millis),
            author: user(author),
            client_id: Some(client_id(id)),
            event: Event::Room(RoomEvent::posted(Content::text(text))),
        }
    }

    fn post(text: &str) -> Command {
        Command::post(Content::text(text))
    }

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    fn client_id(id: &str) -> ClientId {
        ClientId::new(id).unwrap()
    }

    fn at(millis: i64) -> Timestamp {
        Timestamp(millis)
    }
}
