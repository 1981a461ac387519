//! Parquet tables, row group by row group. Only the columns that the settings name are read, and their types are checked
//! before the first row is.

use std::fs::File;
use std::path::{Path, PathBuf};

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use arrow::record_batch::RecordBatch;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use stage::Refusal;
use stage::settings::Columns;

use crate::read::fault::{Fault, shorten};
use crate::read::interactions::Block;
use crate::read::schema::named_columns;
use crate::read::timestamps::{self, Timestamp};

/// A Parquet file whose columns were checked.
#[derive(Debug)]
pub struct Table {
    path: PathBuf,
    metadata: ArrowReaderMetadata,
    columns: Columns,
    min_rating: f64,
    /// The places of the columns in the file.
    places: Vec<usize>,
}

impl Table {
    /// Opens a file of which `columns` are read; rows rated below `min_rating` are dropped.
    ///
    /// # Errors
    /// A refusal: no Parquet file, no such column, or one of a type that cannot hold what it should.
    pub fn open(path: &Path, columns: &Columns, min_rating: f64) -> anyhow::Result<Self> {
        let unreadable = |error: parquet::errors::ParquetError| {
            let message = format!("cannot read {}, expected a whole Parquet file", path.display());
            Refusal::because(message, error)
        };
        let file = File::open(path).map_err(|error| unreadable(error.into()))?;
        // Parquet's own types, not those of an Arrow schema beside them: then all text is Utf8, whatever wrote the file.
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let metadata = ArrowReaderMetadata::load(&file, options).map_err(unreadable)?;
        let mut places = Vec::new();
        for (role, name) in ["user", "item", "rating", "timestamp"].iter().zip(named_columns(columns)) {
            let Some(name) = name else { continue };
            let Some((place, field)) = metadata.schema().column_with_name(name) else {
                let names: Vec<&str> =
                    metadata.schema().fields().iter().map(|field| field.name().as_str()).collect();
                let message =
                    format!("{}: no column `{name}`; its columns are {}", path.display(), names.join(", "));
                return Err(Refusal::new(message).into());
            };
            if let Err(expected) = check_type(role, field.data_type()) {
                let message = format!(
                    "{}: column `{name}` has the type {}, expected {expected}",
                    path.display(),
                    field.data_type()
                );
                return Err(Refusal::new(message).into());
            }
            places.push(place);
        }
        Ok(Self { path: path.to_owned(), metadata, columns: columns.clone(), min_rating, places })
    }

    /// How many row groups there are.
    pub fn groups(&self) -> usize {
        self.metadata.metadata().num_row_groups()
    }

    /// The bytes of a row group in the file.
    pub fn group_bytes(&self, group: usize) -> u64 {
        self.metadata.metadata().row_group(group).compressed_size().max(0) as u64
    }

    /// What share of all rows a row group has.
    pub fn share(&self, group: usize) -> f64 {
        let all = self.metadata.metadata().file_metadata().num_rows();
        self.metadata.metadata().row_group(group).num_rows() as f64 / all as f64
    }

    /// The rows of a row group.
    ///
    /// # Errors
    /// The first row that lacks a value or has one that cannot be used, counted from 1 over the whole file.
    pub fn parse(&self, group: usize) -> Result<Block, Fault> {
        let broken = |message: String| Fault::File(format!("row group {group} cannot be read: {message}"));
        let file = File::open(&self.path).map_err(|error| broken(error.to_string()))?;
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone());
        let projection = ProjectionMask::roots(builder.parquet_schema(), self.places.iter().copied());
        let batches = builder.with_projection(projection).with_row_groups(vec![group]).build();
        let groups = self.metadata.metadata().row_groups();
        let mut row = groups[..group].iter().map(|group| group.num_rows() as u64).sum::<u64>() + 1;
        let mut block = Block::default();
        for batch in batches.map_err(|error| broken(error.to_string()))? {
            let batch = batch.map_err(|error| broken(error.to_string()))?;
            self.push(&mut block, &batch, row)?;
            row += batch.num_rows() as u64;
        }
        Ok(block)
    }

    /// Adds the rows of `batch`, of which the first is row `first` of the file.
    fn push(&self, block: &mut Block, batch: &RecordBatch, first: u64) -> Result<(), Fault> {
        let [user, item, rating, timestamp] = named_columns(&self.columns);
        let (users, items) = (texts(batch, user)?, texts(batch, item)?);
        let ratings = rating.map(|name| floats(batch, name)).transpose()?;
        let times = timestamp.map(|name| Times::of(batch, name)).transpose()?;
        for row in 0..batch.num_rows() {
            let at = |name: Option<&str>, found: &str, expected: &str| {
                let name = name.unwrap_or_default();
                let number = first + row as u64;
                Fault::File(format!("row {number}: column `{name}` is {found}, expected {expected}"))
            };
            let id = |column: &StringArray, name| match column.is_valid(row) {
                true if column.value(row).is_empty() => Err(at(name, "empty", "a raw id")),
                true => Ok(()),
                false => Err(at(name, "null", "a raw id")),
            };
            id(&users, user)?;
            id(&items, item)?;
            let time = match &times {
                Some(times) => {
                    Some(times.at(row).map_err(|found| at(timestamp, &found, timestamps::EXPECTED))?)
                }
                None => None,
            };
            if let Some(ratings) = &ratings {
                if ratings.is_null(row) || !ratings.value(row).is_finite() {
                    return Err(at(rating, "null or not finite", "a number"));
                }
                if ratings.value(row) < self.min_rating {
                    block.skip();
                    continue;
                }
            }
            block.push(users.value(row), items.value(row), time)?;
        }
        Ok(())
    }
}

/// Checks the type of the column for `role`; the error says which types it may have.
fn check_type(role: &str, found: &DataType) -> Result<(), &'static str> {
    let time = matches!(found, DataType::Utf8 | DataType::Timestamp(..) | DataType::Date32);
    let (fits, expected) = match role {
        "user" | "item" => (found.is_integer() || *found == DataType::Utf8, "text or integers"),
        "rating" => (found.is_integer() || found.is_floating(), "numbers"),
        _ => (found.is_integer() || found.is_floating() || time, "numbers, dates, times, or text with those"),
    };
    if fits { Ok(()) } else { Err(expected) }
}

/// A column of a batch as another type; what does not fit it becomes null.
fn column(batch: &RecordBatch, name: &str, to: &DataType) -> Result<ArrayRef, Fault> {
    let column = batch
        .column_by_name(name)
        .ok_or_else(|| Fault::File(format!("no column `{name}` in a row group")))?;
    cast(column, to).map_err(|error| Fault::File(format!("column `{name}`: {error}")))
}

fn texts(batch: &RecordBatch, name: Option<&str>) -> Result<StringArray, Fault> {
    Ok(column(batch, name.unwrap_or_default(), &DataType::Utf8)?.as_string::<i32>().clone())
}

fn floats(batch: &RecordBatch, name: &str) -> Result<Float64Array, Fault> {
    Ok(column(batch, name, &DataType::Float64)?.as_primitive::<Float64Type>().clone())
}

/// A column of times.
enum Times {
    /// Integers, and dates and times in the unit of their column.
    Whole(Int64Array),
    Float(Float64Array),
    Text(StringArray),
}

impl Times {
    fn of(batch: &RecordBatch, name: &str) -> Result<Self, Fault> {
        Ok(match batch.column_by_name(name).map(Array::data_type) {
            Some(DataType::Utf8) => Self::Text(texts(batch, Some(name))?),
            Some(kind) if kind.is_floating() => Self::Float(floats(batch, name)?),
            _ => Self::Whole(column(batch, name, &DataType::Int64)?.as_primitive::<Int64Type>().clone()),
        })
    }

    /// The time in a row; the error is what stands there instead.
    fn at(&self, row: usize) -> Result<Timestamp, String> {
        let valid = match self {
            Self::Whole(column) => column.is_valid(row),
            Self::Float(column) => column.is_valid(row),
            Self::Text(column) => column.is_valid(row),
        };
        if !valid {
            return Err("null or out of range".to_owned());
        }
        match self {
            Self::Whole(column) => Ok(Timestamp::Whole(column.value(row))),
            Self::Float(column) if column.value(row).is_finite() => Ok(Timestamp::Float(column.value(row))),
            Self::Float(column) => Err(column.value(row).to_string()),
            Self::Text(column) => {
                Timestamp::parse(column.value(row)).ok_or_else(|| shorten(column.value(row)))
            }
        }
    }
}
