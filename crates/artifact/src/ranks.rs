//! `ranks.parquet`: one row for each evaluated user. Kept beside the means, because comparing two systems fairly is
//! comparing them user by user, and because any other metric can be had from it later.

use std::path::Path;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, Float64Array, UInt32Array};
use arrow_schema::{DataType, Field};

use crate::Error;
use crate::table::{TableReader, TableWriter, column, type_name};

/// Name of the table inside the output directory of a stage.
pub const RANKS: &str = "ranks.parquet";

/// Rows of a row group.
const GROUP_ROWS: usize = 65_536;

/// A column beside `user`.
#[derive(Clone, Debug, PartialEq)]
pub enum Column {
    /// Ranks or counts, `uint32`. A rank counts from 1; `None` is a test item outside the answered list.
    Counts(Vec<Option<u32>>),
    /// Measured values, `double`; `None` where there was nothing to measure.
    Values(Vec<Option<f64>>),
}

impl Column {
    /// Number of rows.
    pub fn len(&self) -> usize {
        match self {
            Self::Counts(values) => values.len(),
            Self::Values(values) => values.len(),
        }
    }

    /// True without rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The table in memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ranks {
    /// User ids, as in `users.parquet`.
    pub users: Vec<u32>,
    /// Further columns by name, in the order of the file: `rank` first, by custom.
    pub columns: Vec<(String, Column)>,
}

impl Ranks {
    /// The column of that name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|(found, _)| found == name).map(|(_, column)| column)
    }

    /// Write the table to `path`.
    ///
    /// # Errors
    /// A write error; also when a column has another length than `users`.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let mut fields = vec![Field::new("user", DataType::UInt32, false)];
        for (name, column) in &self.columns {
            if column.len() != self.users.len() {
                let message =
                    format!("column `{name}` has {} rows for {} users", column.len(), self.users.len());
                return Err(Error::unwritable(path, message));
            }
            let of = match column {
                Column::Counts(_) => DataType::UInt32,
                Column::Values(_) => DataType::Float64,
            };
            fields.push(Field::new(name, of, true));
        }
        let mut table = TableWriter::create(path, fields)?;
        for start in (0..self.users.len()).step_by(GROUP_ROWS) {
            let rows = start..self.users.len().min(start + GROUP_ROWS);
            let mut columns: Vec<ArrayRef> =
                vec![Arc::new(UInt32Array::from(self.users[rows.clone()].to_vec()))];
            for (_, column) in &self.columns {
                columns.push(match column {
                    Column::Counts(values) => Arc::new(UInt32Array::from(values[rows.clone()].to_vec())),
                    Column::Values(values) => Arc::new(Float64Array::from(values[rows.clone()].to_vec())),
                });
            }
            table.group(columns)?;
        }
        table.finish(None)
    }

    /// Read the table at `path` with all its columns.
    ///
    /// # Errors
    /// An input error: not there, truncated, no column `user`, a column that is neither `uint32` nor `double`.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let table = TableReader::open(path, false)?;
        table.require(&[("user", DataType::UInt32)])?;
        let mut ranks = Self::default();
        for (name, of) in table.columns() {
            let column = match of {
                _ if name == "user" => continue,
                DataType::UInt32 => Column::Counts(Vec::new()),
                DataType::Float64 => Column::Values(Vec::new()),
                other => {
                    let message =
                        format!("column `{name}` is {}, expected uint32 or float64", type_name(&other));
                    return Err(Error::content(path, message));
                }
            };
            ranks.columns.push((name, column));
        }
        for batch in table.batches(None)? {
            let batch = batch?;
            let users: &UInt32Array = column(path, &batch, "user")?;
            ranks.users.extend_from_slice(users.values());
            for (name, column) in &mut ranks.columns {
                let array = batch.column_by_name(name).map(Array::as_any);
                let counts = array.and_then(|array| array.downcast_ref::<UInt32Array>());
                let numbers = array.and_then(|array| array.downcast_ref::<Float64Array>());
                match (column, counts, numbers) {
                    (Column::Counts(values), Some(array), _) => values.extend(array),
                    (Column::Values(values), _, Some(array)) => values.extend(array),
                    _ => return Err(Error::content(path, format!("column `{name}` changes its type"))),
                }
            }
        }
        Ok(ranks)
    }
}
