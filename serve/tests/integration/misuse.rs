use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::Resource;
use serde_json::{Value, json};
use streams::{Purpose, Streams, below};

use crate::scene::{Client, K, Scene, question};

/// A request with something wrong in it, unlike the others; whatever is sent, it is no question.
fn malformed(number: u64) -> Vec<u8> {
    let mut stream = Streams::new(4).open(Purpose::Generation, 0, number, 0);
    let mut draw = |most: usize| below(&mut stream, most as u32) as usize;
    let good = question("a", &[1, 2, 3], K).to_string();
    let path = ["/v1/recommend", "/v1/recommend/batch"][draw(2)];
    let bodies: [Vec<u8>; 12] = [
        good.as_bytes()[..=draw(good.len() - 1)].to_vec(),
        (0..draw(200)).map(|_| draw(256) as u8).collect(),
        format!("{}1{}", "[".repeat(draw(5000)), "]".repeat(draw(5000))).into_bytes(),
        json!({"history": vec![draw(10_000) + 100; draw(20)], "k": 3}).to_string().into_bytes(),
        json!({"history": ["i1"], "k": -(draw(100) as i64)}).to_string().into_bytes(),
        json!({"history": ["i1"], "k": 31 + draw(1 << 30)}).to_string().replace("31", "31e9").into_bytes(),
        json!({"history": vec!["i1"; 1001 + draw(100)]}).to_string().into_bytes(),
        json!({"history": {"i1": draw(9)}}).to_string().into_bytes(),
        json!({"history": ["i1"], "account": "\u{7}".repeat(draw(300))}).to_string().into_bytes(),
        json!({"requests": vec![json!({"history": ["i1"], "k": 0}); draw(300)]}).to_string().into_bytes(),
        json!({"history": ["i1"], "exclude_seen": draw(9)}).to_string().into_bytes(),
        format!("{{\"history\": [\"i1\\u{:04x}\"]}}", 0xd800 + draw(0x800)).into_bytes(),
    ];
    let body = &bodies[draw(bodies.len())];
    let head = |method: &str, path: &str, length: String| {
        format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
        )
        .into_bytes()
    };
    match draw(8) {
        0 => head(["PUT", "GET", "DELETE", "TRACE", "get", "G T"][draw(6)], path, "0".to_owned()),
        1 => head("POST", &format!("/v1/{}", "x".repeat(draw(3000))), "0".to_owned()),
        2 => [
            head("POST", path, ["-1", "99999999999999999999", "x", "1, 2"][draw(4)].to_owned()),
            body.clone(),
        ]
        .concat(),
        _ => [head("POST", path, body.len().to_string()), body.clone()].concat(),
    }
}

#[test]
fn a_thousand_malformed_requests_are_told_so() {
    let scene = Scene::new();
    let serving = scene.serve("guarded", &["--timeout", "2"]);
    let mut statuses = std::collections::BTreeMap::new();
    for number in 0..1000 {
        let request = malformed(number);
        let answer = Client::new(serving.address).send(&request);
        let status = answer.as_ref().map(|answer| answer.status);
        assert!(
            matches!(status, Some(400..=499)),
            "{number}: {}\n{answer:?}",
            String::from_utf8_lossy(&request[..request.len().min(300)])
        );
        *statuses.entry(status).or_insert(0) += 1;
    }
    assert!(statuses.len() >= 3, "{statuses:?}");
    assert_eq!(serving.post("/v1/recommend", &question("a", &[1], K)).status, 200);
    let (code, said) = serving.end();
    assert!(code == Some(0) && !said.contains("panicked"), "{said}");
}

#[test]
fn huge_bodies_are_not_read() {
    let scene = Scene::new();
    let serving = scene.serve("open", &["--max-body", "1000"]);
    let long = question("a", &[1; 400], K);
    let answer = serving.post("/v1/recommend", &long);
    assert!(answer.status == 413 && answer.body.contains("longer than 1000 bytes"), "{answer:?}");
    // In pieces, whose sum nobody has announced.
    let mut client = serving.client();
    client
        .0
        .get_mut()
        .write_all(b"POST /v1/recommend HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        .unwrap();
    let piece = format!("400\r\n{}\r\n", " ".repeat(0x400));
    let mut sent = 0;
    while sent < 1000 && client.0.get_mut().write_all(piece.as_bytes()).is_ok() {
        sent += 1;
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(sent < 1000, "a megabyte was read");
}

#[test]
fn slow_clients_are_cut_off_and_hold_nobody_up() {
    let scene = Scene::new();
    let serving = scene.serve("open", &["--timeout", "1"]);
    let begun = Instant::now();
    let send = |bytes: &[u8]| {
        let mut stream = TcpStream::connect(serving.address).unwrap();
        stream.write_all(bytes).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    };
    // A head that never ends, a body that never comes, nothing at all, and nothing after an answer.
    let request = "POST /v1/recommend HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n";
    let slow = [
        send(b"POST /v1/recommend HT"),
        send(format!("{request}{{").as_bytes()),
        send(b""),
        send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"),
    ];
    assert_eq!(serving.post("/v1/recommend", &question("a", &[1], K)).status, 200);
    assert!(begun.elapsed() < Duration::from_millis(900), "nobody waited");
    let texts = slow.map(|mut stream| {
        let mut text = String::new();
        _ = stream.read_to_string(&mut text);
        text
    });
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(texts[1].starts_with("HTTP/1.1 408 ") && texts[1].contains("longer than 1 s"), "{texts:?}");
    assert!(texts[3].starts_with("HTTP/1.1 200 "), "{texts:?}");
}

#[test]
fn connections_are_so_many_and_no_more() {
    let scene = Scene::new();
    // As many as this process may have, up to ten thousand; the last thousand of them find no place.
    let mut limit = rustix::process::getrlimit(Resource::Nofile);
    limit.current = limit.maximum.map_or(limit.current, Some);
    rustix::process::setrlimit(Resource::Nofile, limit).unwrap();
    let most = limit.current.map_or(usize::MAX, |files| files as usize).saturating_sub(1000).min(10_000);
    assert!(most >= 2000, "this process may open {most} files and a thousand, which is no test");
    let (places, timeout) = (most - 1000, 5);
    let connections = places.to_string();
    let serving = scene.serve("open", &["--timeout", &timeout.to_string(), "--connections", &connections]);
    let open = |serving: &crate::scene::Serving| -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", serving.child.id())).unwrap().count()
    };
    let before = open(&serving);
    let begun = Instant::now();
    let mut idle = Vec::with_capacity(most);
    let mut seen = 0;
    while idle.len() < most {
        idle.extend((0..500).map(|_| TcpStream::connect(serving.address).unwrap()));
        seen = seen.max(open(&serving));
        assert!(seen <= before + places + 1, "{seen} after {before}");
    }
    assert!(seen >= before + places / 2, "{seen} after {before}, {:?}", begun.elapsed());
    // Whoever comes now waits until the idle ones have been sent away, those of the last thousand too.
    assert_eq!(serving.post("/v1/recommend", &question("a", &[1], K)).status, 200);
    assert!(begun.elapsed() < Duration::from_secs(4 * timeout), "{:?}", begun.elapsed());
    drop(idle);
}

#[test]
fn what_cannot_be_served_is_refused_before_it_is_served() {
    let scene = Scene::new();
    let http = |more: &[&'static str]| [&["http", "--device", "cpu"], more].concat();
    let serving = scene.serve("open", &[]);
    let taken = serving.address.to_string();
    let output = scene.ended(&["http", "--device", "cpu", "--target", "open", "--listen", &taken]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains(&format!("cannot listen on {taken}; name another"))
    );

    let other = scene.path("elsewhere");
    std::fs::create_dir(&other).unwrap();
    let rows: [u32; 3] = [1, 2, 1];
    let sequence = artifact::dataset::UserSequence { train: &rows[..1], valid: rows[1], test: Some(rows[2]) };
    artifact::dataset::write(&other, &["x", "y"], &["u"], [sequence]).unwrap();
    scene.refused(
        &http(&["--target", "open", "--listen", "127.0.0.1:0", "--data", "elsewhere"]),
        "was trained on other items",
    );
    std::fs::rename(scene.path("guarded/answer.key"), scene.path("away.key")).unwrap();
    scene.refused(
        &http(&["--target", "guarded", "--listen", "127.0.0.1:0"]),
        "guarded/answer.key: no such file",
    );
    service::key::Key::of_seed(4).write(&scene.path("wrong.key")).unwrap();
    scene.refused(
        &http(&["--target", "guarded", "--listen", "127.0.0.1:0", "--key", "wrong.key"]),
        "the key has the fingerprint",
    );
    let output = scene.ended(&["http", "--target", "open", "--listen", "localhost"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.code() == Some(2) && said.contains("such as 127.0.0.1:8080 or localhost:8080"),
        "{said}"
    );
    let named = scene.start(&["http", "--target", "open", "--listen", "localhost:0", "--device", "cpu"]);
    assert!(named.address.ip().is_loopback());
    scene.refused(&http(&["--target", "open", "--listen", "0.0.0.0:0"]), "give --keys FILE");
    scene.refused(
        &http(&["--target", "open", "--listen", "0.0.0.0:0", "--open", "--demo"]),
        "--demo shows what the defence hides",
    );
    scene.refused(
        &http(&["--target", "open", "--keys", "none.yaml", "--listen", "127.0.0.1:0"]),
        "none.yaml: no such file",
    );
    scene.refused(&http(&["--target", "nowhere", "--listen", "127.0.0.1:0"]), "nowhere/model.safetensors");
}

#[test]
fn a_batch_names_the_question_that_cannot_be_answered() {
    let scene = Scene::new();
    let serving = scene.serve("open", &["--log", "log"]);
    let mut requests: Vec<Value> = vec![question("a", &[1], K); 3];
    requests[2]["history"][0] = "i91".into();
    let answer = serving.post("/v1/recommend/batch", &json!({"requests": requests}));
    assert_eq!(answer.status, 400);
    assert_eq!(
        answer.json()["detail"],
        "requests[2]: history[0] is \"i91\", which is no item of this catalogue (GET /v1/items)"
    );
    for (path, body, expected) in [
        ("/v1/recommend", json!([7, ["i1"], 3, false]), "invalid type: sequence, expected an object"),
        ("/v1/recommend/batch", json!([[question("a", &[1], K)]]), "expected an object"),
        ("/v1/recommend", json!({"history": ["i1"], "k": "3"}), "expected a whole number of 0 or more"),
    ] {
        let answer = serving.post(path, &body);
        let detail = answer.json()["detail"].to_string();
        assert!(answer.status == 400 && detail.contains(expected), "{body}: {detail}");
        assert!(!detail.contains("struct") && !detail.contains("usize"), "{detail}");
    }
    serving.end();
    assert!(!scene.path("log/k-30").exists(), "none of them was answered");
}
