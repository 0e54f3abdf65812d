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
use super::kill::KillSwitch;
use super::problem::Problem;
use crate::actors::{Link, Worker};
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
}

impl Visit {
    /// Has to begin before anything is looked up for `by`, so that no removal slips between.
    pub fn begin(request: &HttpRequest, edge: &Edge, by: Principal) -> Result<Self, Problem> {
        let switch = request.conn_data::<KillSwitch>().zip(request.conn_data::<Visitors>());
        let (kill, visitors) = switch.ok_or_else(|| Problem::of(Refusal::unavailable()))?;
        let (worker, link) = (Rc::clone(&edge.worker), Rc::new(Link::request(Box::new(kill.clone()))));
        worker.open(&link);
        worker.authenticated(&link, &by);
        let visit = Self { visitors: visitors.clone(), worker, link, by };
        // Those who are told that the server stops are told once; whoever comes later looks for itself.
        if visit.worker.registry().draining() {
            return Err(Problem::of(Refusal::shutting_down()));
        }
        Ok(visit)
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
    pub fn leaving(request: &HttpRequest, by: &Principal, room: Option<RoomId>) {
        let Some(visitors) = request.conn_data::<Visitors>() else { return };
        if let Some(visitor) = visitors.0.0.borrow().iter().find(|visitor| same(&visitor.by, by)) {
            visitor.link.leaving(room);
        }
    }

    /// Sends what the visitor is shown on its way.
    pub fn end(self, mut response: HttpResponse) -> HttpResponse {
        if self.visitors.0.0.borrow().len() >= USERS_MAX - 1 {
            response.head_mut().set_connection_type(ConnectionType::Close);
        }
        response
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.worker.answered(&self.link);
        let (worker, link) = (Rc::clone(&self.worker), Rc::clone(&self.link));
        let mut visitors = self.visitors.0.0.borrow_mut();
        let before = visitors.iter_mut().find(|visitor| same(&visitor.by, &self.by));
        match before {
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
