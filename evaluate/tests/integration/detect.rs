#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::path::Path;
use std::sync::Arc;

use artifact::asked::{self, Asked};
use artifact::checkpoint::{Checkpoint, Defence, Description, Kind, MODEL};
use artifact::dataset::{self, Dataset, UserSequence};
use artifact::digest;
use artifact::queries::{Generation, QUERIES, Query, QueryHeader, QueryLog, QueryWriter};
use artifact::settings::{Network, Sections};
use candle_core::Device;
use models::{Parameters, Recommender, Sizes, sasrec};
use serde_json::Value;
use service::black_box::{BlackBox, ProtectedTarget};
use service::guard::fit::{Part, Wanted, fit};
use service::key::{Key, key_path};
use streams::{Purpose, Streams, below};

use crate::scene::{Ended, Scene};

const ITEMS: usize = 90;
const K: usize = 30;
/// First places of a list, which hold no canary.
const HONEST: usize = 5;
const USERS: usize = 160;

/// A target that was never trained: its lists are of no use, and who takes from which places of them is what counts.
fn model() -> (Arc<dyn Recommender>, Description, Parameters) {
    let network =
        Network { hidden: 8, blocks: 1, heads: 2, max_len: 12, dropout: 0.0, attention_dropout: 0.0 };
    let sizes = Sizes { items: ITEMS, network };
    let declared = (sasrec::ARCHITECTURE.declare)(&sizes);
    let parameters =
        Parameters::initial(&declared, 1.0, &Streams::new(1), Purpose::TargetWeights, &Device::Cpu).unwrap();
    let model = (sasrec::ARCHITECTURE.build)(&sizes, &parameters.detached()).unwrap();
    let description = sizes.describe(Kind::Protected, sasrec::ARCHITECTURE, "");
    (model.into(), description, parameters)
}

/// Accounts of these lengths that take from the first `most` places of what the target shows.
fn taking(service: &mut ProtectedTarget, lengths: &[usize], most: u32, seed: u64) -> Vec<Vec<u32>> {
    let mut stream = Streams::new(seed).open(Purpose::Generation, 0, 0, 0);
    let mut accounts: Vec<Vec<u32>> =
        lengths.iter().map(|_| vec![1 + below(&mut stream, ITEMS as u32)]).collect();
    for length in 1..lengths.iter().copied().max().unwrap() {
        let asking: Vec<usize> = (0..lengths.len()).filter(|&account| lengths[account] > length).collect();
        let histories: Vec<&[u32]> = asking.iter().map(|&account| accounts[account].as_slice()).collect();
        let answers = service.top_k(&histories, K).unwrap();
        for (account, list) in asking.into_iter().zip(&answers) {
            accounts[account].push(list[below(&mut stream, most) as usize]);
        }
    }
    accounts
}

/// The lists that a service answers to every prefix of these accounts, account by account.
fn answers(service: &mut ProtectedTarget, accounts: &[Vec<u32>]) -> Vec<Vec<u32>> {
    let of = |account: &Vec<u32>| {
        let prefixes: Vec<&[u32]> = (1..=account.len()).map(|length| &account[..length]).collect();
        service.top_k(&prefixes, K).unwrap().ids
    };
    accounts.iter().map(of).collect()
}

fn write_log(path: &Path, header: QueryHeader, accounts: &[Vec<u32>], answers: &[Vec<u32>]) {
    std::fs::create_dir_all(path).unwrap();
    let mut log = QueryWriter::create(&path.join(QUERIES), header).unwrap();
    for (account, answers) in accounts.iter().zip(answers) {
        log.push(account, answers).unwrap();
    }
    log.finish().unwrap();
}

fn checkpoint(path: &Path, description: Description, parameters: &Parameters) {
    std::fs::create_dir_all(path).unwrap();
    Checkpoint { description, tensors: parameters.to_arrays().unwrap() }.write(&path.join(MODEL)).unwrap();
}

/// What is known beforehand of a guarded target and its thieves.
struct Expected {
    /// Users that are measured.
    users: usize,
    /// Share of the random thief's answers that hold the target's own head.
    truly: f64,
}

/// A dataset of people who take from the top three, a target guarded for them, and two thieves: one takes from anywhere in its lists and
/// is answered by it; the other takes as people do, and was answered by another target.
fn scene() -> (Scene, Expected) {
    let scene = Scene::new();
    let (model, description, parameters) = model();
    let service = |description: &Description, key| {
        ProtectedTarget::new(Arc::clone(&model), description, key, Device::Cpu).unwrap()
    };
    let mut open = service(&description, None);
    let lengths: Vec<usize> = (0..USERS).map(|user| 8 + user % 18).collect();
    let rows = taking(&mut open, &lengths, 3, 3);
    let sequences = rows.iter().map(|row| UserSequence {
        train: &row[..row.len() - 2],
        valid: row[row.len() - 2],
        test: Some(row[row.len() - 1]),
    });
    let names = |what: &str, count: usize| -> Vec<String> {
        (1..=count).map(|number| format!("{what} {number}")).collect()
    };
    std::fs::create_dir_all(scene.path("data")).unwrap();
    dataset::write(&scene.path("data"), &names("item", ITEMS), &names("user", USERS), sequences).unwrap();
    let data = Dataset::read(&scene.path("data")).unwrap();

    let key = Key::of_seed(3);
    let of = |part| -> Vec<Vec<u32>> {
        let users = (0..USERS).filter(|&user| Part::of(user) == part);
        users.map(|user| [data.train(user), &[data.valid(user)]].concat()).collect()
    };
    let wanted = Wanted {
        honest: HONEST,
        canaries: 0.2,
        trust: 4.0,
        watermark: 0.0,
        false_alarms: 0.1,
        client_alarms: 0.01,
        top_k: K,
    };
    let parts = (of(Part::Fit), of(Part::Threshold));
    let fitted = fit(&wanted, &key, &*model, (&parts.0, &parts.1), &Device::Cpu, &|_| {}).unwrap();
    let Value::Object(fitted) = serde_json::to_value(&fitted).unwrap() else { panic!() };
    let description = Description { fingerprint: data.fingerprint().to_owned(), ..description };
    let guarded = Description { defence: Defence::answers("guard", fitted), ..description.clone() };
    checkpoint(&scene.path("guarded"), guarded.clone(), &parameters);
    key.write(&key_path(&scene.path("guarded"))).unwrap();
    let none = Description { defence: Defence::answers("none", Sections::new()), ..description };
    checkpoint(&scene.path("open"), none, &parameters);

    let mut service = service(&guarded, Some(key));
    let header = |strategy: &str, path: &str| QueryHeader {
        items: ITEMS,
        k: K,
        fingerprint: data.fingerprint().to_owned(),
        target: Some(digest::file(&scene.path(path).join(MODEL)).unwrap().blake3),
        generation: Some(Generation {
            strategy: strategy.to_owned(),
            seed_sequences: 0.0,
            seeded: 0,
            seed_length: 0,
            owned: 0,
            choices: std::collections::BTreeMap::new(),
        }),
        ..QueryHeader::default()
    };
    let thieves = taking(&mut service, &[30; 40], K as u32, 5);
    let given = answers(&mut service, &thieves);
    let true_lists = answers(&mut open, &thieves);
    write_log(&scene.path("thieves/random"), header("random", "guarded"), &thieves, &given);
    let heads = given.iter().zip(&true_lists).flat_map(|(given, own)| given.chunks(K).zip(own.chunks(K)));
    let truly =
        heads.map(|(given, own)| f64::from(u8::from(given[..HONEST] == own[..HONEST]))).collect::<Vec<_>>();
    let expected = Expected {
        users: (0..USERS).filter(|&user| Part::of(user) == Part::Measure).count(),
        truly: truly.iter().sum::<f64>() / truly.len() as f64,
    };
    let people = taking(&mut open, &[12; 30], 3, 7);
    let given = answers(&mut open, &people);
    write_log(&scene.path("thieves/people"), header("mimic", "open"), &people, &given);
    (scene, expected)
}

fn detect(scene: &Scene, out: &str, more: &[&str]) -> Ended {
    let mut arguments = vec!["detect", "--out", out, "--device", "cpu", "--set", "evaluate.bootstrap=100"];
    arguments.extend(more);
    scene.evaluate(&arguments)
}

const INPUTS: [&str; 7] =
    ["--data", "data", "--target", "guarded", "--queries", "thieves/random", "thieves/people"];

fn share(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

#[test]
fn thieves_are_told_from_users_and_who_takes_like_them_is_not() {
    let (scene, expected) = scene();
    let ended = detect(&scene, "detect", &INPUTS);
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert!(
        ended.err.contains("thieves/people/queries.parquet was answered by another target"),
        "{}",
        ended.err
    );
    let found = scene.json("detect/detect.json");
    assert_eq!(found["users"], expected.users);
    let [people, random] = found["thieves"].as_array().unwrap().as_slice() else { panic!() };
    // By the names of their logs.
    assert_eq!((people["name"].as_str(), people["answered_here"].as_bool()), (Some("people"), Some(false)));
    assert_eq!((random["name"].as_str(), random["answered_here"].as_bool()), (Some("random"), Some(true)));

    // What the guard is found to have answered is what the log says it did.
    let truly = share(&random["guarded"]["truly"]);
    assert!((truly - expected.truly).abs() < 1e-12, "{truly} {}", expected.truly);
    assert!(truly < 0.7, "{truly}");
    let users = &found["guarded"][0];
    assert_eq!(
        (users["k"].as_u64(), users["accounts"].as_u64()),
        (Some(K as u64), Some(expected.users as u64))
    );
    // A tenth of the users whom the threshold was set on.
    assert!(share(&users["ever"]) < 0.3, "{users}");
    assert!(share(&users["truly"]) > 0.9);
    let of_length = users["by_length"].as_array().unwrap();
    assert_eq!(of_length.iter().map(|of| of["users"].as_u64().unwrap()).sum::<u64>(), expected.users as u64);
    assert_eq!(of_length[2]["ever"], Value::Null, "nobody has 51 items");

    let verdict = |thief: &Value, place: usize| thief["detectors"][place].clone();
    let guard = verdict(random, 0);
    assert!(share(&guard["area"]["mean"]) > 0.95, "{guard}");
    assert!(share(&guard["caught"][2]["at"]["caught"]) > 0.8, "{guard}");
    assert!(guard["caught"][2]["at"]["median"].as_u64().unwrap() < 30);
    // A hundredth of some thirty users is less than one.
    assert_eq!(guard["caught"][1]["at"], Value::Null);
    let area = share(&verdict(people, 0)["area"]["mean"]);
    assert!((0.2..0.8).contains(&area), "who takes as people do is no thief: {area}");
    for (place, name) in ["guard", "prada", "hoda"].into_iter().enumerate() {
        assert_eq!(verdict(random, place)["detector"], name);
        let judged = share(&verdict(people, place)["accounts_judged"]);
        assert_eq!(judged, if name == "guard" { 1.0 } else { 0.0 }, "twelve questions: {name}");
    }

    assert!(ended.out.contains("| random | guard "), "{}", ended.out);
    assert!(ended.out.contains("1 % cannot be shown with"), "{}", ended.out);
    assert!(!ended.out.contains("detect.svg"), "a terminal is spared the picture");
    let svg = std::fs::read_to_string(scene.path("detect/detect.svg")).unwrap();
    assert!(["prada", "hoda", "the guard as it is set", "people"].iter().all(|label| svg.contains(label)));
    let csv = std::fs::read_to_string(scene.path("detect/detect.csv")).unwrap();
    assert!(csv.contains(&format!("random,30,,questions answered truly,,{truly},,")), "{csv}");
}

#[test]
fn users_are_watched_over_lists_as_long_as_each_thief_asked_for() {
    let (scene, expected) = scene();
    let fingerprint = scene.json("data/stats.json")["fingerprint"].as_str().unwrap().to_owned();
    let header = QueryHeader { items: ITEMS, k: 10, fingerprint, ..QueryHeader::default() };
    write_log(&scene.path("thieves/tens"), header, &[vec![1, 2, 3]], &[(1..=30).collect()]);
    let ended = detect(&scene, "detect", &[&INPUTS[..], &["thieves/tens"]].concat());
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert!(
        ended.err.contains("tens/queries.parquet does not say which target answered it"),
        "{}",
        ended.err
    );
    let found = scene.json("detect/detect.json");
    let of: Vec<(u64, u64)> = found["guarded"]
        .as_array()
        .unwrap()
        .iter()
        .map(|users| (users["k"].as_u64().unwrap(), users["accounts"].as_u64().unwrap()))
        .collect();
    assert_eq!(of, [(10, expected.users as u64), (K as u64, expected.users as u64)]);
    assert_eq!(found["thieves"][2]["k"], 10);
    assert!(
        ended.out.contains("| users, lists of 10 ") && ended.out.contains("| 30: 1 to 20 "),
        "{}",
        ended.out
    );
}

#[test]
fn one_thread_writes_the_bytes_of_three() {
    let (scene, _) = scene();
    for (out, threads) in [("one", "1"), ("three", "3")] {
        let ended = detect(&scene, out, &[&INPUTS[..], &["--threads", threads]].concat());
        assert_eq!(ended.code, 0, "{}", ended.err);
    }
    for file in ["detect.md", "detect.json", "detect.csv", "detect.svg"] {
        let read = |out: &str| std::fs::read(scene.path(out).join(file)).unwrap();
        assert_eq!(read("one"), read("three"), "{file}");
    }
}

#[test]
fn what_cannot_be_measured_is_refused_and_nothing_is_written() {
    let (scene, _) = scene();
    let refusal = |arguments: &[&str]| {
        let ended = detect(&scene, "refused", arguments);
        assert_eq!(ended.code, 2, "{}", ended.err);
        assert!(!scene.path("refused").exists());
        ended.err
    };
    let of = |data, target, queries| ["--data", data, "--target", target, "--queries", queries];
    let open = refusal(&of("data", "open", "thieves/random"));
    assert!(open.contains("has no guard (its defence is `none`)"), "{open}");

    let mut header =
        QueryHeader { items: ITEMS, k: K, fingerprint: "another".to_owned(), ..QueryHeader::default() };
    write_log(&scene.path("thieves/foreign"), header.clone(), &[vec![1]], &[(1..=K as u32).collect()]);
    let foreign = refusal(&of("data", "guarded", "thieves/foreign"));
    assert!(foreign.contains("another catalogue"), "{foreign}");
    header.fingerprint = scene.json("data/stats.json")["fingerprint"].as_str().unwrap().to_owned();
    write_log(&scene.path("thieves/empty"), header, &[], &[]);
    let empty = refusal(&of("data", "guarded", "thieves/empty"));
    assert!(empty.contains("holds no sequence"), "{empty}");

    let few = scene.dataset("few", "item 1");
    assert!(few.users() < 100);
    let few = refusal(&of("few", "guarded", "thieves/random"));
    assert!(few.contains("users to measure detection on, expected at least 20"), "{few}");

    Key::of_seed(4).write(&scene.path("other.key")).unwrap();
    let inputs = of("data", "guarded", "thieves/random");
    let other = refusal(&[&inputs[..], &["--key", "other.key"]].concat());
    assert!(other.contains(&Key::of_seed(3).fingerprint()), "{other}");
    std::fs::rename(key_path(&scene.path("guarded")), scene.path("moved.key")).unwrap();
    let missing = refusal(&inputs);
    assert!(missing.contains("answer.key: no such file"), "{missing}");
    let ended = detect(&scene, "found", &[&inputs[..], &["--key", "moved.key"]].concat());
    assert_eq!(ended.code, 0, "{}", ended.err);
}

#[test]
fn what_a_service_wrote_down_is_judged_as_the_log_of_a_thief() {
    let (scene, _) = scene();
    let log = QueryLog::open(&scene.path("thieves/random").join(QUERIES)).unwrap();
    let queries: Vec<Query> = (0..log.groups()).flat_map(|group| log.read_group(group).unwrap()).collect();
    // The same accounts, as a service writes them: the first half of each in one file, the second in the next.
    let directory = scene.path("asked/random");
    std::fs::create_dir_all(&directory).unwrap();
    let header = QueryHeader { generation: None, ..log.header().clone() };
    let row = |number: usize, query: &Query, (first, last): (usize, usize)| Asked {
        account: format!("account {number}"),
        at: 0,
        first: first as u32,
        sequence: query.sequence[..last].to_vec(),
        answers: query.answers[(first - 1) * K..last * K].to_vec(),
    };
    for (number, range) in [(1, (1, 15)), (2, (16, 30))] {
        let rows: Vec<Asked> =
            queries.iter().enumerate().map(|(number, query)| row(number, query, range)).collect();
        asked::write(&asked::path(&directory, number), &header, &rows).unwrap();
    }
    let with = |queries: &'static str, out: &'static str| {
        let inputs = ["--data", "data", "--target", "guarded", "--queries", queries];
        let ended = detect(&scene, out, &inputs);
        assert_eq!(ended.code, 0, "{}", ended.err);
        let mut found = scene.json(&format!("{out}/detect.json"))["thieves"][0].clone();
        // What a service was asked by, it does not know.
        found.as_object_mut().unwrap().retain(|key, _| !matches!(key.as_str(), "strategy"));
        found
    };
    assert_eq!(with("asked/random", "by-service"), with("thieves/random", "by-thief"));
}
