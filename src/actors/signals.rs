//! Who is writing in which room, and signals on their way to those who follow it.
//!
//! Nothing here is recorded. Who writes is kept for all threads in one table, for those who come later; how long it holds
//! is the business of the thread whose connection has said so.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::domain::{RoomKey, UserId};

/// How long somebody counts as writing who does not say so again.
pub const TYPING: Duration = Duration::from_secs(6);

/// Who says so again before this has passed is not told of again.
const TOLD: Duration = Duration::from_secs(3);

/// A room that more than so many connections follow is told of no signals, as far as a thread can tell from its own: each
/// would go to all of them.
pub const FOLLOWERS_MAX: usize = 256;

/// In how many rooms a user counts as writing at once, by one connection.
pub const ROOMS_OF_ONE_MAX: usize = 8;

/// Who is writing where.
#[derive(Default)]
pub struct Typists {
    rooms: [Mutex<BTreeMap<RoomKey, BTreeMap<UserId, Instant>>>; 16],
    /// How many there are, so that a room in which nobody writes costs no lock.
    count: AtomicUsize,
    hasher: RandomState,
}

impl Typists {
    /// Notes that `user` writes, and has it told where that is new, or has not been told for a while. Told before anybody
    /// can note otherwise, so that the last that is told is what is so.
    pub fn begin(&self, room: &RoomKey, user: &UserId, now: Instant, tell: impl FnOnce()) {
        let mut rooms = self.lock(room);
        let users = rooms.entry(room.clone()).or_default();
        match users.get_mut(user) {
            Some(told) if now.saturating_duration_since(*told) < TOLD => return,
            Some(told) => *told = now,
            None => {
                users.insert(user.clone(), now);
                self.count.fetch_add(1, Ordering::AcqRel);
            }
        }
        tell();
    }

    /// Notes that `user` does not write any more, and has it told where somebody has been told otherwise.
    pub fn end(&self, room: &RoomKey, user: &UserId, tell: impl FnOnce()) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut rooms = self.lock(room);
        let Some(users) = rooms.get_mut(room) else { return };
        let ended = users.remove(user).is_some();
        if users.is_empty() {
            rooms.remove(room);
        }
        if ended {
            self.count.fetch_sub(1, Ordering::AcqRel);
            tell();
        }
    }

    /// Who writes in a room.
    pub fn of(&self, room: &RoomKey) -> Vec<UserId> {
        if self.count.load(Ordering::Acquire) == 0 {
            return Vec::new();
        }
        self.lock(room).get(room).map(|users| users.keys().cloned().collect()).unwrap_or_default()
    }

    fn lock(&self, room: &RoomKey) -> MutexGuard<'_, BTreeMap<RoomKey, BTreeMap<UserId, Instant>>> {
        let index = usize::try_from(self.hasher.hash_one(room) % self.rooms.len() as u64).expect("less than a length");
        self.rooms[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use uuid::Uuid;

    use super::*;
    use crate::domain::{RoomId, TenantId};

    #[test]
    fn what_is_said_again_is_told_again_only_after_a_while() {
        let (typists, now) = (Typists::default(), Instant::now());
        let room = RoomKey { tenant: TenantId::default_tenant(), room: RoomId(Uuid::nil()) };
        let ann = UserId::new("ann").unwrap();
        let told = Cell::new(0);
        let tell = || told.set(told.get() + 1);
        typists.end(&room, &ann, tell);
        assert_eq!(told.get(), 0, "of what was never told");
        for (after, times) in [(Duration::ZERO, 1), (TOLD / 2, 1), (TOLD, 2)] {
            typists.begin(&room, &ann, now + after, tell);
            assert_eq!(told.get(), times);
        }
        assert_eq!(typists.of(&room), std::slice::from_ref(&ann));
        typists.end(&room, &ann, tell);
        typists.end(&room, &ann, tell);
        assert_eq!(told.get(), 3);
        assert_eq!(typists.of(&room), []);
    }
}
