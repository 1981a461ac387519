//! The same seed gives the same bytes, here and on any other processor: a small run of every stage, architecture, strategy and loss,
//! held against hashes that were written down ([`KNOWN`]). A machine that adds in another order, or rounds otherwise, fails here.
//!
//! `GRO_RUNNER="qemu-x86_64 -cpu Haswell"` runs the stages on an emulated processor without AVX-512 (`make known-bytes`),
//! and `make known-bytes-aarch64` on an emulated ARM. A processor without fused multiplication and addition, such as any x86-64 before 2013, rounds otherwise. After a change
//! that is meant to change numbers, `GRO_WRITE_KNOWN_BYTES=1` writes the hashes anew, and the commit says why.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use attack::losses::LIST_LOSSES;
use attack::strategies::STRATEGIES;
use models::ARCHITECTURES;
use serde_yaml::Value;

/// The hashes, by file.
const KNOWN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/known_bytes.txt");

/// Sequences both shorter and longer than what matrix products treat as small.
const SETTINGS: &str = "
model: {hidden: 32, max_len: 24}
optimizer: {learning_rate: 0.01}
train: {batch: 32, epochs: 2, max_predictions: 4}
defend:
  gro: {batch: 32, epochs: 1, top_k: 20, lambda: 0.1, student_warmup_epochs: 1}
  guard: {top_k: 20}
  decoy: {epochs: 1, top_k: 20, batch: 32, histories: 40, length: 12}
generate: {sequences: 20, top_k: 20, rounds: {rounds: 2, epochs: 1}}
distill: {batch: 64, epochs: 2}
evaluate: {ks: [1, 10, 20], top_k: 20, bootstrap: 20}
";

/// A binary of the workspace. Cargo puts test executables into a folder below the binaries.
fn binary(stage: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(Path::parent).unwrap().join(format!("gro-{stage}"));
    assert!(path.exists(), "{} is not built; run `cargo test --workspace`", path.display());
    path
}

/// A directory in which stages are run.
struct Experiment {
    root: tempfile::TempDir,
}

impl Experiment {
    /// Runs a stage, which must succeed; by `GRO_RUNNER` where that is set. The words of `call` are its arguments.
    #[track_caller]
    fn run(&self, stage: &str, call: &str) {
        let runner = std::env::var("GRO_RUNNER").unwrap_or_default();
        let mut words: Vec<PathBuf> = runner.split_whitespace().map(PathBuf::from).collect();
        words.push(binary(stage));
        let output = Command::new(&words[0])
            .args(&words[1..])
            .args(call.split_whitespace())
            .args(["--threads", "1", "--quiet"])
            .current_dir(self.root.path())
            .output()
            .unwrap();
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "gro-{stage} {call}: {log}");
    }

    /// Hashes of all tensors and tables, from the locks beside them.
    fn hashes(&self) -> BTreeMap<String, String> {
        let mut hashes = BTreeMap::new();
        for directory in std::fs::read_dir(self.root.path()).unwrap() {
            let directory = directory.unwrap().path();
            let Ok(lock) = std::fs::read_to_string(directory.join("stage.lock")) else { continue };
            let lock: Value = serde_yaml::from_str(&lock).unwrap();
            for output in lock["outputs"].as_sequence().unwrap() {
                let path = Path::new(output["path"].as_str().unwrap());
                // Settings and measures are text, which changes with its wording.
                if path.extension().is_some_and(|kind| kind == "safetensors" || kind == "parquet") {
                    let name = Path::new(directory.file_name().unwrap()).join(path);
                    let hash = output["blake3"].as_str().unwrap();
                    hashes.insert(name.to_str().unwrap().to_owned(), hash[..16].to_owned());
                }
            }
        }
        hashes
    }
}

/// What was written down.
fn known() -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(KNOWN).unwrap();
    let pair = |line: &str| line.split_once(' ').map(|(file, hash)| (file.to_owned(), hash.to_owned()));
    text.lines().filter_map(pair).collect()
}

#[test]
fn every_stage_and_architecture_gives_the_bytes_that_are_known() {
    let here = Experiment { root: tempfile::tempdir().unwrap() };
    std::fs::write(here.root.path().join("settings.yaml"), SETTINGS).unwrap();
    here.run("preprocess", "synth --users 60 --items 120 --interactions 1500 --out ratings");
    here.run("preprocess", "run --config settings.yaml --input ratings --out data");
    let losses: Vec<&str> = LIST_LOSSES.iter().map(|loss| loss.name).collect();
    for (place, architecture) in ARCHITECTURES.iter().enumerate() {
        let name = architecture.name;
        let settings = format!("--config settings.yaml --set model.architecture={name}");
        here.run("train", &format!("{settings} --data data --out target-{name}"));
        for method in ["gro", "guard", "decoy"] {
            here.run(
                "defend",
                &format!(
                    "{settings} --method {method} --data data --target target-{name} --out {method}-{name}"
                ),
            );
        }
        here.run("attack", &format!("generate {settings} --target guard-{name} --out queries-{name}"));
        let loss = losses[place % losses.len()];
        here.run(
            "attack",
            &format!(
                "distill {settings} --set distill.loss={loss} --queries queries-{name} --surrogate {name} --out copy-{name}"
            ),
        );
        here.run(
            "evaluate",
            &format!(
                "run {settings} --data data --target gro-{name} --surrogate copy-{name} --out measured-{name}"
            ),
        );
    }
    for strategy in &STRATEGIES {
        let name = strategy.name;
        here.run(
            "attack",
            &format!(
                "generate --config settings.yaml --set model.architecture=sas --set generate.strategy={name} --target \
                 target-sas --out asked-{name}"
            ),
        );
    }
    let found = here.hashes();
    if std::env::var_os("GRO_WRITE_KNOWN_BYTES").is_some() {
        let mut text = String::new();
        for (file, hash) in &found {
            writeln!(text, "{file} {hash}").unwrap();
        }
        std::fs::write(KNOWN, text).unwrap();
        return;
    }
    let known = known();
    let other: Vec<&String> = found.keys().filter(|file| known.get(*file) != found.get(*file)).collect();
    let missing: Vec<&String> = known.keys().filter(|file| !found.contains_key(*file)).collect();
    assert!(other.is_empty() && missing.is_empty(), "other bytes: {other:?}; not made: {missing:?}");
}
