//! How well detectors tell thieves from users.

use serde::Deserialize;

use super::svg::{Anchor, COLOURS, Chapter, Scale, Svg, WIDTH, legend, shortened, table, upright_axis};
use crate::figures::Figure;
use crate::report::words::percent;

/// What the page needs of `detect.json`.
#[derive(Debug, Deserialize)]
pub struct Detected {
    /// Fingerprint of the dataset's item numbering.
    pub fingerprint: String,
    /// BLAKE3 of the dataset's sequences.parquet.
    pub sequences: String,
    users: usize,
    thieves: Vec<Thief>,
}

#[derive(Debug, Deserialize)]
struct Thief {
    name: String,
    detectors: Vec<Verdict>,
}

#[derive(Debug, Deserialize)]
struct Verdict {
    detector: String,
    area: Figure,
    roc: Vec<[f64; 2]>,
}

impl Verdict {
    /// The share of thieves' accounts that is caught where a share of users is flagged.
    fn caught(&self, users: f64) -> f64 {
        let mut before = [0.0, 0.0];
        for &corner in &self.roc {
            if corner[0] > users {
                let along = (users - before[0]) / (corner[0] - before[0]);
                return before[1] + along * (corner[1] - before[1]);
            }
            before = corner;
        }
        before[1]
    }
}

pub(super) fn chapter(files: &[Detected]) -> Option<Chapter> {
    let mut names: Vec<&str> = Vec::new();
    for verdict in files.iter().flat_map(|file| &file.thieves).flat_map(|thief| &thief.detectors) {
        if !names.contains(&verdict.detector.as_str()) {
            names.push(&verdict.detector);
        }
    }
    if names.is_empty() {
        return None;
    }
    let rows: Vec<Vec<String>> = files
        .iter()
        .flat_map(|file| &file.thieves)
        .flat_map(|thief| thief.detectors.iter().map(move |verdict| (thief, verdict)))
        .map(|(thief, verdict)| {
            let Figure { mean, low, high } = verdict.area;
            let area = format!("{mean:.4} [{low:.4}, {high:.4}]");
            let caught = [0.01, 0.05].map(|users| percent(verdict.caught(users)));
            [&[thief.name.clone(), verdict.detector.clone(), area][..], &caught].concat()
        })
        .collect();
    Some(Chapter {
        title: "Detection".to_owned(),
        caption: "The share of a thief's accounts that is caught, over the share of users that is ever flagged for it, on a logarithmic scale that \
                  begins at one user. The higher and the further to the left, the better; the dashed line catches thieves as often as users."
            .to_owned(),
        pictures: files.iter().flat_map(|file| file.thieves.iter().map(|thief| picture(file, thief, &names))).collect(),
        legend: legend(names.iter().enumerate().map(|(place, name)| (place, *name))),
        numbers: table(&["thief", "detector", "area under the curve", "caught at 1 % of users", "caught at 5 %"], &rows),
    })
}

fn picture(file: &Detected, thief: &Thief, names: &[&str]) -> String {
    let (left, right, top, bottom) = (44.0, WIDTH - 14.0, 28.0, 220.0);
    let least = 1.0 / file.users.max(2) as f64;
    let mut svg = Svg::new(bottom + 38.0);
    svg.text("name", (0.0, 14.0), Anchor::Start, &shortened(&thief.name, 54));
    let y = Scale { from: 0.0, to: 1.0, start: bottom, end: top };
    upright_axis(&mut svg, &y, true, (left, right));
    let x = Scale { from: least.ln(), to: 0.0, start: left, end: right };
    for share in [0.0001, 0.001, 0.01, 0.1, 1.0f64] {
        if share >= least {
            let at = x.at(share.ln());
            svg.line("grid", (at, top), (at, bottom));
            let anchor = if share == 1.0 { Anchor::End } else { Anchor::Middle };
            svg.text(
                "tick",
                (if share == 1.0 { right + 8.0 } else { at }, bottom + 14.0),
                anchor,
                &percent_of(share),
            );
        }
    }
    svg.text("tick", (f64::midpoint(left, right), bottom + 31.0), Anchor::Middle, "users ever flagged");
    let steps: Vec<f64> = (0..=160).map(|step| least.powf(1.0 - f64::from(step) / 160.0)).collect();
    let chance: Vec<(f64, f64)> = steps.iter().map(|&users| (x.at(users.ln()), y.at(users))).collect();
    svg.path("dashed", &chance);
    for verdict in thief.detectors.iter().rev() {
        let colour = names.iter().position(|name| *name == verdict.detector).unwrap_or(0) % COLOURS;
        let curve: Vec<(f64, f64)> =
            steps.iter().map(|&users| (x.at(users.ln()), y.at(verdict.caught(users)))).collect();
        svg.path(&format!("curve c{colour}"), &curve);
    }
    svg.finish(&format!("Share of accounts of {} caught over share of users flagged", thief.name))
}

/// A power of ten in percent.
fn percent_of(share: f64) -> String {
    format!("{} %", (share * 1e6).round() / 1e4)
}
