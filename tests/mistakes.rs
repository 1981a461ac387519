//! Commands that people give by mistake, and files that they have: each is refused at once with what to do, or does what was
//! meant. The cases come from public bug reports on programs of this kind.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test should say where")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use artifact::dataset::{self, Dataset, UserSequence};

const SETTINGS: &str = "
model: {architecture: sas, hidden: 16, blocks: 1, heads: 2, max_len: 12}
train: {epochs: 3, batch: 32, loss: cross_entropy}
optimizer: {learning_rate: 0.01}
defend: {gro: {epochs: 1, top_k: 20, batch: 32}}
generate: {sequences: 20, top_k: 20}
distill: {epochs: 2, batch: 16}
evaluate: {ks: [1, 5, 10], top_k: 20, bootstrap: 50}
";

/// A binary of the workspace. Cargo puts test executables into a folder below the binaries.
fn binary(stage: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(Path::parent).unwrap().join(format!("gro-{stage}"));
    assert!(path.exists(), "{} is not built; run `cargo test --workspace`", path.display());
    path
}

/// Runs a stage on `words`, parted by blanks, in `directory`.
fn run_in(directory: &Path, stage: &str, words: &str) -> Output {
    let mut command = Command::new(binary(stage));
    command.args(words.split_whitespace()).args(["--threads", "1"]).current_dir(directory);
    command.output().unwrap()
}

fn log_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// `data` of 60 users and 40 items, `reversed`, which is the same with every history back to front, and a `target` trained
/// on `data`; made once and copied for each test.
fn made() -> &'static Path {
    static MADE: OnceLock<tempfile::TempDir> = OnceLock::new();
    let root = MADE.get_or_init(|| {
        let root = tempfile::tempdir().unwrap();
        let at = root.path();
        fs::write(at.join("settings.yaml"), SETTINGS).unwrap();
        let stage = |stage: &str, words: &str| {
            let output = run_in(at, stage, words);
            assert!(output.status.success(), "gro-{stage} {words}: {}", log_of(&output));
        };
        stage("preprocess", "synth --users 60 --items 40 --interactions 1400 --out ratings");
        stage("preprocess", "run --input ratings --out data");
        stage("train", "--config settings.yaml --data data --out target");
        let data = Dataset::read(&at.join("data")).unwrap();
        let raw = |count: usize, what: &str| (1..=count).map(|id| format!("{what}{id}")).collect::<Vec<_>>();
        let histories: Vec<Vec<u32>> = (0..data.users())
            .map(|user| {
                let history = data.train(user).iter().copied().chain([data.valid(user), data.test(user)]);
                history.rev().collect()
            })
            .collect();
        let sequences = histories.iter().map(|history| {
            let (train, &[valid, test]) = history.split_last_chunk().unwrap();
            UserSequence { train, valid, test }
        });
        fs::create_dir(at.join("reversed")).unwrap();
        dataset::write(&at.join("reversed"), &raw(data.items(), ""), &raw(data.users(), "u"), sequences)
            .unwrap();
        // The items keep their raw ids, so that the fingerprint is the same.
        for file in ["items.parquet", "stats.json"] {
            fs::copy(at.join("data").join(file), at.join("reversed").join(file)).unwrap();
        }
        root
    });
    root.path()
}

/// A directory of a test's own with what [`made`] holds.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        copy(made(), place.path());
        Self(place)
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn run(&self, stage: &str, words: &str) -> Output {
        run_in(self.0.path(), stage, words)
    }

    /// Runs a stage that must succeed; its log.
    #[track_caller]
    fn done(&self, stage: &str, words: &str) -> String {
        let output = self.run(stage, words);
        let log = log_of(&output);
        assert!(output.status.success(), "gro-{stage} {words}: {log}");
        log
    }

    /// Runs a stage that must refuse; its one message.
    #[track_caller]
    fn refused(&self, stage: &str, words: &str) -> String {
        let output = self.run(stage, words);
        let log = log_of(&output);
        assert_eq!(output.status.code(), Some(2), "gro-{stage} {words}: {log}");
        assert!(log.starts_with("error: ") && log.trim_end().lines().count() == 1, "{log}");
        log
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn a_target_is_not_judged_on_other_splits_than_it_was_trained_on() {
    let place = Place::new();
    let evaluate = "run --config settings.yaml --target target --data";
    let own = place.done("evaluate", &format!("{evaluate} data --out own"));
    assert!(!own.contains("splits"), "{own}");
    let message = place.refused("evaluate", &format!("{evaluate} reversed --out e"));
    for part in
        ["target/model.safetensors was trained on other splits than those of reversed", "--other-split"]
    {
        assert!(message.contains(part), "{message}");
    }
    assert!(!place.at("e").exists());

    // Whoever means it gets it, and whoever reads it sees it.
    let log = place.done("evaluate", &format!("{evaluate} reversed --other-split --out e"));
    assert!(log.contains("models trained on other splits"), "{log}");
    let protocol = |run: &str| fs::read_to_string(place.at(run).join("protocol.json")).unwrap();
    assert!(protocol("e").contains("\"other_split\": true"), "{}", protocol("e"));
    assert!(!protocol("own").contains("other_split"), "{}", protocol("own"));
    // The flag alone changes nothing that is right.
    place.done("evaluate", &format!("{evaluate} data --other-split --out flagged"));
    assert_eq!(protocol("own"), protocol("flagged"));
}

#[test]
fn a_protected_target_and_a_surrogate_keep_the_splits_of_their_target() {
    let place = Place::new();
    let settings = "--config settings.yaml";
    let message =
        place.refused("defend", &format!("{settings} --data reversed --target target --method gro --out p"));
    assert!(message.contains("trained on other splits than those of reversed"), "{message}");
    let chain = |name: &str, method: &str| {
        place.done("defend", &format!("{settings} {method} --target target --out p-{name}"));
        place.done("attack", &format!("generate {settings} --target p-{name} --out q-{name}"));
        place.done("attack", &format!("distill {settings} --queries q-{name} --out s-{name}"));
        let evaluate = format!("run {settings} --target p-{name} --surrogate s-{name}");
        let own = place.done("evaluate", &format!("{evaluate} --data data --out e-{name}"));
        assert!(!own.contains("splits"), "{own}");
        place.refused("evaluate", &format!("{evaluate} --data reversed --out f"))
    };
    for (name, method) in [("reverse", "--method reverse"), ("gro", "--method gro --data data")] {
        let message = chain(name, method);
        assert!(
            message.contains(&format!("p-{name}/model.safetensors was trained on other splits")),
            "{message}"
        );
    }
    // The copy alone, too: of a target that was trained on these.
    let other = format!("{settings} --set seed=2 --data reversed --out other");
    place.done("train", &other);
    let message = place.refused(
        "evaluate",
        &format!("run {settings} --data reversed --target other --surrogate s-gro --out f"),
    );
    assert!(message.contains("s-gro/model.safetensors was trained on other splits"), "{message}");
    // And on these, but of another target.
    let words = format!("run {settings} --data data --target target --surrogate s-gro --out f");
    let log = place.done("evaluate", &words);
    assert!(
        log.contains("s-gro/model.safetensors copies another target than target/model.safetensors"),
        "{log}"
    );
    // A defence that learned on both belongs to neither.
    let words = format!("{settings} --data reversed --target target --method gro --other-split --out both");
    place.done("defend", &words);
    for data in ["data", "reversed"] {
        place.refused("evaluate", &format!("run {settings} --data {data} --target both --out f"));
    }
}

#[test]
fn real_histories_come_from_the_splits_of_the_target() {
    let place = Place::new();
    let words =
        "generate --config settings.yaml --set generate.seed_sequences=0.5 --target target --out q --seeds";
    let message = place.refused("attack", &format!("{words} reversed"));
    assert!(message.contains("trained on other splits than those of reversed"), "{message}");
    place.done("attack", &format!("{words} data"));
    place.done("attack", &format!("{words} reversed --other-split --force"));
}

#[test]
fn what_does_not_say_its_splits_is_taken_with_a_warning() {
    let place = Place::new();
    // As earlier versions wrote it: no splits in the checkpoint, and a lock that knows them.
    let model = place.at("target/model.safetensors");
    let mut checkpoint = artifact::checkpoint::Checkpoint::read(&model).unwrap();
    assert_eq!(checkpoint.description.splits.len(), 1);
    checkpoint.description.splits.clear();
    checkpoint.write(&model).unwrap();
    let digest = artifact::digest::file(&model).unwrap();
    let lock = place.at("target/stage.lock");
    let text = fs::read_to_string(&lock).unwrap();
    let start = text.find("path: model.safetensors").unwrap();
    let end = start + text[start..].find("- path").unwrap_or(text.len() - start);
    let entry = format!("path: model.safetensors\n  size: {}\n  blake3: {}\n", digest.size, digest.blake3);
    fs::write(&lock, [&text[..start], &entry, &text[end..]].concat()).unwrap();
    let evaluate = "run --config settings.yaml --target target --data";
    place.done("evaluate", &format!("{evaluate} data --out own"));
    let message = place.refused("evaluate", &format!("{evaluate} reversed --out e"));
    assert!(message.contains("trained on other splits"), "{message}");
    // Without the lock nobody knows.
    fs::remove_file(&lock).unwrap();
    for data in ["data", "reversed"] {
        let log = place.done("evaluate", &format!("{evaluate} {data} --out without-{data}"));
        assert!(
            log.contains("target/model.safetensors does not say which splits it was trained on"),
            "{log}"
        );
    }
}
