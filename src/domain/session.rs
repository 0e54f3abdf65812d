//! How far one client connection has got in one room it follows, and what it may be handed next.
//!
//! Two sources feed a follower: pages read from the log, and publications that arrive while it keeps up. A [`Follow`]
//! takes from either only what continues where it stands, so that whatever the interleaving every record is handed
//! over once and in order. It holds no records and knows no queue; its host does what the answers say.

use super::{Position, Seq};

/// Which opening of a follow something belongs to. A page that was asked for by an older one goes nowhere.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Generation(pub u64);

/// One room followed by one session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Follow {
    generation: Generation,
    stage: Stage,
    /// The newest seq that any publication mentioned.
    announced: Seq,
    /// Where the membership began on which the follow stands.
    joined: Seq,
    /// The last removal heard of while opening: it counts against a membership that began before it.
    removed: Seq,
    /// Nothing from before the membership is read any more.
    narrowed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Registered for publications; whether it may follow, and from where, is not known yet.
    Opening,
    /// Reads pages; publications only tell it that there is more to read.
    Behind(Position),
    /// Has everything up to here and takes publications.
    Live(Position),
    /// Takes nothing any more.
    Ended,
}

/// What to do with a publication or a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Handed {
    /// Hand over the records after the first of the two, up to and including the second.
    pub records: Option<(Position, Seq)>,
    /// The follow has ended with the removal at this seq.
    pub ended: Option<Seq>,
}

impl Follow {
    /// A follow that is registered for publications and waits to be admitted.
    pub fn opening(generation: Generation) -> Self {
        Self {
            generation,
            stage: Stage::Opening,
            announced: Seq::ZERO,
            joined: Seq::ZERO,
            removed: Seq::ZERO,
            narrowed: false,
        }
    }

    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// The follower's membership, which began at `joined`, lets it read from `at`; it is behind until a page has shown
    /// that there is nothing more. False when that membership has ended since it was looked up.
    pub fn admit(&mut self, at: Position, joined: Seq) -> bool {
        if self.stage != Stage::Opening || self.removed > joined {
            return false;
        }
        self.joined = joined;
        self.stage = Stage::Behind(self.narrow_to(at));
        true
    }

    /// The follower's user was removed from the room by the record at `seq`. True when that ends the follow; a removal
    /// from before the present membership does not.
    fn removal(&mut self, seq: Seq) -> bool {
        match self.stage {
            Stage::Opening => {
                self.removed = self.removed.max(seq);
                false
            }
            Stage::Behind(_) | Stage::Live(_) if seq > self.joined => {
                self.stage = Stage::Ended;
                true
            }
            Stage::Behind(_) | Stage::Live(_) | Stage::Ended => false,
        }
    }

    /// Whether a membership that began at `joined` still stands, as far as this follower has heard.
    pub fn stands(&self, joined: Seq) -> bool {
        self.stage != Stage::Ended && self.removed <= joined
    }

    /// Where the next page has to start; `None` when none is needed.
    pub fn wants_page_after(&self) -> Option<Position> {
        match self.stage {
            Stage::Behind(at) => Some(at),
            Stage::Opening | Stage::Live(_) | Stage::Ended => None,
        }
    }

    /// Where the follower stands, once it has been admitted.
    pub fn at(&self) -> Option<Position> {
        match self.stage {
            Stage::Behind(at) | Stage::Live(at) => Some(at),
            Stage::Opening | Stage::Ended => None,
        }
    }

    /// Whether publications are taken.
    pub fn is_live(&self) -> bool {
        matches!(self.stage, Stage::Live(_))
    }

    /// The records from `first` to `last` have been published; those at `removals` removed the follower's user. What
    /// comes after the removal that ends the follow is not for the follower any more.
    pub fn publication(&mut self, first: Seq, last: Position, removals: impl IntoIterator<Item = Seq>) -> Handed {
        let before = self.at();
        let mut handed = Handed::default();
        let mut first = first;
        let mut until = None;
        for removal in removals {
            until = self.advance(first, Position { seq: removal, ..last }).or(until);
            if self.removal(removal) {
                handed.ended = Some(removal);
                break;
            }
            first = removal.next();
        }
        if handed.ended.is_none() && first <= last.seq {
            until = self.advance(first, last).or(until);
        }
        handed.records = before.zip(until);
        handed
    }

    /// Takes the records from `first` to `last` if they continue where a live follower stands. Returns up to where it
    /// stands then.
    fn advance(&mut self, first: Seq, last: Position) -> Option<Seq> {
        self.announced = self.announced.max(last.seq);
        let Stage::Live(at) = self.stage else { return None };
        if last.seq <= at.seq {
            return None;
        }
        if first > at.seq.next() {
            self.stage = Stage::Behind(at);
            return None;
        }
        self.stage = Stage::Live(last);
        Some(last.seq)
    }

    /// The room's head is known to be at `head`: a follower that was live and has less reads on.
    pub fn announce(&mut self, head: Seq) {
        self.announced = self.announced.max(head);
        if let Stage::Live(at) = self.stage
            && at.seq < head
        {
            self.stage = Stage::Behind(at);
        }
    }

    /// A page that was asked for by `generation` and read after `after` ends with `last` (`None` for an empty one);
    /// `complete` says that nothing lay beyond it, `removals` where it removes the follower's user. A page of an older
    /// opening, or one that is not the continuation, goes nowhere.
    pub fn page(
        &mut self,
        generation: Generation,
        after: Seq,
        last: Option<Position>,
        complete: bool,
        removals: impl IntoIterator<Item = Seq>,
    ) -> Handed {
        let Stage::Behind(at) = self.stage else { return Handed::default() };
        if generation != self.generation || after != at.seq {
            return Handed::default();
        }
        if let Some(removal) = removals.into_iter().find(|removal| self.removal(*removal)) {
            return Handed { records: Some((at, removal)), ended: Some(removal) };
        }
        let until = last.unwrap_or(at);
        self.stage = if complete && self.announced <= until.seq { Stage::Live(until) } else { Stage::Behind(until) };
        Handed { records: last.map(|last| (at, last.seq)), ended: None }
    }

    /// What lies behind `after` up to `to` is not kept any more: a follower that stands at `after`, and has been opened by
    /// `generation`, reads on behind it. True when that is so.
    pub fn skip(&mut self, generation: Generation, after: Seq, to: Position) -> bool {
        let skips = generation == self.generation && matches!(self.stage, Stage::Behind(at) if at.seq == after);
        if skips {
            self.stage = Stage::Behind(to);
        }
        skips
    }

    /// What was handed over after `to` never left and has been thrown away: the follower reads it again.
    pub fn rewind(&mut self, to: Position) {
        if let Stage::Behind(at) | Stage::Live(at) = self.stage
            && to.seq <= at.seq
        {
            self.stage = Stage::Behind(self.narrow_to(to));
        }
    }

    /// The follower's user reads from the membership on from now on: one that is behind that does not read what lies
    /// before.
    pub fn narrow(&mut self) {
        self.narrowed = true;
        if let Stage::Behind(at) = self.stage {
            self.stage = Stage::Behind(self.narrow_to(at));
        }
    }

    fn narrow_to(&self, at: Position) -> Position {
        if self.narrowed { Position { seq: at.seq.max(Seq(self.joined.0.saturating_sub(1))), ..at } } else { at }
    }

    /// Takes nothing from now on.
    pub fn end(&mut self) {
        self.stage = Stage::Ended;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Epoch;

    const FIRST: Generation = Generation(1);

    #[test]
    fn who_is_behind_the_membership_passes_over_what_lies_before_it_once_only_that_may_be_read() {
        let joined = |at| {
            let mut follow = Follow::opening(Generation(1));
            assert!(follow.admit(at, Seq(5)));
            follow
        };
        let mut follow = joined(at(2));
        follow.narrow();
        assert_eq!(follow.wants_page_after(), Some(at(4)));
        // The page that was being read goes nowhere.
        assert_eq!(follow.page(Generation(1), Seq(2), Some(at(9)), true, []), Handed::default());
        let mut follow = joined(at(6));
        follow.narrow();
        assert_eq!(follow.wants_page_after(), Some(at(6)));
        // Neither what never left and is read again, nor who was being admitted, gets behind it.
        follow.rewind(at(1));
        assert_eq!(follow.wants_page_after(), Some(at(4)));
        let mut follow = Follow::opening(Generation(1));
        follow.narrow();
        assert!(follow.admit(at(0), Seq(5)));
        assert_eq!(follow.wants_page_after(), Some(at(4)));
    }

    #[test]
    fn a_live_follower_takes_what_continues_and_once() {
        let mut follow = live(5);
        assert_eq!(follow.publication(Seq(6), at(8), []).records, Some((at(5), Seq(8))));
        assert_eq!(follow.publication(Seq(6), at(8), []).records, None);
        assert_eq!(follow.publication(Seq(7), at(10), []).records, Some((at(8), Seq(10))));
    }

    #[test]
    fn a_follower_that_misses_something_reads_the_log() {
        let mut follow = live(5);
        assert_eq!(follow.publication(Seq(7), at(8), []), Handed::default());
        assert_eq!(follow.wants_page_after(), Some(at(5)));
        let page = follow.page(FIRST, Seq(5), Some(at(7)), true, []);
        assert_eq!(page.records, Some((at(5), Seq(7))));
        assert!(!follow.is_live(), "8 has been announced");
        follow.page(FIRST, Seq(7), Some(at(8)), true, []);
        assert!(follow.is_live());
    }

    #[test]
    fn a_page_of_an_older_opening_or_from_elsewhere_goes_nowhere() {
        let mut follow = Follow::opening(Generation(2));
        follow.admit(at(5), Seq(1));
        assert_eq!(follow.page(FIRST, Seq(5), Some(at(7)), true, []), Handed::default());
        assert_eq!(follow.page(Generation(2), Seq(4), Some(at(7)), true, []), Handed::default());
        assert_eq!(follow.wants_page_after(), Some(at(5)));
    }

    #[test]
    fn a_removal_ends_the_follow_where_it_stands_and_not_later() {
        let mut follow = live(5);
        let handed = follow.publication(Seq(6), at(9), [Seq(7)]);
        assert_eq!(handed, Handed { records: Some((at(5), Seq(7))), ended: Some(Seq(7)) });
        assert_eq!(follow.publication(Seq(10), at(11), []), Handed::default());
        let mut behind = Follow::opening(FIRST);
        behind.admit(at(0), Seq(1));
        let handed = behind.page(FIRST, Seq(0), Some(at(9)), true, [Seq(7)]);
        assert_eq!(handed, Handed { records: Some((at(0), Seq(7))), ended: Some(Seq(7)) });
    }

    #[test]
    fn a_removal_from_before_the_present_membership_is_only_a_record() {
        let mut follow = Follow::opening(FIRST);
        follow.admit(at(5), Seq(8));
        follow.page(FIRST, Seq(5), None, true, []);
        assert_eq!(follow.publication(Seq(6), at(9), [Seq(7)]), Handed { records: Some((at(5), Seq(9))), ended: None });
    }

    #[test]
    fn a_removal_heard_while_opening_counts_against_an_older_membership() {
        for (joined, admitted) in [(6, false), (8, true)] {
            let mut follow = Follow::opening(FIRST);
            follow.publication(Seq(7), at(7), [Seq(7)]);
            assert_eq!(follow.stands(Seq(joined)), admitted);
            assert_eq!(follow.admit(at(0), Seq(joined)), admitted);
        }
    }

    #[test]
    fn what_is_taken_back_is_read_again() {
        let mut follow = live(5);
        follow.publication(Seq(6), at(9), []);
        follow.rewind(at(6));
        assert_eq!(follow.wants_page_after(), Some(at(6)));
        assert_eq!(follow.publication(Seq(10), at(10), []), Handed::default());
        follow.end();
        follow.rewind(at(1));
        assert_eq!(follow.wants_page_after(), None);
    }

    #[test]
    fn who_is_behind_passes_over_what_is_not_kept_any_more() {
        let mut follow = Follow::opening(FIRST);
        follow.admit(at(5), Seq(1));
        assert!(!follow.skip(Generation(2), Seq(5), at(9)) && !follow.skip(FIRST, Seq(4), at(9)));
        assert_eq!(follow.wants_page_after(), Some(at(5)));
        assert!(follow.skip(FIRST, Seq(5), at(9)));
        assert_eq!(follow.page(FIRST, Seq(5), Some(at(12)), true, []), Handed::default());
        assert_eq!(follow.page(FIRST, Seq(9), Some(at(12)), true, []).records, Some((at(9), Seq(12))));
        assert!(follow.is_live() && !follow.skip(FIRST, Seq(12), at(15)));
    }

    #[test]
    fn an_announced_head_makes_a_follower_that_has_less_read() {
        let mut follow = live(5);
        follow.announce(Seq(5));
        assert!(follow.is_live());
        follow.announce(Seq(6));
        assert_eq!(follow.wants_page_after(), Some(at(5)));
    }

    fn live(seq: u64) -> Follow {
        let mut follow = Follow::opening(FIRST);
        assert!(follow.admit(at(seq), Seq(1)));
        follow.page(FIRST, Seq(seq), None, true, []);
        follow
    }

    fn at(seq: u64) -> Position {
        Position { epoch: Epoch(1), seq: Seq(seq) }
    }
}
