//! The contract between the stages: every file they exchange, read and written in one place.
//!
//! A stage knows files and nothing else, so what stands here is the whole interface between two stages. Each module owns
//! one kind of file and refuses, with the file's name and what to do, anything that would otherwise fail an hour later:
//! a column of another type, an id outside the catalogue, a tensor that is not a number.
//!
//! Two properties hold everywhere. Equal contents give equal bytes: names are written in sorted order, and no time, host
//! name or hash map reaches a file (the exceptions, [`events`] and [`history::SpeedWriter`], are no declared outputs).
//! And the foreign formats are plain: Parquet, safetensors, JSON and CSV open in pandas or DuckDB without this code.

pub mod asked;
pub mod checkpoint;
pub mod dataset;
pub mod device;
pub mod digest;
mod error;
pub mod events;
pub mod history;
pub mod metrics;
pub mod names;
pub mod queries;
pub mod ranks;
pub mod report;
pub mod settings;
pub mod table;

pub use error::Error;
