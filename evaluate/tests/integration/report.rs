use serde_json::Value;

use crate::scene::Scene;

const RUNS: [&str; 4] = ["eval-none", "eval-random", "eval-reverse", "eval-gro"];

/// Every user's rank is 30 (outside every column of the table) but for the first `hits`, who have rank 1.
fn ranks(hits: usize) -> Vec<Option<u32>> {
    (0..200).map(|user| Some(if user < hits { 1 } else { 30 })).collect()
}

fn scene() -> Scene {
    let scene = Scene::new();
    scene.evaluated("eval-none", "none", 0.30, &ranks(60), &ranks(50));
    scene.evaluated("eval-random", "random", 0.20, &ranks(40), &ranks(48));
    scene.evaluated("eval-reverse", "reverse", 0.10, &vec![None; 200], &ranks(30));
    scene.evaluated("eval-gro", "gro", 0.29, &ranks(58), &ranks(10));
    scene
}

fn arguments<'a>(runs: &[&'a str], out: &'a str) -> Vec<&'a str> {
    let mut all = vec!["report", "--quiet", "--out", out, "--runs"];
    all.extend(runs);
    all
}

/// The first two cells of each row of the first table.
fn names(text: &str) -> Vec<(String, String)> {
    let table = text
        .lines()
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'))
        .skip(2);
    table
        .map(|line| {
            let mut cells = line.split('|').skip(1).map(|cell| cell.trim().to_owned());
            (cells.next().unwrap_or_default(), cells.next().unwrap_or_default())
        })
        .collect()
}

#[test]
fn rows_stand_in_their_order_whatever_the_order_of_the_runs() {
    let scene = scene();
    let ended =
        scene.evaluate(&arguments(&["eval-gro", "eval-reverse", "eval-none", "eval-random"], "report"));
    assert_eq!(ended.code, 0, "{}", ended.err);
    let mut expected = vec![("most popular items".to_owned(), String::new())];
    for defense in ["none", "random", "reverse", "gro"] {
        expected.push(("target BERT4Rec".to_owned(), defense.to_owned()));
        expected.push(("surrogate BERT4Rec".to_owned(), defense.to_owned()));
    }
    assert_eq!(names(&ended.out), expected, "{}", ended.out);
    assert_eq!(scene.evaluate(&arguments(&RUNS, "sorted")).code, 0);
    for file in ["report.md", "report.json", "chart.svg"] {
        let read = |directory: &str| std::fs::read(scene.path(directory).join(file)).unwrap();
        assert_eq!(read("report"), read("sorted"), "{file}");
    }
}

#[test]
fn figures_come_from_the_runs_and_differences_from_the_ranks() {
    let scene = scene();
    let ended = scene.evaluate(&arguments(&RUNS, "report"));
    assert_eq!(ended.code, 0, "{}", ended.err);
    let report = scene.json("report/report.json");
    let row = |model: &str, defense: &str| -> Value {
        let rows = report["rows"].as_array().unwrap();
        rows.iter().find(|row| row["model"] == model && row["defense"] == defense).unwrap().clone()
    };
    assert_eq!(report["rows"][0]["model"], "popular");
    assert_eq!(report["rows"][0]["figures"]["HR@10"]["mean"], 0.05);
    assert_eq!(row("target", "gro")["figures"]["HR@10"]["mean"], 0.29);
    assert_eq!(row("surrogate", "random")["figures"]["Agr@10"]["mean"], 0.1);
    assert!(row("target", "gro")["figures"].get("Agr@10").is_none());
    assert!(row("surrogate", "none").get("difference_to_none").is_none());

    // Surrogate: 10 hits against 50 of 200, all at rank 1, so every figure differs by 40 / 200.
    let lost = row("surrogate", "gro")["difference_to_none"].clone();
    for name in ["HR@10", "HR@20", "NDCG@10", "NDCG@20"] {
        let of = |key: &str| lost[name][key].as_f64().unwrap();
        assert!((of("mean") + 0.2).abs() < 1e-12, "{lost}");
        assert!(of("low") < -0.2 && of("high") > -0.2 && of("high") < 0.0, "{lost}");
        // Paired, the standard error is sqrt(.2 * .8 / 200) = .028, whatever the spread of each model.
        assert!((of("high") - of("low") - 2.0 * 1.96 * 0.0283).abs() < 0.03, "{lost}");
    }
    // A miss counts as no hit: 0 against 60.
    let mean = row("target", "reverse")["difference_to_none"]["HR@20"]["mean"].as_f64().unwrap();
    assert!((mean + 0.3).abs() < 1e-12);

    // The same numbers for a reader.
    assert!(ended.out.contains("0.2900 [0.2800, 0.3000]"), "{}", ended.out);
    assert!(ended.out.contains("**-0.2000 ["), "{}", ended.out);
    assert!(ended.out.contains("200 users"), "{}", ended.out);
    assert!(ended.out.contains("all 1349 items, items of the history kept"), "{}", ended.out);
    let markdown = std::fs::read_to_string(scene.path("report/report.md")).unwrap();
    assert!(markdown.starts_with(ended.out.trim_end()), "stdout shows the report");
    assert!(markdown.contains("](chart.svg)"));
    let chart = std::fs::read_to_string(scene.path("report/chart.svg")).unwrap();
    for label in
        ["HR@10", "NDCG@10", "none", "random", "reverse", "gro", "surrogate BERT4Rec", "most popular"]
    {
        assert!(chart.contains(label), "{label}");
    }
}

#[test]
fn a_second_call_finds_the_report_up_to_date_and_prints_it_again() {
    let scene = scene();
    let first = scene.evaluate(&arguments(&RUNS, "report"));
    let written = std::fs::metadata(scene.path("report/report.md")).unwrap().modified().unwrap();
    let second = scene.evaluate(&arguments(&RUNS, "report"));
    assert_eq!((first.code, second.code), (0, 0), "{}", second.err);
    assert_eq!(first.out, second.out);
    assert_eq!(std::fs::metadata(scene.path("report/report.md")).unwrap().modified().unwrap(), written);
    scene.amend("eval-gro/metrics.json", "/target/HR@10/mean", |mean| *mean = 0.25.into());
    let third = scene.evaluate(&arguments(&RUNS, "report"));
    assert!(third.out.contains("0.2500 ["), "{}{}", third.out, third.err);
}

#[test]
fn two_targets_of_one_defence_are_told_apart_by_their_runs() {
    let scene = scene();
    scene.evaluated("eval-gro-strong", "gro", 0.27, &ranks(50), &ranks(5));
    let ended = scene.evaluate(&arguments(&["eval-none", "eval-gro", "eval-gro-strong"], "report"));
    assert_eq!(ended.code, 0, "{}", ended.err);
    let defenses: Vec<String> = names(&ended.out).into_iter().map(|(_, defense)| defense).collect();
    assert_eq!(
        defenses[3..],
        ["gro (eval-gro)", "gro (eval-gro)", "gro (eval-gro-strong)", "gro (eval-gro-strong)"]
    );
}

#[test]
fn two_surrogates_of_one_target_share_its_row() {
    let scene = scene();
    scene.evaluated("eval-none-narm", "none", 0.30, &ranks(60), &ranks(20));
    scene.amend("eval-none-narm/protocol.json", "/surrogate/architecture", |name| *name = "narm".into());
    scene.amend("eval-none-narm/protocol.json", "/target/checkpoint", |hash| {
        *hash = "target eval-none".into();
    });
    let ended = scene.evaluate(&arguments(&["eval-none", "eval-none-narm"], "report"));
    assert_eq!(ended.code, 0, "{}", ended.err);
    let models: Vec<String> = names(&ended.out).into_iter().map(|(model, _)| model).collect();
    assert_eq!(models[1..], ["target BERT4Rec", "surrogate BERT4Rec", "surrogate NARM"]);
}

#[test]
fn a_target_alone_is_reported_without_a_surrogate() {
    let scene = scene();
    for key in ["surrogate", "fidelity"] {
        scene.amend("eval-none/metrics.json", "", |metrics| {
            drop(metrics.as_object_mut().unwrap().remove(key));
        });
    }
    scene.amend("eval-none/protocol.json", "", |protocol| {
        drop(protocol.as_object_mut().unwrap().remove("surrogate"));
    });
    let ended = scene.evaluate(&arguments(&["eval-none"], "report"));
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert_eq!(names(&ended.out).len(), 2, "{}", ended.out);
}

#[test]
fn what_cannot_be_compared_is_refused() {
    type Spoil = fn(&Scene);
    let cases: [(&str, Spoil, &[&str]); 7] = [
        (
            "another dataset",
            |scene| scene.amend("eval-gro/protocol.json", "/fingerprint", |value| *value = "beef".into()),
            &["eval-gro/protocol.json", "another dataset", "beef"],
        ),
        (
            "another protocol",
            |scene| scene.amend("eval-gro/protocol.json", "/exclude_seen", |value| *value = true.into()),
            &["eval-gro", "exclude_seen true"],
        ),
        (
            "a figure that is not there",
            |scene| {
                scene.amend("eval-gro/metrics.json", "/target", |target| {
                    drop(target.as_object_mut().unwrap().remove("HR@20"));
                });
            },
            &["eval-gro/metrics.json", "HR@20", "evaluate.ks"],
        ),
        (
            "a damaged file",
            |scene| std::fs::write(scene.path("eval-gro/metrics.json"), "{\"users\": 2").unwrap(),
            &["eval-gro/metrics.json"],
        ),
        (
            "other users",
            |scene| {
                scene.evaluated("eval-gro", "gro", 0.29, &ranks(58)[..100], &ranks(10)[..100]);
                scene.amend("eval-gro/protocol.json", "/users", |users| *users = 200.into());
            },
            &["eval-gro/ranks.parquet", "other users"],
        ),
        (
            "a truncated table",
            |scene| std::fs::write(scene.path("eval-gro/ranks.parquet"), "PAR1").unwrap(),
            &["eval-gro/ranks.parquet"],
        ),
        (
            "a missing file",
            |scene| std::fs::remove_file(scene.path("eval-gro/protocol.json")).unwrap(),
            &["eval-gro/protocol.json"],
        ),
    ];
    for (case, spoil, expected) in cases {
        let scene = scene();
        spoil(&scene);
        let ended = scene.evaluate(&arguments(&RUNS, "report"));
        assert_eq!(ended.code, 2, "{case}: {}", ended.err);
        for text in expected {
            assert!(ended.err.contains(text), "{case}: no `{text}` in: {}", ended.err);
        }
        assert_eq!(ended.out, "", "{case}");
        assert!(!scene.path("report").exists(), "{case}: nothing is left behind");
    }
}

#[test]
fn bad_usage_ends_with_two() {
    let scene = scene();
    for arguments in
        [&["report", "--out", "report"][..], &["report", "--runs", "eval-none"], &["compare"], &[]]
    {
        assert_eq!(scene.evaluate(arguments).code, 2, "{arguments:?}");
    }
    let ended = scene.evaluate(&arguments(&["eval-lost"], "report"));
    assert_eq!(ended.code, 2);
    assert!(ended.err.contains("eval-lost/metrics.json"), "{}", ended.err);
}
