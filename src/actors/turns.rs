//! How the followers of a thread are served without holding up what else it has to do: so many deliveries, and then
//! others have their turn.
//!
//! What fits into the rest of a turn is handed over at once. What does not waits here, and is worked off by a task of its
//! own: a future of an actor that lets others go first is looked at again before anybody else has been. Each turn goes on
//! with another publication, so that a small one is not behind a large one for long; those of one room keep their order.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use tokio::sync::{Notify, oneshot};
use tokio::task::yield_now;

use super::relay::Publication;
use super::worker::Worker;

/// So many deliveries are made, batches times followers, before others have their turn on the thread: at 6 microseconds
/// each, 3 milliseconds.
pub(super) const DELIVERIES_PER_TURN: usize = 512;

/// The turns of one relay.
pub(super) struct Turns {
    worker: Rc<Worker>,
    /// How many deliveries are left of this one; none while anything is waiting.
    left: Cell<usize>,
    /// Bounded by the rooms: each has one publication under way, and what its predecessors left behind.
    waiting: RefCell<VecDeque<UnderWay>>,
    /// Some of this turn has been used.
    begun: Notify,
}

struct UnderWay {
    publication: Publication,
    unserved: usize,
    served: oneshot::Sender<Publication>,
}

/// What has become of a publication.
pub(super) enum Taken {
    /// Every follower has been handed its part.
    Served(Publication),
    /// It comes back when that is so.
    Waiting(oneshot::Receiver<Publication>),
}

impl Turns {
    pub fn new(worker: Rc<Worker>) -> Rc<Self> {
        Rc::new(Self {
            worker,
            left: Cell::new(DELIVERIES_PER_TURN),
            waiting: RefCell::default(),
            begun: Notify::new(),
        })
    }

    /// Hands over what there is time for in this turn, at once.
    pub fn take(&self, publication: Publication) -> Taken {
        let mut unserved = usize::MAX;
        if self.left.get() > 0 && self.serve(&publication, &mut unserved) {
            return Taken::Served(publication);
        }
        let (served, is_served) = oneshot::channel();
        self.waiting.borrow_mut().push_back(UnderWay { publication, unserved, served });
        Taken::Waiting(is_served)
    }

    /// Begins a turn when others have had theirs since some of the last one was used.
    pub async fn go_round(self: Rc<Self>) {
        loop {
            self.begun.notified().await;
            if self.left.get() == 0 {
                // Those that were ready have had theirs; what sockets and timers have for others is looked at, too.
                yield_now().await;
            }
            self.left.set(DELIVERIES_PER_TURN);
            self.work_off();
        }
    }

    fn work_off(&self) {
        let mut waiting = self.waiting.borrow_mut();
        while self.left.get() > 0 && !waiting.is_empty() {
            match waiting.pop_front_if(|first| self.serve(&first.publication, &mut first.unserved)) {
                // The relay is there as long as this.
                Some(first) => drop(first.served.send(first.publication)),
                None => let_others_go_first(&mut waiting),
            }
        }
    }

    /// Hands a publication to those who have not been served, as many as there is time for. True when that were all;
    /// otherwise nothing is left of the turn.
    fn serve(&self, publication: &Publication, unserved: &mut usize) -> bool {
        let (left, batches) = (self.left.get(), publication.batches.len());
        let served = self.worker.deliver(publication, unserved, left.div_ceil(batches));
        if served > 0 && left == DELIVERIES_PER_TURN {
            self.begun.notify_one();
        }
        self.left.set(left.saturating_sub(served * batches));
        *unserved == 0
    }
}

/// Puts the first behind the others, but before those of its room.
fn let_others_go_first(waiting: &mut VecDeque<UnderWay>) {
    let Some(first) = waiting.pop_front() else { return };
    let same_room = |other: &UnderWay| other.publication.room == first.publication.room;
    let place = waiting.iter().position(same_room).unwrap_or(waiting.len());
    waiting.insert(place, first);
}
