use artifact::checkpoint::Policy;
use artifact::dataset::Dataset;

use crate::scene::{Ended, ITEMS, Scene, USERS};

const TOP_K: u32 = 15;

fn scene() -> (Scene, Dataset) {
    let scene = Scene::new();
    let dataset = scene.dataset("data", "item 1");
    scene.model("target", &dataset, 1, Policy::None);
    scene.model("copy", &dataset, 1, Policy::None);
    scene.model("other", &dataset, 2, Policy::None);
    (scene, dataset)
}

fn evaluate(scene: &Scene, target: &str, surrogate: Option<&str>, out: &str, more: &[&str]) -> Ended {
    let mut arguments =
        vec!["run", "--data", "data", "--target", target, "--out", out, "--device", "cpu", "--quiet"];
    arguments.extend([
        "--set",
        "evaluate.ks=[1,5,10]",
        "--set",
        "evaluate.top_k=15",
        "--set",
        "evaluate.bootstrap=50",
    ]);
    arguments.extend(["--set", "evaluate.batch=7"]);
    if let Some(surrogate) = surrogate {
        arguments.extend(["--surrogate", surrogate]);
    }
    arguments.extend(more);
    scene.evaluate(&arguments)
}

fn expect_done(ended: &Ended) {
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert_eq!(ended.out, "", "data goes to stdout, and there is none");
}

#[test]
fn a_surrogate_with_the_targets_weights_is_a_perfect_copy() {
    let (scene, _) = scene();
    expect_done(&evaluate(&scene, "target", Some("copy"), "eval", &[]));
    let metrics = scene.json("eval/metrics.json");
    assert_eq!(metrics["users"], USERS);
    assert_eq!(metrics["items"], ITEMS);
    assert_eq!(metrics["target"], metrics["surrogate"]);
    for section in ["answered", "own"] {
        for name in ["Agr@1", "Agr@5", "Agr@10", "EM@1", "EM@5", "EM@10"] {
            assert_eq!(metrics["fidelity"][section][name]["mean"], 1.0, "{section} {name}");
        }
        assert!((metrics["fidelity"][section]["RBO"]["mean"].as_f64().unwrap() - 1.0).abs() < 1e-9);
    }
    assert!(metrics["fidelity"]["own"]["KL"]["mean"].as_f64().unwrap().abs() < 1e-6);
    assert_eq!(scene.ranks("eval", "target_rank"), scene.ranks("eval", "surrogate_rank"));
    assert!(
        scene.ranks("eval", "target_rank").iter().flatten().all(|rank| (1..=ITEMS as u32).contains(rank))
    );
}

#[test]
fn figures_follow_from_the_ranks() {
    let (scene, dataset) = scene();
    expect_done(&evaluate(&scene, "target", Some("other"), "eval", &[]));
    let metrics = scene.json("eval/metrics.json");
    for (section, column) in
        [("target", "target_rank"), ("surrogate", "surrogate_rank"), ("popular", "popular_rank")]
    {
        let ranks = scene.ranks("eval", column);
        assert_eq!(ranks.len(), USERS);
        let hits = ranks.iter().flatten().filter(|&&rank| rank <= 10).count();
        let found = &metrics[section]["HR@10"];
        assert!((found["mean"].as_f64().unwrap() - hits as f64 / USERS as f64).abs() < 1e-12, "{section}");
        assert!(
            found["low"].as_f64() <= found["mean"].as_f64()
                && found["mean"].as_f64() <= found["high"].as_f64()
        );
    }
    let agreement = metrics["fidelity"]["answered"]["Agr@10"]["mean"].as_f64().unwrap();
    assert!(agreement > 0.0 && agreement < 0.9, "{agreement}");
    assert!(metrics["fidelity"]["own"]["KL"]["mean"].as_f64().unwrap() > 0.01);

    // The baseline, spelled out: order all items by their count in train, the lower id first.
    let mut counts = [0; ITEMS];
    (0..USERS).flat_map(|user| dataset.train(user)).for_each(|&item| counts[item as usize - 1] += 1);
    let mut order: Vec<u32> = (1..=ITEMS as u32).collect();
    order.sort_by_key(|&item| (-counts[item as usize - 1], item));
    let place =
        |user: usize| order.iter().position(|&item| item == dataset.test(user)).map(|place| place as u32 + 1);
    assert_eq!(scene.ranks("eval", "popular_rank"), (0..USERS).map(place).collect::<Vec<_>>());
}

#[test]
fn a_policy_ranks_by_the_answered_list_and_misses_outside_it() {
    let (scene, dataset) = scene();
    scene.model("reversed", &dataset, 1, Policy::Reverse);
    scene.model("shuffled", &dataset, 1, Policy::Random);
    for (target, out) in [("target", "eval"), ("reversed", "eval-reverse"), ("shuffled", "eval-random")] {
        expect_done(&evaluate(&scene, target, Some("copy"), out, &[]));
    }
    let plain = scene.ranks("eval", "target_rank");
    let turned: Vec<_> =
        plain.iter().map(|rank| rank.filter(|&rank| rank <= TOP_K).map(|rank| TOP_K + 1 - rank)).collect();
    assert!(turned.iter().any(Option::is_none) && turned.iter().any(Option::is_some));
    assert_eq!(scene.ranks("eval-reverse", "target_rank"), turned);
    let shuffled = scene.ranks("eval-random", "target_rank");
    let answered = |ranks: &[Option<u32>]| ranks.iter().map(Option::is_some).collect::<Vec<_>>();
    assert_eq!(answered(&shuffled), answered(&turned));
    assert_ne!(shuffled, turned);
    // A copy of the model itself repeats the ranking, not the reversed answers.
    let fidelity = scene.json("eval-reverse/metrics.json")["fidelity"].clone();
    assert_eq!(fidelity["own"]["EM@10"]["mean"], 1.0);
    assert!(fidelity["answered"]["EM@10"]["mean"].as_f64().unwrap() < 0.2, "{fidelity}");
}

#[test]
fn seen_items_can_be_taken_out() {
    let (scene, dataset) = scene();
    expect_done(&evaluate(&scene, "target", None, "kept", &[]));
    expect_done(&evaluate(&scene, "target", None, "out", &["--set", "evaluate.exclude_seen=true"]));
    assert_eq!(scene.json("out/protocol.json")["exclude_seen"], true);
    assert!(scene.json("kept/metrics.json").get("surrogate").is_none());
    for column in ["target_rank", "popular_rank"] {
        let (kept, out) = (scene.ranks("kept", column), scene.ranks("out", column));
        assert_ne!(kept, out);
        for (user, (kept, out)) in kept.iter().zip(&out).enumerate() {
            let mut seen = dataset.train(user).to_vec();
            seen.extend([dataset.valid(user)]);
            seen.sort_unstable();
            seen.dedup();
            let (kept, out) = (kept.unwrap(), out.unwrap());
            assert!(out <= kept && out + seen.len() as u32 >= kept, "user {user}: {kept}, {out}");
        }
    }

    // In an answered list as well: the test item moves up by the seen items that stood before it.
    scene.model("reversed", &dataset, 1, Policy::Reverse);
    let excluding = ["--set", "evaluate.exclude_seen=true"];
    expect_done(&evaluate(&scene, "reversed", None, "reversed-kept", &[]));
    expect_done(&evaluate(&scene, "reversed", None, "reversed-out", &excluding));
    let (kept, out) =
        (scene.ranks("reversed-kept", "target_rank"), scene.ranks("reversed-out", "target_rank"));
    assert_ne!(kept, out);
    for (kept, out) in kept.iter().zip(&out) {
        assert_eq!(kept.is_some(), out.is_some());
        assert!(out <= kept);
    }
}

#[test]
fn equal_inputs_give_equal_bytes_with_any_number_of_threads() {
    let (scene, _) = scene();
    expect_done(&evaluate(&scene, "target", Some("other"), "one", &["--threads", "1"]));
    expect_done(&evaluate(&scene, "target", Some("other"), "two", &["--threads", "2"]));
    for file in ["metrics.json", "protocol.json", "ranks.parquet", "settings.yaml"] {
        let read = |directory: &str| std::fs::read(scene.path(directory).join(file)).unwrap();
        assert_eq!(read("one"), read("two"), "{file}");
    }
}

#[test]
fn nothing_is_done_twice() {
    let (scene, _) = scene();
    expect_done(&evaluate(&scene, "target", None, "eval", &[]));
    let written = || std::fs::metadata(scene.path("eval/metrics.json")).unwrap().modified().unwrap();
    let first = written();
    expect_done(&evaluate(&scene, "target", None, "eval", &[]));
    assert_eq!(written(), first);
    // A setting of another stage changes nothing; one of this stage does.
    expect_done(&evaluate(&scene, "target", None, "eval", &["--set", "train.epochs=3"]));
    assert_eq!(written(), first);
    expect_done(&evaluate(&scene, "target", None, "eval", &["--set", "evaluate.bootstrap=51"]));
    assert_ne!(written(), first);
}

#[test]
fn a_run_can_be_reported_on() {
    let (scene, _) = scene();
    let ks = ["--set", "evaluate.ks=[10,20]", "--set", "evaluate.top_k=20"];
    expect_done(&evaluate(&scene, "target", Some("other"), "eval-none", &ks));
    let ended = scene.evaluate(&["report", "--runs", "eval-none", "--out", "report"]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert!(ended.out.contains("surrogate BERT4Rec"), "{}", ended.out);
}

/// What the case is, target, surrogate, further arguments, what the message says.
type Case =
    (&'static str, &'static str, Option<&'static str>, &'static [&'static str], &'static [&'static str]);

#[test]
fn what_does_not_fit_is_refused() {
    let (scene, _) = scene();
    let foreign = scene.dataset("foreign", "item 0");
    scene.model("stranger", &foreign, 1, Policy::None);
    std::fs::create_dir(scene.path("empty")).unwrap();
    let cases: [Case; 6] = [
        (
            "k above the catalogue",
            "target",
            None,
            &["--set", "evaluate.top_k=41"],
            &["evaluate.top_k", "41", "40 items"],
        ),
        ("K above the list", "target", None, &["--set", "evaluate.ks=[10,16]"], &["evaluate.ks", "16", "15"]),
        (
            "target of another dataset",
            "stranger",
            None,
            &[],
            &["stranger/model.safetensors", "another dataset"],
        ),
        ("surrogate of another dataset", "target", Some("stranger"), &[], &["stranger/model.safetensors"]),
        ("no model", "empty", None, &[], &["empty/model.safetensors"]),
        ("misspelt setting", "target", None, &["--set", "evaluate.topk=5"], &["evaluate.topk", "top_k"]),
    ];
    for (case, target, surrogate, more, expected) in cases {
        let ended = evaluate(&scene, target, surrogate, "eval", more);
        assert_eq!(ended.code, 2, "{case}: {}", ended.err);
        for text in expected {
            assert!(ended.err.contains(text), "{case}: no `{text}` in: {}", ended.err);
        }
        assert!(!scene.path("eval").exists(), "{case}: nothing is left behind");
    }
}
