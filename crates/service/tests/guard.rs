//! A guarded target: the same answers however an account is asked about, true lists to who is trusted and decoys to who is not.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

use artifact::checkpoint::{Defence, Description, Kind};
use artifact::settings::Network;
use candle_core::Device;
use metrics::Answers;
use models::{ARCHITECTURES, Architecture, Parameters, Recommender, Sizes, sasrec};
use serde_json::Value;
use service::black_box::{BlackBox, ProtectedTarget};
use service::guard::clients::{Asker, ClientEvidence};
use service::guard::decoys::Decoys;
use service::guard::evidence::{Chance, bins};
use service::guard::fit::{Wanted, fit};
use service::guard::watermark::{Green, noise, reach};
use service::guard::{self, Guard};
use service::key::Key;
use streams::{Purpose, Streams, below};

const ITEMS: usize = 90;
const K: usize = 30;

fn model(architecture: Architecture) -> (Box<dyn Recommender>, Description) {
    let network =
        Network { hidden: 8, blocks: 2, heads: 2, max_len: 10, dropout: 0.5, attention_dropout: 0.5 };
    let sizes = Sizes { items: ITEMS, network };
    let declared = (architecture.declare)(&sizes);
    let parameters =
        Parameters::initial(&declared, 1.0, &Streams::new(1), Purpose::TargetWeights, &Device::Cpu).unwrap();
    let model = (architecture.build)(&sizes, &parameters.detached()).unwrap();
    (model, sizes.describe(Kind::Protected, architecture, "fingerprint"))
}

fn parameters(threshold: f64) -> guard::Parameters {
    let bins = bins(ITEMS);
    guard::Parameters {
        honest: 5,
        canaries: 0.2,
        trust: 1e9,
        threshold,
        users: bins.iter().enumerate().map(|(bin, _)| 4.0 / (1.0 + bin as f64)).collect(),
        bins,
        chance: Chance { user: 1e-4 },
        key: Key::of_seed(3).fingerprint(),
        ..guard::Parameters::default()
    }
}

fn target(architecture: Architecture, threshold: f64, key: Key) -> service::Result<ProtectedTarget> {
    marked(architecture, (threshold, 0.0), key)
}

fn marked(
    architecture: Architecture,
    (threshold, watermark): (f64, f64),
    key: Key,
) -> service::Result<ProtectedTarget> {
    let (model, description) = model(architecture);
    let parameters = guard::Parameters { watermark, ..parameters(threshold) };
    let Value::Object(parameters) = serde_json::to_value(parameters).unwrap() else { panic!() };
    let description = Description { defence: Defence::answers("guard", parameters), ..description };
    ProtectedTarget::new(model.into(), &description, Some(key), Device::Cpu)
}

fn guarded(architecture: Architecture, threshold: f64) -> ProtectedTarget {
    target(architecture, threshold, Key::of_seed(3)).unwrap()
}

/// Accounts that take anything.
fn random_accounts(count: usize, length: usize) -> Vec<Vec<u32>> {
    let mut stream = Streams::new(5).open(Purpose::Generation, 0, 0, 0);
    (0..count).map(|_| (0..length).map(|_| 1 + below(&mut stream, ITEMS as u32)).collect()).collect()
}

fn prefixes(accounts: &[Vec<u32>], length: usize) -> Vec<&[u32]> {
    accounts.iter().map(|account| &account[..length]).collect()
}

#[test]
fn an_account_is_answered_alike_however_it_is_asked_about() {
    let accounts = random_accounts(9, 14);
    let guarded = |architecture, threshold| marked(architecture, (threshold, 0.2), Key::of_seed(3)).unwrap();
    for architecture in ARCHITECTURES.entries.iter().copied() {
        let mut growing = guarded(architecture, 0.5);
        let mut undefended = guarded(architecture, f64::MAX);
        let mut decoyed = 0;
        for length in 1..=14 {
            let histories = prefixes(&accounts, length);
            let grown = growing.top_k(&histories, K).unwrap();
            // A service that never heard of them, one account at a time, and in other company.
            let mut fresh = guarded(architecture, 0.5);
            for (row, history) in histories.iter().enumerate().rev() {
                assert_eq!(
                    fresh.top_k(&[history], K).unwrap().row(0),
                    grown.row(row),
                    "{architecture:?} {length}"
                );
            }
            // Asked again.
            assert_eq!(growing.top_k(&histories, K).unwrap(), grown, "{architecture:?} {length}");
            let open = undefended.top_k(&histories, K).unwrap();
            decoyed += grown.iter().zip(&open).filter(|(given, open)| given[0] != open[0]).count();
        }
        assert!((20..120).contains(&decoyed), "{architecture:?}: {decoyed} of 126 answers were decoys");
        assert_eq!(growing.accounts(), 18, "nine accounts, each begun twice");
    }
}

#[test]
fn services_side_by_side_answer_as_one() {
    let accounts = random_accounts(6, 12);
    let mut one = guarded(sasrec::ARCHITECTURE, 1.0);
    let begun = guarded(sasrec::ARCHITECTURE, 1.0).remembering();
    let mut services = [begun.beside(), begun.beside(), begun];
    for length in 1..=12 {
        let expected = one.top_k(&prefixes(&accounts, length), K).unwrap();
        // Each account meets another of them each time, and all ask at once.
        let found: Vec<Vec<u32>> = std::thread::scope(|scope| {
            let asked = services.iter_mut().enumerate().map(|(place, service)| {
                let rows: Vec<usize> = (0..6).filter(|row| (row + length) % 3 == place).collect();
                let histories: Vec<&[u32]> = rows.iter().map(|&row| &accounts[row][..length]).collect();
                scope.spawn(move || (rows, service.top_k(&histories, K).unwrap()))
            });
            let asked: Vec<_> = asked.collect();
            let mut found = vec![Vec::new(); 6];
            for (rows, answers) in asked.into_iter().map(|thread| thread.join().unwrap()) {
                for (row, list) in rows.into_iter().zip(&answers) {
                    found[row] = list.to_vec();
                }
            }
            found
        });
        assert_eq!(found.concat(), expected.ids, "{length}");
    }
    assert_eq!(services.iter().map(BlackBox::queries).sum::<u64>(), 6 * 12);
}

#[test]
fn lists_of_another_length_are_another_matter() {
    let accounts = random_accounts(3, 8);
    let mut service = guarded(sasrec::ARCHITECTURE, 0.5);
    let long = service.top_k(&prefixes(&accounts, 7), K).unwrap();
    let short = service.top_k(&prefixes(&accounts, 8), 10).unwrap();
    let mut fresh = guarded(sasrec::ARCHITECTURE, 0.5);
    assert_eq!(fresh.top_k(&prefixes(&accounts, 8), 10).unwrap(), short);
    assert_eq!(fresh.top_k(&prefixes(&accounts, 7), K).unwrap(), long);
}

#[test]
fn a_trusted_account_sees_the_true_head_and_a_flagged_one_decoys() {
    let accounts = random_accounts(4, 12);
    let (model, _) = model(sasrec::ARCHITECTURE);
    let ranked = |histories: &[&[u32]]| {
        let contexts = model.contexts(histories).upload(&Device::Cpu).unwrap();
        let states = model.encode(&contexts, models::Mode::Evaluate).unwrap();
        model.catalogue().top_k(&states, K).unwrap().to_vec2::<u32>().unwrap()
    };
    let mut trusting = guarded(sasrec::ARCHITECTURE, f64::MAX);
    let canaries = |answered: &[u32], ranked: &[u32]| -> Vec<u32> {
        let mut canaries: Vec<u32> = answered.iter().copied().filter(|item| !ranked.contains(item)).collect();
        canaries.sort_unstable();
        canaries
    };
    let begun = prefixes(&accounts, 1);
    let (first, first_ranked) = (trusting.top_k(&begun, K).unwrap(), ranked(&begun));
    let of_life: Vec<Vec<u32>> = first.iter().zip(&first_ranked).map(|(a, r)| canaries(a, r)).collect();
    assert!(of_life.iter().all(|canaries| canaries.len() == 5), "a fifth of the 25 places past the fifth");

    let histories = prefixes(&accounts, 12);
    let (trusted, ranked) = (trusting.top_k(&histories, K).unwrap(), ranked(&histories));
    let flagged = guarded(sasrec::ARCHITECTURE, f64::MIN).top_k(&histories, K).unwrap();
    let decoys = Decoys::new(&Key::of_seed(3), ITEMS);
    for (row, ranked) in ranked.iter().enumerate() {
        assert_eq!(trusted.row(row)[..5], ranked[..5]);
        let left: Vec<u32> = of_life[row].iter().copied().filter(|item| !ranked.contains(item)).collect();
        assert_eq!(
            canaries(trusted.row(row), ranked),
            left,
            "those of the account that are not among the best now"
        );
        let expected: Vec<u32> = ranked.iter().map(|&item| decoys.of(item)).collect();
        assert_eq!(flagged.row(row), expected);
    }
}

#[test]
fn a_watermark_lifts_green_items_for_whom_is_not_flagged_alone() {
    let accounts = random_accounts(6, 12);
    let key = || Key::of_seed(3);
    let green = Green::new(&key(), ITEMS);
    let service = |threshold, lift| marked(sasrec::ARCHITECTURE, (threshold, lift), key()).unwrap();
    let (model, description) = model(sasrec::ARCHITECTURE);
    let mut open = ProtectedTarget::new(model.into(), &description, None, Device::Cpu).unwrap();
    let mut moved = 0;
    for length in [1, 12] {
        let histories = prefixes(&accounts, length);
        let open = open.top_k(&histories, K + reach(0.2)).unwrap();
        let answered = service(f64::MAX, 0.2).top_k(&histories, K).unwrap();
        let few = service(f64::MAX, 0.2).top_k(&histories, 4).unwrap();
        for (row, history) in histories.iter().enumerate() {
            let mut expected = open.row(row).to_vec();
            green.lift(&mut expected, 0.2, noise(&key(), history));
            moved += open.row(row).iter().zip(&expected).filter(|(open, marked)| open != marked).count();
            // What the canaries leave of it.
            let left: Vec<u32> =
                answered.row(row).iter().copied().filter(|item| expected[..K].contains(item)).collect();
            assert_eq!(answered.row(row)[..5], expected[..5], "the honest places hold no canary");
            assert!(left.len() > K / 2 && expected[..left.len()] == left, "{left:?} {expected:?}");
            assert_eq!(few.row(row), &expected[..4], "a shorter list is the head of the same");
        }
        let decoys = service(f64::MIN, 0.0).top_k(&histories, K).unwrap();
        assert_eq!(service(f64::MIN, 0.2).top_k(&histories, K).unwrap(), decoys, "decoys carry none");
    }
    assert!(moved > 60, "{moved}");

    let histories = prefixes(&accounts, 12);
    let few = Answers::new(4, [9, 2, 30, 80].repeat(6)).unwrap();
    let lists = service(f64::MAX, 0.2).top_k_among(&histories, &few, 4).unwrap();
    let open = service(f64::MAX, 0.0).top_k_among(&histories, &few, 4).unwrap();
    assert_ne!(lists, open);
    for ((list, open), history) in lists.iter().zip(&open).zip(&histories) {
        let mut expected = open.to_vec();
        green.lift(&mut expected, 0.2, noise(&key(), history));
        assert_eq!(list, expected, "candidates are marked as lists are");
    }
    let refused = marked(sasrec::ARCHITECTURE, (1.0, 0.6), key()).map(drop).unwrap_err().to_string();
    assert!(refused.contains("watermark"), "{refused}");
}

fn watching_clients() -> ProtectedTarget {
    let (model, description) = model(sasrec::ARCHITECTURE);
    let clients = Some(ClientEvidence { share: 0.9, most: 4.0, less: 0.0, alarm: 6.9 });
    let parameters = guard::Parameters { clients, trust: 2.0, ..parameters(3.0) };
    let Value::Object(parameters) = serde_json::to_value(parameters).unwrap() else { panic!() };
    let description = Description { defence: Defence::answers("guard", parameters), ..description };
    ProtectedTarget::new(model.into(), &description, Some(Key::of_seed(3)), Device::Cpu).unwrap()
}

#[test]
fn a_new_account_of_a_client_of_thieves_begins_under_suspicion() {
    let accounts = random_accounts(12, 9);
    let askers = |client: u64| -> Vec<Asker> {
        (0..12).map(|account| Asker { client: Some(client), account: 100 * client + account }).collect()
    };
    let whole: Vec<&[u32]> = accounts.iter().map(Vec::as_slice).collect();
    let mut service = watching_clients();
    for length in 1..=9 {
        let histories = prefixes(&accounts, length);
        let asked = service.top_k_of(&askers(1), &histories, K).unwrap();
        assert_eq!(asked, watching_clients().top_k(&histories, K).unwrap(), "none has ended before another");
    }
    service.close(&askers(1), &whole, K).unwrap();
    let new = [7u32];
    let ask = |service: &mut ProtectedTarget, client: Option<u64>| {
        service.top_k_of(&[Asker { client, account: 9999 }], &[&new], K).unwrap().ids
    };
    let decoys = Decoys::new(&Key::of_seed(3), ITEMS);
    let open = guarded(sasrec::ARCHITECTURE, f64::MAX).top_k(&[&new], 5).unwrap().ids;
    let expected: Vec<u32> = open.iter().map(|&item| decoys.of(item)).collect();
    assert_eq!(ask(&mut service, Some(1))[..5], expected, "its first question is answered with decoys");
    for other in [Some(2), None] {
        assert_eq!(ask(&mut service, other)[..5], open, "{other:?} has nothing to do with it");
    }
    // What was asked of another service, or before it was started again, is worked out from the histories.
    let mut told = watching_clients();
    told.close(&askers(1), &whole, K).unwrap();
    let grown = [7u32, expected[2], 40, 41];
    for length in 1..=4 {
        let asker = [Asker { client: Some(1), account: 5000 }];
        let answered = [&mut service, &mut told].map(|s| s.top_k_of(&asker, &[&grown[..length]], K).unwrap());
        assert_eq!(answered[0], answered[1], "after {length}");
    }
}

#[test]
fn a_service_that_is_not_told_when_an_account_ends_holds_what_it_took_against_its_client_at_once() {
    let accounts = random_accounts(12, 9);
    let mut service = watching_clients().remembering();
    for (number, account) in (0..).zip(&accounts) {
        for length in 1..=9 {
            let asker = [Asker { client: Some(1), account: number }];
            service.top_k_of(&asker, &[&account[..length]], K).unwrap();
        }
    }
    let mut told = watching_clients();
    let ask = |service: &mut ProtectedTarget, account| {
        service.top_k_of(&[Asker { client: Some(1), account }], &[&[7]], K).unwrap()
    };
    let open = ask(&mut told, 50);
    let suspected = ask(&mut service, 50);
    assert_ne!(suspected.ids[..5], open.ids[..5]);
    assert_eq!(ask(&mut service, 50), suspected, "an account stays as it began");
    assert_eq!(service.top_k(&[&[7]], K).unwrap(), open);
}

#[test]
fn an_account_is_not_new_again_after_hundreds_of_others() {
    let mut service = watching_clients().remembering();
    let mut ask = |account: u64, history: &[u32]| {
        service.top_k_of(&[Asker { client: Some(1), account }], &[history], K).unwrap().ids
    };
    // A user, and after him a thief in 400 accounts.
    let mut user = vec![7];
    for _ in 0..3 {
        let next = ask(9999, &user)[0];
        user.push(next);
    }
    let thieves = random_accounts(400, 4);
    for (number, thief) in (0..).zip(&thieves) {
        for length in 1..=4 {
            ask(number, &thief[..length]);
        }
    }
    let believed = guarded(sasrec::ARCHITECTURE, 3.0).top_k(&[&user], 5).unwrap().ids;
    assert_ne!(ask(5000, &user)[..5], believed, "whoever is new and claims that past is suspected");
    assert_eq!(ask(9999, &user)[..5], believed, "who is not new stays as he began");
    // What he asks about once more is answered alike, and what the thief's first account takes counts in its place.
    let first = ask(0, &thieves[0]);
    for _ in 0..300 {
        assert_eq!(ask(0, &thieves[0]), first);
    }
    assert_eq!(ask(9999, &user)[..5], believed);
}

#[test]
fn candidates_of_a_flagged_account_stand_in_the_order_of_their_decoys() {
    let accounts = random_accounts(2, 6);
    let histories = prefixes(&accounts, 6);
    let few = Answers::new(4, [9, 2, 30, 80].repeat(2)).unwrap();
    let decoys = Decoys::new(&Key::of_seed(3), ITEMS);
    let lists = guarded(sasrec::ARCHITECTURE, f64::MIN).top_k_among(&histories, &few, 4).unwrap();
    let mut expected = vec![9, 2, 30, 80];
    expected.sort_by_key(|&item| decoys.of(item));
    assert!(lists.iter().all(|list| list == expected));
    let mut open = guarded(sasrec::ARCHITECTURE, f64::MAX);
    assert_ne!(open.top_k_among(&histories, &few, 4).unwrap().row(0), expected);
    assert_eq!((open.queries(), open.top_k(&histories, 4).unwrap().rows()), (0, 2));
}

#[test]
fn users_it_was_fitted_to_are_flagged_as_seldom_as_was_asked() {
    let (model, _) = model(sasrec::ARCHITECTURE);
    // Users who take from the top three of what they are shown, and now and then from further down.
    let mut stream = Streams::new(9).open(Purpose::Generation, 0, 0, 0);
    let mut users: Vec<Vec<u32>> = (1..=80).map(|user| vec![user]).collect();
    let mut open = guarded(sasrec::ARCHITECTURE, f64::MAX);
    for length in 1..12 {
        let answers = open.top_k(&prefixes(&users, length), K).unwrap();
        for (user, list) in users.iter_mut().zip(&answers) {
            let most = if below(&mut stream, 5) == 0 { K as u32 } else { 3 };
            user.push(list[below(&mut stream, most) as usize]);
        }
    }
    let histories = prefixes(&users, 12);
    let wanted = Wanted {
        honest: 5,
        canaries: 0.2,
        trust: 4.0,
        watermark: 0.0,
        false_alarms: 0.1,
        client_alarms: 0.01,
        top_k: K,
    };
    let key = Key::of_seed(3);
    let halves = histories.split_at(40);
    let fitted = fit(&wanted, &key, &*model, halves, &Device::Cpu, &|_| {}).unwrap();
    let Value::Object(written) = serde_json::to_value(&fitted).unwrap() else { panic!() };
    let read: guard::Parameters = serde_json::from_value(Value::Object(written.clone())).unwrap();
    assert_eq!(read, fitted, "what is written is what was fitted");

    let description = model_description(Defence::answers("guard", written));
    let mut service = ProtectedTarget::new(model.into(), &description, Some(key), Device::Cpu).unwrap();
    let mut ever = |accounts: &[&[u32]]| {
        let mut flagged = vec![false; accounts.len()];
        for length in 1..=12 {
            let histories: Vec<&[u32]> = accounts.iter().map(|account| &account[..length]).collect();
            let (given, true_lists) =
                (service.top_k(&histories, K).unwrap(), open.top_k(&histories, K).unwrap());
            for (row, flag) in flagged.iter_mut().enumerate() {
                *flag |= given.row(row)[..5] != true_lists.row(row)[..5];
            }
        }
        flagged.into_iter().filter(|flag| *flag).count()
    };
    assert_eq!(ever(halves.1), 4, "a tenth of those the threshold was set on");
    let thieves = random_accounts(40, 12);
    assert!(ever(&prefixes(&thieves, 12)) >= 36);
}

fn model_description(defence: Defence) -> Description {
    Description { defence, ..model(sasrec::ARCHITECTURE).1 }
}

#[test]
fn a_guard_without_its_key_is_refused() {
    let refusal = |key| target(sasrec::ARCHITECTURE, 1.0, key).map(drop).unwrap_err().to_string();
    assert!(refusal(Key::of_seed(4)).contains(&Key::of_seed(3).fingerprint()));
    let (model, description) = model(sasrec::ARCHITECTURE);
    let Value::Object(mut written) = serde_json::to_value(parameters(1.0)).unwrap() else { panic!() };
    let guard = |written: &serde_json::Map<String, Value>| Description {
        defence: Defence::answers("guard", written.clone()),
        ..description.clone()
    };
    let model: std::sync::Arc<dyn Recommender> = model.into();
    let service = |description: &Description, key| {
        ProtectedTarget::new(std::sync::Arc::clone(&model), description, key, Device::Cpu)
            .map(drop)
            .unwrap_err()
            .to_string()
    };
    assert!(service(&guard(&written), None).contains("needs its key"));
    written.insert("threshold".to_owned(), Value::Null);
    assert!(service(&guard(&written), Some(Key::of_seed(3))).contains("threshold"));
    // The second would need 16 GiB for its decoys alone.
    for end in [91, u32::MAX] {
        let mut bins = bins(ITEMS);
        *bins.last_mut().unwrap() = end;
        let other = guard::Parameters { bins, ..parameters(1.0) };
        assert!(end > 91 || Guard::new(other.clone(), Key::of_seed(3), 91).is_ok());
        let Value::Object(other) = serde_json::to_value(other).unwrap() else { panic!() };
        let message = service(&guard(&other), Some(Key::of_seed(3)));
        assert!(message.contains(&format!("a catalogue of {end} items, the model has 90")), "{message}");
    }
}
