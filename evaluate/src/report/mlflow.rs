//! The runs of a report in the file format of MLflow, for `mlflow ui --backend-store-uri DIR` and whatever else reads it.
//!
//! An experiment is the report; a run in it is an evaluated run, with its figures, or a trained model, with its history epoch by
//! epoch. Ids follow from names, so that a report that is written again replaces its own runs and no others. MLflow takes no `@` in names of metrics:
//! `HR@10` is `HR_at_10`.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use stage::Refusal;
use stage::output::{place_beside, resolved};

use super::grouping::Run;
use super::page::Training;
use crate::figures::{Figures, METRICS, PROTOCOL, Subject};
use crate::theft::curves::way_of_subject;

/// Characters of an id of a run.
const ID: usize = 32;
/// Characters of an id of an experiment, which are digits.
const EXPERIMENT: usize = 18;
/// MLflow's numbers for a run that has ended, that is going on, and for a run of a local program.
const FINISHED: u32 = 3;
const RUNNING: u32 = 1;
const LOCAL: u32 = 4;

/// `meta.yaml` of an experiment.
#[derive(Serialize)]
#[expect(clippy::struct_field_names, reason = "the keys are MLflow's")]
struct Experiment<'a> {
    artifact_location: String,
    creation_time: u64,
    experiment_id: &'a str,
    last_update_time: u64,
    lifecycle_stage: &'static str,
    name: &'a str,
}

/// `meta.yaml` of a run.
#[derive(Serialize)]
struct Meta<'a> {
    artifact_uri: String,
    end_time: Option<u64>,
    entry_point_name: &'static str,
    experiment_id: &'a str,
    lifecycle_stage: &'static str,
    run_id: &'a str,
    run_name: &'a str,
    run_uuid: &'a str,
    source_name: &'static str,
    source_type: u32,
    source_version: &'static str,
    start_time: u64,
    status: u32,
    tags: [(); 0],
    user_id: &'static str,
}

/// A name of an experiment, as its `meta.yaml` says.
#[derive(Deserialize)]
struct Named {
    name: String,
}

/// A run on its way.
struct Recorded<'a> {
    name: &'a str,
    status: u32,
    params: Vec<(String, String)>,
    /// Values with the steps they were measured at.
    metrics: Vec<(String, Vec<(usize, f64)>)>,
    tags: Vec<(&'static str, String)>,
    /// Files to lie beside it.
    artifacts: Vec<PathBuf>,
}

/// Where runs go, and what they are called together.
pub(crate) struct Store {
    root: PathBuf,
    experiment: String,
    name: String,
}

impl Store {
    /// A store at `root` with an experiment that is called after the report at `out`. Nothing is written yet.
    ///
    /// Fails, as a refusal, where nothing can be written there, within an output, or where another experiment has the name.
    pub(crate) fn open(root: &Path, out: &Path) -> Result<Self> {
        let place = place_beside("--mlflow", root)?;
        let (_, report) = resolved(out).with_context(|| format!("cannot find {}", out.display()))?;
        if place.starts_with(&report) {
            return Err(Refusal::new(format!(
                "--mlflow {} lies in the output {}, which is replaced as a whole; name another directory",
                root.display(),
                out.display()
            ))
            .into());
        }
        let absolute = std::path::absolute(out).unwrap_or_else(|_| out.to_owned());
        let names = [absolute.parent().and_then(Path::file_name), absolute.file_name()];
        let names: Vec<_> =
            names.into_iter().flatten().map(|name| name.to_string_lossy().into_owned()).collect();
        let name = names.join("/");
        let digits = artifact::digest::bytes(name.as_bytes());
        // A number of so many digits, the first of which is none of the zeros that MLflow gives a meaning.
        let number = u64::from_str_radix(&digits[..15], 16).unwrap_or(0) % 10u64.pow(EXPERIMENT as u32 - 1);
        let experiment = format!("1{number:017}");
        if let Ok(entries) = fs::read_dir(root) {
            for place in entries.filter_map(|entry| entry.ok().map(|entry| entry.path())) {
                let meta = fs::read_to_string(place.join("meta.yaml")).unwrap_or_default();
                let named: Option<Named> = serde_yaml::from_str(&meta).ok();
                let ours = place.file_name().is_some_and(|name| name.to_string_lossy() == *experiment);
                if !ours && named.is_some_and(|named| named.name == name) {
                    let message = format!(
                        "{} holds an experiment {name} that no report wrote; choose another --mlflow, or another --out, after which it is named",
                        root.display()
                    );
                    return Err(Refusal::new(message).into());
                }
            }
        }
        Ok(Self { root: root.to_owned(), experiment, name })
    }

    /// Write evaluated runs, trained models and the report, in place of what an earlier report of that name wrote.
    pub(crate) fn write(
        &self,
        runs: &[(PathBuf, Run)],
        trained: &[(PathBuf, Training)],
        report: &Path,
        files: &[&str],
    ) -> Result<()> {
        let home = self.root.join(&self.experiment);
        if home.exists() {
            fs::remove_dir_all(&home).with_context(|| format!("cannot remove {}", home.display()))?;
        }
        let meta = Experiment {
            artifact_location: uri(&home),
            creation_time: 0,
            experiment_id: &self.experiment,
            last_update_time: 0,
            lifecycle_stage: "active",
            name: &self.name,
        };
        put(&home.join("meta.yaml"), &serde_yaml::to_string(&meta)?)?;
        for (directory, run) in runs {
            self.run(&evaluated(directory, run), directory)?;
        }
        for (directory, training) in trained {
            self.run(&fitted(directory, training), directory)?;
        }
        let artifacts = files.iter().map(|file| report.join(file)).filter(|file| file.is_file()).collect();
        let whole = Recorded {
            name: "report",
            status: FINISHED,
            params: Vec::new(),
            metrics: Vec::new(),
            tags: vec![("gro.kind", "report".to_owned())],
            artifacts,
        };
        self.run(&whole, report)
    }

    fn run(&self, run: &Recorded<'_>, directory: &Path) -> Result<()> {
        let id = &artifact::digest::bytes(format!("{}\n{}", self.name, run.name).as_bytes())[..ID];
        let home = self.root.join(&self.experiment).join(id);
        let (start, end) = times(directory);
        let meta = Meta {
            artifact_uri: uri(&home.join("artifacts")),
            end_time: Some(end).filter(|_| run.status == FINISHED),
            entry_point_name: "",
            experiment_id: &self.experiment,
            lifecycle_stage: "active",
            run_id: id,
            run_name: run.name,
            run_uuid: id,
            source_name: "",
            source_type: LOCAL,
            source_version: "",
            start_time: start,
            status: run.status,
            tags: [],
            user_id: "",
        };
        put(&home.join("meta.yaml"), &serde_yaml::to_string(&meta)?)?;
        for part in ["artifacts", "metrics", "params", "tags"] {
            let path = home.join(part);
            fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        }
        for (name, value) in &run.params {
            put(&home.join("params").join(plain(name)), value)?;
        }
        for (name, values) in &run.metrics {
            let mut lines = String::new();
            for (step, value) in values.iter().filter(|(_, value)| value.is_finite()) {
                let _ = writeln!(lines, "{end} {value} {step}");
            }
            if !lines.is_empty() {
                put(&home.join("metrics").join(plain(name)), &lines)?;
            }
        }
        put(&home.join("tags").join("mlflow.runName"), run.name)?;
        for (name, value) in &run.tags {
            put(&home.join("tags").join(name), value)?;
        }
        for file in &run.artifacts {
            let to = home.join("artifacts").join(file.file_name().unwrap_or_default());
            fs::copy(file, &to)
                .with_context(|| format!("cannot copy {} to {}", file.display(), to.display()))?;
        }
        Ok(())
    }
}

/// An evaluated run.
fn evaluated<'a>(directory: &Path, run: &'a Run) -> Recorded<'a> {
    let protocol = &run.protocol;
    let Subject { architecture, defence, policy, checkpoint, settings, .. } = &protocol.target;
    let mut params = vec![
        ("seed".to_owned(), protocol.seed.to_string()),
        ("target".to_owned(), architecture.to_string()),
        ("defence".to_owned(), defence.clone()),
        ("policy".to_owned(), policy.clone()),
        ("protocol".to_owned(), protocol.conditions.to_string()),
    ];
    let word = |value: &Json| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    // A slash would ask for a folder where the file of the defence's name lies.
    params.extend(settings.iter().map(|(name, value)| (format!("defence.{name}"), word(value))));
    let mut tags = vec![("gro.kind", "evaluation".to_owned()), ("gro.target", checkpoint.clone())];
    if let Some(copy) = &protocol.surrogate {
        params.push(("surrogate".to_owned(), copy.architecture.to_string()));
        params.extend(way_of_subject(copy).map(|way| ("thief".to_owned(), way)));
        params.extend(
            copy.queries
                .iter()
                .map(|queries| ("questions".to_owned(), queries.price().questions.to_string())),
        );
        tags.push(("gro.surrogate", copy.checkpoint.clone()));
    }
    let mut metrics = Vec::new();
    let mut section = |name: &str, figures: &Figures| {
        for (figure, value) in figures {
            for (end, value) in [("", value.mean), ("_low", value.low), ("_high", value.high)] {
                metrics.push((format!("{name}/{figure}{end}"), vec![(0, value)]));
            }
        }
    };
    section("popular", &run.metrics.popular);
    section("target", &run.metrics.target);
    if let Some(table) = &run.metrics.table {
        section("table", &table.quality);
        section("table_answered", &table.answered);
        if let Some(own) = &table.own {
            section("table_own", own);
        }
    }
    if let Some(figures) = &run.metrics.surrogate {
        section("surrogate", figures);
    }
    if let Some(fidelity) = &run.metrics.fidelity {
        section("answered", &fidelity.answered);
        if let Some(own) = &fidelity.own {
            section("own", own);
        }
    }
    let artifacts = [METRICS, PROTOCOL].map(|file| directory.join(file)).to_vec();
    Recorded { name: &run.name, status: FINISHED, params, metrics, tags, artifacts }
}

/// A trained model.
fn fitted<'a>(directory: &Path, training: &'a Training) -> Recorded<'a> {
    let history = &training.history;
    let metrics = history.columns.iter().enumerate().map(|(column, name)| {
        let values = history.rows.iter().filter_map(|row| Some((row.epoch, row.values[column]?)));
        (name.clone(), values.collect())
    });
    let settings = directory.join(stage::output::SETTINGS);
    Recorded {
        name: &training.name,
        status: if training.begun { RUNNING } else { FINISHED },
        params: fs::read_to_string(&settings).map_or_else(|_| Vec::new(), |text| flat(&text)),
        metrics: metrics.collect(),
        tags: vec![("gro.kind", "training".to_owned())],
        artifacts: Some(settings).filter(|file| file.is_file()).into_iter().collect(),
    }
}

/// Settings as parameters: `train.epochs` and its value.
fn flat(text: &str) -> Vec<(String, String)> {
    fn walk(prefix: &str, value: &serde_yaml::Value, found: &mut Vec<(String, String)>) {
        if let serde_yaml::Value::Mapping(values) = value {
            for (key, value) in values {
                let key = key.as_str().unwrap_or_default();
                let name = if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") };
                walk(&name, value, found);
            }
        } else {
            let words = serde_json::to_string(value).unwrap_or_default();
            found.push((prefix.to_owned(), words.trim_matches('"').to_owned()));
        }
    }
    let mut found = Vec::new();
    if let Ok(value) = serde_yaml::from_str(text) {
        walk("", &value, &mut found);
    }
    found
}

/// Begin and end of what filled a directory, in milliseconds since 1970; 0 where its record does not say.
fn times(directory: &Path) -> (u64, u64) {
    #[derive(Deserialize)]
    struct Record {
        started: String,
        ended: String,
    }
    let record = fs::read_to_string(directory.join(stage::output::RUN_LOG)).unwrap_or_default();
    let record: Option<Record> = serde_yaml::from_str(&record).ok();
    record.map_or((0, 0), |record| (milliseconds(&record.started), milliseconds(&record.ended)))
}

/// A time as records have it, `2026-11-26T10:54:04.059992Z`, in milliseconds since 1970; 0 where it is none.
fn milliseconds(time: &str) -> u64 {
    let number =
        |range: std::ops::Range<usize>| time.get(range).and_then(|digits| digits.parse::<i64>().ok());
    let part = || {
        let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
        let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
        // Days from 1970 in the Gregorian calendar, the year taken to begin in March.
        let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
        let days =
            365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
        let thousandths = number(20..23).unwrap_or(0);
        u64::try_from(((days * 24 + hour) * 60 + minute) * 60_000 + second * 1000 + thousandths).ok()
    };
    part().unwrap_or(0)
}

/// A name as MLflow takes it.
fn plain(name: &str) -> String {
    let taken = |letter: char| letter.is_ascii_alphanumeric() || "_-. /".contains(letter);
    let name = name.replace('@', "_at_");
    let name: String = name.chars().map(|letter| if taken(letter) { letter } else { '_' }).collect();
    // A part of a path that leads upwards is no name.
    name.split('/')
        .map(|part| if part.trim_matches('.').is_empty() { "_" } else { part })
        .collect::<Vec<_>>()
        .join("/")
}

/// A path as an address.
fn uri(path: &Path) -> String {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let text = absolute.to_string_lossy().into_owned();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte);
    let address: String = text
        .bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect();
    format!("file://{address}")
}

fn put(path: &Path, text: &str) -> Result<()> {
    if let Some(home) = path.parent() {
        fs::create_dir_all(home).with_context(|| format!("cannot make {}", home.display()))?;
    }
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_milliseconds_since_1970() {
        assert_eq!(milliseconds("1970-01-01T00:00:00.000000Z"), 0);
        // `date -d 2026-11-26T10:54:04Z +%s`
        assert_eq!(milliseconds("2026-11-26T10:54:04.059992Z"), 1_795_690_444_059);
        assert_eq!(milliseconds("2024-02-29T23:59:59Z"), 1_709_251_199_000);
        assert_eq!(milliseconds("yesterday"), 0);
    }

    #[test]
    fn names_are_those_that_mlflow_takes_and_stay_in_their_folder() {
        assert_eq!(plain("target/HR@10"), "target/HR_at_10");
        assert_eq!(plain("../../x"), "_/_/x");
        assert_eq!(plain("a\nb"), "a_b");
        assert_eq!(uri(Path::new("/a b/ü")), "file:///a%20b/%C3%BC");
    }
}
