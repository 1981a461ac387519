//! Generation against a black box whose answers are known: sequences grow from what was answered, every
//! question is counted, and nothing depends on how many sequences grow side by side.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

use std::path::Path;

use artifact::queries::{Query, QueryHeader, QueryLog, QueryWriter};
use artifact::settings::{Generate, Strategy};
use attack::generate::generate;
use indicatif::ProgressBar;
use ranking::Answers;
use recommender::Streams;
use recommender::black_box::BlackBox;

const ITEMS: usize = 30;
const LENGTH: usize = 8;
const K: usize = 5;

/// Answers every history with the items that follow its last one in the catalogue.
struct Successors {
    queries: u64,
}

fn successors(item: u32) -> Vec<u32> {
    (1..=K as u32).map(|step| 1 + (item - 1 + step) % ITEMS as u32).collect()
}

impl BlackBox for Successors {
    fn top_k(&mut self, histories: &[&[u32]], k: usize) -> recommender::Result<Answers> {
        self.queries += histories.len() as u64;
        let ids = histories.iter().flat_map(|history| successors(history[history.len() - 1])).collect();
        Ok(Answers { k, ids })
    }

    fn items(&self) -> usize {
        ITEMS
    }

    fn queries(&self) -> u64 {
        self.queries
    }
}

fn ask(strategy: Strategy, batch: usize, seed: u64, path: &Path) -> (u64, Vec<Query>) {
    let budget = Generate { sequences: 11, top_k: K, strategy, batch, ..Generate::default() };
    let header = QueryHeader {
        items: ITEMS,
        k: K,
        fingerprint: "f".to_owned(),
        queries: 0,
        sequences: 0,
        generation: None,
    };
    let mut log = QueryWriter::create(path, header).unwrap();
    let mut target = Successors { queries: 100 };
    let streams = Streams::new(seed);
    let asked = generate(&mut target, &budget, LENGTH, &streams, &mut log, &ProgressBar::hidden()).unwrap();
    log.finish().unwrap();
    let log = QueryLog::open(path).unwrap();
    let queries = (0..log.groups()).flat_map(|group| log.read_group(group).unwrap()).collect();
    (asked, queries)
}

#[test]
fn sequences_grow_from_the_answers() {
    let directory = tempfile::tempdir().unwrap();
    let (asked, queries) = ask(Strategy::Autoregressive, 4, 1, &directory.path().join("q"));
    assert_eq!(asked, 11 * LENGTH as u64);
    assert_eq!(queries.len(), 11);
    for Query { sequence, answers } in &queries {
        assert_eq!((sequence.len(), answers.len()), (LENGTH, LENGTH * K));
        for (place, &item) in sequence.iter().enumerate() {
            let list = &answers[place * K..(place + 1) * K];
            assert_eq!(list, successors(item));
            if let Some(next) = sequence.get(place + 1) {
                assert!(list.contains(next), "{next} was not answered: {list:?}");
            }
        }
    }
    // Not always the same place of the list.
    let first = |query: &Query| query.sequence[1] == query.answers[0];
    assert!(queries.iter().any(first) && !queries.iter().all(first));
}

#[test]
fn random_sequences_do_not_follow_the_answers() {
    let directory = tempfile::tempdir().unwrap();
    let (_, queries) = ask(Strategy::Random, 4, 1, &directory.path().join("q"));
    let followed = |query: &Query| {
        query.sequence.windows(2).filter(|pair| successors(pair[0]).contains(&pair[1])).count()
    };
    let (steps, followed) = (11 * (LENGTH - 1), queries.iter().map(followed).sum::<usize>());
    assert!(followed < steps / 2, "{followed} of {steps}");
}

#[test]
fn the_batch_changes_nothing_and_the_seed_does() {
    let directory = tempfile::tempdir().unwrap();
    let bytes = |name: &str, batch, seed| {
        let path = directory.path().join(name);
        ask(Strategy::Autoregressive, batch, seed, &path);
        std::fs::read(path).unwrap()
    };
    let expected = bytes("a", 1, 1);
    assert!(expected == bytes("b", 4, 1) && expected == bytes("c", 100, 1));
    assert!(expected != bytes("d", 4, 2));
}
