//! The kinds of room and what each allows: one table, so that two kinds can be compared at a glance.

use super::{Capabilities, Capability};

/// The most time between two messages of a member that slow mode asks for, in milliseconds: six hours.
pub const SLOW_MODE_MAX_MS: u32 = 6 * 60 * 60 * 1000;

/// The shortest time for which a room keeps what was said: as long as the client ids of messages are remembered.
pub const KEEP_MIN_MS: u64 = 24 * 60 * 60 * 1000;

/// The longest, a hundred years.
pub const KEEP_MAX_MS: u64 = 36_525 * KEEP_MIN_MS;

/// What a room is for; decides its [`Policy`] for life.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum RoomKind {
    /// Anyone of the tenant may join. Its name is an alias.
    Channel,
    /// Joined by invitation.
    Group,
    /// Two users; one room per pair.
    Direct,
    /// Opaque content; belongs to its owner.
    Box,
    /// Members are added with a role; viewers only watch.
    Canvas,
    /// Documents. Nobody is in it, and who reads and writes which is said by its name.
    Collection,
    /// What has been decided in another room, for who answers for that one. The server makes it, writes in it and decides
    /// who is in it.
    Audit,
}

impl RoomKind {
    pub const ALL: [Self; 7] =
        [Self::Channel, Self::Group, Self::Direct, Self::Box, Self::Canvas, Self::Collection, Self::Audit];

    /// Those that are made because somebody asks for one.
    pub const MADE_BY_USERS: [Self; 5] = [Self::Channel, Self::Group, Self::Direct, Self::Box, Self::Canvas];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Channel => "channel",
            Self::Group => "group",
            Self::Direct => "direct",
            Self::Box => "box",
            Self::Canvas => "canvas",
            Self::Collection => "collection",
            Self::Audit => "audit",
        }
    }

    pub fn policy(self) -> Policy {
        match self {
            Self::Channel => Policy {
                entry: Entry::Open,
                creator: Role::Owner,
                needs_alias: true,
                invite: Role::Member,
                moderate: Some(Role::Admin),
                update: Role::Admin,
                archive: Some(Role::Owner),
                post: Role::Guest,
                pin: Role::Admin,
                leave: Leave::UnlessLastOwner,
            },
            Self::Group => Policy {
                entry: Entry::Invited,
                creator: Role::Owner,
                needs_alias: false,
                invite: Role::Admin,
                moderate: Some(Role::Admin),
                update: Role::Admin,
                archive: Some(Role::Owner),
                post: Role::Guest,
                pin: Role::Admin,
                leave: Leave::UnlessLastOwner,
            },
            Self::Direct => Policy {
                entry: Entry::Closed,
                creator: Role::Member,
                needs_alias: false,
                invite: Role::Owner,
                moderate: None,
                update: Role::Owner,
                archive: None,
                post: Role::Member,
                pin: Role::Member,
                leave: Leave::Never,
            },
            Self::Box => Policy {
                entry: Entry::Invited,
                creator: Role::Owner,
                needs_alias: false,
                invite: Role::Owner,
                moderate: Some(Role::Owner),
                update: Role::Owner,
                archive: Some(Role::Owner),
                post: Role::Guest,
                pin: Role::Admin,
                leave: Leave::UnlessOwner,
            },
            Self::Canvas => Policy {
                entry: Entry::Added,
                creator: Role::Owner,
                needs_alias: false,
                invite: Role::Admin,
                moderate: Some(Role::Admin),
                update: Role::Admin,
                archive: Some(Role::Owner),
                post: Role::Member,
                pin: Role::Admin,
                leave: Leave::UnlessLastOwner,
            },
            // A collection has no members; those of an audit room are viewers, all of them.
            Self::Collection | Self::Audit => Policy {
                entry: Entry::Closed,
                creator: Role::Viewer,
                needs_alias: false,
                invite: Role::Owner,
                moderate: None,
                update: Role::Owner,
                archive: None,
                post: Role::Owner,
                pin: Role::Owner,
                leave: Leave::Never,
            },
        }
    }
}

/// What a member is in a room, weakest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Role {
    /// Reads.
    Viewer,
    /// Reads and posts where the kind lets guests post.
    Guest,
    Member,
    /// Moderates: kicks and deletes what others posted.
    Admin,
    /// Everything, including what the room is.
    Owner,
}

impl Role {
    pub const ALL: [Self; 5] = [Self::Viewer, Self::Guest, Self::Member, Self::Admin, Self::Owner];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Guest => "guest",
            Self::Member => "member",
            Self::Admin => "admin",
            Self::Owner => "owner",
        }
    }
}

/// How far back a member reads.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum History {
    /// To the room's first record.
    #[default]
    All,
    /// To the record by which the membership began.
    FromJoin,
}

impl History {
    pub const ALL: [Self; 2] = [Self::All, Self::FromJoin];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::FromJoin => "join",
        }
    }
}

/// What a user is to a room in the user's own list of rooms.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Standing {
    Member,
    /// May join.
    Invited,
}

impl Standing {
    pub const ALL: [Self; 2] = [Self::Member, Self::Invited];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Invited => "invited",
        }
    }
}

/// What a kind of room allows. A role stands for itself and every stronger one; `None` for nobody.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy {
    pub entry: Entry,
    /// The role of who creates the room.
    pub creator: Role,
    pub needs_alias: bool,
    pub invite: Role,
    /// Who kicks, bans, mutes, changes roles and rights, deletes what others posted, and reads what was decided so.
    pub moderate: Option<Role>,
    pub update: Role,
    pub archive: Option<Role>,
    /// Who posts and reacts.
    pub post: Role,
    pub pin: Role,
    pub leave: Leave,
}

impl Policy {
    /// Whether somebody who is not a member may know that a room of this kind exists; `invited` says that the user is.
    pub fn is_known_to(self, invited: bool) -> bool {
        invited || self.entry == Entry::Open
    }

    /// The weakest role with which somebody has it; `None` where the kind has no such thing.
    pub fn least(self, capability: Capability) -> Option<Role> {
        match capability {
            Capability::Post | Capability::React => Some(self.post),
            Capability::Pin => Some(self.pin),
            Capability::Invite => Some(self.invite),
            Capability::Update => Some(self.update),
            Capability::Archive => self.archive,
            Capability::BypassSlowMode | Capability::BypassRules => Some(Role::Admin),
            Capability::Delete
            | Capability::Mute
            | Capability::Kick
            | Capability::Ban
            | Capability::Roles
            | Capability::Audit => self.moderate,
        }
    }

    /// What `role` allows.
    pub fn capabilities(self, role: Role) -> Capabilities {
        let has = |capability: &Capability| self.least(*capability).is_some_and(|least| role >= least);
        Capability::ALL.into_iter().filter(has).collect()
    }
}

/// How somebody becomes a member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entry {
    /// Whoever asks.
    Open,
    /// Whoever was invited, by joining.
    Invited,
    /// Whoever is invited, at once.
    Added,
    /// Nobody after the creation.
    Closed,
}

/// Who may leave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Leave {
    /// Anybody but the last owner while others remain: a room needs somebody to answer for it.
    UnlessLastOwner,
    UnlessOwner,
    Never,
}
