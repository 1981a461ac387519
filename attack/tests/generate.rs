//! Generation against a black box whose answers are known: sequences grow from what was answered, every
//! question is counted, and nothing depends on how many sequences grow side by side.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

use std::path::Path;

use artifact::queries::{Query, QueryHeader, QueryLog, QueryWriter};
use artifact::settings::Generate;
use attack::campaign::Campaign;
use attack::generate::generate;
use indicatif::ProgressBar;
use metrics::Answers;
use service::black_box::BlackBox;
use streams::Streams;

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
    fn top_k(&mut self, histories: &[&[u32]], k: usize) -> service::Result<Answers> {
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

fn ask(strategy: &str, batch: usize, seed: u64, path: &Path) -> (u64, Vec<Query>) {
    ask_from(&[], strategy, batch, seed, path)
}

fn ask_from(seeds: &[&[u32]], strategy: &str, batch: usize, seed: u64, path: &Path) -> (u64, Vec<Query>) {
    let budget =
        Generate { sequences: 11, top_k: K, strategy: strategy.to_owned(), batch, ..Generate::default() };
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
    let bar = ProgressBar::hidden();
    let campaign = Campaign::new(&budget, LENGTH, seeds, streams).unwrap();
    let asked = generate(&mut target, &campaign, &mut log, &bar).unwrap();
    log.finish().unwrap();
    let log = QueryLog::open(path).unwrap();
    let queries = (0..log.groups()).flat_map(|group| log.read_group(group).unwrap()).collect();
    (asked, queries)
}

#[test]
fn sequences_grow_from_the_answers() {
    let directory = tempfile::tempdir().unwrap();
    let (asked, queries) = ask("autoregressive", 4, 1, &directory.path().join("q"));
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
    let (_, queries) = ask("random", 4, 1, &directory.path().join("q"));
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
        ask("autoregressive", batch, seed, &path);
        std::fs::read(path).unwrap()
    };
    let expected = bytes("a", 1, 1);
    assert!(expected == bytes("b", 4, 1) && expected == bytes("c", 100, 1));
    assert!(expected != bytes("d", 4, 2));
}

#[test]
fn a_seeded_sequence_begins_with_its_seed_and_goes_on_from_the_answers() {
    let directory = tempfile::tempdir().unwrap();
    let seeds: [&[u32]; 3] = [&[7, 7, 20], &[30], &[1, 10, 20, 30, 1, 10, 20, 30]];
    let (asked, queries) = ask_from(&seeds, "autoregressive", 4, 1, &directory.path().join("q"));
    let (_, without) = ask("autoregressive", 4, 1, &directory.path().join("without"));
    // The budget is the same: the prefixes inside a seed are asked about too.
    assert_eq!(asked, 11 * LENGTH as u64);
    // At equal distances, each seed once; the other sequences are what they would be without.
    let seeded: Vec<usize> = (0..11).filter(|&index| queries[index] != without[index]).collect();
    assert_eq!(seeded, [3, 7, 10]);
    for (&index, seed) in seeded.iter().zip(seeds) {
        let Query { sequence, answers } = &queries[index];
        assert_eq!((sequence.len(), answers.len()), (LENGTH, LENGTH * K));
        assert_eq!(&sequence[..seed.len()], seed);
        for place in 0..LENGTH {
            let list = &answers[place * K..(place + 1) * K];
            assert_eq!(list, successors(sequence[place]));
            if place + 1 >= seed.len() && place + 1 < LENGTH {
                assert!(list.contains(&sequence[place + 1]), "{sequence:?} at {place}");
            }
        }
    }
}

#[test]
fn random_sequences_draw_from_the_whole_catalogue() {
    let directory = tempfile::tempdir().unwrap();
    let mut seen = [false; ITEMS];
    for seed in 0..4 {
        let (_, queries) = ask("random", 11, seed, &directory.path().join("q"));
        queries.iter().flat_map(|query| &query.sequence).for_each(|&item| seen[item as usize - 1] = true);
    }
    // 352 draws from 30 items: all are met but once in 5,000 times.
    assert!(seen.iter().all(|&seen| seen), "{seen:?}");
}
