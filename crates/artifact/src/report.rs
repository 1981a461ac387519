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
    /// Lower end of the 95 % interval over users; of one seed.
    pub low: Option<f64>,
    /// Upper end of that interval.
    pub high: Option<f64>,
    /// Sample standard deviation over seeds; of several.
    pub deviation: Option<f64>,
    /// Mean difference to the same model without a defence.
    pub difference: Option<f64>,
    /// Lower end of its 95 % interval over users.
    pub difference_low: Option<f64>,
    /// Upper end of that interval.
    pub difference_high: Option<f64>,
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
    let queries: UInt64Array = cells.iter().map(|cell| cell.queries).collect();
    let (fields, columns) = [
        text("model", |cell| Some(&cell.model), false),
        text("target", |cell| cell.target.as_deref(), true),
        text("defence", |cell| cell.defence.as_deref(), true),
        text("surrogate", |cell| cell.surrogate.as_deref(), true),
        text("variant", |cell| cell.variant.as_deref(), true),
        (Field::new("seeds", DataType::List(element(DataType::UInt64)), false), Arc::new(seeds)),
        (Field::new("queries", DataType::UInt64, true), Arc::new(queries)),
        text("figure", |cell| Some(&cell.figure), false),
        number("mean", |cell| Some(cell.mean), false),
        number("low", |cell| cell.low, true),
        number("high", |cell| cell.high, true),
        number("deviation", |cell| cell.deviation, true),
        number("difference", |cell| cell.difference, true),
        number("difference_low", |cell| cell.difference_low, true),
        number("difference_high", |cell| cell.difference_high, true),
    ]
    .into_iter()
    .unzip();
    let mut table = TableWriter::create(path, fields)?;
    table.group(columns)?;
    table.finish(None)
}
