//! The picture beside the table: target against surrogate under every defence.
//!
//! One panel per figure and target, one group of bars per defence, one colour per model; whiskers are the 95 % intervals, and a dashed line is
//! what recommending the most popular items to everyone would give. A defence works where the blue bar stays up and the others come down; whiskers
//! that overlap say how little a few hundred users can tell.

use std::path::Path;

use anyhow::{Context, anyhow};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::table::Value;
use super::words::ending;

/// What is to be drawn.
#[derive(Debug, Clone)]
pub struct Chart {
    /// Stands over the panels.
    pub title: String,
    /// Says below the title what the reader needs to know.
    pub subtitle: String,
    /// Name of every colour: the target first, then the surrogates.
    pub series: Vec<String>,
    /// Drawn from left to right and, `columns` of them a row, from top to bottom.
    pub panels: Vec<Panel>,
    /// Panels of a row, or one below the other where that would be too wide to read.
    pub columns: usize,
}

/// One figure of all models.
#[derive(Debug, Clone)]
pub struct Panel {
    /// Stands over the panel.
    pub name: String,
    /// Panels of one scale have one axis, so that they can be compared by eye.
    pub scale: String,
    /// The most popular items' figure.
    pub popular: Option<Value>,
    /// One per defence, from left to right.
    pub groups: Vec<Group>,
}

/// The bars that stand together.
#[derive(Debug, Clone)]
pub struct Group {
    /// Stands under the bars; `\n` starts a second line.
    pub label: String,
    /// One place per series; `None` leaves it empty.
    pub bars: Vec<Option<Value>>,
}

const PANEL_HEIGHT: u32 = 400;
/// A picture that is wider has its panels one below the other.
const WIDEST: u32 = 2400;
/// Where the legend begins, and the height of one of its lines.
const LEGEND: i32 = 73;
const LINE: i32 = 20;
const LEFT: i32 = 70;
const RIGHT: i32 = 24;
const TOP: i32 = 34;
const BOTTOM: i32 = 58;
pub(crate) const TEXT: RGBColor = RGBColor(38, 42, 48);
pub(crate) const QUIET: RGBColor = RGBColor(104, 112, 122);
pub(crate) const GRID: RGBColor = RGBColor(224, 228, 233);
/// Colours that remain apart for readers who do not tell red from green (Okabe & Ito 2008), of this chart and the other plots.
pub(crate) const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(213, 94, 0),
    RGBColor(86, 180, 233),
    RGBColor(90, 90, 90),
    RGBColor(240, 228, 66),
];
const POPULAR: RGBColor = RGBColor(170, 60, 30);

pub(crate) type Canvas<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

/// Draw the chart as SVG.
///
/// Fails where the file cannot be written.
pub fn draw(chart: &Chart, path: &Path) -> anyhow::Result<()> {
    let mut svg = String::new();
    render(chart, &mut svg).map_err(|error| anyhow!("cannot draw the chart: {error}"))?;
    std::fs::write(path, svg).with_context(|| format!("cannot write {}", path.display()))
}

pub(crate) type Drawn = Result<(), Box<dyn std::error::Error>>;

fn render(chart: &Chart, svg: &mut String) -> Drawn {
    let groups = chart.panels.iter().map(|panel| panel.groups.len()).max().unwrap_or(0) as u32;
    let series = chart.series.len() as u32;
    // Many bars are drawn narrower, or the picture would have to be shrunk until nobody could read its labels.
    let (bar, gap) = if chart.columns > 2 || series > 3 { (20, 24) } else { (34, 34) };
    let panel_width = (groups * (series * bar + gap)).max(400) + (LEFT + RIGHT) as u32;
    let columns = match chart.columns.max(1) {
        asked if panel_width * asked as u32 > WIDEST => 1,
        asked => asked,
    };
    let rows = chart.panels.len().div_ceil(columns).max(1);
    let width = panel_width * columns as u32;
    let legend = legend_places(&chart.series, width as i32);
    let header = (legend.last().map_or(LEGEND, |place| place.1) + LINE) as u32;
    let root = SVGBackend::with_string(svg, (width, header + PANEL_HEIGHT * rows as u32)).into_drawing_area();
    root.fill(&WHITE)?;
    let (header, body) = root.split_vertically(header);
    draw_header(chart, &legend, &header)?;
    for (panel, area) in chart.panels.iter().zip(body.split_evenly((rows, columns))) {
        let alike = chart.panels.iter().filter(|other| other.scale == panel.scale);
        let highest = alike.map(Panel::highest).fold(0.0, f64::max);
        draw_panel(panel, highest, chart.series.len(), &area)?;
    }
    root.present()?;
    Ok(())
}

impl Panel {
    /// The highest point that is drawn in it.
    fn highest(&self) -> f64 {
        let bars = self.groups.iter().flat_map(|group| group.bars.iter().flatten());
        let tops = bars.map(|value| value.ends().1.max(value.mean));
        tops.chain(self.popular.map(|value| value.mean)).fold(0.0, f64::max)
    }
}

pub(crate) fn text(size: i32, colour: RGBColor, h: HPos, v: VPos) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&colour).pos(Pos::new(h, v))
}

/// What the dashed line is called.
const POPULAR_NAME: &str = "most popular items";

/// Where each entry of the legend stands, that of the dashed line last: a line is begun where the last one is full.
fn legend_places(series: &[String], width: i32) -> Vec<(i32, i32)> {
    let (mut x, mut y) = (LEFT, LEGEND);
    let entries = series.iter().map(|name| 20 + letters_wide(name));
    let entries = entries.chain([32 + letters_wide(POPULAR_NAME)]);
    entries
        .map(|wide| {
            if x > LEFT && x + wide > width - RIGHT {
                (x, y) = (LEFT, y + LINE);
            }
            let place = (x, y);
            x += wide + 24;
            place
        })
        .collect()
}

fn draw_header(chart: &Chart, legend: &[(i32, i32)], area: &Canvas<'_>) -> Drawn {
    area.draw(&Text::new(chart.title.clone(), (LEFT, 12), text(20, TEXT, HPos::Left, VPos::Top)))?;
    area.draw(&Text::new(chart.subtitle.clone(), (LEFT, 38), text(14, QUIET, HPos::Left, VPos::Top)))?;
    let name = |name: &str, at: (i32, i32)| {
        area.draw(&Text::new(name.to_owned(), at, text(14, TEXT, HPos::Left, VPos::Center)))
    };
    for ((series, colour), &(x, y)) in chart.series.iter().zip(COLOURS.iter().cycle()).zip(legend) {
        area.draw(&Rectangle::new([(x, y - 7), (x + 14, y + 7)], colour.filled()))?;
        name(series, (x + 20, y))?;
    }
    if let Some(&(x, y)) = legend.last() {
        draw_dashes(area, x, x + 26, y)?;
        name(POPULAR_NAME, (x + 32, y))?;
    }
    Ok(())
}

/// About how many pixels a legend entry takes: the viewer picks the font, so this can be no more than generous.
pub(crate) fn letters_wide(name: &str) -> i32 {
    name.chars().count() as i32 * 7
}

fn draw_dashes(area: &Canvas<'_>, from: i32, to: i32, y: i32) -> Drawn {
    let mut x = from;
    while x < to {
        area.draw(&PathElement::new(vec![(x, y), ((x + 6).min(to), y)], POPULAR.stroke_width(2)))?;
        x += 10;
    }
    Ok(())
}

fn draw_panel(panel: &Panel, highest: f64, series: usize, area: &Canvas<'_>) -> Drawn {
    let (width, height) = area.dim_in_pixel();
    let (left, right) = (LEFT, width as i32 - RIGHT);
    let (top, bottom) = (TOP, height as i32 - BOTTOM);
    let (step, decimals) = tick_step(highest);
    let ceiling = (highest * 1.04 / step).ceil().max(1.0) * step;
    let y_of = |value: f64| bottom - (value.max(0.0) / ceiling * f64::from(bottom - top)).round() as i32;

    area.draw(&Text::new(panel.name.clone(), (left, 6), text(16, TEXT, HPos::Left, VPos::Top)))?;
    for tick in 0..=(ceiling / step).round() as i32 {
        let value = f64::from(tick) * step;
        let y = y_of(value);
        let line = if tick == 0 { QUIET.stroke_width(1) } else { GRID.stroke_width(1) };
        area.draw(&PathElement::new(vec![(left, y), (right, y)], line))?;
        let label = format!("{value:.decimals$}");
        area.draw(&Text::new(label, (left - 8, y), text(13, QUIET, HPos::Right, VPos::Center)))?;
    }

    let group_width = f64::from(right - left) / panel.groups.len().max(1) as f64;
    let bar_width = (group_width * 0.74 / series.max(1) as f64).min(64.0);
    for (place, group) in panel.groups.iter().enumerate() {
        let centre = f64::from(left) + group_width * (place as f64 + 0.5);
        for (lines, label) in group.label.lines().enumerate() {
            // Of a name that is too long its end is kept, which tells it from its neighbours'.
            let label = ending(label, (group_width / if lines == 0 { 8.0 } else { 6.5 }) as usize);
            let at = (centre.round() as i32, bottom + 10 + 17 * lines as i32);
            let style = if lines == 0 {
                text(15, TEXT, HPos::Center, VPos::Top)
            } else {
                text(12, QUIET, HPos::Center, VPos::Top)
            };
            area.draw(&Text::new(label, at, style))?;
        }
        for (bar, (value, colour)) in group.bars.iter().zip(COLOURS.iter().cycle()).enumerate() {
            let Some(value) = value else { continue };
            let from = (centre + bar_width * (bar as f64 - series as f64 / 2.0) + 2.0).round() as i32;
            let to = from + (bar_width - 4.0).round() as i32;
            area.draw(&Rectangle::new([(from, y_of(value.mean)), (to, bottom)], colour.filled()))?;
            let middle = i32::midpoint(from, to);
            let cap = ((to - from) / 4).clamp(2, 5);
            let whisker = TEXT.stroke_width(1);
            let (low, high) = value.ends();
            let (low, high) = (y_of(low), y_of(high));
            area.draw(&PathElement::new(vec![(middle, low), (middle, high)], whisker))?;
            for y in [low, high] {
                area.draw(&PathElement::new(vec![(middle - cap, y), (middle + cap, y)], whisker))?;
            }
        }
    }
    match panel.popular {
        Some(popular) => draw_dashes(area, left, right, y_of(popular.mean)),
        None => Ok(()),
    }
}

/// The distance of ticks that gives four to eight of them at a round 1, 2 or 5, and the decimals its labels need.
pub(crate) fn tick_step(highest: f64) -> (f64, usize) {
    if !(highest > 0.0 && highest.is_finite()) {
        return (0.5, 1);
    }
    let power = (highest / 5.0).log10().floor() as i32;
    let unit = 10_f64.powi(power);
    let step = [1.0, 2.0, 5.0, 10.0].map(|times| times * unit).into_iter().find(|step| highest / step <= 6.0);
    let step = step.unwrap_or(10.0 * unit);
    let decimals = if step >= unit * 9.9 { -power - 1 } else { -power };
    (step, decimals.max(0) as usize)
}

#[cfg(test)]
mod tests {
    use super::super::table::Spread;
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        for (highest, step, decimals) in [
            (0.0, 0.5, 1),
            (0.0921, 0.02, 2),
            (0.05, 0.01, 2),
            (1.0, 0.2, 1),
            (0.6, 0.1, 1),
            (0.000_44, 0.0001, 4),
        ] {
            let found = tick_step(highest);
            assert!((found.0 - step).abs() < 1e-9 && found.1 == decimals, "{highest}: {found:?}");
        }
    }

    #[test]
    fn a_legend_takes_as_many_lines_as_it_needs() {
        let series: Vec<String> = (0..7).map(|number| format!("copy number {number}, listmle")).collect();
        let places = legend_places(&series, 500);
        assert_eq!(places.len(), 8);
        let wide = |place: usize| series.get(place).map_or(POPULAR_NAME, String::as_str);
        for (place, &(x, y)) in places.iter().enumerate() {
            assert!(x >= LEFT && x + letters_wide(wide(place)) <= 500, "{places:?}");
            assert!((y - LEGEND) % LINE == 0, "{places:?}");
        }
        assert_eq!(places.iter().collect::<std::collections::BTreeSet<_>>().len(), 8, "{places:?}");
        assert_eq!(legend_places(&series, 5000).last().unwrap().1, LEGEND, "one line where there is room");
    }

    fn value(mean: f64) -> Value {
        Value { mean, spread: Spread::Interval { low: mean * 0.8, high: mean * 1.2 } }
    }

    #[test]
    fn every_bar_and_label_is_drawn() {
        let groups = ["none", "gro"].map(|label| Group {
            label: label.into(),
            bars: vec![Some(value(0.07)), None, Some(value(0.05))],
        });
        let panel = Panel {
            name: "HR@10".into(),
            scale: "HR@10".into(),
            popular: Some(value(0.05)),
            groups: groups.to_vec(),
        };
        let series = vec!["target".into(), "surrogate BERT4Rec".into(), "surrogate NARM".into()];
        let chart = Chart {
            title: "Extraction".into(),
            subtitle: "a < b & c".into(),
            series,
            panels: vec![panel.clone(), Panel { name: "NDCG@10".into(), scale: "NDCG@10".into(), ..panel }],
            columns: 2,
        };
        let mut svg = String::new();
        render(&chart, &mut svg).unwrap();
        for label in
            ["Extraction", "a &lt; b &amp; c", "HR@10", "NDCG@10", "none", "gro", "surrogate NARM", "0.02"]
        {
            assert!(svg.contains(label), "no {label} in\n{svg}");
        }
        // Background, three legend entries, and two bars in each of two groups of two panels.
        assert_eq!(svg.matches("<rect").count(), 1 + 3 + 8);
    }

    #[test]
    fn panels_of_one_scale_share_their_axis() {
        let panel = |name: &str, scale: &str, mean| Panel {
            name: name.into(),
            scale: scale.into(),
            popular: None,
            groups: vec![Group { label: "none".into(), bars: vec![Some(value(mean))] }],
        };
        let labels = |panels| {
            let chart = Chart {
                title: "t".into(),
                subtitle: "s".into(),
                series: vec!["target".into()],
                panels,
                columns: 1,
            };
            let mut svg = String::new();
            render(&chart, &mut svg).unwrap();
            svg.matches("\n0.010\n").count() + svg.matches("\n0.01\n").count()
        };
        assert_eq!(labels(vec![panel("low", "HR@10", 0.01), panel("high", "HR@10", 0.5)]), 0);
        assert_eq!(labels(vec![panel("low", "NDCG@10", 0.01), panel("high", "HR@10", 0.5)]), 1);
    }
}
