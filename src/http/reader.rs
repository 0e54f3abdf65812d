//! The connection of a request that reads what only members may see, as a removal has to find it.

use std::rc::Rc;

use actix_web::HttpRequest;

use super::kill::KillSwitch;
use super::problem::Problem;
use crate::actors::{Cut, Link, Worker};
use crate::domain::Principal;
use crate::wire::{Ask, Dialect, Refusal};

/// A request under way. Where it reads a room, its worker knows its connection as the user's until nothing of the
/// answer can leave any more: a removal cuts it.
pub struct Reader {
    worker: Rc<Worker>,
    link: Rc<Link>,
    reads: Option<Principal>,
}

impl Reader {
    pub fn begin(worker: &Rc<Worker>, request: &HttpRequest, by: &Principal, ask: &Ask) -> Result<Self, Problem> {
        let reads = reads_a_room(ask);
        let cut: Box<dyn Cut> = if reads {
            let kill = request.conn_data::<KillSwitch>().cloned();
            Box::new(kill.ok_or_else(|| Problem::of(Refusal::unavailable()))?)
        } else {
            Box::new(Kept)
        };
        let link = Rc::new(Link::new(Dialect::NativeJson, cut));
        if reads {
            worker.authenticated(&link, by);
        }
        Ok(Self { worker: Rc::clone(worker), link, reads: reads.then(|| by.clone()) })
    }

    pub fn link(&self) -> &Rc<Link> {
        &self.link
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(by) = &self.reads {
            // The answer is on its way. It cannot prove its arrival as a WebSocket can, so from now on a removal cuts
            // it at once.
            self.link.gone();
            self.worker.closed(&self.link, Some(by));
        }
    }
}

/// Whether the answer shows what is for members only. What a command is answered is its sender's own.
fn reads_a_room(ask: &Ask) -> bool {
    match ask {
        Ask::History { .. } | Ask::Room { .. } | Ask::Members { .. } => true,
        Ask::Auth { .. }
        | Ask::Create { .. }
        | Ask::Command { .. }
        | Ask::Follow { .. }
        | Ask::Unfollow { .. }
        | Ask::Rooms { .. }
        | Ask::NotYet => false,
    }
}

/// The connection of a command: no removal has to end it, that of its own sender least.
struct Kept;

impl Cut for Kept {
    fn cut(&self) {}
}
