//! `report.parquet`: every figure of a report on a row of its own, with types where `report.csv` has only text.

use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, ListArray, StringArray, UInt64Array};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{DataType, Field};

use crate::Error;
use crate::table::{TableWriter, element};

/// Name of the table inside the output directory of `gro-evaluate report`.
pub const REPORT_TABLE: &str = "report.parquet";

/// One figure of one model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cell {
    /// `popular`, `target` or `surrogate`.
    pub model: String,
    /// Architecture of the target; none for the most popular items.
    pub target: Option<String>,
    /// The target's defence.
    pub defence: Option<String>,
    /// Architecture of the surrogate, where the figure is about one.
    pub surrogate: Option<String>,
    /// What tells the model from another of the same architectures and defence.
    pub variant: Option<String>,
    /// The seeds that were averaged.
    pub seeds: Vec<u64>,
    /// Number of queries behind a surrogate.
    pub queries: Option<u64>,
    /// Name of the figure, such as `HR@10`.
    pub figure: String,
    /// Its mean over users and seeds.
    pub mean: f64,
    /// Lower end of the 95 % interval, over users, and over seeds where there are several.
    pub low: Option<f64>,
    /// Upper end of that interval.
    pub high: Option<f64>,
    /// Sample standard deviation over seeds; of several.
    pub deviation: Option<f64>,
    /// Mean difference to the same model without a defence.
    pub difference: Option<f64>,
    /// Lower end of its 95 % interval, over users, and over seeds where there are several.
    pub difference_low: Option<f64>,
    /// Upper end of that interval.
    pub difference_high: Option<f64>,
    /// Chance of so large a difference were there none.
    pub p: Option<f64>,
    /// The same, corrected for all differences of the report.
    pub p_corrected: Option<f64>,
    /// The mean difference over the standard deviation of the users' differences.
    pub effect: Option<f64>,
    /// Users with whom half of the difference would be seen.
    pub users_needed: Option<u64>,
    /// Seeds with which it would.
    pub seeds_needed: Option<u64>,
}

/// Write the cells to `path`, one row each, in a single row group.
///
/// # Errors
/// A write error.
pub fn write(path: &Path, cells: &[Cell]) -> Result<(), Error> {
    let text = |name, of: fn(&Cell) -> Option<&str>, nullable| {
        let values: StringArray = cells.iter().map(of).collect();
        (Field::new(name, DataType::Utf8, nullable), Arc::new(values) as ArrayRef)
    };
    let number = |name, of: fn(&Cell) -> Option<f64>, nullable| {
        let values: Float64Array = cells.iter().map(of).collect();
        (Field::new(name, DataType::Float64, nullable), Arc::new(values) as ArrayRef)
    };
    let seeds = ListArray::new(
        element(DataType::UInt64),
        OffsetBuffer::from_lengths(cells.iter().map(|cell| cell.seeds.len())),
        Arc::new(cells.iter().flat_map(|cell| cell.seeds.iter().copied()).collect::<UInt64Array>()),
        None,
    );
    let count = |name, of: fn(&Cell) -> Option<u64>| {
        let values: UInt64Array = cells.iter().map(of).collect();
        (Field::new(name, DataType::UInt64, true), Arc::new(values) as ArrayRef)
    };
    let (fields, columns) = [
        text("model", |cell| Some(&cell.model), false),
        text("target", |cell| cell.target.as_deref(), true),
        text("defence", |cell| cell.defence.as_deref(), true),
        text("surrogate", |cell| cell.surrogate.as_deref(), true),
        text("variant", |cell| cell.variant.as_deref(), true),
        (Field::new("seeds", DataType::List(element(DataType::UInt64)), false), Arc::new(seeds)),
        count("queries", |cell| cell.queries),
        text("figure", |cell| Some(&cell.figure), false),
        number("mean", |cell| Some(cell.mean), false),
        number("low", |cell| cell.low, true),
        number("high", |cell| cell.high, true),
        number("deviation", |cell| cell.deviation, true),
        number("difference", |cell| cell.difference, true),
        number("difference_low", |cell| cell.difference_low, true),
        number("difference_high", |cell| cell.difference_high, true),
        number("p", |cell| cell.p, true),
        number("p_corrected", |cell| cell.p_corrected, true),
        number("effect", |cell| cell.effect, true),
        count("users_needed", |cell| cell.users_needed),
        count("seeds_needed", |cell| cell.seeds_needed),
    ]
    .into_iter()
    .unzip();
    let mut table = TableWriter::create(path, fields)?;
    table.group(columns)?;
    table.finish(None)
}
