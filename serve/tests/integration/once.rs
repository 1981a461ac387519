use std::process::Stdio;

use serde_json::Value;
use service::black_box::BlackBox;

use crate::scene::{Scene, raw};

#[test]
fn a_question_is_answered_as_a_table() {
    let scene = Scene::new();
    std::fs::write(scene.path("titles.csv"), "id,title\ni1,One\ni2,Two\n").unwrap();
    let ask = [
        "once",
        "--target",
        "guarded",
        "--data",
        "data",
        "--titles",
        "titles.csv",
        "--history",
        " i3  i7 ",
        "--k",
        "90",
    ];
    let output = scene.ended(&ask);
    let (out, said) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{said}");
    assert!(said.contains("88 of 90 items have no title"), "{said}");
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0], "place  id     score  title");
    let expected = raw(&scene.target("guarded").top_k(&[&[3, 7]], 90).unwrap().ids);
    let ids: Vec<&str> = lines[1..].iter().map(|line| line.split_whitespace().nth(1).unwrap()).collect();
    assert_eq!(ids, expected);
    let one = lines.iter().find(|line| line.split_whitespace().nth(1) == Some("i1")).unwrap();
    assert!(one.ends_with("  One"), "{one}");

    let output = scene.ended(&[&ask[..], &["--json", "--exclude-seen"]].concat());
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let items = found["items"].as_array().unwrap();
    assert_eq!(items.len(), 88);
    assert!(items.iter().all(|item| item["id"] != "i3" && item["id"] != "i7" && item["score"].is_number()));
}

#[test]
fn whoever_reads_no_further_is_told_nothing() {
    let scene = Scene::new();
    let arguments = ["once", "--target", "open", "--history", "3"];
    let mut command = scene.command(&arguments);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && !said.contains("error"), "{said}");
}

#[test]
fn what_cannot_be_answered_is_refused() {
    let scene = Scene::new();
    let once = |more: &[&'static str]| [&["once", "--target", "open", "--data", "data"], more].concat();
    scene.refused(
        &once(&["--history", "i3 i91"]),
        "history[1] is \"i91\", which is no item of this catalogue",
    );
    scene.refused(&once(&["--history", " "]), "history is empty");
    scene.refused(&once(&["--history", "i3", "--k", "91"]), "k is 91, expected 1 to 90");
}
