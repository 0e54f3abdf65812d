//! The publishes that are on their way: which may be sent, which have to be sent again, which are settled.
//!
//! A pure state machine. It knows no connection and no clock; its host says what happened and does what it answers.
//!
//! Order: lines are sent in their order, and settled lines are released in it. When the server refuses a line for the
//! moment, nothing more is sent until all that is in flight has been answered; then everything that was refused goes
//! out again, the first first. So a line can only be overtaken by lines that were in flight together with it.
//!
//! Speed: each refusal halves how many lines may be in flight, and answers raise it slowly. That alone does not keep to
//! a rate where an answer comes sooner than there is room for the next line. So lines are also kept apart: by the
//! longest time that the server has asked for because of its rate, a little more with each refusal, and ever less with each
//! answer, to find out when it takes more.

use std::collections::VecDeque;
use std::time::Duration;

/// After so many answers one more line may be in flight.
const ANSWERS_PER_STEP: u32 = 16;

/// Each answer takes this part off the time between two lines: at a steady rate about one line in a hundred is refused.
const EASE: u32 = 512;

/// A refusal adds this part of it, the first of those that were in flight together.
const SLOW_DOWN: u32 = 8;

/// Timers are no finer; what is less than this is no time at all.
const SPACING_MIN: Duration = Duration::from_millis(1);

/// Beyond this it does not grow by itself: a server that wants more time says so.
const SPACING_MAX: Duration = Duration::from_secs(1);

/// Up to a fixed number of lines, numbered in ascending order, each with what is needed to send it (`T`), and, once it
/// is settled, how (`A`).
#[derive(Clone, Debug)]
pub struct Window<T, A> {
    lines: VecDeque<Line<T, A>>,
    size: usize,
    halted: bool,
    /// From one to `size`.
    in_flight_max: usize,
    /// Since `in_flight_max` has changed.
    answers: u32,
    spacing: Duration,
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
        let lines = VecDeque::with_capacity(size);
        Self { lines, size, halted: false, in_flight_max: size, answers: 0, spacing: Duration::ZERO }
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

    /// Whether there is a line to send, and not too many are in flight.
    pub fn may_send(&self) -> bool {
        let in_flight = self.lines.iter().filter(|line| matches!(line.stage, Stage::InFlight)).count();
        let waiting = self.lines.iter().any(|line| matches!(line.stage, Stage::Waiting));
        !self.halted && waiting && in_flight < self.in_flight_max
    }

    /// How long to wait after a line until the next one is sent.
    pub fn spacing(&self) -> Duration {
        self.spacing
    }

    /// The next line to send now; from here on it is in flight.
    pub fn send(&mut self) -> Option<(u64, &T)> {
        if !self.may_send() {
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
            self.go_faster();
        }
    }

    /// The server refused for the moment: the line goes out again after a rest, and what follows goes slower. `room_after`
    /// is when its rate has room for a line, where that was the reason.
    pub fn postpone(&mut self, number: u64, room_after: Option<Duration>) {
        if let Some(line) = self.in_flight(number) {
            line.stage = Stage::Waiting;
            self.in_flight_max = (self.in_flight_max / 2).max(1);
            self.answers = 0;
            if let Some(room_after) = room_after {
                // Those that were in flight beside the first that is refused were no nearer to each other than it was.
                let least = if self.halted { self.spacing } else { self.slower() };
                self.spacing = least.max(room_after);
            }
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

    fn go_faster(&mut self) {
        self.answers += 1;
        if self.answers == ANSWERS_PER_STEP {
            self.answers = 0;
            self.in_flight_max = (self.in_flight_max + 1).min(self.size);
        }
        self.spacing -= self.spacing / EASE;
        if self.spacing < SPACING_MIN {
            self.spacing = Duration::ZERO;
        }
    }

    fn slower(&self) -> Duration {
        if self.spacing < SPACING_MAX { self.spacing + self.spacing / SLOW_DOWN } else { self.spacing }
    }

    fn in_flight(&mut self, number: u64) -> Option<&mut Line<T, A>> {
        self.lines.iter_mut().find(|line| line.number == number && matches!(line.stage, Stage::InFlight))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use rstest::rstest;

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
        window.postpone(2, None);
        assert_eq!(sent(&mut window), None);
        assert!(!window.is_resting());
        window.settle(1, ());
        window.postpone(3, None);
        assert!(window.is_resting());
        window.resume();
        assert_eq!([sent(&mut window), sent(&mut window)], [Some(2), Some(3)]);
        window.settle(2, ());
        assert_eq!(sent(&mut window), Some(4));
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
        window.postpone(2, None);
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

    #[test]
    fn a_refusal_halves_what_may_be_in_flight_and_answers_raise_it_slowly() {
        let mut window = Window::new(8);
        let mut number = 0;
        let mut in_flight = |window: &mut Window<(), ()>| {
            while window.has_room() {
                number += 1;
                window.push(number, ());
            }
            std::iter::from_fn(|| sent(window)).collect::<Vec<_>>()
        };
        for expected in [8, 4, 2, 1, 1] {
            let numbers = in_flight(&mut window);
            assert_eq!(numbers.len(), expected);
            let (last, others) = numbers.split_last().unwrap();
            others.iter().for_each(|&number| window.settle(number, ()));
            window.postpone(*last, None);
            assert!(window.is_resting());
            window.resume();
            released(&mut window);
        }
        let mut most = Vec::new();
        for _ in 0..16 * 8 {
            in_flight(&mut window);
            most.push(window.lines.iter().filter(|line| line.stage == Stage::InFlight).count());
            let first = window.lines.front().unwrap().number;
            window.settle(first, ());
            released(&mut window);
        }
        assert_eq!(most, (0..16 * 8).map(|answers| 1 + answers / 16).collect::<Vec<_>>());
        for _ in 0..100 {
            let first = window.lines.front().unwrap().number;
            window.settle(first, ());
            released(&mut window);
            in_flight(&mut window);
        }
        assert_eq!(window.in_flight_max, 8, "and no more");
    }

    #[test]
    fn lines_are_as_far_apart_as_the_server_says_or_farther_and_come_closer_with_answers() {
        let milliseconds = Duration::from_millis;
        let mut window = filled(8);
        while window.send().is_some() {}
        window.postpone(1, None);
        assert_eq!(window.spacing(), Duration::ZERO, "that was not because of a rate");
        window.postpone(2, Some(milliseconds(16)));
        window.postpone(3, Some(milliseconds(15)));
        assert_eq!(window.spacing(), milliseconds(16));
        for number in 4..=8 {
            window.settle(number, ());
        }
        assert!(window.spacing() < milliseconds(16) && window.spacing() > milliseconds(15));
        let mut refused = |spacing, wait| {
            window.spacing = spacing;
            window.resume();
            assert_eq!(sent(&mut window), Some(1));
            window.postpone(1, Some(wait));
            window.spacing()
        };
        assert_eq!(refused(milliseconds(16), milliseconds(2)), milliseconds(18));
        assert_eq!(refused(milliseconds(16), milliseconds(6_000)), milliseconds(6_000));
        assert_eq!(refused(milliseconds(6_000), milliseconds(100)), milliseconds(6_000), "a second does not grow");
        window.spacing = milliseconds(1);
        window.resume();
        assert_eq!(sent(&mut window), Some(1));
        window.settle(1, ());
        assert_eq!(window.spacing(), Duration::ZERO, "less than that no timer can tell");
    }

    #[rstest]
    #[case::near(Duration::from_micros(200), 20, 25, 0, 1.05)]
    #[case::far(Duration::from_millis(100), 20, 25, 4, 1.7)]
    #[case::without_a_burst(Duration::from_micros(200), 1, 45, 0, 1.15)]
    fn a_server_with_a_rate_refuses_few_lines(
        #[case] round_trip: Duration,
        #[case] burst: u32,
        #[case] refusals_max: usize,
        #[case] overtaken_max: usize,
        #[case] longer_max: f64,
    ) {
        let every = Duration::from_millis(20);
        let (mut server, mut window) = (RatedServer::new(every, burst), Window::new(32));
        // Answers on their way, by when they come: a line, and whether to wait.
        let mut answers: VecDeque<(Duration, u64, Option<Duration>)> = VecDeque::new();
        let (mut now, mut next_at, mut rest_until) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
        let (mut pushed, mut taken, mut refusals) = (0, Vec::new(), 0);
        loop {
            released(&mut window);
            while pushed < 400 && window.has_room() {
                pushed += 1;
                window.push(pushed, ());
            }
            if window.is_empty() {
                break;
            }
            if window.is_resting() && rest_until <= now {
                window.resume();
            }
            while next_at <= now
                && let Some(number) = sent(&mut window)
            {
                let wait = server.asked(now + round_trip / 2);
                if wait.is_none() {
                    taken.push(number);
                }
                answers.push_back((now + round_trip, number, wait));
                next_at = now + window.spacing();
            }
            let resting = window.is_resting().then_some(rest_until);
            let sending = window.may_send().then_some(next_at);
            let answer = answers.front().map(|&(at, ..)| at);
            now =
                [resting, sending, answer].into_iter().flatten().min().expect("there is always something to wait for");
            while let Some((_, number, wait)) = answers.pop_front_if(|(at, ..)| *at <= now) {
                match wait {
                    None => window.settle(number, ()),
                    Some(wait) => {
                        refusals += 1;
                        rest_until = rest_until.max(now + wait);
                        window.postpone(number, Some(wait));
                    }
                }
            }
        }
        let overtaken = taken.windows(2).filter(|pair| pair[0] > pair[1]).count();
        let least = every * (400 - burst);
        println!("{refusals} refusals, {overtaken} overtaken, {now:?} instead of {least:?}");
        assert!(refusals <= refusals_max, "{refusals}");
        assert!(overtaken <= overtaken_max, "{overtaken}");
        assert!(now < least.mul_f64(longer_max), "{now:?}, {least:?} at the least");
        taken.sort_unstable();
        assert_eq!(taken, (1..=400).collect::<Vec<_>>());
    }

    /// So many lines at once, and then one every so often (a generic cell rate).
    struct RatedServer {
        every: Duration,
        burst: u32,
        /// When the lines taken so far will have had their time.
        paid_at: Duration,
    }

    impl RatedServer {
        fn new(every: Duration, burst: u32) -> Self {
            Self { every, burst, paid_at: Duration::ZERO }
        }

        /// After how many whole milliseconds there is room, when there is none.
        fn asked(&mut self, at: Duration) -> Option<Duration> {
            let paid_at = self.paid_at.max(at) + self.every;
            let wait = paid_at.saturating_sub(at + self.every * self.burst);
            if wait.is_zero() {
                self.paid_at = paid_at;
                return None;
            }
            Some(Duration::from_millis(u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap()))
        }
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
                            prop_assert!(asked.len() <= window.in_flight_max);
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
                            window.postpone(number, None);
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
