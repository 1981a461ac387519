//! What users lose against what the strongest thief has, and against how alike a copy can be: a point for each defence, a curve for one
//! of several strengths.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::Value as Json;

use crate::figures::Network;

use super::svg::{
    Anchor, Chapter, Scale, Svg, WIDTH, escape, legend, level_axis, shortened, table, upright_axis,
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
    /// What the strongest copy has of the undefended target, or how alike the most alike is: 0 to 1, or more.
    taken: f64,
    colour: usize,
}

/// What a picture shows upright.
struct Upright {
    /// Its title beside the target's name.
    title: fn(&Verdict) -> Option<String>,
    value: fn(&Verdict) -> Option<f64>,
}

/// The share of the strongest copy.
const SHARE: Upright = Upright {
    title: |verdict| Some(format!("the strongest thief's share of {}", verdict.figure)),
    value: |verdict| Some(verdict.thief.as_ref()?.share),
};

/// How alike the most alike is.
const LIKENESS: Upright = Upright {
    title: |verdict| Some(format!("{} of the copy most alike", verdict.most_alike.as_ref()?.figure)),
    value: |verdict| Some(verdict.most_alike.as_ref()?.likeness),
};

/// The points of all targets, where some defence has one.
fn points<'a>(table: &'a Table, upright: &Upright) -> Vec<Point<'a>> {
    let defences = colours(table);
    let point = |verdict: &'a Verdict| {
        let kept = verdict.kept?;
        let whole = verdict.quality / kept;
        Some(Point {
            verdict,
            lost: 1.0 - kept,
            between: verdict.users.map(|users| (-users.high / whole, -users.low / whole)),
            taken: (upright.value)(verdict)?,
            colour: defences.iter().position(|name| *name == verdict.defence)?,
        })
    };
    let points: Vec<Point<'_>> = table.verdicts.iter().filter_map(point).collect();
    if points.iter().any(|point| point.verdict.defence != "none") { points } else { Vec::new() }
}

/// The chapter, where a target has a defence and a thief.
pub(super) fn chapter(table_of: &Table) -> Option<Chapter> {
    let defences = colours(table_of);
    let (shares, alike) = (points(table_of, &SHARE), points(table_of, &LIKENESS));
    let figure = &shares.first()?.verdict.figure;
    let several = table_of.targets().len() > 1;
    let rows: Vec<Vec<String>> = shares
        .iter()
        .map(|point| {
            let between = point
                .between
                .map_or(String::new(), |(low, high)| format!("[{}, {}]", percent(low), percent(high)));
            let alike = (LIKENESS.value)(point.verdict).map_or(String::new(), percent);
            vec![name_of(point.verdict, several), percent(point.lost), between, percent(point.taken), alike]
        })
        .collect();
    let pictures = |target: Network| {
        [picture(&shares, target, &SHARE), picture(&alike, target, &LIKENESS)].into_iter().flatten()
    };
    Some(Chapter {
        title: "What a defence costs, and what it buys".to_owned(),
        caption: format!(
            "The best defence is below and to the left: users lose little of {figure}, and the strongest copy has a small share of the undefended \
             target's, or can be little like it. Lines to the sides are 95 % intervals of what users lose. Points of one defence that differ in one setting are joined \
             in the order of that setting, which stands beside them; the colour is the defence's."
        ),
        pictures: table_of.targets().into_iter().flat_map(pictures).collect(),
        legend: legend(
            defences
                .iter()
                .enumerate()
                .filter(|(_, name)| shares.iter().any(|point| point.verdict.defence == **name))
                .map(|(colour, name)| (colour, *name)),
        ),
        numbers: table(
            &["defence", "users lose", "95 % interval", "strongest thief has", "most alike"],
            &rows,
        ),
    })
}

/// The defences, in the order of their colours.
fn colours(table: &Table) -> Vec<&str> {
    let mut defences: Vec<&str> = Vec::new();
    for verdict in &table.verdicts {
        if !defences.contains(&verdict.defence.as_str()) {
            defences.push(&verdict.defence);
        }
    }
    defences
}

/// Height of a line of labels.
const LINE: f64 = 12.0;

/// A stretch of a picture: left, top, right, bottom.
type Stretch = (f64, f64, f64, f64);

fn cover(one: Stretch, other: Stretch) -> bool {
    one.0 < other.2 && other.0 < one.2 && one.1 < other.3 && other.1 < one.3
}

/// Where the labels of points stand, by their texts: the place nearest to the point of those beside, above and below it where it
/// covers no other label, no point and no `whiskers`, within a stretch. Where none is free it stands above its point.
fn labelled(
    points: &[((f64, f64), String)],
    whiskers: &[Stretch],
    within: Stretch,
) -> Vec<(Anchor, (f64, f64))> {
    let dots = points.iter().map(|&((x, y), _)| (x - 4.0, y - 4.0, x + 4.0, y + 4.0));
    let mut taken: Vec<Stretch> = dots.chain(whiskers.iter().copied()).collect();
    let mut places = Vec::with_capacity(points.len());
    for ((x, y), text) in points {
        let wide = 6.0 * text.chars().count() as f64;
        let sides = |rise: f64| [(Anchor::Start, (x + 6.0, y + rise)), (Anchor::End, (x - 6.0, y + rise))];
        let rises = (0..8).flat_map(|step| {
            let away = LINE * f64::from(step);
            [-6.0 - away, 13.0 + away]
        });
        let wanted = sides(3.5).into_iter().chain(rises.flat_map(sides));
        let stretch = |(anchor, (x, y)): (Anchor, (f64, f64))| {
            let left = if matches!(anchor, Anchor::End) { x - wide } else { x };
            (left, y - 9.0, left + wide, y + 2.0)
        };
        let free = wanted.clone().find(|&place| {
            let own = stretch(place);
            let inside = own.0 >= within.0 && own.1 >= within.1 && own.2 <= within.2 && own.3 <= within.3;
            inside && !taken.iter().any(|&other| cover(own, other))
        });
        let place = free.unwrap_or((Anchor::Start, (x + 6.0, y - 6.0)));
        taken.push(stretch(place));
        places.push(place);
    }
    places
}

/// A point in few words: its defence where that has one point, else the settings in which it departs from what is usual among them.
fn label(point: &Point<'_>, points: &[&Point<'_>]) -> String {
    let Verdict { defence, variant, settings, .. } = point.verdict;
    let Some(variant) = variant else { return defence.clone() };
    if settings.is_empty() {
        return variant.clone();
    }
    let of_defence: Vec<&&Point<'_>> =
        points.iter().filter(|other| other.verdict.defence == *defence).collect();
    let shared = |key: &str| {
        of_defence.iter().filter(|other| other.verdict.settings.get(key) == settings.get(key)).count()
    };
    let varies = |key: &str| shared(key) < of_defence.len();
    let most = |key: &str| {
        let of = |one: &Point<'_>| {
            of_defence
                .iter()
                .filter(|other| other.verdict.settings.get(key) == one.verdict.settings.get(key))
                .count()
        };
        of_defence.iter().map(|other| of(other)).max().unwrap_or(0)
    };
    let varying: Vec<&String> = settings.keys().filter(|key| varies(key)).collect();
    let mut told: Vec<&&String> = varying.iter().filter(|key| shared(key) < most(key)).collect();
    if told.is_empty() {
        told = varying.iter().take(1).collect();
    }
    let words = told.iter().map(|key| {
        let value =
            settings.get(**key).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        format!("{} {}", key.replace('_', " "), value.unwrap_or_default())
    });
    words.collect::<Vec<_>>().join(", ")
}

/// Points to be joined: of one defence, alike in all settings but one, in the order of that one. Where runs do not say what a defence was
/// set to, all points of it, in the order of what users lose.
fn curves<'a, 'b>(points: &[&'b Point<'a>]) -> Vec<Vec<&'b Point<'a>>> {
    let mut curves = Vec::new();
    let mut defences: Vec<&str> = points.iter().map(|point| point.verdict.defence.as_str()).collect();
    defences.dedup();
    for defence in defences {
        let mut all: Vec<&Point<'_>> =
            points.iter().filter(|point| point.verdict.defence == defence).copied().collect();
        let settings = |point: &Point<'_>| point.verdict.settings.clone();
        if all.iter().any(|point| point.verdict.settings.is_empty()) {
            all.sort_by(|left, right| left.lost.total_cmp(&right.lost));
            curves.push(all);
            continue;
        }
        let keys: BTreeSet<&String> = all.iter().flat_map(|point| point.verdict.settings.keys()).collect();
        for key in keys {
            let strength = |point: &Point<'_>| point.verdict.settings.get(key).and_then(Json::as_f64);
            let mut groups: Vec<(BTreeMap<String, Json>, Vec<&Point<'_>>)> = Vec::new();
            for point in all.iter().filter(|point| strength(point).is_some()) {
                let mut others = settings(point);
                others.remove(key);
                match groups.iter_mut().find(|(found, _)| *found == others) {
                    Some((_, group)) => group.push(point),
                    None => groups.push((others, vec![point])),
                }
            }
            for (_, mut group) in groups {
                group.sort_by(|left, right| {
                    strength(left).unwrap_or(0.0).total_cmp(&strength(right).unwrap_or(0.0))
                });
                curves.push(group);
            }
        }
    }
    curves.retain(|curve| curve.len() > 1);
    curves
}

/// The chapter's pictures as a file of their own, one below the other, for the light. Where there are none it says so.
pub fn file(table: &Table) -> String {
    let mut pictures = chapter(table).map(|chapter| chapter.pictures).unwrap_or_default();
    if pictures.is_empty() {
        let mut none = Svg::new(40.0);
        let why = "No defence with a copy to draw";
        none.text("name", (0.0, 24.0), Anchor::Start, why);
        pictures.push(none.finish(why));
    }
    let (mut body, mut top) = (String::new(), 0.0);
    for picture in &pictures {
        // What `Svg::finish` says of its height.
        let said = picture.split('"').nth(1).and_then(|size| size.split(' ').nth(3)?.parse().ok());
        let height: f64 = said.unwrap_or(WIDTH);
        let placed =
            format!("<svg x=\"12\" y=\"{:.0}\" width=\"{WIDTH}\" height=\"{height:.0}\" ", top + 8.0);
        body.push_str(&picture.replacen("<svg ", &placed, 1));
        top += height + 24.0;
    }
    let (mut left, mut widest) = (18.0, WIDTH);
    for (colour, name) in colours(table).iter().enumerate() {
        let wide = 30.0 + 7.0 * name.chars().count() as f64;
        if left > 18.0 && left + wide > WIDTH + 12.0 {
            (left, top) = (18.0, top + 18.0);
        }
        let (dot, colour) = (top + 6.0, colour % super::svg::COLOURS);
        let _ = write!(
            body,
            "<circle class=\"dot c{colour}\" cx=\"{left:.0}\" cy=\"{dot:.0}\" r=\"4\"/><text class=\"label\" x=\"{:.0}\" y=\"{:.0}\">{}</text>",
            left + 8.0,
            dot + 4.0,
            escape(name)
        );
        left += wide;
        widest = left.max(widest);
    }
    let (wide, high) = (widest + 24.0, top + 20.0);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {wide:.0} {high:.0}\" width=\"{:.0}\" height=\"{:.0}\">\n<style>{LIGHT}</style>\n<rect \
         width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n{body}\n</svg>\n",
        1.5 * wide,
        1.5 * high
    )
}

/// The page's style for pictures, in the colours of its light side.
const LIGHT: &str = "svg{overflow:visible}text{fill:#5b636c;font:11px system-ui,sans-serif}.name{fill:#22262b;font-size:13px;font-weight:600}.label{fill:#22262b}\
    .grid{stroke:#e0e4e9}.axis{stroke:#7d858e}.curve{fill:none;stroke-width:2;stroke-linejoin:round}.whisker{stroke-width:1.8}\
    .c0{stroke:#0072b2}.c1{stroke:#d98200}.c2{stroke:#008f67}.c3{stroke:#b85a92}.c4{stroke:#c44f00}.c5{stroke:#3f8fc4}.c6{stroke:#5a5a5a}\
    .dot{stroke:none}.dot.c0{fill:#0072b2}.dot.c1{fill:#d98200}.dot.c2{fill:#008f67}.dot.c3{fill:#b85a92}.dot.c4{fill:#c44f00}\
    .dot.c5{fill:#3f8fc4}.dot.c6{fill:#5a5a5a}.c7{stroke:#8a6d00}.c8{stroke:#7a4fc0}.c9{stroke:#a3192f}\
    .dot.c7{fill:#8a6d00}.dot.c8{fill:#7a4fc0}.dot.c9{fill:#a3192f}";

fn picture(points: &[Point<'_>], target: Network, upright: &Upright) -> Option<String> {
    let points: Vec<&Point<'_>> = points.iter().filter(|point| point.verdict.target == target).collect();
    let title = (upright.title)(points.first()?.verdict)?;
    let lows = points.iter().map(|point| point.between.map_or(point.lost, |between| between.0));
    let highs = points.iter().map(|point| point.between.map_or(point.lost, |between| between.1));
    let (lowest, highest) = (lows.fold(0.0, f64::min), highs.fold(0.0, f64::max));
    let most = points.iter().map(|point| point.taken).fold(0.0, f64::max);
    let (left, right, top, bottom) = (50.0, WIDTH - 14.0, 28.0, 250.0);
    let x = Scale::around(lowest, highest, left, right);
    let y = Scale::around(0.0, most, bottom, top);
    let mut svg = Svg::new(bottom + 38.0);
    svg.text("name", (0.0, 14.0), Anchor::Start, &format!("{}: {title}", target.title));
    upright_axis(&mut svg, &y, true, (left, right));
    level_axis(&mut svg, &x, true, (top, bottom));
    svg.text("tick", (f64::midpoint(left, right), bottom + 31.0), Anchor::Middle, "users lose");
    for curve in curves(&points) {
        let colour = curve[0].colour % super::svg::COLOURS;
        let curve: Vec<(f64, f64)> =
            curve.iter().map(|point| (x.at(point.lost), y.at(point.taken))).collect();
        svg.path(&format!("curve c{colour}"), &curve);
    }
    let mut whiskers = Vec::with_capacity(points.len());
    for point in &points {
        let at = |lost: f64| (x.at(lost), y.at(point.taken));
        let (low, high) = point.between.unwrap_or((point.lost, point.lost));
        svg.whisker(point.colour, at(point.lost), [at(low), at(high)]);
        let ((low, line), (high, _)) = (at(low), at(high));
        whiskers.push((low, line - 1.0, high, line + 1.0));
    }
    let names = points.iter().map(|point| {
        let name = shortened(&label(point, &points), 30);
        ((x.at(point.lost), y.at(point.taken)), name)
    });
    let names: Vec<((f64, f64), String)> = names.collect();
    let places = labelled(&names, &whiskers, (left + 2.0, 18.0, WIDTH, bottom - 3.0));
    for (((x, y), name), (anchor, (at, line))) in names.iter().zip(places) {
        if (line - y).abs() > LINE + 4.0 {
            // A thin line leads to a label that had to go far.
            svg.line("grid", (*x, *y), (at, line - 4.0));
        }
        svg.text("label", (at, line), anchor, name);
    }
    Some(svg.finish(&format!("{}: users' loss against {title} under each defence", target.title)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_cover_neither_each_other_nor_a_point_and_stay_near() {
        let at = |x: f64, y: f64, text: &str| ((x, y), text.to_owned());
        let points = [
            at(100.0, 30.0, "gro"),
            at(98.0, 36.0, "none"),
            at(98.0, 41.0, "tail"),
            at(98.0, 41.0, "short"),
            at(110.0, 41.0, "replace"),
            at(385.0, 35.0, "reverse"),
        ];
        let whisker = (60.0, 29.0, 200.0, 31.0);
        let places = labelled(&points, &[whisker], (52.0, 18.0, 400.0, 247.0));
        let stretches: Vec<Stretch> = points
            .iter()
            .zip(&places)
            .map(|((_, text), &(anchor, (x, y)))| {
                let wide = 6.0 * text.chars().count() as f64;
                let left = if matches!(anchor, Anchor::End) { x - wide } else { x };
                (left, y - 9.0, left + wide, y + 2.0)
            })
            .collect();
        for (place, &one) in stretches.iter().enumerate() {
            assert!(one.0 >= 52.0 && one.1 >= 18.0 && one.2 <= 400.0 && one.3 <= 247.0, "{one:?}");
            assert!(!cover(one, whisker), "{one:?} covers the whisker");
            for &other in &stretches[place + 1..] {
                assert!(!cover(one, other), "{stretches:?}");
            }
            for &((x, y), _) in &points {
                assert!(
                    !cover(one, (x - 4.0, y - 4.0, x + 4.0, y + 4.0)),
                    "{one:?} covers a point at {x} {y}"
                );
            }
            let (y, line) = (points[place].0.1, places[place].1.1);
            assert!((line - y).abs() < 60.0, "{places:?}");
        }
        assert_eq!(places[5].0, Anchor::End, "to the side where there is room");
    }
}
