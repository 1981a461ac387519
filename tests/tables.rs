//! Tables of every kind, as pandas reads them and as `gro-preprocess run` does: the same rows, ids and sequences.
//!
//! `tables.py` has pandas write random tables (text with any separator, quotation, encoding and packing, JSON, Parquet), reads them
//! with pandas and applies the rules of docs/mathematics.md, section 1. Its Python is that of [`tools`].

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test should say where")]

mod tools;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use artifact::dataset::{Dataset, Stats, read_raw_items, read_raw_users};
use serde_json::Value;
use tools::{text, tools};

/// How many tables are read.
const TABLES: usize = 200;

/// The seed of their random streams.
const SEED: usize = 1;

fn binary() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().and_then(Path::parent).unwrap().join("gro-preprocess")
}

#[test]
fn pandas_reads_the_same() {
    let Some(tools) = tools() else { return };
    let directory = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tables.py");
    let arguments = [TABLES.to_string(), SEED.to_string()];
    let output = Command::new(tools.join("python"))
        .arg(script)
        .arg(directory.path())
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let manifest = fs::read_to_string(directory.path().join("manifest.json")).unwrap();
    let manifest: Vec<Value> = serde_json::from_str(&manifest).unwrap();
    assert_eq!(manifest.len(), TABLES);
    let left = manifest.iter().filter(|table| compare(directory.path(), table)).count();
    // Where filters leave nothing, there is nothing to compare but the refusal.
    assert!(left * 2 > TABLES, "{left} of {TABLES} tables have anything left");
}

/// Reads a table and compares; false where nothing of it is left, which has to be refused.
fn compare(folder: &Path, table: &Value) -> bool {
    let file = folder.join(table["file"].as_str().unwrap());
    let (settings, out) = (file.with_extension("settings.yaml"), file.with_extension("out"));
    let context = format!("{}: {}", file.display(), table["settings"]);
    fs::write(&settings, format!("{{\"preprocess\": {}}}", table["settings"])).unwrap();
    let output = Command::new(binary())
        .args(["run", "--input"])
        .arg(&file)
        .arg("--out")
        .arg(&out)
        .arg("--config")
        .arg(&settings)
        .output()
        .unwrap();
    let texts = |key: &str| -> Vec<String> {
        table[key].as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    let (users, items) = (texts("users"), texts("items"));
    let raw: Vec<u64> =
        table["raw"].as_array().unwrap().iter().map(|count| count.as_u64().unwrap()).collect();
    if users.is_empty() {
        let message = text(&output);
        assert_eq!(output.status.code(), Some(2), "{context}\n{message}");
        assert!(
            message.contains(&format!("nothing is left of the {} interactions", raw[0])),
            "{context}\n{message}"
        );
        return false;
    }
    assert!(output.status.success(), "{context}\n{}", text(&output));
    let stats = Stats::read(&out).unwrap();
    let found = [stats.raw_interactions, stats.raw_users, stats.raw_items].map(Option::unwrap);
    assert_eq!(found[..], raw[..], "rows, users and items before any filter; {context}");
    assert_eq!(read_raw_users(&out).unwrap(), users, "{context}");
    assert_eq!(read_raw_items(&out).unwrap(), items, "{context}");
    let dataset = Dataset::read(&out).unwrap();
    for (user, sequence) in table["sequences"].as_array().unwrap().iter().enumerate() {
        let held_out = [dataset.valid(user)].into_iter().chain(dataset.test(user));
        let ids = dataset.train(user).iter().copied().chain(held_out);
        let found: Vec<&str> = ids.map(|id| items[id as usize - 1].as_str()).collect();
        let expected: Vec<&str> =
            sequence.as_array().unwrap().iter().map(|item| item.as_str().unwrap()).collect();
        assert_eq!(found, expected, "user {}; {context}", users[user]);
    }
    true
}
