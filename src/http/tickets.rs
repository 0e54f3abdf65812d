//! Tickets: what a browser's WebSocket or EventSource shows where it can set no header.
//!
//! A ticket is worth one connection and half a minute, so that a URL in a log or a history is worth nothing. Kept in
//! memory alone: after a restart a client asks for another.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::Edge;
use super::credentials;
use super::problem::Problem;
use crate::domain::{Principal, TenantId, UserId};
use crate::wire::Refusal;

/// How long a ticket may take from its making to its use.
pub const LIFETIME: Duration = Duration::from_secs(30);

/// How many tickets of one user wait to be used; with another the oldest is thrown away.
const PER_USER_MAX: usize = 16;

/// How many tickets wait in all to be used; beyond that, `busy`.
const MAX: usize = 10_000;

/// Drawn at random, so that nobody guesses one within its life.
const BYTES: usize = 16;

/// The tickets that wait to be used, of all threads.
#[derive(Default)]
pub struct Tickets(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    by_text: HashMap<String, Ticket>,
    /// Each user's, oldest first.
    by_user: HashMap<(TenantId, UserId), VecDeque<String>>,
    /// All, oldest first: they live equally long. Among them are some that have been used or thrown away, no more than
    /// [`MAX`] and as many as wait.
    by_age: VecDeque<(Instant, String)>,
}

struct Ticket {
    principal: Principal,
    /// The web page that asked for it. Nobody else's is it good for.
    origin: Option<String>,
    until: Instant,
}

impl Tickets {
    /// Makes a ticket that is good until [`LIFETIME`] after `now`.
    pub fn make(&self, principal: Principal, origin: Option<&str>, now: Instant) -> Result<String, Refusal> {
        let mut bytes = [0; BYTES];
        getrandom::fill(&mut bytes).map_err(|_| Refusal::unavailable())?;
        let text = URL_SAFE_NO_PAD.encode(bytes);
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.forget_the_old(now);
        if waiting.by_text.len() >= MAX {
            return Err(Refusal::busy(LIFETIME));
        }
        let user = (principal.tenant.clone(), principal.user.clone());
        let its = waiting.by_user.entry(user).or_default();
        its.push_back(text.clone());
        if its.len() > PER_USER_MAX
            && let Some(oldest) = its.pop_front()
        {
            waiting.by_text.remove(&oldest);
        }
        let until = now + LIFETIME;
        waiting.by_age.push_back((until, text.clone()));
        waiting.by_text.insert(text.clone(), Ticket { principal, origin: origin.map(str::to_owned), until });
        Ok(text)
    }

    /// Whose ticket this is, for a request from `origin`. It is used up, whatever the answer.
    pub fn redeem(&self, text: &str, origin: Option<&str>, now: Instant) -> Result<Principal, Refusal> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ticket = waiting.take(text).ok_or_else(Refusal::ticket_invalid)?;
        let same_origin = ticket.origin.is_none() || ticket.origin.as_deref() == origin;
        if now < ticket.until && same_origin { Ok(ticket.principal) } else { Err(Refusal::ticket_invalid()) }
    }
}

impl Waiting {
    fn forget_the_old(&mut self, now: Instant) {
        while let Some((_, text)) = self.by_age.pop_front_if(|(until, _)| *until <= now) {
            self.take(&text);
        }
        // Seldom, as before the next time as many have to be made again.
        if self.by_age.len() >= 2 * MAX {
            let by_text = &self.by_text;
            self.by_age.retain(|(_, text)| by_text.contains_key(text));
        }
    }

    fn take(&mut self, text: &str) -> Option<Ticket> {
        let ticket = self.by_text.remove(text)?;
        let user = (ticket.principal.tenant.clone(), ticket.principal.user.clone());
        if let Entry::Occupied(mut its) = self.by_user.entry(user) {
            its.get_mut().retain(|other| other != text);
            if its.get().is_empty() {
                its.remove();
            }
        }
        Some(ticket)
    }
}

/// `POST /v1/tickets`: a ticket for whoever shows a token.
pub async fn make(request: HttpRequest, edge: web::ThinData<Edge>) -> Result<HttpResponse, Problem> {
    let principal = credentials::principal(&request, &edge).await?;
    let registry = edge.worker.registry();
    let origin = request.headers().get(header::ORIGIN).and_then(|origin| origin.to_str().ok());
    // Nor is it good for longer than the token.
    let lifetime = i64::try_from(LIFETIME.as_millis()).expect("half a minute fits");
    let expires_at = registry.now().0.saturating_add(lifetime).min(principal.expires_at.0);
    let ticket = edge.tickets.make(principal, origin, registry.instant()).map_err(Problem::of)?;
    let body = serde_json::json!({ "ticket": ticket, "expires_at": expires_at });
    Ok(HttpResponse::build(StatusCode::CREATED).json(body))
}

/// The tickets of a server.
pub fn shared() -> Arc<Tickets> {
    Arc::default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;

    fn user(name: &str) -> Principal {
        Principal {
            tenant: TenantId::default_tenant(),
            user: UserId::new(name).unwrap(),
            token: None,
            login: None,
            issued_at: Timestamp(0),
            expires_at: Timestamp(1),
        }
    }

    #[test]
    fn a_ticket_is_good_once_and_for_half_a_minute() {
        let (tickets, now) = (Tickets::default(), Instant::now());
        let ticket = tickets.make(user("ann"), None, now).unwrap();
        assert_eq!(ticket.len(), 22);
        assert_eq!(tickets.redeem(&ticket, Some("https://a.example"), now).unwrap(), user("ann"));
        assert_eq!(tickets.redeem(&ticket, None, now).unwrap_err().code(), "ticket_invalid");

        let late = tickets.make(user("ann"), None, now).unwrap();
        assert!(tickets.redeem(&late, None, now + LIFETIME).is_err());
        let last_moment = tickets.make(user("ann"), None, now).unwrap();
        assert!(tickets.redeem(&last_moment, None, now + LIFETIME - Duration::from_millis(1)).is_ok());
    }

    #[test]
    fn a_ticket_is_good_only_for_the_page_that_asked_for_it() {
        let (tickets, now) = (Tickets::default(), Instant::now());
        for (origin, good) in [(Some("https://a.example"), true), (Some("https://b.example"), false), (None, false)] {
            let ticket = tickets.make(user("ann"), Some("https://a.example"), now).unwrap();
            assert_eq!(tickets.redeem(&ticket, origin, now).is_ok(), good, "{origin:?}");
            assert!(tickets.redeem(&ticket, Some("https://a.example"), now).is_err(), "it is used up");
        }
    }

    #[test]
    fn the_tickets_of_one_user_are_bounded_and_take_no_room_from_others() {
        let (tickets, now) = (Tickets::default(), Instant::now());
        let bob = tickets.make(user("bob"), None, now).unwrap();
        let anns: Vec<_> = (0..=PER_USER_MAX).map(|_| tickets.make(user("ann"), None, now).unwrap()).collect();
        assert!(tickets.redeem(&anns[0], None, now).is_err());
        assert!(tickets.redeem(&anns[1], None, now).is_ok());
        assert!(tickets.redeem(&bob, None, now).is_ok());
    }

    #[test]
    fn what_one_user_makes_takes_no_place_of_another() {
        let (tickets, now) = (Tickets::default(), Instant::now());
        for index in 0..3 * MAX {
            let ticket = tickets.make(user("ann"), None, now).unwrap();
            // Half of them are used, and the others thrown away for newer ones.
            assert!(index % 2 == 0 || tickets.redeem(&ticket, None, now).is_ok());
        }
        assert!(tickets.make(user("bob"), None, now).is_ok());
        let waiting = tickets.0.lock().unwrap();
        assert!(waiting.by_age.len() <= 2 * MAX, "{}", waiting.by_age.len());
        assert_eq!((waiting.by_text.len(), waiting.by_user.len()), (PER_USER_MAX, 2));
    }

    #[test]
    fn tickets_are_bounded_in_all_and_old_ones_make_room() {
        let (tickets, now) = (Tickets::default(), Instant::now());
        let make = |index: usize, now| tickets.make(user(&format!("user{index}")), None, now);
        assert!((0..MAX).all(|index| make(index, now).is_ok()));
        assert_eq!(make(MAX, now).unwrap_err().code(), "busy");
        assert!(make(MAX, now + LIFETIME).is_ok());
        assert_eq!(tickets.0.lock().unwrap().by_text.len(), 1);
        assert_eq!(tickets.0.lock().unwrap().by_user.len(), 1);
    }
}
