//! The board as Markdown.

use std::fmt::Write as _;

use super::standing::{Board, Standing};
use crate::figures::price_of;
use crate::report::markdown::align;
use crate::report::words::{chance, percent};

/// The board.
pub fn markdown(board: &Board) -> String {
    let mut text = String::from("# Defences\n\n");
    text.push_str(
        "*Kept*: what users keep of the quality of the target without a defence. *Stolen*: the share of it that the strongest thief's copy has. Beside each, \
         p: the chance of so large a difference to no defence were there none, corrected over its report. *Margin*: kept less stolen, by which \
         rows are sorted; it is no better than the thieves who tried. *Alike*: how far the copy most alike agrees with the first items of the target model's \
         own lists. *Proof*: the least p, over the suspects put to it, that a suspect never saw an \
         answer of the target.\n",
    );
    for division in &board.divisions {
        let _ = writeln!(text, "\n## By {}\n", division.figure);
        let heading = [
            "defence",
            "target",
            "kept",
            "stolen",
            "margin",
            "alike",
            "thieves",
            "strongest thief",
            "his price",
            "proof",
            "seeds",
            "report",
        ];
        let rows = division.standings.iter().map(row);
        align(
            &mut text,
            &std::iter::once(heading.map(str::to_owned).to_vec()).chain(rows).collect::<Vec<_>>(),
        );
        let _ = writeln!(text, "\n*Protocol: {}.*", division.protocol);
    }
    text
}

fn row(standing: &Standing) -> Vec<String> {
    let share = |share: Option<f64>, p: Option<f64>| match (share, p) {
        (Some(share), Some(p)) => format!("{} (p {})", percent(share), chance(p)),
        (Some(share), None) => percent(share),
        (None, _) => "not known".to_owned(),
    };
    let alike = match (standing.alike, standing.alike_p) {
        (Some(alike), Some(p)) => format!("{alike:.2} (p {})", chance(p)),
        (Some(alike), None) => format!("{alike:.2}"),
        (None, _) => "not known".to_owned(),
    };
    let variant = standing.variant.as_ref().map_or_else(String::new, |variant| format!(" ({variant})"));
    let proof = match (standing.proof, standing.suspects) {
        (Some(p), 1) => format!("p {}", chance(p)),
        (Some(p), suspects) => format!("p {}, of {suspects} suspects", chance(p)),
        (None, _) => String::new(),
    };
    vec![
        format!("{}{variant}", standing.defence),
        standing.target.clone(),
        share(standing.kept, standing.kept_p),
        share(standing.stolen, standing.stolen_p),
        standing.margin.map_or_else(String::new, percent),
        alike,
        standing.thieves.to_string(),
        standing.thief.clone().unwrap_or_default(),
        standing.price.as_ref().map_or_else(String::new, price_of),
        proof,
        standing.seeds.to_string(),
        standing.report.clone(),
    ]
}
