//! The kinds of room and what each allows: one table, so that two kinds can be compared at a glance.

/// The most time between two messages of a member that slow mode asks for, in milliseconds: six hours.
pub const SLOW_MODE_MAX_MS: u32 = 6 * 60 * 60 * 1000;

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
}

impl RoomKind {
    pub const ALL: [Self; 5] = [Self::Channel, Self::Group, Self::Direct, Self::Box, Self::Canvas];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Channel => "channel",
            Self::Group => "group",
            Self::Direct => "direct",
            Self::Box => "box",
            Self::Canvas => "canvas",
        }
    }

    pub fn policy(self) -> Policy {
        match self {
            Self::Channel => Policy {
                entry: Entry::Open,
                creator: Role::Owner,
                needs_alias: true,
                invite: Role::Member,
                kick: Some(Role::Admin),
                update: Role::Admin,
                archive: Some(Role::Owner),
                post: Role::Guest,
                moderate: Some(Role::Admin),
                pin: Role::Admin,
                leave: Leave::UnlessLastOwner,
            },
            Self::Group => Policy {
                entry: Entry::Invited,
                creator: Role::Owner,
                needs_alias: false,
                invite: Role::Admin,
                kick: Some(Role::Admin),
                update: Role::Admin,
                archive: Some(Role::Owner),
                post: Role::Guest,
                moderate: Some(Role::Admin),
                pin: Role::Admin,
                leave: Leave::UnlessLastOwner,
            },
            Self::Direct => Policy {
                entry: Entry::Closed,
                creator: Role::Member,
                needs_alias: false,
                invite: Role::Owner,
                kick: None,
                update: Role::Owner,
                archive: None,
                post: Role::Member,
                moderate: None,
                pin: Role::Member,
                leave: Leave::Never,
            },
            Self::Box => Policy {
                entry: Entry::Invited,
                creator: Role::Owner,
                needs_alias: false,
                invite: Role::Owner,
                kick: Some(Role::Owner),
                update: Role::Owner,
                archive: Some(Role::Owner),
                post: Role::Guest,
                moderate: Some(Role::Owner),
                pin: Role::Admin,
                leave: Leave::UnlessOwner,
            },
            Self::Canvas => Policy {
                entry: Entry::Added,
                creator: Role::Owner,
                needs_alias: false,
                invite: Role::Admin,
                kick: Some(Role::Admin),
                update: Role::Admin,
                archive: Some(Role::Owner),
                post: Role::Member,
                moderate: Some(Role::Admin),
                pin: Role::Admin,
                leave: Leave::UnlessLastOwner,
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

/// What a kind of room allows. A role stands for itself and every stronger one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy {
    pub entry: Entry,
    /// The role of who creates the room.
    pub creator: Role,
    pub needs_alias: bool,
    pub invite: Role,
    pub kick: Option<Role>,
    pub update: Role,
    pub archive: Option<Role>,
    pub post: Role,
    /// Who deletes what others posted.
    pub moderate: Option<Role>,
    pub pin: Role,
    pub leave: Leave,
}

impl Policy {
    /// Whether somebody who is not a member may know that a room of this kind exists; `invited` says that the user is.
    pub fn is_known_to(self, invited: bool) -> bool {
        invited || self.entry == Entry::Open
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
