//! The attacker's queries. A strategy's own settings are a section of its name in this one.

use serde::{Deserialize, Serialize};

use super::checks::{at_least, share};
use super::{Invalid, Sections};

/// How a place of an answered list is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pick {
    /// Every place is as likely as any other.
    #[serde(rename = "uniform")]
    Uniform,
    /// A place is as likely as its reciprocal.
    #[serde(rename = "1/place")]
    Reciprocal,
    /// A place is as likely as the reciprocal of its root.
    #[serde(rename = "1/sqrt(place)")]
    ReciprocalRoot,
}

/// Settings of `gro-attack generate`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Generate {
    /// Number of sequences: the budget, divided by `length`.
    pub sequences: usize,
    /// Items a sequence; `null` for the target's `max_len`.
    pub length: Option<usize>,
    /// Accounts that the thief opens, each to ask about one sequence; `null` for `sequences`, divided as the strategy does.
    pub accounts: Option<usize>,
    /// Clients whose accounts these are, one after the other in turns; `null` for one an account.
    pub clients: Option<usize>,
    /// Questions of an account, one an item; `null` for `length`, divided as the strategy does.
    pub questions: Option<usize>,
    /// Length k of an answered list.
    pub top_k: usize,
    /// How the next item is chosen.
    pub strategy: String,
    /// How a place of an answered list is drawn; `null` for the strategy's own way.
    pub pick: Option<Pick>,
    /// Whether an item may stand twice in a sequence.
    pub repeats: bool,
    /// Share of the accounts that ask again, by another way, what another account asked, 0 to 1.
    pub twice: f64,
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
            accounts: None,
            clients: None,
            questions: None,
            top_k: 100,
            strategy: "autoregressive".to_owned(),
            pick: None,
            repeats: true,
            twice: 0.0,
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
        at_least("generate.accounts", self.accounts.unwrap_or(1), 1)?;
        at_least("generate.clients", self.clients.unwrap_or(1), 1)?;
        at_least("generate.questions", self.questions.unwrap_or(1), 1)?;
        at_least("generate.length", self.length.unwrap_or(1), 1)?;
        at_least("generate.top_k", self.top_k, 2)?;
        share("generate.twice", self.twice)?;
        share("generate.seed_sequences", self.seed_sequences)?;
        at_least("generate.seed_length", self.seed_length.unwrap_or(1), 1)?;
        at_least("generate.batch", self.batch, 1)?;
        if self.seed_sequences > 0.0 && self.seeded() == 0 {
            return Err(Invalid::new(format!(
                "`generate.seed_sequences` is {}, which is none of {} sequences",
                self.seed_sequences,
                self.accounts.unwrap_or(self.sequences)
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
        (self.seed_sequences * self.accounts.unwrap_or(self.sequences) as f64).round() as usize
    }
}
