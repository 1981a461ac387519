#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::io::Write as _;
use std::process::Command;

use serde_json::json;

use crate::scene::{Scene, USERS};

fn ranks(hits: usize) -> Vec<Option<u32>> {
    (0..USERS).map(|user| Some(if user < hits { 1 } else { 30 })).collect()
}

/// Two runs on a dataset that is there, curves, detection, a history, and one that is being written.
fn scene() -> Scene {
    let scene = Scene::new();
    let dataset = scene.dataset("data", "item 1");
    let sequences = artifact::digest::file(&scene.path("data/sequences.parquet")).unwrap().blake3;
    scene.evaluated("eval-none", "none", 0.30, &ranks(20), &ranks(18));
    scene.evaluated("eval-<gro>", "gro", 0.29, &ranks(12), &ranks(2));
    for run in ["eval-none", "eval-<gro>"] {
        let protocol = format!("{run}/protocol.json");
        scene.amend(&protocol, "/fingerprint", |value| *value = dataset.fingerprint().into());
        scene.amend(&protocol, "/sequences", |value| *value = sequences.clone().into());
    }
    let theft = ["theft", "--quiet", "--out", "theft", "--runs", "eval-none", "eval-<gro>"];
    assert_eq!(scene.evaluate(&theft).code, 0);
    std::fs::create_dir(scene.path("detect")).unwrap();
    let detected = json!({
        "fingerprint": dataset.fingerprint(), "sequences": sequences, "users": 200,
        "thieves": [{ "name": "asked", "detectors": [{
            "detector": "guard", "area": { "mean": 0.9, "low": 0.8, "high": 0.95 }, "roc": [[0.0, 0.0], [0.1, 0.8], [1.0, 1.0]],
        }]}],
    });
    std::fs::write(scene.path("detect/detect.json"), detected.to_string()).unwrap();
    for (directory, text) in [
        ("target", "epoch,loss,ndcg@10\n0,,0.01\n1,5.5,0.04\n2,5.0,0.06\n"),
        (".copy.partial-x7", "epoch,loss,agr@10\n0,,0.1\n1,4.5,0.4\n2,4.0,0."),
    ] {
        std::fs::create_dir(scene.path(directory)).unwrap();
        std::fs::write(scene.path(directory).join("history.csv"), text).unwrap();
    }
    scene
}

const ALL: [&str; 15] = [
    "report",
    "--quiet",
    "--out",
    "report",
    "--runs",
    "eval-none",
    "eval-<gro>",
    "--data",
    "data",
    "--theft",
    "theft",
    "--detect",
    "detect",
    "--histories",
    "target",
];

fn made(scene: &Scene) -> String {
    let ended = scene.evaluate(&[&ALL[..], &["copy"]].concat());
    assert_eq!(ended.code, 0, "{}", ended.err);
    std::fs::read_to_string(scene.path("report/report.html")).unwrap()
}

#[test]
fn the_page_shows_all_that_it_is_given_with_captions_and_numbers() {
    let html = made(&scene());
    for title in [
        "Target against copy under each defence",
        "What a defence costs, and what it buys",
        "Who pays for the defence",
        "Theft curves",
        "Detection",
        "Training",
    ] {
        let (_, chapter) =
            html.split_once(&format!("<h2>{title}</h2>")).unwrap_or_else(|| panic!("no {title}"));
        let chapter = chapter.split("</section>").next().unwrap();
        assert!(
            chapter.contains("class=\"caption\"") && chapter.contains("<svg ") && chapter.contains("<table>"),
            "{title}: {chapter}"
        );
    }
    // The run that is being written, as far as its last whole line.
    assert!(html.contains("copy (still going on)") && html.contains("0.40000"), "{html}");
    // Five groups of 31 users, by two things.
    assert_eq!(html.matches("<td>items in the user's history</td>").count(), 5);
    // A page of its own: nothing is fetched, nothing runs, and a name cannot become an element.
    for word in ["http:", "https:", "<script", "src=", "@import", "<gro>"] {
        assert!(!html.contains(word), "{word}");
    }
}

#[test]
fn what_is_of_another_dataset_is_refused_by_name() {
    let scene = scene();
    scene.dataset("other", "item 0");
    // What has no lock is taken as it is.
    std::fs::remove_file(scene.path("theft/stage.lock")).unwrap();
    scene.amend("theft/theft.json", "/protocol/sequences", |value| *value = "beef".into());
    scene.amend("detect/detect.json", "/fingerprint", |value| *value = "beef".into());
    let runs = ["report", "--quiet", "--out", "report", "--runs", "eval-none", "eval-<gro>"];
    for (flag, directory) in [("--data", "other"), ("--theft", "theft"), ("--detect", "detect")] {
        let ended = scene.evaluate(&[&runs[..], &[flag, directory]].concat());
        assert_eq!(ended.code, 2, "{flag}: {}", ended.out);
        assert!(
            ended.err.contains(directory) && ended.err.contains("of another dataset than the runs"),
            "{}",
            ended.err
        );
        assert!(!scene.path("report").exists(), "{flag}");
    }
    let ended = scene.evaluate(&[&runs[..], &["--histories", "nowhere"]].concat());
    assert_eq!(ended.code, 2, "{}", ended.out);
    assert!(ended.err.contains("nowhere/history.csv"), "{}", ended.err);
}

#[test]
fn the_page_fits_a_telephone_and_a_desk() {
    let Some(browser) = ["chromium", "chromium-browser", "google-chrome"]
        .into_iter()
        .find(|name| Command::new(name).arg("--version").output().is_ok_and(|ended| ended.status.success()))
    else {
        std::io::stderr().write_all(b"page: the page in a browser SKIPPED: no Chromium here\n").unwrap();
        return;
    };
    let scene = scene();
    let html = made(&scene);
    // What the browser makes of it, told by a script that the test adds: how wide the page is, and how many pictures have a size.
    let script = "<script>document.title = [document.documentElement.scrollWidth, [...document.querySelectorAll('svg')].filter(picture => \
                  picture.getBoundingClientRect().width > 250).length, getComputedStyle(document.body).backgroundColor].join(' ')</script></body>";
    std::fs::write(scene.path("told.html"), html.replace("</body>", script)).unwrap();
    let pictures = html.matches("<svg ").count();
    let mut papers = Vec::new();
    for (width, scheme) in [(1100, 1), (420, 1), (420, 0)] {
        // Inside a frame of that width: the window of a browser without a screen is never narrower than about 500.
        let frame = format!(
            "<iframe src=\"told.html\" width=\"{width}\" height=\"900\"></iframe><script>onload = () => document.title = \
                             frames[0].document.title</script>"
        );
        std::fs::write(scene.path("frame.html"), frame).unwrap();
        let ended = Command::new(browser)
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
            ])
            .args([
                "--disable-sync",
                "--allow-file-access-from-files",
                "--window-size=1200,1000",
                "--virtual-time-budget=3000",
                "--dump-dom",
            ])
            .arg(format!("--blink-settings=preferredColorScheme={scheme}"))
            .arg(format!("--user-data-dir={}", scene.path("browser").display()))
            .arg(format!("file://{}", scene.path("frame.html").display()))
            .output()
            .unwrap();
        let dom = String::from_utf8_lossy(&ended.stdout).into_owned();
        let title = dom
            .split("<title>")
            .nth(1)
            .and_then(|rest| rest.split("</title>").next())
            .unwrap_or_else(|| panic!("no title in {dom}: {}", String::from_utf8_lossy(&ended.stderr)));
        let mut told = title.splitn(3, ' ');
        let shown: usize = told.next().unwrap().parse().unwrap();
        assert!(shown <= width, "{shown} wide in {width}");
        assert_eq!(told.next().unwrap(), pictures.to_string(), "in {width}");
        papers.push(told.next().unwrap().to_owned());
    }
    assert!(papers[0] == papers[1] && papers[1] != papers[2], "light and dark: {papers:?}");
}
