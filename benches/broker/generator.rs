//! The process with the clients: reads from standard input what to do, and says on standard output what it has measured.

use std::io;

use serde::{Deserialize, Serialize};

use crate::{Outcome, fan_out};

#[derive(Serialize, Deserialize)]
pub enum Plan {
    FanOut(fan_out::Plan),
}

pub fn run() -> Outcome<()> {
    let plan: Plan = serde_json::from_reader(io::stdin())?;
    match &plan {
        Plan::FanOut(plan) => say(&fan_out::perform(plan)?),
    }
}

fn say(measured: &impl Serialize) -> Outcome<()> {
    Ok(serde_json::to_writer(io::stdout(), measured)?)
}
