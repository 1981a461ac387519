//! Where each defence stands: what the board reads of a report, and what it makes of it.
//!
//! Names of networks and defences are taken as they are written, since reports come from builds with methods that this one does not have.

use artifact::queries::Price;
use artifact::settings::Ranking;
use serde::{Deserialize, Serialize};

use super::Proven;
use crate::figures::{Conditions, Network};
use crate::results::kept::Suspected;

/// What the board needs of `report.json`.
#[derive(Debug, Clone, Deserialize)]
pub struct Handed {
    protocol: Conditions,
    seeds: Vec<u64>,
    /// On each target and defence; none in reports of before there were any.
    #[serde(default)]
    pub verdicts: Vec<Verdict>,
    #[serde(default)]
    rows: Vec<Row>,
    /// Proofs that a kept report brings along (`gro-evaluate results`).
    #[serde(default)]
    proofs: Vec<Suspected>,
}

/// A row of a report.
#[derive(Debug, Clone, Deserialize)]
struct Row {
    target: Option<String>,
    surrogate: Option<String>,
}

impl Handed {
    /// Whether a table of lists is among the thieves of its targets; none where there cannot be one, for all are run by others or rankings are
    /// sampled.
    pub fn has_tables(&self) -> Option<bool> {
        let mut targets = self.rows.iter().filter_map(|row| row.target.as_deref());
        let own = targets.any(|target| target != Network::FOREIGN.name);
        (own && self.protocol.ranking == Ranking::Full)
            .then(|| self.rows.iter().any(|row| row.surrogate.as_deref() == Some(Network::TABLE.name)))
    }
}

/// A verdict of a report.
#[derive(Debug, Clone, Deserialize)]
pub struct Verdict {
    target: String,
    defence: String,
    variant: Option<String>,
    figure: String,
    checkpoints: Vec<String>,
    kept: Option<f64>,
    users: Option<Tested>,
    thieves: usize,
    thief: Option<Thief>,
    /// None in reports of before.
    most_alike: Option<MostAlike>,
}

#[derive(Debug, Clone, Deserialize)]
struct MostAlike {
    likeness: f64,
    difference: Option<Tested>,
}

#[derive(Debug, Clone, Deserialize)]
struct Thief {
    surrogate: String,
    way: Option<String>,
    share: f64,
    price: Option<Price>,
    difference: Option<Tested>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
struct Tested {
    p_corrected: f64,
}

/// A defence on the board.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Standing {
    /// The report it comes from, as seen from the directory that all are in.
    pub report: String,
    /// The target's network.
    pub target: String,
    /// Its defence.
    pub defence: String,
    /// What tells it from another of that defence in its report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Seeds of the report.
    pub seeds: usize,
    /// BLAKE3 of the target's checkpoints.
    pub checkpoints: Vec<String>,
    /// Share of the undefended target's quality that users keep; null where that was not evaluated.
    pub kept: Option<f64>,
    /// Chance of so large a loss were there none, corrected over its report.
    pub kept_p: Option<f64>,
    /// How many thieves tried.
    pub thieves: usize,
    /// Share of the undefended target's quality that the strongest thief's copy has; null where no copy was evaluated.
    pub stolen: Option<f64>,
    /// Chance of so large a difference to the strongest copy of the undefended target were there none.
    pub stolen_p: Option<f64>,
    /// How the strongest thief asks and learns, and the network of his copy.
    pub thief: Option<String>,
    /// What he paid.
    pub price: Option<Price>,
    /// `kept` less `stolen`: what users have that thieves do not.
    pub margin: Option<f64>,
    /// How far the copy most alike agrees with the target model's own lists; null where the report does not say.
    pub alike: Option<f64>,
    /// Chance of so large a difference to the most alike copy of the undefended target were there none.
    pub alike_p: Option<f64>,
    /// How many suspects were put to a proof that they learned from this target.
    pub suspects: usize,
    /// The least p of these proofs.
    pub proof: Option<f64>,
}

/// Defences that were measured alike, the largest margin first.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Division {
    /// How.
    pub protocol: Conditions,
    /// By which figure.
    pub figure: String,
    /// The defences.
    pub standings: Vec<Standing>,
}

/// `board.json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Board {
    /// One for each way to measure.
    pub divisions: Vec<Division>,
    /// Proofs about targets that no report speaks of.
    pub proofs_of_others: usize,
}

impl Board {
    /// The board of some reports, each with its name.
    pub fn of(handed: Vec<(String, Handed)>, proofs: &[Proven]) -> Self {
        let mut divisions: Vec<Division> = Vec::new();
        let mut used = vec![false; proofs.len()];
        for (report, Handed { protocol, seeds, verdicts, rows: _, proofs: brought }) in handed {
            for verdict in verdicts {
                let about = |proof: &&Suspected| proof.guilty && proof.guarded == verdict.defence;
                let mut of_target: Vec<f64> = brought.iter().filter(about).map(Suspected::chance).collect();
                for (proof, used) in proofs.iter().zip(&mut used) {
                    if verdict.checkpoints.contains(&proof.protected) {
                        *used = true;
                        of_target.push(proof.chance());
                    }
                }
                let figure = verdict.figure.clone();
                let standing = standing(report.clone(), seeds.len(), verdict, &of_target);
                let alike =
                    |division: &&mut Division| division.protocol == protocol && division.figure == figure;
                match divisions.iter_mut().find(alike) {
                    Some(division) => division.standings.push(standing),
                    None => divisions.push(Division {
                        protocol: protocol.clone(),
                        figure,
                        standings: vec![standing],
                    }),
                }
            }
        }
        for division in &mut divisions {
            // Without a margin last; among equals in the order of the reports.
            let margin = |standing: &Standing| standing.margin.unwrap_or(f64::NEG_INFINITY);
            division.standings.sort_by(|left, right| margin(right).total_cmp(&margin(left)));
        }
        Self { divisions, proofs_of_others: used.iter().filter(|used| !**used).count() }
    }
}

fn standing(report: String, seeds: usize, verdict: Verdict, proofs: &[f64]) -> Standing {
    let stolen = verdict.thief.as_ref().map(|thief| thief.share);
    let by = |thief: &Thief| match &thief.way {
        Some(way) => format!("{way}; copy {}", Network::title_of(&thief.surrogate)),
        None => format!("copy {}", Network::title_of(&thief.surrogate)),
    };
    Standing {
        report,
        target: models::ARCHITECTURES.title(&verdict.target).to_owned(),
        defence: verdict.defence,
        variant: verdict.variant,
        seeds,
        checkpoints: verdict.checkpoints,
        kept: verdict.kept,
        kept_p: verdict.users.map(|tested| tested.p_corrected),
        thieves: verdict.thieves,
        stolen,
        stolen_p: verdict.thief.as_ref().and_then(|thief| thief.difference).map(|tested| tested.p_corrected),
        thief: verdict.thief.as_ref().map(by),
        price: verdict.thief.and_then(|thief| thief.price),
        margin: verdict.kept.zip(stolen).map(|(kept, stolen)| kept - stolen),
        alike: verdict.most_alike.as_ref().map(|copy| copy.likeness),
        alike_p: verdict.most_alike.and_then(|copy| copy.difference).map(|tested| tested.p_corrected),
        suspects: proofs.len(),
        proof: proofs.iter().copied().min_by(f64::total_cmp),
    }
}
