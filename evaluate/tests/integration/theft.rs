#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use serde_json::{Value, json};

use crate::scene::{Cell, Scene};

/// A copy that hits for so many of 200 users, after so many questions by a thief of that strategy and loss. Marks are what the figures
/// say: quality of the target .5 by mark, of the copy .02 less.
struct Copy<'a> {
    name: &'a str,
    defence: &'a str,
    seed: u64,
    strategy: &'a str,
    loss: &'a str,
    questions: u64,
    quality: f64,
    agreement: f64,
}

fn ranks() -> Vec<Option<u32>> {
    (0..20).map(|user| Some(1 + user)).collect()
}

fn write(scene: &Scene, copy: &Copy<'_>) {
    let cell = Cell { target: "sas", surrogate: "sas", defence: copy.defence, seed: copy.seed };
    scene.made(copy.name, &cell, 0.5, &ranks(), &ranks());
    let figure = |mean: f64| json!({ "mean": mean, "low": mean - 0.01, "high": mean + 0.02 });
    let metrics = format!("{}/metrics.json", copy.name);
    scene.amend(&metrics, "/surrogate/HR@10", |value| *value = figure(copy.quality));
    scene.amend(&metrics, "/fidelity/own/Agr@10", |value| *value = figure(copy.agreement));
    let protocol = format!("{}/protocol.json", copy.name);
    scene.amend(&protocol, "/surrogate/queries", |value| {
        value["queries"] = copy.questions.into();
        value["sequences"] = (copy.questions / 50).into();
        value["generation"]["strategy"] = copy.strategy.into();
    });
    scene.amend(&protocol, "/surrogate", |value| {
        value["learning"] =
            json!({ "loss": copy.loss, "suspicion": "none", "choices": { "keep_by": "agr@10" } });
    });
}

const FIRST: Copy<'static> = Copy {
    name: "a-250",
    defence: "none",
    seed: 1,
    strategy: "random",
    loss: "listmle",
    questions: 250,
    quality: 0.2,
    agreement: 0.3,
};

fn scene() -> Scene {
    let scene = Scene::new();
    for copy in [
        FIRST,
        Copy { name: "a-500", questions: 500, quality: 0.25, agreement: 0.5, ..FIRST },
        Copy { name: "a-1000", questions: 1000, quality: 0.45, agreement: 0.7, ..FIRST },
        Copy { name: "b-500", loss: "hinge", questions: 500, quality: 0.35, agreement: 0.4, ..FIRST },
        Copy { name: "b-1000", loss: "hinge", questions: 1000, quality: 0.42, agreement: 0.6, ..FIRST },
        Copy { name: "g-1000", defence: "gro", questions: 1000, quality: 0.3, agreement: 0.2, ..FIRST },
    ] {
        write(&scene, &copy);
    }
    scene
}

const RUNS: [&str; 6] = ["a-250", "a-500", "a-1000", "b-500", "b-1000", "g-1000"];

fn arguments<'a>(runs: &[&'a str]) -> Vec<&'a str> {
    let mut all = vec!["theft", "--quiet", "--out", "theft", "--runs"];
    all.extend(runs);
    all
}

fn curve<'a>(theft: &'a Value, defence: &str, learning: &str) -> &'a Value {
    let curves = theft["curves"].as_array().unwrap();
    let thief = |curve: &&Value| {
        (curve["thief"]["defence"].as_str(), curve["thief"]["learning"].as_str())
            == (Some(defence), Some(learning))
    };
    curves.iter().find(thief).unwrap()
}

#[test]
fn a_curve_tells_the_fewest_questions_that_reach_a_share_of_the_target() {
    let scene = scene();
    let ended = scene.evaluate(&arguments(&RUNS));
    assert_eq!(ended.code, 0, "{}", ended.err);
    let theft = scene.json("theft/theft.json");
    // Of the undefended target's .5: .25, .4 and .45; of full agreement .5, .8 and .9.
    let listmle = curve(&theft, "none", "listmle");
    assert_eq!(listmle["needed"]["HR@10"], json!([500, 1000, 1000]));
    assert_eq!(listmle["needed"]["Agr@10"], json!([500, null, null]));
    assert_eq!(curve(&theft, "none", "hinge")["needed"]["HR@10"], json!([500, 1000, null]));
    assert_eq!(curve(&theft, "gro", "listmle")["needed"]["HR@10"], json!([1000, null, null]));
    let questions: Vec<_> =
        listmle["points"].as_array().unwrap().iter().map(|p| &p["price"]["questions"]).collect();
    assert_eq!(questions, [250, 500, 1000]);
    assert_eq!(
        listmle["points"][2]["price"],
        json!({ "accounts": 20, "questions": 1000, "items_listed": 100_000, "real_sequences": 0 })
    );
    let svg = std::fs::read_to_string(scene.path("theft/theft.svg")).unwrap();
    for label in
        ["HR@10, SASRec target, defence none", "Agr@10, SASRec target, defence gro", "random: listmle"]
    {
        assert!(svg.contains(label), "no {label}");
    }
    // The hinge is not the better one at the last point.
    assert!(!svg.contains("random: hinge"));
    let csv = std::fs::read_to_string(scene.path("theft/theft.csv")).unwrap();
    // Six points of five figures, and a heading.
    assert_eq!(csv.lines().count(), 31, "{csv}");
    assert!(
        csv.contains("sas,none,sas,random,100,hinge,10,500,50000,0,1,HR@10,0.35,0.33999999999999997,0.37,"),
        "{csv}"
    );
}

#[test]
fn the_best_thief_at_one_price_stands_in_bold() {
    let scene = scene();
    let ended = scene.evaluate(&arguments(&RUNS));
    // 1,000 questions are the most at which every curve has a point.
    assert!(ended.out.contains("### With 1,000 questions"), "{}", ended.out);
    let row = ended.out.lines().skip_while(|line| !line.starts_with("| HR@10: asks")).nth(2).unwrap();
    assert!(
        row.contains("| 0.4200 [0.4100, 0.4400]") && row.contains("**0.4500 [0.4400, 0.4700]**"),
        "{row}"
    );
    assert!(ended.out.contains("20 accounts, 1,000 questions, 100,000 items listed, 0 real sequences owned"));
}

#[test]
fn seeds_of_one_thief_are_averaged() {
    let scene = scene();
    write(&scene, &Copy { name: "again", seed: 2, quality: 0.4, ..FIRST });
    let ended = scene.evaluate(&arguments(&["a-250", "again"]));
    assert_eq!(ended.code, 0, "{}", ended.err);
    let theft = scene.json("theft/theft.json");
    let point = &curve(&theft, "none", "listmle")["points"][0];
    assert_eq!(point["seeds"], json!([1, 2]));
    let figure = &point["figures"]["HR@10"];
    let near = |key: &str, expected: f64| (figure[key].as_f64().unwrap() - expected).abs() < 1e-12;
    // Of .2 and .4: .3, and the sample deviation .02^.5.
    assert!(near("mean", 0.3) && near("deviation", 0.02f64.sqrt()), "{figure}");
    // From the ranks of both, of whom all hit or none: an interval over users and seeds; and none of fidelity, which neither kept.
    assert!(figure["low"].is_number() && figure["high"].is_number(), "{figure}");
    let agreement = &point["figures"]["Agr@10"];
    assert!(agreement["low"].is_null() && agreement["deviation"].is_number(), "{agreement}");
    let drawn = || std::fs::read_to_string(scene.path("theft/theft.svg")).unwrap();
    assert!(drawn().contains("where runs do not say of each user"), "the picture says what its whiskers are");
    // Where both kept it, over users and seeds: the answers of a target without a policy are its own.
    for (run, agree) in [("a-250", 0.2), ("again", 0.4)] {
        scene.keep(run, "Agr@10", (0..20).map(|user| agree + 0.01 * f64::from(user)));
    }
    assert_eq!(scene.evaluate(&arguments(&["a-250", "again"])).code, 0);
    let theft = scene.json("theft/theft.json");
    let agreement = &curve(&theft, "none", "listmle")["points"][0]["figures"]["Agr@10"];
    let end = |key: &str| agreement[key].as_f64().unwrap();
    assert!(end("low") < 0.395 && 0.395 < end("high"), "around the mean of what was kept: {agreement}");
    assert!(end("low") >= 0.0 && end("high") <= 1.0, "{agreement}");
}

#[test]
fn what_is_no_point_of_a_curve_is_refused() {
    let scene = scene();
    write(&scene, &Copy { name: "twin", ..FIRST });
    let refusal = |runs: &[&str]| {
        let ended = scene.evaluate(&arguments(runs));
        assert_eq!(ended.code, 2, "{}", ended.err);
        assert!(!scene.path("theft").exists());
        ended.err
    };
    let twins = refusal(&["a-250", "twin"]);
    assert!(twins.contains("twin") && twins.contains("nothing tells the two apart"), "{twins}");
    scene.amend("twin/protocol.json", "/surrogate", |value| {
        value.as_object_mut().unwrap().remove("queries");
    });
    let unknown = refusal(&["twin"]);
    assert!(unknown.contains("does not say what was asked"), "{unknown}");
    scene.amend("twin/protocol.json", "", |value| {
        value.as_object_mut().unwrap().remove("surrogate");
    });
    let none = refusal(&["twin"]);
    assert!(none.contains("names no surrogate"), "{none}");
    scene.amend("b-500/protocol.json", "/items", |value| *value = 7.into());
    let other = refusal(&["a-250", "b-500"]);
    assert!(other.contains("measured in another way"), "{other}");
}

#[test]
fn the_chart_of_a_report_has_a_colour_for_each_thief_and_a_group_for_each_defence() {
    let scene = scene();
    for run in ["a-500", "a-1000", "b-1000"] {
        scene.amend(&format!("{run}/protocol.json"), "/target/checkpoint", |checkpoint| {
            *checkpoint = "one target".into();
        });
    }
    let of = |runs: &[&str]| {
        let ended =
            scene.evaluate(&[&["report", "--quiet", "--force", "--out", "report", "--runs"], runs].concat());
        assert_eq!(ended.code, 0, "{}", ended.err);
        std::fs::read_to_string(scene.path("report/chart.svg")).unwrap()
    };
    let chart = of(&["a-1000", "b-1000", "g-1000"]);
    for label in ["copy: random, listmle", "copy: random, hinge"] {
        assert_eq!(chart.matches(label).count(), 1, "{label}");
    }
    // Two panels of two groups: target and two copies undefended, target and one copy behind GRO; three entries of the legend, the background.
    assert_eq!(chart.matches("<rect").count(), 1 + 3 + 2 * (3 + 2), "{chart}");
    assert_eq!(chart.matches("\nnone\n").count(), 2, "a group a panel: {chart}");
    // Where only the budget tells copies apart, they have one colour, and each a group with its name.
    let chart = of(&["a-500", "a-1000"]);
    assert!(chart.contains("surrogate SASRec") && !chart.contains("copy: "), "{chart}");
    assert_eq!(chart.matches("\nnone\n").count(), 4, "two groups a panel: {chart}");
}

/// Copies that were stolen in one way may differ in their kind, which has a colour.
#[test]
fn beside_a_line_of_the_page_stands_how_its_copy_was_stolen() {
    let scene = scene();
    write(&scene, &Copy { name: "c-1000", questions: 1000, quality: 0.4, agreement: 0.6, ..FIRST });
    write(&scene, &Copy { name: "d-1000", loss: "hinge", questions: 1000, ..FIRST });
    let runs = ["a-1000", "b-1000", "c-1000", "d-1000"];
    for run in ["c-1000", "d-1000"] {
        scene.amend(&format!("{run}/protocol.json"), "/surrogate/architecture", |value| {
            *value = "narm".into();
        });
    }
    scene.amend("b-1000/protocol.json", "/surrogate/learning/suspicion", |value| *value = "decoys".into());
    for run in runs {
        scene.amend(&format!("{run}/protocol.json"), "/target/checkpoint", |value| {
            *value = "one target".into();
        });
    }
    let ended = scene.evaluate(&[&["report", "--quiet", "--out", "report", "--runs"][..], &runs].concat());
    assert_eq!(ended.code, 0, "{}", ended.err);
    let page = std::fs::read_to_string(scene.path("report/report.html")).unwrap();
    // In each of two pictures.
    for (label, times) in [("random, listmle", 2), ("random, hinge, decoys", 1), ("random, hinge", 1)] {
        assert_eq!(page.matches(&format!(">{label}</text>")).count(), 2 * times, "{label}: {page}");
    }
}
