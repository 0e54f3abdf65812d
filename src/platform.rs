//! What the host platform says of its users: looked up over HTTP, many at once, remembered, and told late rather than not
//! at all when the platform does not answer.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use quick_cache::sync::Cache;
use serde_json::Value;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::actors::profiles::{ProfileSource, Who};
use crate::clock::Clock;
use crate::domain::profile::{Avatar, Email, Telephone};
use crate::domain::{Name, Profile, TenantId, UserId};
use crate::outgoing::{self, OutgoingError};

/// How long the platform may take for an answer.
const TIME: Duration = Duration::from_secs(5);

/// The largest answer that is read.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// The most users of one request.
const USERS_MAX: usize = 100;

/// How long a request waits for others to go with it.
const GATHER: Duration = Duration::from_millis(5);

/// How many requests are under way at once.
const REQUESTS_MAX: usize = 4;

/// How many look-ups wait for their turn.
const WAITING_MAX: usize = 1024;

/// How many users are remembered.
const KNOWN_MAX: usize = 100_000;

/// How many users wait for it to be told that something else is said of them.
const CHANGED_MAX: usize = 1024;

/// So long after a failure nothing is asked.
const PAUSE: Duration = Duration::from_secs(5);

/// Where the host platform says who its users are, and how.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlatformOptions {
    /// With `{users}` where the user ids are to be, between commas, or `{user}` for one at a time; `{tenant}` is the
    /// tenant's id.
    pub url: String,
    /// What is sent as bearer token.
    pub token: Option<String>,
    /// Where in an answer the list of users is, as a JSON pointer (RFC 6901).
    pub list: String,
    /// Where in a user what is; empty: nowhere.
    pub places: Places,
    /// How long an answer counts as fresh.
    pub fresh: Duration,
    /// How long an answer is used when there is no newer one.
    pub stale: Duration,
}

/// JSON pointers into what is said of one user.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Places {
    pub id: String,
    pub name: String,
    pub avatar: String,
    pub about: String,
    pub email: String,
    pub telephone: String,
}

impl PlatformOptions {
    /// Whether `url` can be asked for users.
    pub fn check_url(url: &str) -> Result<(), &'static str> {
        if url.contains("{users}") == url.contains("{user}") {
            return Err("it needs either `{users}` or `{user}`, where the user ids are to be");
        }
        outgoing::check_url(&url.replace("{users}", "a").replace("{user}", "a").replace("{tenant}", "a"))
    }
}

/// The host platform.
pub struct Platform {
    options: PlatformOptions,
    clock: Arc<dyn Clock>,
    asks: mpsc::Sender<Ask>,
    known: Cache<(TenantId, UserId), Known>,
    /// Until when nothing is asked.
    down_until: Mutex<Option<Instant>>,
    /// Of whom something else is said than before.
    changed: mpsc::Sender<Who>,
    changes: Mutex<Option<mpsc::Receiver<Who>>>,
}

#[derive(Clone)]
struct Known {
    since: Instant,
    profile: Option<Arc<Profile>>,
}

/// Wants to know of some users, at most [`USERS_MAX`].
struct Ask {
    tenant: TenantId,
    users: Vec<UserId>,
    to: oneshot::Sender<Found>,
}

/// What the platform says of those that it knows; `None` where it does not answer.
type Found = Option<Arc<HashMap<UserId, Arc<Profile>>>>;

impl Platform {
    /// Asks from now on by a thread of its own, which ends when nobody needs it any more.
    pub fn start(options: PlatformOptions, clock: Arc<dyn Clock>) -> std::io::Result<Arc<Self>> {
        let (asks, waiting) = mpsc::channel(WAITING_MAX);
        let client = outgoing::client(TIME).map_err(std::io::Error::other)?;
        let asked = Asked { options: options.clone(), client, turns: Arc::new(Semaphore::new(REQUESTS_MAX)) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let work = move || runtime.block_on(tokio::task::LocalSet::new().run_until(gather(Arc::new(asked), waiting)));
        std::thread::Builder::new().name("profiles".to_owned()).spawn(work)?;
        let (changed, changes) = mpsc::channel(CHANGED_MAX);
        let (known, changes) = (Cache::new(KNOWN_MAX), Mutex::new(Some(changes)));
        Ok(Arc::new(Self { options, clock, asks, known, down_until: Mutex::new(None), changed, changes }))
    }

    async fn look_up(&self, tenant: &TenantId, users: &[UserId]) -> Vec<Option<Arc<Profile>>> {
        let now = self.clock.instant();
        let known = |user: &UserId| self.known.get(&(tenant.clone(), user.clone()));
        let is_fresh = |known: &Known| now.saturating_duration_since(known.since) < self.options.fresh;
        let missing: BTreeSet<&UserId> =
            users.iter().filter(|user| known(user).as_ref().is_none_or(|known| !is_fresh(known))).collect();
        if !missing.is_empty() && !self.is_down(now) {
            self.ask(tenant, missing.into_iter().cloned().collect()).await;
        }
        let used = |known: Known| now.saturating_duration_since(known.since) < self.options.stale;
        users.iter().map(|user| known(user).filter(|it| used(it.clone()))?.profile).collect()
    }

    async fn ask(&self, tenant: &TenantId, users: Vec<UserId>) {
        let (to, found) = oneshot::channel();
        let ask = Ask { tenant: tenant.clone(), users: users.clone(), to };
        if self.asks.try_send(ask).is_err() {
            tracing::warn!("too many wait to be told who users are");
            return;
        }
        // The request has the same limit; waiting for others and for a turn comes on top.
        let found = tokio::time::timeout(2 * TIME, found).await;
        let now = self.clock.instant();
        let Ok(Ok(Some(found))) = found else {
            *self.down_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(now + PAUSE);
            return;
        };
        for user in users {
            let (who, profile) = ((tenant.clone(), user.clone()), found.get(&user).cloned());
            let before = self.known.get(&who);
            self.known.insert(who.clone(), Known { since: now, profile: profile.clone() });
            if before.is_some_and(|before| before.profile != profile) && self.changed.try_send(who).is_err() {
                tracing::warn!("too many users are others than before to tell of all");
            }
        }
    }

    fn is_down(&self, now: Instant) -> bool {
        self.down_until.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|until| now < until)
    }
}

impl ProfileSource for Platform {
    fn profiles<'a>(
        &'a self,
        tenant: &'a TenantId,
        users: &'a [UserId],
    ) -> Pin<Box<dyn Future<Output = Vec<Option<Arc<Profile>>>> + Send + 'a>> {
        Box::pin(self.look_up(tenant, users))
    }

    fn changes(&self) -> Option<mpsc::Receiver<Who>> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The platform as the thread that asks it knows it.
struct Asked {
    options: PlatformOptions,
    client: reqwest::Client,
    turns: Arc<Semaphore>,
}

/// Puts look-ups together that come at the same time, and asks.
async fn gather(asked: Arc<Asked>, mut waiting: mpsc::Receiver<Ask>) {
    while let Some(first) = waiting.recv().await {
        let mut asks = vec![first];
        let due = tokio::time::Instant::now() + GATHER;
        while asks.iter().map(|ask| ask.users.len()).sum::<usize>() < USERS_MAX {
            match tokio::time::timeout_at(due, waiting.recv()).await {
                Ok(Some(ask)) => asks.push(ask),
                Ok(None) | Err(_) => break,
            }
        }
        let mut tenants = BTreeMap::<TenantId, Vec<Ask>>::new();
        for ask in asks {
            tenants.entry(ask.tenant.clone()).or_default().push(ask);
        }
        for (tenant, asks) in tenants {
            // Only so many are under way; the others wait in the channel, which has a bound.
            let turn = Arc::clone(&asked.turns).acquire_owned().await.expect("turns are never closed");
            let asked = Arc::clone(&asked);
            tokio::task::spawn_local(async move {
                asked.answer(&tenant, asks).await;
                drop(turn);
            });
        }
    }
}

impl Asked {
    async fn answer(&self, tenant: &TenantId, asks: Vec<Ask>) {
        let users: Vec<UserId> =
            asks.iter().flat_map(|ask| &ask.users).collect::<BTreeSet<_>>().into_iter().cloned().collect();
        let one_by_one = self.options.url.contains("{user}");
        let mut found = Some(HashMap::new());
        for users in users.chunks(if one_by_one { 1 } else { USERS_MAX }) {
            // Whoever asked may have gone: then nobody needs the rest.
            if asks.iter().all(|ask| ask.to.is_closed()) {
                return;
            }
            match self.fetch(tenant, users).await {
                Ok(more) => {
                    if let Some(found) = &mut found {
                        found.extend(more);
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "the platform does not say who its users are; what is known is used");
                    found = None;
                    break;
                }
            }
        }
        let found = found.map(Arc::new);
        for ask in asks {
            let _ = ask.to.send(found.clone());
        }
    }

    async fn fetch(&self, tenant: &TenantId, users: &[UserId]) -> Result<HashMap<UserId, Arc<Profile>>, OutgoingError> {
        let names: Vec<String> = users.iter().map(|user| encoded(user.as_str())).collect();
        let names = names.join(",");
        let url = self.options.url.replace("{users}", &names).replace("{user}", &names);
        let url = url.replace("{tenant}", &encoded(tenant.as_str()));
        let text = outgoing::get_json(&self.client, &url, self.options.token.as_deref(), ANSWER_BYTES_MAX).await;
        let text = match text {
            Ok(text) => text,
            // One that it does not know.
            Err(OutgoingError::Status(404)) if users.len() == 1 => return Ok(HashMap::new()),
            Err(error) => return Err(error),
        };
        let answer: Value =
            serde_json::from_slice(&text).map_err(|_| OutgoingError::Request("it is not JSON".to_owned()))?;
        let found = answer.pointer(&self.options.list);
        let found = found.ok_or_else(|| OutgoingError::Request("it has no list of users".to_owned()))?;
        let wanted: BTreeSet<&UserId> = users.iter().collect();
        let said = found.as_array().map_or(std::slice::from_ref(found), Vec::as_slice);
        let known = said.iter().filter_map(|user| self.options.places.read(user));
        Ok(known.filter(|(user, _)| wanted.contains(user)).map(|(user, it)| (user, Arc::new(it))).collect())
    }
}

impl Places {
    /// What is said of one user; what is not of the form that it has to have is left out.
    fn read(&self, user: &Value) -> Option<(UserId, Profile)> {
        let text = |place: &str| match user.pointer(place).filter(|_| !place.is_empty())? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        let id = UserId::new(&text(&self.id)?).ok()?;
        let profile = Profile {
            name: text(&self.name).and_then(|name| Name::new(&name).ok()),
            avatar: text(&self.avatar).and_then(|text| Avatar::address(&text)),
            about: text(&self.about).and_then(|about| Name::new(&about).ok()),
            email: text(&self.email).and_then(|email| Email::new(&email).ok()),
            telephone: text(&self.telephone).and_then(|telephone| Telephone::new(&telephone).ok()),
            ..Profile::default()
        };
        Some((id, profile))
    }
}

/// Percent-encoded but for the unreserved characters of RFC 3986, section 2.3.
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_address_names_users_once_and_can_be_asked() {
        for good in ["https://p.example/users?ids={users}", "http://localhost/{tenant}/users/{user}"] {
            assert_eq!(PlatformOptions::check_url(good), Ok(()), "{good}");
        }
        for bad in ["https://p.example/users", "http://p.example/{user}", "https://p.example/{user}?{users}"] {
            assert!(PlatformOptions::check_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_said_of_a_user_is_read_from_where_it_is() {
        let places = Places {
            id: "/id".to_owned(),
            name: "/profile/username".to_owned(),
            avatar: "/picture_url".to_owned(),
            about: String::new(),
            email: "/mail".to_owned(),
            telephone: String::new(),
        };
        let said = json!({ "id": 7, "profile": { "username": "Ann" }, "picture_url": "javascript:x", "mail": "no" });
        let (user, profile) = places.read(&said).unwrap();
        let expected = Profile { name: Some(Name::new("Ann").unwrap()), ..Profile::default() };
        assert_eq!((user.as_str(), profile), ("7", expected));
        assert_eq!(places.read(&json!({ "name": "nobody" })), None);
    }

    #[test]
    fn ids_are_written_so_that_they_stay_one_word() {
        assert_eq!(encoded("ann|b@c+d"), "ann%7Cb%40c%2Bd");
    }
}
