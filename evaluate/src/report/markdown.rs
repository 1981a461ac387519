//! The report as Markdown, with tables aligned so that they read as well in a terminal.
//!
//! Two layouts. With one target architecture and one surrogate architecture a row is a model and the columns are figures.
//! With more of either, a *grid* reads better: a table for each figure, a row for each target and defence, a column for
//! the target itself and one for each surrogate. Variants of a cell (see [`super::grouping`]) have no place in a grid, so
//! they are listed as well. Every table has the protocol under it: a figure means nothing without.

use std::fmt::Write as _;

use metrics::{Better, Cut, Ks, Measure};
use service::policies::POLICIES;

use super::inference::Difference;
use super::references;
use super::table::{Model, Row, Spread, Table, Value};
use super::words::{chance, needed, what_was_found, what_was_run};
use crate::figures::{Network, budget_of, grouped};

/// The report of a table.
pub fn markdown(table: &Table) -> String {
    let mut text = String::from("# Target and surrogate under each defence\n\n");
    let _ = writeln!(text, "{} {}\n", what_was_run(table), what_was_found(table));
    introduce(table, &mut text);
    if is_grid(table) {
        grids(table, &mut text);
    } else {
        lists(table, &mut text);
    }
    tests(table, &mut text);
    text.push_str(&references::markdown(table));
    text
}

/// True where a table for each figure reads better than one row for each model.
pub fn is_grid(table: &Table) -> bool {
    // A table of lists comes with every target.
    let learned = table.surrogates().into_iter().filter(|&kind| kind != Network::TABLE).count();
    (table.targets().len() > 1 || learned > 1) && table.rows.iter().all(|row| row.variant.is_none())
}

/// What the reader needs to know of all tables.
fn introduce(table: &Table, text: &mut String) {
    let spread = spread(table);
    if !table.protocol.held_out.is_test() {
        let _ = writeln!(
            text,
            "**Judged by validation items**, to choose settings: where a test item is spoken of, it is the last item but one of each user.\n"
        );
    }
    let policies: Vec<String> = POLICIES.names().skip(1).map(|name| format!("`{name}`")).collect();
    let _ = writeln!(
        text,
        "A target behind {} is judged by its answered list of {}: outside the list is a miss.\n{spread}\n",
        policies.join(" or "),
        table.protocol.top_k
    );
    if table.targets().contains(&Network::FOREIGN) {
        let _ = writeln!(
            text,
            "Of a target run by others nothing is seen but its answered lists of {}: outside the list is a miss, its defence is not known, and \
             neither its ranking beyond the list nor its scores can be measured.\n",
            table.protocol.top_k
        );
    }
    legend(&metrics::of_ranks(Ks::First(&table.ks)), text);
    text.push('\n');
    let budgets = budgets(table);
    match budgets.as_slice() {
        [] => {}
        [(budget, _)] => {
            let _ = writeln!(text, "Query budget of every surrogate: {budget}.\n");
        }
        several => {
            text.push_str("Query budgets:\n\n");
            for (budget, surrogates) in several {
                let _ = writeln!(text, "- {budget}: {}", surrogates.join("; "));
            }
            text.push('\n');
        }
    }
}

/// What brackets and signs say.
pub fn spread(table: &Table) -> String {
    match table.seeds.len() {
        1 => "In brackets: 95 % bootstrap interval over the users. One seed: nothing here says how another training run \
              would have come out."
            .to_owned(),
        seeds => format!(
            "±: standard deviation over {seeds} seeds. In brackets: 95 % interval over users and seeds together; over the users \
             alone where a model has one seed."
        ),
    }
}

/// What the differences of the first figure that is drawn rest on: chance, size, and what more would have to be measured.
fn tests(table: &Table, text: &mut String) {
    let Some(figure) = table.drawn().into_iter().next() else { return };
    let of = |row: &Row| row.difference_to_none.as_ref()?.get(&figure).copied();
    let heading =
        ["model", "defence", "difference", "p", "corrected", "effect", "users needed", "seeds needed"]
            .map(str::to_owned);
    let body = table.rows.iter().filter_map(|row| {
        let difference = of(row)?;
        let [model, defence] = names(table, row);
        Some([&[model, defence], &tested(&difference)[..]].concat())
    });
    let rows: Vec<Vec<String>> = std::iter::once(heading.to_vec()).chain(body).collect();
    if rows.len() == 1 {
        return;
    }
    let _ = writeln!(text, "\n## What can be told from chance: {figure}\n\n{}\n", explained(table, &figure));
    print(table, text, &rows);
}

/// What the columns of tests say.
pub fn explained(table: &Table, figure: &str) -> String {
    let seeds = if table.seeds.len() == 1 {
        "With one seed chance is which users were asked, and no other training run. "
    } else {
        "Chance is which users were asked and which seeds were drawn. "
    };
    format!(
        "{seeds}p: chance of so large a difference were there none. Corrected: for the {} differences by {figure} in this report (Holm), so that the chance of \
         any false alarm among those below .05 is 5 %. Effect: the mean difference over the standard deviation of the users' own \
         differences; .2 is called small, .5 middling, .8 large. Needed: with so many users (under as many seeds), or so many seeds (on these \
         users), half the difference would be seen four times in five, if spreads stay as they were found.",
        grouped(table.comparisons.get(figure).copied().unwrap_or(0) as u64)
    )
}

/// The cells of a tested difference.
pub(super) fn tested(difference: &Difference) -> Vec<String> {
    let seeds = if difference.seeds > 1 { needed(difference.seeds_needed) } else { "not known".to_owned() };
    vec![
        signed(difference),
        chance(difference.p),
        chance(difference.p_corrected),
        format!("{:+.2}", difference.effect),
        needed(difference.users_needed),
        seeds,
    ]
}

/// What was asked for the surrogates, in words, and for which of them.
fn budgets(table: &Table) -> Vec<(String, Vec<String>)> {
    let mut budgets: Vec<(String, Vec<String>)> = Vec::new();
    for row in table.rows.iter().filter(|row| row.model == Model::Surrogate) {
        let budget = row.queries.as_ref().map_or_else(|| "not recorded".to_owned(), budget_of);
        let [surrogate, defence] = names(table, row);
        let label =
            format!("{surrogate} of {} under {defence}", row.target.map_or("", |target| target.title));
        match budgets.iter_mut().find(|(found, _)| *found == budget) {
            Some((_, labels)) => labels.push(label),
            None => budgets.push((budget, vec![label])),
        }
    }
    budgets
}

const DIFFERENCE: &str = "\n## Difference to the same model without a defence\n\n\
     User by user, on the same users and seeds. **Bold**: can be told from chance at 5 %, all differences of this report by \
     the same figure considered (Holm).\n\n";
const FIDELITY: &str = "\n## How closely a surrogate repeats its target\n\n\
     On the test histories. Lists are compared with those that the target answers, scores with the target's own.\n\n";

/// What figures say, a line each.
fn legend<Function>(measures: &[Measure<Function>], text: &mut String) {
    for metric in measures.iter().map(|measure| measure.metric) {
        let at_k = if matches!(metric.cut, Cut::AtK { .. }) { "@K" } else { "" };
        let direction = if metric.better == Better::Lower { " (the lower, the better)" } else { "" };
        let _ = writeln!(text, "- {}{at_k}: {}{direction}", metric.name, metric.meaning);
    }
}

/// What is said before the tables of fidelity.
fn introduce_fidelity(table: &Table, text: &mut String) {
    text.push_str(FIDELITY);
    legend(&metrics::of_lists(Ks::First(&table.ks)), text);
    legend(&metrics::of_scores(Ks::First(&table.ks)), text);
}

/// The names of the columns of quality.
fn quality(ks: Ks<'_>) -> Vec<String> {
    metrics::of_ranks(ks).iter().map(ToString::to_string).collect()
}

/// The names of the columns of fidelity.
fn fidelity(ks: Ks<'_>) -> Vec<String> {
    let (lists, scores) = (metrics::of_lists(ks), metrics::of_scores(ks));
    lists.iter().map(ToString::to_string).chain(scores.iter().map(ToString::to_string)).collect()
}

/// A row for each model, a column for each figure.
fn lists(table: &Table, text: &mut String) {
    let (quality, fidelity) = (quality(Ks::Shown(&table.ks)), fidelity(Ks::Shown(&table.ks)));
    let rows = || table.rows.iter();
    let list = |figures: &[String], chosen: Vec<(&Row, Vec<String>)>| {
        let heading =
            ["model", "defence"].map(str::to_owned).into_iter().chain(figures.iter().cloned()).collect();
        let body =
            chosen.into_iter().map(|(row, cells)| names(table, row).into_iter().chain(cells).collect());
        std::iter::once(heading).chain(body).collect::<Vec<Vec<String>>>()
    };
    let values = |figures: &[String], row: &Row| -> Vec<String> {
        figures.iter().map(|name| row.figures.get(name).map_or(String::new(), plain)).collect()
    };
    print(table, text, &list(&quality, rows().map(|row| (row, values(&quality, row))).collect()));

    let surrogates = rows().filter(|row| row.model == Model::Surrogate);
    let cells: Vec<_> = surrogates.map(|row| (row, values(&fidelity, row))).collect();
    if !cells.is_empty() {
        introduce_fidelity(table, text);
        text.push('\n');
        print(table, text, &list(&fidelity, cells));
    }

    let compared = rows().filter_map(|row| Some((row, row.difference_to_none.as_ref()?)));
    let cells: Vec<_> = compared
        .map(|(row, differences)| {
            (row, quality.iter().map(|name| differences.get(name).map_or(String::new(), signed)).collect())
        })
        .collect();
    if !cells.is_empty() {
        text.push_str(DIFFERENCE);
        print(table, text, &list(&quality, cells));
    }
}

/// A table for each figure: targets and defences down, the target and its surrogates across.
fn grids(table: &Table, text: &mut String) {
    text.push_str(
        "Rows: the target and its defence. Columns: the target itself, and each surrogate that copied it.\n",
    );
    for name in quality(Ks::First(&table.ks)) {
        let _ = writeln!(text, "\n## {name}\n");
        print(table, text, &grid(table, true, |row| row.figures.get(&name).map(plain)));
    }
    if !table.surrogates().is_empty() {
        introduce_fidelity(table, text);
        for name in fidelity(Ks::First(&table.ks)) {
            let _ = writeln!(text, "\n### {name}\n");
            print(table, text, &grid(table, false, |row| row.figures.get(&name).map(plain)));
        }
    }
    if table.rows.iter().any(|row| row.difference_to_none.is_some()) {
        text.push_str(DIFFERENCE.trim_end_matches('\n'));
        text.push('\n');
        for name in table.drawn() {
            let _ = writeln!(text, "\n### {name}, difference\n");
            let cell = |row: &Row| row.difference_to_none.as_ref()?.get(&name).map(signed);
            let cells = grid(table, true, cell);
            let filled = cells.into_iter().enumerate();
            let kept =
                filled.filter(|(place, row)| *place == 0 || row[2..].iter().any(|cell| !cell.is_empty()));
            print(table, text, &kept.map(|(_, row)| row).collect::<Vec<_>>());
        }
    }
}

fn grid(table: &Table, with_target: bool, cell: impl Fn(&Row) -> Option<String>) -> Vec<Vec<String>> {
    let surrogates = table.surrogates();
    let mut heading = vec!["target".to_owned(), "defence".to_owned()];
    if with_target {
        heading.push("the target itself".to_owned());
    }
    heading.extend(surrogates.iter().map(|&architecture| format!("surrogate {}", architecture.title)));
    let mut rows = vec![heading];
    if let Some(found) = table.popular().filter(|_| with_target).and_then(&cell) {
        let mut row = vec!["most popular items".to_owned(), String::new(), found];
        row.resize(rows[0].len(), String::new());
        rows.push(row);
    }
    for target in table.rows.iter().filter(|row| row.model == Model::Target) {
        let mut row =
            vec![target.target.map_or("", |target| target.title).to_owned(), names(table, target)[1].clone()];
        if with_target {
            row.push(cell(target).unwrap_or_default());
        }
        row.extend(surrogates.iter().map(|&architecture| {
            surrogate_of(table, target, architecture).and_then(&cell).unwrap_or_default()
        }));
        rows.push(row);
    }
    rows
}

/// The surrogate of an architecture that copied the target of a row.
pub fn surrogate_of<'a>(table: &'a Table, target: &Row, architecture: Network) -> Option<&'a Row> {
    table.rows.iter().find(|row| {
        row.surrogate == Some(architecture) && row.target == target.target && row.defence == target.defence
    })
}

/// The first two cells of a row: the model, and the defence with whatever else the reader must know to tell it apart.
pub(super) fn names(table: &Table, row: &Row) -> [String; 2] {
    let model = match (row.model, row.surrogate.or(row.target)) {
        (Model::Target, Some(architecture)) => format!("target {}", architecture.title),
        (Model::Surrogate, Some(architecture)) => format!("surrogate {}", architecture.title),
        _ => "most popular items".to_owned(),
    };
    let mut defence = row.defence.clone().unwrap_or_default();
    if let Some(variant) = &row.variant {
        let _ = write!(defence, " ({variant})");
    }
    if row.seeds != table.seeds {
        let _ = write!(defence, " ({})", seeds(&row.seeds));
    }
    [model, defence]
}

/// `seed 1`, or `seeds 1, 2, 3`.
pub fn seeds(seeds: &[u64]) -> String {
    let listed: Vec<String> = seeds.iter().map(u64::to_string).collect();
    format!("{} {}", if seeds.len() == 1 { "seed" } else { "seeds" }, listed.join(", "))
}

/// A figure with its spread.
pub(crate) fn plain(value: &Value) -> String {
    match value.spread {
        Spread::Interval { low, high } => format!("{:.4} [{low:.4}, {high:.4}]", value.mean),
        Spread::Seeds { deviation, low: Some(low), high: Some(high) } => {
            format!("{:.4} ± {deviation:.4} [{low:.4}, {high:.4}]", value.mean)
        }
        Spread::Seeds { deviation, .. } => format!("{:.4} ± {deviation:.4}", value.mean),
    }
}

pub(super) fn signed(figure: &Difference) -> String {
    let text = format!("{:+.4} [{:+.4}, {:+.4}]", figure.mean, figure.low, figure.high);
    if figure.found() { format!("**{text}**") } else { text }
}

/// Write rows of cells as a Markdown table with the protocol below.
fn print(table: &Table, text: &mut String, rows: &[Vec<String>]) {
    align(text, rows);
    let _ = writeln!(text, "\n*Protocol: {}, {}.*", table.protocol, seeds(&table.seeds));
}

/// Write rows of cells as a Markdown table, the first row its heading, every column as wide as its widest cell.
pub(crate) fn align(text: &mut String, rows: &[Vec<String>]) {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0).max(3);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for (place, row) in rows.iter().enumerate() {
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(text, "| {cell:width$} ");
        }
        text.push_str("|\n");
        if place == 0 {
            for width in &widths {
                let _ = write!(text, "|{:-<1$}", "", width + 2);
            }
            text.push_str("|\n");
        }
    }
}
