//! The curves as Markdown: the best thief at one price, how many questions each needs, and the curves themselves as tables.

use std::fmt::Write as _;

use super::curves::{Curve, KS, SHARES, Source, Theft, Thief, figures};
use crate::figures::{grouped, price_of};
use crate::report::markdown::{align, plain, seeds};

/// The report of some curves.
pub fn markdown(theft: &Theft) -> String {
    let mut text = String::from("# What it takes to steal the model\n\n");
    introduce(theft, &mut text);
    for source in &theft.targets {
        let curves: Vec<&Curve> = theft.curves.iter().filter(|curve| source.is_of(&curve.thief)).collect();
        let _ = writeln!(text, "\n## {}, defence {}\n", source.architecture.title, source.defence);
        let quality: Vec<String> =
            source.figures.iter().map(|(name, value)| format!("{name} {}", plain(value))).collect();
        let _ = writeln!(text, "The target: {}.", quality.join(", "));
        if let Some(questions) = theft.common_budget() {
            at_one_price(&curves, questions, &mut text);
        }
        needed(&curves, &mut text);
        for figure in figures() {
            table(&curves, &figure, &mut text);
        }
    }
    let _ = writeln!(text, "\n*Protocol: {}, {}.*", theft.protocol, seeds(&theft.seeds));
    text
}

fn introduce(theft: &Theft, text: &mut String) {
    let spread = if theft.seeds.len() == 1 {
        "In brackets: 95 % bootstrap interval over the users."
    } else {
        "±: standard deviation over the seeds. In brackets: 95 % interval over users and seeds together; over the users alone where a point has \
         one seed."
    };
    let _ = writeln!(
        text,
        "A copy's quality, and its fidelity to the lists of the target model itself, on the test histories. {spread} **Bold**: the \
         best of a table's column or row at that price.\n"
    );
    let undefended = theft.targets.iter().any(|source| source.defence == "none");
    let whole = if undefended { "of the undefended target" } else { "of the target" };
    let _ = writeln!(
        text,
        "*Needed* are the fewest questions, of the budgets that were tried, with which a copy reaches a share of the quality {whole}, or \
         of full agreement."
    );
}

/// How a thief asks, in words that tell him from the others here.
fn asks(curves: &[&Curve], thief: &Thief) -> String {
    let mut words = thief.strategy.clone();
    if curves.iter().any(|curve| curve.thief.k != thief.k) {
        let _ = write!(words, ", lists of {}", thief.k);
    }
    if curves.iter().any(|curve| curve.thief.surrogate != thief.surrogate) {
        let _ = write!(words, ", copy {}", thief.surrogate.title);
    }
    words
}

/// Ways to ask down, ways to learn across: the first figure and the first of fidelity, with the best in bold.
fn at_one_price(curves: &[&Curve], questions: u64, text: &mut String) {
    let mut ways: Vec<String> = curves.iter().map(|curve| asks(curves, &curve.thief)).collect();
    ways.dedup();
    let mut learnings: Vec<&str> = curves.iter().map(|curve| curve.thief.learning.as_str()).collect();
    learnings.sort_unstable();
    learnings.dedup();
    let Some(price) = curves.iter().find_map(|curve| curve.at(questions)).map(|point| point.price) else {
        return;
    };
    let _ = writeln!(text, "\n### With {} questions\n", grouped(questions));
    if curves.iter().filter_map(|curve| curve.at(questions)).all(|point| point.price == price) {
        let _ = writeln!(text, "The price: {}.\n", price_of(&price));
    }
    for figure in figures() {
        let value = |way: &str, learning: &str| {
            let found = curves
                .iter()
                .find(|curve| asks(curves, &curve.thief) == way && curve.thief.learning == learning);
            found.and_then(|curve| curve.at(questions)?.figures.get(&figure))
        };
        let all = curves.iter().filter_map(|curve| curve.at(questions)?.figures.get(&figure));
        let best = all.map(|value| value.mean).fold(f64::NEG_INFINITY, f64::max);
        let mut rows = vec![
            [&[format!("{figure}: asks")][..], &learnings.iter().map(|&l| l.to_owned()).collect::<Vec<_>>()]
                .concat(),
        ];
        for way in &ways {
            let mut row = vec![way.clone()];
            row.extend(learnings.iter().map(|learning| match value(way, learning) {
                Some(value) if value.mean >= best => format!("**{}**", plain(value)),
                Some(value) => plain(value),
                None => String::new(),
            }));
            rows.push(row);
        }
        align(text, &rows);
        text.push('\n');
    }
}

/// How many questions each thief needs.
fn needed(curves: &[&Curve], text: &mut String) {
    text.push_str("\n### Questions needed\n\n");
    let mut heading = vec!["asks".to_owned(), "learns".to_owned()];
    // Of fidelity, the first figure is enough here; theft.json has all.
    let shown = figures_needed();
    for figure in &shown {
        heading.extend(SHARES.iter().map(|share| format!("{:.0} % of {figure}", 100.0 * share)));
    }
    let mut rows = vec![heading];
    for curve in curves {
        let mut row = vec![asks(curves, &curve.thief), curve.thief.learning.clone()];
        for needed in shown.iter().filter_map(|figure| curve.needed.get(figure)) {
            row.extend(needed.iter().map(|questions| questions.map_or_else(|| "-".to_owned(), grouped)));
        }
        rows.push(row);
    }
    align(text, &rows);
}

/// The figures whose price is told: those of quality, and the first of fidelity.
fn figures_needed() -> Vec<String> {
    let fidelity = metrics::of_lists(KS);
    figures()
        .into_iter()
        .filter(|figure| fidelity.iter().skip(1).all(|other| other.to_string() != *figure))
        .collect()
}

/// A figure: thieves down, questions across.
fn table(curves: &[&Curve], figure: &str, text: &mut String) {
    let mut budgets: Vec<u64> =
        curves.iter().flat_map(|curve| &curve.points).map(|point| point.price.questions).collect();
    budgets.sort_unstable();
    budgets.dedup();
    let _ = writeln!(text, "\n### {figure} over the number of questions\n");
    let heading =
        ["asks", "learns"].map(str::to_owned).into_iter().chain(budgets.iter().copied().map(grouped));
    let mut rows = vec![heading.collect::<Vec<_>>()];
    let value =
        |curve: &Curve, questions| curve.at(questions).and_then(|point| point.figures.get(figure)).copied();
    let best = |questions| {
        let all = curves.iter().filter_map(|curve| value(curve, questions));
        all.map(|value| value.mean).fold(f64::NEG_INFINITY, f64::max)
    };
    for curve in curves {
        let mut row = vec![asks(curves, &curve.thief), curve.thief.learning.clone()];
        row.extend(budgets.iter().map(|&questions| match value(curve, questions) {
            Some(found) if found.mean >= best(questions) => format!("**{}**", plain(&found)),
            Some(found) => plain(&found),
            None => String::new(),
        }));
        rows.push(row);
    }
    align(text, &rows);
}

/// Whether a thief of these steals from `source`, for whoever draws.
pub(crate) fn of<'a>(theft: &'a Theft, source: &Source) -> Vec<&'a Curve> {
    theft.curves.iter().filter(|curve| source.is_of(&curve.thief)).collect()
}

/// The words of a thief in a legend.
pub(crate) fn legend(curves: &[&Curve], thief: &Thief) -> String {
    format!("{}: {}", asks(curves, thief), thief.learning)
}
