//! What is measured: the shape of `metrics.json` and `protocol.json`, which `run` writes and `report` reads.
//!
//! `metrics.json` holds numbers only, so that any tool that follows metrics can show and compare it. Everything that says
//! *of what* and *how* these numbers were taken (models, defence, settings, identity of the data) is in `protocol.json`.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

use artifact::checkpoint::Learning;
use artifact::queries::{Generation, Price, QueryHeader};
use artifact::settings::{HeldOut, Ranking};
use indexmap::IndexMap;
use models::{ARCHITECTURES, Architecture};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value as Json;

/// Name of the measured figures inside an output directory.
pub const METRICS: &str = "metrics.json";
/// Name of the protocol inside an output directory.
pub const PROTOCOL: &str = "protocol.json";

/// Column of `ranks.parquet`: rank of the test item in what the target answers.
pub const TARGET_RANK: &str = "target_rank";
/// Column of `ranks.parquet`: rank of the test item for the surrogate.
pub const SURROGATE_RANK: &str = "surrogate_rank";
/// Column of `ranks.parquet`: rank of the test item in the target's list to the last item of the history alone.
pub const TABLE_RANK: &str = "table_rank";
/// Column of `ranks.parquet`: rank of the test item among the most popular.
pub const POPULAR_RANK: &str = "popular_rank";

/// Column of `ranks.parquet`: a figure of fidelity, to the target model's own list.
pub fn own_column(figure: &str) -> String {
    format!("own_{figure}")
}

/// Column of `ranks.parquet`: what a column of the surrogate says, of the table of lists.
pub fn table_column(column: &str) -> String {
    format!("table_{column}")
}

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

impl From<metrics::Interval> for Figure {
    fn from(interval: metrics::Interval) -> Self {
        Self { mean: interval.mean, low: interval.low, high: interval.high }
    }
}

/// Figures by name (`HR@10`, `MRR`), in the order of [`metrics::METRICS`].
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
    /// A table of its lists to single items; none of a target that others run, and in runs of before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<TableMetrics>,
    /// Quality of the surrogate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub surrogate: Option<Figures>,
    /// How closely the surrogate repeats the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fidelity: Option<Fidelity>,
}

/// Of the copy that learns nothing: a table of what the target answers to each item alone, in which the last item of a history is looked up. It
/// costs a thief a question an item, by an account each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TableMetrics {
    /// Quality of its lists.
    pub quality: Figures,
    /// How closely these are the lists that the target answers to whole histories.
    pub answered: Figures,
    /// How closely they are the target model's own lists to these; none in runs of before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own: Option<Figures>,
    /// Items on the longest of them: fewer than were asked for where a policy shows newcomers less.
    pub listed: usize,
}

/// How closely a surrogate repeats its target on test histories.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fidelity {
    /// Against the lists that the target answers: what the attacker could copy.
    pub answered: Figures,
    /// Against the target model's own lists and scores, before its policy touched them: what the attacker wanted. Absent where the target
    /// is run by others, of which nothing is seen but what it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own: Option<Figures>,
}

/// `protocol.json`: of what, and how, the figures were taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Protocol {
    /// What runs share that may stand in one table.
    #[serde(flatten)]
    pub conditions: Conditions,
    /// The K of HR@K and the like.
    pub ks: Vec<usize>,
    /// Seed of the bootstrap and of the sampled negatives; of the models too, where the same seed was given to every
    /// stage.
    pub seed: u64,
    /// The target.
    pub target: Subject,
    /// The surrogate, where one was evaluated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub surrogate: Option<Subject>,
}

/// The data and the manner of measuring: figures taken under other conditions do not compare. It shows itself as the line
/// that stands with every table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conditions {
    /// Fingerprint of the dataset's item numbering.
    pub fingerprint: String,
    /// BLAKE3 of the dataset's sequences.parquet: the histories and the test items.
    pub sequences: String,
    /// How many users were evaluated: all of the dataset.
    pub users: usize,
    /// How many items the catalogue holds.
    pub items: usize,
    /// What the test item was ranked against.
    pub ranking: Ranking,
    /// How many negatives were drawn for each user, where the ranking was sampled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub negatives: Option<usize>,
    /// Whether items of the user's history were taken out of the ranking.
    pub exclude_seen: bool,
    /// Which items rankings were judged by.
    #[serde(default, skip_serializing_if = "HeldOut::is_test")]
    pub held_out: HeldOut,
    /// Whether a model was trained on other splits than these, which `--other-split` allows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub other_split: bool,
    /// Length of the answered lists.
    pub top_k: usize,
    /// Number of bootstrap resamples behind every interval.
    pub bootstrap: usize,
}

impl Conditions {
    /// What the test item was ranked against, in words.
    pub fn ranked_against(&self) -> String {
        let items = grouped(self.items as u64);
        let negatives = grouped(self.negatives.unwrap_or(0) as u64);
        match self.ranking {
            Ranking::Full => format!("full ranking over {items} items"),
            Ranking::Uniform => format!("ranking among {negatives} uniform negatives of {items} items"),
            Ranking::Popularity => {
                format!("ranking among {negatives} popularity-weighted negatives of {items} items")
            }
        }
    }

    /// What happened to the items of the history, in words.
    pub fn seen(&self) -> &'static str {
        if self.exclude_seen { "seen items left out" } else { "seen items kept" }
    }
}

impl fmt::Display for Conditions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{}{}, {}, {}ties against the model, answered lists of {}, {} users, {} bootstrap resamples",
            if self.held_out.is_test() { "" } else { "judged by validation items, " },
            self.ranked_against(),
            self.seen(),
            if self.other_split { "models trained on other splits, " } else { "" },
            grouped(self.top_k as u64),
            grouped(self.users as u64),
            grouped(self.bootstrap as u64)
        )
    }
}

/// What a model is: one of the registry, or one of which nothing is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// What files call it.
    pub name: &'static str,
    /// What people call it.
    pub title: &'static str,
}

impl Network {
    /// What people call the network of a name, which is the name itself where nobody knows it.
    pub fn title_of(name: &str) -> &str {
        Self::apart(name).map_or_else(|| ARCHITECTURES.title(name), |network| network.title)
    }

    /// That of a name which is in no registry.
    fn apart(name: &str) -> Option<Self> {
        [Self::FOREIGN, Self::TABLE].into_iter().find(|network| network.name == name)
    }

    /// That of a target that others run.
    pub const FOREIGN: Self = Self { name: "foreign", title: "run by others" };
    /// That of a copy that is a table of lists, see [`TableMetrics`].
    pub const TABLE: Self = Self { name: "table", title: "table of lists" };
}

impl From<Architecture> for Network {
    fn from(architecture: Architecture) -> Self {
        Self { name: architecture.name, title: architecture.title }
    }
}

/// In the order of the registry, those that are not known last.
impl Ord for Network {
    fn cmp(&self, other: &Self) -> Ordering {
        let place = |network: &Self| ARCHITECTURES.position(network.name);
        place(self).cmp(&place(other)).then_with(|| self.name.cmp(other.name))
    }
}

impl PartialOrd for Network {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name)
    }
}

/// By name.
impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        if let Some(found) = Self::apart(&name) {
            return Ok(found);
        }
        ARCHITECTURES.find(&name).map(|&found| found.into()).map_err(serde::de::Error::custom)
    }
}

/// What stands for a defence or a policy that nobody knows.
pub const UNKNOWN: &str = "unknown";

/// A model that was evaluated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// Its network.
    pub architecture: Network,
    /// The defence it went through; of a surrogate, the defence of the target it copies.
    #[serde(alias = "defense")]
    pub defence: String,
    /// What happens to its answers.
    pub policy: String,
    /// BLAKE3 of its checkpoint, which tells apart targets of the same defence; the address of a target that others run and that does not
    /// tell it.
    pub checkpoint: String,
    /// Of a target: what its defence was set to, by the names of settings.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, Json>,
    /// Of a surrogate: what the attack asked, where its checkpoint says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queries: Option<QueryHeader>,
    /// Of a surrogate: what that cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Price>,
    /// Of a surrogate: how it learned, where its checkpoint says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learning: Option<Learning>,
}

/// What an attack asked, in words: sequences x length = queries, length of the lists, strategy, share of the sequences
/// that begin with a real history; and its price.
pub fn budget_of(header: &QueryHeader) -> String {
    let QueryHeader { queries, sequences, k, .. } = header;
    let chosen = match &header.generation {
        None => String::new(),
        Some(Generation { strategy, seeded: 0, .. }) => {
            format!(", {strategy}, none begun with a real history")
        }
        Some(Generation { strategy, seeded, seed_length, .. }) => {
            let share = 100.0 * *seeded as f64 / (*sequences).max(1) as f64;
            format!(", {strategy}, {share:.1} % begun with up to {seed_length} items of a real history")
        }
    };
    let length = queries.checked_div(*sequences).unwrap_or(0);
    // Sequences of different lengths have no product to show.
    let product = if length * sequences == *queries {
        format!("{} sequences x {length} items = ", grouped(*sequences))
    } else {
        format!("{} sequences, ", grouped(*sequences))
    };
    let choices: Vec<String> = header
        .generation
        .iter()
        .flat_map(|chosen| &chosen.choices)
        .map(|(key, value)| format!("; {key} {}", value.to_string().trim_matches('"')))
        .collect();
    let price = price_of(&header.price());
    format!(
        "{product}{} queries for the top {k} each{chosen}{}; price: {price}",
        grouped(*queries),
        choices.concat()
    )
}

/// A price, in words.
pub fn price_of(price: &Price) -> String {
    let Price { accounts, questions, items_listed, real_sequences } = *price;
    format!(
        "{} accounts, {} questions, {} items listed, {} real sequences owned",
        grouped(accounts),
        grouped(questions),
        grouped(items_listed),
        grouped(real_sequences)
    )
}

/// A number with its digits in groups of three.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_stand_in_groups_of_three() {
        for (number, text) in [(0, "0"), (999, "999"), (1_349, "1,349"), (20_000_263, "20,000,263")] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn a_budget_is_a_product_where_all_sequences_are_of_one_length() {
        let header = QueryHeader {
            items: 9,
            k: 5,
            fingerprint: String::new(),
            splits: Vec::new(),
            target: None,
            queries: 25_000,
            sequences: 500,
            absent: 0,
            generation: None,
        };
        let price = "price: 500 accounts, 25,000 questions, 125,000 items listed, 0 real sequences owned";
        let text = budget_of(&header);
        assert_eq!(text, format!("500 sequences x 50 items = 25,000 queries for the top 5 each; {price}"));
        let ragged = QueryHeader { queries: 25_001, ..header.clone() };
        let text = budget_of(&ragged);
        assert!(text.starts_with("500 sequences, 25,001 queries for the top 5 each; price: "), "{text}");
        let generation = Generation {
            strategy: "random".to_owned(),
            seed_sequences: 0.1,
            seeded: 50,
            seed_length: 25,
            owned: 30,
            choices: BTreeMap::from([("pick".to_owned(), "1/place".into())]),
        };
        let begun = QueryHeader { generation: Some(generation), ..header };
        let text = budget_of(&begun);
        assert!(
            text.contains(
                " each, random, 10.0 % begun with up to 25 items of a real history; pick 1/place; price: "
            ) && text.ends_with(", 30 real sequences owned"),
            "{text}"
        );
    }
}
