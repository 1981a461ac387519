//! Who pays for a defence.

use super::svg::{Anchor, COLOURS, Chapter, Scale, Svg, WIDTH, legend, shortened, table, upright_axis};
use crate::report::payers::Payers;
use crate::report::table::Table;
use crate::report::words::name_of;

/// Defences drawn, at most; the table has all.
const SHOWN: usize = COLOURS;

pub(super) fn chapter(table_of: &Table, all: &[Payers]) -> Option<Chapter> {
    let several = table_of.targets().len() > 1;
    let first = all.first()?;
    let shown: Vec<usize> = first.differences.keys().copied().take(SHOWN).collect();
    let name = |place: usize| {
        table_of.verdicts.get(place).map_or(String::new(), |verdict| name_of(verdict, several))
    };
    let figure = table_of.verdicts.first().map_or("", |verdict| verdict.figure.as_str());
    let rows: Vec<Vec<String>> = all
        .iter()
        .flat_map(|payers| {
            payers.differences.iter().flat_map(move |(&place, intervals)| {
                payers.groups.iter().zip(intervals).map(move |((group, users), interval)| {
                    let value =
                        format!("{:+.4} [{:+.4}, {:+.4}]", interval.mean, interval.low, interval.high);
                    vec![name(place), payers.by.to_owned(), group.clone(), users.to_string(), value]
                })
            })
        })
        .collect();
    let names: Vec<(usize, String)> =
        shown.iter().enumerate().map(|(colour, &place)| (colour, name(place))).collect();
    let more = first.differences.len() - shown.len();
    let beyond = if more > 0 { format!(" {more} more defences are in the table.") } else { String::new() };
    Some(Chapter {
        title: "Who pays for the defence".to_owned(),
        caption: format!(
            "What each defence takes from users in {figure}, in five groups of about one size. Below the line users lose; where one group lies lower than \
             the others, it pays for them. Lines are 95 % intervals: of some twenty that are drawn one leaves out the truth, so that a \
             single group that stands out a little says nothing.{beyond}"
        ),
        pictures: all.iter().map(|payers| picture(payers, &shown)).collect(),
        legend: legend(names.iter().map(|(colour, name)| (*colour, name.as_str()))),
        numbers: table(&["defence", "by", "group", "users", figure], &rows),
    })
}

fn picture(payers: &Payers, shown: &[usize]) -> String {
    let intervals = || shown.iter().filter_map(|place| payers.differences.get(place));
    let low = intervals().flatten().map(|interval| interval.low).fold(0.0, f64::min);
    let high = intervals().flatten().map(|interval| interval.high).fold(0.0, f64::max);
    let (left, right, top, bottom) = (50.0, WIDTH - 8.0, 28.0, 220.0);
    let y = Scale::around(low, high, bottom, top);
    let mut svg = Svg::new(bottom + 38.0);
    svg.text("name", (0.0, 14.0), Anchor::Start, &format!("by {}", shortened(payers.by, 60)));
    upright_axis(&mut svg, &y, false, (left, right));
    let width = (right - left) / payers.groups.len().max(1) as f64;
    let beside = (width * 0.7 / shown.len().max(1) as f64).min(16.0);
    for (number, (group, _)) in payers.groups.iter().enumerate() {
        let centre = left + width * (number as f64 + 0.5);
        svg.text("tick", (centre, bottom + 14.0), Anchor::Middle, group);
        for (colour, intervals) in intervals().enumerate() {
            let x = centre + beside * (colour as f64 - (shown.len() as f64 - 1.0) / 2.0);
            if let Some(interval) = intervals.get(number) {
                let at = |value: f64| (x, y.at(value));
                svg.whisker(colour, at(interval.mean), [at(interval.low), at(interval.high)]);
            }
        }
    }
    svg.text("tick", (f64::midpoint(left, right), bottom + 31.0), Anchor::Middle, payers.by);
    svg.finish(&format!("What defences take from users, by {}", payers.by))
}
