//! The service an attacker meets: answers by policy, questions counted, nonsense refused.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

use artifact::checkpoint::{Defence, Description, Kind};
use artifact::settings::{Network, Sections};
use candle_core::Device;
use metrics::Answers;
use models::{ARCHITECTURES, Architecture, Parameters, Sizes, bert4rec};
use service::black_box::{BlackBox, ProtectedTarget};
use service::policies::policy_of;
use streams::{Purpose, Streams};

const ITEMS: usize = 40;
const K: usize = 12;

fn service(policy: &str, answer_seed: u64) -> ProtectedTarget {
    service_of(bert4rec::ARCHITECTURE, policy, answer_seed)
}

fn service_of(architecture: Architecture, policy: &str, answer_seed: u64) -> ProtectedTarget {
    let sizes = Sizes {
        items: ITEMS,
        network: Network {
            hidden: 8,
            blocks: 2,
            heads: 2,
            max_len: 10,
            dropout: 0.5,
            attention_dropout: 0.5,
        },
    };
    let declared = (architecture.declare)(&sizes);
    let parameters =
        Parameters::initial(&declared, 1.0, &Streams::new(1), Purpose::TargetWeights, &Device::Cpu).unwrap();
    let model = (architecture.build)(&sizes, &parameters.detached()).unwrap();
    let seed = Sections::from_iter([("answer_seed".to_owned(), answer_seed.into())]);
    let parameters = if policy == "random" { seed } else { Sections::new() };
    let undefended = sizes.describe(Kind::Protected, architecture, "fingerprint");
    let description = Description { defence: Defence::answers(policy, parameters), ..undefended };
    ProtectedTarget::new(model.into(), &description, None, Device::Cpu).unwrap()
}

/// Histories that grow by one item a question are answered from what the model remembers of them; however they are asked
/// about, the answers are those of a service that never saw them before.
#[test]
fn what_was_asked_before_changes_no_answer() {
    let rows: Vec<Vec<u32>> = (0..5u32)
        .map(|row| (0..14).map(|i| 1 + (7 * row + i * i + 3 * i) % ITEMS as u32).collect())
        .collect();
    let grown = |length: usize, count: usize| -> Vec<&[u32]> {
        rows[..count].iter().map(|row| &row[..length]).collect()
    };
    // Longer than the model reads; begun again; one row less; a step back, and on; a row replaced by another.
    let mut questions: Vec<Vec<&[u32]>> = (1..=14).map(|length| grown(length, 5)).collect();
    questions.extend((1..=4).map(|length| grown(length, 4)));
    questions.extend([grown(5, 3), grown(4, 3), grown(5, 3), grown(6, 3)]);
    questions.push(vec![&rows[3][..7], &rows[1][..7], &rows[2][..7]]);
    questions.push(vec![&rows[3][..1], &rows[1][..8], &rows[2][..8]]);
    questions.push(vec![&rows[3][..2], &rows[1][..9], &rows[2][..9]]);
    // Left at some length and taken up again, in the middle and at the model's longest.
    questions.extend([grown(6, 2), grown(7, 2), grown(8, 2), grown(9, 2), grown(10, 2), grown(11, 2)]);
    questions.extend([grown(9, 4), grown(10, 4), grown(11, 4), grown(12, 4)]);
    for architecture in ARCHITECTURES.entries.iter().copied() {
        let mut asked = service_of(architecture, "none", 0);
        for histories in &questions {
            let fresh = service_of(architecture, "none", 0).top_k(histories, K).unwrap();
            assert_eq!(asked.top_k(histories, K).unwrap(), fresh, "{architecture:?} {histories:?}");
            // And in the order of the scores themselves, for all items: equal lists could hide other scores.
            let alone = service_of(architecture, "none", 0).top_k(&histories[..1], ITEMS).unwrap();
            let together = service_of(architecture, "none", 0).top_k(histories, ITEMS).unwrap();
            assert_eq!(alone.row(0), together.row(0));
        }
    }
}

const HISTORIES: [&[u32]; 3] = [&[3, 1, 4], &[1, 5, 9, 2, 6], &[35]];

fn answers(policy: &str, seed: u64) -> Answers {
    service(policy, seed).top_k(&HISTORIES, K).unwrap()
}

#[test]
fn every_policy_answers_the_same_items_in_its_own_order() {
    let plain = answers("none", 0);
    assert_eq!(plain.rows(), HISTORIES.len());
    let (reversed, shuffled) = (answers("reverse", 0), answers("random", 7));
    for row in 0..plain.rows() {
        let mut backwards = reversed.row(row).to_vec();
        backwards.reverse();
        assert_eq!(plain.row(row), backwards);
        assert_ne!(plain.row(row), shuffled.row(row));
        let sorted = |list: &[u32]| {
            let mut list = list.to_vec();
            list.sort_unstable();
            list
        };
        assert_eq!(sorted(plain.row(row)), sorted(shuffled.row(row)));
    }
    assert_ne!(shuffled, answers("random", 8), "the seed of the answers matters");
}

#[test]
fn the_same_question_gets_the_same_answer_however_it_is_asked() {
    let together = answers("random", 7);
    let mut service = service("random", 7);
    for (row, history) in HISTORIES.iter().enumerate().rev() {
        assert_eq!(service.top_k(&[history], K).unwrap().row(0), together.row(row));
    }
    assert_eq!(service.queries(), HISTORIES.len() as u64);
}

#[test]
fn among_all_items_the_answer_is_that_of_the_catalogue_and_among_few_it_keeps_to_them() {
    let backwards: Vec<u32> = (1..=ITEMS as u32).rev().collect();
    let all = Answers::new(ITEMS, backwards.repeat(HISTORIES.len())).unwrap();
    let few = Answers::new(3, [9, 2, 30].repeat(HISTORIES.len())).unwrap();
    for policy in ["none", "reverse", "random"] {
        let service = service(policy, 7);
        assert_eq!(service.top_k_among(&HISTORIES, &all, K).unwrap(), answers(policy, 7), "{policy}");
        let order = service.top_k_among(&HISTORIES, &few, 3).unwrap();
        for row in 0..order.rows() {
            let mut list = order.row(row).to_vec();
            list.sort_unstable();
            assert_eq!(list, [2, 9, 30], "{policy}");
        }
        assert_eq!(service.queries(), 0, "{policy}: nobody asked the service");
        assert!(service.top_k_among(&HISTORIES, &few, 4).is_err());
        assert!(service.top_k_among(&HISTORIES[..2], &few, 3).is_err());
    }
}

#[test]
fn questions_without_an_answer_are_refused_and_not_counted() {
    let mut service = service("none", 0);
    assert_eq!(service.items(), ITEMS);
    let mut refusal = |histories: &[&[u32]], k| service.top_k(histories, k).unwrap_err().to_string();
    assert!(refusal(&[&[1]], ITEMS + 1).contains("a list of 41"));
    assert!(refusal(&[&[1]], 0).contains("a list of 0"));
    assert!(refusal(&[&[1], &[]], K).contains("history 1 is empty"));
    assert!(refusal(&[&[0]], K).contains("holds item 0"));
    assert!(refusal(&[&[41]], K).contains("holds item 41"), "the mask is not an item");
    assert_eq!(service.queries(), 0);
    // The whole catalogue may be asked for.
    assert_eq!(service.top_k(&[&[1]], ITEMS).unwrap().row(0).len(), ITEMS);
}

#[test]
fn an_unknown_policy_is_refused_and_never_taken_for_none() {
    let sizes = Sizes {
        items: ITEMS,
        network: Network {
            hidden: 8,
            blocks: 1,
            heads: 2,
            max_len: 10,
            dropout: 0.0,
            attention_dropout: 0.0,
        },
    };
    let refusal = |defence: Defence| {
        let undefended = sizes.describe(Kind::Protected, bert4rec::ARCHITECTURE, "fingerprint");
        let refused = policy_of(&Description { defence, ..undefended }, None);
        refused.map(|_| ()).unwrap_err().to_string()
    };
    let unknown = refusal(Defence::answers("revers", Sections::new()));
    assert!(
        unknown.contains("did you mean `reverse`? known: none, random, reverse, short, tail, replace, guard"),
        "{unknown}"
    );
    let surplus = Sections::from_iter([("seed".to_owned(), 1.into())]);
    assert!(refusal(Defence::answers("random", surplus)).contains("unknown field `seed`"));
}
