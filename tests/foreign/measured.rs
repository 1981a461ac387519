//! `gro-evaluate run` of a target that others run: what is seen through its lists is what is seen of the same target in a directory.

use serde_json::Value;

use crate::scene::{Place, said, scene, serve};
use crate::service::{Behaviour, Fault, Service};

fn json(place: &Place, path: &str) -> Value {
    serde_json::from_slice(&std::fs::read(place.path(path)).unwrap()).unwrap()
}

/// Measures a target with a copy of it, or without.
fn measure(place: &Place, target: &str, out: &str, more: &[&str]) -> std::process::Output {
    let data = scene().join("data");
    let arguments = ["run", "--data", data.to_str().unwrap(), "--target", target, "--out", out];
    place.run("evaluate", &[&arguments[..], more].concat())
}

#[track_caller]
fn measured(place: &Place, target: &str, out: &str, more: &[&str]) -> String {
    let output = measure(place, target, out, more);
    assert!(output.status.success(), "{target} {more:?}: {}", said(&output));
    said(&output)
}

/// A copy of the guarded target.
fn copy(place: &Place) {
    let target = scene().join("protected-guard");
    place.asked(target.to_str().unwrap(), "queries", &[]);
    place.done("attack", &["distill", "--queries", "queries", "--surrogate", "sas", "--out", "copy"]);
}

#[test]
fn through_its_lists_a_target_measures_as_it_does_in_a_directory() {
    let place = Place::new();
    copy(&place);
    let target = scene().join("protected-guard");
    measured(&place, target.to_str().unwrap(), "files", &["--surrogate", "copy"]);
    let (files, protocol) = (json(&place, "files/metrics.json"), json(&place, "files/protocol.json"));
    let flaky = |call: usize| (call % 5 == 1).then_some(Fault::Status(503, Some(0)));
    for (out, behaviour) in [
        ("http", Behaviour { fault: Some(flaky), ..Behaviour::default() }),
        ("reversed", Behaviour { reversed: true, ..Behaviour::default() }),
    ] {
        let service = serve("protected-guard", behaviour);
        let log = measured(&place, &service.url(), out, &["--surrogate", "copy", "--budget", "60"]);
        assert!(log.contains("60 questions asked, 60 answered, 0 lost"), "{log}");
        assert!(log.contains("seen through its lists of 10 alone"), "{log}");
        assert!(service.record().answered.keys().all(|(account, _)| account.starts_with("user-")));
        let found = json(&place, &format!("{out}/metrics.json"));
        for section in ["users", "items", "popular", "target", "surrogate"] {
            assert_eq!(found[section], files[section], "{out}: {section}");
        }
        assert_eq!(found["fidelity"]["answered"], files["fidelity"]["answered"], "{out}");
        assert!(files["fidelity"]["own"].is_object() && found["fidelity"]["own"].is_null(), "{found}");
        let said = json(&place, &format!("{out}/protocol.json"));
        assert_eq!(
            (&said["target"]["architecture"], &said["target"]["defence"]),
            (&"foreign".into(), &"unknown".into())
        );
        assert_eq!(said["surrogate"], protocol["surrogate"]);
        assert_eq!(said["target"]["checkpoint"] == protocol["target"]["checkpoint"], out == "http");
    }
    place.done("evaluate", &["report", "--out", "report", "--runs", "http", "files"]);
    let report = std::fs::read_to_string(place.path("report/report.md")).unwrap();
    assert!(
        report.contains("target run by others") && report.contains("neither its ranking beyond the list"),
        "{report}"
    );
    let output = place.run("evaluate", &["theft", "--out", "theft", "--runs", "http"]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("run by others"), "{}", said(&output));
}

#[test]
fn a_program_is_measured_too_and_goes_on_after_an_interruption() {
    let place = Place::new();
    let ids = artifact::dataset::read_raw_items(&scene().join("data")).unwrap();
    let list: Vec<String> = ids[..10].iter().map(|id| format!("\"{id}\"")).collect();
    let script = format!(
        "asked=0\nwhile read -r question; do\n echo \"$question\" >> questions\n echo '{{\"items\": [{}]}}'\n asked=$((asked + 1))\n \
         [ -e whole ] || [ $asked -lt 20 ] || exit 9\ndone\n",
        list.join(",")
    );
    std::fs::write(place.path("popular.sh"), script).unwrap();
    let data = scene().join("data");
    let more = ["--catalogue", data.to_str().unwrap(), "--budget", "61"];
    let output = measure(&place, "command:sh popular.sh", "out", &more);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("ended (exit status: 9)"), "{}", said(&output));
    std::fs::write(place.path("whole"), "").unwrap();
    let log = measured(&place, "command:sh popular.sh", "out", &[&more[..], &["--resume"]].concat());
    assert!(log.contains("61 questions asked, 60 answered, 1 lost"), "{log}");
    assert_eq!(std::fs::read_to_string(place.path("questions")).unwrap().lines().count(), 60);
}

#[test]
fn what_lists_cannot_tell_is_refused() {
    let place = Place::new();
    let service = serve("target", Behaviour::default());
    let url = service.url();
    place.done(
        "preprocess",
        &["synth", "--users", "50", "--items", "40", "--interactions", "1000", "--out", "ratings"],
    );
    place.done("preprocess", &["run", "--input", "ratings", "--out", "other"]);
    for (target, more, expected) in [
        (
            url.as_str(),
            &["--set", "evaluate.ranking=uniform", "--set", "evaluate.negatives=20"][..],
            "cannot be asked to rank candidates",
        ),
        (&url, &["--set", "evaluate.top_k=55"], "answers lists of at most 50; set it to 50 or less"),
        (&url, &["--budget", "59"], "60 users are asked for, a question each, and --budget is 59"),
        (scene().join("target").to_str().unwrap(), &["--resume"], "--resume is for a target that others run"),
        (
            scene().join("target").to_str().unwrap(),
            &["--budget", "3"],
            "--budget is for a target that others run",
        ),
    ] {
        let output = measure(&place, target, "out", more);
        assert_eq!(output.status.code(), Some(2), "{more:?}: {}", said(&output));
        assert!(said(&output).contains(expected), "{more:?}: {}", said(&output));
    }
    let output = place.run("evaluate", &["run", "--data", "other", "--target", &url, "--out", "out"]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("has another catalogue than other: item"), "{}", said(&output));
    assert_eq!(service.record().questions(), 0);
}

/// Holds a suspect against the guarded target.
fn prove(place: &Place, suspect: &str, out: &str, more: &[&str]) -> std::process::Output {
    let protected = scene().join("protected-guard");
    let arguments = ["prove", "--suspect", suspect, "--protected", protected.to_str().unwrap(), "--out", out];
    place.run("evaluate", &[&arguments[..], &["--probes", "60", "--keys", "99"], more].concat())
}

#[test]
fn a_suspect_that_others_run_is_held_against_the_target_as_its_checkpoint_is() {
    let place = Place::new();
    copy(&place);
    let data = scene().join("data");
    let data = ["--data", data.to_str().unwrap()];
    let ended = prove(&place, "copy", "files", &data);
    assert!(ended.status.success(), "{}", said(&ended));
    let files = json(&place, "files/proof.json");
    let flaky = |call: usize| (call % 3 == 1).then_some(Fault::Status(503, Some(0)));
    for (out, behaviour) in [
        ("http", Behaviour { fault: Some(flaky), ..Behaviour::default() }),
        ("reversed", Behaviour { reversed: true, ..Behaviour::default() }),
    ] {
        let service = Service::start(&place.path("copy"), &scene().join("data"), behaviour);
        let ended = prove(&place, &service.url(), out, &[&data[..], &["--budget", "240"]].concat());
        assert!(ended.status.success(), "{out}: {}", said(&ended));
        // Each history is asked about by an account of its own, once for the decoys and once for the watermark, and those of users besides.
        let asked = service.record().answered;
        assert_eq!(asked.len(), 240, "{out}");
        assert!(asked.keys().all(|(account, _)| account.starts_with("history-")), "{out}");
        // Proved anew, what was asked before counts too.
        let more = ["--budget", "479", "--force"];
        let refused = prove(&place, &service.url(), out, &[&data[..], &more].concat());
        let expected = "240 questions were asked for this output before and count, a proof asks 240 anew, and --budget is 479";
        assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
        assert!(said(&refused).contains(expected), "{}", said(&refused));
        let found = json(&place, &format!("{out}/proof.json"));
        for figure in ["flagged", "agreement", "others", "at_least_as_high", "p", "agreement_with_true_lists"]
        {
            assert_eq!(found[figure], files[figure], "{out}: {figure}");
        }
        // The first service answers with shorter lists than the checkpoint, in which the watermark is sought.
        assert_eq!(found["watermark"] == files["watermark"], out == "reversed", "{found}");
        assert_eq!(found["suspect_architecture"], "run by others");
        let page = std::fs::read_to_string(place.path(&format!("{out}/proof.html"))).unwrap();
        assert!(page.contains("run by others, asked as its customers ask it"), "{page}");
    }
    let service = Service::start(&place.path("copy"), &scene().join("data"), Behaviour::default());
    let url = service.url();
    for (more, expected) in [
        (&[][..], "give --data, the dataset that the protected target was trained on"),
        (&[data[0], data[1], "--budget", "239"], "a proof asks up to 240 questions, and --budget is 239"),
    ] {
        let refused = prove(&place, &url, "refused", more);
        assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
        assert!(said(&refused).contains(expected), "{}", said(&refused));
        assert!(!place.path("refused").exists());
    }
    assert_eq!(service.record().questions(), 0, "refused before the first question");
    let refused = prove(&place, "copy", "refused", &["--resume"]);
    assert!(said(&refused).contains("--resume is for a suspect that others run"), "{}", said(&refused));
    let refused = prove(&place, "copy", "refused", &["--budget", "9"]);
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
}
