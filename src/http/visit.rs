//! A request that is shown something of a room, as the actors know it.
//!
//! While it is answered it is a connection like any other: counted, told when the server stops, ended with its token.
//! After its answer has been handed over nobody knows how much of that the client has taken, and how much the kernel
//! or a buffer still holds. So the connection stays known as its user's until it has ended, and some time longer: a
//! removal meanwhile cuts it, and whatever of the answer has not left does not leave any more.

use std::cell::RefCell;
use std::rc::Rc;

use actix_web::http::ConnectionType;
use actix_web::{HttpRequest, HttpResponse};

use super::Edge;
use super::listener::Connection;
use super::problem::Problem;
use crate::actors::{Cut, Link, Worker};
use crate::domain::{Principal, RoomId};
use crate::wire::Refusal;

/// How many users are shown something on one connection. A proxy may let several share one; behind the answer to the
/// last of so many it is closed.
const USERS_MAX: usize = 16;

/// Who has been shown something on one connection. Kept with it, and ends with it.
#[derive(Clone, Default)]
pub struct Visitors(Rc<Shown>);

#[derive(Default)]
struct Shown(RefCell<Vec<Visitor>>);

struct Visitor {
    worker: Rc<Worker>,
    link: Rc<Link>,
    by: Principal,
}

impl Drop for Shown {
    fn drop(&mut self) {
        for Visitor { worker, link, by } in self.0.take() {
            worker.closed(&link, Some(&by));
        }
    }
}

/// One request of somebody while it is answered.
pub struct Visit {
    visitors: Visitors,
    worker: Rc<Worker>,
    link: Rc<Link>,
    by: Principal,
    /// Its answer is more than a refusal.
    shown: bool,
}

/// What came before on the connection of `request` has arrived before what is answered next. So who ends its own login on
/// it is answered, and not cut by what the connection had been shown.
pub fn depart(request: &HttpRequest, by: &Principal) {
    if let Some(Connection { visitors, .. }) = request.conn_data::<Connection>() {
        let its = visitors.0.0.borrow_mut().extract_if(.., |visitor| same(&visitor.by, by)).collect::<Vec<_>>();
        for Visitor { worker, link, by } in its {
            worker.forget(&link, &by);
        }
    }
}

/// A user who is leaving a room on a connection, until this is dropped.
pub struct Leaving(Option<Rc<Link>>);

impl Drop for Leaving {
    fn drop(&mut self) {
        if let Some(link) = &self.0 {
            link.leaving(None);
        }
    }
}

impl Visit {
    /// Has to begin before anything is looked up for `by`, so that no removal slips between.
    pub fn begin(request: &HttpRequest, edge: &Edge, by: Principal) -> Result<Self, Problem> {
        let visit = Self::enter(request, edge, by, Link::request)?;
        // Those who are told that the server stops are told once; whoever comes later looks for itself.
        if visit.worker.registry().draining() {
            return Err(Problem::of(Refusal::shutting_down()));
        }
        Ok(visit)
    }

    /// A request that is a command. Has to begin before its body is read, so that a revocation meets it.
    pub fn command(request: &HttpRequest, edge: &Edge, by: Principal) -> Result<Self, Problem> {
        Self::enter(request, edge, by, Link::command)
    }

    fn enter(
        request: &HttpRequest,
        edge: &Edge,
        by: Principal,
        link: fn(Box<dyn Cut>) -> Link,
    ) -> Result<Self, Problem> {
        let connection = request.conn_data::<Connection>();
        let Connection { kill, visitors, .. } = connection.ok_or_else(|| Problem::of(Refusal::unavailable()))?;
        let (worker, link) = (Rc::clone(&edge.worker), Rc::new(link(Box::new(kill.clone()))));
        if link.kind().shows_rooms() {
            worker.open(&link);
        }
        worker.authenticated(&link, &by);
        Ok(Self { visitors: visitors.clone(), worker, link, by, shown: false })
    }

    /// Whether the token that it began with is good still.
    pub fn is_good(&self) -> Result<(), Refusal> {
        let registry = self.worker.registry();
        if let Some(refusal) = registry.denied(&self.by) {
            return Err(refusal);
        }
        if self.link.is_revoked() {
            return Err(Refusal::token_revoked());
        }
        if self.link.has_expired(registry.instant()) { Err(Refusal::token_expired()) } else { Ok(()) }
    }

    pub fn worker(&self) -> &Rc<Worker> {
        &self.worker
    }

    pub fn link(&self) -> &Rc<Link> {
        &self.link
    }

    pub fn by(&self) -> &Principal {
        &self.by
    }

    /// What came before on the connection has arrived before what is answered next. So the user who asks to leave a room
    /// on it is answered, and not cut by the own removal.
    pub fn leaving(&self, room: RoomId) -> Leaving {
        let visitors = self.visitors.0.0.borrow();
        let link = visitors.iter().find(|visitor| same(&visitor.by, &self.by)).map(|visitor| Rc::clone(&visitor.link));
        if let Some(link) = &link {
            link.leaving(Some(room));
        }
        Leaving(link)
    }

    /// Sends what the visitor is shown on its way.
    pub fn end(mut self, response: HttpResponse) -> HttpResponse {
        self.show(response)
    }

    /// The same for an answer that takes its time: the visit goes on until the answer has been handed over.
    pub fn show(&mut self, mut response: HttpResponse) -> HttpResponse {
        if self.visitors.0.0.borrow().len() >= USERS_MAX - 1 {
            response.head_mut().set_connection_type(ConnectionType::Close);
        }
        self.shown = true;
        response
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.link.answered();
        if !self.shown {
            // A refusal says nothing that a removal would have to hold back, and takes nobody's place.
            return self.worker.forget(&self.link, &self.by);
        }
        self.worker.answered(&self.link);
        let (worker, link) = (Rc::clone(&self.worker), Rc::clone(&self.link));
        let mut visitors = self.visitors.0.0.borrow_mut();
        let before = visitors.iter_mut().find(|visitor| same(&visitor.by, &self.by));
        match before {
            Some(_) if !link.kind().shows_rooms() => worker.forget(&link, &self.by),
            // The new link is as good for cutting the connection as the old one.
            Some(visitor) => {
                let older = std::mem::replace(&mut visitor.link, link);
                worker.forget(&older, &self.by);
            }
            None => visitors.push(Visitor { worker, link, by: self.by.clone() }),
        }
    }
}

fn same(one: &Principal, other: &Principal) -> bool {
    one.tenant == other.tenant && one.user == other.user
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use uuid::Uuid;

    use super::*;
    use crate::domain::{RoomKey, TenantId};

    struct Uncut;

    impl Cut for Uncut {
        fn cut(&self) {}
    }

    #[actix_web::test]
    async fn a_leave_that_is_given_up_is_one_no_longer() {
        let (link, room) = (Rc::new(Link::request(Box::new(Uncut))), RoomId(Uuid::nil()));
        let leave = async {
            link.leaving(Some(room));
            let _leaving = Leaving(Some(Rc::clone(&link)));
            std::future::pending::<()>().await;
        };
        let leave = tokio::time::timeout(Duration::from_millis(10), leave);
        assert!(leave.await.is_err());
        assert!(!link.is_leaving(&RoomKey { tenant: TenantId::default_tenant(), room }));
    }
}
