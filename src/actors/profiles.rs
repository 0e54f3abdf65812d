//! What users are shown of each other.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::stream::{self, StreamExt};
use quick_cache::sync::Cache;
use tokio::sync::mpsc;

use super::blocking::{has_blocked, is_shut};
use super::failure::read_failed;
use super::inbox::{BETWEEN_PROFILES, What, settings_of};
use super::overview::places_of;
pub use super::presences::Who;
use super::registry::{Registry, RelayId};
use super::relay::Updated;
use crate::domain::policy::{Entry, Role, RoomKind, Standing};
use crate::domain::profile::{ContactHash, Introduction};
use crate::domain::{Audience, Principal, Profile, RoomId, RoomKey, StreamId, TenantId, UserId};
use crate::store::rows::{self, Place, Row, accounts};
use crate::store::{Store, StoreError};
use crate::wire::{Notice, Refusal, UserProfile};

/// How many introductions wait.
const INTRODUCTIONS_MAX: usize = 1024;

/// How many are carried out at once, so that they share commits.
const INTRODUCTIONS_AT_ONCE: usize = 16;

/// Of how many users it is remembered what their tokens said.
const INTRODUCED_MAX: usize = 65_536;

/// How many users somebody else is asked for at once.
const SOURCE_USERS_MAX: usize = 100;

/// How many users of one contact are looked at; each of them has said that it is the own.
const SAME_CONTACT_MAX: usize = 10;

/// To be told of so many users counts as much as a message.
const USERS_PER_MESSAGE: usize = 10;

/// In how many rooms it counts that somebody owns them, for who asks how others can be reached.
const OWNED_MAX: usize = 256;

/// Somebody else who knows who users are.
pub trait ProfileSource: Send + Sync {
    /// What is known of each of `users`, in their order. Takes ten seconds at most.
    fn profiles<'a>(
        &'a self,
        tenant: &'a TenantId,
        users: &'a [UserId],
    ) -> Pin<Box<dyn Future<Output = Vec<Option<Arc<Profile>>>> + Send + 'a>>;

    /// Of whom something else is known than before; asked for once.
    fn changes(&self) -> Option<mpsc::Receiver<Who>>;
}

/// What tokens say of their bearers, on its way to their profiles: each thing once, beside what the bearers do.
pub struct Introductions {
    /// The hash of what was said last of whom.
    known: Cache<Who, u64>,
    hasher: RandomState,
    waiting: mpsc::Sender<(Principal, Introduction)>,
    taken: Mutex<Option<mpsc::Receiver<(Principal, Introduction)>>>,
}

impl Default for Introductions {
    fn default() -> Self {
        let (waiting, taken) = mpsc::channel(INTRODUCTIONS_MAX);
        let (known, taken) = (Cache::new(INTRODUCED_MAX), Mutex::new(Some(taken)));
        Self { known, hasher: RandomState::new(), waiting, taken }
    }
}

impl Introductions {
    /// Has what a token says of `by` taken over, unless it has been or too many wait; then the next token does it.
    pub fn offer(&self, by: &Principal, said: Introduction) {
        let (who, hash) = ((by.tenant.clone(), by.user.clone()), self.hasher.hash_one(&said));
        if self.known.get(&who) != Some(hash) && self.waiting.try_send((by.clone(), said)).is_ok() {
            self.known.insert(who, hash);
        }
    }

    /// Takes over what comes, for as long as it is waited for.
    pub async fn serve(self: Arc<Self>, registry: Arc<Registry>) {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(taken) = taken else { return };
        let coming = stream::unfold(taken, async |mut taken| Some((taken.recv().await?, taken)));
        let introduce = async |(by, said): (Principal, Introduction)| {
            let refused = match registry.denied(&by) {
                Some(refusal) => Some(refusal),
                None => registry.ask_inbox(&by, What::Introduce(said)).await.err(),
            };
            if let Some(refusal) = refused {
                tracing::debug!(%refusal, "what a token says of its bearer was not taken over");
                self.known.remove(&(by.tenant, by.user));
            }
        };
        coming.for_each_concurrent(INTRODUCTIONS_AT_ONCE, introduce).await;
    }
}

/// What `by` is shown of `users`, in their order.
pub async fn users(registry: &Registry, by: &Principal, users: Vec<UserId>) -> Result<Vec<UserProfile>, Refusal> {
    for _ in users.chunks(USERS_PER_MESSAGE) {
        registry.meters().user(&registry.limits().rates, by)?;
    }
    let store = &**registry.store();
    let look = async {
        let (mut asker, mut found) = (Asker { store, by, owned: None }, Vec::with_capacity(users.len()));
        let elsewhere = elsewhere(registry, &by.tenant, &users).await;
        for (user, elsewhere) in users.into_iter().zip(elsewhere) {
            let stream = StreamId::User(by.tenant.clone(), user.clone());
            let profile = joined(profile_of(store, &stream).await?, elsewhere.as_deref());
            let reached = profile.email.is_some() || profile.telephone.is_some();
            let shown = user == by.user || (reached && asker.may_reach(&user).await?);
            found.push(UserProfile { user, profile: if shown { profile } else { profile.without_contacts() } });
        }
        Ok::<_, StoreError>(found)
    };
    look.await.map_err(|error| read_failed(&error))
}

/// Of `hashes` those of users whom `by` may know how to reach, in their order. Who is not there and who does not allow it
/// are left out alike.
pub async fn find(
    registry: &Registry,
    by: &Principal,
    hashes: Vec<ContactHash>,
) -> Result<Vec<(ContactHash, UserProfile)>, Refusal> {
    for _ in hashes.chunks(USERS_PER_MESSAGE) {
        registry.meters().user(&registry.limits().rates, by)?;
    }
    for _ in &hashes {
        registry.meters().find_user(&registry.limits().rates, by)?;
    }
    let store = &**registry.store();
    let look = async {
        let mut asker = Asker { store, by, owned: None };
        let mut allowed = Vec::new();
        for hash in hashes {
            for user in with_contact(store, &by.tenant, hash).await? {
                if user == by.user || asker.may_reach(&user).await? {
                    allowed.push((hash, user));
                }
            }
        }
        let users: Vec<_> = allowed.iter().map(|(_, user)| user.clone()).collect();
        let mut found = Vec::with_capacity(users.len());
        for ((hash, user), elsewhere) in allowed.into_iter().zip(elsewhere_in_parts(registry, &by.tenant, &users).await)
        {
            let stream = StreamId::User(by.tenant.clone(), user.clone());
            let profile = joined(profile_of(store, &stream).await?, elsewhere.as_deref());
            // Somebody else may say that the user is reached otherwise; and it may have changed just now.
            if rows::contact_hashes(&profile).contains(&hash) {
                found.push((hash, UserProfile { user, profile }));
            }
        }
        Ok::<_, StoreError>(found)
    };
    look.await.map_err(|error| read_failed(&error))
}

/// Who says that it can be reached by what has this hash.
async fn with_contact(store: &dyn Store, tenant: &TenantId, hash: ContactHash) -> Result<Vec<UserId>, StoreError> {
    let stream = StreamId::Accounts(tenant.clone());
    let found = store.scan(&stream, &accounts::contacts(hash), None, SAME_CONTACT_MAX).await?;
    found.iter().map(|(key, _)| accounts::contact_of(key)).collect()
}

/// Who asks how others can be reached.
struct Asker<'a> {
    store: &'a dyn Store,
    by: &'a Principal,
    /// The rooms that it owns, once somebody lets owners know.
    owned: Option<Vec<RoomId>>,
}

impl Asker<'_> {
    async fn may_reach(&mut self, user: &UserId) -> Result<bool, StoreError> {
        let (store, by) = (self.store, self.by);
        if has_blocked(store, &by.tenant, user, &by.user).await? {
            return Ok(false);
        }
        let stream = StreamId::User(by.tenant.clone(), user.clone());
        match settings_of(store, &stream).await?.contacts {
            Audience::Nobody => Ok(false),
            Audience::Everybody => Ok(true),
            Audience::Owners => {
                if self.owned.is_none() {
                    self.owned = Some(owned_by(store, by).await?);
                }
                is_in_one(store, &stream, self.owned.as_deref().unwrap_or_default()).await
            }
        }
    }
}

/// What somebody else says of users, of whom there may be more than are asked for at once.
async fn elsewhere_in_parts(registry: &Registry, tenant: &TenantId, users: &[UserId]) -> Vec<Option<Arc<Profile>>> {
    let mut found = Vec::with_capacity(users.len());
    for users in users.chunks(SOURCE_USERS_MAX) {
        found.extend(elsewhere(registry, tenant, users).await);
    }
    found
}

/// What somebody else says of users, if there is anybody who does.
async fn elsewhere(registry: &Registry, tenant: &TenantId, users: &[UserId]) -> Vec<Option<Arc<Profile>>> {
    match registry.profile_source() {
        Some(source) => source.profiles(tenant, users).await,
        None => vec![None; users.len()],
    }
}

/// What somebody else says of a user stands before what the user says.
fn joined(own: Profile, elsewhere: Option<&Profile>) -> Profile {
    let Some(elsewhere) = elsewhere.cloned() else { return own };
    let Profile { name, avatar, about, email, telephone, fields: _ } = elsewhere;
    Profile {
        name: name.or(own.name),
        avatar: avatar.or(own.avatar),
        about: about.or(own.about),
        email: email.or(own.email),
        telephone: telephone.or(own.telephone),
        fields: own.fields,
    }
}

/// What a user says of itself.
pub async fn profile_of(store: &dyn Store, stream: &StreamId) -> Result<Profile, StoreError> {
    let row = store.get(stream, rows::PROFILE).await?;
    Ok(row.map(|row| Profile::decode(&row)).transpose()?.unwrap_or_default())
}

/// What is known of a user, whoever says it, for the server's own use.
pub async fn known_of(registry: &Registry, tenant: &TenantId, user: &UserId) -> Result<Profile, Refusal> {
    let elsewhere = elsewhere(registry, tenant, std::slice::from_ref(user)).await.pop().flatten();
    let stream = StreamId::User(tenant.clone(), user.clone());
    let own = profile_of(&**registry.store(), &stream).await.map_err(|error| read_failed(&error))?;
    Ok(joined(own, elsewhere.as_deref()))
}

/// The rooms that somebody owns.
async fn owned_by(store: &dyn Store, by: &Principal) -> Result<Vec<RoomId>, StoreError> {
    let stream = StreamId::User(by.tenant.clone(), by.user.clone());
    let places = places_of(store, &stream).await?.into_iter();
    // Into some rooms anybody is put without being asked, which allows nothing.
    let joined = |place: &Place| place.standing == Standing::Member && place.kind.policy().entry != Entry::Added;
    let owned = places.filter(|(_, place)| place.role == Role::Owner && joined(place));
    Ok(owned.map(|(room, _)| room).take(OWNED_MAX).collect())
}

/// Whether a user is a member of one of `rooms`.
async fn is_in_one(store: &dyn Store, stream: &StreamId, rooms: &[RoomId]) -> Result<bool, StoreError> {
    if rooms.is_empty() {
        return Ok(false);
    }
    let keys: Vec<_> = rooms.iter().map(|room| rows::place(*room)).collect();
    let keys: Vec<&[u8]> = keys.iter().map(AsRef::as_ref).collect();
    for row in store.get_all(stream, &keys).await?.into_iter().flatten() {
        if Place::decode(&row)?.standing == Standing::Member {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Tells of the users of whom somebody else says something else than before, of each at most once a second.
pub async fn tell_changes(registry: Arc<Registry>, mut changes: mpsc::Receiver<Who>) {
    while let Some(first) = changes.recv().await {
        let mut others = BTreeSet::from([first]);
        while let Ok(other) = changes.try_recv() {
            others.insert(other);
        }
        for (tenant, user) in others {
            match known_of(&registry, &tenant, &user).await {
                Ok(profile) => registry.profile_changed(&tenant, &user, Arc::new(profile)),
                Err(refusal) => tracing::warn!(%refusal, "a profile that has changed elsewhere could not be told"),
            }
        }
        tokio::time::sleep(BETWEEN_PROFILES).await;
    }
}

/// Tells those who follow a room that `who` is in what `who` is shown as now: each connection once, in however many rooms
/// it meets the user.
pub async fn tell(registry: Arc<Registry>, who: Who) {
    let (tenant, user) = &who;
    let stream = StreamId::User(tenant.clone(), user.clone());
    let store = &**registry.store();
    let look = async {
        let places = places_of(store, &stream).await?;
        let elsewhere = elsewhere(&registry, tenant, std::slice::from_ref(user)).await.pop().flatten();
        // Read last: what is told last is what is so.
        Ok::<_, StoreError>((places, joined(profile_of(store, &stream).await?, elsewhere.as_deref())))
    };
    let (places, profile) = match look.await {
        Ok(found) => found,
        Err(error) => return tracing::error!(%error, "a profile could not be told"),
    };
    let profile = UserProfile { user: user.clone(), profile: profile.without_contacts() };
    let notice = Arc::new(Notice::UserUpdated(Box::new(profile)));
    let mut relays = BTreeMap::<RelayId, Vec<RoomKey>>::new();
    for (room, place) in places.into_iter().filter(|(_, place)| place.standing == Standing::Member) {
        let key = RoomKey { tenant: tenant.clone(), room };
        let interest = registry.interest(&key);
        if interest.is_empty() || (place.kind == RoomKind::Direct && is_shut(store, &key).await.unwrap_or(true)) {
            continue;
        }
        for (relay, _) in interest {
            relays.entry(relay).or_default().push(key.clone());
        }
    }
    for (relay, rooms) in relays {
        registry.user_updated(relay, Updated { user: user.clone(), rooms, notice: Arc::clone(&notice) });
    }
}
