//! The first room: raw ratings, as files. [`fetch`](mod@fetch) downloads one of the public [`datasets`] with the programs in
//! [`download`] and keeps a [`record`] of what came; [`synth`] makes ratings up where there is no network.

pub mod datasets;
pub mod download;
pub mod fetch;
pub mod record;
pub mod synth;

pub use datasets::{Content, DATASETS, Dataset, Mirror};
