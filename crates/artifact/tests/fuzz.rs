//! Damaged files of every kind that stages exchange: each is read or refused as an input, and nothing panics.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use artifact::Error;
use artifact::checkpoint::{Array, Checkpoint, Defence, Description, Kind};
use artifact::dataset::{self, Dataset, ITEMS, SEQUENCES, STATS, USERS, UserSequence};
use artifact::history::{History, HistoryWriter};
use artifact::queries::{Generation, QueryHeader, QueryLog, QueryWriter};
use artifact::ranks::{Column, Ranks};
use artifact::settings::{Network, Sections};
use fuzzing::Target;

/// What a target says of a result. Whatever is wrong with a damaged file is the fault of that input.
fn input_fault<T>(read: Result<T, Error>) -> Result<(), String> {
    match read {
        Ok(_) => Ok(()),
        Err(error) => {
            assert!(error.is_input(), "{error} is no fault of the input");
            Err(error.to_string())
        }
    }
}

fn write_dataset(directory: &Path) {
    let items: Vec<String> = ["a", "b", "7", "a longer id"].map(str::to_owned).into();
    let rows = [
        UserSequence { train: &[1, 2, 3], valid: 4, test: Some(1) },
        UserSequence { train: &[], valid: 2, test: Some(2) },
        UserSequence { train: &[4; 40], valid: 1, test: Some(3) },
    ];
    dataset::write(directory, &items, &["u", "v", "w"], rows).unwrap();
}

fn description() -> Description {
    let network =
        Network { hidden: 2, blocks: 1, heads: 1, max_len: 3, dropout: 0.1, attention_dropout: 0.0 };
    Description {
        kind: Kind::Surrogate,
        architecture: "bert".to_owned(),
        items: 3,
        network,
        defence: Defence::answers("random", Sections::from_iter([("answer_seed".to_owned(), 5.into())])),
        fingerprint: "feed".to_owned(),
        splits: vec!["5e9".to_owned()],
        queries: Some(QueryHeader { items: 3, k: 2, ..QueryHeader::default() }),
        learning: None,
    }
}

#[test]
fn a_damaged_checkpoint_is_read_or_refused() {
    let directory = fuzzing::directory();
    let path = directory.path().join("model.safetensors");
    let seed = |shapes: &[(&str, &[usize])]| {
        let array =
            |shape: &[usize]| Array { shape: shape.to_vec(), values: vec![0.5; shape.iter().product()] };
        let tensors: BTreeMap<_, _> =
            shapes.iter().map(|(name, shape)| ((*name).to_owned(), array(shape))).collect();
        Checkpoint { description: description(), tensors }.write(&path).unwrap();
        fs::read(&path).unwrap()
    };
    let seeds = [seed(&[("a.weight", &[3, 2]), ("b", &[])]), seed(&[("embedding", &[4, 1, 2])])];
    let tokens = [
        "\"dtype\":\"F16\"",
        "\"shape\":[",
        "18446744073709551615",
        "\"data_offsets\":[0,8]",
        "__metadata__",
        "null",
    ];
    Target::new("checkpoint", seeds)
        .tokens(&tokens)
        .holds_in(&path, |path| input_fault(Checkpoint::read(path)));
}

#[test]
fn a_damaged_file_of_a_dataset_is_read_or_refused() {
    let directory = fuzzing::directory();
    write_dataset(directory.path());
    for file in [ITEMS, SEQUENCES, USERS, STATS] {
        let path = directory.path().join(file);
        let whole = fs::read(&path).unwrap();
        let tokens = ["PAR1", "-1", "1e400", "{", "null", "18446744073709551616"];
        Target::new(&format!("dataset-{file}"), [whole.clone()]).tokens(&tokens).holds_in(&path, |_| {
            input_fault(Dataset::read(directory.path()))?;
            input_fault(dataset::read_raw_items(directory.path()))?;
            input_fault(dataset::read_raw_users(directory.path()))
        });
        fs::write(&path, whole).unwrap();
    }
}

/// Every byte of the footers, one after the other: there the library trusts what it reads.
#[test]
fn no_byte_of_a_footer_panics() {
    let directory = fuzzing::directory();
    write_dataset(directory.path());
    let mut refused = 0;
    for file in [ITEMS, SEQUENCES] {
        let path = directory.path().join(file);
        let whole = fs::read(&path).unwrap();
        let length = u32::from_le_bytes(whole[whole.len() - 8..whole.len() - 4].try_into().unwrap()) as usize;
        for place in whole.len() - 8 - length..whole.len() {
            for bit in [0, 3, 7] {
                let mut damaged = whole.clone();
                damaged[place] ^= 1 << bit;
                fs::write(&path, damaged).unwrap();
                refused += usize::from(input_fault(Dataset::read(directory.path())).is_err());
            }
        }
        fs::write(&path, whole).unwrap();
    }
    assert!(refused > 100, "{refused}");
}

#[test]
fn a_damaged_query_log_is_read_or_refused() {
    let directory = fuzzing::directory();
    let path = directory.path().join("queries.parquet");
    let generation = Generation {
        strategy: "random".to_owned(),
        seed_sequences: 0.5,
        seeded: 1,
        seed_length: 2,
        owned: 0,
        choices: std::collections::BTreeMap::new(),
    };
    let header = QueryHeader { items: 9, k: 2, generation: Some(generation), ..QueryHeader::default() };
    let mut writer = QueryWriter::create(&path, header).unwrap();
    for length in 1..6_u32 {
        let sequence: Vec<u32> = (1..=length).collect();
        writer.push(&sequence, &[length, length + 1].repeat(length as usize)).unwrap();
    }
    writer.finish().unwrap();
    let whole = fs::read(&path).unwrap();
    Target::new("queries", [whole]).tokens(&["PAR1", "\"k\":0", "\"items\":"]).holds_in(&path, |path| {
        let log = QueryLog::open(path);
        if let Ok(log) = &log {
            input_fault(log.longest_sequence())?;
            for group in 0..log.groups() {
                input_fault(log.read_group(group))?;
            }
        }
        input_fault(log)
    });
}

#[test]
fn a_damaged_table_of_ranks_is_read_or_refused() {
    let directory = fuzzing::directory();
    let path = directory.path().join("ranks.parquet");
    let counts = Column::Counts((1..60).map(|rank| (rank % 7 > 0).then_some(rank)).collect());
    let values =
        Column::Values((1..60).map(|rank| (rank % 5 > 0).then_some(f64::from(rank) / 3.0)).collect());
    let columns = vec![("target_rank".to_owned(), counts), ("RBO".to_owned(), values)];
    Ranks { users: (1..60).collect(), columns }.write(&path).unwrap();
    let whole = fs::read(&path).unwrap();
    Target::new("ranks", [whole])
        .tokens(&["PAR1", "user"])
        .holds_in(&path, |path| input_fault(Ranks::read(path)));
}

#[test]
fn a_damaged_history_is_read_or_refused() {
    let directory = fuzzing::directory();
    let path = directory.path().join("history.csv");
    let mut writer = HistoryWriter::create(&path).unwrap();
    for epoch in 0..4 {
        let loss = (epoch > 0).then_some(1.5 / epoch as f64);
        writer.push(epoch, &[("loss", loss), ("ndcg@10", Some(0.25))]).unwrap();
    }
    drop(writer);
    let whole = fs::read(&path).unwrap();
    let tokens = [",", "\n", "\r\n", "-1", "1e999", "nan", "epoch", "\u{feff}"];
    Target::new("history", [whole]).tokens(&tokens).holds_in(&path, |path| input_fault(History::read(path)));
}
