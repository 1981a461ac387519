#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use serde_json::Value;

use crate::scene::{Cell, Scene};

const FILES: [&str; 7] =
    ["report.html", "report.md", "report.json", "report.csv", "report.parquet", "chart.svg", "frontier.svg"];

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
    for defence in ["none", "random", "reverse", "gro"] {
        expected.push(("target BERT4Rec".to_owned(), defence.to_owned()));
        expected.push(("surrogate BERT4Rec".to_owned(), defence.to_owned()));
    }
    assert_eq!(names(&ended.out), expected, "{}", ended.out);
    assert_eq!(scene.evaluate(&arguments(&RUNS, "sorted")).code, 0);
    for file in FILES {
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
    let row = |model: &str, defence: &str| -> Value {
        let rows = report["rows"].as_array().unwrap();
        rows.iter().find(|row| row["model"] == model && row["defence"] == defence).unwrap().clone()
    };
    assert_eq!(report["rows"][0]["model"], "popular");
    assert_eq!(report["rows"][0]["figures"]["HR@10"]["mean"], 0.05);
    assert_eq!(row("target", "gro")["figures"]["HR@10"]["mean"], 0.29);
    assert_eq!(row("surrogate", "random")["figures"]["Agr@10"]["mean"], 0.1);
    assert!(row("target", "gro")["figures"].get("Agr@10").is_none());
    assert!(row("surrogate", "none").get("difference_to_none").is_none());

    // Surrogate: 10 hits against 50 of 200, all at rank 1, so every figure differs by 40 / 200.
    let lost = row("surrogate", "gro")["difference_to_none"].clone();
    assert_eq!(row("surrogate", "random")["figures"]["RBO"]["mean"], 0.0125);
    assert_eq!(row("surrogate", "random")["figures"]["KL"]["mean"], 2.9, "from the model's own scores");
    for name in ["HR@10", "HR@20", "NDCG@10", "NDCG@20"] {
        let of = |key: &str| lost[name][key].as_f64().unwrap();
        assert!((of("mean") + 0.2).abs() < 1e-12, "{lost}");
        assert!(of("low") < -0.2 && of("high") > -0.2 && of("high") < 0.0, "{lost}");
        // Paired, the standard error is sqrt(.2 * .8 / 200) = .028, whatever the spread of each model.
        assert!((of("high") - of("low") - 2.0 * 1.96 * 0.0283).abs() < 0.03, "{lost}");
    }
    // Reciprocal ranks: 1 against 1/30 for a fifth of the users.
    let mean = lost["MRR"]["mean"].as_f64().unwrap();
    assert!((mean + 0.2 * (1.0 - 1.0 / 30.0)).abs() < 1e-12, "{mean}");
    // A miss counts as no hit: 0 against 60.
    let mean = row("target", "reverse")["difference_to_none"]["HR@20"]["mean"].as_f64().unwrap();
    assert!((mean + 0.3).abs() < 1e-12);

    // The same numbers for a reader.
    assert!(ended.out.contains("0.2900 [0.2800, 0.3000]"), "{}", ended.out);
    assert!(ended.out.contains("**-0.2000 ["), "{}", ended.out);
    // Under each of the four tables the protocol; the budget once.
    let protocol = "*Protocol: full ranking over 1,349 items, seen items kept, ties against the model, answered lists of \
                    100, 200 users, 500 bootstrap resamples, seed 1.*";
    assert_eq!(ended.out.matches(protocol).count(), 4, "{}", ended.out);
    let budget = "500 sequences x 50 items = 25,000 queries for the top 100 each, autoregressive, none begun with a real \
                  history; price: 500 accounts, 25,000 questions, 2,500,000 items listed, 0 real sequences owned.";
    assert_eq!(ended.out.matches(budget).count(), 1, "{}", ended.out);
    for figure in ["| MRR ", "| RBO ", "| EM@10 ", "| KL "] {
        assert!(ended.out.contains(figure), "{figure}: {}", ended.out);
    }
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
fn a_run_that_is_named_again_counts_once_and_is_told() {
    let scene = scene();
    let once = scene.evaluate(&arguments(&["eval-none", "eval-gro"], "once"));
    let twice = scene.evaluate(&arguments(&["eval-none", "eval-gro", "eval-none/", "eval-none"], "twice"));
    assert_eq!((once.code, twice.code), (0, 0), "{}", twice.err);
    assert_eq!(once.out, twice.out);
    assert!(twice.err.contains("--runs names 2 of its directories again, which count once"), "{}", twice.err);
    assert!(!once.err.contains("again"), "{}", once.err);
}

#[test]
fn a_protocol_of_before_the_key_was_spelt_defence_is_read() {
    let scene = scene();
    assert_eq!(scene.evaluate(&arguments(&RUNS, "report")).code, 0);
    for run in RUNS {
        for model in ["/target", "/surrogate"] {
            scene.amend(&format!("{run}/protocol.json"), model, |subject| {
                let subject = subject.as_object_mut().unwrap();
                let defence = subject.remove("defence").unwrap();
                subject.insert("defense".to_owned(), defence);
            });
        }
    }
    assert_eq!(scene.evaluate(&arguments(&RUNS, "again")).code, 0);
    for file in FILES {
        let read = |directory: &str| std::fs::read(scene.path(directory).join(file)).unwrap();
        assert_eq!(read("report"), read("again"), "{file}");
    }
}

#[test]
fn every_metric_is_reported_with_its_meaning() {
    let scene = scene();
    let ended = scene.evaluate(&arguments(&RUNS, "report"));
    assert_eq!(ended.code, 0, "{}", ended.err);
    let columns: Vec<String> = tables(&ended.out).into_iter().flat_map(|mut table| table.remove(0)).collect();
    for metric in metrics::METRICS.entries {
        let is_column = |cell: &String| cell.split('@').next() == Some(metric.name);
        assert!(columns.iter().any(is_column), "{}: {columns:?}", metric.name);
        assert_eq!(ended.out.matches(metric.meaning).count(), 1, "{}: {}", metric.name, ended.out);
    }
}

#[test]
fn two_targets_of_one_defence_are_told_apart_by_their_runs() {
    let scene = scene();
    scene.evaluated("eval-gro-strong", "gro", 0.27, &ranks(50), &ranks(5));
    let ended = scene.evaluate(&arguments(&["eval-none", "eval-gro", "eval-gro-strong"], "report"));
    assert_eq!(ended.code, 0, "{}", ended.err);
    let defences: Vec<String> = names(&ended.out).into_iter().map(|(_, defence)| defence).collect();
    assert_eq!(
        defences[3..],
        ["gro (eval-gro)", "gro (eval-gro)", "gro (eval-gro-strong)", "gro (eval-gro-strong)"]
    );
}

#[test]
fn two_surrogates_of_one_target_share_its_row() {
    let scene = scene();
    scene.made("eval-none-narm", &cell("bert", "none", "narm", 1), 0.30, &ranks(60), &ranks(20));
    scene.amend("eval-none-narm/protocol.json", "/target/checkpoint", |hash| {
        *hash = "target eval-none".into();
    });
    let ended = scene.evaluate(&arguments(&["eval-none", "eval-none-narm"], "report"));
    assert_eq!(ended.code, 0, "{}", ended.err);
    let table = tables(&ended.out).remove(0);
    assert_eq!(table[0], ["target", "defence", "the target itself", "surrogate BERT4Rec", "surrogate NARM"]);
    assert_eq!(table[2][..2], ["BERT4Rec", "none"]);
    assert!(table[2].iter().skip(2).all(|cell| cell.starts_with("0.")), "{table:?}");
    assert_eq!(table.len(), 3);
}

fn cell<'a>(target: &'a str, defence: &'a str, surrogate: &'a str, seed: u64) -> Cell<'a> {
    Cell { target, surrogate, defence, seed }
}

/// The cells of all tables, heading first.
fn tables(text: &str) -> Vec<Vec<Vec<String>>> {
    let mut tables: Vec<Vec<Vec<String>>> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if !line.starts_with('|') {
            inside = false;
        } else if !inside {
            inside = true;
            tables.push(vec![]);
        }
        if inside && !line.starts_with("|--") {
            let cells: Vec<String> = line.split('|').map(|cell| cell.trim().to_owned()).collect();
            tables.last_mut().unwrap().push(cells[1..cells.len() - 1].to_vec());
        }
    }
    tables
}

/// Runs of one target behind two defences, with three seeds: hits and marks that differ by seed.
fn repeated(scene: &Scene) -> Vec<String> {
    let mut runs = Vec::new();
    for (seed, mark, hits) in [(1, 0.20, 40), (2, 0.26, 60), (3, 0.32, 50)] {
        for (defence, lost) in [("none", 0), ("gro", 10 * seed as usize)] {
            let name = format!("seed-{seed}/eval-{defence}-bert");
            let [target, surrogate] = [ranks(hits), ranks(hits - lost)];
            scene.made(&name, &cell("bert", defence, "bert", seed), mark, &target, &surrogate);
            runs.push(name);
        }
    }
    runs
}

#[test]
fn seeds_become_a_mean_a_deviation_and_one_paired_difference() {
    let scene = Scene::new();
    let runs = repeated(&scene);
    let runs: Vec<&str> = runs.iter().map(String::as_str).collect();
    let ended = scene.evaluate(&arguments(&runs, "report"));
    assert_eq!(ended.code, 0, "{}", ended.err);
    let table = tables(&ended.out).remove(0);
    assert_eq!(table.len(), 1 + 1 + 4, "a row for a model, not for a run: {table:?}");
    // .20, .26 and .32 lie .06 apart, which is their sample standard deviation.
    assert_eq!(table[2][..2], ["target BERT4Rec", "none"]);
    assert!(table[2][2].starts_with("0.2600 ± 0.0600 ["), "with an interval over users and seeds: {table:?}");
    assert_eq!(table[1][2], "0.0500 ± 0.0000", "the same list whatever the seed");
    assert!(ended.out.contains("500 bootstrap resamples, seeds 1, 2, 3.*"), "{}", ended.out);

    let report = scene.json("report/report.json");
    let row = report["rows"].as_array().unwrap().iter().rfind(|row| row["defence"] == "gro").unwrap().clone();
    assert_eq!((&row["model"], &row["seeds"]), (&"surrogate".into(), &serde_json::json!([1, 2, 3])));
    assert_eq!(row["runs"][1], "seed-2/eval-gro-bert");
    assert!((row["figures"]["HR@10"]["deviation"].as_f64().unwrap() - 0.06).abs() < 1e-12);
    // 10, 20 and 30 of 200 users lost: .1 on average, user by user at most 1 and mostly 0.
    let difference = |key: &str| row["difference_to_none"]["HR@10"][key].as_f64().unwrap();
    assert!((difference("mean") + 0.1).abs() < 1e-12, "{row}");
    assert!(difference("low") < -0.1 && difference("high") > -0.1, "{row}");
    // Three seeds that lose 5, 10 and 15 % of the users do not prove it: t = 3.46 with 2 degrees of freedom, p = .074 and more.
    assert!(difference("high") > 0.0 && difference("p") > 0.07 && difference("p") < 0.2, "{row}");

    // A seed less on one side: the row says so, and the pairs are those that both sides have.
    let ended = scene.evaluate(&arguments(&[&runs[..3], &runs[4..]].concat(), "fewer"));
    assert_eq!(ended.code, 0, "{}", ended.err);
    let table = tables(&ended.out).remove(0);
    assert_eq!(table.last().unwrap()[1], "gro (seeds 1, 3)", "{table:?}");
    let report = scene.json("fewer/report.json");
    let row = report["rows"].as_array().unwrap().last().unwrap().clone();
    let mean = row["difference_to_none"]["HR@10"]["mean"].as_f64().unwrap();
    assert!((mean + 0.1).abs() < 1e-12, "10 and 30 of 200: {row}");

    // And where it is the undefended side, what is said of the thief is said to be of fewer seeds than the table's.
    let ended = scene.evaluate(&arguments(&[&runs[..2], &runs[3..]].concat(), "undefended"));
    let said = "(by the 2 seeds that he and the undefended one were measured with)";
    assert!(ended.code == 0 && ended.out.contains(said), "{}{}", ended.out, ended.err);
}

#[test]
fn the_interval_of_a_difference_is_over_users_and_seeds() {
    let scene = Scene::new();
    let runs = repeated(&scene);
    let runs: Vec<&str> = runs.iter().map(String::as_str).collect();
    assert_eq!(scene.evaluate(&arguments(&runs, "report")).code, 0);
    let report = scene.json("report/report.json");
    let found = &report["rows"].as_array().unwrap().last().unwrap()["difference_to_none"]["HR@10"];
    // Spelled out: seed by seed, the surrogate of gro against that of none, user by user.
    let hit = |hits: usize, user: usize| f64::from(u8::from(user < hits));
    let columns: Vec<Vec<f64>> = [(40, 30), (60, 40), (50, 20)]
        .iter()
        .map(|&(none, gro)| (0..200).map(|user| hit(gro, user) - hit(none, user)).collect())
        .collect();
    let sample = metrics::Sample::new(&columns.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
    let expected =
        metrics::Bootstrap { resamples: 500, seed: 1 }.over_seeds(std::slice::from_ref(&sample)).unwrap()[0];
    let test = metrics::Comparison::of(&sample);
    for (key, expected) in [
        ("mean", expected.mean),
        ("low", expected.low),
        ("high", expected.high),
        ("p", test.p),
        ("effect", test.effect),
    ] {
        assert!((found[key].as_f64().unwrap() - expected).abs() < 1e-12, "{key}: {found}, {expected}");
    }
    assert_eq!(found["seeds"], 3);
    assert_eq!(found["seeds_needed"].as_u64(), test.seeds_needed);
}

#[test]
fn chances_are_corrected_for_all_differences_by_a_figure() {
    let scene = scene();
    assert_eq!(scene.evaluate(&arguments(&RUNS, "report")).code, 0);
    let report = scene.json("report/report.json");
    // Three defences: three targets, three copies, and by how much more the strongest thieves lose than users: a defence has one copy, whose difference stands once.
    assert_eq!(report["comparisons"]["HR@10"], 9);
    assert_eq!(report["comparisons"]["MRR"], 6, "the strongest thief is judged by the first figure alone");
    let rows = report["rows"].as_array().unwrap();
    let of = |model: &str, defence: &str| {
        let row = rows.iter().find(|row| row["model"] == model && row["defence"] == defence).unwrap();
        row["difference_to_none"]["HR@10"].clone()
    };
    // 58 hits against 60 of 200, all among the same users: two users differ, t = 1.42, p = .158. It is the highest of the nine.
    let target = of("target", "gro");
    assert!((target["p"].as_f64().unwrap() - 0.158).abs() < 0.002, "{target}");
    assert!(target["p_corrected"].as_f64().unwrap() > target["p"].as_f64().unwrap(), "{target}");
    let (p, corrected) =
        (of("target", "reverse")["p"].as_f64(), of("target", "reverse")["p_corrected"].as_f64());
    let ratio = corrected.unwrap() / p.unwrap();
    assert!((ratio - 9.0).abs() < 1e-6, "the lowest is taken nine times: {ratio}");
    // Where nothing is seen, more users are asked for: the effect is -.0100 / .0997, half of it takes (2.80 / .0502)^2 users.
    let needed = target["users_needed"].as_u64().unwrap();
    assert!((3050..3200).contains(&needed), "{needed}");
    assert!(target["seeds_needed"].is_null(), "one seed says nothing of others");
}

#[test]
fn a_report_says_in_two_sentences_what_came_of_it() {
    let scene = scene();
    let ended = scene.evaluate(&arguments(&["eval-none", "eval-gro"], "report"));
    assert_eq!(ended.code, 0, "{}", ended.err);
    // By the marks: .29 of .30 kept. By the ranks: 10 of 50 hits left to the copy, of which metrics.json says .28.
    let said = "BERT4Rec behind none and gro was copied once each, and judged on 200 users and 1,349 items with one seed. Gro cost users 3.3 % of \
                HR@10 and the strongest thief 80 %: only the latter can be told from chance.";
    assert!(ended.out.contains(said), "{}", ended.out);
    assert!(
        ended.out.contains("One seed: nothing here says how another training run would have come out"),
        "{}",
        ended.out
    );
    let verdict = &scene.json("report/report.json")["verdicts"][1];
    assert_eq!((&verdict["defence"], &verdict["thieves"]), (&"gro".into(), &1.into()));
    assert!((verdict["kept"].as_f64().unwrap() - 0.29 / 0.3).abs() < 1e-12, "{verdict}");
    assert!((verdict["thief"]["share"].as_f64().unwrap() - 0.27 / 0.3).abs() < 1e-12, "{verdict}");
    assert_eq!(verdict["thief"]["price"]["questions"], 25000);
    let html = std::fs::read_to_string(scene.path("report/report.html")).unwrap();
    assert!(html.contains(said), "{html}");

    scene.amend("eval-gro/metrics.json", "/target/HR@10/mean", |mean| *mean = 0.31.into());
    let ended = scene.evaluate(&arguments(&["eval-none", "eval-gro"], "better"));
    assert!(
        ended.out.contains("Gro gave users 3.3 % of HR@10 and cost the strongest thief 80 %"),
        "{}",
        ended.out
    );

    let ended = scene.evaluate(&arguments(&["eval-none"], "alone"));
    let said = "No defence was measured; the strongest thief's copy of BERT4Rec has 93 % of its HR@10";
    assert!(ended.out.contains(said), "{}", ended.out);
}

#[test]
fn the_strongest_thief_is_compared_with_the_strongest() {
    let scene = scene();
    // Against no defence another thief is best; against gro he does worse than the first.
    scene.made("eval-none-2", &cell("bert", "none", "bert", 1), 0.30, &ranks(60), &ranks(56));
    scene.made("eval-gro-2", &cell("bert", "gro", "bert", 1), 0.29, &ranks(58), &ranks(4));
    for (run, of, quality) in [("eval-none-2", "eval-none", 0.29), ("eval-gro-2", "eval-gro", 0.2)] {
        scene.amend(&format!("{run}/protocol.json"), "/target/checkpoint", |hash| {
            *hash = format!("target {of}").into();
        });
        scene.amend(&format!("{run}/protocol.json"), "/surrogate/queries/generation/strategy", |name| {
            *name = "random".into();
        });
        scene.amend(&format!("{run}/metrics.json"), "/surrogate/HR@10/mean", |mean| *mean = quality.into());
    }
    let ended = scene.evaluate(&arguments(&["eval-none", "eval-gro", "eval-none-2", "eval-gro-2"], "report"));
    assert_eq!(ended.code, 0, "{}", ended.err);
    let report = scene.json("report/report.json");
    let thief = &report["verdicts"][1]["thief"];
    assert!(thief["way"].as_str().unwrap().starts_with("autoregressive"), "{thief}");
    // 10 hits of his, against 56 of the other.
    assert!((thief["change"].as_f64().unwrap() + 46.0 / 56.0).abs() < 1e-12, "{thief}");
    // Users have 58 hits of 60.
    let lead = &thief["lead"];
    assert!((lead["mean"].as_f64().unwrap() - (46.0 / 56.0 - 2.0 / 60.0)).abs() < 1e-12, "{lead}");
    assert!(lead["p_corrected"].as_f64().unwrap() < 0.05, "{lead}");
    // Row by row, each is compared with himself: 4 hits against 56, and 10 against 50.
    let rows = report["rows"].as_array().unwrap();
    let means: Vec<f64> = rows
        .iter()
        .filter(|row| row["model"] == "surrogate" && row["defence"] == "gro")
        .map(|row| row["difference_to_none"]["HR@10"]["mean"].as_f64().unwrap())
        .collect();
    assert!((means[0] + 0.2).abs() < 1e-12 && (means[1] + 0.26).abs() < 1e-12, "{means:?}");
}

#[test]
fn the_copy_most_alike_is_judged_by_the_models_own_lists() {
    let scene = scene();
    // A better copy of the open target, by another thief, that is less alike.
    scene.made("eval-none-2", &cell("bert", "none", "bert", 1), 0.30, &ranks(60), &ranks(56));
    for (pointer, value) in [("/target/checkpoint", "target eval-none"), ("/surrogate/checkpoint", "other")] {
        scene.amend("eval-none-2/protocol.json", pointer, |found| *found = value.into());
    }
    // Users' own agreement: .8 and .4 by turns of the open target's, .3 less behind gro, and behind reverse .02 less of every fourth. What reverse
    // answers agrees with nothing, which hides nothing from who turns it round.
    let open = |user: usize| if user.is_multiple_of(2) { 0.8 } else { 0.4 };
    let turned = |user: usize| open(user) - if user.is_multiple_of(4) { 0.02 } else { 0.0 };
    for (run, column, likeness, of) in [
        ("eval-none", "Agr@10", 0.6, &open as &dyn Fn(usize) -> f64),
        ("eval-none-2", "Agr@10", 0.2, &|_| 0.2),
        ("eval-gro", "Agr@10", 0.3, &|user| open(user) - if user % 3 == 0 { 0.2 } else { 0.35 }),
        ("eval-reverse", "own_Agr@10", 0.595, &turned),
    ] {
        scene.keep(run, column, (0..200).map(of));
        let whose = if column.starts_with("own") { "own" } else { "answered" };
        let mean = format!("/fidelity/{whose}/Agr@10/mean");
        scene.amend(&format!("{run}/metrics.json"), &mean, |mean| *mean = likeness.into());
    }
    let runs = ["eval-none", "eval-none-2", "eval-reverse", "eval-gro"];
    let ended = scene.evaluate(&arguments(&runs, "report"));
    assert_eq!(ended.code, 0, "{}", ended.err);
    let report = scene.json("report/report.json");
    let of = |defence: &str| {
        let verdicts = report["verdicts"].as_array().unwrap();
        verdicts.iter().find(|verdict| verdict["defence"] == defence).unwrap()["most_alike"].clone()
    };
    assert_eq!(of("none")["likeness"], 0.6, "not that of the strongest thief: {report}");
    assert!(of("none").get("difference").is_none() && of("none").get("change").is_none(), "{report}");
    let (gro, reverse) = (of("gro"), of("reverse"));
    let value = |found: &Value, pointer: &str| found.pointer(pointer).unwrap().as_f64().unwrap();
    assert!((value(&gro, "/change") + 0.5).abs() < 1e-12, "{gro}");
    let lost = (0..200).map(|user| if user % 3 == 0 { 0.2 } else { 0.35 }).sum::<f64>() / 200.0;
    assert!((value(&gro, "/difference/mean") + lost).abs() < 1e-12, "{gro}");
    assert!((value(&reverse, "/difference/mean") + 0.005).abs() < 1e-12, "{reverse}");
    // Two defences, and so two differences, are one family.
    assert_eq!(report["comparisons"]["Agr@10"], 2);
    let ratio = value(&gro, "/difference/p_corrected") / value(&gro, "/difference/p");
    assert!((ratio - 2.0).abs() < 1e-9, "{gro}");
    let said = "The copy most alike has Agr@10 0.60 undefended, 0.30 behind gro (p < 0.0001) and 0.59 behind reverse (p < 0.0001).";
    assert!(ended.out.contains(said), "{}", ended.out);
    let html = std::fs::read_to_string(scene.path("report/report.html")).unwrap();
    assert!(html.contains("and 0.59 behind reverse (p &lt; 0.0001)."), "{html}");
    // Runs of before kept no figures of users that differ from what was answered: what is known is said, and not tested.
    let ranks_alone = ranks(30);
    scene.evaluated("eval-reverse", "reverse", 0.10, &vec![None; 200], &ranks_alone);
    let ended = scene.evaluate(&arguments(&runs, "older"));
    assert!(ended.out.contains("and 0.90 behind reverse."), "{}", ended.out);
    assert_eq!(scene.json("older/report.json")["comparisons"]["Agr@10"], 1);
}

#[test]
fn what_users_keep_is_told_from_the_seeds_that_both_have() {
    let scene = scene();
    // With the second seed the undefended target has 40 hits, not 60, and gro's as many.
    for (run, defence) in [("none-2", "none"), ("gro-2", "gro")] {
        scene.made(run, &cell("bert", defence, "bert", 2), 0.20, &ranks(40), &ranks(30));
        scene.amend(&format!("{run}/protocol.json"), "/target/checkpoint", |hash| {
            *hash = format!("target {run}").into();
        });
    }
    let ended = scene.evaluate(&arguments(&["eval-none", "none-2", "gro-2"], "report"));
    assert_eq!(ended.code, 0, "{}", ended.err);
    let verdict = &scene.json("report/report.json")["verdicts"][1];
    assert_eq!(verdict["defence"], "gro");
    assert!((verdict["kept"].as_f64().unwrap() - 1.0).abs() < 1e-12, "{verdict}");
    assert!((verdict["thief"]["share"].as_f64().unwrap() - 0.9).abs() < 1e-12, "its mark is .18: {verdict}");
}

const ARCHITECTURES: [&str; 3] = ["bert", "sas", "narm"];
const DEFENCES: [&str; 4] = ["none", "random", "reverse", "gro"];

/// Every target, defence and surrogate, each with a mark of its own.
fn full_grid(scene: &Scene) -> Vec<String> {
    let mut runs = Vec::new();
    for (t, target) in ARCHITECTURES.into_iter().enumerate() {
        for (d, defence) in DEFENCES.into_iter().enumerate() {
            for (s, surrogate) in ARCHITECTURES.into_iter().enumerate() {
                let name = format!("ml-{target}/eval-{defence}-{surrogate}");
                let mark = 0.1 * (t + 1) as f64 + 0.02 * d as f64;
                let hits = 60 - 10 * d + s;
                let of = cell(target, defence, surrogate, 1);
                scene.made(&name, &of, mark, &ranks(60), &ranks(hits));
                // Tells the surrogates apart, as the mark tells the targets.
                let hit_rate = mark - 0.001 * (s + 1) as f64;
                let metrics = format!("{name}/metrics.json");
                scene.amend(&metrics, "/surrogate/HR@10/mean", |mean| *mean = hit_rate.into());
                runs.push(name);
            }
        }
    }
    runs
}

#[test]
fn a_full_grid_fills_every_cell_of_one_table() {
    let scene = Scene::new();
    let mut runs = full_grid(&scene);
    runs.reverse();
    let runs: Vec<&str> = runs.iter().map(String::as_str).collect();
    let ended = scene.evaluate(&arguments(&runs, "report"));
    assert_eq!(ended.code, 0, "{}", ended.err);
    let table = tables(&ended.out).remove(0);
    assert_eq!(
        table[0],
        [
            "target",
            "defence",
            "the target itself",
            "surrogate BERT4Rec",
            "surrogate SASRec",
            "surrogate NARM"
        ]
    );
    assert_eq!(table[1][..3], ["most popular items", "", "0.0500 [0.0400, 0.0600]"]);
    assert_eq!(table.len(), 2 + 12);
    for (place, row) in table[2..].iter().enumerate() {
        let (t, d) = (place / 4, place % 4);
        assert_eq!(row[..2], [["BERT4Rec", "SASRec", "NARM"][t], DEFENCES[d]]);
        let mark = 0.1 * (t + 1) as f64 + 0.02 * d as f64;
        assert!(row[2].starts_with(&format!("{mark:.4} [")), "{row:?}");
        for s in 0..3 {
            let expected = format!("{:.4} [", mark - 0.001 * (s + 1) as f64);
            assert!(row[3 + s].starts_with(&expected), "{row:?}, expected {expected}");
        }
    }
    // The differences: nothing for the undefended, 10 hits of 200 less for each further defence, for every surrogate.
    let differences = tables(&ended.out).into_iter().nth(7).unwrap();
    assert_eq!(differences.len(), 1 + 9, "{differences:?}");
    assert_eq!(differences[3][..2], ["BERT4Rec", "gro"]);
    assert!(differences[3][2].starts_with("+0.0000"), "{differences:?}");
    assert!(differences[3][3..].iter().all(|cell| cell.starts_with("**-0.1500 [")), "{differences:?}");

    // In long form: 1 baseline and 12 targets with 5 figures, 36 surrogates with 9.
    let csv = std::fs::read_to_string(scene.path("report/report.csv")).unwrap();
    assert_eq!(csv.lines().count(), 1 + 13 * 5 + 36 * 9);
    let line =
        csv.lines().find(|line| line.starts_with("surrogate,sas,gro,narm,") && line.contains(",HR@10,"));
    let line: Vec<&str> = line.unwrap().split(',').collect();
    assert_eq!(line[5..8], ["1", "25000", "HR@10"]);
    assert!((line[8].parse::<f64>().unwrap() - 0.257).abs() < 1e-9, "{line:?}");
    assert!((line[12].parse::<f64>().unwrap() + 0.15).abs() < 1e-9, "{line:?}");

    // The chart: a panel for each target and figure, 16 bars in each, the legend and the background.
    let chart = std::fs::read_to_string(scene.path("report/chart.svg")).unwrap();
    assert_eq!(chart.matches("<rect").count(), 1 + 4 + 6 * 16);
    for label in ["BERT4Rec target: HR@10", "NARM target: NDCG@10", "surrogate SASRec"] {
        assert!(chart.contains(label), "{label}");
    }
}

#[test]
fn two_runs_that_nothing_tells_apart_are_refused_by_name() {
    let scene = scene();
    scene.evaluated("seed-1/eval-gro", "gro", 0.29, &ranks(58), &ranks(10));
    let ended = scene.evaluate(&arguments(&["eval-none", "eval-gro", "seed-1/eval-gro"], "report"));
    assert_eq!(ended.code, 2, "{}", ended.out);
    for text in ["seed-1/eval-gro/protocol.json", "of eval-gro,", "leave one out"] {
        assert!(ended.err.contains(text), "no `{text}` in {}", ended.err);
    }
}

#[test]
fn budgets_that_differ_are_told_apart() {
    let scene = scene();
    scene.amend("eval-gro/protocol.json", "/surrogate/queries/queries", |queries| *queries = 5000.into());
    scene.amend("eval-gro/protocol.json", "/surrogate/queries/generation/strategy", |name| {
        *name = "random".into();
    });
    scene
        .amend("eval-gro/protocol.json", "/surrogate/queries/generation/seeded", |count| *count = 100.into());
    scene.amend("eval-gro/protocol.json", "/surrogate/queries/generation/seed_length", |most| {
        *most = 7.into();
    });
    scene.amend("eval-reverse/protocol.json", "/surrogate", |surrogate| {
        drop(surrogate.as_object_mut().unwrap().remove("queries"));
    });
    let ended = scene.evaluate(&arguments(&RUNS, "report"));
    assert_eq!(ended.code, 0, "{}", ended.err);
    for line in [
        "500 sequences x 50 items = 25,000 queries for the top 100 each, autoregressive, none begun with a real history; price: 500 accounts, \
         25,000 questions, 2,500,000 items listed, 0 real sequences owned: surrogate BERT4Rec of BERT4Rec \
         under none; surrogate BERT4Rec of BERT4Rec under random",
        "500 sequences x 10 items = 5,000 queries for the top 100 each, random, 20.0 % begun with up to 7 items of a real history; price: 500 \
         accounts, 5,000 questions, 500,000 items listed, 100 real sequences owned: surrogate \
         BERT4Rec of BERT4Rec under gro",
        "not recorded: surrogate BERT4Rec of BERT4Rec under reverse",
    ] {
        assert!(ended.out.contains(&format!("- {line}\n")), "no `{line}` in {}", ended.out);
    }
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
    let cases: [(&str, Spoil, &[&str]); 10] = [
        (
            "another dataset",
            |scene| scene.amend("eval-gro/protocol.json", "/fingerprint", |value| *value = "beef".into()),
            &["eval-gro/protocol.json", "another dataset", "beef"],
        ),
        (
            "another protocol",
            |scene| scene.amend("eval-gro/protocol.json", "/exclude_seen", |value| *value = true.into()),
            &[
                "eval-gro",
                "than eval-",
                "seen items left out",
                "against full ranking over 1,349 items, seen items kept",
            ],
        ),
        (
            "sampled against full",
            |scene| {
                scene.amend("eval-gro/protocol.json", "", |protocol| {
                    protocol["ranking"] = "popularity".into();
                    protocol["negatives"] = 50.into();
                });
            },
            &["eval-gro/protocol.json", "among 50 popularity-weighted negatives", "against full ranking"],
        ),
        (
            "other test items of the same catalogue",
            |scene| scene.amend("eval-gro/protocol.json", "/sequences", |value| *value = "beef".into()),
            &["eval-gro/protocol.json", "another dataset than eval-", "beef"],
        ),
        (
            "a ranking nobody knows",
            |scene| scene.amend("eval-gro/protocol.json", "/ranking", |value| *value = "half".into()),
            &["eval-gro/protocol.json", "half", "uniform"],
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

/// A target behind a defence of a strength, attacked once.
fn strength(
    scene: &Scene,
    name: &str,
    defence: &str,
    settings: &serde_json::Value,
    (kept, stolen): (usize, usize),
) {
    let hits =
        |count: usize| (0..200).map(|user| Some(if user < count { 1 } else { 30 })).collect::<Vec<_>>();
    scene.evaluated(name, defence, 0.02 + stolen as f64 / 200.0, &hits(kept), &hits(stolen));
    scene.amend(&format!("{name}/metrics.json"), "/target/HR@10/mean", |mean| {
        *mean = (kept as f64 / 200.0).into();
    });
    scene.amend(&format!("{name}/protocol.json"), "/target", |target| target["settings"] = settings.clone());
}

#[test]
fn a_defence_of_several_strengths_is_a_curve_for_each_setting() {
    let scene = Scene::new();
    strength(&scene, "eval-none", "none", &serde_json::json!({}), (100, 90));
    // A star: canaries at .05 false alarms, and false alarms at .5 canaries; weaker ones cost less, but for noise.
    let runs = [
        ("eval-guard-a", 0.1, 0.05, (99, 80)),
        ("eval-guard-b", 0.3, 0.05, (97, 60)),
        ("eval-guard-c", 0.5, 0.05, (98, 40)),
        ("eval-guard-d", 0.5, 0.10, (90, 20)),
    ];
    for (name, canaries, alarms, figures) in runs {
        let settings = serde_json::json!({ "canaries": canaries, "false_alarms": alarms, "trust": 4.0 });
        strength(&scene, name, "guard", &settings, figures);
    }
    let names = ["eval-none", "eval-guard-a", "eval-guard-b", "eval-guard-c", "eval-guard-d"];
    let ended = scene.evaluate(&[&["report", "--quiet", "--out", "report", "--runs"][..], &names].concat());
    assert_eq!(ended.code, 0, "{}", ended.err);
    let report = scene.json("report/report.json");
    let variants: Vec<&str> = report["verdicts"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|verdict| verdict["variant"].as_str())
        .collect();
    assert_eq!(
        variants,
        [
            "canaries 0.1, false alarms 0.05",
            "canaries 0.3, false alarms 0.05",
            "canaries 0.5, false alarms 0.05",
            "canaries 0.5, false alarms 0.1"
        ],
        "by what differs, and by nothing else"
    );
    let svg = std::fs::read_to_string(scene.path("report/frontier.svg")).unwrap();
    let curves: Vec<usize> = svg
        .split("<polyline class=\"curve")
        .skip(1)
        .map(|rest| rest.split("points=\"").nth(1).unwrap().split('"').next().unwrap().split(' ').count())
        .collect();
    assert_eq!(
        curves,
        [3, 2, 3, 2],
        "three points over canaries, two over false alarms, of shares and of likeness: {svg}"
    );
    // In the order of the setting, not of what users lose, which would have the second and third the other way round.
    let first = svg.split("points=\"").nth(1).unwrap().split('"').next().unwrap();
    let x: Vec<f64> =
        first.split(' ').map(|point| point.split(',').next().unwrap().parse().unwrap()).collect();
    assert!(x[0] < x[2] && x[2] < x[1], "{x:?}");
    assert!(
        svg.contains(">canaries 0.3<") && svg.contains(">false alarms 0.1<"),
        "the strength stands beside the point"
    );
    let page = std::fs::read_to_string(scene.path("report/report.html")).unwrap();
    assert!(page.contains("joined in the order of that setting"), "{page}");
}

#[test]
fn published_figures_stand_beside_ours_and_a_weak_target_is_named() {
    let scene = Scene::new();
    let everybody =
        |count: usize| (0..200).map(|user| Some(if user < count { 1 } else { 30 })).collect::<Vec<_>>();
    scene.evaluated("eval-none", "none", 0.24, &everybody(48), &everybody(40));
    let arguments = ["report", "--out", "report", "--runs", "eval-none"];
    let ended = scene.evaluate(&arguments);
    assert!(!ended.out.contains("Beside published figures"), "nobody knows this data set: {}", ended.out);
    // MovieLens-1M is known by its users and items.
    for (key, value) in [("/users", 6040), ("/items", 3416)] {
        scene.amend("eval-none/protocol.json", key, |found| *found = value.into());
    }
    let ended = scene.evaluate(&arguments);
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert!(ended.out.contains("## Beside published figures: MovieLens-1M"), "{}", ended.out);
    let row = ended.out.lines().find(|line| line.contains("Petrov and Macdonald, RecSys 2022")).unwrap();
    for cell in ["| BERT4Rec |", "0.2400", "0.2821", "0.1516", "seen items kept here, left out there"] {
        assert!(row.contains(cell), "{cell}: {row}");
    }
    assert!(!ended.out.contains("gSASRec"), "of another architecture: {}", ended.out);
    // .24 is 16 % below .2843.
    assert!(ended.err.contains("0.2400 HR@10, 16 % less than BERT4Rec (Klenitskiy"), "{}", ended.err);
    let page = std::fs::read_to_string(scene.path("report/report.html")).unwrap();
    assert!(page.contains("Beside published figures") && page.contains("Weak target"), "{page}");
    scene.amend("eval-none/metrics.json", "/target/HR@10/mean", |mean| *mean = 0.26.into());
    let ended = scene.evaluate(&arguments);
    assert!(!ended.err.contains("less than"), "a tenth is no difference: {}", ended.err);
}

#[test]
fn mlflow_finds_runs_params_metrics_with_steps_and_artifacts() {
    let scene = Scene::new();
    let everybody =
        |count: usize| (0..200).map(|user| Some(if user < count { 1 } else { 30 })).collect::<Vec<_>>();
    scene.evaluated("eval-none", "none", 0.24, &everybody(48), &everybody(40));
    scene.evaluated("eval-gro", "gro", 0.22, &everybody(44), &everybody(20));
    scene.amend("eval-gro/protocol.json", "/target", |target| {
        target["settings"] = serde_json::json!({ "lambda": 0.5 });
    });
    std::fs::create_dir(scene.path("target")).unwrap();
    std::fs::write(
        scene.path("target/history.csv"),
        "epoch,loss,ndcg@10\n0,,0.01\n1,2.5,0.11\n2,2.25,0.12\n",
    )
    .unwrap();
    std::fs::write(
        scene.path("target/settings.yaml"),
        "seed: 1\ntrain:\n  epochs: 2\n  loss: cross_entropy\n",
    )
    .unwrap();
    let run = |more: &[&str]| {
        let all = [
            "report",
            "--quiet",
            "--mlflow",
            "mlruns",
            "--histories",
            "target",
            "--out",
            "x/report",
            "--runs",
        ];
        scene.evaluate(&[&all[..], &["eval-none", "eval-gro"], more].concat())
    };
    let ended = run(&[]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    let read = |path: &std::path::Path| std::fs::read_to_string(path).unwrap();
    let inside = |path: &std::path::Path| {
        let mut found: Vec<_> = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
        found.retain(|path| path.is_dir());
        found.sort();
        found
    };
    let experiments = inside(&scene.path("mlruns"));
    assert_eq!(experiments.len(), 1);
    assert!(read(&experiments[0].join("meta.yaml")).contains("name: x/report"));
    let runs = inside(&experiments[0]);
    let named = |name: &str| runs.iter().find(|run| read(&run.join("tags/mlflow.runName")) == name).unwrap();
    assert_eq!(runs.len(), 4, "two evaluations, a training, the report");
    let gro = named("eval-gro");
    assert_eq!(read(&gro.join("params/defence")), "gro");
    assert_eq!(read(&gro.join("params/defence.lambda")), "0.5");
    assert_eq!(read(&gro.join("params/questions")), "25000");
    assert_eq!(read(&gro.join("metrics/target/HR_at_10")), "0 0.22 0\n");
    assert_eq!(read(&gro.join("artifacts/protocol.json")), read(&scene.path("eval-gro/protocol.json")));
    let target = named("target");
    assert_eq!(read(&target.join("metrics/ndcg_at_10")), "0 0.01 0\n0 0.11 1\n0 0.12 2\n");
    assert_eq!(
        read(&target.join("metrics/loss")),
        "0 2.5 1\n0 2.25 2\n",
        "an epoch that measured none has none"
    );
    assert_eq!(read(&target.join("params/train.loss")), "cross_entropy");
    assert!(named("report").join("artifacts/report.html").is_file());
    let id = gro.file_name().unwrap().to_str().unwrap();
    assert!(id.len() == 32 && read(&gro.join("meta.yaml")).contains(&format!("run_id: {id}")));

    // Written again, it replaces its own runs, and leaves those of others alone.
    std::fs::create_dir_all(scene.path("mlruns/7/abc")).unwrap();
    std::fs::write(scene.path("mlruns/7/meta.yaml"), "name: someone else's\n").unwrap();
    assert_eq!(run(&[]).code, 0);
    assert_eq!(inside(&scene.path("mlruns")).len(), 2);
    assert!(scene.path("mlruns/7/abc").is_dir());
    std::fs::write(scene.path("mlruns/7/meta.yaml"), "name: x/report\n").unwrap();
    let ended = run(&[]);
    assert_eq!(ended.code, 2, "{}", ended.err);
    assert!(ended.err.contains("holds an experiment x/report that no report wrote"), "{}", ended.err);
}

#[test]
fn where_mlflow_cannot_find_its_runs_is_said_before_the_report() {
    let scene = Scene::new();
    let everybody = vec![Some(1); 200];
    scene.evaluated("eval-none", "none", 0.24, &everybody, &everybody);
    let report = |out: &str, mlflow: &str| {
        scene.evaluate(&["report", "--quiet", "--runs", "eval-none", "--out", out, "--mlflow", mlflow])
    };
    std::fs::write(scene.path("file"), "mine").unwrap();
    for (mlflow, expected) in [
        ("file", "is a file, expected a directory"),
        ("file/runs", "is a file, expected a directory"),
        ("report", "--mlflow report lies in the output report"),
        ("report/runs", "--mlflow report/runs lies in the output report"),
    ] {
        let ended = report("report", mlflow);
        assert_eq!(ended.code, 2, "{}", ended.err);
        assert!(ended.err.contains(expected), "{mlflow}: {}", ended.err);
        assert!(!scene.path("report").exists(), "{mlflow}");
    }
    assert_eq!(report("first", "mlruns").code, 0);
    for mlflow in ["first", "first/runs"] {
        let ended = report("second", mlflow);
        assert_eq!(ended.code, 2, "{}", ended.err);
        assert!(ended.err.contains("which a stage wrote and may replace"), "{mlflow}: {}", ended.err);
        assert!(!scene.path("second").exists() && !scene.path("first/runs").exists(), "{mlflow}");
    }
}
