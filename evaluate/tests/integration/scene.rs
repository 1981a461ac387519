//! The scene of the tests: a small dataset, untrained models on it, evaluated runs made by hand, and the binary.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use artifact::checkpoint::{Array, Checkpoint, Defence, Description, Kind, MODEL};
use artifact::dataset::{self, Dataset, UserSequence};
use artifact::ranks::{Column, RANKS, Ranks};
use artifact::settings::{Network, Sections};
use models::{Sizes, bert4rec};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tempfile::TempDir;

/// How a call of the binary ended.
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// What a run made by hand speaks of: architectures and defence by name.
pub(crate) struct Cell<'a> {
    pub(crate) target: &'a str,
    pub(crate) surrogate: &'a str,
    pub(crate) defence: &'a str,
    pub(crate) seed: u64,
}

/// A directory of one test.
pub(crate) struct Scene {
    root: TempDir,
}

pub(crate) const ITEMS: usize = 40;
pub(crate) const USERS: usize = 31;

impl Scene {
    pub(crate) fn new() -> Self {
        Self { root: TempDir::new().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Run the binary inside the directory of the test.
    pub(crate) fn evaluate(&self, arguments: &[&str]) -> Ended {
        let ended = Command::new(env!("CARGO_BIN_EXE_gro-evaluate"))
            .args(arguments)
            .current_dir(self.root.path())
            .output()
            .unwrap();
        Ended {
            code: ended.status.code().unwrap(),
            out: String::from_utf8(ended.stdout).unwrap(),
            err: String::from_utf8(ended.stderr).unwrap(),
        }
    }

    pub(crate) fn json(&self, path: &str) -> Value {
        serde_json::from_slice(&std::fs::read(self.path(path)).unwrap()).unwrap()
    }

    pub(crate) fn ranks(&self, directory: &str, column: &str) -> Vec<Option<u32>> {
        match Ranks::read(&self.path(directory).join(RANKS)).unwrap().column(column) {
            Some(Column::Counts(ranks)) => ranks.clone(),
            other => panic!("{directory}: {column} is {other:?}"),
        }
    }

    pub(crate) fn values(&self, directory: &str, column: &str) -> Vec<f64> {
        match Ranks::read(&self.path(directory).join(RANKS)).unwrap().column(column) {
            Some(Column::Values(values)) => values.iter().map(|value| value.unwrap()).collect(),
            other => panic!("{directory}: {column} is {other:?}"),
        }
    }

    /// Write a dataset of random sequences; `first_item` is part of its identity.
    pub(crate) fn dataset(&self, name: &str, first_item: &str) -> Dataset {
        let mut random = ChaCha8Rng::seed_from_u64(11);
        let rows: Vec<Vec<u32>> = (0..USERS)
            .map(|user| (0..3 + user % 9).map(|_| random.random_range(1..=ITEMS as u32)).collect())
            .collect();
        let sequences: Vec<UserSequence<'_>> = rows
            .iter()
            .map(|row| UserSequence {
                train: &row[..row.len() - 2],
                valid: row[row.len() - 2],
                test: Some(row[row.len() - 1]),
            })
            .collect();
        let mut raw_items: Vec<String> = (1..=ITEMS).map(|item| format!("item {item}")).collect();
        first_item.clone_into(&mut raw_items[0]);
        let raw_users: Vec<String> = (1..=USERS).map(|user| format!("user {user}")).collect();
        std::fs::create_dir_all(self.path(name)).unwrap();
        dataset::write(&self.path(name), &raw_items, &raw_users, sequences).unwrap();
        Dataset::read(&self.path(name)).unwrap()
    }

    /// Write an untrained BERT4Rec whose weights are drawn from `seed`.
    pub(crate) fn model(&self, name: &str, dataset: &Dataset, seed: u64, policy: &str) {
        let mut parameters = Sections::new();
        if policy == "random" {
            parameters.insert("answer_seed".to_owned(), 5.into());
        }
        let description = Description {
            kind: Kind::Protected,
            architecture: bert4rec::ARCHITECTURE.to_string(),
            items: dataset.items(),
            network: Network {
                hidden: 8,
                blocks: 1,
                heads: 2,
                max_len: 6,
                dropout: 0.1,
                attention_dropout: 0.1,
            },
            defence: Defence::answers(policy, parameters),
            fingerprint: dataset.fingerprint().to_owned(),
            splits: Vec::new(),
            queries: None,
            learning: None,
        };
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let declared = (bert4rec::ARCHITECTURE.declare)(&Sizes::from(&description));
        let tensors: BTreeMap<String, Array> = declared
            .into_iter()
            .map(|tensor| {
                let values = (0..tensor.shape.iter().product()).map(|_| uniform(&mut random)).collect();
                (tensor.name, Array { shape: tensor.shape, values })
            })
            .collect();
        std::fs::create_dir_all(self.path(name)).unwrap();
        Checkpoint { description, tensors }.write(&self.path(name).join(MODEL)).unwrap();
    }

    /// As [`Self::made`], BERT4Rec attacked with BERT4Rec under seed 1.
    pub(crate) fn evaluated(
        &self,
        name: &str,
        defence: &str,
        mark: f64,
        target: &[Option<u32>],
        surrogate: &[Option<u32>],
    ) {
        self.made(
            name,
            &Cell { target: "bert", surrogate: "bert", defence, seed: 1 },
            mark,
            target,
            surrogate,
        );
    }

    /// Write what `run` would leave behind, from the ranks of a target and a surrogate. `metrics.json` holds figures that
    /// tell where they were read from, not ones that follow from the ranks.
    pub(crate) fn made(
        &self,
        name: &str,
        cell: &Cell<'_>,
        mark: f64,
        target: &[Option<u32>],
        surrogate: &[Option<u32>],
    ) {
        let directory = self.path(name);
        std::fs::create_dir_all(&directory).unwrap();
        let figure = |mean: f64| json!({ "mean": mean, "low": mean - 0.01, "high": mean + 0.01 });
        let quality = |base: f64| {
            json!({
                "HR@10": figure(base), "HR@20": figure(base + 0.1), "NDCG@10": figure(base / 2.0),
                "NDCG@20": figure(base / 2.0 + 0.1), "MRR": figure(base / 3.0),
            })
        };
        let fidelity = |base: f64| {
            json!({
                "Agr@10": figure(base), "EM@10": figure(base / 4.0), "RBO": figure(base / 8.0),
                "KL": figure(base + 2.0),
            })
        };
        let metrics = json!({
            "users": target.len(), "items": 1349, "popular": quality(0.05), "target": quality(mark),
            "surrogate": quality(mark - 0.02),
            "fidelity": { "answered": fidelity(mark / 2.0), "own": fidelity(0.9) },
        });
        let Cell { target: architecture, surrogate: copied, defence, seed } = cell;
        let policy = if matches!(*defence, "random" | "reverse") { defence } else { "none" };
        // A target has one checkpoint, however many surrogates it was evaluated with.
        let checkpoint = match name.rsplit_once('-') {
            Some((target, last)) if last == *copied => format!("target {target}"),
            _ => format!("target {name}"),
        };
        let protocol = json!({
            "fingerprint": "feed", "sequences": "5e9", "users": target.len(), "items": 1349, "ranking": "full",
            "exclude_seen": false, "ks": [10, 20], "top_k": 100, "bootstrap": 500, "seed": seed,
            "target": { "architecture": architecture, "defence": defence, "policy": policy, "checkpoint": checkpoint },
            "surrogate": {
                "architecture": copied, "defence": defence, "policy": "none", "checkpoint": "copy",
                "queries": {
                    "items": 1349, "k": 100, "fingerprint": "feed", "queries": 25000, "sequences": 500,
                    "generation": {
                        "strategy": "autoregressive", "seed_sequences": 0.0, "seeded": 0, "seed_length": 0,
                    },
                },
            },
        });
        write_json(&directory.join("metrics.json"), &metrics);
        write_json(&directory.join("protocol.json"), &protocol);
        let ranks = Ranks {
            users: (1..=target.len() as u32).collect(),
            columns: vec![
                ("target_rank".to_owned(), Column::Counts(target.to_vec())),
                ("surrogate_rank".to_owned(), Column::Counts(surrogate.to_vec())),
            ],
        };
        ranks.write(&directory.join(RANKS)).unwrap();
    }

    /// Keep a figure of every user in the ranks of a run made by hand.
    pub(crate) fn keep(&self, run: &str, column: &str, values: impl IntoIterator<Item = f64>) {
        let path = self.path(run).join(RANKS);
        let mut ranks = Ranks::read(&path).unwrap();
        ranks.columns.push((column.to_owned(), Column::Values(values.into_iter().map(Some).collect())));
        ranks.write(&path).unwrap();
    }

    /// Change one value of a JSON file, named by its pointer.
    pub(crate) fn amend(&self, path: &str, pointer: &str, change: impl FnOnce(&mut Value)) {
        let mut value = self.json(path);
        change(value.pointer_mut(pointer).unwrap());
        write_json(&self.path(path), &value);
    }
}

fn uniform(random: &mut impl Rng) -> f32 {
    random.random_range(-1.0..1.0)
}

fn write_json(path: &Path, value: &Value) {
    std::fs::write(path, serde_json::to_vec_pretty(value).unwrap()).unwrap();
}
