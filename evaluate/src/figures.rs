//! What is measured: the shape of `metrics.json` and `protocol.json`, which `run` writes and `report` reads.
//!
//! `metrics.json` holds numbers only, so that any tool that follows metrics can show and compare it. Everything that says
//! *of what* and *how* these numbers were taken (models, defence, settings, identity of the data) is in `protocol.json`.

use artifact::checkpoint::{Architecture, Policy};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

/// Name of the measured figures inside an output directory.
pub const METRICS: &str = "metrics.json";
/// Name of the protocol inside an output directory.
pub const PROTOCOL: &str = "protocol.json";

/// Column of `ranks.parquet`: rank of the test item in what the target answers.
pub const TARGET_RANK: &str = "target_rank";
/// Column of `ranks.parquet`: rank of the test item for the surrogate.
pub const SURROGATE_RANK: &str = "surrogate_rank";
/// Column of `ranks.parquet`: rank of the test item among the most popular.
pub const POPULAR_RANK: &str = "popular_rank";

/// A mean over users with its 95 % bootstrap interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// The mean.
    pub mean: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

impl From<ranking::Interval> for Figure {
    fn from(interval: ranking::Interval) -> Self {
        Self { mean: interval.mean, low: interval.low, high: interval.high }
    }
}

/// Figures by name (`HR@10`, `NDCG@10`, `MRR`, `Agr@10`, `EM@10`, `RBO`, `KL`), in the order they are read in.
pub type Figures = IndexMap<String, Figure>;

/// `metrics.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// How many users the means go over.
    pub users: usize,
    /// How many items the catalogue holds.
    pub items: usize,
    /// Quality of recommending the items most frequent in training to everyone.
    pub popular: Figures,
    /// Quality of what the target answers, through its answer policy.
    pub target: Figures,
    /// Quality of the surrogate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub surrogate: Option<Figures>,
    /// How closely the surrogate repeats the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fidelity: Option<Fidelity>,
}

/// How closely a surrogate repeats its target on test histories.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fidelity {
    /// Against the lists that the target answers: what the attacker could copy.
    pub answered: Figures,
    /// Against the target model's own ranking, before its policy touched it: what the attacker wanted.
    pub own: Figures,
}

/// `protocol.json`: of what, and how, the figures were taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Protocol {
    /// Fingerprint of the dataset's item numbering.
    pub fingerprint: String,
    /// How many users were evaluated: all of the dataset.
    pub users: usize,
    /// How many items the test item was ranked against: the whole catalogue.
    pub items: usize,
    /// Whether items of the user's history were taken out of the ranking.
    pub exclude_seen: bool,
    /// The K of HR@K and the like.
    pub ks: Vec<usize>,
    /// Length of the answered lists.
    pub top_k: usize,
    /// Number of bootstrap resamples behind every interval.
    pub bootstrap: usize,
    /// Seed of the bootstrap.
    pub seed: u64,
    /// The target.
    pub target: Subject,
    /// The surrogate, where one was evaluated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub surrogate: Option<Subject>,
}

/// A model that was evaluated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// Its network.
    pub architecture: Architecture,
    /// The defence it went through; of a surrogate, the defence of the target it copies.
    pub defense: String,
    /// What happens to its answers.
    pub policy: Policy,
    /// BLAKE3 of its checkpoint, which tells apart targets of the same defence.
    pub checkpoint: String,
}

/// The name by which papers and readers know an architecture.
pub fn name_of(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::Bert => "BERT4Rec",
        Architecture::Sas => "SASRec",
        Architecture::Narm => "NARM",
    }
}
