//! The settings of every stage in one typed tree, as written in YAML.
//!
//! One tree, because stages share settings (a student trains with the optimizer of its target) and because one file then
//! describes an experiment. The libraries take the sections as they are, so that a setting has one name and one type from
//! the file to the arithmetic. Reading, layering and checking are the stages' affair.
//!
//! The defaults are the published settings where the paper has one value for all datasets, and common values elsewhere.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The settings of all stages, as written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Seed of every random stream.
    pub seed: u64,
    /// Seeds to repeat an experiment with, from training on; `null` for `seed` alone. No stage reads it: whoever runs
    /// the stages gives each repetition its `--seed`.
    pub seeds: Option<Vec<u64>>,
    /// Architectures to attack every target with; `null` for the target's own. No stage reads it: whoever runs the
    /// stages gives each attack its `--surrogate`.
    pub surrogates: Option<Vec<String>>,
    /// Ratings to dataset.
    pub preprocess: Preprocess,
    /// Network of the target, and of the surrogate where the command line does not name another.
    pub model: Model,
    /// AdamW, the same for target, student and surrogate.
    pub optimizer: Optimizer,
    /// Training of the target.
    pub train: Train,
    /// Training under GRO.
    pub defend: Defend,
    /// The attacker's queries.
    pub generate: Generate,
    /// Training of the surrogate.
    pub distill: Distill,
    /// Measuring.
    pub evaluate: Evaluate,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            seed: 1,
            seeds: None,
            surrogates: None,
            preprocess: Preprocess::default(),
            model: Model::default(),
            optimizer: Optimizer::default(),
            train: Train::default(),
            defend: Defend::default(),
            generate: Generate::default(),
            distill: Distill::default(),
            evaluate: Evaluate::default(),
        }
    }
}

/// The layout of a ratings file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    /// Whatever lies in the input directory.
    #[default]
    #[serde(rename = "auto")]
    Auto,
    /// `u.data`: user, item, rating, timestamp, separated by tabs.
    #[serde(rename = "movielens-100k")]
    Movielens100k,
    /// `ratings.dat`: the same, separated by `::`.
    #[serde(rename = "movielens-1m")]
    Movielens1m,
    /// `ratings.csv`: the same, separated by commas, with a header.
    #[serde(rename = "movielens-20m")]
    Movielens20m,
    /// `*.inter`: tabs, and a header that names and types the columns.
    #[serde(rename = "inter")]
    Inter,
    /// `steam_reviews.json`: a Python dictionary a line, of which username, product_id and date are read.
    #[serde(rename = "steam")]
    Steam,
    /// `ratings_*.csv` of Amazon: user, item, rating, timestamp, separated by commas, without a header.
    #[serde(rename = "amazon")]
    Amazon,
    /// A csv, tsv, jsonl or Parquet table; [`Columns`] says what its columns are called.
    #[serde(rename = "table")]
    Table,
    /// A user and then items on every line, separated by blanks, in order of time.
    #[serde(rename = "sequences")]
    Sequences,
}

/// What the columns of a table are called that hold what is needed. A table is read by its columns' names alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Columns {
    /// The user's raw id: text or an integer.
    pub user: Option<String>,
    /// The item's raw id: text or an integer.
    pub item: Option<String>,
    /// The time: an integer, a float, or an ISO date or date and time; `null` where the rows are in order of time.
    pub timestamp: Option<String>,
    /// The rating, a number; `null` where there is none.
    pub rating: Option<String>,
}

impl Columns {
    /// Whether any column is named.
    pub fn is_named(&self) -> bool {
        *self != Self::default()
    }
}

/// How often the filters run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Filter {
    /// Items, then users, once.
    #[default]
    Once,
    /// Again and again, until nothing changes.
    Core,
}

/// The order of a user's interactions with equal timestamps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ties {
    /// By item id, the published rule.
    #[default]
    Item,
    /// As in the file.
    Input,
}

/// Settings of `gro-preprocess run`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Preprocess {
    /// Layout of the ratings file.
    pub format: Format,
    /// The columns of a table; naming any makes `format: auto` mean a table.
    pub columns: Columns,
    /// Ratings below are dropped before anything else.
    pub min_rating: f64,
    /// Items with fewer interactions are dropped.
    pub min_item_count: usize,
    /// Users with fewer interactions among the items left are dropped.
    pub min_user_count: usize,
    /// How often both filters run.
    pub filter: Filter,
    /// Order within equal timestamps.
    pub ties: Ties,
}

impl Default for Preprocess {
    fn default() -> Self {
        Self {
            format: Format::Auto,
            columns: Columns::default(),
            min_rating: 0.0,
            min_item_count: 5,
            min_user_count: 5,
            filter: Filter::Once,
            ties: Ties::Item,
        }
    }
}

/// Sizes of a network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Model {
    /// Which network.
    pub architecture: String,
    /// Width of the hidden state, H; `heads` divides it.
    pub hidden: usize,
    /// Number of blocks.
    pub blocks: usize,
    /// Attention heads per block.
    pub heads: usize,
    /// Longest input, L.
    pub max_len: usize,
    /// Dropout probability in training.
    pub dropout: f64,
    /// Dropout probability on attention weights in training.
    pub attention_dropout: f64,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            architecture: "bert".to_owned(),
            hidden: 64,
            blocks: 2,
            heads: 2,
            max_len: 200,
            dropout: 0.1,
            attention_dropout: 0.1,
        }
    }
}

/// Type of the numbers between the layers of a model in training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits, of which 8 are exponent. Weights, moments, norms, softmax and losses stay at 32.
    Bf16,
}

/// How weights begin and move: AdamW with decoupled weight decay, and the clipping before each step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Optimizer {
    /// Step size.
    pub learning_rate: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decay of weights that are neither biases nor norms.
    pub weight_decay: f64,
    /// Largest gradient norm of each parameter tensor on its own.
    pub clip_norm: f64,
    /// BERT4Rec, SASRec: standard deviation of the embeddings at the beginning. Not a matter of the step, but of how far
    /// steps must go: with 1, as published, SASRec's scores begin far too large and take long to come down.
    pub embedding_deviation: f64,
    /// Activations in training, for GPUs: `bf16` halves their memory and multiplies faster there.
    pub precision: Precision,
}

impl Default for Optimizer {
    fn default() -> Self {
        Self {
            learning_rate: 1e-3,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-9,
            weight_decay: 0.01,
            clip_norm: 5.0,
            embedding_deviation: 1.0,
            precision: Precision::F32,
        }
    }
}

/// What SASRec compares a label with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// One random item outside the user's history, as in the paper: binary cross entropy.
    #[default]
    Bce,
    /// All items: cross entropy, as the other architectures have it.
    CrossEntropy,
}

/// What one training sample is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sampling {
    /// A window of a history; SASRec and NARM learn from all its prefixes in one pass.
    #[default]
    Windows,
    /// One prefix of a history, and the item after it.
    Prefixes,
}

/// Settings of `gro-train`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Train {
    /// Sequences a batch.
    pub batch: usize,
    /// Epochs at most.
    pub epochs: usize,
    /// Epochs without a better validation NDCG@10 after which training stops.
    pub patience: usize,
    /// Epochs from one validation to the next.
    pub validate_every: usize,
    /// What one training sample is.
    pub sampling: Sampling,
    /// SASRec: what a label is compared with.
    pub loss: Loss,
    /// BERT4Rec: probability that an item is masked.
    pub mask_prob: f64,
    /// BERT4Rec: masked positions a sequence, at most.
    pub max_predictions: usize,
}

impl Default for Train {
    fn default() -> Self {
        Self {
            batch: 128,
            epochs: 200,
            patience: 20,
            validate_every: 1,
            sampling: Sampling::Windows,
            loss: Loss::Bce,
            mask_prob: 0.2,
            max_predictions: 40,
        }
    }
}

/// What stands in for a row of the ranking whose gradient is zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ZeroGradient {
    /// Nothing: the row is left alone.
    #[default]
    Skip,
    /// Item 1, as in the authors' code.
    FirstItem,
}

/// Settings of `gro-defend`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Defend {
    /// Sequences a batch.
    pub batch: usize,
    /// Epochs; the last one is kept.
    pub epochs: usize,
    /// Length k of the list that the student imitates.
    pub top_k: usize,
    /// Weight of the swap loss.
    pub lambda: f64,
    /// Margin between neighbours in the student's ranking loss.
    pub margin_rank: f64,
    /// Margin over negatives in the student's ranking loss.
    pub margin_negative: f64,
    /// Margin of the swap loss.
    pub margin_swap: f64,
    /// What replaces an item of zero gradient.
    pub zero_gradient: ZeroGradient,
    /// Label positions of a training sample at which lists are compared, at most; drawn anew for every sample.
    pub positions_per_sequence: usize,
    /// Network of the student; `null` for the target's.
    pub student: Option<String>,
    /// Epochs in which the student alone learns, before the two train together.
    pub student_warmup_epochs: usize,
    /// Seed of the answers that `random` shuffles.
    pub answer_seed: u64,
}

impl Default for Defend {
    fn default() -> Self {
        Self {
            batch: 24,
            epochs: 10,
            top_k: 100,
            lambda: 1.0,
            margin_rank: 0.5,
            margin_negative: 0.5,
            margin_swap: 0.0,
            zero_gradient: ZeroGradient::Skip,
            positions_per_sequence: 40,
            student: None,
            student_warmup_epochs: 0,
            answer_seed: 1,
        }
    }
}

/// How the attacker chooses what to ask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// Each item is drawn from the answer to those before it.
    #[default]
    Autoregressive,
    /// Each item is drawn from the whole catalogue.
    Random,
}

impl fmt::Display for Strategy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Autoregressive => "autoregressive",
            Self::Random => "random",
        })
    }
}

/// Settings of `gro-attack generate`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Generate {
    /// Number of sequences: the budget, divided by `length`.
    pub sequences: usize,
    /// Items a sequence; `null` for the target's `max_len`.
    pub length: Option<usize>,
    /// Length k of an answered list.
    pub top_k: usize,
    /// How the next item is chosen.
    pub strategy: Strategy,
    /// Share of the sequences that begin with the training history of a real user, 0 to 1.
    pub seed_sequences: f64,
    /// Items of such a history that a sequence begins with, at most; `null` for half of `length`.
    pub seed_length: Option<usize>,
    /// Sequences that grow side by side; it changes speed and memory only.
    pub batch: usize,
}

impl Default for Generate {
    fn default() -> Self {
        Self {
            sequences: 3000,
            length: None,
            top_k: 100,
            strategy: Strategy::Autoregressive,
            seed_sequences: 0.0,
            seed_length: None,
            batch: 64,
        }
    }
}

/// Settings of `gro-attack distill`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Distill {
    /// Sequences a batch.
    pub batch: usize,
    /// Epochs at most.
    pub epochs: usize,
    /// Epochs without a better validation NDCG@10 after which training stops.
    pub patience: usize,
    /// Epochs from one validation to the next.
    pub validate_every: usize,
    /// Margin between neighbours in the ranking loss.
    pub margin_rank: f64,
    /// Margin over negatives in the ranking loss.
    pub margin_negative: f64,
}

impl Default for Distill {
    fn default() -> Self {
        Self {
            batch: 128,
            epochs: 200,
            patience: 20,
            validate_every: 1,
            margin_rank: 0.5,
            margin_negative: 0.5,
        }
    }
}

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

/// Settings of `gro-evaluate`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Evaluate {
    /// List lengths K at which quality is measured.
    pub ks: Vec<usize>,
    /// Length k of an answered list, where a defence changes answers.
    pub top_k: usize,
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
            ranking: Ranking::Full,
            negatives: 100,
            exclude_seen: false,
            bootstrap: 1000,
            batch: 128,
        }
    }
}
