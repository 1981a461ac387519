//! The first stage: ratings in, dense ids and leave-one-out sequences out.
//!
//! Data flow one way through three rooms: [`raw`] puts a file of ratings in place, [`read`] reads it, whatever its layout,
//! and [`make`] makes the dataset that every later stage begins with. [`export`] writes a dataset as a file for other
//! programs. A new layout is a file beside the others and a line in [`read::LAYOUTS`]; a new public data set is an entry in
//! [`raw::DATASETS`]. Nothing else knows which there are.

mod cli;
pub mod export;
pub mod make;
pub mod raw;
pub mod read;

pub use cli::{Cli, run};
