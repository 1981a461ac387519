//! JSON summaries: `metrics.json`, `report.json`, `stats.json`. Numbers in their shortest exact form, keys in the order
//! of the value given (fields of a struct as declared, maps as they iterate: use sorted maps), one per line, so that a
//! diff of two runs shows exactly what changed.

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Error;

/// Write `value` as indented JSON. A number that is not finite becomes `null`.
pub fn write(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|source| Error::write(path, source))?;
    text.push(b'\n');
    std::fs::write(path, text).map_err(|source| Error::write(path, source))
}

/// Read a value: a struct of its own, or [`serde_json::Value`] for whatever there is.
///
/// # Errors
/// An input error; the cause names line and column.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let text = std::fs::read(path).map_err(|source| Error::read(path, "expected a JSON file", source))?;
    serde_json::from_slice(&text).map_err(|source| {
        Error::read(path, "expected JSON as the stage that makes it writes it; rerun that stage", source)
    })
}
