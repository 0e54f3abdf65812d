//! What was measured, as one table for people or as JSON for programs.

use std::fmt::{self, Display, Write};
use std::time::Duration;

use serde::Serialize;

use super::Outcome;
use super::kept::{Figure, Kept, TIMES_KEPT};

/// The generator has no time left above this share of a core: then it may be what was measured.
const GENERATOR_BUSY: f64 = 0.9;

/// How many times as long as was kept something may take that other programs on the same cores delay, too: in the median,
/// and in the 99th percentile or of what waits.
pub const MEDIAN_KEPT: f64 = 2.0;
pub const TAIL_KEPT: f64 = 3.0;

/// The lines below a row are about as wide as it.
const DETAILS_WIDTH: usize = 140;

/// One figure over all repetitions.
#[derive(Clone, Default, Serialize)]
pub struct Spread {
    values: Vec<f64>,
}

impl Spread {
    pub fn push(&mut self, value: f64) {
        self.values.push(value);
    }

    pub fn median(&self) -> f64 {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        let half = sorted.len() / 2;
        match sorted.len() {
            0 => f64::NAN,
            even if even % 2 == 0 => f64::midpoint(sorted[half - 1], sorted[half]),
            _ => sorted[half],
        }
    }
}

impl Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let least = self.values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self.values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let text = if least == most {
            number(least)
        } else {
            format!("{} ({} - {})", number(self.median()), number(least), number(most))
        };
        f.pad(&text)
    }
}

/// How ours stands to the limit.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Against {
    /// The limit's cost in per cent of ours.
    Percent,
    /// Ours as a multiple of the limit's.
    Times,
}

/// What is to be reached.
#[derive(Clone, Copy, Serialize)]
pub enum Goal {
    /// Of the relation to the limit.
    PercentAtLeast(f64),
    TimesAtMost(f64),
    /// Of our own figure.
    AtMost(f64),
}

#[derive(Serialize)]
pub struct Row {
    bench: &'static str,
    case: String,
    unit: &'static str,
    ours: Spread,
    limit: Option<(Spread, Against, Spread)>,
    goal: Option<Goal>,
    /// Not a cost but a time or what waits, which other programs on the same cores change, too: lost when it is more than so
    /// many times what was kept.
    times_kept: Option<f64>,
    details: Vec<(String, Spread)>,
    remarks: Vec<String>,
    /// How busy the generator was, one value per repetition.
    generator: Spread,
}

impl Row {
    pub fn new(bench: &'static str, case: impl Into<String>, unit: &'static str) -> Self {
        Self {
            bench,
            case: case.into(),
            unit,
            ours: Spread::default(),
            limit: None,
            goal: None,
            times_kept: None,
            details: Vec::new(),
            remarks: Vec::new(),
            generator: Spread::default(),
        }
    }

    pub fn goal(mut self, goal: Option<Goal>) -> Self {
        self.goal = goal;
        self
    }

    /// Keeps what is no cost: see `times_kept`.
    pub fn kept_within(mut self, times: f64) -> Self {
        self.times_kept = Some(times);
        self
    }

    /// A repetition without a limit.
    pub fn push(&mut self, ours: f64) {
        self.ours.push(ours);
    }

    /// A repetition, and the limit right behind it.
    pub fn push_beside(&mut self, ours: f64, limit: f64, against: Against) {
        self.ours.push(ours);
        let (limits, _, relation) = self.limit.get_or_insert_with(|| (Spread::default(), against, Spread::default()));
        limits.push(limit);
        relation.push(match against {
            Against::Percent => 100.0 * limit / ours,
            Against::Times => ours / limit,
        });
    }

    /// Another figure of a repetition.
    pub fn detail(&mut self, name: &str, value: f64) {
        match self.details.iter_mut().find(|(known, _)| known == name) {
            Some((_, spread)) => spread.push(value),
            None => self.details.push((name.to_owned(), Spread { values: vec![value] })),
        }
    }

    /// Sentences below the row.
    pub fn remarks(&mut self, remarks: impl IntoIterator<Item = String>) {
        self.remarks.extend(remarks);
    }

    pub fn note_generator(&mut self, spent: Duration, took: Duration) {
        self.generator.push(spent.as_secs_f64() / took.as_secs_f64());
    }

    pub fn ours(&self) -> f64 {
        self.ours.median()
    }

    pub fn limit(&self) -> Option<f64> {
        self.limit.as_ref().map(|(limit, _, _)| limit.median())
    }

    /// A figure that was given as a detail.
    pub fn detailed(&self, name: &str) -> Option<f64> {
        self.details.iter().find(|(known, _)| known == name).map(|(_, spread)| spread.median())
    }

    /// Whether our figures, here one by step and not by repetition, stay the same: a sentence.
    pub fn steadiness(&self, percent: f64) -> String {
        let values = &self.ours.values;
        let (Some(first), Some(last)) = (values.first(), values.last()) else { return "no steps".to_owned() };
        let more = 100.0 * (last / first - 1.0);
        let told = if more <= percent { "steady" } else { "NOT steady" };
        format!("{more:+.0} % from the first step to the last, {percent:.0} % at most: {told}")
    }

    /// What is kept of a row: how it stands to the limit, or our own figure, where that is a cost or was said to be kept.
    fn to_keep(&self) -> Option<Figure> {
        let is_cost = self.unit.contains("CPU") || self.unit.contains("KiB");
        let times = self.times_kept.or(is_cost.then_some(TIMES_KEPT));
        match &self.limit {
            Some((_, Against::Percent, relation)) => Some(Figure::Share(relation.median())),
            // Beside a limit for which next to nothing waits there is no telling how many times as much it is.
            Some((_, Against::Times, _)) if self.unit.contains("load") => {
                Some(Figure::Cost(self.ours.median(), times?))
            }
            Some((_, Against::Times, relation)) => Some(Figure::Cost(relation.median(), times?)),
            None => Some(Figure::Cost(self.ours.median(), times?)),
        }
    }

    fn name(&self) -> String {
        format!("{}: {}", self.bench, self.case)
    }

    /// Whether the medians reach the goal.
    fn reached(&self) -> Option<bool> {
        let relation = self.limit.as_ref().map(|(_, _, relation)| relation.median());
        match (self.goal?, relation) {
            (Goal::PercentAtLeast(least), Some(percent)) => Some(percent >= least),
            (Goal::TimesAtMost(most), Some(times)) => Some(times <= most),
            (Goal::PercentAtLeast(_) | Goal::TimesAtMost(_), None) => None,
            (Goal::AtMost(most), _) => Some(self.ours.median() <= most),
        }
    }
}

impl Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<8} {:<34} {:<23} {:>24}", self.bench, self.case, self.unit, self.ours)?;
        match &self.limit {
            Some((limit, against, relation)) => {
                let sign = match against {
                    Against::Percent => "%",
                    Against::Times => "x",
                };
                write!(f, " {limit:>24} {relation:>22} {sign}")?;
            }
            None => write!(f, " {:>24} {:>24}", "-", "-")?,
        }
        let goal = match self.goal {
            Some(Goal::PercentAtLeast(least)) => format!("{least:.0} %"),
            Some(Goal::TimesAtMost(most)) => format!("{most:.0} x"),
            Some(Goal::AtMost(most)) => number(most),
            None => "-".to_owned(),
        };
        let reached = self.reached().map_or("", |reached| if reached { "yes" } else { "NO" });
        writeln!(f, " {goal:>8} {reached:>4}")?;
        let mut line = String::new();
        for (name, spread) in &self.details {
            let detail = format!("{name}: {spread}");
            if !line.is_empty() && line.len() + detail.len() > DETAILS_WIDTH {
                writeln!(f, "{:9}{line}", "")?;
                line.clear();
            }
            line += if line.is_empty() { ". " } else { "; " };
            line += &detail;
        }
        if !line.is_empty() {
            writeln!(f, "{:9}{line}", "")?;
        }
        for remark in &self.remarks {
            writeln!(f, "{:9}. {remark}", "")?;
        }
        if self.generator.median() > GENERATOR_BUSY {
            let share = 100.0 * self.generator.median();
            writeln!(f, "{:9}. the generator was the bottleneck: busy for {share:.0} % of the time", "")?;
        }
        Ok(())
    }
}

/// All rows of a run.
#[derive(Serialize)]
pub struct Table {
    machine: String,
    rows: Vec<Row>,
    #[serde(skip)]
    json: bool,
    #[serde(skip)]
    kept: Kept,
}

impl Table {
    /// Rows are held against what was `kept`.
    pub fn new(json: bool, machine: String, kept: Kept) -> Self {
        if !json {
            let head = ["bench", "case", "unit", "ours", "limit", "against it", "to reach", ""];
            let [bench, case, unit, ours, limit, against, goal, reached] = head;
            println!("{machine}");
            println!(
                "{bench:<8} {case:<34} {unit:<23} {ours:>24} {limit:>24} {against:>24} {goal:>8} {reached:>4}\n\
                 figures are medians (least - most) over the repetitions"
            );
        }
        Self { machine, rows: Vec::new(), json, kept }
    }

    /// Takes a row, and shows it at once: a run is long.
    pub fn add(&mut self, mut row: Row) {
        let lost = row.to_keep().and_then(|figure| self.kept.hold(&row.name(), figure));
        row.remarks(lost);
        if !self.json {
            print!("{row}");
        }
        self.rows.push(row);
    }

    /// Ends the table; with `keep` what was measured is what is kept from now on. An error where something was lost.
    pub fn end(self, keep: bool) -> Outcome<()> {
        if self.json {
            println!("{}", serde_json::to_string_pretty(&self)?);
        }
        Ok(self.kept.end(keep)?)
    }
}

/// With as many digits as mean something.
fn number(value: f64) -> String {
    let mut text = String::new();
    let _ = match value.abs() {
        size if size >= 100.0 => write!(text, "{value:.0}"),
        size if size >= 10.0 => write!(text, "{value:.1}"),
        _ => write!(text, "{value:.2}"),
    };
    text
}
