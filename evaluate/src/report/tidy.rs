//! `report.csv` and `report.parquet`: every figure of every model on a line of its own, for whoever goes on from here with
//! pandas or DuckDB.

use std::path::Path;

use anyhow::Context;
use artifact::report::Cell;

use super::inference::Difference;
use super::table::{Model, Row, Spread, Table};

const COLUMNS: [&str; 20] = [
    "model",
    "target",
    "defence",
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
    "p",
    "p_corrected",
    "effect",
    "users_needed",
    "seeds_needed",
];

/// The table in long form. `deviation` is absent of a single seed; `low` and `high` of several where a figure is not kept user by
/// user.
pub fn cells(table: &Table) -> Vec<Cell> {
    table.rows.iter().flat_map(cells_of).collect()
}

/// The figures of a row.
fn cells_of(row: &Row) -> impl Iterator<Item = Cell> {
    let model = match row.model {
        Model::Popular => "popular",
        Model::Target => "target",
        Model::Surrogate => "surrogate",
    };
    row.figures.iter().map(move |(name, value)| {
        let (low, high) = value.interval().unzip();
        let deviation = match value.spread {
            Spread::Interval { .. } => None,
            Spread::Seeds { deviation, .. } => Some(deviation),
        };
        let difference = row.difference_to_none.as_ref().and_then(|figures| figures.get(name));
        let of = |part: fn(&Difference) -> f64| difference.map(part);
        Cell {
            model: model.to_owned(),
            target: row.target.map(|architecture| architecture.to_string()),
            defence: row.defence.clone(),
            surrogate: row.surrogate.map(|architecture| architecture.to_string()),
            variant: row.variant.clone(),
            seeds: row.seeds.clone(),
            queries: row.queries.as_ref().map(|header| header.queries),
            figure: name.clone(),
            mean: value.mean,
            low,
            high,
            deviation,
            difference: of(|figure| figure.mean),
            difference_low: of(|figure| figure.low),
            difference_high: of(|figure| figure.high),
            p: of(|figure| figure.p),
            p_corrected: of(|figure| figure.p_corrected),
            effect: of(|figure| figure.effect),
            users_needed: difference.and_then(|figure| figure.users_needed),
            seeds_needed: difference.and_then(|figure| figure.seeds_needed),
        }
    })
}

/// Write cells as text. A field is empty where there is nothing to say.
///
/// Fails where the file cannot be written.
pub fn write_csv(cells: &[Cell], path: &Path) -> anyhow::Result<()> {
    let failed = || format!("cannot write {}", path.display());
    let mut file = csv::Writer::from_path(path).with_context(failed)?;
    file.write_record(COLUMNS).with_context(failed)?;
    for cell in cells {
        file.write_record(record(cell)).with_context(failed)?;
    }
    file.flush().with_context(failed)
}

/// The fields of a line, in the order of [`COLUMNS`].
fn record(cell: &Cell) -> [String; COLUMNS.len()] {
    [
        cell.model.clone(),
        text(cell.target.as_ref()),
        text(cell.defence.as_ref()),
        text(cell.surrogate.as_ref()),
        text(cell.variant.as_ref()),
        cell.seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(" "),
        text(cell.queries),
        cell.figure.clone(),
        cell.mean.to_string(),
        text(cell.low),
        text(cell.high),
        text(cell.deviation),
        text(cell.difference),
        text(cell.difference_low),
        text(cell.difference_high),
        text(cell.p),
        text(cell.p_corrected),
        text(cell.effect),
        text(cell.users_needed),
        text(cell.seeds_needed),
    ]
}

/// The shortest form that reads back exactly, or nothing.
fn text(value: Option<impl ToString>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}
