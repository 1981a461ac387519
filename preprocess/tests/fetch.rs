//! `fetch` against made-up sources: what is believed, what is refused, what is left behind. The programs that would
//! reach other machines are small scripts of the test, so no network is needed.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use md5::{Digest, Md5};
use preprocess::fetch::{Copy, Outcome, Source, Tools, fetch};
use sha2::Sha256;
use tempfile::TempDir;

const RATINGS: &[u8] = b"1\t2\t3\t4\n";
const INTER: &[u8] = b"user_id:token\titem_id:token\n1\t2\n";

/// A place with a publisher's archive, a wheel, and scripts that hand them out and keep count.
struct Place {
    directory: TempDir,
    archive_md5: String,
    copy_sha256: String,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        zip_file(&directory.path().join("home.zip"), &[("toy/README", b"read me"), ("toy/u.data", RATINGS)]);
        zip_file(&directory.path().join("copy.whl"), &[("pkg/toy/toy.inter", INTER), ("pkg/x.py", b"")]);
        let archive_md5 = hexadecimal::<Md5>(&fs::read(directory.path().join("home.zip")).unwrap());
        Self { directory, archive_md5, copy_sha256: hexadecimal::<Sha256>(INTER) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn source(&self) -> Source<'_> {
        Source {
            name: "toy",
            archive: "https://nowhere.invalid/toy.zip",
            archive_md5: &self.archive_md5,
            member: "toy/u.data",
            copy: Some(Copy {
                requirement: "toy==1",
                member: "pkg/toy/toy.inter",
                sha256: &self.copy_sha256,
            }),
        }
    }

    /// Writes an executable script. `$LAST` is its last argument, `$FILE` the argument behind --output or --dest.
    fn script(&self, name: &str, body: &str) -> PathBuf {
        let path = self.path(name);
        let head = "#!/bin/sh\nfor a in \"$@\"; do\n  case \"$before\" in --output|--dest) FILE=$a;; esac\n  before=$a\ndone\nLAST=$a\n";
        let log = format!("echo \"$@\" >> {}\n", self.path(&format!("{name}.log")).display());
        fs::write(&path, format!("{head}{log}{body}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn tools(&self, curl: &str, pip: &str) -> Tools {
        let curl = self.script("curl", curl).into();
        let pip = self.script("pip", pip).into();
        Tools {
            curl,
            pips: vec![vec![self.path("no-such-python").into()], vec![pip, "pip".into()], vec![]],
            show_progress: false,
        }
    }

    fn give_home(&self) -> String {
        format!("cat {} > \"$FILE\"", self.path("home.zip").display())
    }

    fn give_copy(&self) -> String {
        format!("cp {} \"$FILE/toy-1-py3-none-any.whl\"", self.path("copy.whl").display())
    }

    fn calls(&self, name: &str) -> usize {
        fs::read_to_string(self.path(&format!("{name}.log"))).map_or(0, |text| text.lines().count())
    }

    /// The names in the data set's directory, sorted.
    fn listing(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.path("raw/toy"))
            .map(|entries| entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect())
            .unwrap_or_default();
        names.sort();
        names
    }
}

fn zip_file(path: &Path, members: &[(&str, &[u8])]) {
    let mut zip = zip::ZipWriter::new(File::create(path).unwrap());
    for (name, content) in members {
        zip.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(content).unwrap();
    }
    zip.finish().unwrap();
}

fn hexadecimal<D: Digest>(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in D::digest(bytes) {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}

const FAIL: &str = "echo 'Could not resolve host' >&2; exit 6";

#[test]
fn the_publishers_archive_comes_first_and_only_once() {
    let place = Place::new();
    let tools = place.tools(&place.give_home(), FAIL);
    let to = place.path("raw");
    assert_eq!(fetch(&place.source(), &to, &tools).unwrap(), Outcome::Placed);
    assert_eq!(fs::read(to.join("toy/u.data")).unwrap(), RATINGS);
    assert_eq!(place.listing(), ["source.json", "u.data"]);
    assert!(
        fs::read_to_string(to.join("toy/source.json")).unwrap().contains("https://nowhere.invalid/toy.zip")
    );

    assert_eq!(fetch(&place.source(), &to, &tools).unwrap(), Outcome::AlreadyThere);
    assert_eq!((place.calls("curl"), place.calls("pip")), (1, 0));

    // What was edited since is not what was verified.
    fs::write(to.join("toy/u.data"), "edited").unwrap();
    assert_eq!(fetch(&place.source(), &to, &tools).unwrap(), Outcome::Placed);
    assert_eq!(fs::read(to.join("toy/u.data")).unwrap(), RATINGS);
    assert_eq!(place.calls("curl"), 2);
}

#[test]
fn the_copy_steps_in_where_the_publisher_cannot_be_reached() {
    let place = Place::new();
    let tools = place.tools(FAIL, &place.give_copy());
    let to = place.path("raw");
    assert_eq!(fetch(&place.source(), &to, &tools).unwrap(), Outcome::Placed);
    assert_eq!(fs::read(to.join("toy/toy.inter")).unwrap(), INTER);
    assert_eq!(place.listing(), ["source.json", "toy.inter"]);
    assert!(fs::read_to_string(to.join("toy/source.json")).unwrap().contains("toy==1"));
    assert_eq!(fetch(&place.source(), &to, &tools).unwrap(), Outcome::AlreadyThere);
    assert_eq!((place.calls("curl"), place.calls("pip")), (1, 1));

    // The copy also stands in for a machine without curl.
    fs::remove_dir_all(&to).unwrap();
    let tools = Tools { curl: place.path("no-such-curl").into(), ..tools };
    assert_eq!(fetch(&place.source(), &to, &tools).unwrap(), Outcome::Placed);
}

#[test]
fn nothing_is_believed_without_its_checksum() {
    let place = Place::new();
    let to = place.path("raw");
    let tools = place.tools("echo other > \"$FILE\"", &place.give_copy());
    let source = place.source();
    let wrong = Source { copy: source.copy.map(|copy| Copy { sha256: "00", ..copy }), ..source };
    let message = format!("{:#}", fetch(&wrong, &to, &tools).unwrap_err());
    assert!(message.contains("MD5") && message.contains("SHA-256"), "{message}");
    assert!(message.contains("expected 00"), "{message}");
    assert_eq!(place.listing(), Vec::<String>::new(), "something unverified was left");
}

#[test]
fn a_failure_says_what_to_put_where_by_hand() {
    let place = Place::new();
    let to = place.path("raw");
    let tools = place.tools(FAIL, FAIL);
    let message = format!("{:#}", fetch(&place.source(), &to, &tools).unwrap_err());
    let zip = to.join("toy/toy.zip");
    for part in [
        "https://nowhere.invalid/toy.zip",
        &zip.display().to_string(),
        "toy==1",
        "toy.inter",
        "exit status: 6",
    ] {
        assert!(message.contains(part), "{part} is not in: {message}");
    }
    let without_copy = Source { copy: None, ..place.source() };
    let message = format!("{:#}", fetch(&without_copy, &to, &tools).unwrap_err());
    assert!(message.contains(&zip.display().to_string()) && !message.contains("wheel"), "{message}");

    // And doing so works, without a network.
    fs::copy(place.path("home.zip"), &zip).unwrap();
    let calls = place.calls("curl");
    assert_eq!(fetch(&place.source(), &to, &tools).unwrap(), Outcome::Placed);
    assert_eq!(fs::read(to.join("toy/u.data")).unwrap(), RATINGS);
    assert_eq!(place.calls("curl"), calls);
}

#[test]
fn files_placed_by_hand_are_checked() {
    let place = Place::new();
    let to = place.path("raw");
    let tools = place.tools(FAIL, FAIL);
    fs::create_dir_all(to.join("toy")).unwrap();
    fs::write(to.join("toy/toy.inter"), "something else").unwrap();
    let message = format!("{:#}", fetch(&place.source(), &to, &tools).unwrap_err());
    assert!(message.contains("toy.inter has the SHA-256"), "{message}");
    fs::write(to.join("toy/toy.inter"), INTER).unwrap();
    assert_eq!(fetch(&place.source(), &to, &tools).unwrap(), Outcome::Placed);
    assert_eq!(fetch(&place.source(), &to, &tools).unwrap(), Outcome::AlreadyThere);
    assert_eq!(place.calls("curl"), 0);
}

#[test]
fn a_broken_download_is_resumed() {
    let place = Place::new();
    let to = place.path("raw");
    let home = place.path("home.zip").display().to_string();
    let half = fs::metadata(&home).unwrap().len() / 2;
    // The first call breaks off half way; the second sends what is missing, as --continue-at asks.
    let curl = format!(
        "if [ -f \"$FILE\" ]; then tail -c +{} {home} >> \"$FILE\"; else head -c {half} {home} > \"$FILE\"; exit 18; fi",
        half + 1
    );
    let tools = place.tools(&curl, FAIL);
    fetch(&place.source(), &to, &tools).unwrap_err();
    assert_eq!(place.listing(), ["toy.zip.part"]);
    assert_eq!(fetch(&place.source(), &to, &tools).unwrap(), Outcome::Placed);
    assert_eq!(place.listing(), ["source.json", "u.data"]);
    let log = fs::read_to_string(place.path("curl.log")).unwrap();
    assert!(log.contains("--continue-at -"), "{log}");
}
