//! The guard on users whose histories the target knows by heart, all but their last items: what was never trained on says how many of
//! them will be flagged.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

use artifact::checkpoint::{Checkpoint, Defence, Description, Kind, MODEL};
use artifact::dataset::{self, Dataset, UserSequence};
use artifact::settings::{Network, Sections, read_all};
use candle_core::Device;
use clap::Parser;
use models::{Parameters, Sizes, sasrec};
use service::black_box::{BlackBox, ProtectedTarget};
use service::guard::fit::{Part, Wanted, fit};
use service::guard::{self, Guard};
use service::key::{Key, key_path};
use streams::{Purpose, Streams, below};

const ITEMS: usize = 300;
const USERS: usize = 300;
const K: usize = 40;
/// Items of a user that the model knows.
const KNOWN: usize = 4;

/// Users take the first or second item of every list, which is what a model does not but recite; then, for validation and test, anything.
fn rows(open: &mut ProtectedTarget) -> Vec<Vec<u32>> {
    let mut stream = Streams::new(5).open(Purpose::Generation, 0, 0, 0);
    let mut rows: Vec<Vec<u32>> = (0..USERS).map(|_| vec![1 + below(&mut stream, ITEMS as u32)]).collect();
    for length in 1..KNOWN + 2 {
        let histories: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
        let answers = open.top_k(&histories, ITEMS).unwrap();
        for (row, list) in rows.iter_mut().zip(&answers) {
            let most = if length < KNOWN { 2 } else { ITEMS as u32 };
            row.push(list[below(&mut stream, most) as usize]);
        }
    }
    rows
}

#[test]
fn users_are_flagged_as_seldom_as_was_asked_where_the_model_knows_their_histories() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    let network =
        Network { hidden: 8, blocks: 1, heads: 2, max_len: 12, dropout: 0.0, attention_dropout: 0.0 };
    let sizes = Sizes { items: ITEMS, network };
    let declared = (sasrec::ARCHITECTURE.declare)(&sizes);
    let parameters =
        Parameters::initial(&declared, 1.0, &Streams::new(1), Purpose::TargetWeights, &Device::Cpu).unwrap();
    let model = (sasrec::ARCHITECTURE.build)(&sizes, &parameters.detached()).unwrap();
    let names = |what: &str, count| (1..=count).map(|number| format!("{what} {number}")).collect::<Vec<_>>();
    let raw = names("item", ITEMS);
    let defence = Defence::answers("none", Sections::new());
    let described = sizes.describe(Kind::Target, sasrec::ARCHITECTURE, &dataset::fingerprint(&raw));
    let description = Description { defence, ..described };
    let mut open = ProtectedTarget::new(model.into(), &description, None, Device::Cpu).unwrap();
    let rows = rows(&mut open);
    let users = rows.iter().map(|row| UserSequence {
        train: &row[..KNOWN],
        valid: row[KNOWN],
        test: Some(row[KNOWN + 1]),
    });
    std::fs::create_dir_all(at("data")).unwrap();
    dataset::write(&at("data"), &raw, &names("user", USERS), users).unwrap();
    std::fs::create_dir_all(at("target")).unwrap();
    let target = Checkpoint { description, tensors: parameters.to_arrays().unwrap() };
    target.write(&at("target").join(MODEL)).unwrap();

    let [data, target, out] = ["data", "target", "guarded"].map(|name| at(name).display().to_string());
    let set = ["defend.guard.false_alarms=0.1", "defend.guard.top_k=40"];
    let arguments = ["gro-defend", "--method", "guard", "--data", &data, "--target", &target, "--out", &out];
    let set = set.iter().flat_map(|set| ["--set", set]);
    defend::run(&defend::Cli::parse_from(arguments.into_iter().chain(["--quiet"]).chain(set))).unwrap();

    let (model, description) = models::load(&at("guarded").join(MODEL), &Device::Cpu).unwrap();
    let fitted: guard::Parameters = read_all(&description.defence.parameters).unwrap();
    let key = Key::read(&key_path(&at("guarded"))).unwrap();
    let guard = Guard::new(fitted, key.clone(), ITEMS).unwrap();
    let dataset = Dataset::read(&at("data")).unwrap();
    // The question about the test item, as an evaluation asks it.
    let flagged = |guard: &Guard, part| -> (usize, usize) {
        let users: Vec<usize> = (0..USERS).filter(|&user| Part::of(user) == part).collect();
        let flagged = users.iter().filter(|&&user| {
            let history = [dataset.train(user), &[dataset.valid(user)]].concat();
            guard.watch(&*model, &history, K, &Device::Cpu).unwrap().iter().any(|watched| watched.flagged)
        });
        (flagged.count(), users.len())
    };
    let (set_on, of) = flagged(&guard, Part::Threshold);
    assert!(10 * set_on <= of, "{set_on} of {of}, expected a tenth of those that the threshold was set on");
    let (others, of) = flagged(&guard, Part::Measure);
    // Two and a half standard deviations above a tenth.
    assert!(others as f64 <= 0.1 * of as f64 + 2.5 * (0.09 * of as f64).sqrt(), "{others} of {of}");

    // What the model knows by heart says nothing of it.
    let of = |part| -> Vec<&[u32]> {
        (0..USERS).filter(|&user| Part::of(user) == part).map(|user| dataset.train(user)).collect()
    };
    let guard::Parameters { honest, canaries, trust, false_alarms, .. } = guard.parameters().clone();
    let wanted =
        Wanted { honest, canaries, trust, watermark: 0.0, false_alarms, client_alarms: 0.0, top_k: K };
    let known = (of(Part::Fit), of(Part::Threshold));
    let known = fit(&wanted, &key, &*model, (&known.0, &known.1), &Device::Cpu, &|_| {}).unwrap();
    let (set_on, of) = flagged(&Guard::new(known, key, ITEMS).unwrap(), Part::Threshold);
    assert!(3 * set_on > of, "{set_on} of {of}");
}
