//! What each defence comes to: what it leaves its users, and what the strongest thief still has.
//!
//! A defence is judged by the thief who does best against *it*, and what it takes from thieves by the best against it and the best against
//! the undefended target, who may be two: a thief is free to change his ways. That the best of several is chosen by the figure that
//! is then reported flatters him, most where several are about equally good. Beside him stands the thief whose copy is most alike
//! ([`super::likeness`]).

use std::collections::BTreeMap;

use crate::figures::Network;
use artifact::queries::Price;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::inference::{Difference, Found, Place};
use super::likeness::MostAlike;
use super::table::{Model, Row};

/// What a defence comes to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The target's network.
    pub target: Network,
    /// Its defence.
    pub defence: String,
    /// What tells it from another of that defence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// What it was set to, where its runs say so.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, Json>,
    /// The figure it is judged by.
    pub figure: String,
    /// BLAKE3 of the target's checkpoints, in the order of the seeds.
    pub checkpoints: Vec<String>,
    /// The target's quality.
    pub quality: f64,
    /// Share of the undefended target's quality that users keep; 1 of the undefended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<f64>,
    /// What users lose, user by user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub users: Option<Difference>,
    /// The thief with the best copy, a table of lists among them; none where nothing was copied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thief: Option<Strongest>,
    /// How many thieves tried.
    pub thieves: usize,
    /// The copy most alike, whose thief may be another; none where nothing was copied, and in reports of before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most_alike: Option<MostAlike>,
}

/// The strongest thief.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Strongest {
    /// The copy's network.
    pub surrogate: Network,
    /// How he asked and learned, in words; none where his checkpoint does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub way: Option<String>,
    /// The copy's quality.
    pub quality: f64,
    /// Share of the quality of the undefended target (of this one, where that was not evaluated) that the copy has.
    pub share: f64,
    /// What he paid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Price>,
    /// His copy against the best copy of the undefended target, user by user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub difference: Option<Difference>,
    /// The same as a share of that copy's quality.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<f64>,
    /// By how much larger a share he loses than users do, of what each has without the defence; reports of before do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lead: Option<Difference>,
}

/// What is known of a verdict before differences are tested: places of rows, and of their differences.
pub(super) struct Draft {
    pub(super) row: usize,
    pub(super) undefended: Option<usize>,
    /// What the target and the undefended one have on average over the seeds that both have, where one has others.
    pub(super) shared: Option<(f64, f64)>,
    pub(super) thieves: usize,
    pub(super) strongest: Option<usize>,
    pub(super) way: Option<String>,
    pub(super) price: Option<Price>,
    /// The strongest of the undefended target, with his mean over the seeds that both have.
    pub(super) against: Option<(Place, f64)>,
    /// How much larger a share he loses than users do.
    pub(super) lead: Option<Place>,
    pub(super) checkpoints: Vec<String>,
    pub(super) settings: BTreeMap<String, Json>,
}

impl Draft {
    pub(super) fn settle(
        self,
        figure: &str,
        rows: &[Row],
        found: &Found,
        most_alike: Option<MostAlike>,
    ) -> Option<Verdict> {
        let mean = |row: usize| rows[row].figures.get(figure).map(|value| value.mean);
        let row = &rows[self.row];
        let quality = mean(self.row)?;
        let (own, whole) = match self.shared {
            Some((own, whole)) => (own, whole),
            None => (quality, self.undefended.and_then(mean).unwrap_or(quality)),
        };
        let whole = Some(whole).filter(|&whole| whole > 0.0);
        let thief = self.strongest.and_then(|strongest| {
            let copied = mean(strongest)?;
            let difference = self.against.and_then(|(place, _)| found.difference(place));
            let before = self.against.map(|(_, before)| before).filter(|&before| before > 0.0);
            Some(Strongest {
                surrogate: rows[strongest].surrogate?,
                way: self.way,
                quality: copied,
                share: copied / whole.unwrap_or(f64::NAN),
                price: self.price,
                change: difference.zip(before).map(|(difference, before)| difference.mean / before),
                difference,
                lead: self.lead.and_then(|place| found.difference(place)),
            })
        });
        debug_assert_eq!(row.model, Model::Target);
        Some(Verdict {
            target: row.target?,
            defence: row.defence.clone()?,
            variant: row.variant.clone(),
            settings: self.settings,
            figure: figure.to_owned(),
            checkpoints: self.checkpoints,
            quality,
            kept: self.undefended.and(whole).map(|whole| own / whole),
            users: row.difference_to_none.as_ref().and_then(|differences| differences.get(figure)).copied(),
            // A share of nothing is no share.
            thief: thief.filter(|thief| thief.share.is_finite()),
            thieves: self.thieves,
            most_alike,
        })
    }
}

/// Whether a defence is worth having, by the thief who does best against it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The strongest thief loses, and a larger share than users do, both beyond chance.
    Won,
    /// What he loses cannot be told from chance, or he gains.
    ThiefKeeps,
    /// He loses, and users lose as large a share at least.
    UsersPay,
    /// He loses, and whether a larger share than users do cannot be told from chance.
    Undecided,
    /// The undefended target, or its strongest thief, was not measured beside it, or a report of before does not say.
    Unknown,
}

impl Outcome {
    /// The outcome in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Won => "yes",
            Self::ThiefKeeps => "no: he loses nothing that can be told from chance",
            Self::UsersPay => "no: users lose as large a share",
            Self::Undecided => "no: that he loses a larger share than users cannot be told from chance",
            Self::Unknown => "not known",
        }
    }
}

impl Verdict {
    /// Whether the defence wins against the thief who does best against it; of the undefended there is nothing to say.
    pub fn outcome(&self) -> Option<Outcome> {
        if self.defence == "none" {
            return None;
        }
        let thief =
            self.thief.as_ref().and_then(|thief| Some((thief.change?, thief.difference?, thief.lead)));
        let (Some((change, difference, lead)), Some(kept)) = (thief, self.kept) else {
            return Some(Outcome::Unknown);
        };
        Some(if change >= 0.0 || !difference.found() {
            Outcome::ThiefKeeps
        } else if 1.0 - kept >= -change {
            Outcome::UsersPay
        } else {
            match lead {
                Some(lead) if lead.found() => Outcome::Won,
                Some(_) => Outcome::Undecided,
                None => Outcome::Unknown,
            }
        })
    }
}
