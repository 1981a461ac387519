//! What users lose against what the strongest thief has: a point for each defence, a curve for one of several strengths.

use crate::figures::Network;

use super::svg::{
    Anchor, Chapter, Scale, Svg, WIDTH, apart, legend, level_axis, shortened, table, upright_axis,
};
use crate::report::table::Table;
use crate::report::verdict::Verdict;
use crate::report::words::{name_of, percent};

/// A defence that was set against thieves.
struct Point<'a> {
    verdict: &'a Verdict,
    lost: f64,
    /// Ends of the interval of what users lose; none of the undefended target.
    between: Option<(f64, f64)>,
    share: f64,
    colour: usize,
}

/// The chapter, where a target has a defence and a thief.
pub(super) fn chapter(table_of: &Table) -> Option<Chapter> {
    let mut defences: Vec<&str> = Vec::new();
    for verdict in &table_of.verdicts {
        if !defences.contains(&verdict.defence.as_str()) {
            defences.push(&verdict.defence);
        }
    }
    let points: Vec<Point<'_>> = table_of
        .verdicts
        .iter()
        .filter_map(|verdict| {
            let kept = verdict.kept?;
            let whole = verdict.quality / kept;
            Some(Point {
                verdict,
                lost: 1.0 - kept,
                between: verdict.users.map(|users| (-users.high / whole, -users.low / whole)),
                share: verdict.thief.as_ref()?.share,
                colour: defences.iter().position(|name| *name == verdict.defence)?,
            })
        })
        .collect();
    if !points.iter().any(|point| point.verdict.defence != "none") {
        return None;
    }
    let several = table_of.targets().len() > 1;
    let rows: Vec<Vec<String>> = points
        .iter()
        .map(|point| {
            let between = point
                .between
                .map_or(String::new(), |(low, high)| format!("[{}, {}]", percent(low), percent(high)));
            vec![name_of(point.verdict, several), percent(point.lost), between, percent(point.share)]
        })
        .collect();
    let figure = &points.first()?.verdict.figure;
    Some(Chapter {
        title: "What a defence costs, and what it buys".to_owned(),
        caption: format!(
            "The best defence is below and to the left: users lose little of {figure}, and the strongest copy has a small share of the undefended \
             target's. Lines to the sides are 95 % intervals of what users lose. Points of one defence are different strengths or \
             makes of it, joined in the order of what users lose."
        ),
        pictures: table_of.targets().into_iter().filter_map(|target| picture(&points, target)).collect(),
        legend: legend(
            defences
                .iter()
                .enumerate()
                .filter(|(_, name)| points.iter().any(|point| point.verdict.defence == **name))
                .map(|(colour, name)| (colour, *name)),
        ),
        numbers: table(&["defence", "users lose", "95 % interval", "strongest thief has"], &rows),
    })
}

fn picture(points: &[Point<'_>], target: Network) -> Option<String> {
    let points: Vec<&Point<'_>> = points.iter().filter(|point| point.verdict.target == target).collect();
    let figure = &points.first()?.verdict.figure;
    let lows = points.iter().map(|point| point.between.map_or(point.lost, |between| between.0));
    let highs = points.iter().map(|point| point.between.map_or(point.lost, |between| between.1));
    let (lowest, highest) = (lows.fold(0.0, f64::min), highs.fold(0.0, f64::max));
    let most = points.iter().map(|point| point.share).fold(1.0, f64::max);
    let (left, right, top, bottom) = (50.0, WIDTH - 14.0, 28.0, 250.0);
    let x = Scale::around(lowest, highest, left, right);
    let y = Scale::around(0.0, most, bottom, top);
    let mut svg = Svg::new(bottom + 38.0);
    svg.text(
        "name",
        (0.0, 14.0),
        Anchor::Start,
        &format!("{}: the strongest thief's share of {figure}", target.title),
    );
    upright_axis(&mut svg, &y, true, (left, right));
    level_axis(&mut svg, &x, true, (top, bottom));
    svg.text("tick", (f64::midpoint(left, right), bottom + 31.0), Anchor::Middle, "users lose");
    let mut colours: Vec<usize> = points.iter().map(|point| point.colour).collect();
    colours.dedup();
    for colour in colours {
        let mut curve: Vec<&&Point<'_>> = points.iter().filter(|point| point.colour == colour).collect();
        curve.sort_by(|left, right| left.lost.total_cmp(&right.lost));
        let curve: Vec<(f64, f64)> =
            curve.iter().map(|point| (x.at(point.lost), y.at(point.share))).collect();
        if curve.len() > 1 {
            svg.path(&format!("curve c{}", colour % super::svg::COLOURS), &curve);
        }
    }
    for point in &points {
        let at = |lost: f64| (x.at(lost), y.at(point.share));
        let (low, high) = point.between.unwrap_or((point.lost, point.lost));
        svg.whisker(point.colour, at(point.lost), [at(low), at(high)]);
    }
    let wanted: Vec<f64> = points.iter().map(|point| y.at(point.share) - 7.0).collect();
    for (point, place) in points.iter().zip(apart(&wanted, 12.0)) {
        let at = x.at(point.lost);
        // Towards the side where there is room.
        let (anchor, at) =
            if at > f64::midpoint(left, right) { (Anchor::End, at - 4.0) } else { (Anchor::Start, at + 4.0) };
        let name = point.verdict.variant.as_ref().map_or_else(|| point.verdict.defence.clone(), Clone::clone);
        svg.text("label", (at, place), anchor, &shortened(&name, 30));
    }
    Some(svg.finish(&format!(
        "{}: users' loss against the strongest thief's share under each defence",
        target.title
    )))
}
