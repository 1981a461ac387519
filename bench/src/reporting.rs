//! A report: tables, tests and the page of many runs that are already in memory.

use std::collections::BTreeMap;

use artifact::checkpoint::Learning;
use artifact::queries::{Generation, QueryHeader};
use artifact::ranks::{Column, Ranks};
use artifact::settings::{HeldOut, Ranking};
use evaluate::figures::{
    Conditions, Fidelity, Figure, Figures, Metrics, POPULAR_RANK, Protocol, SURROGATE_RANK, Subject,
    TARGET_RANK,
};
use evaluate::report::grouping::Run;
use evaluate::report::markdown::markdown;
use evaluate::report::page::{Material, page};
use evaluate::report::payers::payers;
use evaluate::report::table::Table;
use metrics::{Ks, Measure};
use models::sasrec;
use streams::scramble;

use crate::{ITEMS, Iteration, TOP_K, Work, histories};

/// Cuts of every figure, as evaluated by default.
const KS: [usize; 5] = [1, 5, 10, 20, 100];

const SEEDS: u64 = 10;
const DEFENCES: [&str; 5] = ["none", "random", "reverse", "guard", "gro"];
const THIEVES: usize = 10;

/// Five hundred runs: so many seeds, defences and thieves.
pub fn works() -> Vec<Work> {
    let runs = SEEDS as usize * DEFENCES.len() * THIEVES;
    let shape = format!("{runs} runs, {} users", histories::USERS);
    vec![Work::new("evaluation", "report", shape, || Ok(reports()))]
}

fn reports() -> Iteration {
    let mut runs = Vec::new();
    for seed in 1..=SEEDS {
        for (place, defence) in DEFENCES.into_iter().enumerate() {
            // Numbers of its own for each.
            let draw = |thief: usize| (seed << 16) + ((place as u64) << 8) + thief as u64;
            runs.extend((0..THIEVES).map(|thief| run(seed, defence, thief, draw(thief))));
        }
    }
    Box::new(move || {
        let table = Table::of(&runs)?;
        let payers = payers(&runs, &table, None)?;
        let material =
            Material { table: &table, payers, theft: Vec::new(), detected: Vec::new(), trained: Vec::new() };
        std::hint::black_box((markdown(&table), page(&material)));
        Ok(())
    })
}

/// What one evaluation left behind, its values made up from `draw`.
fn run(seed: u64, defence: &str, thief: usize, draw: u64) -> Run {
    let number = |column: u64, user: usize| scramble(draw + (column << 32) + ((user as u64) << 44));
    let ranks = |column: u64| {
        let rank = |user| Some(1 + (number(column, user) % ITEMS as u64) as u32);
        Column::Counts((0..histories::USERS).map(rank).collect())
    };
    let shares = |column: u64| {
        let share = |user| Some((number(column, user) % 11) as f64 / 10.0);
        Column::Values((0..histories::USERS).map(share).collect())
    };
    let ranked = [TARGET_RANK, SURROGATE_RANK, POPULAR_RANK].into_iter().zip(0..);
    let mut columns: Vec<(String, Column)> =
        ranked.map(|(name, column)| (name.to_owned(), ranks(column))).collect();
    let lists = names(&metrics::of_lists(Ks::Each(&KS)));
    let own = lists.iter().map(|name| evaluate::figures::own_column(name));
    let kept = lists.iter().cloned().chain(own).zip(3..);
    columns.extend(kept.map(|(name, column)| (name, shares(column))));
    let quality = figures(&names(&metrics::of_ranks(Ks::Each(&KS))));
    let scores = names(&metrics::of_scores(Ks::Each(&KS)));
    Run {
        name: format!("seed-{seed}/eval-{defence}-{thief}"),
        protocol: protocol(seed, defence, thief),
        metrics: Metrics {
            users: histories::USERS,
            items: ITEMS,
            popular: quality.clone(),
            target: quality.clone(),
            table: None,
            surrogate: Some(quality),
            fidelity: Some(Fidelity {
                answered: figures(&lists),
                own: Some(figures(&[lists, scores].concat())),
            }),
        },
        ranks: Ranks { users: (1..=histories::USERS as u32).collect(), columns },
    }
}

fn names<Function>(measures: &[Measure<Function>]) -> Vec<String> {
    measures.iter().map(ToString::to_string).collect()
}

fn figures(names: &[String]) -> Figures {
    let figure = Figure { mean: 0.1, low: 0.08, high: 0.12 };
    names.iter().map(|name| (name.clone(), figure)).collect()
}

fn protocol(seed: u64, defence: &str, thief: usize) -> Protocol {
    let subject = |checkpoint: String| Subject {
        architecture: sasrec::ARCHITECTURE.into(),
        defence: defence.to_owned(),
        policy: if defence == "gro" { "none" } else { defence }.to_owned(),
        checkpoint,
        settings: BTreeMap::new(),
        queries: None,
        price: None,
        learning: None,
    };
    let queries = QueryHeader {
        items: ITEMS,
        k: TOP_K,
        queries: 25_000,
        sequences: 500,
        generation: Some(Generation {
            strategy: format!("way {thief}"),
            seed_sequences: 0.0,
            seeded: 0,
            seed_length: 0,
            owned: 0,
            choices: BTreeMap::new(),
        }),
        ..QueryHeader::default()
    };
    let learning =
        Learning { loss: "listmle".to_owned(), suspicion: "none".to_owned(), choices: BTreeMap::new() };
    Protocol {
        conditions: Conditions {
            fingerprint: "items".to_owned(),
            sequences: "histories".to_owned(),
            users: histories::USERS,
            items: ITEMS,
            ranking: Ranking::Full,
            negatives: None,
            exclude_seen: false,
            held_out: HeldOut::Test,
            other_split: false,
            top_k: TOP_K,
            bootstrap: 1000,
        },
        ks: KS.to_vec(),
        seed,
        target: subject(format!("target {defence} {seed}")),
        surrogate: Some(Subject {
            price: Some(queries.price()),
            queries: Some(queries),
            learning: Some(learning),
            ..subject(format!("copy {defence} {seed} {thief}"))
        }),
    }
}
