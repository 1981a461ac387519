use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use service::black_box::BlackBox;
use streams::{Purpose, Streams, below};

use crate::scene::{ITEMS, K, Scene, Serving, question};

fn make(scene: &Scene, arguments: &[&str]) -> String {
    let output = scene.ended(&[&["key", "--keys", "keys.yaml"], arguments].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn bearer(key: &str) -> String {
    format!("Authorization: Bearer {key}\r\n")
}

#[test]
fn a_key_is_shown_once_and_its_file_holds_a_hash() {
    let scene = Scene::new();
    let key = make(&scene, &["--name", "shop"]);
    let file = fs::read_to_string(scene.path("keys.yaml")).unwrap();
    assert!(key.starts_with("gro_") && key.len() == 68 && !file.contains(&key[4..]), "{key} {file}");
    assert_eq!(fs::metadata(scene.path("keys.yaml")).unwrap().permissions().mode() & 0o777, 0o600);
    scene.refused(&["key", "--keys", "keys.yaml", "--name", "shop"], "shop has a key");
    assert_eq!(fs::read_to_string(scene.path("keys.yaml")).unwrap(), file);
    let other = make(&scene, &["--name", "shop", "--replace"]);
    assert_ne!(key, other);
    scene.refused(&["key", "--keys", "open/model.safetensors", "--name", "a"], "cannot be read");
    scene.refused(&["key", "--keys", "keys.yaml", "--name", "b", "--replace"], "no key is called b");
    scene.refused(
        &["key", "--keys", "nowhere/keys.yaml", "--name", "a"],
        "there is no folder nowhere; make it first",
    );
    // Others can read who has keys, and could put their own there.
    fs::set_permissions(scene.path("keys.yaml"), fs::Permissions::from_mode(0o644)).unwrap();
    let serve = ["http", "--target", "open", "--listen", "127.0.0.1:0", "--keys", "keys.yaml"];
    for arguments in [&serve[..], &["key", "--keys", "keys.yaml", "--name", "late"]] {
        scene.refused(arguments, "others can read this file (mode 644); chmod 600 it");
    }
}

#[test]
fn keys_that_are_made_at_once_are_all_kept() {
    let scene = Scene::new();
    let made: Vec<String> = std::thread::scope(|scope| {
        let making: Vec<_> = (0..16)
            .map(|number| {
                let scene = &scene;
                scope.spawn(move || make(scene, &["--name", &format!("shop-{number}")]))
            })
            .collect();
        making.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let file = fs::read_to_string(scene.path("keys.yaml")).unwrap();
    assert_eq!((made.len(), file.matches("- name: shop-").count()), (16, 16), "{file}");
}

#[test]
#[cfg(target_os = "linux")]
fn a_key_that_nobody_saw_is_not_kept() {
    let scene = Scene::new();
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output =
        scene.command(&["key", "--keys", "keys.yaml", "--name", "shop"]).stdout(full).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("the key cannot be printed"), "{said}");
    assert!(!scene.path("keys.yaml").exists());
}

#[test]
fn thieves_accounts_of_a_shop_speak_against_its_new_ones_and_against_no_other() {
    let scene = Scene::new();
    let (thief, shop) = (make(&scene, &["--name", "thief"]), make(&scene, &["--name", "shop"]));
    let serving = scene.serve("guarded", &["--keys", "keys.yaml"]);
    let mut client = serving.client();
    let mut ask = |account: &str, history: &[u32], key: &str| {
        client.post("/v1/recommend", &question(account, history, K), &bearer(key)).items()
    };
    let mut stream = Streams::new(5).open(Purpose::Generation, 0, 0, 0);
    for account in 0..30 {
        let history: Vec<u32> = (0..12).map(|_| 1 + below(&mut stream, ITEMS as u32)).collect();
        for length in 1..=12 {
            ask(&account.to_string(), &history[..length], &thief);
        }
    }
    let honest = scene.target("guarded").top_k(&[&[7]], K).unwrap().ids;
    assert_eq!(ask("new", &[7], &shop), honest);
    assert_ne!(ask("new", &[7], &thief)[..5], honest[..5], "decoys from the first question on");
}

#[test]
fn who_has_no_key_is_not_answered_and_an_account_asks_for_itself() {
    let scene = Scene::new();
    let (shop, alice) =
        (make(&scene, &["--name", "shop"]), make(&scene, &["--name", "alice", "--kind", "account"]));
    let serving = scene.serve("open", &["--keys", "keys.yaml", "--log", "log"]);
    let ask = |account: &str, headers: &str| {
        serving.client().post("/v1/recommend", &question(account, &[1], 3), headers)
    };
    for headers in
        ["", "Authorization: Bearer gro_0\r\n", "Authorization: Basic YTpi\r\n", &bearer(&shop[..67])]
    {
        let answer = ask("7", headers);
        assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("Bearer")), "{answer:?}");
        assert!(!answer.body.contains("items"), "{answer:?}");
    }
    assert_eq!(serving.get("/v1/items").status, 401);
    assert_eq!(serving.get("/healthz").status, 200);
    assert_eq!(ask("7", &bearer(&shop)).status, 200);
    assert_eq!(ask("alice", &bearer(&alice)).status, 200);
    let answer = ask("bob", &bearer(&alice));
    assert_eq!((answer.status, answer.body.contains("another account")), (403, true), "{answer:?}");
    let nameless = json!({"history": ["i1", "i2"], "k": 3});
    assert_eq!(serving.client().post("/v1/recommend", &nameless, &bearer(&alice)).status, 200);
    let (code, said) = serving.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains(&shop) && !said.contains("gro_"), "{said}");
    // A client's accounts are its own, and what an account asked without its name is the account's.
    let (header, sequences) = artifact::asked::accounts(&scene.path("log/k-3")).unwrap();
    assert_eq!((header.queries, sequences), (3, vec![vec![1], vec![1, 2]]));
    let bytes = fs::read(scene.path("log/k-3/queries-000001.parquet")).unwrap();
    let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(holds("shop/7") && holds("alice"), "their names");
}

#[test]
fn a_key_asks_as_much_as_it_may() {
    let scene = Scene::new();
    let daily = make(&scene, &["--name", "daily", "--per-day", "3"]);
    let quick = make(&scene, &["--name", "quick", "--per-second", "2"]);
    let serving = scene.serve("open", &["--keys", "keys.yaml"]);
    let several = |count: usize, key: &str| {
        let requests = vec![question("a", &[1], 3); count];
        serving.client().post("/v1/recommend/batch", &json!({"requests": requests}), &bearer(key))
    };
    assert_eq!(several(2, &daily).status, 200);
    let answer = several(2, &daily);
    assert_eq!(answer.status, 429, "{answer:?}");
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=24 * 60 * 60).contains(&wait), "{wait}");
    assert_eq!(several(1, &daily).status, 200, "what was refused is not counted");
    assert_eq!(several(3, &quick).status, 413, "they can never be asked at once");
    assert_eq!(several(2, &quick).status, 200);
    let answer = several(2, &quick);
    assert_eq!((answer.status, answer.header("retry-after")), (429, Some("1")), "{answer:?}");
    // Somebody else is not held up.
    assert_eq!(several(1, &daily).status, 429);
}

#[test]
fn keys_are_read_again_and_counts_go_on() {
    let scene = Scene::new();
    let shop = make(&scene, &["--name", "shop", "--per-day", "2"]);
    let serving = scene.serve("open", &["--keys", "keys.yaml"]);
    let status =
        |key: &str| serving.client().post("/v1/recommend", &question("a", &[1], 3), &bearer(key)).status;
    assert_eq!(status(&shop), 200);
    let late = make(&scene, &["--name", "late"]);
    assert_eq!(status(&late), 401);
    serving.signal("-HUP");
    let begun = std::time::Instant::now();
    while status(&late) == 401 {
        assert!(begun.elapsed().as_secs() < 20);
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!((status(&shop), status(&shop)), (200, 429));
}

#[test]
fn a_day_has_its_questions_however_often_the_service_is_started() {
    let scene = Scene::new();
    let (shop, other) =
        (make(&scene, &["--name", "shop", "--per-day", "5"]), make(&scene, &["--name", "other"]));
    let ask = |serving: &Serving, count: usize, key: &str| {
        let requests = vec![question("a", &[1], 3); count];
        let answer =
            serving.client().post("/v1/recommend/batch", &json!({"requests": requests}), &bearer(key));
        answer.status
    };
    let start = || scene.serve("open", &["--keys", "keys.yaml", "--log", "log"]);
    let mut serving = start();
    assert_eq!((ask(&serving, 2, &shop), ask(&serving, 7, &other)), (200, 200));
    // What is asked is written down within a second, and then nothing is lost with the service.
    let counted = || fs::read_to_string(scene.path("log/asked-today.json")).unwrap();
    let begun = std::time::Instant::now();
    while !counted().contains(r#""asked":{"other":7,"shop":2}"#) {
        assert!(begun.elapsed().as_secs() < 20, "{}", counted());
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    serving.child.kill().unwrap();
    drop(serving);
    let serving = start();
    assert_eq!((ask(&serving, 4, &shop), ask(&serving, 2, &shop)), (429, 200));
    assert_eq!(serving.end().0, Some(0));
    assert!(counted().contains(r#""shop":4"#), "{}", counted());
    // Neither another key of that name nor other rates begin anew.
    let shop = make(&scene, &["--name", "shop", "--replace", "--per-day", "6"]);
    let serving = start();
    assert_eq!((ask(&serving, 3, &shop), ask(&serving, 2, &shop), ask(&serving, 1, &shop)), (429, 200, 429));
    drop(serving);
    // Of another day, nothing is counted.
    fs::write(scene.path("log/asked-today.json"), r#"{"day":1,"asked":{"shop":6}}"#).unwrap();
    let serving = start();
    assert_eq!(ask(&serving, 6, &shop), 200);
    drop(serving);
    fs::write(scene.path("log/asked-today.json"), "{").unwrap();
    let arguments =
        ["http", "--target", "open", "--listen", "127.0.0.1:0", "--keys", "keys.yaml", "--log", "log"];
    scene.refused(&arguments, "asked-today.json: no counts of a day; remove it");
    // And nothing was begun in a directory that is refused.
    fs::create_dir(scene.path("fresh")).unwrap();
    fs::write(scene.path("fresh/asked-today.json"), "{").unwrap();
    let arguments = ["http", "--target", "open", "--listen", "127.0.0.1:0", "--log", "fresh"];
    scene.refused(&arguments, "asked-today.json: no counts of a day; remove it");
    assert_eq!(fs::read_dir(scene.path("fresh")).unwrap().count(), 1);
}

#[test]
fn without_a_log_it_is_said_that_a_day_begins_with_the_service() {
    let scene = Scene::new();
    let serving = scene.serve("open", &["--per-day", "9"]);
    let (code, said) = serving.end();
    assert!(code == Some(0) && said.contains("without --log, the day's count begins anew"), "{said}");
}
