//! `gro-attack generate` as a user runs it: every way to choose what to ask, and what is refused.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use artifact::checkpoint::{Checkpoint, Defence, Description, Kind};
use artifact::dataset::{self, UserSequence};
use artifact::queries::{Generation, Query, QueryLog};
use artifact::settings::{Network, Sections};
use candle_core::Device;
use models::{Parameters, Sizes, bert4rec};
use streams::{Purpose, Streams};

const ITEMS: usize = 20;
const LENGTH: usize = 6;
const SEQUENCES: usize = 10;
/// Items a user has to train on: user u begins with u, u + 1, and so on; the last user has a single one.
const TRAIN: [usize; 4] = [5, 4, 9, 1];

fn history(user: usize) -> Vec<u32> {
    (0..TRAIN[user] as u32).map(|place| user as u32 + 1 + place).collect()
}

/// A dataset whose validation and test items, 19 and 20, are nobody's to train on.
fn write_dataset(directory: &Path, first_id: usize) {
    std::fs::create_dir(directory).unwrap();
    let raw_items: Vec<String> = (first_id..first_id + ITEMS).map(|id| id.to_string()).collect();
    let trains: Vec<Vec<u32>> = (0..TRAIN.len()).map(history).collect();
    let users: Vec<String> = (1..=TRAIN.len()).map(|user| user.to_string()).collect();
    let sequences = trains.iter().map(|train| UserSequence { train, valid: 19, test: Some(20) });
    dataset::write(directory, &raw_items, &users, sequences).unwrap();
}

fn write_target(directory: &Path, policy: &str) {
    let sizes = Sizes {
        items: ITEMS,
        network: Network {
            hidden: 8,
            blocks: 1,
            heads: 2,
            max_len: LENGTH,
            dropout: 0.1,
            attention_dropout: 0.1,
        },
    };
    let raw_items: Vec<String> = (1..=ITEMS).map(|id| id.to_string()).collect();
    let declared = (bert4rec::ARCHITECTURE.declare)(&sizes);
    let parameters =
        Parameters::initial(&declared, 1.0, &Streams::new(1), Purpose::TargetWeights, &Device::Cpu).unwrap();
    let description = sizes.describe(Kind::Target, bert4rec::ARCHITECTURE, &dataset::fingerprint(&raw_items));
    let description = Description { defence: Defence::answers(policy, Sections::new()), ..description };
    std::fs::create_dir(directory).unwrap();
    let tensors = parameters.to_arrays().unwrap();
    Checkpoint { description, tensors }.write(&directory.join("model.safetensors")).unwrap();
}

/// A directory with a target, the same target behind another policy, its dataset and a foreign one.
fn workplace() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    write_target(&directory.path().join("target"), "none");
    write_target(&directory.path().join("reversed"), "reverse");
    write_dataset(&directory.path().join("data"), 1);
    write_dataset(&directory.path().join("other"), 2);
    directory
}

fn run(directory: &Path, target: &str, out: &str, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gro-attack"))
        .args(["generate", "--target", target, "--out", out])
        .args(["--set", "generate.top_k=5", "--set", &format!("generate.sequences={SEQUENCES}")])
        .args(arguments)
        .current_dir(directory)
        .output()
        .unwrap()
}

#[track_caller]
fn generate(directory: &Path, target: &str, arguments: &[&str]) -> (Generation, Vec<Query>) {
    let output = run(directory, target, "queries", &[arguments, &["--force"]].concat());
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{log}");
    assert!(log.contains(&format!("{} queries", SEQUENCES * LENGTH)), "{log}");
    let log = QueryLog::open(&directory.join("queries/queries.parquet")).unwrap();
    assert_eq!(log.header().queries, (SEQUENCES * LENGTH) as u64);
    (log.header().generation.clone().unwrap(), log.read_group(0).unwrap())
}

fn sequences(queries: &[Query]) -> Vec<&[u32]> {
    queries.iter().map(|query| query.sequence.as_slice()).collect()
}

#[test]
fn random_sequences_do_not_depend_on_the_target() {
    let directory = workplace();
    let random = ["--set", "generate.strategy=random"];
    let (generation, queries) = generate(directory.path(), "target", &random);
    assert_eq!(generation.strategy, "random");
    assert_eq!((generation.seeded, generation.seed_length), (0, 0));
    let (_, reversed) = generate(directory.path(), "reversed", &random);
    assert_eq!(sequences(&queries), sequences(&reversed));
    assert!(queries[0].answers != reversed[0].answers);

    let (generation, queries) = generate(directory.path(), "target", &[]);
    assert_eq!(generation.strategy, "autoregressive");
    let (_, reversed) = generate(directory.path(), "reversed", &[]);
    assert!(sequences(&queries) != sequences(&reversed));
}

#[test]
fn a_share_of_the_sequences_begins_with_training_histories() {
    let directory = workplace();
    let half = ["--seeds", "data", "--set", "generate.seed_sequences=0.6"];
    let (generation, queries) = generate(directory.path(), "target", &half);
    let expected = Generation {
        strategy: "autoregressive".to_owned(),
        seed_sequences: 0.6,
        seeded: 6,
        seed_length: LENGTH / 2,
        owned: 4,
        choices: BTreeMap::new(),
    };
    assert_eq!(generation, expected);

    // Six seeds for four users: everyone once, then two again. The other sequences are as without seeds.
    let (_, without) = generate(directory.path(), "target", &[]);
    let seeded: Vec<usize> = (0..SEQUENCES).filter(|&index| queries[index] != without[index]).collect();
    let mut users = Vec::new();
    for &index in &seeded {
        let sequence = &queries[index].sequence;
        // A user is known by the first item.
        let user = sequence[0] as usize - 1;
        let length = TRAIN[user].min(LENGTH / 2);
        assert_eq!(sequence[..length], history(user)[..length]);
        users.push(user);
    }
    assert_eq!(users.len(), 6);
    let mut first = users[..4].to_vec();
    first.sort_unstable();
    assert_eq!(first, [0, 1, 2, 3]);
    assert_ne!(users[4], users[5]);

    // Another seed takes the users in another order; the length of the beginnings is a setting.
    let longer = [&half[..], &["--set", "generate.seed_length=5", "--seed", "2"]].concat();
    let (generation, queries) = generate(directory.path(), "target", &longer);
    assert_eq!(generation.seed_length, 5);
    let whole = |user: usize| history(user)[..TRAIN[user].min(5)].to_vec();
    for user in 0..TRAIN.len() {
        assert!(queries.iter().any(|query| query.sequence.starts_with(&whole(user))), "user {user}");
    }
    let random = [&half[..], &["--set", "generate.strategy=random"]].concat();
    assert_eq!(generate(directory.path(), "target", &random).0.seeded, 6);
}

#[test]
fn seeds_that_cannot_be_used_are_refused() {
    let directory = workplace();
    let share = "generate.seed_sequences=0.5";
    for (arguments, expected) in [
        (vec!["--set", share], "give one with --seeds"),
        (vec!["--seeds", "data"], "generate.seed_sequences is 0"),
        (vec!["--seeds", "other", "--set", share], "another dataset than other"),
        (vec!["--seeds", "nowhere", "--set", share], "nowhere"),
        (vec!["--seeds", "data", "--set", "generate.seed_sequences=1.5"], "a share from 0 to 1"),
        (vec!["--seeds", "data", "--set", "generate.seed_sequences=0.01"], "none of 10 sequences"),
        (vec!["--seeds", "data", "--set", share, "--set", "generate.seed_length=6"], "less than the 6"),
        (vec!["--seeds", "data", "--set", share, "--set", "generate.seed_length=0"], "at least 1"),
    ] {
        let output = run(directory.path(), "target", "out", &arguments);
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {log}");
        assert!(log.contains(expected), "{arguments:?}: {log}");
        assert!(!directory.path().join("out").exists());
    }
}

#[test]
fn a_thief_in_rounds_spends_the_budget_where_his_copy_disagrees() {
    let directory = workplace();
    let (coverage, _) = generate(directory.path(), "target", &["--set", "generate.strategy=coverage"]);
    assert!(coverage.choices.is_empty(), "nothing departs from the defaults");
    let half = ["--set", "generate.strategy=coverage", "--set", "generate.coverage.share=0.5"];
    let (coverage, _) = generate(directory.path(), "target", &half);
    assert_eq!(coverage.choices["coverage"], serde_json::json!({ "share": 0.5 }));
    let rounds = [
        ["--set", "generate.strategy=rounds", "--set", "distill.epochs=2"],
        ["--set", "model.hidden=8", "--set", "model.max_len=6"],
    ]
    .concat();
    let output = run(directory.path(), "target", "queries", &rounds);
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{log}");
    let log = QueryLog::open(&directory.path().join("queries/queries.parquet")).unwrap();
    // Twice the accounts, each of half the questions on average; some stay short and others grow to the full length.
    let price = log.header().price();
    assert_eq!((price.accounts, price.questions), (20, 60));
    assert_eq!((price.items_listed, price.real_sequences), (300, 0));
    let queries = log.read_group(0).unwrap();
    let lengths: Vec<usize> = queries.iter().map(|query| query.sequence.len()).collect();
    assert!(lengths.iter().all(|length| (1..=LENGTH).contains(length)), "{lengths:?}");
    assert!(lengths.iter().min() < lengths.iter().max(), "{lengths:?}");
    for Query { sequence, answers } in &queries {
        for (place, next) in sequence.iter().enumerate().skip(1) {
            assert!(answers[(place - 1) * 5..place * 5].contains(next), "{sequence:?} at {place}");
        }
    }
}

#[test]
fn settings_of_another_strategy_make_no_log_stale() {
    let directory = workplace();
    let said = |arguments: &[&str]| {
        let strategy = ["--set", "generate.strategy=mimic"];
        let output = run(directory.path(), "target", "out", &[&strategy, arguments].concat());
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{log}");
        log
    };
    assert!(!said(&[]).contains("is up to date"));
    assert!(said(&["--set", "generate.evasive.first=0.3"]).contains("is up to date"));
    assert!(!said(&["--set", "generate.mimic.earlier=0.2"]).contains("is up to date"));
}

#[test]
fn a_share_or_a_budget_that_cannot_be_is_refused() {
    let directory = workplace();
    for (setting, expected) in [
        ("generate.accounts=0", "`generate.accounts` is 0, expected at least 1"),
        ("generate.questions=0", "`generate.questions` is 0, expected at least 1"),
        ("generate.pick=2/place", "1/sqrt(place)"),
        ("generate.clients=0", "`generate.clients` is 0, expected at least 1"),
        ("generate.clients=11", "expected at most the 10 accounts"),
        ("generate.coverage.share=1.5", "above 0 and at most 1"),
        ("generate.mimic.earlier=0.9", "at most 1"),
        ("generate.evasive.first=0.9", "at most 1"),
        ("generate.evasive.own=-1", "a share from 0 to 1"),
        ("generate.rounds.rounds=1", "at least 2"),
        ("generate.short.questions=0", "at least 1"),
        ("generate.top_k=20", "less than the 20 items"),
        ("distill.own_top=1.1", "a share from 0 to 1"),
        ("distill.budget=0", "at least 1"),
        ("distill.loss=hinges", "did you mean `hinge`?"),
        ("distill.suspicion=reverse", "did you mean `reversed`?"),
    ] {
        let output = run(directory.path(), "target", "out", &["--set", setting]);
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{setting}: {log}");
        assert!(log.contains(expected), "{setting}: {log}");
        assert!(!directory.path().join("out").exists());
    }
    let output = run(directory.path(), "command:false", "out", &["--set", "generate.clients=2"]);
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{log}");
    assert!(log.contains("knows its clients by their keys"), "{log}");
    assert!(!directory.path().join("out").exists());
}
