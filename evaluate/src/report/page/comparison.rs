//! Target against copy under each defence, with intervals.

use std::collections::BTreeSet;

use super::svg::{Anchor, Chapter, Scale, Svg, WIDTH, legend, level_axis, shortened, table};
use crate::report::markdown::{names, plain};
use crate::report::table::{Model, Row, Table};
use crate::report::words::{ending, in_short};

/// Copies shown of each target: the strongest.
const SHOWN: usize = 4;

/// Letters that there is room for beside a line.
const LABEL: usize = 28;

/// What they take of the width.
const LABELLED: f64 = 172.0;

pub(super) fn chapter(table_of: &Table) -> Chapter {
    let several = match table_of.seeds.len() {
        1 => {
            "the 95 % interval over the users; with one seed, nothing says how another training run would have come out"
        }
        _ => "the 95 % interval over users and seeds",
    };
    let kinds = table_of.surrogates();
    let colours = kinds.iter().enumerate().map(|(place, kind)| (place + 1, format!("copy, {}", kind.title)));
    let colours: Vec<(usize, String)> = std::iter::once((0, "target".to_owned())).chain(colours).collect();
    let rows: Vec<Vec<String>> = table_of
        .rows
        .iter()
        .map(|row| {
            let [model, defence] = names(table_of, row);
            let target = row.target.map_or("", |target| target.title).to_owned();
            let values = table_of
                .drawn()
                .iter()
                .map(|figure| row.figures.get(figure).map_or(String::new(), plain))
                .collect();
            [vec![target, model, defence], values].concat()
        })
        .collect();
    let drawn = table_of.drawn();
    let heading: Vec<&str> =
        ["target", "model", "defence"].into_iter().chain(drawn.iter().map(String::as_str)).collect();
    Chapter {
        title: "Target against copy under each defence".to_owned(),
        caption: format!(
            "A defence works where the target stays to the right and the copies move to the left. A dot is a mean, the line through it {several}; \
             the dashed line is what recommending the most popular items to everyone gives. Of more than {SHOWN} copies the strongest are shown."
        ),
        pictures: drawn.iter().map(|figure| picture(table_of, figure)).collect(),
        legend: legend(colours.iter().map(|(colour, name)| (*colour, name.as_str()))),
        numbers: table(&heading, &rows),
    }
}

/// A target's row, then its strongest copies.
fn groups<'a>(table: &'a Table, figure: &str) -> Vec<(&'a Row, Vec<&'a Row>)> {
    let mut groups: Vec<(&Row, Vec<&Row>)> = Vec::new();
    for row in &table.rows {
        match row.model {
            Model::Popular => {}
            Model::Target => groups.push((row, Vec::new())),
            Model::Surrogate => {
                if let Some((_, copies)) = groups.last_mut() {
                    copies.push(row);
                }
            }
        }
    }
    let mean = |row: &Row| row.figures.get(figure).map_or(0.0, |value| value.mean);
    for (_, copies) in &mut groups {
        copies.sort_by(|left, right| mean(right).total_cmp(&mean(left)));
        copies.truncate(SHOWN);
    }
    groups
}

/// How the thief of a copy asked and learned, in the few words that stand beside a line.
fn way(row: &Row) -> Option<String> {
    row.way.as_deref().map(|way| in_short(way).replace(", suspects ", ", "))
}

/// Whether copies are told apart by that, and by their kinds, which have colours.
fn told_apart(copies: &[&Row]) -> bool {
    let kinds = copies.iter().map(|row| Some((row.surrogate?, way(row)?)));
    kinds.collect::<Option<BTreeSet<_>>>().is_some_and(|kinds| kinds.len() == copies.len())
}

fn picture(table: &Table, figure: &str) -> String {
    let groups = groups(table, figure);
    let kinds = table.surrogates();
    let popular = table.popular().and_then(|row| row.figures.get(figure));
    let all =
        groups.iter().flat_map(|(target, copies)| std::iter::once(*target).chain(copies.iter().copied()));
    let ends: Vec<(f64, f64)> = all.filter_map(|row| Some(row.figures.get(figure)?.ends())).collect();
    let lowest = ends.iter().map(|ends| ends.0).fold(0.0, f64::min);
    let highest = ends.iter().map(|ends| ends.1).chain(popular.map(|value| value.mean)).fold(0.0, f64::max);
    let (row_height, group_height, top) = (21.0, 20.0, 26.0);
    let rows: usize = groups.iter().map(|(_, copies)| 1 + copies.len()).sum();
    let bottom = top + rows as f64 * row_height + groups.len() as f64 * (group_height + 6.0);
    let mut svg = Svg::new(bottom + 20.0);
    svg.text("name", (0.0, 14.0), Anchor::Start, figure);
    let scale = Scale::around(lowest, highest, LABELLED, WIDTH - 16.0);
    level_axis(&mut svg, &scale, false, (top, bottom));
    if let Some(popular) = popular {
        let x = scale.at(popular.mean);
        svg.line("popular", (x, top), (x, bottom));
    }
    let mut y = top;
    let several = table.targets().len() > 1;
    for (target, copies) in groups {
        let [_, mut defence] = names(table, target);
        if several {
            defence = format!("{} behind {defence}", target.target.map_or("", |target| target.title));
        }
        svg.text("strong", (0.0, y + 15.0), Anchor::Start, &shortened(&defence, 52));
        y += group_height;
        let ways = told_apart(&copies);
        for row in std::iter::once(target).chain(copies) {
            let middle = y + row_height / 2.0;
            let place = row.surrogate.and_then(|kind| kinds.iter().position(|&other| other == kind));
            let label = match (row.model, &row.variant) {
                (Model::Target, _) => "target".to_owned(),
                // The heading above says it.
                (_, Some(variant)) if Some(variant) == target.variant.as_ref() => {
                    row.surrogate.map_or(String::new(), |kind| format!("copy, {}", kind.title))
                }
                (_, Some(_)) if ways => shortened(&way(row).unwrap_or_default(), LABEL),
                (_, Some(variant)) => ending(variant, LABEL),
                (_, None) => row.surrogate.map_or(String::new(), |kind| format!("copy, {}", kind.title)),
            };
            svg.text("label", (6.0, middle + 3.5), Anchor::Start, &label);
            if let Some(value) = row.figures.get(figure) {
                let (low, high) = value.ends();
                let at = |value: f64| (scale.at(value), middle);
                svg.whisker(place.map_or(0, |place| place + 1), at(value.mean), [at(low), at(high)]);
            }
            y += row_height;
        }
        y += 6.0;
    }
    svg.finish(&format!("{figure} of targets and their copies under each defence"))
}
