//! How far one reader has got in all of its rooms at once: a mark of the log, and what differs from it.
//!
//! A user may have thousands of rooms, and nobody wants to keep, or send with every record, as many positions. So a
//! [`World`] says: in every room up to where it was when the log had come as far as this mark, except in these few,
//! where it is elsewhere. Each record that is handed over live makes an exception, and there may be only so many of
//! them. Then a *pass* begins: the log's mark of now is taken, room by room everything up to it is read, in the order
//! of the rooms' tags, and while that goes on one room and one seq say how far it has come. At its end the mark is the
//! new one and there are no exceptions.
//!
//! It holds no records, knows no queue, and asks no log. Its host turns a mark into positions, and sees to it that
//! nobody stands before the beginning of the membership: a room that was joined after the mark needs no exception, for
//! then its position at the mark is before that, too. Therefore a host takes the mark first and looks for rooms later.

use std::collections::BTreeMap;

use super::{Mark, RoomId, Seq};

/// How many rooms may stand elsewhere than at their position at the mark. A sealed cursor has at most about a thousand
/// characters then.
pub const EXCEPTIONS_MAX: usize = 64;

/// A room's name in a world: the low 64 bits of its id, of which 62 are random or a hash. That two of ten thousand
/// rooms share one has a chance of about one in 10^11; a host follows only one of two that do, and says so.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RoomTag(pub u64);

impl RoomTag {
    pub fn of(room: RoomId) -> Self {
        Self(room.0.as_u64_pair().1)
    }
}

/// Up to where everything has been handed over, in all rooms.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct World {
    mark: Mark,
    exceptions: BTreeMap<RoomTag, Seq>,
    pass: Option<Pass>,
}

/// Everything up to `next` is being read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pass {
    pub next: Mark,
    /// The room that is being read and how far it has been; those before it stand at `next`. `None` at the beginning.
    pub reached: Option<(RoomTag, Seq)>,
}

/// Where a room stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stand {
    At(Seq),
    /// Where it was when the log had come this far.
    AtMark(Mark),
}

/// There are as many exceptions as there may be: the record must not be handed over before a pass has been made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

impl World {
    /// In every room at its position at `mark`.
    pub fn at(mark: Mark) -> Self {
        Self { mark, exceptions: BTreeMap::new(), pass: None }
    }

    /// A world as a cursor tells it; `None` for what no world can have become.
    pub fn restored(
        mark: Mark,
        exceptions: BTreeMap<RoomTag, Seq>,
        pass: Option<(Mark, RoomTag, Seq)>,
    ) -> Option<Self> {
        let behind = |reached: RoomTag| exceptions.first_key_value().is_none_or(|(first, _)| *first > reached);
        let sound =
            exceptions.len() <= EXCEPTIONS_MAX && pass.is_none_or(|(next, reached, _)| mark <= next && behind(reached));
        let pass = pass.map(|(next, room, seq)| Pass { next, reached: Some((room, seq)) });
        sound.then_some(Self { mark, exceptions, pass })
    }

    pub fn mark(&self) -> Mark {
        self.mark
    }

    /// Where rooms stand elsewhere than at the mark.
    pub fn exceptions(&self) -> &BTreeMap<RoomTag, Seq> {
        &self.exceptions
    }

    /// The pass that is under way.
    pub fn pass(&self) -> Option<Pass> {
        self.pass
    }

    pub fn stands(&self, room: RoomTag) -> Stand {
        if let Some(Pass { next, reached: Some((reading, seq)) }) = self.pass {
            if room < reading {
                return Stand::AtMark(next);
            }
            if room == reading {
                return Stand::At(seq);
            }
        }
        self.exceptions.get(&room).map_or(Stand::AtMark(self.mark), |seq| Stand::At(*seq))
    }

    /// Whether records of `room` may be handed over outside of a pass.
    pub fn takes(&self, room: RoomTag) -> bool {
        self.pass.is_none() && (self.exceptions.len() < EXCEPTIONS_MAX || self.exceptions.contains_key(&room))
    }

    /// Everything of `room` up to `seq` has been handed over, outside of a pass.
    pub fn delivered(&mut self, room: RoomTag, seq: Seq) -> Result<(), Full> {
        if !self.takes(room) {
            return Err(Full);
        }
        self.exceptions.insert(room, seq);
        Ok(())
    }

    /// What was handed over of `room` after `seq` never left. In a pass that can only be the room that is being read,
    /// because the next one is read when everything before has left; else it has an exception, unless it was lost.
    pub fn rewound(&mut self, room: RoomTag, seq: Seq) {
        match &mut self.pass {
            Some(Pass { reached: Some((reading, reached)), .. }) if *reading == room => *reached = seq,
            Some(_) => {}
            None => {
                if let Some(at) = self.exceptions.get_mut(&room) {
                    *at = seq;
                }
            }
        }
    }

    /// The room is not one of the user's any more. Should it be again, its new membership says where it begins.
    pub fn lost(&mut self, room: RoomTag) {
        self.exceptions.remove(&room);
    }

    /// Begins to read everything up to `next`, which is not before anything that was handed over. A pass that is under
    /// way has to be finished first.
    pub fn begin(&mut self, next: Mark) {
        if self.pass.is_none() {
            self.pass = Some(Pass { next, reached: None });
        }
    }

    /// The pass has handed over `room` up to `seq`, and has passed over the rooms before it, which stand at its mark.
    pub fn reached(&mut self, room: RoomTag, seq: Seq) {
        let Some(pass) = &mut self.pass else { return };
        pass.reached = Some((room, seq));
        let later = self.exceptions.split_off(&room);
        self.exceptions = later;
        self.exceptions.remove(&room);
    }

    /// The pass has come to its end: every room stands at its mark.
    pub fn finish(&mut self) {
        if let Some(pass) = self.pass.take() {
            *self = Self::at(pass.next);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    const ROOMS: u64 = 90;

    #[test]
    fn a_tag_is_the_low_half_of_an_id() {
        assert_eq!(RoomTag::of(RoomId(Uuid::from_u128(7 << 64 | 9))), RoomTag(9));
    }

    #[test]
    fn one_room_too_many_has_to_wait_for_a_pass() {
        let mut world = World::at(Mark(5));
        for room in 0..EXCEPTIONS_MAX as u64 {
            assert_eq!(world.delivered(RoomTag(room), Seq(1)), Ok(()));
        }
        assert_eq!(world.delivered(RoomTag(1000), Seq(1)), Err(Full));
        assert_eq!(world.delivered(RoomTag(3), Seq(2)), Ok(()), "it has an exception already");
        world.begin(Mark(9));
        assert_eq!(world.delivered(RoomTag(3), Seq(3)), Err(Full), "a pass is under way");
        world.finish();
        assert_eq!(world, World::at(Mark(9)));
    }

    #[test]
    fn a_pass_that_has_read_nothing_yet_changes_nothing() {
        let mut world = World::at(Mark(5));
        world.delivered(RoomTag(3), Seq(7)).unwrap();
        world.begin(Mark(9));
        assert_eq!(world.stands(RoomTag(2)), Stand::AtMark(Mark(5)));
        assert_eq!(world.stands(RoomTag(3)), Stand::At(Seq(7)));
        world.reached(RoomTag(3), Seq(8));
        assert_eq!(world.stands(RoomTag(2)), Stand::AtMark(Mark(9)));
        assert_eq!(world.stands(RoomTag(3)), Stand::At(Seq(8)));
        assert_eq!(world.stands(RoomTag(4)), Stand::AtMark(Mark(5)));
    }

    #[test]
    fn what_no_world_can_have_become_is_not_restored() {
        let many = (0..=EXCEPTIONS_MAX as u64).map(|room| (RoomTag(room), Seq(1))).collect();
        assert_eq!(World::restored(Mark(1), many, None), None);
        let one = || BTreeMap::from([(RoomTag(5), Seq(1))]);
        assert_eq!(World::restored(Mark(2), one(), Some((Mark(1), RoomTag(3), Seq(1)))), None, "the pass leads back");
        assert_eq!(World::restored(Mark(1), one(), Some((Mark(2), RoomTag(5), Seq(1)))), None, "5 has been reached");
        assert!(World::restored(Mark(1), one(), Some((Mark(2), RoomTag(4), Seq(1)))).is_some());
    }

    /// What may happen. Rooms and numbers are taken modulo what there is.
    #[derive(Clone, Debug)]
    enum Step {
        /// Somebody speaks in a room.
        Commit(u64, u64),
        /// Somebody speaks in many rooms, from one on.
        CommitMany(u64, u64),
        /// The user joins a room, or leaves it.
        Join(u64),
        Leave(u64),
        /// One live record of a room, or of many, where there are some.
        Deliver(u64),
        DeliverMany(u64, u64),
        /// The last so many live records, or the page, are taken back.
        TakeBack(usize),
        /// The host makes so many steps of a pass, and begins one if need be.
        Pass(usize),
        /// The client comes back with its cursor.
        ComeBack,
    }

    /// The log, the rooms, and what was handed over: explicit for every room.
    #[derive(Default)]
    struct Model {
        world: Option<World>,
        /// Of each room, the mark of each of its records.
        log: BTreeMap<u64, Vec<Mark>>,
        mark: u64,
        /// The rooms that the user is in: where the membership began, and up to where all has been handed over.
        rooms: BTreeMap<u64, (u64, u64)>,
        /// What can still be taken back: the room and where it stood before, oldest first.
        waiting: Vec<(u64, u64)>,
    }

    impl Model {
        fn world(&mut self) -> &mut World {
            self.world.get_or_insert_with(|| World::at(Mark(0)))
        }

        fn head(&self, room: u64) -> u64 {
            self.log.get(&room).map_or(0, |log| log.len() as u64)
        }

        fn at(&self, room: u64, mark: Mark) -> u64 {
            self.log.get(&room).map_or(0, |log| log.partition_point(|at| *at <= mark) as u64)
        }

        /// Where the world says that a room stands, as a host reads it.
        fn says(&self, world: &World, room: u64, joined: u64) -> u64 {
            let seq = match world.stands(RoomTag(room)) {
                Stand::At(seq) => seq.0,
                Stand::AtMark(mark) => self.at(room, mark),
            };
            seq.max(joined - 1)
        }

        fn commit(&mut self, room: u64) {
            self.mark += 1;
            self.log.entry(room).or_default().push(Mark(self.mark));
        }

        fn deliver(&mut self, room: u64) {
            let head = self.head(room);
            let Some((_, at)) = self.rooms.get_mut(&room) else { return };
            if *at >= head {
                return;
            }
            let (before, after) = (*at, *at + 1);
            let world = self.world.get_or_insert_with(|| World::at(Mark(0)));
            if world.delivered(RoomTag(room), Seq(after)) == Ok(()) {
                *at = after;
                self.waiting.push((room, before));
            }
        }

        fn step(&mut self, step: Step) {
            match step {
                Step::Commit(room, count) => (0..=count % 4).for_each(|_| self.commit(room % ROOMS)),
                Step::CommitMany(from, count) => {
                    (from..from + count % ROOMS).for_each(|room| self.commit(room % ROOMS));
                }
                Step::Join(room) => {
                    let room = room % ROOMS;
                    if !self.rooms.contains_key(&room) {
                        self.commit(room);
                        let joined = self.head(room);
                        self.rooms.insert(room, (joined, joined - 1));
                    }
                }
                Step::Leave(room) => {
                    if self.rooms.remove(&(room % ROOMS)).is_some() {
                        self.world().lost(RoomTag(room % ROOMS));
                        self.waiting.retain(|(other, _)| *other != room % ROOMS);
                    }
                }
                Step::Deliver(room) => self.deliver(room % ROOMS),
                Step::DeliverMany(from, count) => {
                    (from..from + count % ROOMS).for_each(|room| self.deliver(room % ROOMS));
                }
                Step::TakeBack(count) => {
                    for _ in 0..count {
                        let Some((room, seq)) = self.waiting.pop() else { return };
                        self.rooms.get_mut(&room).unwrap().1 = seq;
                        self.world().rewound(RoomTag(room), Seq(seq));
                    }
                }
                Step::Pass(count) => (0..=count).for_each(|_| self.advance()),
                Step::ComeBack => {
                    self.waiting.clear();
                    let world = self.world().clone();
                    let pass = world.pass().and_then(|pass| pass.reached.map(|(room, seq)| (pass.next, room, seq)));
                    let restored = World::restored(world.mark(), world.exceptions().clone(), pass);
                    *self.world() = restored.expect("it has become so");
                }
            }
        }

        /// One page of a pass, or its end.
        fn advance(&mut self) {
            // Everything that was handed over has left.
            self.waiting.clear();
            let mark = Mark(self.mark);
            self.world().begin(mark);
            let pass = self.world().pass().unwrap();
            let from = pass.reached.map_or(0, |(room, _)| room.0);
            let behind = self.rooms.range(from..).find(|(room, (_, at))| *at < self.at(**room, pass.next));
            let Some((&room, &(_, at))) = behind else { return self.world().finish() };
            let until = self.at(room, pass.next).min(at + 2);
            self.rooms.get_mut(&room).unwrap().1 = until;
            self.waiting.push((room, at));
            self.world().reached(RoomTag(room), Seq(until));
        }
    }

    proptest! {
        #[test]
        fn a_world_says_of_every_room_exactly_how_far_it_has_got(steps in prop::collection::vec(step(), 1..120)) {
            let mut model = Model::default();
            for room in 0..ROOMS / 2 {
                model.step(Step::Join(room));
            }
            for step in steps {
                model.step(step);
                let world = model.world().clone();
                prop_assert!(world.exceptions().len() <= EXCEPTIONS_MAX);
                for (room, (joined, at)) in &model.rooms {
                    prop_assert_eq!(model.says(&world, *room, *joined), *at, "room {} of {:?}", room, &world);
                }
            }
            // And nothing is ever out of reach: passes lead to the end.
            while model.rooms.iter().any(|(room, (_, at))| *at < model.head(*room)) {
                model.advance();
            }
        }
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (any::<u16>(), any::<u8>()).prop_map(|(room, count)| Step::Commit(room.into(), count.into())),
            2 => (any::<u16>(), any::<u8>()).prop_map(|(from, count)| Step::CommitMany(from.into(), count.into())),
            2 => any::<u16>().prop_map(|room| Step::Join(room.into())),
            1 => any::<u16>().prop_map(|room| Step::Leave(room.into())),
            4 => any::<u16>().prop_map(|room| Step::Deliver(room.into())),
            3 => (any::<u16>(), any::<u8>()).prop_map(|(from, count)| Step::DeliverMany(from.into(), count.into())),
            2 => (0..6_usize).prop_map(Step::TakeBack),
            3 => (0..40_usize).prop_map(Step::Pass),
            2 => Just(Step::ComeBack),
        ]
    }
}
