//! Generation against a black box whose answers are known: sequences grow from what was answered, every
//! question is counted, and nothing depends on how many sequences grow side by side.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

use std::collections::HashSet;
use std::path::Path;

use artifact::checkpoint::{Defence, Description, Kind};
use artifact::queries::{Query, QueryHeader, QueryLog, QueryWriter};
use artifact::settings::{Generate, Network, Pick, Sections};
use attack::campaign::Campaign;
use attack::generate::{BLOCK, generate};
use attack::journal::Journal;
use attack::strategies::{Course, STRATEGIES};
use candle_core::Device;
use indicatif::ProgressBar;
use metrics::{Answers, NOTHING, listed};
use models::{Parameters, Sizes, sasrec};
use service::black_box::{BlackBox, ProtectedTarget};
use service::guard;
use service::guard::clients::ClientEvidence;
use service::guard::evidence::bins;
use service::key::Key;
use streams::{Purpose, Streams};

const ITEMS: usize = 30;
const LENGTH: usize = 8;
const K: usize = 5;

/// Answers every history with the items that follow its last one in the catalogue.
struct Successors {
    queries: u64,
    /// Whether a list holds one item more than the history, at most.
    short: bool,
}

fn successors(item: u32) -> Vec<u32> {
    (1..=K as u32).map(|step| 1 + (item - 1 + step) % ITEMS as u32).collect()
}

impl BlackBox for Successors {
    fn top_k(&mut self, histories: &[&[u32]], k: usize) -> service::Result<Answers> {
        self.queries += histories.len() as u64;
        let list = |history: &&[u32]| {
            let mut list = successors(history[history.len() - 1]);
            if self.short {
                list.iter_mut().skip(history.len() + 1).for_each(|item| *item = NOTHING);
            }
            list
        };
        let ids = histories.iter().flat_map(list).collect();
        Ok(Answers { k, ids })
    }

    fn items(&self) -> usize {
        ITEMS
    }

    fn queries(&self) -> u64 {
        self.queries
    }

    fn accounts(&self) -> u64 {
        0
    }
}

fn ask(strategy: &str, batch: usize, seed: u64, path: &Path) -> (u64, Vec<Query>) {
    ask_from(&[], strategy, batch, seed, path)
}

fn ask_from(seeds: &[&[u32]], strategy: &str, batch: usize, seed: u64, path: &Path) -> (u64, Vec<Query>) {
    ask_with(&Generate { strategy: strategy.to_owned(), batch, ..budget() }, seeds, seed, path)
}

fn budget() -> Generate {
    Generate { sequences: 11, top_k: K, ..Generate::default() }
}

/// The settings of a strategy.
fn own(strategy: &str, settings: serde_json::Value) -> Sections {
    Sections::from_iter([(strategy.to_owned(), settings)])
}

fn ask_with(budget: &Generate, seeds: &[&[u32]], seed: u64, path: &Path) -> (u64, Vec<Query>) {
    let header = QueryHeader { items: ITEMS, k: K, fingerprint: "f".to_owned(), ..QueryHeader::default() };
    let mut log = QueryWriter::create(path, header).unwrap();
    let mut target = Successors { queries: 100, short: false };
    let streams = Streams::new(seed);
    let bar = ProgressBar::hidden();
    let campaign = Campaign::new(budget, (LENGTH, ITEMS), seeds, streams).unwrap();
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

/// The strategies that ask one account after another.
/// A guard that was set by hand, over weights that were never trained.
fn guarded() -> ProtectedTarget {
    let network =
        Network { hidden: 8, blocks: 1, heads: 2, max_len: 10, dropout: 0.0, attention_dropout: 0.0 };
    let sizes = Sizes { items: ITEMS, network };
    let declared = (sasrec::ARCHITECTURE.declare)(&sizes);
    let weights = Purpose::TargetWeights;
    let parameters = Parameters::initial(&declared, 1.0, &Streams::new(1), weights, &Device::Cpu).unwrap();
    let model = (sasrec::ARCHITECTURE.build)(&sizes, &parameters.detached()).unwrap();
    let key = Key::of_seed(3);
    let bins = bins(ITEMS);
    let guard = guard::Parameters {
        honest: 2,
        watermark: 0.2,
        trust: 2.0,
        threshold: 1.0,
        users: bins.iter().enumerate().map(|(bin, _)| 4.0 / (1.0 + 3.0 * bin as f64)).collect(),
        bins,
        key: key.fingerprint(),
        clients: Some(ClientEvidence { share: 0.9, most: 4.0, less: 0.0, alarm: 2.0 }),
        ..guard::Parameters::default()
    };
    let serde_json::Value::Object(guard) = serde_json::to_value(guard).unwrap() else { panic!() };
    let described = sizes.describe(Kind::Protected, sasrec::ARCHITECTURE, "f");
    let description = Description { defence: Defence::answers("guard", guard), ..described };
    ProtectedTarget::new(model.into(), &description, Some(key), Device::Cpu).unwrap()
}

/// What 300 accounts of two questions more than one are answered, cut off after so many calls and taken up again.
fn asked_by(clients: Option<usize>, batch: usize, cut: Option<usize>, directory: &Path) -> Vec<Query> {
    let budget = Generate {
        strategy: "random".to_owned(),
        batch,
        clients,
        accounts: Some(300),
        questions: Some(4),
        ..budget()
    };
    let campaign = Campaign::new(&budget, (LENGTH, ITEMS), &[], Streams::new(1)).unwrap();
    let path = directory.join("q");
    let header = QueryHeader { items: ITEMS, k: K, ..QueryHeader::default() };
    std::fs::create_dir_all(directory).unwrap();
    let calls = std::cell::Cell::new(0);
    for resume in [false, true] {
        let (mut target, mut log) = (guarded(), QueryWriter::create(&path, header.clone()).unwrap());
        let interrupted = || {
            calls.set(calls.get() + 1);
            !resume && cut == Some(calls.get())
        };
        let mut journal = Journal::open(&mut target, directory, "an id", resume, &interrupted).unwrap();
        let done = generate(&mut journal, &campaign, &mut log, &ProgressBar::hidden());
        assert_eq!(done.is_err(), !resume && cut.is_some());
        log.finish().unwrap();
        if done.is_ok() {
            break;
        }
    }
    let log = QueryLog::open(&path).unwrap();
    (0..log.groups()).flat_map(|group| log.read_group(group).unwrap()).collect()
}

#[test]
fn what_accounts_say_of_their_client_depends_on_no_batch_and_no_interruption() {
    let directory = tempfile::tempdir().unwrap();
    let asked = |clients, batch, cut| asked_by(clients, batch, cut, &directory.path().join("state"));
    let alone = asked(None, 64, None);
    let two = asked(Some(2), 64, None);
    let differs = |account: usize| alone[account] != two[account];
    assert!(
        (0..BLOCK).all(|account| !differs(account)),
        "in the first block nobody knows anything of anybody"
    );
    assert!(
        (BLOCK..300).filter(|&account| differs(account)).count() > 200,
        "then accounts are known by their clients"
    );
    assert_eq!(asked(Some(300), 64, None), alone, "an account each is as it was");
    for (batch, cut) in [(7, None), (500, None), (64, Some(6)), (64, Some(13)), (10, Some(50))] {
        assert!(asked(Some(2), batch, cut) == two, "batches of {batch}, cut off after {cut:?} calls");
    }
}

#[test]
fn clients_that_no_campaign_has_are_refused() {
    for (clients, strategy, expected) in [
        (12, "random", "`generate.clients` is 12, expected at most the 11 accounts"),
        (2, "rounds", "grows all accounts at once"),
    ] {
        let budget = Generate { clients: Some(clients), strategy: strategy.to_owned(), ..budget() };
        let campaign = Campaign::new(&budget, (LENGTH, ITEMS), &[], Streams::new(1)).unwrap();
        let refused = campaign.check().unwrap_err().to_string();
        assert!(refused.contains(expected), "{refused}");
    }
}

fn straight() -> impl Iterator<Item = &'static str> {
    STRATEGIES.iter().filter(|entry| matches!(entry.course, Course::Straight(_))).map(|entry| entry.name)
}

#[test]
fn lists_that_hold_fewer_items_are_asked_for_and_taken_from_as_they_are() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("q");
    for strategy in straight() {
        let logs = [3, 70].map(|batch| {
            let budget = Generate {
                strategy: strategy.to_owned(),
                batch,
                sequences: 150,
                questions: Some(LENGTH),
                ..budget()
            };
            let header = QueryHeader { items: ITEMS, k: K, ..QueryHeader::default() };
            let mut log = QueryWriter::create(&path, header).unwrap();
            let mut target = Successors { queries: 0, short: true };
            let campaign = Campaign::new(&budget, (LENGTH, ITEMS), &[], Streams::new(1)).unwrap();
            generate(&mut target, &campaign, &mut log, &ProgressBar::hidden()).unwrap();
            log.finish().unwrap();
            let log = QueryLog::open(&path).unwrap();
            let queries: Vec<Query> =
                (0..log.groups()).flat_map(|group| log.read_group(group).unwrap()).collect();
            // Two items after one, three after two, four after three, then five.
            let accounts = queries.len() as u64;
            assert_eq!(log.header().absent, accounts * (3 + 2 + 1), "{strategy}");
            assert_eq!(log.header().price().items_listed, accounts * (2 + 3 + 4 + 5 * (LENGTH as u64 - 3)));
            queries
        });
        assert_eq!(logs[0], logs[1], "{strategy}: the batch changes nothing");
        for Query { sequence, answers } in &logs[0] {
            for (place, list) in answers.chunks_exact(K).enumerate() {
                assert_eq!(listed(list), &successors(sequence[place])[..K.min(place + 2)], "{strategy}");
            }
        }
    }
}

#[test]
fn the_batch_changes_nothing_and_the_seed_does() {
    let directory = tempfile::tempdir().unwrap();
    for strategy in straight() {
        let bytes = |name: &str, batch, seed| {
            let path = directory.path().join(name);
            // Three blocks of accounts, the last not whole.
            let settings =
                Generate { sequences: 2 * BLOCK + 9, batch, strategy: strategy.to_owned(), ..budget() };
            ask_with(&settings, &[], seed, &path);
            std::fs::read(path).unwrap()
        };
        let expected = bytes("a", 1, 1);
        assert!(expected == bytes("b", 5, 1) && expected == bytes("c", 1000, 1), "{strategy}");
        assert!(expected != bytes("d", 4, 2), "{strategy}");
    }
}

#[test]
fn singles_ask_about_every_item_once_and_then_again_in_another_order() {
    let directory = tempfile::tempdir().unwrap();
    let all: Vec<u32> = (1..=ITEMS as u32).collect();
    let singles = Generate { strategy: "singles".to_owned(), ..budget() };
    let (asked, queries) = ask_with(&singles, &[], 1, &directory.path().join("q"));
    let first: Vec<u32> = queries.iter().map(|query| query.sequence[0]).collect();
    assert!(asked == ITEMS as u64 && queries.iter().all(|query| query.sequence.len() == 1));
    let more = Generate { accounts: Some(2 * ITEMS + 3), questions: Some(2), ..singles };
    let (_, queries) = ask_with(&more, &[], 1, &directory.path().join("q"));
    let items: Vec<u32> = queries.iter().map(|query| query.sequence[0]).collect();
    assert_eq!(items[..ITEMS], first, "fewer accounts are the first of more");
    let passes: Vec<&[u32]> = items[..2 * ITEMS].chunks(ITEMS).collect();
    for pass in &passes {
        let mut sorted = pass.to_vec();
        sorted.sort_unstable();
        assert_eq!(sorted, all);
    }
    assert!(passes[0] != passes[1] && passes[0] != all);
}

#[test]
fn no_item_stands_twice_where_none_may() {
    let directory = tempfile::tempdir().unwrap();
    for strategy in straight() {
        for pick in [None, Some(Pick::Reciprocal)] {
            let settings = Generate {
                strategy: strategy.to_owned(),
                repeats: false,
                pick,
                questions: Some(20),
                ..budget()
            };
            let (_, queries) = ask_with(&settings, &[&[3, 3, 4]], 1, &directory.path().join("q"));
            for Query { sequence, .. } in queries {
                // What a real history holds twice stays.
                let mut grown =
                    if sequence.starts_with(&[3, 3, 4]) { sequence[1..].to_vec() } else { sequence };
                let length = grown.len();
                grown.sort_unstable();
                grown.dedup();
                assert_eq!(grown.len(), length, "{strategy}");
            }
        }
    }
}

#[test]
fn accounts_and_questions_are_what_was_set() {
    let directory = tempfile::tempdir().unwrap();
    let settings = Generate { accounts: Some(7), questions: Some(3), ..budget() };
    for strategy in straight() {
        let settings = Generate { strategy: strategy.to_owned(), ..settings.clone() };
        let (asked, queries) = ask_with(&settings, &[], 1, &directory.path().join("q"));
        assert_eq!((asked, queries.len()), (21, 7), "{strategy}");
        assert!(queries.iter().all(|query| query.sequence.len() == 3), "{strategy}");
    }
    // Eleven sequences of eight buy eight accounts of ten questions, or 29 of three.
    let short = Generate { strategy: "short".to_owned(), ..budget() };
    let (asked, queries) = ask_with(&short, &[], 1, &directory.path().join("q"));
    assert_eq!((asked, queries.len()), (80, 8));
    let three = Generate { strategies: own("short", serde_json::json!({"questions": 3})), ..short };
    let (asked, queries) = ask_with(&three, &[], 1, &directory.path().join("q"));
    assert_eq!((asked, queries.len()), (87, 29));
}

#[test]
fn some_accounts_ask_again_by_another_way() {
    let directory = tempfile::tempdir().unwrap();
    let settings = Generate { sequences: 2 * BLOCK, twice: 0.25, strategy: "random".to_owned(), ..budget() };
    let asked = |batch| {
        let settings = Generate { batch, ..settings.clone() };
        ask_with(&settings, &[], 1, &directory.path().join("q")).1
    };
    let queries = asked(50);
    assert_eq!(queries, asked(3), "whoever grows beside it");
    for account in 0..2 * BLOCK {
        let begins = &queries[account].sequence[..3];
        // A quarter of the accounts, of those that have a block before them, and by chance next to none of the others.
        let again = account >= BLOCK && account % 4 == 3;
        let stood = account >= BLOCK && queries[account - BLOCK].sequence.windows(3).any(|w| w == begins);
        assert_eq!(stood, again, "account {account}");
    }
    let rounds = Generate { strategy: "rounds".to_owned(), twice: 0.1, ..budget() };
    let campaign = Campaign::new(&rounds, (LENGTH, ITEMS), &[], Streams::new(1)).unwrap();
    assert!(campaign.check().unwrap_err().to_string().contains("`generate.twice` is 0.1"));
}

fn follows(query: &Query) -> bool {
    query.sequence.windows(2).all(|pair| successors(pair[0]).contains(&pair[1]))
}

#[test]
fn random_accounts_take_turns_with_grown_ones_until_the_share_is_drawn() {
    let directory = tempfile::tempdir().unwrap();
    let settings = Generate { sequences: 40, strategy: "coverage".to_owned(), ..budget() };
    let (_, queries) = ask_with(&settings, &[], 1, &directory.path().join("q"));
    let random: Vec<usize> = (0..40).filter(|&account| !follows(&queries[account])).collect();
    let drawn = |accounts: &[usize]| {
        let mut items: Vec<u32> = accounts.iter().flat_map(|&a| queries[a].sequence.clone()).collect();
        items.sort_unstable();
        items.dedup();
        items.len()
    };
    // 27 of 30 items, and not before the last random account; every other account until then.
    assert!(drawn(&random) >= 27 && drawn(&random[..random.len() - 1]) < 27, "{random:?}");
    assert_eq!(random, (0..random.len()).map(|place| 2 * place).collect::<Vec<_>>());
    assert!(random.len() < 20);
    let all = Generate { strategies: own("coverage", serde_json::json!({"share": 0.1})), ..settings };
    let (_, queries) = ask_with(&all, &[], 1, &directory.path().join("q"));
    assert!(!follows(&queries[0]) && queries[1..].iter().all(follows), "one account draws three of thirty");
}

#[test]
fn a_mimic_takes_from_the_lists_of_others_once_there_are_any() {
    let directory = tempfile::tempdir().unwrap();
    let asked = |earlier, others| {
        let settings = Generate {
            sequences: 3 * BLOCK,
            strategy: "mimic".to_owned(),
            strategies: own("mimic", serde_json::json!({"earlier": earlier, "others": others})),
            ..budget()
        };
        ask_with(&settings, &[], 1, &directory.path().join("q")).1
    };
    assert!(asked(0.0, 0.0).iter().all(follows), "from the list just answered and no other");
    // From the second list on an item may come from one answered earlier.
    let from_earlier = |Query { sequence, .. }: &Query| {
        (2..sequence.len()).all(|place| {
            sequence[..place - 1].iter().any(|&item| successors(item).contains(&sequence[place]))
        })
    };
    let of_earlier = asked(1.0, 0.0);
    assert!(of_earlier.iter().all(from_earlier) && !of_earlier.iter().all(follows));
    let of_others = asked(0.0, 1.0);
    assert!(of_others[..BLOCK].iter().all(from_earlier), "there is nobody yet");
    // Seven steps that fall into the five successors by chance: one in 280,000.
    assert!(!of_others[BLOCK..].iter().any(follows));
}

#[test]
fn an_evasive_thief_takes_nothing_twice_while_there_is_anything_else() {
    let directory = tempfile::tempdir().unwrap();
    let asked = |questions| {
        let settings = Generate {
            sequences: 2 * BLOCK,
            questions: Some(questions),
            strategy: "evasive".to_owned(),
            repeats: true,
            ..budget()
        };
        ask_with(&settings, &[], 1, &directory.path().join("q")).1
    };
    let distinct = |Query { sequence, .. }: &Query| sequence.iter().collect::<HashSet<_>>().len();
    assert!(asked(ITEMS).iter().all(|query| distinct(query) == ITEMS));
    assert!(asked(ITEMS + 5).iter().all(|query| query.sequence.len() == ITEMS + 5));
}

#[test]
fn what_no_catalogue_can_answer_is_refused_before_a_question() {
    let refusal = |settings: Generate, seeds: &[&[u32]]| {
        let campaign = Campaign::new(&settings, (LENGTH, ITEMS), seeds, Streams::new(1));
        campaign.and_then(|campaign| campaign.check()).unwrap_err().to_string()
    };
    for (settings, expected) in [
        (Generate { strategy: "rnadom".to_owned(), ..budget() }, "did you mean `random`?"),
        (Generate { questions: Some(0), ..budget() }, "`generate.questions` is 0, expected at least 1"),
        (Generate { length: Some(0), ..budget() }, "`generate.length` is 0, expected at least 1"),
        (Generate { top_k: 31, ..budget() }, "`generate.top_k` is 31, expected at most the 30 items"),
        (
            Generate { repeats: false, questions: Some(31), ..budget() },
            "31 different items cannot be had of 30",
        ),
    ] {
        let refused = refusal(settings, &[]);
        assert!(refused.contains(expected), "{refused}");
    }
    assert!(refusal(budget(), &[&[]]).contains("1 to 8 items"));
    assert!(refusal(budget(), &[&[1; 9]]).contains("1 to 8 items"));
    assert!(refusal(budget(), &[&[1][..]; 12]).contains("12 real histories for 11 accounts"));
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
