//! Pictures and tables of the page: SVG whose colours follow the page's, light or dark, and text that is fit for HTML.

use std::fmt::Write as _;

/// Width of a picture in its own units. It is about that of a telephone, where the picture is shown as it is; elsewhere it grows.
pub(super) const WIDTH: f64 = 400.0;
/// Colours that there are, as classes `c0` and on.
pub(super) const COLOURS: usize = 10;

/// Where the ends of a text are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// What was drawn so far.
pub(super) struct Svg {
    body: String,
    height: f64,
}

impl Svg {
    pub(super) fn new(height: f64) -> Self {
        Self { body: String::new(), height }
    }

    pub(super) fn line(&mut self, class: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
        let _ = write!(
            self.body,
            "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>"
        );
    }

    pub(super) fn circle(&mut self, class: &str, (x, y): (f64, f64), radius: f64) {
        let _ = write!(self.body, "<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\"/>");
    }

    pub(super) fn path(&mut self, class: &str, points: &[(f64, f64)]) {
        let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = write!(self.body, "<polyline class=\"{class}\" points=\"{}\"/>", points.join(" "));
    }

    pub(super) fn text(&mut self, class: &str, (x, y): (f64, f64), anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let _ = write!(
            self.body,
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>",
            escape(text)
        );
    }

    /// A mean with its whisker along one axis.
    pub(super) fn whisker(&mut self, colour: usize, centre: (f64, f64), ends: [(f64, f64); 2]) {
        let colour = colour % COLOURS;
        self.line(&format!("whisker c{colour}"), ends[0], ends[1]);
        self.circle(&format!("dot c{colour}"), centre, 3.5);
    }

    /// The picture, with what it shows for who cannot see it.
    pub(super) fn finish(self, label: &str) -> String {
        format!(
            "<svg viewBox=\"0 0 {WIDTH} {:.0}\" role=\"img\" aria-label=\"{}\">{}</svg>",
            self.height,
            escape(label),
            self.body
        )
    }
}

/// A straight scale from values to places.
#[derive(Clone, Copy)]
pub(super) struct Scale {
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) start: f64,
    pub(super) end: f64,
}

impl Scale {
    /// One that ends at round values around `low` and `high`.
    pub(super) fn around(low: f64, high: f64, start: f64, end: f64) -> Self {
        let step = step(high - low);
        let (mut from, mut to) = ((low / step).floor() * step, (high / step).ceil() * step);
        if from == to {
            (from, to) = (from - step, to + step);
        }
        Self { from, to, start, end }
    }

    pub(super) fn at(&self, value: f64) -> f64 {
        let share = (value - self.from) / (self.to - self.from);
        self.start + share.clamp(0.0, 1.0) * (self.end - self.start)
    }

    /// Round values within, each with its text; `percent` shows shares.
    pub(super) fn ticks(&self, percent: bool) -> Vec<(f64, String)> {
        let step = step(self.to - self.from);
        let decimals = |step: f64| (-step.log10().floor()).max(0.0) as usize;
        let first = (self.from / step).ceil() as i64;
        let last = (self.to / step + 1e-9).floor() as i64;
        (first..=last)
            .map(|tick| {
                let value = tick as f64 * step;
                let text = if percent {
                    format!("{:.1$} %", 100.0 * value, decimals(100.0 * step * (1.0 + 1e-9)))
                } else {
                    format!("{value:.0$}", decimals(step * (1.0 + 1e-9)))
                };
                (value, text)
            })
            .collect()
    }
}

/// The distance of four or five round values over a range.
fn step(range: f64) -> f64 {
    if !(range > 0.0 && range.is_finite()) {
        return 0.1;
    }
    let unit = 10f64.powf((range / 5.0).log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .map(|times| times * unit)
        .into_iter()
        .find(|step| range / step <= 6.5)
        .unwrap_or(10.0 * unit)
}

/// Lines across a picture at the values of its upright scale, with these beside them.
pub(super) fn upright_axis(svg: &mut Svg, scale: &Scale, percent: bool, (left, right): (f64, f64)) {
    for (value, text) in scale.ticks(percent) {
        let y = scale.at(value);
        svg.line(if value == 0.0 { "axis" } else { "grid" }, (left, y), (right, y));
        svg.text("tick", (left - 5.0, y + 3.5), Anchor::End, &text);
    }
}

/// Lines down a picture at the values of its level scale, with these below them.
pub(super) fn level_axis(svg: &mut Svg, scale: &Scale, percent: bool, (top, bottom): (f64, f64)) {
    for (value, text) in scale.ticks(percent) {
        let x = scale.at(value);
        svg.line(if value == 0.0 { "axis" } else { "grid" }, (x, top), (x, bottom));
        svg.text("tick", (x, bottom + 14.0), Anchor::Middle, &text);
    }
}

/// A text of at most so many letters.
pub(super) fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// Text for HTML, inside an element or an attribute in double quotes.
pub(crate) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            other => safe.push(other),
        }
    }
    safe
}

/// A table; cells that begin like a number stand to the right.
pub(super) fn table(heading: &[&str], rows: &[Vec<String>]) -> String {
    let mut text = String::from("<div class=\"wide\"><table><thead><tr>");
    for name in heading {
        let _ = write!(text, "<th scope=\"col\">{}</th>", escape(name));
    }
    text.push_str("</tr></thead><tbody>\n");
    for row in rows {
        text.push_str("<tr>");
        for cell in row {
            let number = cell.starts_with(|first: char| first.is_ascii_digit() || "+-−<".contains(first));
            let class = if number { " class=\"n\"" } else { "" };
            let _ = write!(text, "<td{class}>{}</td>", escape(cell));
        }
        text.push_str("</tr>\n");
    }
    text.push_str("</tbody></table></div>");
    text
}

/// What colours stand for.
pub(super) fn legend<'a>(names: impl IntoIterator<Item = (usize, &'a str)>) -> String {
    let mut text = String::from("<ul class=\"legend\">");
    for (colour, name) in names {
        let _ = write!(text, "<li><span class=\"swatch s{}\"></span>{}</li>", colour % COLOURS, escape(name));
    }
    text.push_str("</ul>");
    text
}

/// A chapter of the page: a heading, how to read what follows, pictures, and the numbers behind them.
pub(super) struct Chapter {
    pub(super) title: String,
    pub(super) caption: String,
    pub(super) pictures: Vec<String>,
    pub(super) legend: String,
    pub(super) numbers: String,
}

impl Chapter {
    pub(super) fn html(&self) -> String {
        let mut pictures = String::new();
        for picture in &self.pictures {
            let _ = writeln!(pictures, "<div class=\"picture\">{picture}</div>");
        }
        format!(
            "<section>\n<h2>{}</h2>\n<p class=\"caption\">{}</p>\n{}<div class=\"pictures\">\n{pictures}</div>\n<details><summary>The \
             numbers behind this</summary>\n{}</details>\n</section>\n",
            escape(&self.title),
            escape(&self.caption),
            self.legend,
            self.numbers
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_end_at_round_values() {
        let scale = Scale::around(-0.013, 0.087, 0.0, 100.0);
        assert_eq!((scale.at(scale.from), scale.at(scale.to)), (0.0, 100.0));
        let texts: Vec<String> = scale.ticks(false).into_iter().map(|(_, text)| text).collect();
        assert_eq!(texts, ["-0.02", "0.00", "0.02", "0.04", "0.06", "0.08", "0.10"]);
        let texts: Vec<String> = scale.ticks(true).into_iter().map(|(_, text)| text).collect();
        assert_eq!(texts[0], "-2 %");
        assert!(Scale::around(0.0, 0.0, 0.0, 1.0).ticks(false).len() > 1, "no range at all");
    }

    #[test]
    fn names_cannot_break_out_of_the_page() {
        assert_eq!(escape("<script>\"a&b\""), "&lt;script&gt;&quot;a&amp;b&quot;");
        assert!(!table(&["<b>"], &[vec!["<i>".to_owned()]]).contains("<i>"));
    }
}
