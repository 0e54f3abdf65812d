//! What was measured, as one table for people or as JSON for programs.

use std::fmt::Write;
use std::time::Duration;

use serde::Serialize;

/// The generator has no time left above this share of a core: then it may be what was measured.
const GENERATOR_BUSY: f64 = 0.9;

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

    fn shown(&self) -> String {
        let least = self.values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self.values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        format!("{} ({} - {})", number(self.median()), number(least), number(most))
    }
}

#[derive(Serialize)]
pub struct Row {
    bench: &'static str,
    case: String,
    unit: &'static str,
    ours: Spread,
    limit: Option<Spread>,
    percent: Option<Spread>,
    to_reach: Option<f64>,
    details: Vec<(String, Spread)>,
    /// How busy the generator was, one value per repetition.
    generator: Spread,
}

impl Row {
    pub fn new(bench: &'static str, case: &str, unit: &'static str) -> Self {
        Self {
            bench,
            case: case.to_owned(),
            unit,
            ours: Spread::default(),
            limit: None,
            percent: None,
            to_reach: None,
            details: Vec::new(),
            generator: Spread::default(),
        }
    }

    pub fn measured(mut self, ours: Spread) -> Self {
        self.ours = ours;
        self
    }

    pub fn limited(mut self, limit: Spread, percent: Spread) -> Self {
        (self.limit, self.percent) = (Some(limit), Some(percent));
        self
    }

    pub fn goal(mut self, percent: Option<f64>) -> Self {
        self.to_reach = percent;
        self
    }

    /// Another figure of a repetition.
    pub fn detail(&mut self, name: &str, value: f64) {
        match self.details.iter_mut().find(|(known, _)| known == name) {
            Some((_, spread)) => spread.push(value),
            None => self.details.push((name.to_owned(), Spread { values: vec![value] })),
        }
    }

    pub fn spread(&mut self, name: &str, spread: &Spread) {
        self.details.push((name.to_owned(), spread.clone()));
    }

    pub fn note_generator(&mut self, spent: Duration, took: Duration) {
        self.generator.push(spent.as_secs_f64() / took.as_secs_f64());
    }

    fn shown(&self) -> String {
        let mut text = format!("{:<9} {:<34} {:>24}", self.bench, self.case, self.ours.shown());
        if let (Some(limit), Some(percent)) = (&self.limit, &self.percent) {
            let _ = write!(text, " {:>24} {:>20}", limit.shown(), percent.shown());
        } else {
            let _ = write!(text, " {:>24} {:>20}", "-", "-");
        }
        let to_reach = self.to_reach.map_or_else(|| "-".to_owned(), |least| format!("{least:.0}"));
        let _ = writeln!(text, " {to_reach:>8}  {}", self.unit);
        let details = self.details.iter().map(|(name, spread)| format!("{name} {}", spread.shown()));
        for detail in details {
            let _ = writeln!(text, "{:10}{detail}", "");
        }
        if self.generator.median() > GENERATOR_BUSY {
            let share = 100.0 * self.generator.median();
            let _ = writeln!(text, "{:10}the generator was the bottleneck: busy for {share:.0} % of the time", "");
        }
        text
    }
}

#[derive(Default)]
pub struct Table {
    rows: Vec<Row>,
    json: bool,
}

impl Table {
    pub fn new(json: bool) -> Self {
        if !json {
            println!(
                "{:<9} {:<34} {:>24} {:>24} {:>20} {:>8}  unit",
                "bench", "case", "ours (least - most)", "limit", "% of limit", "to reach"
            );
        }
        Self { rows: Vec::new(), json }
    }

    /// Takes a row, and shows it at once: a run is long.
    pub fn add(&mut self, row: Row) {
        if !self.json {
            print!("{}", row.shown());
        }
        self.rows.push(row);
    }

    pub fn end(&self) -> serde_json::Result<()> {
        if self.json {
            println!("{}", serde_json::to_string_pretty(&self.rows)?);
        }
        Ok(())
    }
}

/// With as many digits as mean something.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
