//! The whole pipeline over HTTP against the pipeline over files.

use std::time::Duration;

use crate::scene::{Place, QUESTIONS, scene, serve};
use crate::service::{Behaviour, Fault, certificate};

/// The log of a target in a directory.
fn from_files(place: &Place, target: &str, more: &[&str]) -> Vec<u8> {
    place.asked(scene().join(target).to_str().unwrap(), "from-files", more);
    place.log("from-files")
}

#[test]
fn the_whole_pipeline_over_http_is_the_one_over_files() {
    let place = Place::new();
    for target in ["target", "protected-guard"] {
        let service = serve(target, Behaviour::default());
        let expected = from_files(&place, target, &["--force"]);
        place.asked(&service.url(), "from-http", &["--force"]);
        assert!(place.log("from-http") == expected, "{target}");
        let record = service.record();
        assert_eq!((record.questions(), record.answered.len()), (QUESTIONS, QUESTIONS));
        assert!(record.together > 1, "several questions go in one call");
        let account = |number: usize| {
            record.answered.keys().filter(|(account, _)| *account == number.to_string()).count()
        };
        assert!(
            (0..24).all(|number| account(number) == 6),
            "account i of the campaign is account i at the service"
        );
    }
    let data = scene().join("data");
    let target = scene().join("protected-guard");
    for way in ["files", "http"] {
        let (queries, copy, out) = (format!("from-{way}"), format!("copy-{way}"), format!("eval-{way}"));
        place.done("attack", &["distill", "--queries", &queries, "--surrogate", "sas", "--out", &copy]);
        let measured =
            ["--data", data.to_str().unwrap(), "--target", target.to_str().unwrap(), "--surrogate", &copy];
        place.done("evaluate", &[&["run"], &measured[..], &["--out", &out]].concat());
    }
    let read = |name: &str| std::fs::read(place.path(name)).unwrap();
    for (file, directory) in [
        ("model.safetensors", "copy"),
        ("metrics.json", "eval"),
        ("ranks.parquet", "eval"),
        ("protocol.json", "eval"),
    ] {
        assert!(
            read(&format!("{directory}-files/{file}")) == read(&format!("{directory}-http/{file}")),
            "{file}"
        );
    }
}

#[test]
fn neither_concurrency_nor_failures_change_a_byte() {
    let place = Place::new();
    let expected = from_files(&place, "protected-guard", &[]);
    // One call in three fails, in every way that is worth another try.
    let troubled = |call: usize| match call % 18 {
        2 => Some(Fault::Status(429, Some(0))),
        5 => Some(Fault::Status(500, None)),
        8 => Some(Fault::Cut),
        11 => Some(Fault::Status(503, Some(0))),
        14 => Some(Fault::Late(Duration::from_millis(1200))),
        _ => None,
    };
    for (name, behaviour, more) in [
        ("alone", Behaviour::default(), &["--concurrency", "1"][..]),
        ("many", Behaviour::default(), &["--concurrency", "16"]),
        ("limited", Behaviour { at_most: Some(1), ..Behaviour::default() }, &["--concurrency", "2"]),
        ("single", Behaviour { single: true, ..Behaviour::default() }, &["--concurrency", "3"]),
        (
            "troubled",
            Behaviour { fault: Some(troubled), ..Behaviour::default() },
            &["--timeout", "0.6", "--concurrency", "2"],
        ),
    ] {
        let service = serve("protected-guard", behaviour);
        let log = place.asked(&service.url(), name, more);
        assert!(place.log(name) == expected, "{name}");
        let record = service.record();
        assert_eq!(record.answered.len(), QUESTIONS, "{name}");
        if name == "troubled" {
            assert!(log.contains("asked again in"), "{log}");
            let lost = record.questions() - QUESTIONS;
            assert!(lost > 0 && log.contains(&format!("{QUESTIONS} answered, {lost} lost")), "{lost}: {log}");
        } else {
            assert_eq!(record.questions(), QUESTIONS, "{name}");
        }
    }
}

#[test]
fn rounds_with_a_copy_in_between_go_over_http_too() {
    let place = Place::new();
    let rounds = ["--set", "generate.strategy=rounds", "--set", "generate.sequences=6"];
    let expected = from_files(&place, "target", &rounds);
    let service = serve("target", Behaviour::default());
    place.asked(&service.url(), "from-http", &rounds);
    assert!(place.log("from-http") == expected);
}

#[test]
fn any_json_service_is_asked_as_a_mapping_says() {
    let place = Place::new();
    let expected = from_files(&place, "target", &[]);
    let service = serve("target", Behaviour { foreign: true, key: Some("k3y"), ..Behaviour::default() });
    let mapping = "
url: /api/next?n={k}
headers: {Authorization: 'Bearer ${SHOP_TOKEN}'}
body: {seen: '{history}', user: {name: '{account}'}}
answer: /result/hits
id: /sku
";
    std::fs::write(place.path("shop.yaml"), mapping).unwrap();
    let data = scene().join("data");
    let more = [
        "generate",
        "--target",
        &service.url(),
        "--mapping",
        "shop.yaml",
        "--catalogue",
        data.to_str().unwrap(),
        "--out",
        "mapped",
    ];
    let output = place.command("attack", &more).env("SHOP_TOKEN", "k3y").output().unwrap();
    assert!(output.status.success(), "{}", crate::scene::said(&output));
    let written = std::fs::read_dir(place.path("mapped")).unwrap();
    for file in written.map(|entry| entry.unwrap().path()) {
        let bytes = std::fs::read(&file).unwrap();
        assert!(!bytes.windows(3).any(|window| window == b"k3y"), "the key stands in {}", file.display());
    }
    // All but the header is that of the files: nobody said which checkpoint answers, and which splits it learned from.
    assert_eq!(place.queries("mapped"), place.queries("from-files"));
    assert!(place.log("mapped") != expected);
}

#[test]
fn a_key_goes_with_each_call_and_tls_keeps_it() {
    let place = Place::new();
    let expected = from_files(&place, "target", &[]);
    let (tls, authority) = certificate("localhost", false);
    let service = serve("target", Behaviour { tls: Some(tls), key: Some("s3cret"), ..Behaviour::default() });
    std::fs::write(place.path("ca.pem"), authority).unwrap();
    let url = format!("https://localhost:{}", service.port());
    let more = ["generate", "--target", &url, "--ca", "ca.pem", "--key-env", "SHOP_KEY", "--out", "secure"];
    let output = place.command("attack", &more).env("SHOP_KEY", "s3cret").output().unwrap();
    assert!(output.status.success(), "{}", crate::scene::said(&output));
    assert!(place.log("secure") == expected);
}
