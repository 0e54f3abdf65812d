//! Names of things. Every id of the product is a newtype here, so that no function can be called the wrong way round.
//!
//! Text ids are checked when they are made and cheap to clone afterwards.

use std::fmt;
use std::sync::Arc;

use uuid::Uuid;

use super::document::CollectionName;

/// Why a text is not an id of the kind it was meant to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    #[error("{what} is empty")]
    Empty { what: &'static str },
    #[error("{what} is longer than {max} bytes")]
    TooLong { what: &'static str, max: usize },
    #[error("{what} has a character that is not allowed: {found:?}")]
    Character { what: &'static str, found: char },
    #[error("{what} looks like a number or a uuid, which would make it ambiguous")]
    Ambiguous { what: &'static str },
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, max $max:literal, $allowed:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The longest this may be, in bytes.
            pub const BYTES_MAX: usize = $max;

            /// Checks `text` and takes it over.
            pub fn new(text: &str) -> Result<Self, IdError> {
                let allowed: fn(char) -> bool = $allowed;
                if text.is_empty() {
                    return Err(IdError::Empty { what: $what });
                }
                if text.len() > Self::BYTES_MAX {
                    return Err(IdError::TooLong { what: $what, max: Self::BYTES_MAX });
                }
                if let Some(found) = text.chars().find(|&c| !allowed(c)) {
                    return Err(IdError::Character { what: $what, found });
                }
                Ok(Self(text.into()))
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
    };
}

fn id_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | ':' | '-' | '@' | '+' | '|')
}

fn name_character(c: char) -> bool {
    // Bidirectional overrides and isolates can make one name look like another (Unicode TR 36, section 3.2).
    !c.is_control()
        && !matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// An emoji may be of several characters, joined by one that cannot be seen (Unicode TR 51, section 2.3). Others that
/// cannot be seen would make two that look the same.
fn emoji_character(c: char) -> bool {
    name_character(c) && !c.is_whitespace() && !is_unseen(c)
}

/// No separator of any system's paths, so that nobody who keeps the file under its name writes elsewhere.
fn file_name_character(c: char) -> bool {
    name_character(c) && !matches!(c, '/' | '\\')
}

fn media_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '+' | '-' | '_' | ';' | '=' | ' ')
}

/// Whether it leaves no trace in what is shown. Not those that decide how their neighbours are joined, which writing
/// needs.
pub(super) fn is_unseen(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{2060}'..='\u{2064}')
}

text_id! {
    /// An isolated namespace with rooms, users and keys of its own.
    TenantId, "the tenant id", max 64, id_character
}
text_id! {
    /// A user within a tenant, as the token names it.
    UserId, "the user id", max 128, id_character
}
text_id! {
    /// Users of a tenant who share what is in collections, as StaticBackend's accounts do. Not what somebody logs in with.
    AccountId, "the account id", max 136, id_character
}
/// An address for mail, in small letters: by it somebody logs in, and nobody is shown another's.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mail(Arc<str>);

impl Mail {
    /// The longest there may be (RFC 5321, section 4.5.3.1.3, without the brackets).
    pub const BYTES_MAX: usize = 254;

    /// Checks what can be known without sending anything: something, one `@` that is the last, something.
    pub fn new(text: &str) -> Result<Self, IdError> {
        let what = "the address";
        let text = text.to_lowercase();
        if text.len() > Self::BYTES_MAX {
            return Err(IdError::TooLong { what, max: Self::BYTES_MAX });
        }
        if let Some(found) = text.chars().find(|&c| !name_character(c) || c.is_whitespace()) {
            return Err(IdError::Character { what, found });
        }
        match text.rsplit_once('@') {
            Some((local, host)) if !local.is_empty() && !host.is_empty() => Ok(Self(text.into())),
            Some(_) | None => Err(IdError::Empty { what }),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whose it is is nobody else's business, in a log neither.
impl fmt::Debug for Mail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mail")
    }
}

text_id! {
    /// A publisher's own id for what it sends, unique per author and room: the key of idempotent publishing.
    ClientId, "the client id", max 128, id_character
}
text_id! {
    /// A token's own id, as its issuer gave it.
    TokenId, "the token id", max 255, name_character
}
text_id! {
    /// What people call a room; shown, never looked up.
    Name, "the name", max 200, name_character
}

text_id! {
    /// What somebody feels about a message: an emoji, or a word that the clients show as one.
    Emoji, "the emoji", max 64, emoji_character
}

text_id! {
    /// What a file is called, as people see it; never a path, and nothing is looked up by it.
    FileName, "the name of the file", max 255, file_name_character
}

text_id! {
    /// What a file holds, as it was found out by looking at it (RFC 6838, section 4.2).
    MediaType, "the media type", max 100, media_character
}

impl AccountId {
    /// The account that a user has alone. No other is called so: those that are made have uuids.
    pub fn of(user: &UserId) -> Self {
        Self(format!("user:{user}").into())
    }
}

impl FileName {
    /// Of a file that nobody has given a name.
    pub fn unnamed() -> Self {
        Self("file".into())
    }
}

impl MediaType {
    /// What nothing is known of, and what is not to be shown for what it says it is.
    pub fn unknown() -> Self {
        Self("application/octet-stream".into())
    }

    /// Text of whatever kind.
    pub fn text() -> Self {
        Self("text/plain; charset=utf-8".into())
    }

    /// Whether it is a picture that browsers show and that runs nothing.
    pub fn is_picture(&self) -> bool {
        ["image/png", "image/jpeg", "image/gif", "image/webp", "image/avif", "image/bmp"].contains(&self.as_str())
    }

    /// Whether a browser may show it where it stands. Everything else is offered for keeping.
    pub fn is_shown(&self) -> bool {
        self.is_picture() || self.as_str().starts_with("audio/") || self.as_str().starts_with("video/")
    }
}

/// What the ids of users begin with that are the server's own.
const RESERVED: &str = "chinwag:";

impl UserId {
    /// Who the operator is in the records of what it did. No token makes anybody this user.
    pub fn operator() -> Self {
        Self("chinwag:operator".into())
    }

    /// Who the server is in the records of what nobody asked it for. No token makes anybody this user.
    pub fn server() -> Self {
        Self("chinwag:server".into())
    }

    /// Whether only the server itself may act as this user.
    pub fn is_reserved(&self) -> bool {
        self.0.starts_with(RESERVED)
    }
}

impl TenantId {
    /// The tenant of tokens that name none.
    pub fn default_tenant() -> Self {
        Self("default".into())
    }
}

/// A room's unique name within its tenant, such as a channel's.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Alias(Arc<str>);

impl Alias {
    /// The longest this may be, in bytes.
    pub const BYTES_MAX: usize = 128;

    /// Checks `text` and takes it over. An alias may not look like a number or a uuid, because a room can be named
    /// by those too, and not like another alias.
    pub fn new(text: &str) -> Result<Self, IdError> {
        if text.parse::<u64>().is_ok() || Uuid::try_parse(text).is_ok() {
            return Err(IdError::Ambiguous { what: "the alias" });
        }
        if let Some(found) = text.chars().find(|&c| is_unseen(c)) {
            return Err(IdError::Character { what: "the alias", found });
        }
        Self::forced(text)
    }

    /// As [`Alias::new`], for names that other systems have given already and that may look like anything.
    pub fn forced(text: &str) -> Result<Self, IdError> {
        let what = "the alias";
        if text.is_empty() {
            return Err(IdError::Empty { what });
        }
        if text.len() > Self::BYTES_MAX {
            return Err(IdError::TooLong { what, max: Self::BYTES_MAX });
        }
        if let Some(found) = text.chars().find(|&c| !name_character(c) || c.is_whitespace()) {
            return Err(IdError::Character { what, found });
        }
        Ok(Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Alias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A room. Version 7 for those made here, version 5 of the pair for direct rooms, of the room or the tenant for audit rooms
/// and of the name for collections; any version is understood.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoomId(pub Uuid);

impl RoomId {
    /// The one direct room of two users: the same id whichever of them asks.
    pub fn direct(tenant: &TenantId, a: &UserId, b: &UserId) -> Self {
        let (low, high) = if a <= b { (a, b) } else { (b, a) };
        // The separator is no character of an id, so no two pairs make the same name.
        let pair = format!("{tenant}\n{low}\n{high}");
        Self(Uuid::new_v5(&Self::DIRECT, pair.as_bytes()))
    }

    /// By what the inbox of a user is told from rooms: the id of no room.
    pub fn inbox(tenant: &TenantId, user: &UserId) -> Self {
        Self(Uuid::new_v5(&Self::INBOXES, format!("{tenant}\n{user}").as_bytes()))
    }

    /// The one audit room of a room.
    pub fn audit(tenant: &TenantId, room: Self) -> Self {
        Self(Uuid::new_v5(&Self::AUDITS, format!("{tenant}\n{room}").as_bytes()))
    }

    /// The one audit room of a tenant. No room's audit room has this name: it has no separator.
    pub fn audit_of_tenant(tenant: &TenantId) -> Self {
        Self(Uuid::new_v5(&Self::AUDITS, tenant.as_str().as_bytes()))
    }

    /// The one collection of a name.
    pub fn collection(tenant: &TenantId, name: &CollectionName) -> Self {
        Self(Uuid::new_v5(&Self::COLLECTIONS, format!("{tenant}\n{name}").as_bytes()))
    }

    /// A new room's id (RFC 9562, section 5.7).
    pub fn new(now: Timestamp, random: u128) -> Self {
        Self(uuid_v7(now, random))
    }

    /// The namespace of direct rooms: drawn once, at random.
    const DIRECT: Uuid = Uuid::from_u128(0x6f0b_32c1_90a5_4f0e_9a57_1d2c_b58e_7f43);

    /// The namespace of audit rooms: drawn once, at random.
    const AUDITS: Uuid = Uuid::from_u128(0xd3a7_0f58_6c14_4be2_8d69_7e20_91cb_4a36);

    /// The namespace of collections: drawn once, at random.
    const COLLECTIONS: Uuid = Uuid::from_u128(0xb8f5_41d6_2e07_4c9a_a3d4_6f81_07e2_59bc);

    /// The namespace of inboxes: drawn once, at random.
    const INBOXES: Uuid = Uuid::from_u128(0x1c8e_6a94_50fd_4b39_8f22_c4b7_03d9_6e15);
}

impl fmt::Display for RoomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for RoomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A room and the tenant it belongs to. Whatever finds a room asks for both.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RoomKey {
    pub tenant: TenantId,
    pub room: RoomId,
}

impl RoomKey {
    pub fn stream(&self) -> StreamId {
        StreamId::Room(self.clone())
    }
}

/// How a client may name a room.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum RoomName {
    Id(RoomId),
    Num(Num),
    Alias(Alias),
}

impl RoomName {
    /// Reads a uuid, a number or an alias, in this order; `alias:` before a name forces the last.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        if let Some(name) = text.strip_prefix("alias:") {
            return Alias::forced(name).map(Self::Alias);
        }
        if let Ok(id) = Uuid::try_parse(text) {
            return Ok(Self::Id(RoomId(id)));
        }
        if let Ok(num) = text.parse() {
            return Ok(Self::Num(Num(num)));
        }
        Alias::new(text).map(Self::Alias)
    }
}

/// One device's being logged in to an account: by this its tokens are known, and ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LoginId(pub Uuid);

impl fmt::Display for LoginId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What happened, once: the id of a record. Version 7; its low 40 bits are the record's seq, so that the record is
/// found without an index (RFC 9562, section 6.2, leaves these bits to the maker).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId(pub Uuid);

impl RecordId {
    const SEQ_MASK: u128 = (1 << 40) - 1;

    /// The id of the record at `seq`; `random` keeps records of the same moment and seq in two rooms apart.
    pub fn new(at: Timestamp, seq: Seq, random: u128) -> Self {
        let seq = u128::from(seq.0) & Self::SEQ_MASK;
        Self(uuid_v7(at, (random & !Self::SEQ_MASK) | seq))
    }

    /// Where in its room the record with this id stands, if it is an id of ours at all.
    pub fn seq(self) -> Seq {
        let seq = self.0.as_u128() & Self::SEQ_MASK;
        Seq(u64::try_from(seq).expect("40 bits fit into 64"))
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A file, and its upload while it is unfinished. Version 7.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub Uuid);

impl FileId {
    pub fn new(now: Timestamp, random: u128) -> Self {
        Self(uuid_v7(now, random))
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// RFC 9562, section 5.7: 48 bits of milliseconds, version, 12 bits, variant, 62 bits.
fn uuid_v7(at: Timestamp, random: u128) -> Uuid {
    let millis = u128::try_from(at.0.max(0)).expect("not negative") & ((1 << 48) - 1);
    let high = (random >> 64) & 0xfff;
    let low = random & ((1 << 62) - 1);
    Uuid::from_u128((millis << 80) | (0x7 << 76) | (high << 64) | (0b10 << 62) | low)
}

/// A small integer name of a room, a record or a user: sequential per tenant, with holes, below 2^31 in practice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Num(pub u64);

impl fmt::Display for Num {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A record's place in its stream: 1 for the first, then without a gap. 0 is the place before the first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Seq(pub u64);

impl Seq {
    pub const ZERO: Self = Self(0);

    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One uninterrupted life of a data directory. A restored backup, or a loss that the operator accepted, begins a new
/// one, so that a seq is never used twice within an epoch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Epoch(pub u64);

/// Where a record stands, or where a reader has got to. The epoch is the one the record was written in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Position {
    pub epoch: Epoch,
    pub seq: Seq,
}

impl Position {
    /// The place before the first record.
    pub fn start(epoch: Epoch) -> Self {
        Self { epoch, seq: Seq::ZERO }
    }
}

/// How far the whole log has come, all streams together: everything that was written up to it is durable. Marks only
/// grow, within an epoch, and how much lies between two of them says nothing. 0 is before everything.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Mark(pub u64);

/// Milliseconds since 1970-01-01T00:00:00Z. Shown to people; nothing is ordered by it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Whether at `now` it lies so long ago, or longer.
    pub fn is_past(self, time_ms: u64, now: Self) -> bool {
        now.0.checked_sub(self.0).is_some_and(|past| u64::try_from(past).is_ok_and(|past| past >= time_ms))
    }
}

/// One ordered log in the store.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum StreamId {
    /// A room's events.
    Room(RoomKey),
    /// What is only one user's.
    User(TenantId, UserId),
    /// What must be unique in a tenant: aliases and nums.
    Directory(TenantId),
    /// Who may log in to a tenant: accounts, the devices that are logged in, invites.
    Accounts(TenantId),
    /// What is the server's own and no tenant's.
    Server,
    /// Which files there are, of all tenants, and what refers to them. It has rows and no records.
    Files,
    /// What rooms, of all tenants, have decided and not handed to their audit rooms. It has rows and no records.
    Owed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_id_gives_its_seq_back_and_is_a_version_7_uuid() {
        let id = RecordId::new(Timestamp(1_700_000_000_000), Seq(123_456), u128::MAX);
        assert_eq!(id.seq(), Seq(123_456));
        assert_eq!(id.0.get_version_num(), 7);
        assert_eq!(id.0.get_variant(), uuid::Variant::RFC4122);
    }

    #[test]
    fn a_direct_room_is_the_same_whoever_asks() {
        let tenant = TenantId::default_tenant();
        let (ann, bob) = (UserId::new("ann").unwrap(), UserId::new("bob").unwrap());
        assert_eq!(RoomId::direct(&tenant, &ann, &bob), RoomId::direct(&tenant, &bob, &ann));
        let elsewhere = TenantId::new("elsewhere").unwrap();
        assert_ne!(RoomId::direct(&tenant, &ann, &bob), RoomId::direct(&elsewhere, &ann, &bob));
    }

    #[test]
    fn a_room_has_one_audit_room_and_another_room_another() {
        let (tenant, elsewhere) = (TenantId::default_tenant(), TenantId::new("elsewhere").unwrap());
        let (one, other) = (RoomId(Uuid::from_u128(1)), RoomId(Uuid::from_u128(2)));
        let audit = RoomId::audit(&tenant, one);
        assert_eq!(RoomId::audit(&tenant, one), audit);
        let others =
            [RoomId::audit(&tenant, other), RoomId::audit(&elsewhere, one), RoomId::audit(&tenant, audit), one];
        assert!(!others.contains(&audit));
        let of_tenant = RoomId::audit_of_tenant(&tenant);
        assert!(of_tenant != audit && of_tenant != RoomId::audit_of_tenant(&elsewhere));
    }

    #[test]
    fn a_room_is_named_by_uuid_number_or_alias() {
        let id = "0192f0c1-2345-7abc-8def-0123456789ab";
        assert_eq!(RoomName::parse(id), Ok(RoomName::Id(RoomId(Uuid::parse_str(id).unwrap()))));
        assert_eq!(RoomName::parse("42"), Ok(RoomName::Num(Num(42))));
        assert_eq!(RoomName::parse("lobby"), Ok(RoomName::Alias(Alias::new("lobby").unwrap())));
        assert_eq!(RoomName::parse("alias:42"), Ok(RoomName::Alias(Alias::forced("42").unwrap())));
    }

    #[test]
    fn an_alias_that_looks_like_a_number_or_a_uuid_is_refused() {
        assert!(matches!(Alias::new("42"), Err(IdError::Ambiguous { .. })));
        assert!(matches!(Alias::new("0192f0c1-2345-7abc-8def-0123456789ab"), Err(IdError::Ambiguous { .. })));
    }

    #[test]
    fn names_that_could_deceive_the_eye_are_refused() {
        assert!(matches!(Name::new("ann\u{202e}nna"), Err(IdError::Character { .. })));
        assert!(matches!(Alias::new("a b"), Err(IdError::Character { .. })));
        assert!(matches!(Alias::new("lob\u{200b}by"), Err(IdError::Character { .. })));
        assert!(Alias::new("می\u{200c}خواهم").is_ok());
        assert!(matches!(UserId::new("ann\nbob"), Err(IdError::Character { .. })));
        for name in ["../secrets", "a\\b", "a\0", "a\r\nb", "gpj.\u{202e}exe"] {
            assert!(matches!(FileName::new(name), Err(IdError::Character { .. })), "{name:?}");
        }
        assert!(FileName::new("Über uns (2).pdf").is_ok());
    }
}
