//! Who is there: what the live connections say, in one table for all threads.
//!
//! Nothing of it is on disk but when somebody was last seen, so nobody is left over after a crash. Who has gone counts as
//! there for a while yet, so that a connection that comes back changes nothing.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::blocking::is_shut;
use super::inbox::{list_rooms, settings_of};
use super::registry::Registry;
use crate::domain::policy::Standing;
use crate::domain::{Presence, RoomKey, RoomKind, Signal, StreamId, TenantId, UserId};
use crate::store::StoreError;

/// How long after the last connection its user counts as there.
pub const GRACE: Duration = Duration::from_secs(10);

/// How long what a request says holds: no connection tells when its user has gone.
pub const HOLDS: Duration = Duration::from_secs(60);

/// Of a room with more members, only how many are there is told.
pub const MEMBERS_MAX: usize = 1_000;

/// From how many places at once a user may say something.
const DEVICES_MAX: usize = 64;

/// How many of a user's rooms are looked at at once.
const ROOMS_PER_SCAN: usize = 1_000;

/// Whose presence.
pub type Who = (TenantId, UserId);

/// One connection, or all requests of a user.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Device {
    Connection(u64),
    Requests,
}

/// The table of who is there.
#[derive(Default)]
pub struct Presences(Mutex<Table>);

#[derive(Default)]
struct Table {
    users: HashMap<Who, Slot>,
    /// At whom to look when.
    due: BTreeMap<(Instant, u64), Who>,
    looks: u64,
}

#[derive(Default)]
struct Slot {
    said: Vec<Said>,
    /// When the last of them has gone.
    left: Option<Instant>,
    /// Whether others may be told; nobody is before the user's settings have been looked at.
    visible: Option<bool>,
    /// What others have been told.
    told: Option<Presence>,
    /// When it is looked at next.
    looked_at: Option<Instant>,
}

struct Said {
    device: Device,
    presence: Presence,
    until: Option<Instant>,
}

impl Presences {
    /// What a device says of its user; `None` that it does not count any more. Returns what others have to be told, if
    /// that is something new.
    pub fn say(&self, who: &Who, device: Device, presence: Option<Presence>, now: Instant) -> Option<Presence> {
        let mut table = self.table();
        let slot = match table.users.get_mut(who) {
            Some(slot) => slot,
            None if presence.is_none() => return None,
            None => table.users.entry(who.clone()).or_default(),
        };
        let known = slot.said.iter().position(|said| said.device == device);
        let until = (device == Device::Requests).then(|| now + HOLDS);
        match (presence, known) {
            (Some(presence), Some(at)) => slot.said[at] = Said { device, presence, until },
            (Some(presence), None) if slot.said.len() < DEVICES_MAX => slot.said.push(Said { device, presence, until }),
            (None, Some(at)) => drop(slot.said.swap_remove(at)),
            (Some(_) | None, None) => return None,
        }
        let look = slot.look_at(now);
        let news = slot.news();
        table.look(look, who);
        news
    }

    /// Whether others may be told of a user, as it has just decided. Returns what they have to be told, if that is
    /// something new: that it is not there any more, or what it has said.
    pub fn show(&self, who: &Who, visible: bool) -> Option<Option<Presence>> {
        self.table().users.get_mut(who)?.show(visible)
    }

    /// Whether it is not known yet if others may be told of somebody who is there.
    pub fn is_obscure(&self, who: &Who) -> bool {
        self.table().users.get(who).is_some_and(|slot| slot.visible.is_none())
    }

    /// As [`Presences::show`] where a look at the settings has said so; what was decided meanwhile stands before it.
    pub fn clear_up(&self, who: &Who, visible: bool) -> Option<Option<Presence>> {
        self.table().users.get_mut(who).filter(|slot| slot.visible.is_none())?.show(visible)
    }

    /// Those who have gone, and of whom nothing was heard since; and of whom something is to be told that was said for a
    /// time that has passed.
    pub fn due(&self, now: Instant) -> Vec<(Who, Option<Presence>)> {
        let mut table = self.table();
        let mut news = Vec::new();
        while let Some(entry) = table.due.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let who = entry.remove();
            let Some(slot) = table.users.get_mut(&who) else { continue };
            slot.looked_at = None;
            slot.said.retain(|said| said.until.is_none_or(|until| until > now));
            let look = slot.look_at(now);
            if slot.left.is_some_and(|left| left + GRACE <= now) {
                let told = slot.told.is_some();
                table.users.remove(&who);
                news.extend(told.then_some((who, None)));
                continue;
            }
            if let Some(told) = slot.news() {
                news.push((who.clone(), Some(told)));
            }
            table.look(look, &who);
        }
        news
    }

    /// Whether somebody is there.
    pub fn of(&self, who: &Who) -> Option<Presence> {
        self.table().users.get(who).and_then(|slot| slot.told)
    }

    /// Everybody who is there.
    pub fn all(&self) -> Vec<Who> {
        let table = self.table();
        table.users.iter().filter(|(_, slot)| slot.told.is_some()).map(|(who, _)| who.clone()).collect()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Has `who` looked at, unless that is to happen before anyway.
    fn look(&mut self, at: Option<Instant>, who: &Who) {
        let (Some(at), Some(slot)) = (at, self.users.get_mut(who)) else { return };
        if slot.looked_at.is_some_and(|looked| looked <= at) {
            return;
        }
        slot.looked_at = Some(at);
        self.looks += 1;
        self.due.insert((at, self.looks), who.clone());
    }
}

impl Slot {
    /// When something will have to be done about it.
    fn look_at(&mut self, now: Instant) -> Option<Instant> {
        if self.said.is_empty() {
            let left = *self.left.get_or_insert(now);
            return Some(left + GRACE);
        }
        self.left = None;
        self.said.iter().filter_map(|said| said.until).min()
    }

    fn show(&mut self, visible: bool) -> Option<Option<Presence>> {
        self.visible = Some(visible);
        if visible { self.news().map(Some) } else { self.told.take().map(|_| None) }
    }

    /// What others have to be told. Who has gone is still as he was.
    fn news(&mut self) -> Option<Presence> {
        let now = Presence::of(self.said.iter().map(|said| said.presence)).filter(|_| self.visible == Some(true));
        if now.is_none() || now == self.told {
            return None;
        }
        self.told = now;
        now
    }
}

/// Heeds whether `who`, who says to be there, wants to be seen.
pub async fn heed(registry: &Arc<Registry>, who: Who) -> Result<(), StoreError> {
    if registry.presences().is_obscure(&who) {
        let stream = StreamId::User(who.0.clone(), who.1.clone());
        let settings = settings_of(&**registry.store(), &stream).await?;
        let news = registry.presences().clear_up(&who, !settings.invisible);
        tell_news(registry, who, news);
    }
    Ok(())
}

/// Has others told of `who`, or told no more.
pub fn show(registry: &Arc<Registry>, who: Who, visible: bool) {
    let news = registry.presences().show(&who, visible);
    tell_news(registry, who, news);
}

fn tell_news(registry: &Arc<Registry>, who: Who, news: Option<Option<Presence>>) {
    if let Some(presence) = news {
        actix::spawn(tell(Arc::clone(registry), who, presence));
    }
}

/// Notes of everybody who is there that it was seen now: the process is about to stop. Done when it is on disk.
pub async fn leave(registry: &Arc<Registry>) {
    let (noted, mut all_noted) = mpsc::channel(1);
    let now = registry.now();
    for who in registry.presences().all() {
        registry.last_seen(&who, now, Some(noted.clone()));
    }
    drop(noted);
    let _ = all_noted.recv().await;
}

/// Tells those who follow a room of `who` what has become of it, and notes when it was last seen.
pub async fn tell(registry: Arc<Registry>, who: Who, presence: Option<Presence>) {
    let last_seen = presence.is_none().then(|| registry.now());
    if let Some(at) = last_seen {
        registry.last_seen(&who, at, None);
    }
    let (tenant, user) = &who;
    let mut after = None;
    loop {
        let listing = list_rooms(&**registry.store(), tenant, user, after, ROOMS_PER_SCAN).await;
        let listing = match listing {
            Ok(listing) => listing,
            Err(error) => return tracing::error!(%error, "who is there could not be told"),
        };
        for listed in listing.rooms.iter().filter(|listed| listed.standing == Standing::Member) {
            let room = RoomKey { tenant: tenant.clone(), room: listed.room };
            let direct = listed.kind == RoomKind::Direct;
            if registry.interest(&room).is_empty()
                || (direct && is_shut(&**registry.store(), &room).await.unwrap_or(true))
            {
                continue;
            }
            // What is so now: somebody may have come back while this was looked up, and another tell of that.
            let presence = registry.presences().of(&who);
            let last_seen = last_seen.filter(|_| presence.is_none());
            registry.signal(&room, &Signal::Presence { user: user.clone(), presence, last_seen });
        }
        match listing.rooms.last().filter(|_| listing.more) {
            Some(last) => after = Some(last.room),
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONLINE: Option<Presence> = Some(Presence::Online);
    const AWAY: Option<Presence> = Some(Presence::Away);
    const FIRST: Device = Device::Connection(1);
    const SECOND: Device = Device::Connection(2);

    #[test]
    fn a_user_is_online_where_one_connection_says_so() {
        let (presences, ann, now) = (Presences::default(), who("ann"), Instant::now());
        assert_eq!(presences.say(&ann, FIRST, AWAY, now), None, "nobody knows yet whether it wants to be seen");
        assert_eq!(presences.show(&ann, true), Some(AWAY));
        assert_eq!(presences.say(&ann, SECOND, ONLINE, now), ONLINE);
        assert_eq!(presences.say(&ann, FIRST, ONLINE, now), None, "nothing new");
        assert_eq!(presences.say(&ann, SECOND, None, now), None);
        assert_eq!(presences.say(&ann, FIRST, AWAY, now), AWAY);
        assert_eq!(presences.of(&ann), AWAY);
        assert_eq!(presences.of(&who("bob")), None);
    }

    #[test]
    fn who_comes_back_in_time_was_never_gone() {
        let (presences, ann, now) = (Presences::default(), who("ann"), Instant::now());
        presences.say(&ann, FIRST, ONLINE, now);
        presences.show(&ann, true);
        assert_eq!(presences.say(&ann, FIRST, None, now), None);
        assert_eq!((presences.of(&ann), presences.due(now + GRACE / 2)), (ONLINE, Vec::new()));
        assert_eq!(presences.say(&ann, SECOND, ONLINE, now + GRACE / 2), None);
        assert_eq!(presences.due(now + 2 * GRACE), Vec::new());
        presences.say(&ann, SECOND, None, now + 2 * GRACE);
        assert_eq!(presences.due(now + 3 * GRACE), [(ann.clone(), None)]);
        assert_eq!(presences.of(&ann), None);
        let table = presences.table();
        assert!(table.users.is_empty() && table.due.is_empty());
    }

    #[test]
    fn what_a_request_says_holds_for_a_while() {
        let (presences, ann, now) = (Presences::default(), who("ann"), Instant::now());
        presences.say(&ann, FIRST, AWAY, now);
        presences.show(&ann, true);
        assert_eq!(presences.say(&ann, Device::Requests, ONLINE, now), ONLINE);
        assert_eq!(presences.due(now + HOLDS / 2), Vec::new());
        assert_eq!(presences.due(now + HOLDS), [(ann.clone(), AWAY)]);
        presences.say(&ann, FIRST, None, now + HOLDS);
        presences.say(&ann, Device::Requests, ONLINE, now + HOLDS);
        assert_eq!(presences.due(now + 2 * HOLDS), Vec::new(), "gone from now on");
        assert_eq!(presences.due(now + 2 * HOLDS + GRACE), [(ann, None)]);
    }

    #[test]
    fn who_wants_not_to_be_seen_has_gone_at_once_and_is_not_seen_to_go_again() {
        let (presences, ann, now) = (Presences::default(), who("ann"), Instant::now());
        presences.say(&ann, FIRST, ONLINE, now);
        presences.show(&ann, true);
        assert_eq!((presences.show(&ann, false), presences.show(&ann, false)), (Some(None), None));
        assert_eq!(presences.say(&ann, SECOND, AWAY, now), None);
        assert_eq!((presences.of(&ann), presences.all()), (None, Vec::new()));
        for device in [FIRST, SECOND] {
            presences.say(&ann, device, None, now);
        }
        assert_eq!(presences.due(now + GRACE), Vec::new());
        presences.say(&ann, FIRST, AWAY, now);
        assert_eq!((presences.show(&ann, true), presences.all()), (Some(AWAY), vec![ann]));
    }

    #[test]
    fn what_a_user_decides_stands_before_what_was_looked_up_before() {
        let (presences, ann, now) = (Presences::default(), who("ann"), Instant::now());
        presences.say(&ann, FIRST, ONLINE, now);
        assert!(presences.is_obscure(&ann));
        // The settings have been read and say nothing; then they change.
        assert_eq!(presences.show(&ann, false), None);
        assert_eq!((presences.clear_up(&ann, true), presences.of(&ann)), (None, None));
    }

    #[test]
    fn one_user_takes_no_more_than_so_many_places() {
        let (presences, ann, now) = (Presences::default(), who("ann"), Instant::now());
        for device in 0..1_000 {
            presences.say(&ann, Device::Connection(device), ONLINE, now);
        }
        assert_eq!(presences.table().users[&ann].said.len(), DEVICES_MAX);
    }

    fn who(name: &str) -> Who {
        (TenantId::default_tenant(), UserId::new(name).unwrap())
    }
}
