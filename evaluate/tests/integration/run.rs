#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use artifact::checkpoint::{Checkpoint, MODEL};
use artifact::dataset::Dataset;
use artifact::settings::{Evaluate, Ranking};
use candle_core::Device;
use evaluate::run::candidates::Candidates;
use models::Mode;

use crate::scene::{Ended, ITEMS, Scene, USERS};

const TOP_K: u32 = 15;

fn scene() -> (Scene, Dataset) {
    let scene = Scene::new();
    let dataset = scene.dataset("data", "item 1");
    scene.model("target", &dataset, 1, "none");
    scene.model("copy", &dataset, 1, "none");
    scene.model("other", &dataset, 2, "none");
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
    let place = |user: usize| {
        order.iter().position(|&item| Some(item) == dataset.test(user)).map(|place| place as u32 + 1)
    };
    assert_eq!(scene.ranks("eval", "popular_rank"), (0..USERS).map(place).collect::<Vec<_>>());
}

#[test]
fn a_policy_ranks_by_the_answered_list_and_misses_outside_it() {
    let (scene, dataset) = scene();
    scene.model("reversed", &dataset, 1, "reverse");
    scene.model("shuffled", &dataset, 1, "random");
    for (target, out) in [("target", "eval"), ("reversed", "eval-reverse"), ("shuffled", "eval-random")] {
        expect_done(&evaluate(&scene, target, Some("copy"), out, &[]));
    }
    let plain = scene.ranks("eval", "target_rank");
    let reversed: Vec<_> =
        plain.iter().map(|rank| rank.filter(|&rank| rank <= TOP_K).map(|rank| TOP_K + 1 - rank)).collect();
    assert!(reversed.iter().any(Option::is_none) && reversed.iter().any(Option::is_some));
    assert_eq!(scene.ranks("eval-reverse", "target_rank"), reversed);
    let shuffled = scene.ranks("eval-random", "target_rank");
    let answered = |ranks: &[Option<u32>]| ranks.iter().map(Option::is_some).collect::<Vec<_>>();
    assert_eq!(answered(&shuffled), answered(&reversed));
    assert_ne!(shuffled, reversed);
    // A copy of the model itself repeats the ranking, not the reversed answers.
    let fidelity = scene.json("eval-reverse/metrics.json")["fidelity"].clone();
    assert_eq!(fidelity["own"]["EM@10"]["mean"], 1.0);
    assert!(fidelity["answered"]["EM@10"]["mean"].as_f64().unwrap() < 0.2, "{fidelity}");
    // User by user, of the copy and of the table: what their means are in metrics.json.
    let metrics = scene.json("eval-reverse/metrics.json");
    for (column, pointer) in [
        ("EM@10", "/fidelity/answered/EM@10/mean"),
        ("own_EM@10", "/fidelity/own/EM@10/mean"),
        ("table_Agr@10", "/table/answered/Agr@10/mean"),
        ("table_own_Agr@10", "/table/own/Agr@10/mean"),
        ("table_own_RBO", "/table/own/RBO/mean"),
    ] {
        let mean = metrics.pointer(pointer).and_then(serde_json::Value::as_f64).unwrap();
        let values = scene.values("eval-reverse", column);
        assert!((values.iter().sum::<f64>() / USERS as f64 - mean).abs() < 1e-9, "{column}");
    }
    assert_ne!(
        scene.values("eval-reverse", "table_Agr@10"),
        scene.values("eval-reverse", "table_own_Agr@10")
    );
}

#[test]
fn a_table_of_lists_to_single_items_is_a_copy_that_learns_nothing() {
    let (scene, dataset) = scene();
    scene.model("reversed", &dataset, 1, "reverse");
    for (target, out) in [("target", "eval"), ("reversed", "eval-reverse")] {
        expect_done(&evaluate(&scene, target, None, out, &[]));
    }
    // Spelled out: what the model says of the last item alone, held against the test item and the list to the whole history.
    let last: Vec<Vec<u32>> = (0..USERS).map(|user| vec![dataset.valid(user)]).collect();
    let scores = scores_after(&scene, &last, "target");
    let above = |row: &[f32], item: u32| {
        let own = row[item as usize - 1];
        row.iter().filter(|&&score| score >= own).count() as u32
    };
    let place = |user: usize| Some(above(&scores[user], dataset.test(user).unwrap()));
    let ranks: Vec<Option<u32>> = (0..USERS).map(|user| place(user).filter(|&rank| rank <= TOP_K)).collect();
    assert!(ranks.iter().any(Option::is_none) && ranks.iter().any(Option::is_some));
    assert_eq!(scene.ranks("eval", "table_rank"), ranks);
    assert_ne!(scene.ranks("eval", "target_rank"), ranks);
    let table = &scene.json("eval/metrics.json")["table"];
    let hits = ranks.iter().flatten().filter(|&&rank| rank <= 10).count();
    assert!((table["quality"]["HR@10"]["mean"].as_f64().unwrap() - hits as f64 / USERS as f64).abs() < 1e-12);
    let whole = self::scores(&scene, &dataset, "target");
    let shared = |user: usize| {
        let top = |row: &[f32]| (1..=ITEMS as u32).filter(|&item| above(row, item) <= 10).collect::<Vec<_>>();
        let own = top(&whole[user]);
        top(&scores[user]).iter().filter(|item| own.contains(item)).count()
    };
    let agreement = (0..USERS).map(shared).sum::<usize>() as f64 / (10 * USERS) as f64;
    assert!((table["answered"]["Agr@10"]["mean"].as_f64().unwrap() - agreement).abs() < 1e-9, "{agreement}");
    assert_eq!(table["listed"], TOP_K);
    // Among sampled candidates there is none: its lists hold few of them.
    expect_done(&evaluate(
        &scene,
        "target",
        None,
        "sampled",
        &["--set", "evaluate.ranking=uniform", "--set", "evaluate.negatives=20"],
    ));
    assert!(scene.json("sampled/metrics.json").get("table").is_none());
    // A policy answers single items as it answers everything.
    let reversed: Vec<_> =
        ranks.iter().map(|rank| rank.filter(|&rank| rank <= TOP_K).map(|rank| TOP_K + 1 - rank)).collect();
    assert_eq!(scene.ranks("eval-reverse", "table_rank"), reversed);
    // A report has it among the thieves, with his price.
    let ended = scene.evaluate(&["report", "--runs", "eval", "eval-reverse", "--out", "report"]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    let report = scene.json("report/report.json");
    let rows = report["rows"].as_array().unwrap();
    let tables: Vec<_> = rows.iter().filter(|row| row["surrogate"] == "table").collect();
    assert_eq!(tables.len(), 2, "of the open target and of the other");
    assert!(!ended.err.contains("table of lists"), "{}", ended.err);
    assert!(
        tables[0]["difference_to_none"].is_null() && tables[1]["difference_to_none"]["HR@10"].is_object()
    );
    for verdict in report["verdicts"].as_array().unwrap() {
        assert_eq!(verdict["thief"]["price"]["questions"], ITEMS, "{verdict}");
        assert_eq!(verdict["thief"]["price"]["accounts"], ITEMS, "{verdict}");
    }
    // A table of which an older program does not say how alike it is to the model's own lists might be the most alike: nothing is tested.
    for (target, out) in [("target", "copied-open"), ("reversed", "copied-reverse")] {
        expect_done(&evaluate(&scene, target, Some("copy"), out, &[]));
    }
    let tested = |runs: &[&str], out: &str| {
        let ended = scene.evaluate(&[&["report", "--out", out, "--runs"], runs].concat());
        assert_eq!(ended.code, 0, "{}", ended.err);
        let report = scene.json(&format!("{out}/report.json"));
        report["verdicts"][1]["most_alike"]["difference"].is_object()
    };
    assert!(tested(&["copied-open", "copied-reverse"], "alike"));
    std::fs::remove_file(scene.path("copied-reverse/stage.lock")).unwrap();
    scene.amend("copied-reverse/metrics.json", "/table", |table| {
        table.as_object_mut().unwrap().remove("own");
    });
    assert!(!tested(&["copied-open", "copied-reverse"], "unlike"));
    // Where another run of the same target says it, that one is taken, though it is not the first.
    assert!(tested(&["copied-open", "copied-reverse", "eval-reverse"], "again"));
    // Where an older program evaluated a target, that thief is missing, which is said.
    std::fs::remove_file(scene.path("eval/stage.lock")).unwrap();
    scene.amend("eval/metrics.json", "", |metrics| {
        metrics.as_object_mut().unwrap().remove("table");
    });
    let ended = scene.evaluate(&["report", "--runs", "eval", "eval-reverse", "--out", "older"]);
    assert!(
        ended.code == 0 && ended.err.contains("eval, and 0 more: an older program evaluated"),
        "{}",
        ended.err
    );
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
    scene.model("reversed", &dataset, 1, "reverse");
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
fn settings_are_chosen_by_validation_items_after_what_was_trained_on() {
    let (scene, dataset) = scene();
    expect_done(&evaluate(&scene, "target", Some("other"), "test", &[]));
    let by_validation = ["--set", "evaluate.held_out=validation"];
    expect_done(&evaluate(&scene, "target", Some("other"), "validation", &by_validation));
    let protocol = scene.json("validation/protocol.json");
    assert_eq!((&protocol["held_out"], &protocol["users"]), (&"validation".into(), &USERS.into()));
    assert!(scene.json("test/protocol.json").get("held_out").is_none(), "what older runs say nothing of");

    let (model, _) = models::load(&scene.path("target").join(MODEL), &Device::Cpu).unwrap();
    let found = scene.ranks("validation", "target_rank");
    for user in 0..USERS {
        let placed = model.contexts(&[dataset.train(user)]).upload(&Device::Cpu).unwrap();
        let states = model.encode(&placed, Mode::Evaluate).unwrap();
        let scores = model.catalogue().scores(&states).unwrap().to_vec2::<f32>().unwrap();
        let items = &scores[0][1..=ITEMS];
        let looked_for = items[dataset.valid(user) as usize - 1];
        let rank = items.iter().filter(|&&score| score >= looked_for).count() as u32;
        assert_eq!(found[user], Some(rank), "user {user}");
    }
    assert_ne!(found, scene.ranks("test", "target_rank"));

    // Figures of the two do not stand in one table, and seen items are those before the item that is looked for.
    let mixed = scene.evaluate(&["report", "--runs", "test", "validation", "--out", "mixed", "--quiet"]);
    assert_eq!(mixed.code, 2, "{}", mixed.err);
    assert!(mixed.err.contains("validation items"), "{}", mixed.err);
    let report = ["report", "--runs", "validation", "--out", "chosen/report", "--quiet"];
    expect_done(&Ended { out: String::new(), ..scene.evaluate(&report) });
    for file in ["report.md", "report.html"] {
        let page = std::fs::read_to_string(scene.path("chosen/report").join(file)).unwrap();
        assert!(page.contains("validation items of"), "{file}: {page}");
    }
    let results = ["results", "--collect", "chosen", "--kept", "kept", "--page", "page.md"];
    let collected = scene.evaluate(&results);
    assert_eq!(collected.code, 2, "{}", collected.err);
    assert!(collected.err.contains("is judged by validation items"), "{}", collected.err);
    assert!(!scene.path("page.md").exists() && !scene.path("kept").exists());
    let unseen = [by_validation[0], by_validation[1], "--set", "evaluate.exclude_seen=true"];
    expect_done(&evaluate(&scene, "target", None, "unseen", &unseen));
    for (user, (kept, out)) in found.iter().zip(scene.ranks("unseen", "target_rank")).enumerate() {
        let mut seen = dataset.train(user).to_vec();
        seen.sort_unstable();
        seen.dedup();
        let (kept, out) = (kept.unwrap(), out.unwrap());
        assert!(out <= kept && out + seen.len() as u32 >= kept, "user {user}: {kept}, {out}");
    }
}

/// Item scores of a model after every user's history, `(users, items)`.
fn scores(scene: &Scene, dataset: &Dataset, model: &str) -> Vec<Vec<f32>> {
    let histories: Vec<Vec<u32>> = (0..USERS).map(|user| history(dataset, user)).collect();
    scores_after(scene, &histories, model)
}

/// The same after histories.
fn scores_after(scene: &Scene, histories: &[Vec<u32>], model: &str) -> Vec<Vec<f32>> {
    let (model, _) = models::load(&scene.path(model).join(MODEL), &Device::Cpu).unwrap();
    let histories: Vec<&[u32]> = histories.iter().map(Vec::as_slice).collect();
    let placed = model.contexts(&histories).upload(&Device::Cpu).unwrap();
    let states = model.encode(&placed, Mode::Evaluate).unwrap();
    let all = model.catalogue().scores(&states).unwrap().to_vec2::<f32>().unwrap();
    all.into_iter().map(|row| row[1..=ITEMS].to_vec()).collect()
}

fn history(dataset: &Dataset, user: usize) -> Vec<u32> {
    dataset.train(user).iter().copied().chain([dataset.valid(user)]).collect()
}

fn settings_of(ranking: Ranking, negatives: usize, exclude_seen: bool) -> Evaluate {
    Evaluate { ranking, negatives, exclude_seen, ..Evaluate::default() }
}

#[test]
fn sampled_ranks_are_those_of_a_count_over_the_candidates() {
    let (scene, dataset) = scene();
    scene.model("reversed", &dataset, 1, "reverse");
    let (of_target, of_other) = (scores(&scene, &dataset, "target"), scores(&scene, &dataset, "other"));
    let mut counts = [0; ITEMS];
    (0..USERS).flat_map(|user| dataset.train(user)).for_each(|&item| counts[item as usize - 1] += 1);
    for (name, ranking) in [("uniform", Ranking::Uniform), ("popularity", Ranking::Popularity)] {
        for exclude_seen in [false, true] {
            let [plain, reversed] = ["none", "reversed"].map(|of| format!("{name}-{exclude_seen}-{of}"));
            let set = [format!("evaluate.ranking={name}"), format!("evaluate.exclude_seen={exclude_seen}")];
            let more = ["--set", &set[0], "--set", &set[1], "--set", "evaluate.negatives=20"];
            expect_done(&evaluate(&scene, "target", Some("other"), &plain, &more));
            expect_done(&evaluate(&scene, "reversed", None, &reversed, &more));
            let protocol = scene.json(&format!("{plain}/protocol.json"));
            assert_eq!((&protocol["ranking"], &protocol["negatives"]), (&name.into(), &20.into()));

            let settings = settings_of(ranking, 20, exclude_seen);
            let drawn = Candidates::of(&dataset, &settings, 1).unwrap().unwrap();
            let drawn = drawn.draw(&dataset, &everybody()).unwrap();
            let ranks = |run: &str, column: &str| scene.ranks(run, column);
            for user in 0..USERS {
                let (test, negatives) = drawn.row(user).split_first().unwrap();
                assert_eq!((Some(*test), negatives.len()), (dataset.test(user), 20));
                let seen = if exclude_seen { history(&dataset, user) } else { vec![] };
                assert!(!negatives.contains(test) && !negatives.iter().any(|id| seen.contains(id)));

                let count = |beats: &dyn Fn(u32) -> bool| {
                    Some(1 + negatives.iter().filter(|&&id| beats(id)).count() as u32)
                };
                let at = |row: &[f32], id: u32| row[id as usize - 1];
                let (mine, copy) = (&of_target[user], &of_other[user]);
                let expected = count(&|id| at(mine, id) >= at(mine, *test));
                assert_eq!(ranks(&plain, "target_rank")[user], expected, "{plain}, user {user}");
                let expected = count(&|id| at(copy, id) >= at(copy, *test));
                assert_eq!(ranks(&plain, "surrogate_rank")[user], expected, "{plain}, user {user}");
                let place = |id: u32| (-counts[id as usize - 1], id);
                let expected = count(&|id| place(id) < place(*test));
                assert_eq!(ranks(&plain, "popular_rank")[user], expected, "{plain}, user {user}");
                assert_eq!(ranks(&reversed, "popular_rank")[user], expected, "one draw for every model");

                // Through a policy: rank the candidates, keep the best 15, reverse them, look the item up.
                let mut list = drawn.row(user).to_vec();
                list.sort_by(|&a, &b| at(mine, b).total_cmp(&at(mine, a)).then(a.cmp(&b)));
                list.truncate(TOP_K as usize);
                list.reverse();
                let expected = list.iter().position(|id| id == test).map(|place| place as u32 + 1);
                assert_eq!(ranks(&reversed, "target_rank")[user], expected, "{reversed}, user {user}");
            }
        }
    }
}

#[test]
fn against_all_other_items_a_sampled_rank_is_the_full_rank() {
    let (scene, dataset) = scene();
    scene.model("shuffled", &dataset, 1, "random");
    for (target, full, sampled) in
        [("target", "full", "sampled"), ("shuffled", "full-random", "sampled-random")]
    {
        let all = format!("evaluate.negatives={}", ITEMS - 1);
        expect_done(&evaluate(&scene, target, Some("other"), full, &[]));
        let more = ["--set", "evaluate.ranking=uniform", "--set", &all];
        expect_done(&evaluate(&scene, target, Some("other"), sampled, &more));
        for column in ["target_rank", "surrogate_rank", "popular_rank"] {
            assert_eq!(scene.ranks(full, column), scene.ranks(sampled, column), "{target}, {column}");
        }
        // Lists are answered from the whole catalogue under every protocol.
        let fidelity = |run: &str| scene.json(&format!("{run}/metrics.json"))["fidelity"].clone();
        assert_eq!(fidelity(full), fidelity(sampled));
    }
}

#[test]
fn negatives_are_keyed_by_seed_and_user_and_by_nothing_else() {
    let (scene, dataset) = scene();
    for ranking in [Ranking::Uniform, Ranking::Popularity] {
        let of = |seed| Candidates::of(&dataset, &settings_of(ranking, 10, false), seed).unwrap().unwrap();
        let all = of(1).draw(&dataset, &everybody()).unwrap();
        // However the users are cut into batches.
        for users in [3..5, 0..1, 30..31] {
            let rows: Vec<u32> = users.clone().flat_map(|user| all.row(user).to_vec()).collect();
            assert_eq!(of(1).draw(&dataset, &users.collect::<Vec<_>>()).unwrap().ids, rows);
        }
        assert_ne!(all.row(0)[1..], all.row(1)[1..]);
        let other = of(2).draw(&dataset, &everybody()).unwrap();
        assert!((0..USERS).all(|user| all.row(user)[1..] != other.row(user)[1..]));
    }
    let sampled = ["--set", "evaluate.ranking=uniform", "--set", "evaluate.negatives=10"];
    expect_done(&evaluate(&scene, "target", Some("other"), "one", &sampled));
    let batched = [&sampled[..], &["--set", "evaluate.batch=31", "--threads", "1"]].concat();
    expect_done(&evaluate(&scene, "target", Some("other"), "two", &batched));
    let reseeded = [&sampled[..], &["--seed", "2"]].concat();
    expect_done(&evaluate(&scene, "target", Some("other"), "three", &reseeded));
    for column in ["target_rank", "surrogate_rank", "popular_rank"] {
        assert_eq!(scene.ranks("one", column), scene.ranks("two", column));
        assert_ne!(scene.ranks("one", column), scene.ranks("three", column));
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
    scene.model("stranger", &foreign, 1, "none");
    std::fs::create_dir(scene.path("empty")).unwrap();
    let cases: [Case; 8] = [
        (
            "more negatives than items",
            "target",
            None,
            &["--set", "evaluate.ranking=uniform", "--set", "evaluate.negatives=40"],
            &["evaluate.negatives", "40", "set it to at most 39", "at most 39"],
        ),
        (
            "more negatives than unseen items",
            "target",
            None,
            &[
                "--set",
                "evaluate.ranking=popularity",
                "--set",
                "evaluate.negatives=36",
                "--set",
                "evaluate.exclude_seen=true",
            ],
            &["evaluate.negatives", "36", "user ", "40 items"],
        ),
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

/// The indices of all users.
fn everybody() -> Vec<usize> {
    (0..USERS).collect()
}

/// Writes another checkpoint in place of the target.
fn change(scene: &Scene, change: impl FnOnce(&mut Checkpoint)) {
    let path = scene.path("target").join(MODEL);
    let mut checkpoint = Checkpoint::read(&path).unwrap();
    change(&mut checkpoint);
    checkpoint.write(&path).unwrap();
}

#[test]
fn sizes_that_the_weights_cannot_have_are_refused() {
    for (key, value, expected) in [
        ("blocks", 1 << 32, "`blocks` 4294967296, expected from 1 to the number of its tensors"),
        ("blocks", 0, "`blocks` 0, expected from 1 to"),
        ("heads", 0, "`heads` 0, expected a divisor of `hidden`, 8"),
        ("heads", 3, "`heads` 3, expected a divisor of `hidden`, 8"),
        ("hidden", usize::MAX, "expected from 1 to 4294967294"),
        ("max_len", 0, "`max_len` 0, expected from 1"),
    ] {
        let (scene, _) = scene();
        change(&scene, |Checkpoint { description, .. }| {
            let network = &mut description.network;
            match key {
                "blocks" => network.blocks = value,
                "heads" => network.heads = value,
                "hidden" => network.hidden = value,
                _ => network.max_len = value,
            }
        });
        let ended = evaluate(&scene, "target", None, "out", &[]);
        assert_eq!(ended.code, 2, "{key} {value}: {}", ended.err);
        assert!(
            ended.err.contains("target/model.safetensors: its description says")
                && ended.err.contains(expected),
            "{key} {value}: {}",
            ended.err
        );
        assert!(!scene.path("out").exists());
    }
}

#[test]
fn weights_whose_scores_are_no_numbers_are_refused() {
    for (target, surrogate) in [("huge", None), ("huge", Some("other")), ("other", Some("huge"))] {
        let (scene, dataset) = scene();
        scene.model("huge", &dataset, 1, "none");
        let path = scene.path("huge").join(MODEL);
        let mut checkpoint = Checkpoint::read(&path).unwrap();
        for value in checkpoint.tensors.values_mut().flat_map(|tensor| &mut tensor.values) {
            *value = 3e38_f32.copysign(*value);
        }
        checkpoint.write(&path).unwrap();
        let ended = evaluate(&scene, target, surrogate, "out", &[]);
        assert_eq!(ended.code, 2, "{target}: {}", ended.err);
        let expected = "huge/model.safetensors: its scores are no finite numbers";
        assert!(ended.err.contains(expected), "{target}: {}", ended.err);
        assert!(!scene.path("out").exists());
    }
}
