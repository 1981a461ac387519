//! The settings of every stage in one typed tree, as written in YAML.
//!
//! One tree, because stages share settings (a student trains with the optimizer of its target) and because one file then
//! describes an experiment. The libraries take the sections as they are, so that a setting has one name and one type from
//! the file to the arithmetic. Each section checks itself; reading and layering are the stages' affair. What one method alone
//! reads is a section of its own ([`Section`]), which it declares where it is.
//!
//! The defaults are the published settings where the paper has one value for all datasets, and common values elsewhere.

pub mod checks;
mod distill;
mod evaluate;
mod generate;
mod model;
mod optimizer;
mod preprocess;
mod section;
mod train;
pub mod wording;

use serde::{Deserialize, Serialize};

pub use checks::Invalid;
pub use distill::{Distill, KeepBy};
pub use evaluate::{Evaluate, HeldOut, Ranking};
pub use generate::{Generate, Pick};
pub use model::{Model, Network};
pub use optimizer::{Optimizer, Precision};
pub use preprocess::{
    Column, Columns, Filter, Incomplete, MOST_CONDITIONS, Preprocess, Repeats, Split, Ties, Values,
};
pub use section::{Owned, Section, Sections, owned, read_all};
pub use train::{Loss, Sampling, Train};

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
    /// Settings of defence methods, by their names.
    pub defend: Sections,
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
            defend: Sections::new(),
            generate: Generate::default(),
            distill: Distill::default(),
            evaluate: Evaluate::default(),
        }
    }
}

impl Settings {
    /// Refuses values that no run can use, in every section but those that methods own.
    ///
    /// # Errors
    /// The first such value, with its key and what was expected.
    pub fn check(&self) -> Result<(), Invalid> {
        checks::distinct("seeds", self.seeds.as_deref())?;
        checks::distinct("surrogates", self.surrogates.as_deref())?;
        self.preprocess.check()?;
        self.model.check()?;
        self.optimizer.check()?;
        self.train.check()?;
        self.generate.check()?;
        self.distill.check()?;
        self.evaluate.check()
    }
}
