//! Who a user is to the others: a name, a picture, how to be reached.

use std::fmt;
use std::sync::Arc;

use super::{Content, FileId, Name};

/// The most that the fields of a profile that only clients understand may come to, in bytes.
pub const FIELDS_BYTES_MAX: usize = 4 * 1024;

/// The longest address of a picture, in bytes.
pub const AVATAR_BYTES_MAX: usize = 2048;

/// What a user says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Profile {
    pub name: Option<Name>,
    pub avatar: Option<Avatar>,
    /// A line about the user.
    pub about: Option<Name>,
    pub email: Option<Email>,
    pub telephone: Option<Telephone>,
    /// What only clients understand.
    pub fields: Content,
}

/// A picture that stands for a user.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Avatar {
    /// Somewhere on the web.
    Address(Arc<str>),
    /// A file that the user has sent for that.
    File(FileId),
}

/// What a token says of its bearer besides who it is, and whether that stands before what the user says.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Introduction {
    pub name: Option<Name>,
    pub avatar: Option<Avatar>,
    pub about: Option<Name>,
    pub email: Option<Email>,
    pub telephone: Option<Telephone>,
    pub wins: bool,
}

impl Introduction {
    /// The profile of somebody who is introduced so, and what is remembered of all introductions; `before` is what was.
    /// What the user has said or taken away stays, unless the token wins.
    pub fn introduce(&self, own: &Profile, before: &Self) -> (Profile, Self) {
        let (mut own, mut known) = (own.clone(), before.clone());
        known.wins = self.wins;
        take(&mut own.name, &mut known.name, &self.name, self.wins);
        take(&mut own.avatar, &mut known.avatar, &self.avatar, self.wins);
        take(&mut own.about, &mut known.about, &self.about, self.wins);
        take(&mut own.email, &mut known.email, &self.email, self.wins);
        take(&mut own.telephone, &mut known.telephone, &self.telephone, self.wins);
        (own, known)
    }

    /// What becomes of a profile that the user has changed: what is introduced stands, where it wins.
    pub fn heeded(&self, profile: Profile) -> Profile {
        if !self.wins {
            return profile;
        }
        let Self { name, avatar, about, email, telephone, wins: _ } = self.clone();
        Profile {
            name: name.or(profile.name),
            avatar: avatar.or(profile.avatar),
            about: about.or(profile.about),
            email: email.or(profile.email),
            telephone: telephone.or(profile.telephone),
            fields: profile.fields,
        }
    }
}

/// A field of a profile is the token's for as long as it is what the last token said.
fn take<T: Clone + PartialEq>(own: &mut Option<T>, known: &mut Option<T>, said: &Option<T>, wins: bool) {
    if said.is_none() {
        return;
    }
    if wins || own == known {
        own.clone_from(said);
    }
    known.clone_from(said);
}

impl Avatar {
    /// A picture of the web.
    pub fn address(text: &str) -> Option<Self> {
        let web = text.starts_with("https://") || text.starts_with("http://");
        let plain = text.len() <= AVATAR_BYTES_MAX && text.bytes().all(|byte| byte.is_ascii_graphic());
        (web && plain).then(|| Self::Address(text.into()))
    }

    pub fn file(&self) -> Option<FileId> {
        match self {
            Self::File(file) => Some(*file),
            Self::Address(_) => None,
        }
    }
}

/// Who is shown how a user can be reached, besides the user.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Audience {
    #[default]
    Nobody,
    /// Owners of rooms that the user is in.
    Owners,
    /// All users of the tenant.
    Everybody,
}

impl Audience {
    pub const ALL: [Self; 3] = [Self::Nobody, Self::Owners, Self::Everybody];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::Owners => "owners",
            Self::Everybody => "everybody",
        }
    }
}

/// An address of the form `local@domain`; whether mail arrives there is not looked at.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Email(Arc<str>);

impl Email {
    /// RFC 5321, section 4.5.3.1.3, less the angle brackets.
    pub const BYTES_MAX: usize = 254;

    pub fn new(text: &str) -> Result<Self, &'static str> {
        let known = text.len() <= Self::BYTES_MAX && text.chars().all(|c| !c.is_whitespace() && !c.is_control());
        match text.rsplit_once('@') {
            Some((local, domain)) if known && !local.is_empty() && !domain.is_empty() => Ok(Self(text.into())),
            Some(_) | None => Err("an e-mail address is of the form local@domain, with at most 254 bytes"),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What two spellings of one address have in common, as most servers take them: case makes no difference.
    pub fn normal(&self) -> String {
        self.0.to_lowercase()
    }
}

/// The SHA-256 of how somebody can be reached: of an e-mail address in its normal form, or of a telephone number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ContactHash(pub [u8; 32]);

impl ContactHash {
    /// Of 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let mut hash = [0; 32];
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        for (at, byte) in hash.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
        }
        Some(Self(hash))
    }
}

impl fmt::Display for ContactHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A number as ITU-T E.164 has it: a plus sign and up to 15 digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Telephone(Arc<str>);

impl Telephone {
    pub fn new(text: &str) -> Result<Self, &'static str> {
        match text.strip_prefix('+') {
            Some(digits) if (5..=15).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                Ok(Self(text.into()))
            }
            Some(_) | None => Err("a telephone number is a plus sign and 5 to 15 digits"),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What is to change of a profile: what is `None` stays as it is, `Some(None)` is taken away.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ProfileUpdate {
    pub name: Option<Option<Name>>,
    pub avatar: Option<Option<Avatar>>,
    pub about: Option<Option<Name>>,
    pub email: Option<Option<Email>>,
    pub telephone: Option<Option<Telephone>>,
    pub fields: Option<Content>,
}

impl Profile {
    /// The profile as it is after `update`.
    pub fn updated(&self, update: ProfileUpdate) -> Self {
        let ProfileUpdate { name, avatar, about, email, telephone, fields } = update;
        Self {
            name: name.unwrap_or_else(|| self.name.clone()),
            avatar: avatar.unwrap_or_else(|| self.avatar.clone()),
            about: about.unwrap_or_else(|| self.about.clone()),
            email: email.unwrap_or_else(|| self.email.clone()),
            telephone: telephone.unwrap_or_else(|| self.telephone.clone()),
            fields: fields.unwrap_or_else(|| self.fields.clone()),
        }
    }

    /// What is shown to who may not know how the user can be reached.
    #[must_use]
    pub fn without_contacts(self) -> Self {
        Self { email: None, telephone: None, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_update_does_not_name_stays_and_what_it_names_null_goes() {
        let ann = Name::new("Ann").unwrap();
        let email = Email::new("ann@example.org").unwrap();
        let named = ProfileUpdate { name: Some(Some(ann.clone())), email: Some(Some(email)), ..Default::default() };
        let profile = Profile::default().updated(named);
        let about = ProfileUpdate { about: Some(Some(ann.clone())), email: Some(None), ..Default::default() };
        let expected = Profile { name: Some(ann.clone()), about: Some(ann), ..Profile::default() };
        assert_eq!(profile.updated(about), expected);
    }

    #[test]
    fn what_a_token_says_is_taken_over_where_the_user_has_not_said_otherwise() {
        let name = |text: &str| Some(Name::new(text).unwrap());
        let introduction = |said: &str, wins| Introduction { name: name(said), wins, ..Introduction::default() };
        let own = |said: Option<&str>| Profile { name: said.and_then(name), ..Profile::default() };
        let nothing = Introduction::default();
        // What the token says, what the user says, what the token before said: what is so then.
        for (said, is, before, expected) in [
            ("Ann", None, None, Some("Ann")),
            ("Anna", Some("Ann"), Some("Ann"), Some("Anna")),
            ("Anna", Some("Annie"), Some("Ann"), Some("Annie")),
            ("Ann", Some("Annie"), None, Some("Annie")),
            ("Ann", None, Some("Ann"), None),
            ("Anna", None, Some("Ann"), None),
        ] {
            let before = before.map_or(nothing.clone(), |before| introduction(before, false));
            let (profile, known) = introduction(said, false).introduce(&own(is), &before);
            assert_eq!((profile, known), (own(expected), introduction(said, false)), "{said} {is:?} {before:?}");
            let (profile, known) = introduction(said, true).introduce(&own(is), &before);
            assert_eq!((profile, &known), (own(Some(said)), &introduction(said, true)));
            assert_eq!(known.heeded(own(Some("Annie"))), own(Some(said)));
            assert_eq!(known.heeded(own(None)), own(Some(said)));
        }
        let (profile, known) = nothing.introduce(&own(Some("Ann")), &introduction("Ann", false));
        assert_eq!((profile, known), (own(Some("Ann")), introduction("Ann", false)), "a token that says nothing");
        assert_eq!(introduction("Ann", false).heeded(own(Some("Annie"))), own(Some("Annie")));
    }

    #[test]
    fn the_hash_of_a_contact_is_read_from_64_hexadecimal_digits_and_nothing_else() {
        let text = "00ff".repeat(16);
        assert_eq!(ContactHash::parse(&text).map(|hash| hash.to_string()), Some(text.clone()));
        assert_eq!(ContactHash::parse(&text.to_uppercase()), ContactHash::parse(&text));
        for bad in ["", "00", &text[1..], &format!("{text}0"), &format!("{}é", &text[2..]), &text.replacen('0', "+", 1)]
        {
            assert_eq!(ContactHash::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn contacts_are_of_their_forms() {
        for good in ["a@b", "ann.o'neil+x@mail.example.org", "grün@köln.example"] {
            assert!(Email::new(good).is_ok(), "{good}");
        }
        for bad in ["", "@", "a@", "@b", "ann", "a b@c", "a@b\n", &format!("{}@b", "a".repeat(253))] {
            assert!(Email::new(bad).is_err(), "{bad:?}");
        }
        for good in ["+49301", "+123456789012345"] {
            assert!(Telephone::new(good).is_ok(), "{good}");
        }
        for bad in ["", "+", "49301234", "+1234", "+1234567890123456", "+49 301 23", "+٤٩٣٠١٢"] {
            assert!(Telephone::new(bad).is_err(), "{bad}");
        }
    }
}
