//! What a collection is called, and what that allows.

use std::fmt;
use std::sync::Arc;

/// The name of a collection. Who may read and write what is in it is said at its end, so it never changes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CollectionName(Arc<str>);

/// Why a text is no name of a collection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CollectionNameError {
    #[error("the name of a collection has 1 to 100 bytes")]
    Size,
    #[error("the name of a collection has letters, digits, `_`, `-` and `.`, and no {found:?}")]
    Character { found: char },
    #[error("names that begin with sb_ are the server's own")]
    Reserved,
    #[error("the permissions at the end of the name have digits from 0 to 7")]
    Digits,
}

/// What the owner of a document, the others of its account and everyone else may do: a sum of 4 for reading, 2 for
/// writing and 1 for executing each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Permissions {
    pub owner: u8,
    pub account: u8,
    pub everyone: u8,
}

/// Up to whom something is allowed. The owner of a document is allowed everything, whatever the first digit says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Level {
    Owner,
    Account,
    Everyone,
}

impl CollectionName {
    /// The longest this may be, in bytes.
    pub const BYTES_MAX: usize = 100;

    /// Checks `text` and takes it over.
    pub fn new(text: &str) -> Result<Self, CollectionNameError> {
        if text.is_empty() || text.len() > Self::BYTES_MAX {
            return Err(CollectionNameError::Size);
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if let Some(found) = text.chars().find(|c| !allowed(*c)) {
            return Err(CollectionNameError::Character { found });
        }
        if text.starts_with("sb_") {
            return Err(CollectionNameError::Reserved);
        }
        if digits(text).is_some_and(|digits| digits.iter().any(|digit| *digit > 7)) {
            return Err(CollectionNameError::Digits);
        }
        Ok(Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it can be read without a token.
    pub fn is_public(&self) -> bool {
        self.0.starts_with("pub_")
    }

    pub fn permissions(&self) -> Permissions {
        digits(&self.0).map_or(Permissions::DEFAULT, |[owner, account, everyone]| Permissions {
            owner,
            account,
            everyone,
        })
    }
}

/// The three digits with which a name ends, between underscores.
fn digits(name: &str) -> Option<[u8; 3]> {
    let [b'_', owner, account, everyone, b'_'] = *name.as_bytes().last_chunk()? else { return None };
    let digits: [u8; 3] = [owner, account, everyone];
    digits.iter().all(u8::is_ascii_digit).then(|| digits.map(|digit| digit - b'0'))
}

impl Permissions {
    const DEFAULT: Self = Self { owner: 7, account: 4, everyone: 0 };
    const READ: u8 = 4;
    const WRITE: u8 = 2;

    /// Who reads.
    pub fn read(self) -> Level {
        self.level(Self::READ)
    }

    /// Who updates and deletes.
    pub fn write(self) -> Level {
        self.level(Self::WRITE)
    }

    fn level(self, bit: u8) -> Level {
        match (self.everyone & bit, self.account & bit) {
            (1.., _) => Level::Everyone,
            (0, 1..) => Level::Account,
            (0, 0) => Level::Owner,
        }
    }
}

impl fmt::Display for CollectionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for CollectionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}
