//! A link to a file that is good for a while, for what shows a picture and can set no header.
//!
//! It says whose rights it stands on, and is sealed as the cursors of worlds are: nobody else can make or read one, and it
//! is bound to its file. What its bearer may read is looked up each time, so it grants nothing that its maker has lost.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::world_cursor::Sealer;
use crate::domain::{FileId, LoginId, Principal, TenantId, Timestamp, TokenId, UserId};

/// The first byte of what is sealed.
const VERSION: u8 = 1;

/// The longest text that is looked at: three ids at their longest, and the times.
const TEXT_BYTES_MAX: usize = 1024;

impl Sealer {
    /// A link to `file` for `by`, good as long as `by` is.
    pub fn seal_link(&self, file: FileId, by: &Principal) -> String {
        let mut plain = vec![VERSION];
        plain.extend(by.issued_at.0.to_be_bytes());
        plain.extend(by.expires_at.0.to_be_bytes());
        let token = by.token.as_ref().map_or("", TokenId::as_str);
        let login = by.login.map_or_else(String::new, |login| login.to_string());
        for text in [by.tenant.as_str(), by.user.as_str(), token, &login] {
            plain.push(u8::try_from(text.len()).expect("no id has more than 255 bytes"));
            plain.extend(text.as_bytes());
        }
        URL_SAFE_NO_PAD.encode(self.seal_bytes(bound(&file), &plain))
    }

    /// Whose rights a link to `file` stands on, and until when; `None` where it is not one of ours.
    pub fn open_link(&self, file: FileId, text: &str) -> Option<Principal> {
        if text.len() > TEXT_BYTES_MAX {
            return None;
        }
        let plain = self.open_bytes(bound(&file), &URL_SAFE_NO_PAD.decode(text).ok()?)?;
        let (issued_at, rest) = plain.strip_prefix(&[VERSION])?.split_first_chunk()?;
        let (expires_at, mut rest) = rest.split_first_chunk()?;
        let (tenant, user, token) = (take(&mut rest)?, take(&mut rest)?, take(&mut rest)?);
        let login = take(&mut rest)?;
        Some(Principal {
            tenant: TenantId::new(tenant).ok()?,
            user: UserId::new(user).ok()?,
            token: if token.is_empty() { None } else { Some(TokenId::new(token).ok()?) },
            login: if login.is_empty() { None } else { Some(LoginId(uuid::Uuid::try_parse(login).ok()?)) },
            issued_at: Timestamp(i64::from_be_bytes(*issued_at)),
            expires_at: Timestamp(i64::from_be_bytes(*expires_at)),
        })
    }
}

/// What a link is bound to. A cursor is bound to two ids, and this is the text of none.
fn bound(file: &FileId) -> [&[u8]; 2] {
    [b"link to a file", file.0.as_bytes()]
}

fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let (&len, more) = rest.split_first()?;
    let (text, more) = more.split_at_checked(usize::from(len))?;
    *rest = more;
    std::str::from_utf8(text).ok()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_link_says_whose_it_is_and_is_good_for_its_file_alone() {
        let (sealer, file) = (Sealer::new(&[7; 32]).unwrap(), FileId(Uuid::from_u128(1)));
        for token in [None, Some(TokenId::new("t-1").unwrap())] {
            let by = Principal {
                tenant: TenantId::default_tenant(),
                user: UserId::new("ann").unwrap(),
                login: token.is_some().then(|| LoginId(Uuid::from_u128(9))),
                token,
                issued_at: Timestamp(-3),
                expires_at: Timestamp(i64::MAX),
            };
            let text = sealer.seal_link(file, &by);
            assert_eq!(sealer.open_link(file, &text), Some(by));
            assert_eq!(sealer.open_link(FileId(Uuid::from_u128(2)), &text), None);
            assert_eq!(Sealer::new(&[8; 32]).unwrap().open_link(file, &text), None);
            for index in 0..text.len() {
                let mut changed = text.clone().into_bytes();
                changed[index] = if changed[index] == b'A' { b'B' } else { b'A' };
                let changed = String::from_utf8(changed).unwrap();
                // The last character may have bits that stand for nothing.
                assert!(sealer.open_link(file, &changed).is_none(), "{index}");
            }
        }
        for text in ["", "A", "%", &"A".repeat(TEXT_BYTES_MAX + 1)] {
            assert_eq!(sealer.open_link(file, text), None);
        }
    }
}
