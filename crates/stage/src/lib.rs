//! What every stage binary does around its work: flags, settings, logging, the lock, the output directory.
//!
//! A binary hands its command line and its `run` to [`main`], asks [`settings::load`] for checked settings, and lets a
//! [`Plan`] decide whether there is anything to do and make the output directory appear whole or not at all. The stage
//! itself is then a function from input files to files in a fresh directory, and knows of none of this.

mod build;
mod choices;
mod completions;
mod flags;
mod frame;
mod interrupt;
mod lock;
mod logging;
mod manual;
pub mod memory;
pub mod output;
pub mod progress;
mod refusal;
mod resume;
pub mod settings;
pub mod splits;
pub mod verify;

pub use artifact::device::Device;
pub use build::Build;
pub use choices::choices;
pub use commit::commit;
pub use flags::{Flags, Kernels};
pub use frame::{in_pool, main, main_where, set_threads};
pub use interrupt::Interruption;
pub use output::{Outcome, Plan};
pub use refusal::Refusal;
pub use resume::Resume;
pub use settings::{Checked, Schema, Settings};
pub use splits::OtherSplit;
