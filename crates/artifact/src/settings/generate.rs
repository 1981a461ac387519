//! The attacker's queries. A strategy's own settings are a section of its name in this one.

use serde::{Deserialize, Serialize};

use super::checks::{at_least, number};
use super::{Invalid, Sections};

/// Settings of `gro-attack generate`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Generate {
    /// Number of sequences: the budget, divided by `length`.
    pub sequences: usize,
    /// Items a sequence; `null` for the target's `max_len`.
    pub length: Option<usize>,
    /// Length k of an answered list.
    pub top_k: usize,
    /// How the next item is chosen.
    pub strategy: String,
    /// Share of the sequences that begin with the training history of a real user, 0 to 1.
    pub seed_sequences: f64,
    /// Items of such a history that a sequence begins with, at most; `null` for half of `length`.
    pub seed_length: Option<usize>,
    /// Sequences that grow side by side; it changes speed and memory only.
    pub batch: usize,
    /// Settings of strategies, by their names.
    #[serde(flatten)]
    pub strategies: Sections,
}

impl Default for Generate {
    fn default() -> Self {
        Self {
            sequences: 3000,
            length: None,
            top_k: 100,
            strategy: "autoregressive".to_owned(),
            seed_sequences: 0.0,
            seed_length: None,
            batch: 64,
            strategies: Sections::new(),
        }
    }
}

impl Generate {
    /// Refuses values that no run can use.
    ///
    /// # Errors
    /// The first such value, with its key and what was expected.
    pub fn check(&self) -> Result<(), Invalid> {
        at_least("generate.sequences", self.sequences, 1)?;
        // One item to learn from, one to check on.
        at_least("generate.length", self.length.unwrap_or(2), 2)?;
        at_least("generate.top_k", self.top_k, 2)?;
        number("generate.seed_sequences", self.seed_sequences, "a share from 0 to 1", |share| {
            (0.0..=1.0).contains(&share)
        })?;
        at_least("generate.seed_length", self.seed_length.unwrap_or(1), 1)?;
        at_least("generate.batch", self.batch, 1)?;
        if self.seed_sequences > 0.0 && self.seeded() == 0 {
            return Err(Invalid::new(format!(
                "`generate.seed_sequences` is {}, which is none of {} sequences",
                self.seed_sequences, self.sequences
            )));
        }
        match (self.seed_length, self.length) {
            (Some(longest), Some(length)) if longest >= length => Err(Invalid::new(format!(
                "`generate.seed_length` is {longest}, expected less than `generate.length`, {length}"
            ))),
            _ => Ok(()),
        }
    }

    /// How many of the sequences begin with the history of a real user.
    pub fn seeded(&self) -> usize {
        (self.seed_sequences * self.sequences as f64).round() as usize
    }
}
