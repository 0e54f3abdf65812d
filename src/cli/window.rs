//! The publishes that are on their way: which may be sent, which have to be sent again, which are settled.
//!
//! A pure state machine. It knows no connection and no clock; its host says what happened and does what it answers.
//!
//! Order: lines are sent in their order, and settled lines are released in it. When the server refuses a line for the
//! moment, nothing more is sent until all that is in flight has been answered; then everything that was refused goes
//! out again, the first first. So a line can only be overtaken by lines that were in flight together with it.

use std::collections::VecDeque;

/// Up to a fixed number of lines, numbered in ascending order, each with what is needed to send it (`T`), and, once it
/// is settled, how (`A`).
#[derive(Clone, Debug)]
pub struct Window<T, A> {
    lines: VecDeque<Line<T, A>>,
    size: usize,
    halted: bool,
}

#[derive(Clone, Debug)]
struct Line<T, A> {
    number: u64,
    item: T,
    stage: Stage<A>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Stage<A> {
    Waiting,
    InFlight,
    Settled(A),
}

impl<T, A> Window<T, A> {
    /// An empty window for at most `size` lines that have not been released.
    pub fn new(size: usize) -> Self {
        Self { lines: VecDeque::with_capacity(size), size, halted: false }
    }

    pub fn has_room(&self) -> bool {
        self.lines.len() < self.size
    }

    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Takes a line in. Its host has asked [`Self::has_room`], and numbers lines in ascending order.
    pub fn push(&mut self, number: u64, item: T) {
        debug_assert!(self.lines.back().is_none_or(|last| last.number < number));
        self.lines.push_back(Line { number, item, stage: Stage::Waiting });
    }

    /// The next line to send now; from here on it is in flight.
    pub fn send(&mut self) -> Option<(u64, &T)> {
        if self.halted {
            return None;
        }
        let line = self.lines.iter_mut().find(|line| matches!(line.stage, Stage::Waiting))?;
        line.stage = Stage::InFlight;
        Some((line.number, &line.item))
    }

    /// The server answered for good. Answers for lines that are not in flight are ignored.
    pub fn settle(&mut self, number: u64, how: A) {
        if let Some(line) = self.in_flight(number) {
            line.stage = Stage::Settled(how);
        }
    }

    /// The server refused for the moment: the line goes out again after a rest.
    pub fn postpone(&mut self, number: u64) {
        if let Some(line) = self.in_flight(number) {
            line.stage = Stage::Waiting;
            self.halted = true;
        }
    }

    /// Whether nothing is in flight after a refusal: the time to rest, and then to [`Self::resume`].
    pub fn is_resting(&self) -> bool {
        self.halted && !self.lines.iter().any(|line| matches!(line.stage, Stage::InFlight))
    }

    pub fn resume(&mut self) {
        self.halted = false;
    }

    /// The connection is gone: what was in flight goes out again, because nobody knows whether it arrived.
    pub fn disconnected(&mut self) {
        for line in &mut self.lines {
            if matches!(line.stage, Stage::InFlight) {
                line.stage = Stage::Waiting;
            }
        }
        self.halted = false;
    }

    /// Forgets the lines after `number` that are not in flight: they are not going to be sent.
    pub fn drop_waiting_after(&mut self, number: u64) {
        self.lines.retain(|line| line.number <= number || !matches!(line.stage, Stage::Waiting));
    }

    /// The first line, if it is settled; it leaves the window.
    pub fn release(&mut self) -> Option<(u64, A)> {
        let first = self.lines.pop_front()?;
        match first.stage {
            Stage::Settled(how) => Some((first.number, how)),
            Stage::Waiting | Stage::InFlight => {
                self.lines.push_front(first);
                None
            }
        }
    }

    /// Ends it: the lines that are settled, in their order, and the number of the first that is not.
    pub fn give_up(&mut self) -> (Vec<(u64, A)>, Option<u64>) {
        let (mut settled, mut first_open) = (Vec::new(), None);
        for line in self.lines.drain(..) {
            match line.stage {
                Stage::Settled(how) => settled.push((line.number, how)),
                Stage::Waiting | Stage::InFlight => first_open = first_open.or(Some(line.number)),
            }
        }
        (settled, first_open)
    }

    fn in_flight(&mut self, number: u64) -> Option<&mut Line<T, A>> {
        self.lines.iter_mut().find(|line| line.number == number && matches!(line.stage, Stage::InFlight))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_are_released_in_their_order_whatever_the_order_of_answers() {
        let mut window = filled(3);
        while window.send().is_some() {}
        window.settle(2, ());
        window.settle(3, ());
        assert_eq!(window.release(), None);
        window.settle(1, ());
        assert_eq!(released(&mut window), [1, 2, 3]);
        assert!(window.is_empty());
    }

    #[test]
    fn after_a_refusal_nothing_is_sent_until_all_in_flight_is_answered() {
        let mut window = filled(4);
        assert_eq!([sent(&mut window), sent(&mut window), sent(&mut window)], [Some(1), Some(2), Some(3)]);
        window.postpone(2);
        assert_eq!(sent(&mut window), None);
        assert!(!window.is_resting());
        window.settle(1, ());
        window.postpone(3);
        assert!(window.is_resting());
        window.resume();
        assert_eq!([sent(&mut window), sent(&mut window), sent(&mut window)], [Some(2), Some(3), Some(4)]);
    }

    #[test]
    fn after_a_disconnect_what_is_not_settled_is_sent_again() {
        let mut window = filled(3);
        while window.send().is_some() {}
        window.settle(2, ());
        window.disconnected();
        assert_eq!([sent(&mut window), sent(&mut window), sent(&mut window)], [Some(1), Some(3), None]);
    }

    #[test]
    fn an_answer_to_what_is_not_in_flight_changes_nothing() {
        let mut window = filled(2);
        window.settle(1, ());
        window.postpone(2);
        assert_eq!(window.release(), None);
        assert_eq!(sent(&mut window), Some(1));
    }

    #[test]
    fn what_follows_a_lost_cause_is_dropped_unless_it_is_in_flight() {
        let mut window = filled(4);
        assert_eq!([sent(&mut window), sent(&mut window)], [Some(1), Some(2)]);
        window.settle(1, ());
        window.drop_waiting_after(1);
        window.settle(2, ());
        assert_eq!(released(&mut window), [1, 2]);
        assert!(window.is_empty());
    }

    #[test]
    fn giving_up_tells_what_is_settled_and_what_is_not() {
        let mut window = filled(4);
        while window.send().is_some() {}
        window.settle(1, ());
        window.settle(3, ());
        assert_eq!(window.give_up(), (vec![(1, ()), (3, ())], Some(2)));
        assert!(window.is_empty());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push,
        Send,
        Settle(prop::sample::Index),
        Postpone(prop::sample::Index),
        Resume,
        Disconnect,
        Release,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => Just(Step::Push),
            4 => Just(Step::Send),
            3 => any::<prop::sample::Index>().prop_map(Step::Settle),
            1 => any::<prop::sample::Index>().prop_map(Step::Postpone),
            1 => Just(Step::Resume),
            1 => Just(Step::Disconnect),
            2 => Just(Step::Release),
        ];
        prop::collection::vec(step, 0..200)
    }

    proptest! {
        #[test]
        fn every_line_is_acknowledged_once_and_in_order(steps in steps()) {
            let mut window = Window::new(5);
            // The model: what the server has been asked and not answered, what it said yes to, what came out.
            let (mut pushed, mut asked, mut yes, mut out) = (0, BTreeSet::new(), BTreeSet::new(), Vec::new());
            for step in steps {
                match step {
                    Step::Push if window.has_room() => {
                        pushed += 1;
                        window.push(pushed, ());
                    }
                    Step::Push => {}
                    Step::Send => {
                        if let Some(number) = sent(&mut window) {
                            let earlier = (1..number).find(|line| !yes.contains(line) && !asked.contains(line));
                            prop_assert_eq!(earlier, None, "line {} was passed over", number);
                            prop_assert!(!yes.contains(&number), "line {} was settled already", number);
                            prop_assert!(asked.insert(number), "line {} was in flight already", number);
                            prop_assert!(asked.len() <= 5);
                        }
                    }
                    Step::Settle(which) => {
                        if let Some(number) = pick(&mut asked, &which) {
                            yes.insert(number);
                            window.settle(number, ());
                        }
                    }
                    Step::Postpone(which) => {
                        if let Some(number) = pick(&mut asked, &which) {
                            window.postpone(number);
                            prop_assert_eq!(sent(&mut window), None);
                        }
                    }
                    Step::Resume => {
                        if window.is_resting() {
                            prop_assert!(asked.is_empty());
                            window.resume();
                        }
                    }
                    Step::Disconnect => {
                        asked.clear();
                        window.disconnected();
                    }
                    Step::Release => out.extend(released(&mut window)),
                }
            }
            // In the end the server answers everything.
            window.disconnected();
            while let Some(number) = sent(&mut window) {
                window.settle(number, ());
            }
            out.extend(released(&mut window));
            prop_assert_eq!(out, (1..=pushed).collect::<Vec<_>>());
            prop_assert!(window.is_empty());
        }
    }

    fn pick(asked: &mut BTreeSet<u64>, which: &prop::sample::Index) -> Option<u64> {
        if asked.is_empty() {
            return None;
        }
        let number = *asked.iter().nth(which.index(asked.len())).unwrap();
        asked.remove(&number);
        Some(number)
    }

    fn filled(lines: u64) -> Window<(), ()> {
        let mut window = Window::new(8);
        (1..=lines).for_each(|number| window.push(number, ()));
        window
    }

    fn sent(window: &mut Window<(), ()>) -> Option<u64> {
        window.send().map(|(number, ())| number)
    }

    fn released(window: &mut Window<(), ()>) -> Vec<u64> {
        std::iter::from_fn(|| window.release()).map(|(number, ())| number).collect()
    }
}
