//! The command line of `gro-train`, as a user meets it.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

use std::process::{Command, Output};

fn run(arguments: &[&str]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    Command::new(env!("CARGO_BIN_EXE_gro-train"))
        .args(arguments)
        .current_dir(directory.path())
        .output()
        .unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn help_teaches_and_completions_are_offered() {
    let help = run(&["--help"]);
    assert!(help.status.success());
    let text = String::from_utf8_lossy(&help.stdout).into_owned();
    assert!(text.contains("Example: gro-train --config") && text.contains("--resume"), "{text}");
    let completions = run(&["completions", "bash"]);
    assert!(completions.status.success());
    assert!(String::from_utf8_lossy(&completions.stdout).contains("gro-train"));
}

#[test]
fn a_gpu_that_this_build_cannot_use_is_refused() {
    let output = run(&["--data", "d", "--out", "t", "--device", "gpu"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("auto, cpu, cuda or cuda:N"), "{}", stderr(&output));
}

#[test]
fn values_no_run_can_use_are_refused_before_anything_is_read() {
    for (setting, expected) in [
        ("train.epochs=0", "train.epochs"),
        ("model.heads=3", "model.heads"),
        ("model.dropout=1.5", "model.dropout"),
        ("train.mask_prob=often", "train.mask_prob"),
        ("optimiser.learning_rate=0.1", "optimizer"),
    ] {
        let output = run(&["--data", "d", "--out", "t", "--set", setting]);
        assert_eq!(output.status.code(), Some(2), "{setting}: {}", stderr(&output));
        assert!(stderr(&output).contains(expected), "{setting}: {}", stderr(&output));
    }
}

#[test]
fn a_space_that_cannot_be_searched_is_refused_before_anything_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let space = directory.path().join("space.yaml");
    for (text, expected) in [
        ("model.dropout: {uniform: [0.1, 1.5]}", "model.dropout=1.5 of the space cannot be tried"),
        ("model.heads: [2, 3]", "model.heads=3 of the space cannot be tried"),
        ("train.epochs: [5]", "train.epochs is set by the search itself"),
        ("model.droput: [0.1]", "model.droput"),
        ("evaluate.top_k: [5]", "no setting of a target's training"),
    ] {
        std::fs::write(&space, text).unwrap();
        let space = space.to_str().unwrap();
        let output = run(&["tune", "--space", space, "--minutes", "1", "--data", "d", "--out", "t"]);
        assert_eq!(output.status.code(), Some(2), "{text}: {}", stderr(&output));
        assert!(stderr(&output).contains(expected), "{text}: {}", stderr(&output));
    }
    for minutes in ["0", "-1", "soon"] {
        let minutes = format!("--minutes={minutes}");
        let output = run(&["tune", "--space", "s", &minutes, "--data", "d", "--out", "t"]);
        assert_eq!(output.status.code(), Some(2), "{minutes}: {}", stderr(&output));
    }
    let output = run(&["tune", "--space", "s", "--data", "d", "--out", "t"]);
    assert!(output.status.code() == Some(2) && stderr(&output).contains("--minutes"), "{}", stderr(&output));
}
