//! Chance that can be had again: everything random in a run comes from the seed it printed.

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
pub struct Random(u64);

impl Random {
    /// Takes the seed from `variable`, or draws one, and prints it.
    pub fn seeded_by(variable: &str) -> Self {
        let drawn = u64::from_le_bytes(*uuid::Uuid::new_v4().as_bytes().first_chunk().expect("a uuid has 16 bytes"));
        let seed = super::sized_by(variable, drawn);
        println!("seed: {variable}={seed}");
        Self(seed)
    }

    /// Another source, so that tasks do not take turns at one.
    pub fn fork(&mut self) -> Self {
        Self(self.next())
    }

    /// From 0 to `bound - 1`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
