//! The rules: what a room is, who may do what in it, and what follows from a command.
//!
//! Everything here is a pure value. Nothing awaits, logs, locks, reads a clock or draws a random number; time and
//! randomness arrive as arguments. The module knows no wire format, no storage and no actor: `wire` and `store`
//! convert their own shapes into these, `actors` host them.

pub mod account;
pub mod boxes;
pub mod capability;
pub mod channel;
pub mod command;
pub mod content;
pub mod deed;
pub mod directory;
pub mod document;
pub mod event;
pub mod exclusion;
pub mod file;
pub mod ids;
pub mod inbox;
pub mod policy;
pub mod presence;
pub mod principal;
pub mod profile;
pub mod recent;
pub mod rejection;
pub mod revocation;
pub mod room;
pub mod rules;
pub mod session;
pub mod signal;
pub mod world;

pub use capability::{Capabilities, Capability, Rights};
pub use command::{Attach, Audit, Command, Create, Original, Source, Update};
pub use content::Content;
pub use deed::Deed;
pub use directory::DirectoryEvent;
pub use event::{Audited, Event, Forwarded, InReplyTo, Mentions, Record, Reported, RoomEvent};
pub use file::{Attachment, Attachments, File, Purpose};
pub use ids::{
    AccountId, Alias, ClientId, Emoji, Epoch, FileId, FileName, LoginId, Mail, Mark, MediaType, Name, Num, Position,
    RecordId, RoomId, RoomKey, RoomName, Seq, StreamId, TenantId, Timestamp, TokenId, UserId,
};
pub use inbox::InboxEvent;
pub use policy::{Role, RoomKind};
pub use presence::Presence;
pub use principal::Principal;
pub use profile::{Audience, Profile, ProfileUpdate};
pub use rejection::Rejection;
pub use revocation::{Revocation, Revocations};
pub use room::Room;
pub use rules::{Rules, RulesChange};
pub use signal::Signal;
