//! One connection as its worker thread knows it: what waits for it, when it was last heard of, and how to end it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use actix::{Message, Recipient};
use bytes::Bytes;
use uuid::Uuid;

use super::batch::Pending;
use super::connections::{Address, ConnectionGuard};
use super::limits::Limits;
use super::outbox::{CONTROL_BYTES_MAX, Outbox};
use crate::clock::random_uuid;
use crate::domain::{Principal, RoomId, RoomKey};
use crate::wire::frame;
use crate::wire::{CloseReason, Dialect, Notice, Refusal, Reply};

/// Ends a connection at once and discards what the kernel still holds for it.
pub trait Cut {
    fn cut(&self);

    /// Whether the kernel holds nothing of it any more, so that there is nothing to discard.
    fn is_settled(&self) -> bool {
        false
    }
}

/// How a connection shows that it lives, and that what was sent on it has arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Speaks both ways: what it says, and its pongs above all, shows both.
    Socket,
    /// Only listens, and shows neither. That it has gone is noticed by writing comments; a removal cuts it, and it comes
    /// back with the rights that are left.
    Events,
    /// Asks once and takes one answer, which a removal cuts.
    Request,
    /// As a request, and what it is answered is its sender's own: no removal has to cut it, and a revocation does.
    Command,
}

impl Kind {
    /// Whether something has to be heard of it now and then.
    pub fn is_heard(self) -> bool {
        match self {
            Self::Socket => true,
            Self::Events | Self::Request | Self::Command => false,
        }
    }

    /// How often it is sent a sign of life, if it is.
    pub fn beat(self, limits: &Limits) -> Option<Duration> {
        match self {
            Self::Socket => Some(limits.heartbeat),
            Self::Events => Some(limits.comment),
            Self::Request | Self::Command => None,
        }
    }

    /// Whether it can show that what was sent before a ping has arrived.
    fn answers_pings(self) -> bool {
        match self {
            Self::Socket => true,
            Self::Events | Self::Request | Self::Command => false,
        }
    }

    /// Whether it is there for more than one answer.
    pub fn lasts(self) -> bool {
        match self {
            Self::Socket | Self::Events => true,
            Self::Request | Self::Command => false,
        }
    }

    /// Whether it may be shown what is for members only.
    pub fn shows_rooms(self) -> bool {
        match self {
            Self::Socket | Self::Events | Self::Request => true,
            Self::Command => false,
        }
    }
}

/// The shortest that a client is asked to wait before it comes back: the process can hardly be up again before.
const RETURN_AFTER: Duration = Duration::from_secs(1);

/// And how much longer it may be, at random, so that not all come back in the same moment.
const RETURN_SPREAD: Duration = Duration::from_secs(5);

/// What a session hears of its connection.
#[derive(Message, Clone, Copy, PartialEq, Eq, Debug)]
#[rtype(result = "()")]
pub enum News {
    /// It takes records again and none are waiting.
    Drained,
    /// There is no connection any more.
    Gone,
}

/// A connection. Shared, on one thread, by its session, the relay, the carrier and the incoming stream.
#[repr(C)]
pub struct Link {
    pub outbox: Outbox,
    kind: Kind,
    dialect: Dialect,
    socket: Option<Uuid>,
    /// What others know it by, where it has a name: by this nothing is said to it.
    handle: Option<Uuid>,
    cut: Box<dyn Cut>,
    is_cut: Cell<bool>,
    /// The room that its user is leaving by a request on this connection.
    leaving: Cell<Option<RoomId>>,
    session: RefCell<Option<Recipient<News>>>,
    /// Why it was closed, once it has been.
    closed: Cell<Option<CloseReason>>,
    opened: Instant,
    heard: Cell<Instant>,
    pinged: Cell<Instant>,
    /// Since when a frame has been coming in without being complete.
    frame_since: Cell<Option<Instant>>,
    /// When the token ends, by the clock that never jumps; `None` while nobody has been authenticated.
    ends: Cell<Option<Instant>>,
    /// Who it has been proved to be.
    principal: RefCell<Option<Principal>>,
    /// Whose it was is denied: it does nothing more.
    revoked: Cell<bool>,
    /// A command has come by it, or is still coming, and has not been answered.
    under_way: Cell<bool>,
    proofs: RefCell<VecDeque<Proof>>,
    /// It is closed when it has shown that it has what was sent: there is nothing more for it.
    ending: Cell<bool>,
    removals: Cell<u64>,
    present: Cell<bool>,
    typing: Cell<usize>,
    /// How many reasons there are not to look at what comes in for now; and who wants to know when there is none.
    pauses: Cell<u32>,
    reader: Cell<Option<Waker>>,
    /// Its place among those that may be open.
    guard: RefCell<Option<ConnectionGuard>>,
}

/// A ping on its way behind the last bytes of a room, and what waits for its pong.
struct Proof {
    token: u64,
    /// `None` where nobody else waits for it.
    pending: Option<Pending>,
}

impl Link {
    /// A WebSocket.
    pub fn new(dialect: Dialect, cut: Box<dyn Cut>) -> Self {
        Self::of(Kind::Socket, dialect, cut)
    }

    /// A stream of events.
    pub fn events(dialect: Dialect, cut: Box<dyn Cut>) -> Self {
        Self::of(Kind::Events, dialect, cut)
    }

    /// A connection while it is asked one thing.
    pub fn request(cut: Box<dyn Cut>) -> Self {
        Self::of(Kind::Request, Dialect::NativeJson, cut)
    }

    /// A connection while a command comes by it and is carried out.
    pub fn command(cut: Box<dyn Cut>) -> Self {
        Self::of(Kind::Command, Dialect::NativeJson, cut)
    }

    fn of(kind: Kind, dialect: Dialect, cut: Box<dyn Cut>) -> Self {
        let now = Instant::now();
        Self {
            outbox: Outbox::default(),
            kind,
            dialect,
            socket: dialect.names_sockets().then(random_uuid),
            handle: dialect.names_sockets().then(random_uuid),
            cut,
            is_cut: Cell::new(false),
            leaving: Cell::new(None),
            session: RefCell::new(None),
            closed: Cell::new(None),
            opened: now,
            heard: Cell::new(now),
            pinged: Cell::new(now),
            frame_since: Cell::new(None),
            ends: Cell::new(None),
            principal: RefCell::new(None),
            revoked: Cell::new(false),
            under_way: Cell::new(kind == Kind::Command),
            proofs: RefCell::new(VecDeque::new()),
            ending: Cell::new(false),
            removals: Cell::new(0),
            present: Cell::new(false),
            typing: Cell::new(0),
            pauses: Cell::new(0),
            reader: Cell::new(None),
            guard: RefCell::new(None),
        }
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// It counts among those that are open until it is gone.
    pub fn counts_as(&self, guard: ConnectionGuard) {
        *self.guard.borrow_mut() = Some(guard);
    }

    /// Where it comes from, where that is known.
    pub fn address(&self) -> Option<Address> {
        self.guard.borrow().as_ref().map(ConnectionGuard::address)
    }

    /// Counts it for a user from now on, unless that would be one too many.
    pub fn counts_for(&self, limits: &Limits, principal: &Principal) -> Result<(), Refusal> {
        self.guard.borrow_mut().as_mut().map_or(Ok(()), |guard| guard.authenticated(limits, principal))
    }

    pub fn opened(&self) -> Instant {
        self.opened
    }

    /// Something came in.
    pub fn hear(&self, in_frame: bool) {
        let now = Instant::now();
        self.heard.set(now);
        match (in_frame, self.frame_since.get()) {
            (true, None) => self.frame_since.set(Some(now)),
            (true, Some(_)) => {}
            (false, _) => self.frame_since.set(None),
        }
    }

    pub fn heard(&self) -> Instant {
        self.heard.get()
    }

    pub fn frame_since(&self) -> Option<Instant> {
        self.frame_since.get()
    }

    /// Leaves what comes in where it is until [`Link::resume_reading`] has been called as often as this.
    pub fn pause_reading(&self) {
        self.pauses.set(self.pauses.get() + 1);
    }

    /// Whether what comes in is left where it is.
    pub fn is_paused(&self) -> bool {
        self.pauses.get() > 0 || self.is_congested()
    }

    /// Whether its replies pile up.
    pub fn is_congested(&self) -> bool {
        self.outbox.control_bytes() > CONTROL_BYTES_MAX
    }

    pub fn resume_reading(&self) {
        self.pauses.set(self.pauses.get().saturating_sub(1));
        if self.pauses.get() > 0 {
            return;
        }
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// Ready while what comes in may be looked at: not while its replies pile up, either.
    pub fn poll_reading(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.pauses.get() > 0 {
            self.reader.set(Some(cx.waker().clone()));
            return Poll::Pending;
        }
        self.outbox.poll_uncongested(cx)
    }

    /// Whether somebody has been authenticated on it.
    pub fn is_authenticated(&self) -> bool {
        self.ends.get().is_some()
    }

    /// Whether its token has ended at `now`.
    pub fn has_expired(&self, now: Instant) -> bool {
        self.ends.get().is_some_and(|ends| ends <= now)
    }

    /// A token that is good until `ends` has been accepted, and has proved who it is.
    pub fn authenticated_until(&self, ends: Instant, principal: &Principal) {
        self.ends.set(Some(ends));
        *self.principal.borrow_mut() = Some(principal.clone());
    }

    /// Whether whoever it has been proved to be is so.
    pub fn is_of(&self, so: impl Fn(&Principal) -> bool) -> bool {
        self.principal.borrow().as_ref().is_some_and(so)
    }

    /// Whether it has been revoked.
    pub fn is_revoked(&self) -> bool {
        self.revoked.get()
    }

    /// Throws away what waits for it, says why it ends, and ends it. `pending` is held until a pong proves
    /// that what left before has arrived, or nothing of it can leave any more. Returns the token of the ping.
    pub fn revoke(&self, why: CloseReason, pending: Pending) -> u64 {
        let token = crate::clock::random();
        self.revoked.set(true);
        if self.under_way.get() && !self.is_cut() {
            // What has been handed to its room is waited for; what is still coming is not read any further.
            self.closed.set(Some(why));
            self.proofs.borrow_mut().push_back(Proof { token, pending: Some(pending) });
            self.discard();
            self.outbox.abandon();
            return token;
        }
        if !self.outbox.is_open() || !self.kind.lasts() {
            // Whatever it still holds is thrown away with it.
            self.cut();
            return token;
        }
        self.proofs.borrow_mut().push_back(Proof { token, pending: Some(pending) });
        self.closed.set(Some(why));
        let close = self.dialect.frame_close(why, RETURN_AFTER);
        let ping = if self.kind.answers_pings() { frame::ping(token) } else { Bytes::new() };
        self.outbox.finish_at_once([ping, close].concat().into());
        self.resume_reading();
        token
    }

    /// The command has been carried out, or will not be.
    pub fn answered(&self) {
        self.under_way.set(false);
        if self.is_cut() {
            self.gone();
        }
    }

    /// Its token was revoked before it was among those that are told of it: it says so, carries out nothing more, and
    /// ends. Nothing of a room has been sent by it.
    pub fn deny(&self, why: CloseReason) {
        self.revoked.set(true);
        self.closed.set(Some(why));
        if !self.kind.lasts() {
            // What is being read for it must not become its answer.
            return self.cut();
        }
        self.outbox.finish_at_once(self.dialect.frame_close(why, RETURN_AFTER));
        self.outbox.let_go();
        self.resume_reading();
    }

    /// Sends a heartbeat if the last one is older than `due`.
    pub fn beat_if_before(&self, due: Instant, now: Instant) {
        if self.pinged.get() <= due {
            self.pinged.set(now);
            self.outbox.push_control(self.dialect.frame_heartbeat());
        }
    }

    /// Sends a ping behind every record that is waiting; `pending` is held until its pong, or the end of the
    /// connection, proves that none of them is still on the way. Returns the token of the ping, by which to ask for it.
    pub fn prove(&self, pending: Pending) -> u64 {
        let token = crate::clock::random();
        self.removals.set(self.removals.get() + 1);
        if self.has_ended() {
            return token;
        }
        if !self.outbox.is_open() || !self.kind.answers_pings() {
            // Whatever it still holds is thrown away with it.
            self.cut();
            return token;
        }
        self.proofs.borrow_mut().push_back(Proof { token, pending: Some(pending) });
        self.outbox.push_behind_log(frame::ping(token), None);
        token
    }

    /// What it followed has ended, and there is nothing more for it: closed with [`CloseReason::Normal`] as soon as it
    /// shows that all before has arrived. The close frame itself is no proof, since it may be the last that its client
    /// reads.
    pub fn end(&self) {
        if self.outbox.is_open() {
            let token = crate::clock::random();
            self.ending.set(true);
            self.proofs.borrow_mut().push_back(Proof { token, pending: None });
            self.outbox.push_behind_log(frame::ping(token), None);
        }
    }

    /// Whether all that was sent on it has arrived, and it has been closed behind that.
    fn has_ended(&self) -> bool {
        self.ending.get() && !self.outbox.is_open() && self.proofs.borrow().is_empty()
    }

    /// Whether it has said of its user that he is there.
    pub fn present(&self) -> &Cell<bool> {
        &self.present
    }

    /// In how many rooms its user is writing by it.
    pub fn typing(&self) -> usize {
        self.typing.get()
    }

    pub fn count_typing(&self, more: isize) {
        self.typing.set(self.typing.get().saturating_add_signed(more));
    }

    /// How many removals of its user have reached it.
    pub fn removals(&self) -> u64 {
        self.removals.get()
    }

    /// A pong came in: it stands for every proof up to the one with this token.
    pub fn pong(&self, payload: &[u8]) {
        let Some(token) = frame::pong_token(payload) else { return };
        let mut proofs = self.proofs.borrow_mut();
        if let Some(index) = proofs.iter().position(|proof| proof.token == token) {
            proofs.drain(..=index);
        }
        if !proofs.is_empty() {
            return;
        }
        drop(proofs);
        if self.revoked.get() {
            self.outbox.let_go();
        } else if self.ending.get() {
            self.close(CloseReason::Normal);
        }
    }

    /// Whether the pong for this token is still awaited.
    pub fn unproven(&self, token: u64) -> bool {
        self.proofs.borrow().iter().any(|proof| proof.token == token)
    }

    /// How many proofs are awaited of it.
    pub fn proofs_owed(&self) -> usize {
        self.proofs.borrow().len()
    }

    /// How it has ended, in a word.
    pub fn ended(&self) -> &'static str {
        match self.closed.get() {
            Some(reason) => reason.info().name,
            None if self.is_cut() => "cut",
            None => "gone",
        }
    }

    /// Says why and ends the connection once that has left.
    pub fn close(&self, reason: CloseReason) {
        let pause = RETURN_AFTER + RETURN_SPREAD.mul_f64(crate::clock::random() as f64 / u64::MAX as f64);
        if self.closed.get().is_none() && self.outbox.is_open() {
            self.closed.set(Some(reason));
        }
        if reason == CloseReason::Restarting && !self.dialect.closes_with_a_time() {
            self.push_control(self.dialect.frame_notice(&Notice::Restarting { retry_after: pause }));
        }
        self.outbox.finish(self.dialect.frame_close(reason, pause));
    }

    /// Why it was closed, once it has been.
    pub fn closed(&self) -> Option<CloseReason> {
        self.closed.get()
    }

    /// Ends the connection now; nothing more of it leaves this machine.
    pub fn cut(&self) {
        self.discard();
        self.gone();
    }

    /// Its user leaves `room` by a request on this connection, until it has been answered: the answer is behind all that
    /// the user was shown, and proves its arrival.
    pub fn leaving(&self, room: Option<RoomId>) {
        self.leaving.set(room);
    }

    /// Whether a removal of its user from `room` is by its own request: also one from the audit room of the room that it
    /// leaves.
    pub fn is_leaving(&self, room: &RoomKey) -> bool {
        let is_left = |left: RoomId| left == room.room || RoomId::audit(&room.tenant, left) == room.room;
        self.leaving.get().is_some_and(is_left)
    }

    /// Whether all that was sent by it has arrived, or never will.
    pub fn is_settled(&self) -> bool {
        self.cut.is_settled()
    }

    /// Whether nothing more of it leaves this machine.
    pub fn is_cut(&self) -> bool {
        self.is_cut.get()
    }

    fn discard(&self) {
        if !self.is_cut.replace(true) {
            self.cut.cut();
        }
    }

    /// Notes that the connection is gone: nothing waits for it any more. A proof that it owes will not come, so what
    /// the kernel holds for it must not leave either.
    pub fn gone(&self) {
        self.outbox.abandon();
        drop(self.guard.take());
        let owed = self.proofs.take();
        if !owed.is_empty() {
            self.discard();
        }
        for proof in owed {
            drop(proof.pending);
        }
        if let Some(session) = self.session.borrow_mut().take() {
            send(&session, News::Gone);
        }
    }

    /// Names the session that hears what becomes of the connection.
    pub fn attach(&self, session: Recipient<News>) {
        *self.session.borrow_mut() = Some(session);
    }

    /// Tells the session that the connection takes records again.
    pub fn drained(&self) {
        if let Some(session) = &*self.session.borrow() {
            send(session, News::Drained);
        }
    }

    /// Adds a notice to the control lane, where its dialect has a word for it.
    pub fn notify(&self, notice: &Notice) {
        self.push_control(self.dialect.frame_notice(notice));
    }

    /// Adds the reply to the request `id` to the control lane. Where connections have names, replies go by those.
    pub fn reply(&self, id: Option<&str>, reply: &Reply) {
        let socket = self.socket.map(|socket| socket.to_string());
        self.push_control(self.dialect.frame_reply(socket.as_deref().or(id), reply));
    }

    fn push_control(&self, frame: Bytes) {
        if !frame.is_empty() {
            self.outbox.push_control(frame);
        }
    }

    /// What its dialect calls it, where it calls connections anything.
    pub fn socket(&self) -> Option<Uuid> {
        self.socket
    }

    /// What others know it by.
    pub fn handle(&self) -> Option<Uuid> {
        self.handle
    }
}

#[expect(clippy::disallowed_methods, reason = "a pull is asked for once at a time, and a connection is gone once")]
fn send(session: &Recipient<News>, news: News) {
    session.do_send(news);
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use tokio::sync::mpsc;

    use super::*;

    struct Noted(Rc<Cell<bool>>);

    impl Cut for Noted {
        fn cut(&self) {
            self.0.set(true);
        }
    }

    #[test]
    fn what_has_shown_that_it_has_everything_is_closed_and_a_later_proof_does_not_cut_it() {
        let cut = Rc::new(Cell::new(false));
        let link = Link::new(Dialect::Misakey, Box::new(Noted(Rc::clone(&cut))));
        let (pending, mut proved) = mpsc::channel(1);
        link.end();
        assert!(link.outbox.is_open(), "nothing behind a close frame would be read");
        let first = link.proofs.borrow()[0].token;
        let second = link.prove(pending.clone());
        let (mine, others) = (frame::ping(first), frame::ping(second));
        link.pong(&mine[2..]);
        assert!(link.outbox.is_open(), "the proof behind it is awaited, too");
        link.pong(&others[2..]);
        assert_eq!((link.outbox.is_open(), link.closed()), (false, Some(CloseReason::Normal)));
        let late = link.prove(pending);
        assert!(!link.unproven(late) && !cut.get());
        assert_eq!(proved.try_recv(), Err(mpsc::error::TryRecvError::Disconnected), "nothing is awaited any more");
    }
}
