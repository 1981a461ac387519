//! `report.csv`: every figure of every cell on a line of its own, for whoever goes on from here with pandas or DuckDB.

use std::path::Path;

use anyhow::Context;

use crate::figures::Figure;
use crate::table::{Model, Row, Spread, Table};

const COLUMNS: [&str; 15] = [
    "model",
    "target",
    "defense",
    "surrogate",
    "variant",
    "seeds",
    "queries",
    "figure",
    "mean",
    "low",
    "high",
    "deviation",
    "difference",
    "difference_low",
    "difference_high",
];

/// Write the table in long form. A cell is empty where there is nothing to say: `deviation` of a single seed, `low` and
/// `high` of several.
///
/// Fails where the file cannot be written.
pub fn write(table: &Table, path: &Path) -> anyhow::Result<()> {
    let failed = || format!("cannot write {}", path.display());
    let mut file = csv::Writer::from_path(path).with_context(failed)?;
    file.write_record(COLUMNS).with_context(failed)?;
    for row in &table.rows {
        for record in records(row) {
            file.write_record(&record).with_context(failed)?;
        }
    }
    file.flush().with_context(failed)
}

/// The lines of a row, one for each figure.
fn records(row: &Row) -> impl Iterator<Item = Vec<String>> {
    let model = match row.model {
        Model::Popular => "popular",
        Model::Target => "target",
        Model::Surrogate => "surrogate",
    };
    let seeds = row.seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(" ");
    row.figures.iter().map(move |(name, value)| {
        let (low, high, deviation) = match value.spread {
            Spread::Interval { low, high } => (Some(low), Some(high), None),
            Spread::Seeds { deviation } => (None, None, Some(deviation)),
        };
        let difference = row.difference_to_none.as_ref().and_then(|figures| figures.get(name));
        let of = |part: fn(&Figure) -> f64| text(difference.map(part));
        vec![
            model.to_owned(),
            text(row.target),
            text(row.defense.as_ref()),
            text(row.surrogate),
            text(row.variant.as_ref()),
            seeds.clone(),
            text(row.queries.as_ref().map(|header| header.queries)),
            name.clone(),
            value.mean.to_string(),
            text(low),
            text(high),
            text(deviation),
            of(|figure| figure.mean),
            of(|figure| figure.low),
            of(|figure| figure.high),
        ]
    })
}

/// The shortest form that reads back exactly, or nothing.
fn text(value: Option<impl ToString>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}
