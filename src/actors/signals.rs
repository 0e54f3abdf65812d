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

/// A room that more than so many connections of a thread follow is told of no signals: each would go to all of them.
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
    /// Notes that `user` writes. True where that has to be told: it is new, or has not been told for a while.
    pub fn begin(&self, room: &RoomKey, user: &UserId, now: Instant) -> bool {
        let mut rooms = self.lock(room);
        let users = rooms.entry(room.clone()).or_default();
        match users.get_mut(user) {
            Some(told) if now.saturating_duration_since(*told) < TOLD => false,
            Some(told) => {
                *told = now;
                true
            }
            None => {
                users.insert(user.clone(), now);
                self.count.fetch_add(1, Ordering::AcqRel);
                true
            }
        }
    }

    /// Notes that `user` does not write any more. True where somebody has been told otherwise.
    pub fn end(&self, room: &RoomKey, user: &UserId) -> bool {
        if self.count.load(Ordering::Acquire) == 0 {
            return false;
        }
        let mut rooms = self.lock(room);
        let Some(users) = rooms.get_mut(room) else { return false };
        let ended = users.remove(user).is_some();
        if users.is_empty() {
            rooms.remove(room);
        }
        self.count.fetch_sub(usize::from(ended), Ordering::AcqRel);
        ended
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
    use uuid::Uuid;

    use super::*;
    use crate::domain::{RoomId, TenantId};

    #[test]
    fn what_is_said_again_is_told_again_only_after_a_while() {
        let (typists, now) = (Typists::default(), Instant::now());
        let room = RoomKey { tenant: TenantId::default_tenant(), room: RoomId(Uuid::nil()) };
        let ann = UserId::new("ann").unwrap();
        assert!(!typists.end(&room, &ann));
        assert!(typists.begin(&room, &ann, now));
        assert!(!typists.begin(&room, &ann, now + TOLD / 2));
        assert!(typists.begin(&room, &ann, now + TOLD));
        assert_eq!(typists.of(&room), std::slice::from_ref(&ann));
        assert!(typists.end(&room, &ann) && !typists.end(&room, &ann));
        assert_eq!(typists.of(&room), []);
    }
}
