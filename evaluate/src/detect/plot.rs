//! The picture of detection: a panel for each thief, a curve for each detector. The share of users ever flagged is logarithmic, for what is
//! below a tenth matters; to the left of one user in all stands what is caught while no user is flagged. The guard as it is set is a
//! dot, chance is dashed.

use std::path::Path;

use anyhow::{Context, anyhow};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::figures::{Detection, Thief};
use crate::report::chart::{COLOURS, Canvas, Drawn, GRID, QUIET, TEXT, letters_wide, text};

const PANEL: (u32, u32) = (500, 360);
const HEADER: u32 = 92;
const LEFT: i32 = 64;
const RIGHT: i32 = 24;
const TOP: i32 = 36;
const BOTTOM: i32 = 56;
/// Pixels between the axis and one user in all, for what is caught while no user is flagged.
const NONE: i32 = 26;
/// Panels of a row.
const COLUMNS: usize = 2;

/// Draw the curves as SVG.
///
/// Fails where the file cannot be written.
pub fn draw(detection: &Detection, path: &Path) -> anyhow::Result<()> {
    let mut svg = String::new();
    render(detection, &mut svg).map_err(|error| anyhow!("cannot draw the curves: {error}"))?;
    std::fs::write(path, svg).with_context(|| format!("cannot write {}", path.display()))
}

fn render(detection: &Detection, svg: &mut String) -> Drawn {
    let count = detection.thieves.len().max(1);
    let columns = count.min(COLUMNS);
    let rows = count.div_ceil(columns);
    let size = (PANEL.0 * columns as u32, HEADER + PANEL.1 * rows as u32);
    let root = SVGBackend::with_string(svg, size).into_drawing_area();
    root.fill(&WHITE)?;
    let (header, body) = root.split_vertically(HEADER);
    let style = |size, colour| text(size, colour, HPos::Left, VPos::Top);
    header.draw(&Text::new("Thieves caught over users flagged", (LEFT, 12), style(20, TEXT)))?;
    let explained = "accounts and users ever flagged, at every threshold";
    header.draw(&Text::new(explained, (LEFT, 38), style(14, QUIET)))?;
    legend(detection, &header)?;
    for (thief, area) in detection.thieves.iter().zip(body.split_evenly((rows, columns))) {
        panel(detection, thief, &area)?;
    }
    root.present()?;
    Ok(())
}

fn legend(detection: &Detection, header: &Canvas<'_>) -> Drawn {
    let names = detection.thieves.first().map(|thief| &thief.detectors).into_iter().flatten();
    let (mut x, y) = (LEFT, 71);
    for (verdict, colour) in names.zip(COLOURS.iter().cycle()) {
        header.draw(&PathElement::new(vec![(x, y), (x + 20, y)], colour.stroke_width(3)))?;
        header.draw(&Text::new(verdict.detector, (x + 26, y), text(14, TEXT, HPos::Left, VPos::Center)))?;
        x += 26 + letters_wide(verdict.detector) + 22;
    }
    header.draw(&Circle::new((x + 5, y), 5, COLOURS[0].filled()))?;
    let dot = "the guard as it is set";
    header.draw(&Text::new(dot, (x + 16, y), text(14, TEXT, HPos::Left, VPos::Center)))?;
    x += 16 + letters_wide(dot) + 10;
    for from in [x, x + 10] {
        header.draw(&PathElement::new(vec![(from, y), (from + 6, y)], QUIET.stroke_width(1)))?;
    }
    header.draw(&Text::new("chance", (x + 22, y), text(14, TEXT, HPos::Left, VPos::Center)))?;
    Ok(())
}

/// From shares to pixels.
struct Scale {
    left: i32,
    right: i32,
    top: i32,
    bottom: i32,
    /// The least share of users there is: one of them.
    least: f64,
}

impl Scale {
    fn x(&self, users: f64) -> i32 {
        if users < self.least / 2.0 {
            return self.left;
        }
        let from = self.left + NONE;
        let share = (users / self.least).ln() / self.least.recip().ln().max(f64::MIN_POSITIVE);
        from + (share.clamp(0.0, 1.0) * f64::from(self.right - from)).round() as i32
    }

    fn y(&self, caught: f64) -> i32 {
        self.bottom - (caught * f64::from(self.bottom - self.top)).round() as i32
    }
}

fn panel(detection: &Detection, thief: &Thief, area: &Canvas<'_>) -> Drawn {
    let (width, height) = area.dim_in_pixel();
    let least = 1.0 / detection.users.max(2) as f64;
    let scale =
        Scale { left: LEFT, right: width as i32 - RIGHT, top: TOP, bottom: height as i32 - BOTTOM, least };
    // Never wider than its panel, as far as can be known.
    let room = (scale.right - scale.left) / (letters_wide("m") + 1);
    let title: String = thief.name.chars().take(room as usize).collect();
    area.draw(&Text::new(title, (scale.left, 8), text(16, TEXT, HPos::Left, VPos::Top)))?;
    axes(&scale, area)?;

    chance(&scale, area)?;
    // The first detector last, so that it lies on top.
    for (place, verdict) in thief.detectors.iter().enumerate().rev() {
        let colour = COLOURS[place % COLOURS.len()];
        let mut path: Vec<(i32, i32)> = Vec::new();
        let mut before: Option<[f64; 2]> = None;
        for &[users, caught] in &verdict.roc {
            // Between two points the curve is straight in shares, and so bent on this axis.
            if let Some([from, low]) = before.filter(|[from, low]| *from < users && *low < caught) {
                for step in 1..16 {
                    let share = f64::from(step) / 16.0;
                    path.push((
                        scale.x(from + share * (users - from)),
                        scale.y(low + share * (caught - low)),
                    ));
                }
            }
            path.push((scale.x(users), scale.y(caught)));
            before = Some([users, caught]);
        }
        area.draw(&PathElement::new(path, colour.stroke_width(2)))?;
    }
    let set = detection.guarded.iter().find(|guarded| guarded.k == thief.k);
    if let Some(guarded) = set {
        let at = (scale.x(guarded.flagged.ever), scale.y(thief.guarded.ever));
        area.draw(&Circle::new(at, 6, WHITE.filled()))?;
        area.draw(&Circle::new(at, 5, COLOURS[0].filled()))?;
    }
    Ok(())
}

/// The same share of both, in dashes of equal length however steep the line is on this axis.
fn chance(scale: &Scale, area: &Canvas<'_>) -> Drawn {
    let (dash, gap) = (6.0, 5.0);
    let steps = 400;
    let points = (0..=steps).map(|step| {
        let users = scale.least.powf(1.0 - f64::from(step) / f64::from(steps));
        (scale.x(users), scale.y(users))
    });
    let (mut along, mut drawn): (f64, Vec<(i32, i32)>) = (0.0, Vec::new());
    let mut before: Option<(i32, i32)> = None;
    for point in points {
        if let Some((x, y)) = before {
            along += f64::from(point.0 - x).hypot(f64::from(point.1 - y));
        }
        before = Some(point);
        if along % (dash + gap) < dash {
            drawn.push(point);
        } else if drawn.len() > 1 {
            area.draw(&PathElement::new(std::mem::take(&mut drawn), QUIET.stroke_width(1)))?;
        } else {
            drawn.clear();
        }
    }
    if drawn.len() > 1 {
        area.draw(&PathElement::new(drawn, QUIET.stroke_width(1)))?;
    }
    Ok(())
}

fn axes(scale: &Scale, area: &Canvas<'_>) -> Drawn {
    for tick in 0..=5 {
        let y = scale.y(f64::from(tick) / 5.0);
        let line = if tick == 0 { QUIET.stroke_width(1) } else { GRID.stroke_width(1) };
        area.draw(&PathElement::new(vec![(scale.left, y), (scale.right, y)], line))?;
        let label = format!("{} %", 20 * tick);
        area.draw(&Text::new(label, (scale.left - 8, y), text(13, QUIET, HPos::Right, VPos::Center)))?;
    }
    // 0, then the shares that are in reach, at one and at three of each power of ten, as far as they stand apart.
    let mut ticks = vec![(scale.left, "0".to_owned())];
    for power in [-4, -3, -2, -1] {
        for digit in [1.0, 3.0] {
            let share = digit * 10f64.powi(power);
            if share >= scale.least {
                ticks.push((scale.x(share), format!("{} %", (1e6 * share).round() / 1e4)));
            }
        }
    }
    ticks.push((scale.right, "100 %".to_owned()));
    let mut free = i32::MIN;
    for (x, label) in ticks {
        area.draw(&PathElement::new(vec![(x, scale.top), (x, scale.bottom)], GRID.stroke_width(1)))?;
        area.draw(&PathElement::new(vec![(x, scale.bottom), (x, scale.bottom + 4)], QUIET.stroke_width(1)))?;
        let half = letters_wide(&label) / 2;
        if x - half > free {
            free = x + half + 4;
            area.draw(&Text::new(label, (x, scale.bottom + 8), text(13, QUIET, HPos::Center, VPos::Top)))?;
        }
    }
    let middle = i32::midpoint(scale.left, scale.right);
    area.draw(&Text::new(
        "users ever flagged",
        (middle, scale.bottom + 28),
        text(13, QUIET, HPos::Center, VPos::Top),
    ))?;
    Ok(())
}
