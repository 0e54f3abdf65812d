//! Who may come into the channels of a tenant, by what they are called.

use super::Alias;
use super::policy::Role;

/// As what whoever asks may join a channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admission {
    /// As any member.
    Members,
    /// To read.
    Viewers,
    /// Not at all: who has been invited may.
    Invited,
}

/// What the names of channels say about that. A `*` in a name stands for any characters, none among them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Admissions {
    /// Channels that are for the invited, whatever else their names say.
    pub closed: Vec<String>,
    /// Channels in which whoever has not been invited only reads.
    pub read_only: Vec<String>,
}

impl Admissions {
    pub fn of(&self, channel: &Alias) -> Admission {
        let named = |names: &[String]| names.iter().any(|name| fits(name, channel.as_str()));
        if named(&self.closed) {
            Admission::Invited
        } else if named(&self.read_only) {
            Admission::Viewers
        } else {
            Admission::Members
        }
    }
}

impl Admission {
    /// As what somebody joins who has been `invited` to be something, or not; `None`: not at all.
    pub fn role(self, invited: Option<Role>) -> Option<Role> {
        invited.or(match self {
            Self::Members => Some(Role::Member),
            Self::Viewers => Some(Role::Viewer),
            Self::Invited => None,
        })
    }
}

/// Whether `name` is as `pattern` says. What is between two stars is looked for where it comes first, so that no pattern
/// takes longer than both lengths together allow.
fn fits(pattern: &str, name: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(head) else { return false };
    let (between, tail) = rest.rsplit_once('*').unwrap_or(("", rest));
    for part in between.split('*') {
        match name.find(part) {
            Some(at) => name = &name[at + part.len()..],
            None => return false,
        }
    }
    name.ends_with(tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        let cases = [
            ("news", "news", true),
            ("news", "newsroom", false),
            ("news*", "news", true),
            ("news*", "newsroom", true),
            ("*room", "newsroom", true),
            ("a*c", "ac", true),
            ("a*c", "abcb", false),
            ("ab*ba", "aba", false),
            ("*x*y*", "1x2y3", true),
            ("*x*y*", "1y2x3", false),
            ("*", "ä", true),
            ("ä*ß", "äöß", true),
            ("", "a", false),
        ];
        for (pattern, name, expected) in cases {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn who_is_invited_comes_in_as_that_and_others_as_the_name_says() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let admissions = Admissions { closed: names(&["secret-*"]), read_only: names(&["news", "secret-news"]) };
        let of = |name: &str| admissions.of(&Alias::new(name).unwrap());
        assert_eq!(of("lobby").role(None), Some(Role::Member));
        assert_eq!(of("news").role(None), Some(Role::Viewer));
        assert_eq!(of("news").role(Some(Role::Admin)), Some(Role::Admin));
        assert_eq!((of("secret-news").role(None), of("secret-1").role(Some(Role::Guest))), (None, Some(Role::Guest)));
    }
}
