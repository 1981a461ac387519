//! The laboratory's own service, `gro-serve`, as the target: the same bytes as from files, whoever is killed in between.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::Duration;

use artifact::asked;
use streams::{Purpose, Streams, below};

use crate::scene::{Place, QUESTIONS, said, scene};

/// A process, such as a service of `protected-guard`, killed when it is dropped.
struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        // It may be dead already.
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// Starts it at a port, 0 for a free one. Returns where it listens.
fn start(place: &Place, port: u16, more: &[&str]) -> (Serving, u16) {
    let (target, data) = (scene().join("protected-guard"), scene().join("data"));
    let address = format!("127.0.0.1:{port}");
    let mut command = place.bare("serve");
    command.args([
        "http",
        "--target",
        target.to_str().unwrap(),
        "--data",
        data.to_str().unwrap(),
        "--listen",
        &address,
    ]);
    let mut child = command.args(more).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let port = line.trim().rsplit_once(':').unwrap_or_else(|| panic!("it does not listen: {line:?}")).1;
    (Serving(child), port.parse().unwrap())
}

fn from_files(place: &Place) -> Vec<u8> {
    place.asked(scene().join("protected-guard").to_str().unwrap(), "from-files", &[]);
    place.log("from-files")
}

#[test]
fn the_service_answers_a_thief_as_files_do() {
    let place = Place::new();
    let expected = from_files(&place);
    let made = place.bare("serve").args(["key", "--keys", "keys.yaml", "--name", "thief"]).output().unwrap();
    let key = String::from_utf8(made.stdout).unwrap();
    let (serving, port) = start(&place, 0, &["--keys", "keys.yaml", "--log", "log"]);
    let url = format!("http://127.0.0.1:{port}");
    let refused = place.refused(&url, &[]);
    assert!(refused.contains("a key is needed"), "{refused}");
    let more = ["generate", "--target", &url, "--key-env", "THE_KEY", "--out", "served"];
    let output = place.command("attack", &more).env("THE_KEY", key.trim()).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert!(place.log("served") == expected);
    // And what the service wrote down is what it was asked.
    let id = serving.0.id().to_string();
    std::process::Command::new("kill").args(["-TERM", &id]).status().unwrap();
    let mut serving = serving;
    assert_eq!(serving.0.wait().unwrap().code(), Some(0));
    let (header, sequences) = asked::accounts(&place.path("log/k-10")).unwrap();
    assert_eq!(header.queries as usize, QUESTIONS);
    let written: BTreeSet<Vec<u32>> = sequences.into_iter().collect();
    let asked: BTreeSet<Vec<u32>> = place.queries("served").into_iter().map(|query| query.sequence).collect();
    assert_eq!(written, asked);
}

#[test]
fn whoever_is_killed_goes_on_and_nothing_is_lost() {
    let place = Place::new();
    let expected = from_files(&place);
    // Slowed down, so that both are killed in the middle of it.
    let (mut serving, port) = start(&place, 0, &["--log", "log"]);
    let url = format!("http://127.0.0.1:{port}");
    let generate = [
        "generate",
        "--target",
        &url,
        "--out",
        "killed",
        "--resume",
        "--rate",
        "40",
        "--concurrency",
        "2",
        "--retries",
        "50",
    ];
    let thief = || place.command("attack", &generate).stderr(Stdio::null()).spawn().unwrap();
    let mut stream = Streams::new(3).open(Purpose::Generation, 0, 0, 0);
    let (mut thieves, mut services) = (0, 0);
    let mut thieving = Serving(thief());
    loop {
        let moment = Duration::from_millis(150 + u64::from(below(&mut stream, 500)));
        let begun = std::time::Instant::now();
        let ended = loop {
            match thieving.0.try_wait().unwrap() {
                Some(status) => break Some(status),
                None if begun.elapsed() > moment && thieves + services < 6 => break None,
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        if let Some(status) = ended {
            assert!(status.success());
            break;
        }
        // In turns, each at moments of its own; the thief who is alive asks again until the service is there.
        if thieves <= services {
            drop(thieving);
            thieves += 1;
            thieving = Serving(thief());
        } else {
            drop(serving);
            services += 1;
            serving = start(&place, port, &["--log", "log"]).0;
        }
    }
    assert!(thieves >= 1 && services >= 1, "{thieves} thieves and {services} services were killed");
    assert!(place.log("killed") == expected);
    drop(serving);
    // A last start makes the rest Parquet.
    drop(start(&place, 0, &["--log", "log"]));
    let (header, _) = asked::accounts(&place.path("log/k-10")).unwrap();
    // Answered more than once are only questions whose answers did not arrive: at most what was on its way when somebody died.
    let most = QUESTIONS + (thieves + services) * 2 * 8;
    assert!((QUESTIONS..=most).contains(&(header.queries as usize)), "{} of {most}", header.queries);
}

#[test]
fn a_key_of_few_questions_a_second_is_asked_no_more() {
    let place = Place::new();
    let made = place
        .bare("serve")
        .args(["key", "--keys", "keys.yaml", "--name", "thief", "--per-second", "5"])
        .output()
        .unwrap();
    let key = String::from_utf8(made.stdout).unwrap();
    let (_serving, port) = start(&place, 0, &["--keys", "keys.yaml"]);
    let url = format!("http://127.0.0.1:{port}");
    let few = ["--set", "generate.sequences=8", "--set", "generate.questions=2", "--budget", "16"];
    place.asked(scene().join("protected-guard").to_str().unwrap(), "from-files", &few[..4]);
    let generate = ["generate", "--target", &url, "--key-env", "THE_KEY", "--concurrency", "1"];
    // Eight questions go together where nothing is known of the limit, and then one by one.
    let data = scene().join("data");
    let unknown = ["--catalogue", data.to_str().unwrap(), "--rate", "40"];
    for (out, more) in [("told", &[][..]), ("unknown", &unknown)] {
        let arguments = [&generate[..], &few, &["--out", out], more].concat();
        let output = place.command("attack", &arguments).env("THE_KEY", key.trim()).output().unwrap();
        let log = said(&output);
        assert!(
            output.status.success() && log.contains("16 questions asked, 16 answered, 0 lost"),
            "{out}: {log}"
        );
        if out == "told" {
            assert!(log.contains("lets 5 questions a second be asked"), "{log}");
            assert!(place.log(out) == place.log("from-files"));
        }
    }
}

/// The lines of a document that begin with `word`, for a small catalogue and a target that is at hand.
fn commands(document: &str, word: &str) -> Vec<String> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(document);
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().filter(|line| line.starts_with(word));
    let fitted = lines.map(|line| line.replace("181", "18").replace("258", "25"));
    fitted.collect()
}

#[test]
fn what_the_documents_tell_one_to_type_works() {
    let place = Place::new();
    std::fs::create_dir_all(place.path("out/ml-100k-sas")).unwrap();
    std::fs::create_dir_all(place.path("out/ml-100k")).unwrap();
    for (name, target) in [
        ("ml-100k-sas/target", "target"),
        ("ml-100k-sas/protected-guard", "protected-guard"),
        ("ml-100k/data", "data"),
    ] {
        std::os::unix::fs::symlink(scene().join(target), place.path("out").join(name)).unwrap();
    }
    let binaries =
        std::env::current_exe().unwrap().parent().and_then(std::path::Path::parent).unwrap().to_owned();
    let shell = |line: &str| {
        let path = format!("{}:{}", binaries.display(), std::env::var("PATH").unwrap());
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &format!("exec {line}")]).env("PATH", path).current_dir(place.path("."));
        command
    };
    let once =
        [commands("README.md", "gro-serve once"), commands("docs/service.md", "gro-serve once")].concat();
    assert_eq!(once.len(), 2);
    for line in once {
        let output = shell(&line).output().unwrap();
        let table = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && table.starts_with("place  id"), "{line}: {table}");
    }
    let served =
        [commands("README.md", "gro-serve http"), commands("docs/service.md", "gro-serve http")].concat();
    let asked = commands("docs/service.md", "curl -s http://");
    assert!(served.len() >= 2 && asked.len() == 1, "{served:?} {asked:?}");
    // The other examples listen for the world.
    for line in served.iter().filter(|line| !line.contains("--listen")) {
        let line = line.split('#').next().unwrap();
        let mut child = shell(&format!("{line} --listen 127.0.0.1:0"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
        let serving = Serving(child);
        let port = said.trim().rsplit_once(':').unwrap_or_else(|| panic!("{line}: {said:?}")).1;
        let output = shell(&asked[0].replace("8080", port)).env("NO_PROXY", "*").output().unwrap();
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(answer["items"].as_array().unwrap().len(), 5, "{answer}");
        drop(serving);
    }
}
