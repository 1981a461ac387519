//! `detect.csv`: every figure on a line of its own, curves included.

use std::path::Path;

use anyhow::Context;

use super::figures::{Detection, Flagged, Verdict};

/// `at` is what a figure is taken at: a share of users, a question, a length of histories, an abscissa of the curve. `low` and `high` are
/// empty where no interval was taken, `value` where the figure does not exist (never flagged, nobody there).
const COLUMNS: [&str; 8] = ["who", "k", "detector", "figure", "at", "value", "low", "high"];

struct Lines {
    file: csv::Writer<std::fs::File>,
    who: String,
    k: usize,
    detector: &'static str,
}

impl Lines {
    fn figure(&mut self, figure: &str, at: &str, value: Option<f64>) -> Result<(), csv::Error> {
        self.with_interval(figure, at, value.map(|value| (value, None)))
    }

    fn with_interval(
        &mut self,
        figure: &str,
        at: &str,
        value: Option<(f64, Option<(f64, f64)>)>,
    ) -> Result<(), csv::Error> {
        let text = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
        let ends = value.and_then(|(_, ends)| ends);
        self.file.write_record([
            self.who.clone(),
            self.k.to_string(),
            self.detector.to_owned(),
            figure.to_owned(),
            at.to_owned(),
            text(value.map(|(value, _)| value)),
            text(ends.map(|(low, _)| low)),
            text(ends.map(|(_, high)| high)),
        ])
    }

    /// Behind the guard as it is set.
    fn flagged(&mut self, flagged: &Flagged) -> Result<(), csv::Error> {
        self.figure("accounts", "", Some(flagged.accounts as f64))?;
        self.figure("questions", "", Some(flagged.questions as f64))?;
        self.figure("flagged ever", "", Some(flagged.ever))?;
        self.figure("questions until half are flagged", "", flagged.median.map(f64::from))?;
        self.figure("questions until 90 % are flagged", "", flagged.ninth_decile.map(f64::from))?;
        self.figure("questions answered truly", "", Some(flagged.truly))?;
        for by in &flagged.by_question {
            self.figure("flagged by question", &by.question.to_string(), by.flagged)?;
        }
        Ok(())
    }

    fn verdict(&mut self, verdict: &Verdict) -> Result<(), csv::Error> {
        self.detector = verdict.detector;
        self.figure("users judged", "", Some(verdict.users_judged))?;
        self.figure("accounts judged", "", Some(verdict.accounts_judged))?;
        let area = verdict.area;
        self.with_interval("area", "", Some((area.mean, Some((area.low, area.high)))))?;
        for caught in &verdict.caught {
            let (at, found) = (caught.false_alarms.to_string(), caught.at);
            self.figure("users flagged", &at, found.map(|found| found.users_flagged as f64))?;
            self.figure("caught", &at, found.map(|found| found.caught))?;
            let median = found.and_then(|found| found.median).map(f64::from);
            self.figure("questions until half are caught", &at, median)?;
            let decile = found.and_then(|found| found.ninth_decile).map(f64::from);
            self.figure("questions until 90 % are caught", &at, decile)?;
        }
        for [users, caught] in &verdict.roc {
            self.figure("roc", &users.to_string(), Some(*caught))?;
        }
        Ok(())
    }
}

/// Write the figures as text.
///
/// Fails where the file cannot be written.
pub fn write_csv(detection: &Detection, path: &Path) -> anyhow::Result<()> {
    let failed = || format!("cannot write {}", path.display());
    let mut file = csv::Writer::from_path(path).with_context(failed)?;
    file.write_record(COLUMNS).with_context(failed)?;
    let lines = Lines { file, who: "users".to_owned(), k: 0, detector: "" };
    let mut file = write(detection, lines).with_context(failed)?;
    file.flush().with_context(failed)
}

fn write(detection: &Detection, mut lines: Lines) -> Result<csv::Writer<std::fs::File>, csv::Error> {
    for guarded in &detection.guarded {
        lines.k = guarded.k;
        lines.flagged(&guarded.flagged)?;
        lines.figure("flagged at test question", "", Some(guarded.at_test))?;
        for of in &guarded.by_length {
            let at = of.to.map_or_else(|| format!("{}-", of.from), |to| format!("{}-{to}", of.from));
            lines.figure("users of length", &at, Some(of.users as f64))?;
            lines.figure("flagged ever, of length", &at, of.ever)?;
            lines.figure("flagged at test question, of length", &at, of.at_test)?;
            lines.figure("questions answered truly, of length", &at, of.truly)?;
        }
    }
    for thief in &detection.thieves {
        lines.who.clone_from(&thief.name);
        lines.k = thief.k;
        lines.detector = "";
        lines.flagged(&thief.guarded)?;
        for verdict in &thief.detectors {
            lines.verdict(verdict)?;
        }
    }
    Ok(lines.file)
}
