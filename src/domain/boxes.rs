//! Who is let into a box: what its owner has said about who may come in, in the words of Misakey.

use std::sync::Arc;

use super::{Timestamp, UserId};

/// The most that may be said of one box.
pub const ACCESSES_MAX: usize = 500;

/// The longest that one may be, in bytes.
pub const ACCESS_BYTES_MAX: usize = 254;

/// About whom something is said.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Restriction {
    /// Whoever knows of the box.
    InvitationLink,
    /// Who is called so.
    Identifier,
    /// Whose name ends with `@` and the value.
    EmailDomain,
}

impl Restriction {
    pub const ALL: [Self; 3] = [Self::InvitationLink, Self::Identifier, Self::EmailDomain];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvitationLink => "invitation_link",
            Self::Identifier => "identifier",
            Self::EmailDomain => "email_domain",
        }
    }
}

/// That some may come in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Access {
    pub restriction: Restriction,
    pub value: Arc<str>,
    pub by: UserId,
    pub at: Timestamp,
}

impl Access {
    /// Whether the two let the same in.
    pub fn is_like(&self, other: &Self) -> bool {
        self.restriction == other.restriction && self.value.to_lowercase() == other.value.to_lowercase()
    }

    fn names(&self, user: &UserId) -> bool {
        let user = user.as_str().to_lowercase();
        match self.restriction {
            Restriction::InvitationLink => false,
            Restriction::Identifier => user == self.value.to_lowercase(),
            Restriction::EmailDomain => {
                user.rsplit_once('@').is_some_and(|(_, domain)| domain == self.value.to_lowercase())
            }
        }
    }
}

/// Whether `user`, who is not the owner, is let in by them: nobody where there are none; where there are links only,
/// whoever knows of the box; else who is named.
pub fn lets_in<'a>(accesses: impl IntoIterator<Item = &'a Access>, user: &UserId) -> bool {
    let (mut any, mut named, mut only_links) = (false, false, true);
    for access in accesses {
        any = true;
        only_links &= access.restriction == Restriction::InvitationLink;
        named |= access.names(user);
    }
    any && (only_links || named)
}

/// What a box is besides a room.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BoxNature {
    /// For whom its messages are encrypted. Nobody here looks into it.
    pub public_key: Arc<str>,
    pub creator: UserId,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(restriction: Restriction, value: &str) -> Access {
        let by = UserId::new("olga").unwrap();
        Access { restriction, value: value.into(), by, at: Timestamp(0) }
    }

    #[test]
    fn who_comes_in_is_who_is_named_or_where_nobody_is_whoever_has_the_link() {
        let link = access(Restriction::InvitationLink, "hash");
        let ann = access(Restriction::Identifier, "Ann@example.org");
        let domain = access(Restriction::EmailDomain, "example.org");
        let (of_ann, of_bob) = (UserId::new("ann@example.org").unwrap(), UserId::new("bob@example.org").unwrap());
        let eve = UserId::new("eve@sub.example.org").unwrap();
        for (accesses, expected) in [
            (vec![], [false, false, false]),
            (vec![&link], [true, true, true]),
            (vec![&ann], [true, false, false]),
            (vec![&link, &ann], [true, false, false]),
            (vec![&domain], [true, true, false]),
            (vec![&link, &domain, &ann], [true, true, false]),
        ] {
            let found = [&of_ann, &of_bob, &eve].map(|user| lets_in(accesses.iter().copied(), user));
            assert_eq!(found, expected, "{accesses:?}");
        }
    }
}
