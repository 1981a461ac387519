//! A thief whom the guard never flags: his copy carries the watermark, and `prove` finds it; the copy of an open target carries none.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

use std::path::{Path, PathBuf};
use std::process::Command;

use artifact::checkpoint::{Checkpoint, MODEL};
use serde_json::{Value, json};
use service::key::KEY;

const SETTINGS: &str = "
model: {architecture: sas, hidden: 16, blocks: 1, heads: 2, max_len: 12}
train: {epochs: 3, batch: 32, loss: cross_entropy}
optimizer: {learning_rate: 0.01}
defend: {guard: {canaries: 0, watermark: 0.4, top_k: 50}}
generate: {strategy: random, sequences: 100, top_k: 60}
distill: {epochs: 16, batch: 32, loss: listmle}
";

/// A binary of the workspace. Cargo puts test executables into a folder below the binaries.
fn binary(stage: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(Path::parent).unwrap().join(format!("gro-{stage}"));
    assert!(path.exists(), "{} is not built; run `cargo test --workspace`", path.display());
    path
}

#[test]
fn the_copy_of_a_thief_who_was_never_flagged_is_found_by_its_watermark() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("settings.yaml"), SETTINGS).unwrap();
    let run = |stage: &str, words: &str| {
        let words = words.split_whitespace();
        let output = Command::new(binary(stage)).args(words).current_dir(root.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    run("preprocess", "synth --users 100 --items 120 --interactions 2400 --out ratings");
    run("preprocess", "run --input ratings --out data");
    run("train", "--config settings.yaml --data data --out target");
    run("defend", "--config settings.yaml --data data --target target --method guard --out fitted");
    // A guard so patient that it flags nobody.
    let [fitted, guarded] = ["fitted", "guarded"].map(|name| root.path().join(name));
    let Checkpoint { mut description, tensors } = Checkpoint::read(&fitted.join(MODEL)).unwrap();
    description.defence.parameters.insert("threshold".to_owned(), json!(f64::MAX));
    std::fs::create_dir(&guarded).unwrap();
    Checkpoint { description, tensors }.write(&guarded.join(MODEL)).unwrap();
    std::fs::copy(fitted.join(KEY), guarded.join(KEY)).unwrap();

    let found = |asked: &str| -> Value {
        run("attack", &format!("generate --config settings.yaml --target {asked} --out queries-{asked}"));
        let learned = format!("--queries queries-{asked} --surrogate sas --out copy-{asked}");
        run("attack", &format!("distill --config settings.yaml {learned}"));
        let proof = format!("--protected guarded --out proof-{asked} --keys 999 --probes 200");
        run("evaluate", &format!("prove --config settings.yaml --suspect copy-{asked} {proof}"));
        let proof = std::fs::read(root.path().join(format!("proof-{asked}/proof.json"))).unwrap();
        serde_json::from_slice::<Value>(&proof).unwrap()["watermark"].clone()
    };
    let (innocent, guilty) = (found("target"), found("guarded"));
    assert_eq!(
        (guilty["at_least_as_high"].as_u64(), guilty["p"].as_f64()),
        (Some(0), Some(0.001)),
        "{guilty}"
    );
    assert!(innocent["p"].as_f64().unwrap() > 0.01, "{innocent}");
}
