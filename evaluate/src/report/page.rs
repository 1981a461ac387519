//! `report.html`: the report as one page for people, with pictures. It needs no network and no JavaScript, follows the reader's choice of
//! light or dark, and prints. Behind each picture are its numbers as a table, and before it how to read it.

mod comparison;
mod detection;
mod frontier;
mod payers;
mod svg;
mod theft;
mod training;

use std::fmt::Write as _;

pub use detection::Detected;
pub use frontier::file as frontier_file;
pub use theft::Curves;
pub use training::Training;

use super::markdown::{explained, names, plain, seeds, signed, spread, tested};
use super::payers::Payers;
use super::references::{CAPTION, references, rows};
use super::table::Table;
use super::words::{chance, name_of, named, percent, what_was_found, what_was_run};
use crate::figures::{budget_of, grouped};
pub(crate) use svg::escape;
use svg::table as table_of;

/// Everything that there is to show.
#[derive(Debug)]
pub struct Material<'a> {
    /// The report itself.
    pub table: &'a Table,
    /// Who pays.
    pub payers: Vec<Payers>,
    /// Theft curves.
    pub theft: Vec<Curves>,
    /// Detection.
    pub detected: Vec<Detected>,
    /// Training.
    pub trained: Vec<Training>,
}

/// The page.
pub fn page(material: &Material<'_>) -> String {
    let table = material.table;
    let mut chapters: Vec<svg::Chapter> = vec![comparison::chapter(table)];
    chapters.extend(frontier::chapter(table));
    chapters.extend(payers::chapter(table, &material.payers));
    chapters.extend(theft::chapter(&material.theft));
    chapters.extend(detection::chapter(&material.detected));
    chapters.extend(training::chapter(&material.trained));
    let chapters: String = chapters.iter().map(svg::Chapter::html).collect();
    format!(
        r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Target and copy under each defence</title>
<style>
{STYLE}</style>
</head>
<body>
<main>
<h1>Target and copy under each defence</h1>
<p class="finding">{run} {found}</p>
{verdicts}
{chapters}{tests}{references}{figures}
<footer><p>Protocol: {protocol}, {seeds}.</p></footer>
</main>
</body>
</html>
"#,
        run = escape(&what_was_run(table)),
        found = escape(&what_was_found(table)),
        verdicts = verdicts(table),
        tests = tests(table),
        references = published(table),
        figures = figures(table),
        protocol = escape(&table.protocol.to_string()),
        seeds = seeds(&table.seeds),
    )
}

/// The table that comes first: a row for each defence.
fn verdicts(table: &Table) -> String {
    let Some(figure) = table.verdicts.first().map(|verdict| verdict.figure.as_str()) else {
        return String::new();
    };
    let several = table.targets().len() > 1;
    let rows: Vec<Vec<String>> = table
        .verdicts
        .iter()
        .map(|verdict| {
            let thief = verdict.thief.as_ref();
            let p = |difference: Option<super::inference::Difference>| {
                difference.map_or(String::new(), |found| chance(found.p_corrected))
            };
            vec![
                name_of(verdict, several),
                verdict.kept.map_or("not known".to_owned(), percent),
                p(verdict.users),
                thief.map_or("no copy".to_owned(), |thief| percent(thief.share)),
                p(thief.and_then(|thief| thief.difference)),
                thief
                    .filter(|thief| thief.way.is_some())
                    .map(|thief| named(thief.way.as_deref(), Some(thief.surrogate), Some(verdict.target)))
                    .unwrap_or_default(),
                thief.and_then(|thief| thief.price).map_or(String::new(), |price| grouped(price.questions)),
                verdict.most_alike.as_ref().map_or(String::new(), |copy| format!("{:.2}", copy.likeness)),
                p(verdict.most_alike.as_ref().and_then(|copy| copy.difference)),
            ]
        })
        .collect();
    let alike = table.verdicts.iter().find_map(|verdict| verdict.most_alike.as_ref());
    let alike = alike.map_or("most alike".to_owned(), |copy| format!("most alike: {}", copy.figure));
    let heading = [
        "defence",
        "users keep",
        "p",
        "strongest thief has",
        "p",
        "how he asks and learns",
        "questions he paid",
        &alike,
        "p",
    ];
    format!(
        "<p class=\"caption\">Of {figure}: what users keep of the target without a defence, and what share of that the strongest copy has; and how far that copy which is most alike agrees \
         with the target model's own first items. Beside each, the chance of so large a difference to no defence were there none, corrected for all \
         differences by the same figure.</p>\n{}\n",
        table_of(&heading, &rows)
    )
}

/// What the differences rest on.
fn tests(table: &Table) -> String {
    let Some(figure) = table.drawn().into_iter().next() else { return String::new() };
    let several = table.targets().len() > 1;
    let rows: Vec<Vec<String>> = table
        .rows
        .iter()
        .filter_map(|row| {
            let difference = row.difference_to_none.as_ref()?.get(&figure)?;
            let [model, defence] = names(table, row);
            let of = if several {
                row.target.map_or(String::new(), |target| format!(" of {}", target.title))
            } else {
                String::new()
            };
            let mut cells = tested(difference);
            cells[0] = signed(difference).replace("**", "");
            Some([vec![model + &of, defence], cells].concat())
        })
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    let heading =
        ["model", "defence", "difference", "p", "corrected", "effect", "users needed", "seeds needed"];
    format!(
        "<section>\n<h2>What can be told from chance</h2>\n<p class=\"caption\">Differences in {figure} to the same model without a defence. {}</p>\n{}\n</section>\n",
        escape(&explained(table, &figure)),
        table_of(&heading, &rows)
    )
}

/// Published figures beside ours.
fn published(table: &Table) -> String {
    let Some(found) = references(table) else { return String::new() };
    let rows = rows(&found);
    let Some((heading, body)) = rows.split_first() else { return String::new() };
    let heading: Vec<&str> = heading.iter().map(String::as_str).collect();
    let mut warnings = String::new();
    for warning in &found.warnings {
        let _ = writeln!(warnings, "<p><strong>Weak target</strong>: {}.</p>", escape(warning));
    }
    format!(
        "<section>\n<h2>Beside published figures: {}</h2>\n<p class=\"caption\">{CAPTION}</p>\n{}\n{warnings}</section>\n",
        escape(found.dataset),
        table_of(&heading, body)
    )
}

/// All figures of all models, and what was asked for the copies.
fn figures(table: &Table) -> String {
    let mut figures: Vec<&str> = Vec::new();
    for name in table.rows.iter().flat_map(|row| row.figures.keys()) {
        if !figures.contains(&name.as_str()) {
            figures.push(name);
        }
    }
    let rows: Vec<Vec<String>> = table
        .rows
        .iter()
        .map(|row| {
            let [model, defence] = names(table, row);
            let target = row.target.map_or("", |target| target.title).to_owned();
            let values = figures.iter().map(|name| row.figures.get(*name).map_or(String::new(), plain));
            let asked = row.queries.as_ref().map_or(String::new(), budget_of);
            [target, model, defence].into_iter().chain(values).chain([asked]).collect()
        })
        .collect();
    let heading: Vec<&str> = ["target", "model", "defence"]
        .into_iter()
        .chain(figures.iter().copied())
        .chain(["what was asked"])
        .collect();
    let mut legend = String::new();
    for metric in metrics::METRICS.entries {
        let _ = write!(legend, "<dt>{}</dt><dd>{}</dd>", escape(metric.name), escape(metric.meaning));
    }
    format!(
        "<section>\n<h2>All figures</h2>\n<p class=\"caption\">{}</p>\n<details><summary>What they mean</summary><dl>{legend}</dl></details>\n<details><summary>All \
         figures of all models</summary>\n{}</details>\n</section>\n",
        escape(&spread(table)),
        table_of(&heading, &rows)
    )
}

/// Colours are Okabe and Ito's and three more, lighter on dark paper; every text keeps a contrast of 4.5 to 1 with it.
const STYLE: &str = r":root {
  color-scheme: light dark;
  --paper: light-dark(#fff, #16191d); --ink: light-dark(#22262b, #e6e8eb); --quiet: light-dark(#5b636c, #a3acb6);
  --line: light-dark(#e0e4e9, #343a42); --axis: light-dark(#7d858e, #8a929c);
  --k0: light-dark(#0072b2, #56b4e9); --k1: light-dark(#d98200, #f0b23c); --k2: light-dark(#008f67, #2fc49b);
  --k3: light-dark(#b85a92, #e3a3c8); --k4: light-dark(#c44f00, #ff8a4c); --k5: light-dark(#3f8fc4, #9bd0f2);
  --k6: light-dark(#5a5a5a, #b8b8b8); --k7: light-dark(#8a6d00, #e8d94a); --k8: light-dark(#7a4fc0, #b79cf0);
  --k9: light-dark(#a3192f, #ff7a8e);
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 66rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 1rem; }
h2 { font-size: 1.2rem; line-height: 1.3; margin: 2.75rem 0 .25rem; }
.finding { border-left: 4px solid var(--k0); padding: .25rem 0 .25rem 1rem; margin: 0 0 1.25rem; font-size: 1.1rem; max-width: 50rem; }
.caption { color: var(--quiet); max-width: 46rem; margin: .25rem 0 1rem; }
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(22rem, 100%), 1fr)); gap: 1.5rem 2rem; }
.picture { max-width: 34rem; }
svg { display: block; width: 100%; height: auto; overflow: visible; }
svg text { fill: var(--quiet); font: 11px system-ui, sans-serif; }
svg .name { fill: var(--ink); font-size: 13px; font-weight: 600; } svg .strong { fill: var(--ink); font-size: 12px; font-weight: 600; }
svg .label { fill: var(--ink); }
.grid { stroke: var(--line); } .axis { stroke: var(--axis); }
.dashed { stroke: var(--axis); stroke-dasharray: 5 4; fill: none; } .popular { stroke: var(--k4); stroke-dasharray: 5 4; stroke-width: 1.5; }
.curve { fill: none; stroke-width: 2; stroke-linejoin: round; } .faint { opacity: .35; stroke-width: 1; } .whisker { stroke-width: 1.8; }
.c0 { stroke: var(--k0); } .c1 { stroke: var(--k1); } .c2 { stroke: var(--k2); } .c3 { stroke: var(--k3); } .c4 { stroke: var(--k4); }
.c5 { stroke: var(--k5); } .c6 { stroke: var(--k6); } .c7 { stroke: var(--k7); } .c8 { stroke: var(--k8); } .c9 { stroke: var(--k9); }
.dot { stroke: none; } .open { fill: var(--paper); stroke-width: 2; }
.dot.c0 { fill: var(--k0); } .dot.c1 { fill: var(--k1); } .dot.c2 { fill: var(--k2); } .dot.c3 { fill: var(--k3); } .dot.c4 { fill: var(--k4); }
.dot.c5 { fill: var(--k5); } .dot.c6 { fill: var(--k6); } .dot.c7 { fill: var(--k7); } .dot.c8 { fill: var(--k8); } .dot.c9 { fill: var(--k9); }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; padding: 0; margin: 0 0 .75rem; font-size: .9rem; }
.swatch { display: inline-block; width: .8em; height: .8em; border-radius: 50%; margin-right: .4em; }
.s0 { background: var(--k0); } .s1 { background: var(--k1); } .s2 { background: var(--k2); } .s3 { background: var(--k3); } .s4 { background: var(--k4); }
.s5 { background: var(--k5); } .s6 { background: var(--k6); } .s7 { background: var(--k7); } .s8 { background: var(--k8); } .s9 { background: var(--k9); }
.wide { overflow-x: auto; background: linear-gradient(to right, var(--paper) 2rem, transparent), linear-gradient(to left, var(--paper) 2rem, transparent) right,
  linear-gradient(to right, var(--axis), transparent) left / .6rem 100%, linear-gradient(to left, var(--axis), transparent) right / .6rem 100%;
  background-repeat: no-repeat; background-attachment: local, local, scroll, scroll; }
table { border-collapse: collapse; font-size: .85rem; line-height: 1.35; }
th, td { text-align: left; vertical-align: top; padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--line); }
th { color: var(--quiet); font-weight: 600; } td { white-space: nowrap; } td.n { font-variant-numeric: tabular-nums; }
details { margin-top: .75rem; } summary { cursor: pointer; color: var(--k0); font-size: .95rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; font-size: .9rem; } dt { font-weight: 600; } dd { margin: 0; }
footer { margin-top: 3rem; color: var(--quiet); font-size: .9rem; }
@media print {
  :root { color-scheme: light; }
  body { font-size: 10pt; } main { max-width: none; padding: 0; } h2 { break-after: avoid; } .picture, tr, .caption { break-inside: avoid; }
  .pictures { grid-template-columns: 1fr 1fr; } summary { display: none; }
  details::details-content { content-visibility: visible; display: block; } .wide { overflow: visible; background: none; } table { font-size: 7pt; } td { white-space: normal; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
";
