use std::fs;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use service::black_box::BlackBox;

use crate::scene::{K, Scene, question};

#[test]
fn a_signal_ends_it_when_everything_is_answered() {
    let scene = Scene::new();
    let serving = scene.serve("open", &["--log", "log"]);
    let address = serving.address;
    let (answered, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = crate::scene::Client::new(address);
                while !stop.load(Ordering::Relaxed) {
                    let body = question("a", &[1, 2], K).to_string();
                    let request = format!(
                        "POST /v1/recommend HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}",
                        body.len()
                    );
                    match client.send(request.as_bytes()) {
                        Some(answer) => {
                            assert_eq!(answer.status, 200);
                            answered.fetch_add(1, Ordering::Relaxed);
                        }
                        // The connection was closed between two questions.
                        None => break,
                    }
                }
            });
        }
        std::thread::sleep(Duration::from_millis(300));
        let begun = Instant::now();
        let (code, said) = serving.end();
        stop.store(true, Ordering::Relaxed);
        assert_eq!(code, Some(0), "{said}");
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        assert!(said.contains("what was asked is answered, and the service ends"), "{said}");
    });
    let (header, _) = artifact::asked::accounts(&scene.path("log/k-30")).unwrap();
    let told = answered.load(Ordering::Relaxed) as u64;
    assert!(told > 20 && header.queries >= told && header.queries <= told + 4, "{told} {}", header.queries);
}

#[test]
fn a_client_who_says_no_more_holds_up_the_end_for_seconds_only() {
    let scene = Scene::new();
    let serving = scene.serve("open", &["--log", "log", "--timeout", "60"]);
    let mut stuck = serving.client();
    let request = b"POST /v1/recommend HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{";
    stuck.0.get_mut().write_all(request).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let begun = Instant::now();
    let (code, said) = serving.end();
    assert!(code == Some(0) && said.contains("still open after 5 s are cut"), "{said}");
    assert!(begun.elapsed() < Duration::from_millis(7500), "{:?}", begun.elapsed());
}

#[test]
fn another_target_takes_over_and_no_request_is_lost() {
    let scene = Scene::new();
    fs::create_dir(scene.path("live")).unwrap();
    fs::copy(scene.path("open/model.safetensors"), scene.path("live/model.safetensors")).unwrap();
    let serving = scene.serve("live", &["--log", "log"]);
    let (first, second) = {
        let list = |answer: crate::scene::Answer| answer.items();
        let other = scene.serve("other", &[]);
        let body = question("a", &[1, 2], K);
        (list(serving.post("/v1/recommend", &body)), list(other.post("/v1/recommend", &body)))
    };
    assert_eq!(first, scene.target("open").top_k(&[&[1, 2]], K).unwrap().ids);
    assert_ne!(first, second);
    let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let seen = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..3)
            .map(|_| {
                let mut client = serving.client();
                let (stop, answered) = (&stop, &answered);
                scope.spawn(move || {
                    let mut lists = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        lists.push(client.post("/v1/recommend", &question("a", &[1, 2], K), "").items());
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                    lists
                })
            })
            .collect();
        let begun = Instant::now();
        while answered.load(Ordering::Relaxed) < 50 {
            assert!(begun.elapsed() < Duration::from_secs(20));
            std::thread::sleep(Duration::from_millis(1));
        }
        // A file is put in the place of the other at once.
        fs::copy(scene.path("other/model.safetensors"), scene.path("live/new")).unwrap();
        fs::rename(scene.path("live/new"), scene.path("live/model.safetensors")).unwrap();
        serving.signal("-HUP");
        let begun = Instant::now();
        while serving.post("/v1/recommend", &question("a", &[1, 2], K)).items() != second {
            assert!(begun.elapsed() < Duration::from_secs(20));
        }
        stop.store(true, Ordering::Relaxed);
        asking.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(seen.iter().all(|list| *list == first || *list == second), "every answer is one of the two");
    assert!(seen.contains(&first));
    // What cannot be read changes nothing.
    fs::write(scene.path("live/model.safetensors"), b"damaged").unwrap();
    serving.signal("-HUP");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(serving.post("/v1/recommend", &question("a", &[1, 2], K)).items(), second);
    assert!(serving.get("/metrics").body.contains("gro_reloads_total 1"));
    let (code, said) = serving.end();
    assert!(code == Some(0) && said.contains("not read again, all stays as it was"), "{said}");
    // Each file of the log is of one target.
    let files = artifact::asked::files(&scene.path("log/k-30")).unwrap();
    let target = |path| artifact::queries::QueryLog::open(path).unwrap().header().target.clone().unwrap();
    assert_eq!(files.len(), 2);
    assert_ne!(target(&files[0]), target(&files[1]));
}

#[test]
fn it_tells_of_itself_and_of_nobody_else() {
    let scene = Scene::new();
    let serving = scene.serve("guarded", &[]);
    assert_eq!((serving.get("/healthz").body, serving.get("/readyz").status), ("alive\n".to_owned(), 200));
    for length in 1..=12 {
        serving.post("/v1/recommend", &question("secret-account", &[7; 12][..length], K));
    }
    serving.post("/v1/recommend", &question("secret-account", &[7], 0));
    let told = serving.get("/metrics").body;
    assert!(told.contains("gro_requests_total{path=\"/v1/recommend\",status=\"200\"} 12"), "{told}");
    assert!(told.contains("gro_requests_total{path=\"/v1/recommend\",status=\"400\"} 1"), "{told}");
    assert!(told.contains("gro_questions_total 12") && told.ends_with("# EOF\n"), "{told}");
    assert!(!told.contains("secret-account") && !told.contains("i7"), "{told}");
    let (_, said) = serving.end();
    assert!(!said.contains("secret-account"), "{said}");
}
