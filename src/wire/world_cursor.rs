//! The cursor of a user's whole world: how far in all rooms, sealed, as an opaque text.
//!
//! It holds the log's mark, which grows with whatever anybody says anywhere, so it is encrypted: nobody can read from
//! it how much others talk. AES-SIV (RFC 5297) needs no nonce, so the same world has the same text; it is also proof
//! that the text is ours, and whose, because tenant and user are what it is bound to. It grants nothing: what its
//! bearer may read is looked up anyway.

use std::collections::BTreeMap;

use aes_siv::siv::{Aes128Siv, IV_SIZE};
use aes_siv::{Key, KeyInit};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::cursor::{Cursor, CursorError, CursorText, SEQ_MAX, put_varint, varint};
use crate::domain::world::{EXCEPTIONS_MAX, RoomTag, World};
use crate::domain::{Epoch, Mark, Seq, TenantId, UserId};

/// Before what is sealed; the cursor of a room begins with another byte.
const SEALED: u8 = 2 << 4;
/// The first byte of what is sealed.
const VERSION: u8 = 1;
/// Two keys of AES-128 (RFC 5297, section 2.2).
const KEY_BYTES: usize = 32;
/// Of a room's tag and its seq, which has 40 bits.
const STAND_BYTES_MAX: usize = 8 + 6;
/// Version, epoch, mark, how many exceptions, these, and the pass with its mark.
const PLAIN_BYTES_MAX: usize = 1 + 10 + 8 + 1 + EXCEPTIONS_MAX * STAND_BYTES_MAX + 8 + STAND_BYTES_MAX;
/// The longest text of these: four characters for three bytes.
pub const TEXT_BYTES_MAX: usize = (1 + IV_SIZE + PLAIN_BYTES_MAX).div_ceil(3) * 4;
/// The shortest.
const TEXT_BYTES_MIN: usize = ((1 + IV_SIZE + 1 + 1 + 8 + 1) * 8).div_ceil(6);

/// Seals worlds into cursors and opens them again.
pub struct Sealer(Key<Aes128Siv>);

impl Sealer {
    /// Seals with the first 32 bytes of `key`; `None` where it has fewer. Cursors are good for as long as it is the same.
    pub fn new(key: &[u8]) -> Option<Self> {
        key.first_chunk().map(|key: &[u8; KEY_BYTES]| Self((*key).into()))
    }

    /// The cursor of `world`, for one user.
    pub fn seal(&self, tenant: &TenantId, user: &UserId, epoch: Epoch, world: &World) -> CursorText<TEXT_BYTES_MAX> {
        let mut bytes = [0; 1 + IV_SIZE + PLAIN_BYTES_MAX];
        let mut end = 1 + IV_SIZE;
        let mut put = |part: &[u8]| {
            bytes[end..end + part.len()].copy_from_slice(part);
            end += part.len();
        };
        put(&[VERSION]);
        put_varint(&mut put, epoch.0);
        // Of a fixed length, because that of the text is for all to see.
        put(&world.mark().0.to_be_bytes());
        put(&[u8::try_from(world.exceptions().len()).expect("a world has few exceptions")]);
        for (room, seq) in world.exceptions() {
            put_stand(&mut put, *room, *seq);
        }
        if let Some((pass, (room, seq))) = world.pass().and_then(|pass| pass.reached.map(|reached| (pass, reached))) {
            put(&pass.next.0.to_be_bytes());
            put_stand(&mut put, room, seq);
        }
        let (head, plain) = bytes[..end].split_at_mut(1 + IV_SIZE);
        let sealed = Aes128Siv::new(&self.0).encrypt_inout_detached(bound(tenant, user), plain.into());
        head[0] = SEALED;
        head[1..].copy_from_slice(&sealed.expect("two headers are not too many"));
        CursorText::of(&bytes[..end])
    }

    /// Opens a cursor that was sealed for this user, in this epoch.
    pub fn open(&self, tenant: &TenantId, user: &UserId, epoch: Epoch, text: &str) -> Result<World, CursorError> {
        if Cursor::is_one(text) {
            return Err(CursorError::Foreign);
        }
        if text.len() > TEXT_BYTES_MAX {
            return Err(CursorError::Invalid);
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| CursorError::Invalid)?;
        let sealed = bytes.strip_prefix(&[SEALED]).filter(|sealed| sealed.len() > IV_SIZE);
        let plain = Aes128Siv::new(&self.0).decrypt(bound(tenant, user), sealed.ok_or(CursorError::Invalid)?);
        let (found, world) = plain.ok().and_then(|plain| parse(&plain)).ok_or(CursorError::Invalid)?;
        if found != epoch {
            return Err(CursorError::EpochChanged);
        }
        Ok(world)
    }
}

impl Sealer {
    /// Seals something else than a cursor, bound to `headers`.
    pub(super) fn seal_bytes(&self, headers: [&[u8]; 2], plain: &[u8]) -> Vec<u8> {
        Aes128Siv::new(&self.0).encrypt(headers, plain).expect("two headers are not too many")
    }

    /// Opens what [`Sealer::seal_bytes`] sealed; `None` where that is not so.
    pub(super) fn open_bytes(&self, headers: [&[u8]; 2], sealed: &[u8]) -> Option<Vec<u8>> {
        Aes128Siv::new(&self.0).decrypt(headers, sealed).ok()
    }
}

/// Whether a text has the looks of a sealed cursor, for who expects that of a room.
pub(super) fn looks_sealed(text: &str) -> bool {
    let begins = text.get(..4).and_then(|begin| URL_SAFE_NO_PAD.decode(begin).ok());
    text.len() >= TEXT_BYTES_MIN && begins.is_some_and(|bytes| bytes.first() == Some(&SEALED))
}

/// What a cursor is bound to.
fn bound<'a>(tenant: &'a TenantId, user: &'a UserId) -> [&'a [u8]; 2] {
    [tenant.as_str().as_bytes(), user.as_str().as_bytes()]
}

fn put_stand(put: &mut impl FnMut(&[u8]), room: RoomTag, seq: Seq) {
    put(&room.0.to_be_bytes());
    put_varint(put, seq.0);
}

/// What [`Sealer::seal`] has sealed: who finds it genuine may still find it to be of a later version.
fn parse(bytes: &[u8]) -> Option<(Epoch, World)> {
    let mut rest = bytes.strip_prefix(&[VERSION])?;
    let epoch = varint(&mut rest)?;
    let mark = Mark(take_u64(&mut rest)?);
    let (&count, mut rest) = rest.split_first()?;
    let mut exceptions = BTreeMap::new();
    for _ in 0..count {
        let (room, seq) = take_stand(&mut rest)?;
        exceptions.insert(room, seq);
    }
    let pass = if rest.is_empty() {
        None
    } else {
        let next = Mark(take_u64(&mut rest)?);
        let (room, seq) = take_stand(&mut rest)?;
        Some((next, room, seq))
    };
    let world = World::restored(mark, exceptions, pass)?;
    rest.is_empty().then_some((Epoch(epoch), world))
}

fn take_stand(bytes: &mut &[u8]) -> Option<(RoomTag, Seq)> {
    let room = RoomTag(take_u64(bytes)?);
    let seq = varint(bytes).filter(|seq| *seq <= SEQ_MAX)?;
    Some((room, Seq(seq)))
}

fn take_u64(bytes: &mut &[u8]) -> Option<u64> {
    let (number, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(u64::from_be_bytes(*number))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::domain::{Position, RoomId, RoomKey};

    const EPOCH: Epoch = Epoch(3 << 32 | 0xfeed_beef);

    #[test]
    fn an_ordinary_cursor_is_short_and_the_longest_is_bounded() {
        assert_eq!(seal(&World::at(Mark(1_000_000))).len(), 43);
        assert_eq!(seal(&World::at(Mark(1))).len(), 43, "the length tells nothing of the mark");
        let far = Seq(SEQ_MAX);
        let exceptions = (1..=EXCEPTIONS_MAX as u64).map(|room| (RoomTag(u64::MAX - room), far)).collect();
        let widest = World::restored(Mark(0), exceptions, Some((Mark(u64::MAX), RoomTag(0), far))).unwrap();
        let longest = sealer().seal(&tenant(), &user(), Epoch(u64::MAX), &widest);
        assert!(longest.len() <= TEXT_BYTES_MAX && longest.len() > TEXT_BYTES_MAX - 4, "{}", longest.len());
        assert_eq!(sealer().open(&tenant(), &user(), Epoch(u64::MAX), &longest), Ok(widest));
    }

    #[test]
    fn the_same_world_has_the_same_text_and_another_one_shares_nothing_with_it() {
        let (one, next) = (seal(&World::at(Mark(7))), seal(&World::at(Mark(8))));
        assert_eq!(one, seal(&World::at(Mark(7))));
        let same = one.bytes().zip(next.bytes()).filter(|(a, b)| a == b).count();
        assert!(same < one.len() / 3, "{one} {next}");
    }

    #[test]
    fn it_is_good_for_its_user_its_key_and_its_epoch_alone() {
        let text = seal(&World::at(Mark(7)));
        let (bob, elsewhere) = (UserId::new("bob").unwrap(), TenantId::new("elsewhere").unwrap());
        assert_eq!(open(&text), Ok(World::at(Mark(7))));
        assert_eq!(sealer().open(&tenant(), &bob, EPOCH, &text), Err(CursorError::Invalid));
        assert_eq!(sealer().open(&elsewhere, &user(), EPOCH, &text), Err(CursorError::Invalid));
        let other = Sealer::new(&[8; 32]).unwrap();
        assert_eq!(other.open(&tenant(), &user(), EPOCH, &text), Err(CursorError::Invalid));
        assert_eq!(sealer().open(&tenant(), &user(), Epoch(4 << 32), &text), Err(CursorError::EpochChanged));
    }

    #[test]
    fn the_ends_of_tenant_and_user_are_told_apart() {
        let name = |text| (TenantId::new(text).unwrap(), UserId::new(text).unwrap());
        let ((a, _), (ab, _)) = (name("a"), name("ab"));
        let text = sealer().seal(&a, &UserId::new("bc").unwrap(), EPOCH, &World::at(Mark(7)));
        assert_eq!(sealer().open(&ab, &UserId::new("c").unwrap(), EPOCH, &text), Err(CursorError::Invalid));
    }

    #[test]
    fn cursors_of_a_room_and_of_everything_are_foreign_to_one_another() {
        let room = RoomKey { tenant: tenant(), room: RoomId(Uuid::from_u128(5)) };
        let of_room = Cursor::encode(&room, Position { epoch: EPOCH, seq: Seq(5) });
        assert_eq!(open(&of_room), Err(CursorError::Foreign));
        assert_eq!(Cursor::parse(&seal(&World::at(Mark(7))), &room), Err(CursorError::Foreign));
        assert_eq!(Cursor::parse(&seal(&many()), &room), Err(CursorError::Foreign));
    }

    #[test]
    fn no_single_wrong_character_goes_unnoticed() {
        let text = seal(&many());
        for at in 0..text.len() {
            let with = if text.as_bytes()[at] == b'A' { 'Q' } else { 'A' };
            let mangled = format!("{}{with}{}", &text[..at], &text[at + 1..]);
            assert_eq!(open(&mangled), Err(CursorError::Invalid), "{mangled}");
        }
        for wrong in ["", "I", "start", &text[..text.len() - 1], &format!("{text}A"), &"I".repeat(9_999)] {
            assert_eq!(open(wrong), Err(CursorError::Invalid), "{wrong}");
        }
    }

    #[test]
    fn a_key_has_to_be_long_enough() {
        assert!(Sealer::new(&[1; 31]).is_none());
    }

    proptest! {
        #[test]
        fn a_world_is_read_back_as_it_was(
            mark in any::<u64>(),
            stands in prop::collection::btree_map(any::<u64>(), 0..=SEQ_MAX, 0..=EXCEPTIONS_MAX),
            pass in prop::option::of((any::<u64>(), any::<u64>(), 0..=SEQ_MAX)),
        ) {
            let exceptions = stands.into_iter().map(|(room, seq)| (RoomTag(room), Seq(seq)));
            let mut world = World::restored(Mark(mark), exceptions.collect(), None).unwrap();
            if let Some((ahead, room, seq)) = pass {
                world.begin(Mark(mark.saturating_add(ahead)));
                world.reached(RoomTag(room), Seq(seq));
            }
            prop_assert_eq!(open(&seal(&world)), Ok(world));
        }

        #[test]
        fn reading_what_somebody_made_up_never_panics(text in "I[A-P][A-Za-z0-9_-]{0,90}", bytes: Vec<u8>) {
            let _ = (open(&text), parse(&bytes));
        }
    }

    fn many() -> World {
        let exceptions = (10..20).map(|room| (RoomTag(room), Seq(room * 1000))).collect();
        World::restored(Mark(7), exceptions, Some((Mark(9), RoomTag(5), Seq(4)))).unwrap()
    }

    fn seal(world: &World) -> String {
        sealer().seal(&tenant(), &user(), EPOCH, world).to_string()
    }

    fn open(text: &str) -> Result<World, CursorError> {
        sealer().open(&tenant(), &user(), EPOCH, text)
    }

    fn sealer() -> Sealer {
        Sealer::new(&[7; 32]).unwrap()
    }

    fn tenant() -> TenantId {
        TenantId::default_tenant()
    }

    fn user() -> UserId {
        UserId::new("ann").unwrap()
    }
}
