//! Training curves of all runs, those still going on included.

use artifact::history::History;

use super::svg::{Anchor, COLOURS, Chapter, Scale, Svg, WIDTH, legend, level_axis, table, upright_axis};

/// Runs that have a colour of their own, at most; of more, all are drawn in one.
const COLOURED: usize = 7;
/// Runs whose epochs are all in the table; of more, the last and the best.
const WHOLE: usize = 6;

/// The history of a run.
#[derive(Debug)]
pub struct Training {
    /// The run's directory, as seen from the one that all are in.
    pub name: String,
    /// Whether it is still going on, or was stopped.
    pub begun: bool,
    /// As far as it is.
    pub history: History,
}

impl Training {
    fn title(&self) -> String {
        format!("{}{}", self.name, if self.begun { " (still going on)" } else { "" })
    }
}

pub(super) fn chapter(runs: &[Training]) -> Option<Chapter> {
    let mut columns: Vec<&str> = Vec::new();
    for column in runs.iter().flat_map(|run| &run.history.columns) {
        if !columns.contains(&column.as_str()) && runs.iter().any(|run| run.history.series(column).len() > 1)
        {
            columns.push(column);
        }
    }
    if columns.is_empty() {
        return None;
    }
    let coloured = runs.len() <= COLOURED;
    let titles: Vec<String> = runs.iter().map(Training::title).collect();
    let numbers =
        if runs.len() <= WHOLE { every_epoch(runs, &columns) } else { last_and_best(runs, &columns) };
    let going_on = if runs.iter().any(|run| run.begun) {
        " An open circle at its end marks a run that is still going on, or was stopped; it is shown as far as it is."
    } else {
        ""
    };
    let colours =
        if coloured { "" } else { " There are too many runs for a colour each; the table names them." };
    Some(Chapter {
        title: "Training".to_owned(),
        caption: format!(
            "What each epoch measured. Losses fall; what is measured on validation (the others) rises and levels off. A curve that still climbs at its \
             end was cut short, one that turns round early learned by heart.{going_on}{colours}"
        ),
        pictures: columns.iter().map(|column| picture(runs, column, coloured)).collect(),
        legend: if coloured {
            legend(titles.iter().enumerate().map(|(place, name)| (place, name.as_str())))
        } else {
            String::new()
        },
        numbers,
    })
}

fn every_epoch(runs: &[Training], columns: &[&str]) -> String {
    let heading: Vec<&str> = ["run", "epoch"].into_iter().chain(columns.iter().copied()).collect();
    let mut rows = Vec::new();
    for run in runs {
        for row in &run.history.rows {
            let value = |column: &&str| {
                let place = run.history.columns.iter().position(|name| name == column)?;
                row.values[place].map(|value| format!("{value:.5}"))
            };
            let cells = columns.iter().map(|column| value(column).unwrap_or_default());
            rows.push([run.title(), row.epoch.to_string()].into_iter().chain(cells).collect());
        }
    }
    table(&heading, &rows)
}

fn last_and_best(runs: &[Training], columns: &[&str]) -> String {
    let names: Vec<String> =
        columns.iter().flat_map(|column| [format!("{column}, last"), format!("{column}, best")]).collect();
    let heading: Vec<&str> = ["run", "epochs"].into_iter().chain(names.iter().map(String::as_str)).collect();
    let rows: Vec<Vec<String>> = runs
        .iter()
        .map(|run| {
            let epochs = run.history.rows.last().map_or(0, |row| row.epoch).to_string();
            let cells = columns.iter().flat_map(|column| {
                let series = run.history.series(column);
                let last = series.last().map(|(_, value)| *value);
                let values = series.iter().map(|(_, value)| *value);
                let best = if column.contains("loss") {
                    values.min_by(f64::total_cmp)
                } else {
                    values.max_by(f64::total_cmp)
                };
                [last, best].map(|value| value.map_or(String::new(), |value| format!("{value:.5}")))
            });
            [run.title(), epochs].into_iter().chain(cells).collect()
        })
        .collect();
    table(&heading, &rows)
}

/// A curve: the place of its run, the run, and what each epoch measured.
type Drawn<'a> = (usize, &'a Training, Vec<(usize, f64)>);

fn picture(runs: &[Training], column: &str, coloured: bool) -> String {
    let series: Vec<Drawn<'_>> = runs
        .iter()
        .enumerate()
        .map(|(place, run)| {
            let measured = run.history.series(column).into_iter().filter(|(_, value)| value.is_finite());
            (place, run, measured.collect::<Vec<_>>())
        })
        .filter(|(_, _, series)| !series.is_empty())
        .collect();
    let values = || series.iter().flat_map(|(_, _, series)| series.iter().map(|(_, value)| *value));
    let (lowest, highest) =
        (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
    let last =
        series.iter().filter_map(|(_, _, series)| series.last()).map(|(epoch, _)| *epoch).max().unwrap_or(1);
    let (left, right, top, bottom) = (44.0, WIDTH - 14.0, 28.0, 200.0);
    let y = Scale::around(lowest, highest, bottom, top);
    let x = Scale { from: 0.0, to: last.max(1) as f64, start: left, end: right };
    let mut svg = Svg::new(bottom + 38.0);
    svg.text("name", (0.0, 14.0), Anchor::Start, column);
    upright_axis(&mut svg, &y, false, (left, right));
    level_axis(&mut svg, &x, false, (top, bottom));
    svg.text("tick", (f64::midpoint(left, right), bottom + 31.0), Anchor::Middle, "epoch");
    for (place, run, series) in &series {
        let colour = if coloured { place % COLOURS } else { 0 };
        let line: Vec<(f64, f64)> =
            series.iter().map(|&(epoch, value)| (x.at(epoch as f64), y.at(value))).collect();
        let class = if coloured { "curve" } else { "curve faint" };
        svg.path(&format!("{class} c{colour}"), &line);
        if let Some(&end) = line.last().filter(|_| run.begun || series.len() == 1) {
            svg.circle(&format!("open c{colour}"), end, 3.5);
        }
    }
    svg.finish(&format!("{column} over the epochs of training"))
}
