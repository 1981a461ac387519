#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs;

use serde_json::json;

use crate::scene::{Cell, Scene};

fn ranks(hits: usize) -> Vec<Option<u32>> {
    (0..400).map(|user| Some(if user < hits { 1 } else { 30 })).collect()
}

/// A finished experiment, as make leaves it: three seeds, the undefended target and two defences, two thieves. Behind gro the second
/// thief loses half and users a little; behind `guard` he loses nothing, though the first loses almost all. The marks of a run
/// go one by one with its place, so that none is the best by chance.
fn experiment(scene: &Scene, name: &str) {
    for seed in [1, 2, 3] {
        for (defence, kept, thieves) in
            [("none", 120, [90, 100]), ("gro", 118, [60, 50]), ("guard", 119, [8, 101])]
        {
            for (thief, (strategy, hits)) in ["autoregressive", "random"].into_iter().zip(thieves).enumerate()
            {
                let run = format!("{name}/seed-{seed}/eval-{defence}-{strategy}-hinge-sas");
                let cell = Cell { target: "sas", surrogate: "sas", defence, seed };
                // The quality of copies is taken from metrics.json: a mark less .02.
                scene.made(&run, &cell, 0.02 + hits as f64 / 400.0, &ranks(kept), &ranks(hits));
                let of = |file: &str| format!("{run}/{file}");
                // Behind the guard copies are as good and less alike.
                let alike = if defence == "guard" { 0.3 } else { 0.6 };
                let of_users = (0..400).map(|user| alike + 0.01 * f64::from((user + 7 * seed as u32) % 5));
                scene.keep(&run, "Agr@10", of_users);
                scene.amend(&of("metrics.json"), "/fidelity/answered/Agr@10/mean", |mean| {
                    *mean = json!(alike + 0.02);
                });
                scene.amend(&of("metrics.json"), "/target/HR@10/mean", |mean| {
                    *mean = json!(kept as f64 / 400.0);
                });
                scene.amend(&of("protocol.json"), "/surrogate/queries/generation/strategy", |name| {
                    *name = strategy.into();
                });
                let checkpoint = format!("target {defence} {seed}");
                scene.amend(&of("protocol.json"), "/target/checkpoint", |found| *found = checkpoint.into());
                let copy = format!("copy {defence} {seed} {thief}");
                scene.amend(&of("protocol.json"), "/surrogate/checkpoint", |found| *found = copy.into());
            }
        }
        for (copied, p, agreement) in [("none", 0.41, 0.01), ("guard", 0.0001, 0.5)] {
            let proof = scene.path(&format!("{name}/seed-{seed}/proof-{copied}-random-hinge-sas"));
            fs::create_dir_all(&proof).unwrap();
            let proof_json = json!({
                "suspect": format!("copy {copied} {seed} 1"), "protected": format!("target guard {seed}"),
                "keys": 9999, "agreement": agreement, "others": { "mean": 0.001, "deviation": 0.001, "highest": 0.018 }, "p": p,
            });
            fs::write(proof.join("proof.json"), proof_json.to_string()).unwrap();
        }
        let trained = scene.path(&format!("{name}/seed-{seed}/target"));
        fs::create_dir_all(&trained).unwrap();
        fs::write(
            trained.join("run.log"),
            "wall_seconds: 1800.0\ncpu_seconds: 3240.0\nthreads: 2\nhost: nobody's business\n",
        )
        .unwrap();
    }
    // A thief and a seed that the report does not speak of.
    for other in ["seed-1/surrogate-gro-short-hinge-sas", "seed-1/queries-gro-short", "seed-4/target"] {
        let other = scene.path(&format!("{name}/{other}"));
        fs::create_dir_all(&other).unwrap();
        fs::write(other.join("run.log"), "wall_seconds: 99999.0\nthreads: 64\n").unwrap();
    }
    let asked = scene.path(&format!("{name}/seed-1/queries-gro-random"));
    fs::create_dir_all(&asked).unwrap();
    fs::write(asked.join("run.log"), "wall_seconds: 3600.0\nthreads: 2\n").unwrap();
    let runs = scene.path(name);
    let mut runs: Vec<String> = (1..=3)
        .flat_map(|seed| fs::read_dir(runs.join(format!("seed-{seed}"))).unwrap())
        .map(|entry| entry.unwrap().path().display().to_string())
        .filter(|path| path.contains("eval-"))
        .collect();
    runs.sort();
    let out = format!("{name}/report");
    let runs: Vec<&str> = runs.iter().map(String::as_str).collect();
    let ended = scene.evaluate(&[&["report", "--quiet", "--out", &out, "--runs"][..], &runs].concat());
    assert_eq!(ended.code, 0, "{}", ended.err);
}

const COLLECT: [&str; 7] =
    ["results", "--collect", "results-toy", "--kept", "docs/results", "--page", "docs/results.md"];

/// The cells of the row of a defence in the table of an experiment.
fn row(page: &str, defence: &str) -> Vec<String> {
    let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    page.lines().map(cells).find(|cells| cells.get(1).is_some_and(|cell| cell == defence)).unwrap()
}

#[test]
fn a_defence_wins_only_against_the_strongest_thief() {
    let scene = Scene::new();
    experiment(&scene, "results-toy");
    let ended = scene.evaluate(&[&COLLECT[..], &["--machine", "an abacus"]].concat());
    assert_eq!(ended.code, 0, "{}", ended.err);
    let page = fs::read_to_string(scene.path("docs/results.md")).unwrap();
    let (gro, guard) = (row(&page, "gro"), row(&page, "guard"));
    // Users had 120 of 400; the strongest thief had 100, and has 60 behind gro (another thief), 101 behind the guard.
    assert!(gro.contains(&"**yes**".to_owned()), "{gro:?}");
    assert!(gro.iter().any(|cell| cell.starts_with("40 % (p ")), "he loses 40 of 100: {gro:?}");
    assert!(gro.contains(&"autoregressive, hinge: 50 %".to_owned()), "60 of 120: {gro:?}");
    let why = "no: he loses nothing that can be told from chance";
    assert!(guard.contains(&why.to_owned()), "one thief of two is not enough: {guard:?}");
    assert!(
        guard.contains(&"1 of 1 copies found, p at most 1.0e-4".to_owned())
            || guard.contains(&"3 of 3 copies found, p at most 1.0e-4".to_owned()),
        "{guard:?}"
    );
    assert!(page.contains("`gro` (users lose 1.7 %, he loses 40 %)"), "the summary: {page}");
    // What it takes all the same is likeness, and gro does not.
    assert!(guard.contains(&"autoregressive, hinge: 0.32, 48 % less (p < 0.0001)".to_owned()), "{guard:?}");
    assert!(gro.contains(&"autoregressive, hinge: 0.62, as alike (p 1.000)".to_owned()), "{gro:?}");
    let takes = |name: &str| format!("`{name}` takes likeness from the copy most alike: ");
    assert!(page.contains(&format!("- {}-0.30 [", takes("guard"))), "{page}");
    assert!(page.contains(&format!("- That {}+0.00 [", takes("gro"))), "{page}");
    assert!(page.contains("on an abacus (2 threads)"), "{page}");
    // Three trainings of half an hour, nine tenths of it on both threads.
    assert!(page.contains("targets 1.5 h (2.7 h of a core) in 3 runs"), "{page}");
    assert!(
        page.contains("questions 1.0 h in 1 runs") && !page.contains("; copies "),
        "of the report's thieves alone: {page}"
    );
    assert!(page.contains("none (innocent)") && page.contains("guard (guilty)"), "{page}");
    assert!(page.contains("(results/toy/report.json)"), "{page}");
    assert!(page.contains("](results/toy/frontier.svg)"), "{page}");
}

#[test]
fn a_watermark_convicts_where_decoys_do_not() {
    let scene = Scene::new();
    experiment(&scene, "results-toy");
    for seed in [1, 2, 3] {
        let proof = format!("results-toy/seed-{seed}/proof-guard-random-hinge-sas/proof.json");
        scene.amend(&proof, "/p", |p| *p = json!(0.25));
        scene.amend(&proof, "", |proof| proof["corrected"] = json!({ "decoys": 0.25, "watermark": 0.0002 }));
    }
    assert_eq!(scene.evaluate(&COLLECT).code, 0);
    let page = fs::read_to_string(scene.path("docs/results.md")).unwrap();
    assert!(row(&page, "guard").contains(&"3 of 3 copies found, p at most 2.0e-4".to_owned()), "{page}");
    assert!(page.contains("| p of the watermark |"), "{page}");
    let guilty = page.lines().find(|line| line.contains("guard (guilty)")).unwrap();
    assert!(guilty.contains("| 0.250 ") && guilty.contains("| 2.0e-4 "), "{guilty}");
    let innocent = page.lines().find(|line| line.contains("none (innocent)")).unwrap();
    assert!(
        innocent.contains("| 0.410 ") && innocent.trim_end().ends_with("|                    |"),
        "{innocent}"
    );
}

#[test]
fn what_is_kept_is_small_exact_and_read_by_the_board() {
    let scene = Scene::new();
    experiment(&scene, "results-toy");
    assert_eq!(scene.evaluate(&COLLECT).code, 0);
    let (whole, kept) =
        (scene.json("results-toy/report/report.json"), scene.json("docs/results/toy/report.json"));
    assert!(kept["rows"][1]["figures"].get("HR@20").is_none(), "not on the page");
    for (place, row) in whole["rows"].as_array().unwrap().iter().enumerate() {
        for figure in ["HR@10", "NDCG@10"] {
            let value = |row: &serde_json::Value| row["figures"][figure]["mean"].as_f64().unwrap();
            assert!((value(row) - value(&kept["rows"][place])).abs() < 1e-6 * value(row).max(1.0));
        }
    }
    let text = fs::read_to_string(scene.path("docs/results/toy/report.json")).unwrap();
    assert!(!text.contains("nobody"), "a host is nobody's business");
    assert!(text.len() < 40_000, "{} bytes", text.len());
    assert!(scene.path("docs/results/toy/report.html").exists());
    assert!(scene.path("docs/results/toy/frontier.svg").exists());
    let ended = scene.evaluate(&["board", "--reports", "docs/results/toy", "--out", "board"]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    let standing = |defence: &str| row(&ended.out, defence);
    assert!(standing("gro").iter().all(|cell| !cell.starts_with("p ")), "{}", ended.out);
    let guilty = "p 0.0001, of 3 suspects".to_owned();
    assert!(standing("guard").contains(&guilty), "the guilty ones alone: {}", ended.out);
}

#[test]
fn what_a_test_of_its_own_would_have_found_is_said_to_be_one_of_many() {
    let scene = Scene::new();
    experiment(&scene, "results-toy");
    assert_eq!(scene.evaluate(&COLLECT).code, 0);
    let page = || fs::read_to_string(scene.path("docs/results.md")).unwrap();
    assert!(!page().contains("a test of this alone"), "{}", page());
    let kept = "docs/results/toy/report.json";
    let verdicts = scene.json(kept)["verdicts"].as_array().unwrap().clone();
    let gro = verdicts.iter().position(|verdict| verdict["defence"] == "gro").unwrap();
    for (chance, value) in [("p", 0.01), ("p_corrected", 0.3)] {
        let pointer = format!("/verdicts/{gro}/thief/difference/{chance}");
        scene.amend(kept, &pointer, |found| *found = value.into());
    }
    let written = scene.evaluate(&["results", "--kept", "docs/results", "--page", "docs/results.md"]);
    assert_eq!(written.code, 0, "{}", written.err);
    // Two targets and four copies are held against those of `none`; behind one of the two defences another thief is the strongest than without,
    // whose copies are held against each other; and what both thieves lose against what users do.
    let said = "a test of this alone would have found it (p 0.010), but it is one of 9 in its report";
    assert!(page().contains(said), "{}", page());
}

#[test]
fn a_defence_that_may_cost_users_as_much_does_not_win() {
    let scene = Scene::new();
    experiment(&scene, "results-toy");
    assert_eq!(scene.evaluate(&COLLECT).code, 0);
    let page = || fs::read_to_string(scene.path("docs/results.md")).unwrap();
    // Of 100 hits the thief lost 40, of 120 users lost 2.
    let won = "`gro` took a larger share from him than from users, beyond chance: by 38 % [";
    assert!(page().contains(won), "{}", page());
    let kept = "docs/results/toy/report.json";
    let verdicts = scene.json(kept)["verdicts"].as_array().unwrap().clone();
    let gro = verdicts.iter().position(|verdict| verdict["defence"] == "gro").unwrap();
    let write = || scene.evaluate(&["results", "--kept", "docs/results", "--page", "docs/results.md"]);
    scene.amend(kept, &format!("/verdicts/{gro}/thief/lead/p_corrected"), |p| *p = json!(0.3));
    assert_eq!(write().code, 0);
    let why = "no: that he loses a larger share than users cannot be told from chance";
    assert!(row(&page(), "gro").contains(&why.to_owned()), "{}", page());
    assert!(
        page()
            .contains("That `gro` takes a larger share from the strongest thief than from users: by 38 % [")
    );
    // A report of before does not say.
    scene.amend(kept, &format!("/verdicts/{gro}/thief"), |thief| {
        thief.as_object_mut().unwrap().remove("lead");
    });
    assert_eq!(write().code, 0);
    assert!(row(&page(), "gro").contains(&"not known".to_owned()), "{}", page());
}

#[test]
fn words_of_people_stay_and_the_rest_is_written_anew() {
    let scene = Scene::new();
    experiment(&scene, "results-toy");
    assert_eq!(scene.evaluate(&COLLECT).code, 0);
    let page = scene.path("docs/results.md");
    let first = fs::read_to_string(&page).unwrap();
    let with_words = first.replace("# Results\n", "# Results\n\nRead with care.\n") + "\nThe end.\n";
    fs::write(&page, with_words.replace("### toy", "### toy, edited")).unwrap();
    let check = ["results", "--check", "--kept", "docs/results", "--page", "docs/results.md"];
    let ended = scene.evaluate(&check);
    assert_eq!(ended.code, 2, "{}", ended.err);
    assert!(ended.err.contains("docs/results.md does not say what docs/results holds"), "{}", ended.err);

    // Another experiment comes in; what is kept of the first does.
    experiment(&scene, "results-more");
    fs::remove_dir_all(scene.path("results-toy")).unwrap();
    let more =
        ["results", "--collect", "results-more", "--kept", "docs/results", "--page", "docs/results.md"];
    assert_eq!(scene.evaluate(&more).code, 0);
    let second = fs::read_to_string(&page).unwrap();
    assert!(second.contains("Read with care.") && second.ends_with("\nThe end.\n"), "{second}");
    assert!(second.contains("### toy\n") && second.contains("### more\n"), "{second}");
    assert_eq!(scene.evaluate(&check).code, 0, "in step");
}

#[test]
fn what_cannot_be_used_is_refused_before_anything_is_written() {
    let scene = Scene::new();
    let ended = scene.evaluate(&["results", "--kept", "docs/results", "--page", "docs/results.md"]);
    assert_eq!(ended.code, 2, "{}", ended.err);
    assert!(
        ended.err.contains("keeps no experiment") && ended.err.contains("make results-"),
        "{}",
        ended.err
    );

    experiment(&scene, "results-toy");
    fs::create_dir_all(scene.path("docs")).unwrap();
    fs::write(scene.path("docs/results.md"), "# Ours\n").unwrap();
    let ended = scene.evaluate(&COLLECT);
    assert_eq!(ended.code, 2, "{}", ended.err);
    assert!(
        ended.err.contains("lacks the marks") && ended.err.contains("<!-- results: end -->"),
        "{}",
        ended.err
    );
    assert!(!scene.path("docs/results").exists());
    assert_eq!(fs::read_to_string(scene.path("docs/results.md")).unwrap(), "# Ours\n");

    fs::remove_file(scene.path("docs/results.md")).unwrap();
    fs::remove_file(scene.path("results-toy/report/report.json")).unwrap();
    let ended = scene.evaluate(&COLLECT);
    assert_eq!(ended.code, 2, "{}", ended.err);
    assert!(ended.err.contains("results-toy/report/report.json"), "{}", ended.err);
    assert!(!scene.path("docs/results.md").exists());
}

#[test]
fn two_experiments_of_one_name_are_refused() {
    let scene = Scene::new();
    for home in ["a", "b"] {
        experiment(&scene, &format!("{home}/results-toy"));
    }
    let collect = ["results", "--kept", "docs/results", "--page", "docs/results.md", "--collect"];
    let ended = scene.evaluate(&[&collect[..], &["a/results-toy", "b/results-toy"]].concat());
    assert_eq!(ended.code, 2, "{}", ended.err);
    assert!(ended.err.contains("a/results-toy and b/results-toy are both kept as toy"), "{}", ended.err);
    assert!(!scene.path("docs").exists());
}
