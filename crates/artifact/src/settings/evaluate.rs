//! Measuring.

use serde::{Deserialize, Serialize};

use super::Invalid;
use super::checks::at_least;

/// What a test item is ranked against.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ranking {
    /// All items.
    #[default]
    Full,
    /// `negatives` items drawn uniformly for each user.
    Uniform,
    /// `negatives` items drawn for each user as likely as they are frequent.
    Popularity,
}

/// Which item of each user rankings are judged by, after the history before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HeldOut {
    /// The last one.
    #[default]
    Test,
    /// The last but one, by which settings are chosen: test items must have no say in that.
    Validation,
}

impl HeldOut {
    /// Whether it is the test items, as everywhere but in a search for settings.
    pub fn is_test(&self) -> bool {
        *self == Self::Test
    }
}

/// Settings of `gro-evaluate`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Evaluate {
    /// List lengths K at which quality is measured.
    pub ks: Vec<usize>,
    /// Length k of an answered list, where a defence changes answers.
    pub top_k: usize,
    /// Which items rankings are judged by: to choose settings, `validation`.
    pub held_out: HeldOut,
    /// What the test item is ranked against.
    pub ranking: Ranking,
    /// Items drawn for each user where `ranking` is not `full`.
    pub negatives: usize,
    /// Leave items out of the ranking that the user has already had.
    pub exclude_seen: bool,
    /// Resamples of a bootstrap interval.
    pub bootstrap: usize,
    /// Users a batch; it changes speed and memory only.
    pub batch: usize,
}

impl Default for Evaluate {
    fn default() -> Self {
        Self {
            ks: vec![1, 5, 10, 20, 100],
            top_k: 100,
            held_out: HeldOut::Test,
            ranking: Ranking::Full,
            negatives: 100,
            exclude_seen: false,
            bootstrap: 1000,
            batch: 128,
        }
    }
}

impl Evaluate {
    /// Refuses values that no run can use.
    ///
    /// # Errors
    /// The first such value, with its key and what was expected.
    pub fn check(&self) -> Result<(), Invalid> {
        at_least("evaluate.top_k", self.top_k, 1)?;
        at_least("evaluate.negatives", self.negatives, 1)?;
        at_least("evaluate.bootstrap", self.bootstrap, 1)?;
        at_least("evaluate.batch", self.batch, 1)?;
        self.check_ks()?;
        Ok(())
    }

    fn check_ks(&self) -> Result<(), Invalid> {
        let ks = &self.ks;
        if ks.is_empty() || ks[0] == 0 || ks.windows(2).any(|pair| pair[0] >= pair[1]) {
            let message =
                format!("`evaluate.ks` is {ks:?}, expected list lengths from 1 on, in ascending order");
            return Err(Invalid::new(message));
        }
        match ks.last() {
            Some(&largest) if largest > self.top_k => Err(Invalid::new(format!(
                "`evaluate.ks` reaches {largest}, expected at most `evaluate.top_k`, {}: nothing is answered beyond it",
                self.top_k
            ))),
            _ => Ok(()),
        }
    }
}
