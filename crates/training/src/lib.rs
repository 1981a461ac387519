//! Training, the same for a target, a surrogate, and a target with its student: what learns is a [`Learner`], the loop
//! over its epochs is [`fit`], and everything that a run needs in order to go on after an interruption is in [`state`].

mod error;
pub mod fit;
pub mod forecast;
mod learner;
pub mod list_losses;
pub mod negatives;
pub mod optimizer;
pub mod ranking_loss;
pub mod samples;
pub mod state;
mod trainee;
pub mod validation;

pub use error::{Error, Result, is_input};
pub use learner::Learner;
pub use trainee::Trainee;
