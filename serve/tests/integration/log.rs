use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use artifact::asked;
use artifact::queries::QueryLog;
use service::black_box::BlackBox;

use crate::scene::{K, Scene, question};

#[test]
fn what_was_asked_is_a_query_log() {
    let scene = Scene::new();
    let serving = scene.serve("open", &["--log", "log"]);
    let history = [5, 8, 13, 21];
    for length in 1..=history.len() {
        for account in ["a", "b"] {
            assert_eq!(serving.post("/v1/recommend", &question(account, &history[..length], K)).status, 200);
        }
    }
    assert_eq!(serving.post("/v1/recommend", &question("c", &history, 7)).status, 200);
    assert_eq!(serving.post("/v1/recommend", &question("c", &history, 0)).status, 400);
    let (code, said) = serving.end();
    assert_eq!(code, Some(0), "{said}");
    let log = QueryLog::open(&scene.path("log/k-30/queries-000001.parquet")).unwrap();
    let found = log.read_group(0).unwrap();
    let prefixes: Vec<&[u32]> = (1..=history.len()).map(|length| &history[..length]).collect();
    let expected = scene.target("open").top_k(&prefixes, K).unwrap().ids;
    assert_eq!(found.len(), 2);
    assert!(found.iter().all(|query| query.sequence == history && query.answers == expected));
    let digest = artifact::digest::file(&scene.path("open/model.safetensors")).unwrap().blake3;
    assert_eq!((log.header().queries, log.header().target.as_ref()), (8, Some(&digest)));
    assert_eq!(asked::accounts(&scene.path("log/k-7")).unwrap().1, [history.to_vec()]);
}

#[test]
fn what_was_asked_is_its_owners_alone() {
    let scene = Scene::new();
    let serving = scene.serve("open", &["--log", "log"]);
    let mode = |name: &str| fs::metadata(scene.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(serving.post("/v1/recommend", &question("a", &[1], K)).status, 200);
    assert_eq!(mode("log/journal-000001"), 0o600);
    serving.end();
    assert_eq!((mode("log/k-30/queries-000001.parquet"), mode("log/asked-today.json")), (0o600, 0o600));
}

#[test]
fn a_service_that_is_killed_has_written_down_what_it_answered() {
    let scene = Scene::new();
    let mut answered: HashSet<Vec<u32>> = HashSet::new();
    for round in 0..5 {
        // Every other time in the middle of making Parquet, too.
        let every = if round % 2 == 0 { "3600" } else { "0" };
        let mut serving = scene.serve("open", &["--log", "log", "--log-every", every]);
        let address = serving.address;
        let asking: Vec<_> = (0..3)
            .map(|thread| {
                let mut client = crate::scene::Client::new(address);
                std::thread::spawn(move || {
                    let mut told = Vec::new();
                    // Histories that no other question has.
                    for number in 0..90 * 90 {
                        let history = vec![1 + round, 1 + thread, 1 + number % 90, 1 + number / 90];
                        let body = question("a", &history, 5).to_string();
                        let request = format!(
                            "POST /v1/recommend HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}",
                            body.len()
                        );
                        match client.send(request.as_bytes()) {
                            Some(answer) if answer.status == 200 => told.push(history),
                            _ => break,
                        }
                    }
                    told
                })
            })
            .collect();
        std::thread::sleep(Duration::from_millis(150 + 70 * u64::from(round)));
        serving.child.kill().unwrap();
        for thread in asking {
            answered.extend(thread.join().unwrap());
        }
    }
    assert!(answered.len() > 100, "{}", answered.len());
    // Whoever starts it again makes it Parquet.
    assert_eq!(scene.serve("open", &["--log", "log"]).end().0, Some(0));
    let (header, sequences) = asked::accounts(&scene.path("log/k-5")).unwrap();
    let written: HashSet<Vec<u32>> = sequences.iter().cloned().collect();
    assert!(answered.is_subset(&written), "{} answered, {} written", answered.len(), written.len());
    assert_eq!(header.queries as usize, written.len(), "nothing twice");
    let left: Vec<_> =
        fs::read_dir(scene.path("log")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with("journal")), "{left:?}");
}

#[test]
fn a_journal_that_is_old_becomes_parquet_while_the_service_goes_on() {
    let scene = Scene::new();
    let serving = scene.serve("open", &["--log", "log", "--log-every", "0"]);
    for length in 1..=3 {
        assert_eq!(serving.post("/v1/recommend", &question("a", &[4, 5, 6][..length], 5)).status, 200);
    }
    serving.end();
    let files = asked::files(&scene.path("log/k-5")).unwrap();
    assert!(files.len() >= 2, "{files:?}");
    assert_eq!(asked::accounts(&scene.path("log/k-5")).unwrap().1, [vec![4, 5, 6]]);
}

#[test]
fn where_the_log_is_gone_nobody_is_answered() {
    let scene = Scene::new();
    let serving = scene.serve("open", &["--log", "log"]);
    assert_eq!(serving.post("/v1/recommend", &question("a", &[1], K)).status, 200);
    fs::remove_dir_all(scene.path("log")).unwrap();
    for _ in 0..3 {
        assert_eq!(serving.post("/v1/recommend", &question("a", &[1], K)).status, 503);
    }
    let (code, said) = serving.end();
    assert!(code != Some(0) && said.contains("journal-000001: cannot be written"), "{said}");
}

#[test]
fn a_log_within_what_a_stage_wrote_is_refused() {
    let scene = Scene::new();
    fs::write(scene.path("data/stage.lock"), "").unwrap();
    for log in ["data", "data/log"] {
        let arguments = ["http", "--target", "open", "--listen", "127.0.0.1:0", "--log", log];
        scene.refused(&arguments, &format!("--log {log} lies in "));
        assert!(!scene.path("data/log").exists() && !scene.path("data/lock").exists());
    }
}
