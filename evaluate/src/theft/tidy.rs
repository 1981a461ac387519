//! `theft.csv`: every figure of every point on a line of its own.

use std::path::Path;

use anyhow::Context;

use super::curves::Theft;
use crate::report::table::Spread;

const COLUMNS: [&str; 16] = [
    "target",
    "defence",
    "surrogate",
    "strategy",
    "k",
    "learning",
    "accounts",
    "questions",
    "items_listed",
    "real_sequences",
    "seeds",
    "figure",
    "mean",
    "low",
    "high",
    "deviation",
];

/// Write the curves as text. `deviation` is empty of a single seed, `low` and `high` of the fidelity of several.
///
/// Fails where the file cannot be written.
pub fn write_csv(theft: &Theft, path: &Path) -> anyhow::Result<()> {
    let failed = || format!("cannot write {}", path.display());
    let mut file = csv::Writer::from_path(path).with_context(failed)?;
    file.write_record(COLUMNS).with_context(failed)?;
    for curve in &theft.curves {
        let thief = &curve.thief;
        for point in &curve.points {
            let seeds: Vec<String> = point.seeds.iter().map(u64::to_string).collect();
            for (figure, value) in &point.figures {
                let shown = |end: Option<f64>| end.map(|end| end.to_string()).unwrap_or_default();
                let (low, high) = value.interval().unzip();
                let deviation = match value.spread {
                    Spread::Interval { .. } => None,
                    Spread::Seeds { deviation, .. } => Some(deviation),
                };
                let record = [
                    thief.target.to_string(),
                    thief.defence.clone(),
                    thief.surrogate.to_string(),
                    thief.strategy.clone(),
                    thief.k.to_string(),
                    thief.learning.clone(),
                    point.price.accounts.to_string(),
                    point.price.questions.to_string(),
                    point.price.items_listed.to_string(),
                    point.price.real_sequences.to_string(),
                    seeds.join(" "),
                    figure.clone(),
                    value.mean.to_string(),
                    shown(low),
                    shown(high),
                    shown(deviation),
                ];
                file.write_record(record).with_context(failed)?;
            }
        }
    }
    file.flush().with_context(failed)
}
