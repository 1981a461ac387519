//! `history.csv`: what each epoch of a training run measured, one row an epoch, and `speed.csv`: how fast it went.
//!
//! Two files, because they differ in kind. The history is a result: equal inputs give equal bytes, so it is a declared
//! output, and its numbers are written in the shortest form that reads back exactly. The speed depends on the machine
//! and the hour, so it stands beside the outputs undeclared.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::Error;

/// Name of the history inside the output directory of a stage.
pub const HISTORY: &str = "history.csv";
/// Name of the record of speed beside it.
pub const SPEED: &str = "speed.csv";

/// One epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The epoch; 0 is the state before training.
    pub epoch: usize,
    /// The values in the order of [`History::columns`]; `None` where the epoch did not measure one.
    pub values: Vec<Option<f64>>,
}

/// A history in memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// Names of the columns beside `epoch`.
    pub columns: Vec<String>,
    /// The epochs in order.
    pub rows: Vec<Row>,
}

impl History {
    /// Read the history at `path`.
    ///
    /// # Errors
    /// An input error that names the line.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| Error::read(path, "expected a CSV file of epochs", source))?;
        Self::parse(&text, path)
    }

    /// Read as much as there is of a history that a run may be writing: a last line without its end is left out.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_begun(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| Error::read(path, "expected a CSV file of epochs", source))?;
        Self::parse(text.rsplit_once('\n').map_or("", |(whole, _)| whole), path)
    }

    fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        let mut lines = text.lines().enumerate();
        let Some((_, header)) = lines.next() else { return Ok(Self::default()) };
        let Some(("epoch", rest)) = header.split_once(',').or(Some((header, ""))) else {
            return Err(Error::content(
                path,
                format!("line 1 is `{header}`, expected a header that begins with `epoch`"),
            ));
        };
        let columns: Vec<String> =
            if rest.is_empty() { Vec::new() } else { rest.split(',').map(str::to_owned).collect() };
        let mut history = Self { columns, rows: Vec::new() };
        for (index, line) in lines {
            let mut cells = line.split(',');
            let epoch = cells.next().and_then(|cell| cell.parse().ok());
            let values: Option<Vec<Option<f64>>> = cells.map(parse_cell).collect();
            match (epoch, values) {
                (Some(epoch), Some(values)) if values.len() == history.columns.len() => {
                    history.rows.push(Row { epoch, values });
                }
                _ => {
                    let message = format!(
                        "line {} is `{line}`, expected an epoch and {} numbers or empty cells",
                        index + 1,
                        history.columns.len()
                    );
                    return Err(Error::content(path, message));
                }
            }
        }
        Ok(history)
    }

    /// One column as (epoch, value) pairs, without the epochs that did not measure it.
    pub fn series(&self, column: &str) -> Vec<(usize, f64)> {
        let Some(place) = self.columns.iter().position(|name| name == column) else { return Vec::new() };
        self.rows.iter().filter_map(|row| Some((row.epoch, row.values[place]?))).collect()
    }
}

/// `None` for what is no cell; `Some(None)` for an empty one.
#[expect(clippy::option_option, reason = "an empty cell and a malformed one are different things")]
fn parse_cell(cell: &str) -> Option<Option<f64>> {
    if cell.is_empty() { Some(None) } else { cell.parse().ok().map(Some) }
}

/// Writes a history, each row on disk before the next epoch begins.
pub struct HistoryWriter {
    path: PathBuf,
    file: File,
    columns: Vec<String>,
    begun: bool,
}

impl HistoryWriter {
    /// Begin an empty history at `path`.
    pub fn create(path: &Path) -> Result<Self, Error> {
        let file = File::create(path).map_err(|source| Error::write(path, source))?;
        Ok(Self { path: path.to_owned(), file, columns: Vec::new(), begun: false })
    }

    /// Continue the history `earlier` at `path`, from its rows up to and including epoch `last`; later rows were measured
    /// after the state that is being resumed, and are dropped.
    pub fn resume(path: &Path, earlier: &History, last: usize) -> Result<Self, Error> {
        let mut writer = Self::create(path)?;
        for row in earlier.rows.iter().filter(|row| row.epoch <= last) {
            let named: Vec<_> =
                earlier.columns.iter().map(String::as_str).zip(row.values.iter().copied()).collect();
            writer.push(row.epoch, &named)?;
        }
        Ok(writer)
    }

    /// Add an epoch. The first row fixes the columns; name there also those it cannot fill yet, with `None`. In later
    /// rows a column left out is an empty cell.
    ///
    /// # Errors
    /// A write error; also for a column that the first row did not name, or a name that would break the CSV.
    pub fn push(&mut self, epoch: usize, values: &[(&str, Option<f64>)]) -> Result<(), Error> {
        let mut text = String::new();
        if !self.begun {
            if let Some((name, _)) = values.iter().find(|(name, _)| name.contains([',', '"', '\n', '\r'])) {
                return Err(Error::unwritable(&self.path, format!("`{name}` is no name for a column")));
            }
            self.columns = values.iter().map(|(name, _)| (*name).to_owned()).collect();
            text.push_str("epoch");
            for name in &self.columns {
                text.push(',');
                text.push_str(name);
            }
            text.push('\n');
            self.begun = true;
        }
        if let Some((name, _)) =
            values.iter().find(|(name, _)| !self.columns.iter().any(|column| column == name))
        {
            let message = format!("epoch {epoch} has a column `{name}` that the first row did not name");
            return Err(Error::unwritable(&self.path, message));
        }
        text.push_str(&epoch.to_string());
        for column in &self.columns {
            text.push(',');
            let value = values.iter().find(|(name, _)| name == column).and_then(|(_, value)| *value);
            if let Some(value) = value {
                text.push_str(&value.to_string());
            }
        }
        text.push('\n');
        self.file.write_all(text.as_bytes()).map_err(|source| Error::write(&self.path, source))
    }
}

/// Writes `speed.csv`: `epoch,seconds,samples_per_second`.
pub struct SpeedWriter {
    path: PathBuf,
    file: File,
}

impl SpeedWriter {
    /// Begin an empty record at `path`.
    pub fn create(path: &Path) -> Result<Self, Error> {
        let mut file = File::create(path).map_err(|source| Error::write(path, source))?;
        file.write_all(b"epoch,seconds,samples_per_second\n").map_err(|source| Error::write(path, source))?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Add an epoch that took `seconds` for `samples` training samples.
    pub fn push(&mut self, epoch: usize, seconds: f64, samples: usize) -> Result<(), Error> {
        let rate = if seconds > 0.0 { samples as f64 / seconds } else { 0.0 };
        writeln!(self.file, "{epoch},{seconds:.3},{rate:.1}")
            .map_err(|source| Error::write(&self.path, source))
    }
}
