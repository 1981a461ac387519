//! The five binaries chained on a few made-up ratings, as a user chains them: the whole run, the same bytes
//! with one thread and with two, nothing done twice, only what a changed setting touches done again, and one
//! clear error with exit code 2 for what cannot work.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test should say where")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use defend::methods::DEFENCES;
use models::ARCHITECTURES;

const SETTINGS: &str = "
model: {hidden: 16, max_len: 10}
optimizer: {learning_rate: 0.01}
train: {batch: 32, epochs: 3, max_predictions: 4}
defend: {gro: {batch: 32, epochs: 2, top_k: 20, lambda: 0.1, student_warmup_epochs: 1}, guard: {top_k: 20}, decoy: {epochs: 2, top_k: 20, batch: 32, histories: 40, length: 12}}
generate: {sequences: 30, top_k: 20}
distill: {batch: 64, epochs: 2}
evaluate: {ks: [1, 10, 20], top_k: 20, bootstrap: 200}
";

/// Names of files that may differ between equal runs.
fn is_volatile(name: &str) -> bool {
    matches!(name, "run.log" | "speed.csv") || name.starts_with("events.")
}

/// A binary of the workspace. Cargo puts test executables into a folder below the binaries.
fn binary(stage: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(Path::parent).unwrap().join(format!("gro-{stage}"));
    assert!(path.exists(), "{} is not built; run `cargo test --workspace`", path.display());
    path
}

/// An experiment in a directory of its own.
struct Experiment {
    root: tempfile::TempDir,
    threads: &'static str,
    /// Where in the world.
    locale: [(&'static str, &'static str); 2],
}

/// Commas for decimal points, another alphabet's case, and a day ahead.
const ELSEWHERE: [(&str, &str); 2] = [("LC_ALL", "tr_TR.UTF-8"), ("TZ", "Pacific/Kiritimati")];

impl Experiment {
    fn new(threads: &'static str) -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("settings.yaml"), SETTINGS).unwrap();
        Self { root, threads, locale: [("LC_ALL", "C"), ("TZ", "UTC")] }
    }

    fn run(&self, stage: &str, arguments: &[&str]) -> Output {
        Command::new(binary(stage))
            .args(arguments)
            .args(["--threads", self.threads])
            .envs(self.locale)
            .current_dir(self.root.path())
            .output()
            .unwrap()
    }

    /// Runs a stage that must succeed; true if it had something to do.
    #[track_caller]
    fn stage(&self, stage: &str, arguments: &[&str]) -> bool {
        let output = self.run(stage, arguments);
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "gro-{stage} {arguments:?}: {log}");
        !log.contains("up to date")
    }

    /// Runs a stage that must refuse; its message.
    #[track_caller]
    fn refusal(&self, stage: &str, arguments: &[&str]) -> String {
        let output = self.run(stage, arguments);
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "gro-{stage} {arguments:?}: {log}");
        assert!(log.starts_with("error: "), "{log}");
        log
    }

    fn synthesize(&self, items: &str, out: &str) {
        let size = ["--users", "60", "--items", items, "--interactions", "1400"];
        self.stage("preprocess", &[&["synth", "--out", out], &size[..]].concat());
    }

    /// The whole chain; the names of the stages that had something to do.
    fn chain(&self, extra: &[&str]) -> Vec<String> {
        let settings = [&["--config", "settings.yaml"], extra].concat();
        let mut busy = Vec::new();
        let mut stage = |name: String, stage: &str, arguments: &[&str]| {
            if self.stage(stage, &[arguments, &settings[..]].concat()) {
                busy.push(name);
            }
        };
        stage("data".into(), "preprocess", &["run", "--input", "ratings", "--out", "data"]);
        stage("target".into(), "train", &["--data", "data", "--out", "target"]);
        let mut runs = Vec::new();
        for defence in DEFENCES.names() {
            let [protected, queries, surrogate, evaluation] =
                ["protected", "queries", "surrogate", "eval"].map(|kind| format!("{kind}-{defence}"));
            let from = ["--data", "data", "--target", "target", "--method", defence, "--out"];
            stage(protected.clone(), "defend", &[&from[..], &[&*protected]].concat());
            stage(queries.clone(), "attack", &["generate", "--target", &protected, "--out", &queries]);
            let from = ["distill", "--queries", &queries, "--surrogate", "bert", "--out", &surrogate];
            stage(surrogate.clone(), "attack", &from);
            let from = ["run", "--data", "data", "--target", &protected, "--surrogate", &surrogate];
            stage(evaluation.clone(), "evaluate", &[&from[..], &["--out", &evaluation]].concat());
            runs.push(evaluation);
        }
        let runs: Vec<&str> = runs.iter().map(String::as_str).collect();
        stage("report".into(), "evaluate", &[&["report", "--out", "report", "--runs"], &runs[..]].concat());
        busy
    }

    /// Every declared file with its bytes.
    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        for directory in std::fs::read_dir(self.root.path()).unwrap().map(|entry| entry.unwrap().path()) {
            if !directory.is_dir() {
                continue;
            }
            for file in std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()) {
                let name = file.file_name().unwrap().to_string_lossy().into_owned();
                if !is_volatile(&name) {
                    let directory = directory.file_name().unwrap().to_string_lossy();
                    files.insert(format!("{directory}/{name}"), std::fs::read(&file).unwrap());
                }
            }
        }
        files
    }
}

/// Architectures, each as target, and as student and surrogate of the one before it in the registry: among them a student that
/// reads histories as its target does not.
fn pairs() -> impl Iterator<Item = (&'static str, &'static str)> {
    ARCHITECTURES.names().zip(ARCHITECTURES.names().cycle().skip(1))
}

/// Every target, undefended and under GRO with two students, attacked with every surrogate.
fn grid(threads: &'static str) -> Experiment {
    let experiment = Experiment::new(threads);
    experiment.synthesize("40", "ratings");
    let stage = |stage: &str, arguments: &[&str], settings: &[&str]| {
        experiment.stage(stage, &[arguments, &["--config", "settings.yaml"], settings].concat());
    };
    stage("preprocess", &["run", "--input", "ratings", "--out", "data"], &[]);
    let mut runs = Vec::new();
    for (target, other) in pairs() {
        let architecture = format!("model.architecture={target}");
        let settings = ["--set", &architecture, "--set", "train.epochs=1", "--set", "distill.epochs=1"];
        let gold = format!("target-{target}");
        stage("train", &["--data", "data", "--out", &gold], &settings);
        let decoy = format!("decoy-{target}");
        let from = ["--data", "data", "--target", &gold, "--method", "decoy", "--out", &decoy];
        stage("defend", &from, &settings);
        let student = format!("defend.gro.student={other}");
        let defences = [("none", None), ("gro", None), ("gro", Some(&student))];
        for (place, (method, student)) in defences.into_iter().enumerate() {
            let name = |kind: &str| format!("{kind}-{target}-{place}");
            let (protected, queries) = (name("protected"), name("queries"));
            let from = ["--data", "data", "--target", &gold, "--method", method, "--out", &protected];
            let student = student.map_or(vec![], |student| vec!["--set", student.as_str()]);
            stage("defend", &from, &[&settings[..], &student].concat());
            stage("attack", &["generate", "--target", &protected, "--out", &queries], &settings);
            for (surrogate, _) in pairs() {
                let (copy, eval) = (name(&format!("{surrogate}-of")), name(&format!("eval-{surrogate}-of")));
                let from = ["distill", "--queries", &queries, "--surrogate", surrogate, "--out", &copy];
                stage("attack", &from, &settings);
                let from = ["run", "--data", "data", "--target", &protected, "--surrogate", &copy];
                stage("evaluate", &[&from[..], &["--out", &eval]].concat(), &settings);
                runs.push(eval);
            }
        }
    }
    let runs: Vec<&str> = runs.iter().map(String::as_str).collect();
    stage("evaluate", &[&["report", "--out", "report", "--runs"], &runs[..]].concat(), &[]);
    experiment
}

#[test]
fn every_target_meets_every_surrogate_with_one_thread_as_with_two() {
    let one = grid("1");
    let report = std::fs::read_to_string(one.root.path().join("report/report.md")).unwrap();
    for name in ["BERT4Rec", "SASRec", "NARM"] {
        assert!(report.contains(name), "{report}");
    }
    let (one, two) = (one.files(), grid("2").files());
    assert_eq!(one.keys().collect::<Vec<_>>(), two.keys().collect::<Vec<_>>());
    for (name, bytes) in &one {
        assert!(bytes == &two[name], "{name} depends on the number of threads");
    }
    // Another student is another defence: it leaves another target.
    for (target, _) in pairs() {
        let model = |place: usize| &one[&format!("protected-{target}-{place}/model.safetensors")];
        assert!(model(0) != model(1) && model(1) != model(2), "{target}");
        assert_ne!(one[&format!("decoy-{target}/model.safetensors")], *model(0), "{target}");
    }
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names
}

#[test]
fn the_whole_chain_runs_once_and_gives_the_same_bytes_again() {
    let experiment = Experiment::new("1");
    experiment.synthesize("40", "ratings");
    let stages = experiment.chain(&[]);
    assert_eq!(stages.len(), 2 + 4 * DEFENCES.names().count() + 1, "{stages:?}");

    // The report names every defence, and the attacker's surrogates.
    let report = std::fs::read_to_string(experiment.root.path().join("report/report.md")).unwrap();
    for defence in DEFENCES.names() {
        assert!(report.contains(defence), "{report}");
    }
    assert!(experiment.root.path().join("report/chart.svg").exists());

    // Nothing is done twice ...
    assert_eq!(experiment.chain(&[]), Vec::<String>::new());

    // ... a changed setting redoes what depends on it ...
    let busy = sorted(experiment.chain(&["--set", "distill.batch=32"]));
    let mut expected = vec!["report".to_owned()];
    expected.extend(DEFENCES.names().flat_map(|d| [format!("surrogate-{d}"), format!("eval-{d}")]));
    assert_eq!(busy, sorted(expected));
    let busy = sorted(experiment.chain(&["--set", "distill.batch=32", "--set", "defend.lambda=0.2"]));
    assert_eq!(busy, ["eval-gro", "protected-gro", "queries-gro", "report", "surrogate-gro"]);

    // ... and two threads, in another place, end in the bytes of one.
    experiment.chain(&[]);
    let again = Experiment { locale: ELSEWHERE, ..Experiment::new("2") };
    again.synthesize("40", "ratings");
    again.chain(&[]);
    let (one, two) = (experiment.files(), again.files());
    assert_eq!(one.keys().collect::<Vec<_>>(), two.keys().collect::<Vec<_>>());
    for (name, bytes) in &one {
        assert!(bytes == &two[name], "{name} depends on the number of threads");
    }
}

/// Every stage with the plain twins of the operations, from the same inputs as with the fused ones, for each architecture.
#[test]
fn plain_kernels_end_where_fused_ones_do_but_for_rounding() {
    let experiment = Experiment::new("2");
    experiment.synthesize("40", "ratings");
    experiment
        .stage("preprocess", &["run", "--input", "ratings", "--out", "data", "--config", "settings.yaml"]);
    let root = experiment.root.path();
    // With GRO_DEVICE=cuda, where a GPU ends.
    let plain = std::env::var("GRO_DEVICE")
        .map_or(["--kernels".to_owned(), "plain".to_owned()], |device| ["--device".to_owned(), device]);
    let fused = ["--device", "cpu"];
    for (architecture, _) in pairs() {
        let setting = format!("model.architecture={architecture}");
        let both = |stage: &str, arguments: &[&str], out: &str| {
            for (kernels, how) in [("fused", fused), ("plain", plain.each_ref().map(String::as_str))] {
                let out = format!("{out}-{kernels}-{architecture}");
                let flags = ["--config", "settings.yaml", "--set", &setting, how[0], how[1], "--out", &out];
                experiment.stage(stage, &[arguments, &flags[..]].concat());
            }
            ["fused", "plain"].map(|kernels| root.join(format!("{out}-{kernels}-{architecture}")))
        };
        let name = |kind: &str| format!("{kind}-fused-{architecture}");
        let (target, protected, queries, copy) =
            (name("target"), name("protected"), name("queries"), name("copy"));
        assert_histories_agree(&both("train", &["--data", "data"], "target"));
        let from = ["--data", "data", "--target", &target, "--method", "gro"];
        assert_histories_agree(&both("defend", &from, "protected"));
        let [fused, plain] = both("attack", &["generate", "--target", &protected], "queries");
        let first = |directory: &Path| {
            let log = artifact::queries::QueryLog::open(&directory.join("queries.parquet")).unwrap();
            log.read_group(0).unwrap()
        };
        let (fused, plain) = (first(&fused), first(&plain));
        // Two scores that nearly tie may change places, and a sequence then goes another way.
        let same = fused.iter().zip(&plain).filter(|(fused, plain)| fused == plain).count();
        assert!(10 * same >= 9 * fused.len(), "{architecture}: {same} of {} sequences", fused.len());
        let from = ["distill", "--queries", &queries, "--surrogate", architecture];
        assert_histories_agree(&both("attack", &from, "copy"));
        let from = ["run", "--data", "data", "--target", &protected, "--surrogate", &copy];
        let metrics = both("evaluate", &from, "eval").map(|directory| {
            let text = std::fs::read_to_string(directory.join("metrics.json")).unwrap();
            numbers(&serde_json::from_str(&text).unwrap())
        });
        assert_close(architecture, &metrics, 0.02);
    }
}

/// Every number of a JSON value, in order.
fn numbers(value: &serde_json::Value) -> Vec<f64> {
    use serde_json::Value;
    match value {
        Value::Number(number) => number.as_f64().into_iter().collect(),
        Value::Array(values) => values.iter().flat_map(numbers).collect(),
        Value::Object(values) => values.values().flat_map(numbers).collect(),
        _ => Vec::new(),
    }
}

#[track_caller]
fn assert_close(what: &str, [left, right]: &[Vec<f64>; 2], tolerance: f64) {
    assert!(left.len() == right.len() && !left.is_empty(), "{what}: {} and {}", left.len(), right.len());
    for (left, right) in left.iter().zip(right) {
        assert!((left - right).abs() <= tolerance * left.abs().max(1.0), "{what}: {left} and {right}");
    }
}

/// Losses and validation of every epoch; and that the kernels were others, which round in another way.
#[track_caller]
fn assert_histories_agree(outputs: &[PathBuf; 2]) {
    let read = |file: &str| outputs.each_ref().map(|output| std::fs::read(output.join(file)).unwrap());
    let [fused, plain] = read("model.safetensors");
    assert!(fused != plain, "{}: the same bytes", outputs[1].display());
    let histories = read("history.csv").map(|text| {
        let text = String::from_utf8(text).unwrap();
        text.split([',', '\n']).filter_map(|cell| cell.parse().ok()).collect::<Vec<f64>>()
    });
    assert_close(&outputs[1].display().to_string(), &histories, 0.02);
}

#[test]
fn what_cannot_work_is_refused_with_one_clear_message() {
    let experiment = Experiment::new("1");
    experiment.synthesize("40", "ratings");
    experiment.synthesize("30", "other-ratings");
    let settings = ["--config", "settings.yaml", "--set", "train.epochs=1"];
    let with = |arguments: &[&'static str]| [arguments, &settings[..]].concat();
    experiment.stage("preprocess", &with(&["run", "--input", "ratings", "--out", "data"]));
    experiment.stage("preprocess", &with(&["run", "--input", "other-ratings", "--out", "other"]));
    experiment.stage("train", &with(&["--data", "data", "--out", "target"]));

    // A file that is not there, and the stage that makes it.
    let message = experiment.refusal("train", &with(&["--data", "nowhere", "--out", "t"]));
    assert!(message.contains("nowhere") && message.contains("gro-preprocess run"), "{message}");
    let message = experiment.refusal("attack", &with(&["generate", "--target", "nowhere", "--out", "q"]));
    assert!(message.contains("model.safetensors"), "{message}");

    // A misspelt setting.
    let misspelt = with(&["--data", "data", "--out", "t", "--set", "train.epoch=1"]);
    let message = experiment.refusal("train", &misspelt);
    assert!(message.contains("train.epoch") && message.contains("train.epochs"), "{message}");

    // A list longer than the catalogue.
    let long = with(&["generate", "--target", "target", "--out", "q", "--set", "generate.top_k=41"]);
    let message = experiment.refusal("attack", &long);
    assert!(message.contains("generate.top_k is 41"), "{message}");
    let long = with(&[
        "--data",
        "data",
        "--target",
        "target",
        "--method",
        "gro",
        "--out",
        "p",
        "--set",
        "defend.top_k=400",
    ]);
    assert!(experiment.refusal("defend", &long).contains("defend.gro.top_k is 400"));

    // A model and a dataset that do not belong together.
    let foreign = with(&["--data", "other", "--target", "target", "--method", "gro", "--out", "p"]);
    let message = experiment.refusal("defend", &foreign);
    assert!(message.contains("target/model.safetensors") && message.contains("other"), "{message}");
    let message = experiment
        .refusal("evaluate", &with(&["run", "--data", "other", "--target", "target", "--out", "e"]));
    assert!(message.contains("target/model.safetensors") && message.contains("other"), "{message}");

    // A model that was cut off on its way here.
    let model = experiment.root.path().join("target/model.safetensors");
    let bytes = std::fs::read(&model).unwrap();
    std::fs::write(&model, &bytes[..bytes.len() / 2]).unwrap();
    let message = experiment.refusal("attack", &with(&["generate", "--target", "target", "--out", "q"]));
    assert!(message.contains("model.safetensors") && message.contains("truncated"), "{message}");

    // Nothing was written by any of them.
    for name in ["t", "q", "p", "e"] {
        assert!(!experiment.root.path().join(name).exists(), "{name} was written");
    }
}
