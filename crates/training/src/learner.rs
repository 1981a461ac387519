//! What learns: a target, a surrogate, or a target with its student. The loop over it is [`fit`](crate::fit), which knows no
//! more of it than this.

use candle_core::Tensor;

use crate::{Result, Trainee};

/// Something that learns in steps and epochs.
pub trait Learner {
    /// Names of the values each step returns, for the history.
    fn losses(&self) -> &'static [&'static str];

    /// Steps in an epoch; at least 1.
    fn steps(&self) -> usize;

    /// Training samples in an epoch, for the record of speed.
    fn samples(&self) -> usize;

    /// One step of the optimizers. Returns detached scalars, one for each of [`Learner::losses`]; their mean
    /// over the epoch goes to the history. Epochs count from 1, steps from 0.
    fn step(&mut self, epoch: usize, step: usize) -> Result<Vec<Tensor>>;

    /// Measures the models as they are, by name; the first value decides which epoch is best (larger is
    /// better). The same names every time.
    fn validate(&mut self) -> Result<Vec<(&'static str, f64)>>;

    /// Every model that trains, under the name that the saved state uses (`target`, `student`, `surrogate`); the
    /// first is the one whose best weights are kept.
    fn trainees(&mut self) -> Vec<(&'static str, &mut Trainee)>;
}
