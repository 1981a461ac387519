#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use crate::scene::Scene;

fn ranks(hits: usize) -> Vec<Option<u32>> {
    (0..200).map(|user| Some(if user < hits { 1 } else { 30 })).collect()
}

/// Reports of two people on the same data, of whom the second has a defence and a network that this build does not know.
fn scene() -> Scene {
    let scene = Scene::new();
    scene.evaluated("eval-none", "none", 0.30, &ranks(60), &ranks(50));
    scene.evaluated("eval-gro", "gro", 0.29, &ranks(58), &ranks(10));
    scene.evaluated("eval-new", "new", 0.24, &ranks(48), &ranks(40));
    for (out, runs) in [("ann/report", ["eval-none", "eval-gro"]), ("bob/report", ["eval-none", "eval-new"])]
    {
        std::fs::create_dir_all(scene.path(out).parent().unwrap()).unwrap();
        let ended = scene.evaluate(&[&["report", "--quiet", "--out", out, "--runs"][..], &runs].concat());
        assert_eq!(ended.code, 0, "{}", ended.err);
    }
    // Reports are handed on as single files.
    std::fs::remove_file(scene.path("bob/report/stage.lock")).unwrap();
    scene.amend("bob/report/report.json", "/verdicts/1/target", |name| *name = "unheard-of".into());
    // By its decoys nothing is found of the suspect; by its watermark he is convicted.
    std::fs::create_dir(scene.path("proof")).unwrap();
    let proof =
        r#"{"protected": "target eval-gro", "p": 0.3, "corrected": {"decoys": 0.3, "watermark": 0.0002}}"#;
    std::fs::write(scene.path("proof/proof.json"), proof).unwrap();
    std::fs::create_dir(scene.path("elsewhere")).unwrap();
    std::fs::write(scene.path("elsewhere/proof.json"), r#"{"protected": "beef", "p": 0.5}"#).unwrap();
    scene
}

const ALL: [&str; 8] =
    ["board", "--out", "board", "--reports", "bob/report", "ann/report", "--proofs", "proof"];

#[test]
fn defences_of_anyone_stand_in_one_table_the_best_first() {
    let scene = scene();
    let ended = scene.evaluate(&[&ALL[..], &["elsewhere"]].concat());
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert!(ended.err.contains("1 of 2 proofs are about targets that no report speaks of"), "{}", ended.err);
    let board = scene.json("board/board.json");
    assert_eq!(board["divisions"].as_array().unwrap().len(), 1);
    let standings = board["divisions"][0]["standings"].as_array().unwrap();
    // By the marks: kept and stolen of .30 are 1 and .28, .29 and .27, .24 and .22; the margins are all .02 / .30, whose last digits decide.
    assert_eq!(standings.len(), 4);
    let of = |defence: &str| standings.iter().find(|row| row["defence"] == defence).unwrap();
    let near = |value: &serde_json::Value, expected: f64| (value.as_f64().unwrap() - expected).abs() < 1e-9;
    assert!(near(&of("gro")["kept"], 0.29 / 0.3) && near(&of("gro")["stolen"], 0.27 / 0.3), "{board}");
    assert_eq!((&of("gro")["proof"], &of("gro")["report"]), (&0.0002.into(), &"ann/report".into()));
    assert!(of("new")["proof"].is_null());
    // What these runs say of all copies is that half of a mark agrees; the ranks do not tell of whom.
    assert!(near(&of("gro")["alike"], 0.29 / 2.0) && of("gro")["alike_p"].is_null(), "{board}");
    assert_eq!(of("new")["target"], "unheard-of", "a name that this build does not know is taken as it is");
    assert!(
        ended.out.contains("| gro ")
            && ended.out.contains("25,000 questions")
            && ended.out.contains("p 0.0002"),
        "{}",
        ended.out
    );

    // A report of before does not say how alike a copy is.
    scene.amend("bob/report/report.json", "/verdicts/1", |verdict| {
        verdict.as_object_mut().unwrap().remove("most_alike");
    });
    // A thief who does better under one of them takes it down.
    scene.amend("bob/report/report.json", "/verdicts/1/thief/share", |share| *share = 0.79.into());
    assert_eq!(scene.evaluate(&ALL).code, 0);
    let standings = scene.json("board/board.json")["divisions"][0]["standings"].clone();
    assert_eq!(standings[3]["defence"], "new", "{standings}");
    assert!(standings[3]["alike"].is_null(), "{standings}");
}

#[test]
fn where_a_thief_is_missing_whom_others_have_is_said() {
    let scene = scene();
    let said = "bob/report, and 0 more: no table of lists was measured there";
    let ended = scene.evaluate(&ALL);
    assert!(ended.code == 0 && !ended.err.contains("table of lists"), "{}", ended.err);
    let of_a_table = |report: &mut serde_json::Value| {
        let rows = report["rows"].as_array_mut().unwrap();
        let mut row = rows.iter().find(|row| row["model"] == "surrogate").unwrap().clone();
        row["surrogate"] = "table".into();
        rows.push(row);
    };
    std::fs::remove_file(scene.path("ann/report/stage.lock")).unwrap();
    scene.amend("ann/report/report.json", "", of_a_table);
    let ended = scene.evaluate(&ALL);
    assert!(ended.code == 0 && ended.err.contains(said), "{}", ended.err);
    // Among sampled candidates there is none to be missed.
    scene.amend("bob/report/report.json", "/protocol/ranking", |ranking| *ranking = "uniform".into());
    scene.amend("bob/report/report.json", "/protocol", |protocol| protocol["negatives"] = 100.into());
    let ended = scene.evaluate(&ALL);
    assert!(ended.code == 0 && !ended.err.contains("table of lists"), "{}", ended.err);
}

#[test]
fn what_was_measured_otherwise_stands_apart() {
    let scene = scene();
    scene.amend("bob/report/report.json", "/protocol/exclude_seen", |seen| *seen = true.into());
    assert_eq!(scene.evaluate(&ALL).code, 0);
    let divisions = scene.json("board/board.json")["divisions"].clone();
    assert_eq!(divisions.as_array().unwrap().len(), 2, "{divisions}");
    assert_eq!(divisions[1]["standings"].as_array().unwrap().len(), 2, "{divisions}");
}

#[test]
fn a_report_without_verdicts_is_refused_by_name() {
    let scene = scene();
    scene.amend("bob/report/report.json", "", |report| {
        drop(report.as_object_mut().unwrap().remove("verdicts"));
    });
    let ended = scene.evaluate(&ALL);
    assert_eq!(ended.code, 2, "{}", ended.out);
    assert!(
        ended.err.contains("bob/report/report.json has no verdicts") && ended.err.contains("report again"),
        "{}",
        ended.err
    );
    assert!(!scene.path("board").exists());
    assert_eq!(scene.evaluate(&["board", "--out", "board", "--reports", "nobody"]).code, 2);
}
