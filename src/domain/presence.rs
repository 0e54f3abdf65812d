//! Whether a user is there, as the user's connections say.
//!
//! A connection that says nothing does not count (as in RFC 6121, section 4.2). Who wants not to be seen on any says so
//! once, in the settings.

/// What a connection says of its user, and what all of them together come to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Presence {
    Away,
    Online,
}

impl Presence {
    pub const ALL: [Self; 2] = [Self::Away, Self::Online];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Away => "away",
            Self::Online => "online",
        }
    }

    /// Of a user whose connections say `said`: online where one of them does.
    pub fn of(said: impl IntoIterator<Item = Self>) -> Option<Self> {
        said.into_iter().max()
    }
}
