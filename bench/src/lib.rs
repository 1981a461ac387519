//! What the stages cost. A [`Work`] is the code of a stage on a shape that counts: an optimizer step, a generated
//! sequence, a file preprocessed. There is a module for each subject; [`scaling`] takes the works of the others over a
//! range of sizes. `benches/suite.rs` times them, [`peak`] measures their memory, and [`record`] keeps both.
//!
//! Nothing is fetched: [`histories`] makes data up, of the sizes of the public data sets. Weights are fresh, for no
//! cost here depends on what was learned.

pub mod arithmetic;
pub mod distillation;
pub mod evaluation;
pub mod generation;
pub mod gro;
pub mod histories;
pub mod learners;
pub mod peak;
pub mod preprocessing;
pub mod ranking;
pub mod record;
pub mod reporting;
pub mod scaling;
pub mod service;
pub mod thieves;
pub mod training;

use std::path::Path;

use anyhow::Result;
use rayon::ThreadPoolBuilder;

/// Seed of everything that is drawn.
pub const SEED: u64 = 1;

/// Items of MovieLens-100K, of those with at least five ratings.
pub const ITEMS: usize = 1349;

/// Length k of every list.
pub const TOP_K: usize = 100;

/// What is timed: one piece of a work, again at each call.
pub type Iteration = Box<dyn FnMut() -> Result<()> + Send>;

/// A work on a shape.
pub struct Work {
    /// The module it comes from.
    pub subject: &'static str,
    /// What is done, in stable words.
    pub name: String,
    /// How much of it, in stable words.
    pub shape: String,
    /// Number of CPU threads; `None` for the pool of the process, all cores by default.
    pub threads: Option<usize>,
    /// What the seconds of an iteration are multiplied with to give those of the work.
    pub scale: f64,
    /// Matrix arithmetic that the work cannot avoid, in GFLOP; see [`arithmetic`].
    pub gflop: Option<f64>,
    prepare: Box<dyn Fn() -> Result<Iteration> + Send + Sync>,
}

impl Work {
    /// A work whose iterations are made by `prepare`, which is not timed.
    pub fn new(
        subject: &'static str,
        name: impl Into<String>,
        shape: impl Into<String>,
        prepare: impl Fn() -> Result<Iteration> + Send + Sync + 'static,
    ) -> Self {
        let (name, shape) = (name.into(), shape.into());
        Self { subject, name, shape, threads: None, scale: 1.0, gflop: None, prepare: Box::new(prepare) }
    }

    /// The same work, of which an iteration is the `1 / scale`-th part.
    #[must_use]
    pub fn scaled(self, scale: f64) -> Self {
        Self { scale, ..self }
    }

    /// The same work, which takes so many GFLOP of matrix products.
    #[must_use]
    pub fn arithmetic(self, gflop: f64) -> Self {
        Self { gflop: Some(gflop), ..self }
    }

    /// The same work on so many threads.
    #[must_use]
    pub fn on_threads(self, threads: usize) -> Self {
        let shape = format!("{}, {threads} thread{}", self.shape, if threads == 1 { "" } else { "s" });
        Self { threads: Some(threads), shape, ..self }
    }

    /// Tells it from every other work.
    pub fn id(&self) -> String {
        format!("{}/{}/{}", self.subject, self.name, self.shape)
    }

    /// Everything that comes before the first iteration.
    ///
    /// # Errors
    /// Those of the stage at work.
    pub fn prepare(&self) -> Result<Iteration> {
        let Some(threads) = self.threads else {
            // As the stages do it.
            let mut iteration = (self.prepare)()?;
            return Ok(Box::new(move || stage::in_pool(&mut iteration)));
        };
        let pool = ThreadPoolBuilder::new().num_threads(threads).build()?;
        let mut iteration = pool.install(|| (self.prepare)())?;
        Ok(Box::new(move || pool.install(&mut iteration)))
    }
}

/// All works, in the order in which they are reported. `directory` is for data that is worth keeping from one run to
/// the next.
///
/// # Errors
/// Where a dataset that decides over a shape cannot be made.
pub fn works(directory: &Path) -> Result<Vec<Work>> {
    let subjects = [
        vec![arithmetic::peak()],
        training::works()?,
        gro::works(),
        generation::works(),
        evaluation::works(),
        reporting::works(),
        distillation::works(),
        thieves::works(),
        service::works(),
        preprocessing::works(directory),
        scaling::works()?,
    ];
    Ok(subjects.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_work_has_a_directory_of_its_own() {
        let works = works(Path::new("unused")).unwrap();
        let ids: BTreeSet<String> = works.iter().map(Work::id).collect();
        assert_eq!(ids.len(), works.len());
        let entries: BTreeSet<(&str, &str)> =
            works.iter().map(|w| (w.name.as_str(), w.shape.as_str())).collect();
        assert_eq!(entries.len(), works.len(), "bench.json tells works apart by name and shape");
        for part in works.iter().flat_map(|work| [work.subject, &work.name, &work.shape]) {
            // What criterion would replace or cut off.
            assert!(!part.contains(['?', '"', '/', '\\', '*', '<', '>', ':', '|', '^']), "{part}");
            assert!(part.len() <= 64, "{part}");
        }
    }
}
