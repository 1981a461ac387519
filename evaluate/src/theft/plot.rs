//! The picture of theft curves: a column of panels for each target and defence, a row for each figure, a line for each way to ask, with the
//! learning that serves it best at its last point. Whiskers are 95 % intervals over users, and over seeds where there are several; a
//! dashed line is the target itself.

use std::path::Path;

use anyhow::{Context, anyhow};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::curves::{Curve, Source, Theft, figures};
use super::markdown::{legend, of};
use crate::figures::grouped;
use crate::report::chart::{COLOURS, Canvas, Drawn, GRID, QUIET, TEXT, letters_wide, text, tick_step};

const PANEL: (u32, u32) = (560, 300);
const HEADER: u32 = 84;
const LEGEND: u32 = 22;
const LEFT: i32 = 70;
const RIGHT: i32 = 24;
const TOP: i32 = 34;
const BOTTOM: i32 = 46;

/// Draw the curves as SVG.
///
/// Fails where the file cannot be written.
pub fn draw(theft: &Theft, path: &Path) -> anyhow::Result<()> {
    let mut svg = String::new();
    render(theft, &mut svg).map_err(|error| anyhow!("cannot draw the curves: {error}"))?;
    std::fs::write(path, svg).with_context(|| format!("cannot write {}", path.display()))
}

/// A line of the plot.
struct Line<'a> {
    curve: &'a Curve,
    name: String,
    /// Lines of one way to ask have one colour in every panel.
    colour: RGBColor,
}

fn render(theft: &Theft, svg: &mut String) -> Drawn {
    let figures = figures();
    let mut ways: Vec<(&str, usize)> =
        theft.curves.iter().map(|curve| (curve.thief.strategy.as_str(), curve.thief.k)).collect();
    ways.sort_unstable();
    ways.dedup();
    let lines: Vec<Vec<Line<'_>>> =
        theft.targets.iter().map(|source| lines_of(theft, source, &figures[0], &ways)).collect();
    let longest = lines.iter().map(Vec::len).max().unwrap_or(0) as u32;
    let head = HEADER + LEGEND * longest;
    let size = (PANEL.0 * lines.len().max(1) as u32, head + PANEL.1 * figures.len() as u32);
    let root = SVGBackend::with_string(svg, size).into_drawing_area();
    root.fill(&WHITE)?;
    let (header, body) = root.split_vertically(head);
    let style = |size, colour| text(size, colour, HPos::Left, VPos::Top);
    header.draw(&Text::new(
        "Quality of the copy over the number of questions",
        (LEFT, 10),
        style(20, TEXT),
    ))?;
    let whiskers = match theft.seeds.len() {
        1 => "whiskers: 95 % bootstrap intervals over the users",
        _ if all_have_intervals(theft) => "whiskers: 95 % intervals over users and seeds",
        _ => {
            "whiskers: 95 % intervals over users and seeds; where runs do not say of each user, a deviation over seeds"
        }
    };
    let lines_shown = "each way to ask with the learning that serves it best; dashed: the target itself";
    for (place, line) in [lines_shown, whiskers].into_iter().enumerate() {
        header.draw(&Text::new(line, (LEFT, 36 + 18 * place as i32), style(14, QUIET)))?;
    }
    for (column, lines) in lines.iter().enumerate() {
        for (place, line) in lines.iter().enumerate() {
            let (x, y) = (LEFT + column as i32 * PANEL.0 as i32, (HEADER + LEGEND * place as u32) as i32);
            header.draw(&PathElement::new(vec![(x, y + 8), (x + 20, y + 8)], line.colour.stroke_width(3)))?;
            // Never wider than its column, as far as can be known.
            let room = (PANEL.0 as i32 - LEFT - 30) / letters_wide("m");
            let name: String = line.name.chars().take(room as usize).collect();
            header.draw(&Text::new(name, (x + 28, y), style(14, TEXT)))?;
        }
    }
    let panels = body.split_evenly((figures.len(), lines.len().max(1)));
    for (row, figure) in figures.iter().enumerate() {
        let highest =
            theft.curves.iter().flat_map(|curve| &curve.points).filter_map(|point| point.figures.get(figure));
        let highest = highest.map(|value| value.ends().1.max(value.mean));
        let of_targets =
            theft.targets.iter().filter_map(|source| source.figures.get(figure)).map(|value| value.mean);
        let highest = highest.chain(of_targets).fold(0.0, f64::max);
        for (column, lines) in lines.iter().enumerate() {
            panel(
                figure,
                &theft.targets[column],
                lines,
                highest,
                &panels[row * theft.targets.len() + column],
            )?;
        }
    }
    root.present()?;
    Ok(())
}

fn all_have_intervals(theft: &Theft) -> bool {
    let mut values =
        theft.curves.iter().flat_map(|curve| &curve.points).flat_map(|point| point.figures.values());
    values.all(|value| value.interval().is_some())
}

/// The lines of a target: of each way to ask, and of each architecture of the copy, the learning that is best at the last point.
fn lines_of<'a>(theft: &'a Theft, source: &Source, figure: &str, ways: &[(&str, usize)]) -> Vec<Line<'a>> {
    let curves = of(theft, source);
    let last = |curve: &Curve| {
        curve.points.last().and_then(|point| point.figures.get(figure)).map_or(0.0, |value| value.mean)
    };
    let mut best: Vec<&Curve> = Vec::new();
    for &curve in &curves {
        let alike = |other: &&mut &Curve| {
            (&other.thief.strategy, other.thief.k, other.thief.surrogate)
                == (&curve.thief.strategy, curve.thief.k, curve.thief.surrogate)
        };
        match best.iter_mut().find(alike) {
            Some(other) if last(other) < last(curve) => *other = curve,
            Some(_) => {}
            None => best.push(curve),
        }
    }
    let colour = |curve: &Curve| {
        let place = ways.iter().position(|&way| way == (curve.thief.strategy.as_str(), curve.thief.k));
        COLOURS[place.unwrap_or(0) % COLOURS.len()]
    };
    best.into_iter()
        .map(|curve| Line { name: legend(&curves, &curve.thief), colour: colour(curve), curve })
        .collect()
}

fn panel(figure: &str, source: &Source, lines: &[Line<'_>], highest: f64, area: &Canvas<'_>) -> Drawn {
    let (width, height) = area.dim_in_pixel();
    let (left, right) = (LEFT, width as i32 - RIGHT);
    let (top, bottom) = (TOP, height as i32 - BOTTOM);
    let (step, decimals) = tick_step(highest);
    let ceiling = (highest * 1.04 / step).ceil().max(1.0) * step;
    let y_of = |value: f64| bottom - (value.max(0.0) / ceiling * f64::from(bottom - top)).round() as i32;
    let mut budgets: Vec<u64> =
        lines.iter().flat_map(|line| &line.curve.points).map(|point| point.price.questions).collect();
    budgets.sort_unstable();
    budgets.dedup();
    let (least, most) = (budgets.first().copied().unwrap_or(1), budgets.last().copied().unwrap_or(1));
    // Logarithmic, with a little room at both ends.
    let (low, high) = ((least as f64).ln(), (most as f64).ln());
    let scale = f64::from(right - left - 60) / (high - low).max(f64::MIN_POSITIVE);
    let x_of = |questions: u64| {
        if high > low {
            left + 30 + (((questions as f64).ln() - low) * scale).round() as i32
        } else {
            i32::midpoint(left, right)
        }
    };

    let title = format!("{figure}, {} target, defence {}", source.architecture.title, source.defence);
    area.draw(&Text::new(title, (left, 6), text(16, TEXT, HPos::Left, VPos::Top)))?;
    for tick in 0..=(ceiling / step).round() as i32 {
        let value = f64::from(tick) * step;
        let y = y_of(value);
        let line = if tick == 0 { QUIET.stroke_width(1) } else { GRID.stroke_width(1) };
        area.draw(&PathElement::new(vec![(left, y), (right, y)], line))?;
        let label = format!("{value:.decimals$}");
        area.draw(&Text::new(label, (left - 8, y), text(13, QUIET, HPos::Right, VPos::Center)))?;
    }
    let mut free = i32::MAX;
    for &questions in budgets.iter().rev() {
        let (x, label) = (x_of(questions), grouped(questions));
        area.draw(&PathElement::new(vec![(x, bottom), (x, bottom + 4)], QUIET.stroke_width(1)))?;
        // Labels that would run into each other are left out, never the last.
        if x + letters_wide(&label) / 2 < free {
            free = x - letters_wide(&label) / 2 - 6;
            area.draw(&Text::new(label, (x, bottom + 8), text(13, QUIET, HPos::Center, VPos::Top)))?;
        }
    }
    area.draw(&Text::new(
        "questions",
        (i32::midpoint(left, right), bottom + 26),
        text(13, QUIET, HPos::Center, VPos::Top),
    ))?;
    if let Some(target) = source.figures.get(figure) {
        let y = y_of(target.mean);
        for x in (left..right).step_by(10) {
            area.draw(&PathElement::new(vec![(x, y), ((x + 6).min(right), y)], TEXT.stroke_width(1)))?;
        }
    }
    for line in lines {
        let values = line
            .curve
            .points
            .iter()
            .filter_map(|point| Some((x_of(point.price.questions), point.figures.get(figure)?)));
        let values: Vec<_> = values.collect();
        let path: Vec<(i32, i32)> = values.iter().map(|(x, value)| (*x, y_of(value.mean))).collect();
        area.draw(&PathElement::new(path.clone(), line.colour.stroke_width(2)))?;
        for ((x, value), (_, y)) in values.iter().zip(path) {
            let (low, high) = value.ends();
            area.draw(&PathElement::new(
                vec![(*x, y_of(low)), (*x, y_of(high))],
                line.colour.stroke_width(1),
            ))?;
            area.draw(&Circle::new((*x, y), 3, line.colour.filled()))?;
        }
    }
    Ok(())
}
