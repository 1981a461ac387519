//! Targets behind a pipe.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::scene::{Place, said, scene};
use crate::tools::tools;

/// A program that answers everybody the same ten items and writes each question to `questions`.
const POPULAR: &str = r#"#!/bin/sh
echo '{"items": [{"id": "a"}, {"id": "b"}, {"id": 3}, {"id": "d"}, {"id": "e"}, {"id": "f"}, {"id": "g"}, {"id": "h"}, {"id": "i"}, {"id": "j"}, {"id": "k"}, {"id": "l"}], "max_len": 4}'
while read -r question; do
  echo "$question" >> questions
  echo '{"items": ["j", "i", "h", "g", "f", "e", "d", 3, "b", "a"]}'
done
echo ended >> ends
"#;

fn place(script: &str) -> Place {
    let place = Place::new();
    std::fs::write(place.path("popular.sh"), script).unwrap();
    place
}

const TARGET: &str = "command:sh popular.sh";

fn lines(place: &Place, name: &str) -> Vec<String> {
    std::fs::read_to_string(place.path(name)).unwrap_or_default().lines().map(str::to_owned).collect()
}

#[test]
fn a_program_is_asked_a_line_at_a_time() {
    let place = place(POPULAR);
    let log = place.asked(TARGET, "asked", &["--budget", "96"]);
    assert!(log.contains("96 questions asked, 96 answered, 0 lost"), "{log}");
    let queries = place.queries("asked");
    assert_eq!(queries.len(), 24);
    for query in &queries {
        assert_eq!(query.sequence.len(), 4, "as many as the program says that it reads");
        assert!(query.answers.chunks(10).all(|list| *list == [10, 9, 8, 7, 6, 5, 4, 3, 2, 1]));
    }
    let questions = lines(&place, "questions");
    assert_eq!(questions.len(), 96);
    let item =
        ["a", "b", "3", "d", "e", "f", "g", "h", "i", "j", "k", "l"][queries[0].sequence[0] as usize - 1];
    assert_eq!(questions[0], format!("{{\"account\":\"0\",\"history\":[\"{item}\"],\"k\":10}}"));
    assert_eq!(lines(&place, "ends"), ["ended"], "it ends by itself");
    // Three copies of it, and accounts of another name.
    place.asked(TARGET, "three", &["--concurrency", "3", "--account-prefix", "t-"]);
    assert!(place.log("three") == place.log("asked"));
    assert!(lines(&place, "questions")[96..].iter().all(|line| line.starts_with("{\"account\":\"t-")));
    assert_eq!(lines(&place, "ends").len(), 4);
}

#[test]
fn its_items_may_stand_in_a_file() {
    let silent: String =
        POPULAR.lines().filter(|line| !line.contains("max_len")).collect::<Vec<_>>().join("\n");
    let place = place(&silent);
    std::fs::write(place.path("items.txt"), "a\nb\n3\nd\ne\nf\ng\nh\ni\nj\nk\nl\n").unwrap();
    place.asked(TARGET, "asked", &["--catalogue", "items.txt"]);
    // Nobody says how much it reads, so model.max_len does.
    assert_eq!(place.queries("asked")[0].sequence.len(), 6);
    // One that introduces itself all the same is not misunderstood.
    std::fs::write(place.path("popular.sh"), POPULAR).unwrap();
    place.asked(TARGET, "introduced", &["--catalogue", "items.txt", "--concurrency", "2"]);
    assert!(place.log("introduced") == place.log("asked"));
}

#[test]
fn a_kill_ends_the_program_and_the_answers_are_there_for_the_next() {
    let place = place(POPULAR);
    place.asked(TARGET, "whole", &[]);
    std::fs::remove_file(place.path("questions")).unwrap();
    let slow = POPULAR.replace("  echo '{", "  sleep 0.01\n  echo '{");
    std::fs::write(place.path("popular.sh"), &slow).unwrap();
    let arguments = ["generate", "--target", TARGET, "--out", "killed", "--resume", "--quiet"];
    let mut kills = 0;
    while !place.path("killed").exists() && kills < 4 {
        let mut child = place.command("attack", &arguments).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(300));
        child.kill().unwrap();
        kills += usize::from(!child.wait().unwrap().success());
    }
    place.asked(TARGET, "killed", &["--resume"]);
    assert!(place.log("killed") == place.log("whole"));
    let asked = lines(&place, "questions").len();
    assert!(
        (96..=96 + kills).contains(&asked),
        "{asked} questions after {kills} kills, one of which is lost at each"
    );
}

#[test]
fn what_a_program_does_wrong_is_told() {
    let first = POPULAR.lines().nth(1).unwrap();
    for (script, code, expected) in [
        ("exit 3".to_owned(), 1, "`sh` ended (exit status: 3) before it answered"),
        (format!("{first}\nread -r question; exit 4"), 1, "`sh` ended (exit status: 4) before it answered"),
        (format!("{first}\nsleep 30"), 1, "`sh` wrote no line in 400ms"),
        ("echo hello; cat".to_owned(), 2, "the catalogue of `sh` is not {\"items\""),
        (
            format!("{first}\nwhile read -r q; do echo '{{\"list\": []}}'; done"),
            2,
            "it began with \"{\\\"list\\\": []}\"",
        ),
        (
            format!("{first}\nwhile read -r q; do echo '{{\"items\": [\"a\"]}}'; done"),
            2,
            "set generate.top_k to 1 or less",
        ),
        (
            POPULAR.replace("\ndone", "\n  echo more\ndone"),
            2,
            "wrote more lines than it was asked questions, expected one for each, in their order; one begins with \"more\"",
        ),
        (
            POPULAR.replace("while read", "echo hello\nsleep 0.1\nwhile read"),
            2,
            "one begins with \"hello\"; what it answered before may stand beside the wrong question, so remove out.state before",
        ),
        // Too many are found at the end at the latest.
        (
            format!("{POPULAR}echo '{{\"items\": [\"a\"]}}'"),
            2,
            "one begins with \"{\\\"items\\\": [\\\"a\\\"]}\"",
        ),
    ] {
        let place = place(&script);
        let output = place.generate(TARGET, "out", &["--timeout", "0.4", "--quiet"]);
        let text = said(&output);
        assert_eq!(output.status.code(), Some(code), "{script}: {text}");
        assert!(
            text.starts_with("error: ") && text.contains(expected) && text.lines().count() == 1,
            "{script}: {text}"
        );
        assert!(!place.path("out").exists());
    }
}

/// A Python with numpy: `GRO_PYTHON`, or that of the [`tools`](crate::tools), without which continuous integration fails.
fn python() -> Option<String> {
    let installed = || Some(tools()?.join("python").display().to_string());
    std::env::var("GRO_PYTHON").ok().or_else(installed)
}

#[test]
fn the_example_of_the_documents_is_stolen_and_measured_through_both_doors() {
    let Some(python) = python() else { return };
    let place = Place::new();
    let data = scene().join("data");
    let data = data.to_str().unwrap();
    place.done("preprocess", &["export", "--data", data, "--out", "ratings.inter"]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples/item_item.py");
    let program = format!("command:{python} '{}' ratings.inter", script.display());
    let few = ["--catalogue", data, "--set", "generate.sequences=4"];
    place.asked(&program, "piped", &few);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let mut service = Command::new(&python)
        .arg(&script)
        .args(["ratings.inter", &port])
        .current_dir(place.path(""))
        .spawn()
        .unwrap();
    // It is asked again until it listens.
    place.asked(&format!("http://127.0.0.1:{port}"), "http", &few);
    service.kill().unwrap();
    service.wait().unwrap();
    assert!(place.log("http") == place.log("piped"));
    place.done("attack", &["distill", "--queries", "piped", "--surrogate", "sas", "--out", "copy"]);
    let measured = ["run", "--data", data, "--target", &program, "--surrogate", "copy", "--out", "measured"];
    let log = place.done("evaluate", &measured);
    assert!(log.contains("60 questions asked, 60 answered, 0 lost"), "{log}");
}

#[test]
fn the_table_of_the_documents_has_what_an_evaluation_says_of_it() {
    let Some(python) = python() else { return };
    let place = Place::new();
    let data = scene().join("data");
    let data = data.to_str().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples/table.py");
    let metrics = |out: &str| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(place.path(out).join("metrics.json")).unwrap()).unwrap()
    };
    for defence in ["target", "protected-guard"] {
        let target = scene().join(defence);
        let target = target.to_str().unwrap();
        let log = format!("singles-{defence}");
        place.asked(target, &log, &["--set", "generate.strategy=singles"]);
        let program = format!("command:{python} '{}' {log} {data}", script.display());
        for seen in ["false", "true"] {
            let (native, looked_up) =
                (format!("native-{defence}-{seen}"), format!("looked-up-{defence}-{seen}"));
            let excluded = format!("evaluate.exclude_seen={seen}");
            for (asked, out) in [(target, &native), (&program, &looked_up)] {
                place.done(
                    "evaluate",
                    &["run", "--data", data, "--target", asked, "--out", out, "--set", &excluded],
                );
            }
            let native = metrics(&native);
            assert_eq!(
                native["table"]["quality"],
                metrics(&looked_up)["target"],
                "{defence}, seen left out: {seen}"
            );
            assert_ne!(native["table"]["quality"], native["target"]);
        }
    }
}
