//! Documents: what a tenant's clients keep in collections, who may read and write which, and who is told of it.
//!
//! A collection is a room that nobody is a member of: what its documents were and became is its log. Who may read and
//! write a document is said by the collection's name, and follows from whose the document is.

mod change;
mod collection;
mod filter;
mod index;
mod value;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::Arc;

pub use change::{CHANGED_BYTES_MAX, CHANGED_MAX, Change, Index, Selection, Write};
pub use collection::{CollectionName, CollectionNameError, Level, Permissions};
pub use filter::{FILTERS_MAX, Filter, FilterError, Op, VALUES_MAX, all_match};
pub use index::{Entry, INDEXES_MAX, PATH_BYTES_MAX, overlaps};
pub use value::{DEPTH_MAX, FIELDS_BYTES_MAX, Fields, Number, Value};

use super::{AccountId, Event, Record, RecordId, RoomEvent, Timestamp, UserId};

/// What the server says of a document among its fields, whatever its clients say.
pub const ID: &str = "id";
pub const ACCOUNT: &str = "accountId";
pub const OWNER: &str = "ownerId";
pub const CREATED: &str = "sb_created";
pub const SET_BY_SERVER: [&str; 4] = [ID, ACCOUNT, OWNER, CREATED];

/// A document as it is at some moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Document {
    /// The record by which it was created.
    pub id: RecordId,
    pub created: Timestamp,
    pub owner: UserId,
    pub account: AccountId,
    pub fields: Arc<Fields>,
}

/// In which collection a document is, and whose it is: what follows from it for who may know of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Whose {
    pub collection: CollectionName,
    pub owner: UserId,
    pub account: AccountId,
}

/// Who asks for documents.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Reader {
    Anonymous,
    User {
        user: UserId,
        account: AccountId,
    },
    /// Reads and writes whatever there is of the tenant.
    Root {
        user: UserId,
        account: AccountId,
    },
}

/// Who is told of what happened in a room, of those who follow it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Audience {
    Everybody,
    /// Who may read a document that is these two's.
    Readers {
        level: Level,
        owner: UserId,
        account: AccountId,
    },
}

impl Reader {
    /// Whose the documents are that it creates.
    pub fn identity(&self) -> Option<(&UserId, &AccountId)> {
        match self {
            Self::Anonymous => None,
            Self::User { user, account } | Self::Root { user, account } => Some((user, account)),
        }
    }

    /// Whether it may do with a document of `owner` and `account` what is for `level`.
    fn is_of(&self, level: Level, owner: &UserId, account: &AccountId) -> bool {
        match self {
            Self::Anonymous => false,
            Self::Root { .. } => true,
            Self::User { user, account: own } => match level {
                Level::Everyone => true,
                Level::Account => own == account,
                Level::Owner => user == owner,
            },
        }
    }
}

impl CollectionName {
    pub fn may_read(&self, reader: &Reader, document: &Document) -> bool {
        self.is_public() || reader.is_of(self.permissions().read(), &document.owner, &document.account)
    }

    pub fn may_write(&self, reader: &Reader, document: &Document) -> bool {
        reader.is_of(self.permissions().write(), &document.owner, &document.account)
    }

    /// Who is told of the documents of `owner` and `account`.
    fn audience(&self, owner: &UserId, account: &AccountId) -> Audience {
        let level = if self.is_public() { Level::Everyone } else { self.permissions().read() };
        Audience::Readers { level, owner: owner.clone(), account: account.clone() }
    }
}

impl RoomEvent {
    /// Whose the document is that it is about.
    pub fn whose(&self) -> Option<&Whose> {
        match self {
            Self::DocumentCreated { whose, .. }
            | Self::DocumentUpdated { whose, .. }
            | Self::DocumentDeleted { whose, .. } => Some(whose),
            Self::RoomCreated { .. }
            | Self::RoomUpdated(_)
            | Self::RoomArchived
            | Self::MemberJoined { .. }
            | Self::MemberInvited { .. }
            | Self::MemberLeft { .. }
            | Self::MemberKicked { .. }
            | Self::RoleChanged { .. }
            | Self::RightsChanged { .. }
            | Self::RulesChanged(_)
            | Self::MemberBanned { .. }
            | Self::MemberUnbanned { .. }
            | Self::MemberMuted { .. }
            | Self::MemberUnmuted { .. }
            | Self::MemberBlocked { .. }
            | Self::MemberUnblocked { .. }
            | Self::MessagePosted { .. }
            | Self::MessageEdited { .. }
            | Self::MessageDeleted { .. }
            | Self::ReactionAdded { .. }
            | Self::ReactionRemoved { .. }
            | Self::MessagePinned { .. }
            | Self::MessageUnpinned { .. }
            | Self::HistoryTrimmed { .. }
            | Self::MessageErased
            | Self::Audited(_)
            | Self::Administered(_)
            | Self::Reported(_)
            | Self::ReportResolved { .. } => None,
        }
    }
}

impl Audience {
    /// Of what happened.
    pub fn of(event: &RoomEvent) -> Self {
        match event.whose() {
            Some(Whose { collection, owner, account }) => collection.audience(owner, account),
            None => Self::Everybody,
        }
    }

    /// Whether somebody who follows the room is told. Without a token nobody is told of any document.
    pub fn includes(&self, reader: &Reader) -> bool {
        match self {
            Self::Everybody => true,
            Self::Readers { level, owner, account } => reader.is_of(*level, owner, account),
        }
    }
}

impl Document {
    /// As a record leaves it; `None` where that leaves none.
    pub fn of(record: &Record) -> Option<Self> {
        match &record.event {
            Event::Room(RoomEvent::DocumentCreated { whose, fields }) => {
                Some(Self::new(record.id, record.at, whose, fields))
            }
            Event::Room(RoomEvent::DocumentUpdated { whose, document, created, fields }) => {
                Some(Self::new(*document, *created, whose, fields))
            }
            Event::Room(_) | Event::Directory(_) | Event::Inbox(_) => None,
        }
    }

    fn new(id: RecordId, created: Timestamp, whose: &Whose, fields: &Arc<Fields>) -> Self {
        let Whose { owner, account, .. } = whose;
        Self { id, created, owner: owner.clone(), account: account.clone(), fields: Arc::clone(fields) }
    }

    /// Whose it is, in `collection`.
    pub fn whose(&self, collection: &CollectionName) -> Box<Whose> {
        let (collection, owner, account) = (collection.clone(), self.owner.clone(), self.account.clone());
        Box::new(Whose { collection, owner, account })
    }

    /// The value at `path`: names of fields with dots between them, each within the one before.
    pub fn value(&self, path: &str) -> Option<Cow<'_, Value>> {
        let text = |text: &str| Some(Cow::Owned(Value::Text(text.into())));
        match path {
            ID => text(&self.id.to_string()),
            ACCOUNT => text(self.account.as_str()),
            OWNER => text(self.owner.as_str()),
            CREATED => text(&date_time(self.created)),
            path => self.fields.value(path).map(Cow::Borrowed),
        }
    }
}

/// A time as RFC 3339 writes it, in UTC and with milliseconds.
pub fn date_time(at: Timestamp) -> String {
    const DAY_MS: i64 = 24 * 60 * 60 * 1000;
    let (day, ms) = (at.0.div_euclid(DAY_MS), at.0.rem_euclid(DAY_MS));
    let (year, month, date) = civil(day);
    let (second, ms) = (ms / 1000, ms % 1000);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// Year, month and day of a day since 1970-01-01, in the Gregorian calendar. Counted in years that begin in March, so that
/// the day that some years have more is their last.
fn civil(day: i64) -> (i64, i64, i64) {
    const ERA: i64 = 146_097;
    let shifted = day + 719_468;
    let (era, of_era) = (shifted.div_euclid(ERA), shifted.rem_euclid(ERA));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let date = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + i64::from(month <= 2), month, date)
}
