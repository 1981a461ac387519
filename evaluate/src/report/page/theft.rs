//! Theft curves: how good the copy is that a thief has after so many questions.

use indexmap::IndexMap;
use models::ARCHITECTURES;
use serde::Deserialize;

use super::svg::{Anchor, COLOURS, Chapter, Scale, Svg, WIDTH, legend, table, upright_axis};
use crate::figures::{Conditions, grouped};
use crate::report::markdown::plain;
use crate::report::table::Value;

/// Thieves shown of each target: the strongest at their last budget.
const SHOWN: usize = 6;

/// What the page needs of `theft.json`.
#[derive(Debug, Deserialize)]
pub struct Curves {
    /// How figures were taken.
    pub protocol: Conditions,
    targets: Vec<Source>,
    #[serde(rename = "curves")]
    drawn: Vec<Curve>,
}

#[derive(Debug, Deserialize)]
struct Source {
    architecture: String,
    defence: String,
    figures: IndexMap<String, Value>,
}

#[derive(Debug, Deserialize)]
struct Curve {
    thief: Thief,
    points: Vec<Point>,
}

#[derive(Debug, Deserialize)]
struct Thief {
    target: String,
    defence: String,
    surrogate: String,
    strategy: String,
    k: usize,
    learning: String,
}

#[derive(Debug, Deserialize)]
struct Point {
    price: Questions,
    figures: IndexMap<String, Value>,
}

#[derive(Debug, Deserialize)]
struct Questions {
    questions: u64,
}

impl Thief {
    fn way(&self) -> String {
        format!(
            "{}, lists of {}: {}, copy {}",
            self.strategy,
            self.k,
            self.learning,
            ARCHITECTURES.title(&self.surrogate)
        )
    }
}

pub(super) fn chapter(files: &[Curves]) -> Option<Chapter> {
    let mut ways: Vec<String> = Vec::new();
    let mut shown: Vec<(&Source, Vec<&Curve>)> = Vec::new();
    let mut rows = Vec::new();
    let figure =
        files.iter().flat_map(|file| &file.targets).find_map(|source| source.figures.keys().next())?;
    for file in files {
        for source in &file.targets {
            let of = |curve: &&Curve| {
                (&curve.thief.target, &curve.thief.defence) == (&source.architecture, &source.defence)
            };
            let mut curves: Vec<&Curve> = file.drawn.iter().filter(of).collect();
            for curve in &curves {
                for point in &curve.points {
                    let value = |name: &String| point.figures.get(name).map_or(String::new(), plain);
                    let thief = &curve.thief;
                    rows.push(vec![
                        ARCHITECTURES.title(&thief.target).to_owned(),
                        thief.defence.clone(),
                        thief.way(),
                        grouped(point.price.questions),
                        value(figure),
                    ]);
                }
            }
            let last = |curve: &Curve| {
                curve
                    .points
                    .last()
                    .and_then(|point| point.figures.get(figure))
                    .map_or(0.0, |value| value.mean)
            };
            curves.sort_by(|left, right| last(right).total_cmp(&last(left)));
            curves.truncate(SHOWN);
            for curve in &curves {
                if !ways.contains(&curve.thief.way()) {
                    ways.push(curve.thief.way());
                }
            }
            shown.push((source, curves));
        }
    }
    let highest = shown.iter().flat_map(|(source, curves)| {
        let copies = curves
            .iter()
            .flat_map(|curve| &curve.points)
            .filter_map(|point| Some(point.figures.get(figure)?.ends().1));
        copies.chain(source.figures.get(figure).map(|value| value.mean)).collect::<Vec<_>>()
    });
    let highest = highest.fold(0.0, f64::max);
    Some(Chapter {
        title: "Theft curves".to_owned(),
        caption: format!(
            "The {figure} of a thief's copy over the questions he paid for, on a logarithmic scale. The dashed line is the target itself: a thief whose \
             curve meets it has stolen all of it. Of each target the {SHOWN} strongest thieves at their last budget are shown."
        ),
        pictures: shown
            .iter()
            .map(|(source, curves)| picture(source, curves, figure, highest, &ways))
            .collect(),
        legend: legend(ways.iter().enumerate().map(|(place, way)| (place, way.as_str()))),
        numbers: table(&["target", "defence", "thief", "questions", figure], &rows),
    })
}

fn picture(source: &Source, curves: &[&Curve], figure: &str, highest: f64, ways: &[String]) -> String {
    let (left, right, top, bottom) = (44.0, WIDTH - 14.0, 28.0, 230.0);
    let mut svg = Svg::new(bottom + 38.0);
    svg.text(
        "name",
        (0.0, 14.0),
        Anchor::Start,
        &format!("{} behind {}: {figure}", ARCHITECTURES.title(&source.architecture), source.defence),
    );
    let y = Scale::around(0.0, highest, bottom, top);
    upright_axis(&mut svg, &y, false, (left, right));
    let mut budgets: Vec<u64> =
        curves.iter().flat_map(|curve| &curve.points).map(|point| point.price.questions.max(1)).collect();
    budgets.sort_unstable();
    budgets.dedup();
    let ends =
        (budgets.first().map_or(1, |&first| first) as f64, budgets.last().map_or(1, |&last| last) as f64);
    let x = Scale { from: ends.0.ln() - 0.1, to: ends.1.ln() + 0.1, start: left + 6.0, end: right - 6.0 };
    let mut free = f64::INFINITY;
    for &questions in budgets.iter().rev() {
        let at = x.at((questions as f64).ln());
        let text = grouped(questions);
        let half = 3.2 * text.len() as f64;
        if at + half < free {
            free = at - half - 4.0;
            // The last stands at the edge.
            let anchor = if at + half > WIDTH { Anchor::End } else { Anchor::Middle };
            svg.text("tick", (if at + half > WIDTH { right } else { at }, bottom + 14.0), anchor, &text);
        }
    }
    svg.text("tick", (f64::midpoint(left, right), bottom + 31.0), Anchor::Middle, "questions");
    if let Some(target) = source.figures.get(figure) {
        svg.line("dashed", (left, y.at(target.mean)), (right, y.at(target.mean)));
    }
    for curve in curves.iter().rev() {
        let colour = ways.iter().position(|way| *way == curve.thief.way()).unwrap_or(0) % COLOURS;
        let values: Vec<(f64, &Value)> = curve
            .points
            .iter()
            .filter_map(|point| {
                Some((x.at((point.price.questions.max(1) as f64).ln()), point.figures.get(figure)?))
            })
            .collect();
        let line: Vec<(f64, f64)> = values.iter().map(|(x, value)| (*x, y.at(value.mean))).collect();
        svg.path(&format!("curve c{colour}"), &line);
        for (x, value) in values {
            let (low, high) = value.ends();
            svg.whisker(colour, (x, y.at(value.mean)), [(x, y.at(low)), (x, y.at(high))]);
        }
    }
    svg.finish(&format!(
        "Theft curves of {} behind {}",
        ARCHITECTURES.title(&source.architecture),
        source.defence
    ))
}
