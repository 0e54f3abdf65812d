//! Files: what is known of one, who may use and read it, how much of them there may be, and when one is garbage.
//!
//! The bytes are none of this module's business, nor where they lie.

use std::fmt;

use super::{FileId, FileName, MediaType, Principal, RoomId, TenantId, Timestamp, UserId};

/// The most files that one message has attached.
pub const ATTACHMENTS_MAX: usize = 10;

/// The largest avatar, in bytes.
pub const AVATAR_BYTES_MAX: u64 = 2 * 1024 * 1024;

/// By what the content of a file is known: its SHA-256 (FIPS 180-4).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; 32]);

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a file was uploaded for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Purpose {
    /// To be attached to messages in this room.
    Attachment(RoomId),
    /// To stand for its user.
    Avatar,
}

impl Purpose {
    /// How large a file for this may be where others may have `bytes_max`.
    pub fn bytes_max(self, bytes_max: u64) -> u64 {
        match self {
            Self::Attachment(_) => bytes_max,
            Self::Avatar => bytes_max.min(AVATAR_BYTES_MAX),
        }
    }

    /// Whether it takes what such content is.
    pub fn takes(self, media: &MediaType) -> bool {
        match self {
            Self::Attachment(_) => true,
            Self::Avatar => media.is_picture(),
        }
    }
}

/// What is known of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct File {
    pub id: FileId,
    pub tenant: TenantId,
    /// Who uploaded it.
    pub owner: UserId,
    pub purpose: Purpose,
    pub hash: Hash,
    pub size: u64,
    pub media: MediaType,
    pub name: FileName,
    pub at: Timestamp,
}

/// Who may read a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Whoever asks.
    Granted,
    /// If a message that stands has it attached in a room of which the user is a member.
    ByRoom,
    /// Nobody of that tenant may know that there is one.
    Denied,
}

impl File {
    /// What `user` may attach of it in `room`: only what it has uploaded for that.
    pub fn attachment(&self, tenant: &TenantId, room: RoomId, user: &UserId) -> Option<Attachment> {
        let meant = self.tenant == *tenant && self.owner == *user && self.purpose == Purpose::Attachment(room);
        meant.then(|| Attachment { id: self.id, name: self.name.clone(), media: self.media.clone(), size: self.size })
    }

    /// Whether `by` may read it.
    pub fn access(&self, by: &Principal) -> Access {
        if self.tenant != by.tenant {
            return Access::Denied;
        }
        match self.purpose {
            Purpose::Avatar => Access::Granted,
            Purpose::Attachment(_) if self.owner == by.user => Access::Granted,
            Purpose::Attachment(_) => Access::ByRoom,
        }
    }
}

/// A file as a message shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attachment {
    pub id: FileId,
    pub name: FileName,
    pub media: MediaType,
    pub size: u64,
}

/// The files of a message: each once, in the order of its author.
pub type Attachments = Box<[Attachment]>;

/// Whether `more` bytes fit beside those that a tenant has and those that are promised to others.
pub fn fits(used: u64, promised: u64, more: u64, bytes_max: Option<u64>) -> bool {
    bytes_max.is_none_or(|max| used.saturating_add(promised).saturating_add(more) <= max)
}

/// What becomes of a file that was looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It stays, and what is known of it is right.
    Stay,
    /// It stays, and it is to be noted since when nothing has referred to it.
    Note(Option<Timestamp>),
    /// Nothing has referred to it for long enough.
    Collect,
}

/// What becomes at `now` of a file of which it is noted that nothing has referred to it since `loose_since`, when
/// nothing may for `keep_ms`.
pub fn fate(referred: bool, loose_since: Option<Timestamp>, now: Timestamp, keep_ms: i64) -> Fate {
    match (referred, loose_since) {
        (true, None) => Fate::Stay,
        (true, Some(_)) => Fate::Note(None),
        (false, None) => Fate::Note(Some(now)),
        (false, Some(since)) if since.0.saturating_add(keep_ms) <= now.0 => Fate::Collect,
        (false, Some(_)) => Fate::Stay,
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const ROOM: RoomId = RoomId(Uuid::from_u128(7));
    const OTHER: RoomId = RoomId(Uuid::from_u128(8));

    #[test]
    fn a_file_is_attached_by_who_uploaded_it_and_where_it_was_meant_for() {
        let file = file(Purpose::Attachment(ROOM));
        let (tenant, elsewhere) = (TenantId::default_tenant(), TenantId::new("theirs").unwrap());
        let attachment = file.attachment(&tenant, ROOM, &user("ann")).unwrap();
        assert_eq!((attachment.id, attachment.size), (file.id, 5));
        assert_eq!(file.attachment(&tenant, OTHER, &user("ann")), None);
        assert_eq!(file.attachment(&tenant, ROOM, &user("bob")), None);
        assert_eq!(file.attachment(&elsewhere, ROOM, &user("ann")), None);
        let avatar = File { purpose: Purpose::Avatar, ..file };
        assert_eq!(avatar.attachment(&tenant, ROOM, &user("ann")), None);
    }

    #[test]
    fn an_attachment_is_read_by_its_uploader_and_members_and_an_avatar_by_its_tenant() {
        let attachment = file(Purpose::Attachment(ROOM));
        let avatar = file(Purpose::Avatar);
        assert_eq!(attachment.access(&principal("default", "ann")), Access::Granted);
        assert_eq!(attachment.access(&principal("default", "bob")), Access::ByRoom);
        assert_eq!(attachment.access(&principal("theirs", "ann")), Access::Denied);
        assert_eq!(avatar.access(&principal("default", "bob")), Access::Granted);
        assert_eq!(avatar.access(&principal("theirs", "ann")), Access::Denied);
    }

    #[test]
    fn an_avatar_is_a_small_picture() {
        let takes = |text| Purpose::Avatar.takes(&MediaType::new(text).unwrap());
        assert!(takes("image/png"));
        assert!(!takes("image/svg+xml") && !takes("text/html") && !takes("application/octet-stream"));
        assert_eq!(Purpose::Avatar.bytes_max(u64::MAX), AVATAR_BYTES_MAX);
        assert_eq!(Purpose::Avatar.bytes_max(9), 9);
        assert_eq!(Purpose::Attachment(ROOM).bytes_max(u64::MAX), u64::MAX);
    }

    #[test]
    fn what_is_promised_to_others_counts_against_a_quota() {
        assert!(fits(u64::MAX, 5, 5, None));
        assert!(fits(3, 4, 3, Some(10)));
        assert!(!fits(3, 4, 4, Some(10)));
        assert!(!fits(u64::MAX, 1, 1, Some(u64::MAX - 1)));
    }

    #[test]
    fn a_file_is_garbage_when_nothing_has_referred_to_it_for_long_enough() {
        let at = Timestamp;
        assert_eq!(fate(true, None, at(100), 10), Fate::Stay);
        assert_eq!(fate(true, Some(at(1)), at(100), 10), Fate::Note(None), "it was forwarded in time");
        assert_eq!(fate(false, None, at(100), 10), Fate::Note(Some(at(100))));
        assert_eq!(fate(false, Some(at(91)), at(100), 10), Fate::Stay);
        assert_eq!(fate(false, Some(at(90)), at(100), 10), Fate::Collect);
        assert_eq!(fate(false, Some(at(i64::MAX)), at(100), 10), Fate::Stay, "the clock was set back");
    }

    fn file(purpose: Purpose) -> File {
        File {
            id: FileId(Uuid::from_u128(1)),
            tenant: TenantId::default_tenant(),
            owner: user("ann"),
            purpose,
            hash: Hash([7; 32]),
            size: 5,
            media: MediaType::text(),
            name: FileName::unnamed(),
            at: Timestamp(3),
        }
    }

    fn principal(tenant: &str, name: &str) -> Principal {
        let tenant = TenantId::new(tenant).unwrap();
        Principal {
            tenant,
            user: user(name),
            token: None,
            login: None,
            issued_at: Timestamp(0),
            expires_at: Timestamp(1),
        }
    }

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }
}
