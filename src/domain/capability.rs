//! What a user may do in a room: a set of bits, made of the kind of room, the role and what was decided about the user.

use std::fmt;

/// One thing that may be done in a room. To read is not among them: every member may.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Capability {
    /// To say something, and to edit what one has said.
    Post,
    React,
    Pin,
    /// To invite, or to add in rooms that are entered so.
    Invite,
    /// To delete what others have said.
    Delete,
    Mute,
    Kick,
    Ban,
    /// To change roles and [`Rights`].
    Roles,
    /// To change what the room is.
    Update,
    Archive,
    /// To wait for nothing in slow mode.
    BypassSlowMode,
    /// To say what the rules about words and links do not allow.
    BypassRules,
    /// To read what has been decided about others, in the room's audit room.
    Audit,
}

impl Capability {
    /// In the order of their bits, which are kept: new ones go to the end.
    pub const ALL: [Self; 14] = [
        Self::Post,
        Self::React,
        Self::Pin,
        Self::Invite,
        Self::Delete,
        Self::Mute,
        Self::Kick,
        Self::Ban,
        Self::Roles,
        Self::Update,
        Self::Archive,
        Self::BypassSlowMode,
        Self::BypassRules,
        Self::Audit,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Post => "post",
            Self::React => "react",
            Self::Pin => "pin",
            Self::Invite => "invite",
            Self::Delete => "delete",
            Self::Mute => "mute",
            Self::Kick => "kick",
            Self::Ban => "ban",
            Self::Roles => "roles",
            Self::Update => "update",
            Self::Archive => "archive",
            Self::BypassSlowMode => "bypass_slow_mode",
            Self::BypassRules => "bypass_rules",
            Self::Audit => "audit",
        }
    }

    fn bit(self) -> u32 {
        1 << self as u8
    }
}

/// Several capabilities.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Capabilities(u32);

impl Capabilities {
    pub const NONE: Self = Self(0);

    pub fn has(self, capability: Capability) -> bool {
        self.0 & capability.bit() != 0
    }

    /// Whether all of them are among `others`.
    pub fn within(self, others: Self) -> bool {
        self.without(others) == Self::NONE
    }

    pub fn is_empty(self) -> bool {
        self == Self::NONE
    }

    #[must_use]
    pub fn and(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    #[must_use]
    pub fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// Those that are in one of both and not in the other.
    #[must_use]
    pub fn differing(self, others: Self) -> Self {
        Self(self.0 ^ others.0)
    }

    pub fn iter(self) -> impl Iterator<Item = Capability> {
        Capability::ALL.into_iter().filter(move |capability| self.has(*capability))
    }

    /// One bit for each, by which they are kept.
    pub fn bits(self) -> u32 {
        self.0
    }

    /// Of [`Capabilities::bits`]; bits that mean nothing here are passed over.
    pub fn of_bits(bits: u32) -> Self {
        Capability::ALL.into_iter().filter(|capability| bits & capability.bit() != 0).collect()
    }
}

impl FromIterator<Capability> for Capabilities {
    fn from_iter<I: IntoIterator<Item = Capability>>(capabilities: I) -> Self {
        Self(capabilities.into_iter().fold(0, |bits, capability| bits | capability.bit()))
    }
}

impl fmt::Debug for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// What was decided about one user in a room, whatever the role says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rights {
    /// Ends with the membership.
    pub allow: Capabilities,
    /// Outlasts the membership: nobody gets back by leaving what was taken away.
    pub deny: Capabilities,
}

impl Rights {
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// What is left of them when the membership ends.
    #[must_use]
    pub fn after_membership(self) -> Self {
        Self { allow: Capabilities::NONE, ..self }
    }

    /// What somebody may do whose role allows `by_role`.
    pub fn over(self, by_role: Capabilities) -> Capabilities {
        by_role.and(self.allow).without(self.deny)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(capabilities: &[Capability]) -> Capabilities {
        capabilities.iter().copied().collect()
    }

    #[test]
    fn bits_come_back_and_unknown_ones_do_not() {
        let all = of(&Capability::ALL);
        assert_eq!(Capabilities::of_bits(all.bits()), all);
        assert_eq!(Capabilities::of_bits(u32::MAX), all);
        assert_eq!(all.iter().collect::<Vec<_>>(), Capability::ALL);
        assert_eq!(Capabilities::of_bits(0), Capabilities::NONE);
    }

    /// They lie in logs: a bit that changed its place would change what somebody may do.
    #[test]
    fn each_has_the_bit_that_it_always_had() {
        let bits: Vec<(&str, u32)> =
            Capability::ALL.iter().map(|it| (it.as_str(), it.bit().trailing_zeros())).collect();
        let expected = [
            ("post", 0),
            ("react", 1),
            ("pin", 2),
            ("invite", 3),
            ("delete", 4),
            ("mute", 5),
            ("kick", 6),
            ("ban", 7),
            ("roles", 8),
            ("update", 9),
            ("archive", 10),
            ("bypass_slow_mode", 11),
            ("bypass_rules", 12),
            ("audit", 13),
        ];
        assert_eq!(bits, expected);
    }

    #[test]
    fn what_is_denied_is_denied_whatever_allows_it() {
        use Capability::{Pin, Post, React};
        let rights = Rights { allow: of(&[Pin, Post]), deny: of(&[Post]) };
        assert_eq!(rights.over(of(&[Post, React])), of(&[React, Pin]));
        assert_eq!(rights.after_membership().over(of(&[Post, React])), of(&[React]));
    }
}
