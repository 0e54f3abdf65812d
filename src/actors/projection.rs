//! Which rows change with an event: a room's state at its head, and its place in the lists of its members.

use bytes::Bytes;

use crate::domain::command::Decision;
use crate::domain::document::{Document, Entry, Whose};
use crate::domain::policy::Standing;
use crate::domain::room::Message;
use crate::domain::{Event, FileId, Record, RecordId, Role, Room, RoomEvent, RoomKey, RoomKind, Seq, StreamId, UserId};
use crate::store::Put;
use crate::store::rows::documents::{self, DocumentCount};
use crate::store::rows::{self, Place, Row};

/// Adds the rows that `record` changes, and the records whose content it erases. `room` has applied it.
pub fn project(key: &RoomKey, room: &Room, record: &Record, puts: &mut Vec<Put>, erase: &mut Vec<Seq>) {
    let Event::Room(event) = &record.event else { return };
    let Some(header) = room.header() else { return };
    let rows = Rows { key, kind: header.kind };
    match event {
        // The rows that speak of what is trimmed are found where it is known which there are.
        RoomEvent::RoomCreated { .. }
        | RoomEvent::RoomUpdated(_)
        | RoomEvent::RoomArchived
        | RoomEvent::HistoryTrimmed { .. } => {
            puts.push(rows.own(rows::HEADER.into(), Some(header.encode())));
        }
        RoomEvent::MemberJoined { user, .. } | RoomEvent::RoleChanged { user, .. } => {
            if let Some(member) = room.member(user) {
                puts.push(rows.own(rows::member(user), Some(member.encode())));
                puts.push(rows.own(rows::invitation(user), None));
                puts.push(rows.place(user, Some((member.role, Standing::Member, member.joined.seq()))));
            }
        }
        RoomEvent::MemberInvited { user, role } => {
            puts.push(rows.own(rows::invitation(user), Some(role.encode())));
            puts.push(rows.place(user, Some((*role, Standing::Invited, Seq::ZERO))));
        }
        RoomEvent::MemberLeft { user, .. } | RoomEvent::MemberKicked { user, .. } => {
            puts.push(rows.own(rows::member(user), None));
            puts.push(rows.rights(room, user));
            puts.push(rows.place(user, None));
        }
        RoomEvent::RightsChanged { user, .. } => puts.push(rows.rights(room, user)),
        RoomEvent::RulesChanged(rules) => puts.push(rows.own(rows::RULES.into(), Some(rules.encode()))),
        RoomEvent::MemberBanned { user, joined, invited, .. } => {
            puts.push(rows.own(rows::ban(user), room.ban(user).map(Row::encode)));
            if joined.is_some() {
                puts.push(rows.own(rows::member(user), None));
                puts.push(rows.rights(room, user));
            }
            if *invited {
                puts.push(rows.own(rows::invitation(user), None));
            }
            if joined.is_some() || *invited {
                puts.push(rows.place(user, None));
            }
        }
        RoomEvent::MemberUnbanned { user } => {
            puts.push(rows.own(rows::ban(user), None));
        }
        RoomEvent::MemberMuted { user, .. } | RoomEvent::MemberUnmuted { user } => {
            puts.push(rows.own(rows::mute(user), room.mute(user).map(Row::encode)));
        }
        RoomEvent::DocumentCreated { whose, .. } => {
            let seq = record.position.seq;
            let document = Document::of(record).expect("the record creates one");
            puts.push(rows.own(documents::document(seq), Some(document.encode())));
            puts.extend(Rows::places(whose, seq).map(|key| rows.own(key, Some(Bytes::new()))));
            rows.entries(room, None, Some(&document), puts);
            puts.push(rows.count(room));
        }
        RoomEvent::DocumentUpdated { document, .. } => {
            let now = room.document(*document);
            puts.push(rows.own(documents::document(document.seq()), now.map(Row::encode)));
            rows.entries(room, room.replaced(), now, puts);
        }
        RoomEvent::DocumentDeleted { whose, document } => {
            let seq = document.seq();
            puts.push(rows.own(documents::document(seq), None));
            puts.extend(Rows::places(whose, seq).map(|key| rows.own(key, None)));
            rows.entries(room, room.replaced(), None, puts);
            puts.push(rows.count(room));
        }
        RoomEvent::MessageEdited { message, .. } => {
            let known = known(room, *message);
            puts.push(rows.own(rows::message(message.seq()), Some(known.encode())));
        }
        RoomEvent::MessageDeleted { message, .. } => {
            let known = known(room, *message);
            puts.push(rows.own(rows::message(message.seq()), Some(known.encode())));
            puts.push(rows.own(rows::pin(message.seq()), None));
            puts.extend(known.files.iter().map(|file| rows.reference(*file, message.seq(), None)));
            // What users felt about it stays in their rows, of which there may be thousands: nobody reads them any more.
            erase.push(message.seq());
            erase.extend_from_slice(&known.edits);
        }
        RoomEvent::ReactionAdded { message, .. } | RoomEvent::ReactionRemoved { message, .. } => {
            puts.push(rows.own(rows::message(message.seq()), Some(known(room, *message).encode())));
            let own = room.reactions_of(*message, &record.author).filter(|own| !own.is_empty());
            puts.push(rows.own(rows::reactions_of(message.seq(), &record.author), own.map(Row::encode)));
        }
        RoomEvent::MessagePinned { message, .. } | RoomEvent::MessageUnpinned { message, .. } => {
            puts.push(rows.own(rows::pin(message.seq()), room.pin(*message).map(Row::encode)));
        }
        RoomEvent::MessagePosted { reply, attachments, .. } => {
            let seq = record.position.seq;
            let key = reply.as_ref().map(|reply| rows::threaded(reply.thread.seq(), seq));
            puts.extend(key.map(|key| rows.own(key, Some(Bytes::new()))));
            puts.extend(attachments.iter().map(|attachment| rows.reference(attachment.id, seq, Some(Bytes::new()))));
        }
        RoomEvent::Reported(reported) => {
            let seq = record.position.seq;
            puts.push(rows.own(rows::report(reported.message, &record.author), Some(record.id.encode())));
            // What is kept as evidence is not collected.
            let files = reported.attachments.iter();
            puts.extend(files.map(|attachment| rows.reference(attachment.id, seq, Some(Bytes::new()))));
        }
        RoomEvent::ReportResolved { report, .. } => {
            puts.push(rows.own(rows::resolved(report.seq()), Some(Bytes::new())));
        }
        RoomEvent::Audited(audited) => puts.push(rows.own(rows::TAKEN.into(), Some(audited.position.encode()))),
        // Of blocks the lists of the two users tell.
        RoomEvent::MemberBlocked { .. } | RoomEvent::MemberUnblocked { .. } | RoomEvent::MessageErased => {}
        // The rows that go with a deed are those of accounts and bans: they come with the command.
        RoomEvent::Administered(_) => {}
    }
}

/// Adds the rows by which what `record` has decided finds its way to the room's audit room.
pub fn owe(key: &RoomKey, room: &Room, decision: &Decision, puts: &mut Vec<Put>) {
    let seq = decision.audited.position.seq;
    puts.push(Put { under: StreamId::Owed, key: rows::owed(key, seq), value: Some(decision.encode()) });
    // It says that there has been something to owe.
    puts.extend(room.header().map(|header| Put {
        under: key.stream(),
        key: rows::HEADER.into(),
        value: Some(header.encode()),
    }));
}

/// A message that a record changes. Were it not known, its content would not be erased: better that the room starts again
/// and nobody is told that it was.
fn known(room: &Room, message: RecordId) -> &Message {
    room.known(message).expect("a room knows the messages that it changes")
}

struct Rows<'a> {
    key: &'a RoomKey,
    kind: RoomKind,
}

impl Rows<'_> {
    /// A row filed under the room.
    fn own(&self, key: Bytes, value: Option<Bytes>) -> Put {
        Put { under: self.key.stream(), key, value }
    }

    /// Where a document is found, besides where it lies.
    fn places(whose: &Whose, seq: Seq) -> [Bytes; 3] {
        [documents::listed(seq), documents::owned(&whose.owner, seq), documents::in_account(&whose.account, seq)]
    }

    /// Where a document is found by what it says, which it did not say before.
    fn entries(&self, room: &Room, before: Option<&Document>, now: Option<&Document>, puts: &mut Vec<Put>) {
        for path in room.indexes().keys() {
            let key = |document: &Document| documents::entry(path, &Entry::at(document, path), document.id.seq());
            let (before, now) = (before.map(key), now.map(key));
            if before != now {
                puts.extend(before.map(|key| self.own(key, None)));
                puts.extend(now.map(|key| self.own(key, Some(Bytes::new()))));
            }
        }
    }

    /// How many documents there are now.
    fn count(&self, room: &Room) -> Put {
        self.own(documents::DOCUMENT_COUNT.into(), Some(DocumentCount(room.document_count()).encode()))
    }

    /// What was decided about a user, as it is now.
    fn rights(&self, room: &Room, user: &UserId) -> Put {
        let rights = room.rights(user);
        self.own(rows::rights(user), (!rights.is_empty()).then(|| rights.encode()))
    }

    /// The room's row filed among the files: that a message refers to one.
    fn reference(&self, file: FileId, seq: Seq, value: Option<Bytes>) -> Put {
        Put { under: StreamId::Files, key: rows::referred_by_message(file, self.key.room, seq), value }
    }

    /// The room's row filed under a user.
    fn place(&self, user: &UserId, place: Option<(Role, Standing, Seq)>) -> Put {
        Put {
            under: StreamId::User(self.key.tenant.clone(), user.clone()),
            key: rows::place(self.key.room),
            value: place.map(|(role, standing, joined)| Place { kind: self.kind, role, standing, joined }.encode()),
        }
    }
}
