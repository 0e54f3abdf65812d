//! What a store promises: one contract for all of them, and what only a disk can break.

mod compact;
mod contract;
mod damage;
mod directory;
mod disk;
mod model;
mod support;
