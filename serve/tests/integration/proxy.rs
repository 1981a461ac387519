use std::time::{Duration, Instant};

use serde_json::json;
use service::black_box::BlackBox;

use crate::scene::{K, Scene, items, question};

fn proxy<'a>(upstream: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let arguments =
        ["proxy", "--upstream", upstream, "--guard", "guarded", "--device", "cpu", "--max-k", "40"];
    [&arguments[..], &["--listen", "127.0.0.1:0", "--timeout", "5"], more].concat()
}

#[test]
fn in_front_of_what_its_copy_copies_exactly_a_guard_answers_as_behind_it() {
    let scene = Scene::new();
    // Without the defence, and in the hands of others.
    let upstream = scene.serve("open", &["--log", "theirs"]);
    let address = format!("http://{}", upstream.address);
    let serving = scene.start(&proxy(&address, &["--log", "ours"]));
    let mut target = scene.target("guarded");
    let mut client = serving.client();
    // One account takes as people do, one from the end of its lists.
    for (account, place) in [("user", 0), ("thief", K - 1)] {
        let mut history = vec![5];
        for _ in 0..25 {
            let list = client.post("/v1/recommend", &question(account, &history, K), "").items();
            assert_eq!(list, target.top_k(&[&history], K).unwrap().ids, "{account} after {history:?}");
            history.push(list[place]);
        }
        // Forgotten, and asked about at once.
        let fresh = scene.start(&proxy(&address, &[]));
        let answer =
            fresh.post("/v1/recommend/batch", &json!({"requests": [question(account, &history, K)]}));
        assert_eq!(items(&answer.json()["answers"][0]), target.top_k(&[&history], K).unwrap().ids);
    }
    assert_eq!(serving.end().0, Some(0));
    upstream.end();
    let (header, sequences) = artifact::asked::accounts(&scene.path("ours/k-30")).unwrap();
    assert_eq!((header.queries, sequences.len()), (50, 2));
    // The recommender was asked once about each question, and once more about all of them for who was forgotten; for lists that are as much longer
    // as the watermark reaches.
    let (theirs, _) = artifact::asked::accounts(&scene.path("theirs/k-54")).unwrap();
    assert_eq!(theirs.queries, 50 + 2 * 26);
}

#[test]
fn what_is_remembered_is_not_asked_again() {
    let scene = Scene::new();
    let upstream = scene.serve("open", &["--log", "theirs"]);
    let serving = scene.start(&proxy(&format!("http://{}", upstream.address), &[]));
    let mut target = scene.target("guarded");
    let history: Vec<u32> = (0..12).map(|place| 1 + place * 7).collect();
    let mut ask = |account: &str, length: usize| {
        let list = serving.post("/v1/recommend", &question(account, &history[..length], K)).items();
        assert_eq!(list, target.top_k(&[&history[..length]], K).unwrap().ids, "{account}, {length}");
    };
    // At once, again, and with three items more than before: each beginning is asked about once, and each question itself.
    ask("a", 9);
    ask("a", 9);
    ask("a", 12);
    // Another account may be answered otherwise.
    ask("b", 9);
    upstream.end();
    let (theirs, _) = artifact::asked::accounts(&scene.path("theirs/k-54")).unwrap();
    assert_eq!(theirs.queries, 9 + 1 + 3 + 9);
}

#[test]
fn a_recommender_that_hangs_is_told_of_and_holds_up_no_end() {
    let scene = Scene::new();
    let upstream = scene.serve("open", &[]);
    let address = format!("http://{}", upstream.address);
    let mut serving = scene.start(&proxy(&address, &[]));
    assert_eq!(serving.post("/v1/recommend", &question("a", &[1], K)).status, 200);
    upstream.signal("-STOP");
    let answer = serving.post("/v1/recommend", &question("b", &[1, 2], K));
    assert!(answer.status == 504 && answer.body.contains("takes longer than 5 s"), "{answer:?}");
    // Its catalogue is asked for in vain, which takes longer than the service may take to end.
    serving.signal("-HUP");
    std::thread::sleep(Duration::from_millis(300));
    let begun = Instant::now();
    serving.signal("-TERM");
    assert_eq!(serving.child.wait().unwrap().code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn what_cannot_stand_in_front_is_refused_and_who_does_not_answer_is_told_of() {
    let scene = Scene::new();
    let upstream = scene.serve("open", &[]);
    let address = format!("http://{}", upstream.address);
    scene.refused(&proxy("open", &[]), "expected http://");
    let arguments = ["proxy", "--guard", "open", "--upstream", &address, "--listen", "127.0.0.1:0"];
    scene.refused(&arguments, "the defence is `none`, which changes no answer");
    std::fs::write(scene.path("items.txt"), "a\nb\nc\n").unwrap();
    scene.refused(&proxy(&address, &["--catalogue", "items.txt"]), "is a copy of another recommender than");

    // No list is longer than theirs.
    let short = scene.serve("open", &["--max-k", "7"]);
    let serving = scene.start(&proxy(&format!("http://{}", short.address), &[]));
    assert_eq!(serving.get("/v1/items").json()["max_k"], 7);
    assert_eq!(serving.post("/v1/recommend", &question("a", &[1], 8)).status, 400);

    let serving = scene.start(&proxy(&address, &[]));
    assert_eq!(serving.post("/v1/recommend", &question("a", &[1], K)).status, 200);
    upstream.end();
    let answer = serving.post("/v1/recommend", &question("b", &[1, 2], K));
    assert!(
        answer.status == 502 && answer.body.contains("behind this service does not answer"),
        "{answer:?}"
    );
    let (code, said) = serving.end();
    assert!(code == Some(0) && said.contains(&address), "{said}");
}
