//! The process with the clients: reads from standard input what to do, and says on standard output what it has measured.

use std::io;

use serde::{Deserialize, Serialize};

use crate::{Outcome, connect, fan_out, growth, inbox, latency, publish, resume, rooms};

#[derive(Serialize, Deserialize)]
pub enum Plan {
    FanOut(fan_out::Plan),
    Rooms(rooms::Plan),
    Connect(connect::Plan),
    Resume(resume::Plan),
    Publish(publish::Plan),
    Latency(latency::Plan),
    Growth(growth::Plan),
    Inbox(inbox::Plan),
}

pub fn run() -> Outcome<()> {
    let plan: Plan = serde_json::from_reader(io::stdin())?;
    match &plan {
        Plan::FanOut(plan) => say(&fan_out::perform(plan)?),
        Plan::Rooms(plan) => say(&rooms::perform(plan)?),
        Plan::Connect(plan) => say(&connect::perform(plan)?),
        Plan::Resume(plan) => say(&resume::perform(plan)?),
        Plan::Publish(plan) => say(&publish::perform(plan)?),
        Plan::Latency(plan) => say(&latency::perform(plan)?),
        Plan::Growth(plan) => say(&growth::perform(plan)?),
        Plan::Inbox(plan) => say(&inbox::perform(plan)?),
    }
}

fn say(measured: &impl Serialize) -> Outcome<()> {
    Ok(serde_json::to_writer(io::stdout(), measured)?)
}
