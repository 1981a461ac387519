//! Public data sets, fetched and checked. A data set has a home (the publisher's file, by curl) and may have a second
//! source (a Python wheel that carries a copy, by pip) for places the home cannot be reached from. Nothing is believed
//! before its checksum agrees, nothing lies in the directory half-written, and what was placed by hand is checked and
//! used like what was downloaded.
//!
//! Where no checksum is published, the file must begin as data of its kind do, and its own checksum is pinned when it is
//! first seen: another file never takes its place unasked. Such a download is taken up again only while the publisher
//! has the same version of the file, since two halves of two versions would pass for a whole.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, bail};
use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use stage::Refusal;
use stage::settings::Format;

use crate::reader;

/// Seconds until an unreachable host counts as unreachable.
const CONNECT_SECONDS: &str = "10";
/// What lies beside the data and says where they came from.
const RECORD: &str = "source.json";

/// How curl ends when a download cannot be taken up where it broke off.
const CANNOT_RESUME: i32 = 33;

/// A data set and where it can be had.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Its name, which is also that of its directory.
    pub name: &'a str,
    /// The publisher's address of it.
    pub url: &'a str,
    /// What is found there.
    pub content: Content<'a>,
    /// A copy elsewhere.
    pub copy: Option<Copy<'a>>,
}

/// What a publisher offers.
#[derive(Clone, Copy, Debug)]
pub enum Content<'a> {
    /// A zip archive.
    Zip {
        /// MD5 of the archive, as the publisher gives it.
        md5: &'a str,
        /// The one file of the archive that is needed.
        member: &'a str,
    },
    /// The file itself, without a checksum.
    Plain {
        /// How its lines read.
        format: Format,
    },
}

/// A copy of a data set inside a Python wheel.
#[derive(Clone, Copy, Debug)]
pub struct Copy<'a> {
    /// What pip is asked for, name and exact version.
    pub requirement: &'a str,
    /// The one file of the wheel that is needed.
    pub member: &'a str,
    /// SHA-256 of that file.
    pub sha256: &'a str,
}

/// MovieLens-100K, 943 users.
pub const ML_100K: Source<'static> = Source {
    name: "ml-100k",
    url: "https://files.grouplens.org/datasets/movielens/ml-100k.zip",
    content: Content::Zip { md5: "0e33842e24a9c977be4e0107933c0723", member: "ml-100k/u.data" },
    copy: Some(Copy {
        requirement: "recbole==1.2.1",
        member: "recbole/dataset_example/ml-100k/ml-100k.inter",
        sha256: "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
    }),
};

/// MovieLens-1M, 6,040 users.
pub const ML_1M: Source<'static> = Source {
    name: "ml-1m",
    url: "https://files.grouplens.org/datasets/movielens/ml-1m.zip",
    content: Content::Zip { md5: "c4d9eecfca2ab87c1945afe126590906", member: "ml-1m/ratings.dat" },
    copy: None,
};

/// MovieLens-20M, 138,493 users.
pub const ML_20M: Source<'static> = Source {
    name: "ml-20m",
    url: "https://files.grouplens.org/datasets/movielens/ml-20m.zip",
    content: Content::Zip { md5: "cd245b17a1ae2cc31bb14903e1204af3", member: "ml-20m/ratings.csv" },
    copy: None,
};

/// Reviews on Steam, 2,567,538 users.
pub const STEAM: Source<'static> = Source {
    name: "steam",
    url: "http://cseweb.ucsd.edu/~wckang/steam_reviews.json.gz",
    content: Content::Plain { format: Format::Steam },
    copy: None,
};

/// Ratings of beauty products on Amazon, 1,210,271 users.
pub const BEAUTY: Source<'static> = Source {
    name: "beauty",
    url: "http://snap.stanford.edu/data/amazon/productGraph/categoryFiles/ratings_Beauty.csv",
    content: Content::Plain { format: Format::Amazon },
    copy: None,
};

/// The programs that can reach other machines. They, and not this one, know the proxies and certificates of the place.
#[derive(Clone, Debug)]
pub struct Tools {
    /// The curl program.
    pub curl: OsString,
    /// The ways to run pip, best first: program and leading arguments.
    pub pips: Vec<Vec<OsString>>,
    /// Whether downloads show how far they are.
    pub show_progress: bool,
}

impl Tools {
    /// The programs as a PATH usually has them.
    pub fn usual(show_progress: bool) -> Self {
        let ways: [&[&str]; 4] = [&["python3", "-m", "pip"], &["python", "-m", "pip"], &["pip3"], &["pip"]];
        let pips = ways.iter().map(|way| way.iter().map(OsString::from).collect()).collect();
        Self { curl: "curl".into(), pips, show_progress }
    }
}

/// Where a file came from and what it was then.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    /// In words: a URL, a wheel, or a hand.
    source: String,
    /// The file in the same directory.
    file: String,
    /// Its length in bytes.
    bytes: u64,
    /// Its SHA-256.
    sha256: String,
}

/// How a fetch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The file was there and still is what it was.
    AlreadyThere,
    /// The file was put there now.
    PackedBatch,
}

/// Puts the data set at `<to>/<name>/<file>` and tells (in the log) where it came from.
pub fn fetch(source: &Source<'_>, to: &Path, tools: &Tools) -> anyhow::Result<Outcome> {
    let directory = to.join(source.name);
    let earlier = read_record(&directory)?;
    if let Some(record) = &earlier
        && still_there(source, &directory, record)?
    {
        let path = directory.join(&record.file);
        tracing::info!("{} is already there and verified (from {})", path.display(), record.source);
        return Ok(Outcome::AlreadyThere);
    }
    fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
    if placed_by_hand(source, to, &directory, earlier.as_ref())? {
        return Ok(Outcome::PackedBatch);
    }
    let downloaded = match source.content {
        Content::Zip { md5, member } => download_zip(source, md5, member, &directory, tools),
        Content::Plain { format } => download_plain(source, format, &directory, earlier.as_ref(), tools),
    };
    let Err(from_home) = downloaded else { return Ok(Outcome::PackedBatch) };
    if matches!(source.content, Content::Plain { .. }) && from_home.is::<Refusal>() {
        // The host was reached, and fetching the same thing by hand would not make it another.
        return Err(from_home);
    }
    let by_hand = by_hand(source, &directory);
    let Some(copy) = &source.copy else { return Err(from_home.context(by_hand)) };
    tracing::warn!("the publisher's archive could not be had: {from_home:#}");
    download_copy(copy, &directory, tools).with_context(|| {
        format!("{by_hand}; the publisher's archive failed ({from_home:#}) and so did the copy")
    })?;
    Ok(Outcome::PackedBatch)
}

impl Source<'_> {
    /// What the publisher's file is called in the data set's directory.
    fn file_name(&self) -> String {
        match self.content {
            Content::Zip { .. } => format!("{}.zip", self.name),
            Content::Plain { .. } => base_name(self.url).to_owned(),
        }
    }
}

/// What is left to do for a person.
fn by_hand(source: &Source<'_>, directory: &Path) -> String {
    let by_hand = format!(
        "cannot fetch {}; download {} by other means to {} and run this again",
        source.name,
        source.url,
        directory.join(source.file_name()).display()
    );
    let Some(copy) = &source.copy else { return by_hand };
    let path = directory.join(base_name(copy.member));
    format!("{by_hand} (or put {} of the wheel {} at {})", copy.member, copy.requirement, path.display())
}

/// The record beside the data.
fn read_record(directory: &Path) -> anyhow::Result<Option<Record>> {
    let path = directory.join(RECORD);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let record = serde_json::from_str(&text).map_err(|error| {
        Refusal::new(format!("{}: {error}; delete it to fetch the data again", path.display()))
    })?;
    Ok(Some(record))
}

/// Whether the data are still what the record says.
fn still_there(source: &Source<'_>, directory: &Path, record: &Record) -> anyhow::Result<bool> {
    let file = directory.join(&record.file);
    if !file.is_file() {
        return Ok(false);
    }
    if matches!(source.content, Content::Plain { .. }) {
        check_pin(&file, &record.file, directory, Some(record))?;
        return Ok(true);
    }
    if digest::<Sha256>(&file)? == record.sha256 {
        return Ok(true);
    }
    tracing::warn!("{} is not what {RECORD} beside it says it was, so it is fetched again", file.display());
    // Out of the way, so that it is not taken for one placed by hand.
    fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))?;
    Ok(false)
}

/// Refuses a file for `name` other than the one of that name that was seen first.
fn check_pin(path: &Path, name: &str, directory: &Path, earlier: Option<&Record>) -> anyhow::Result<()> {
    let Some(record) = earlier.filter(|record| record.file == name) else { return Ok(()) };
    let found = digest::<Sha256>(path)?;
    if found == record.sha256 {
        return Ok(());
    }
    let message = format!(
        "{} has the SHA-256 {found}, not {} as when {name} was first seen (from {}); put that file back, or delete {} to \
         go on with another",
        path.display(),
        record.sha256,
        record.source,
        directory.join(RECORD).display()
    );
    Err(Refusal::new(message).into())
}

/// Uses what a person put into the directory: the publisher's file, the copy, or the file that is in either.
fn placed_by_hand(
    source: &Source<'_>,
    to: &Path,
    directory: &Path,
    earlier: Option<&Record>,
) -> anyhow::Result<bool> {
    match source.content {
        Content::Zip { md5, member } => zip_by_hand(source, md5, member, to, directory),
        Content::Plain { format } => plain_by_hand(source, format, directory, earlier),
    }
}

fn zip_by_hand(
    source: &Source<'_>,
    md5: &str,
    member: &str,
    to: &Path,
    directory: &Path,
) -> anyhow::Result<bool> {
    let zip = source.file_name();
    for archive in [directory.join(&zip), to.join(&zip)] {
        if archive.is_file() {
            check::<Md5>(&archive, md5, "MD5")?;
            unpack(&archive, member, directory, None, &format!("{zip} placed by hand, MD5 as published"))?;
            return Ok(true);
        }
    }
    if let Some(copy) = &source.copy {
        let name = base_name(copy.member);
        let path = directory.join(name);
        if path.is_file() {
            check::<Sha256>(&path, copy.sha256, "SHA-256")?;
            record(
                directory,
                name,
                &format!("{name} placed by hand, equal to the copy in {}", copy.requirement),
            )?;
            return Ok(true);
        }
    }
    let name = base_name(member);
    if directory.join(name).is_file() {
        record_first_seen(directory, name)?;
        return Ok(true);
    }
    Ok(false)
}

/// A file that is packed may be there as it is or already unpacked.
fn plain_by_hand(
    source: &Source<'_>,
    format: Format,
    directory: &Path,
    earlier: Option<&Record>,
) -> anyhow::Result<bool> {
    let packed = source.file_name();
    let names = [packed.as_str(), packed.strip_suffix(".gz").unwrap_or(&packed)];
    let Some(name) = names.into_iter().find(|name| directory.join(name).is_file()) else { return Ok(false) };
    let path = directory.join(name);
    check_pin(&path, name, directory, earlier)?;
    reader::check_start(&path, format)?;
    record_first_seen(directory, name)?;
    Ok(true)
}

/// Records a file for which no checksum is published.
fn record_first_seen(directory: &Path, name: &str) -> anyhow::Result<()> {
    tracing::warn!("no checksum is published for {name} itself; it is used as it is and pinned in {RECORD}");
    record(directory, name, &format!("{name} placed by hand, pinned as first seen"))
}

/// Gets the publisher's archive, taking up where an earlier try broke off.
fn download_zip(
    source: &Source<'_>,
    md5: &str,
    member: &str,
    directory: &Path,
    tools: &Tools,
) -> anyhow::Result<()> {
    let part = directory.join(format!("{}.part", source.file_name()));
    let complete = part.is_file() && digest::<Md5>(&part)? == md5;
    if !complete {
        let resume = ["--continue-at", "-"].map(OsString::from);
        finished(tools, source.url, curl(tools, source.url, &part, &resume)?)?;
    }
    if let Err(error) = check::<Md5>(&part, md5, "MD5") {
        // Resuming a wrong file would never make it right.
        remove(&part)?;
        return Err(error.context("the download was discarded"));
    }
    unpack(&part, member, directory, None, source.url)?;
    remove(&part)
}

/// Gets the publisher's file, taking up where an earlier try broke off if it is still the same file.
fn download_plain(
    source: &Source<'_>,
    format: Format,
    directory: &Path,
    earlier: Option<&Record>,
    tools: &Tools,
) -> anyhow::Result<()> {
    let name = source.file_name();
    let part = directory.join(format!("{name}.part"));
    let headers = directory.join(format!("{name}.part.headers"));
    get(source.url, &part, &headers, tools)?;
    let acceptable =
        reader::check_start(&part, format).and_then(|()| check_pin(&part, &name, directory, earlier));
    if let Err(error) = acceptable {
        discard(&part, &headers)?;
        let message = format!("what {} answered was discarded: {error:#}", source.url);
        return Err(Refusal::new(message).into());
    }
    let path = directory.join(&name);
    File::open(&part)
        .and_then(|file| file.sync_all())
        .and_then(|()| fs::rename(&part, &path))
        .with_context(|| format!("cannot move {} to {}", part.display(), path.display()))?;
    remove(&headers)?;
    record(directory, &name, &format!("{}, pinned as first seen", source.url))
}

/// Gets what is at `url` into `part`, or as much of it as is missing there. `headers` keeps what the publisher said when
/// the download began.
fn get(url: &str, part: &Path, headers: &Path, tools: &Tools) -> anyhow::Result<()> {
    let response = Response::read(headers)?;
    let length = fs::metadata(part).map_or(0, |part| part.len());
    if length > 0 && response.length == Some(length) {
        return Ok(());
    }
    if let Some(version) = response.version.filter(|_| length > 0) {
        let resume = ["--continue-at", "-", "--header", &format!("If-Range: {version}")].map(OsString::from);
        let status = curl(tools, url, part, &resume)?;
        if status.code() != Some(CANNOT_RESUME) {
            return finished(tools, url, status);
        }
    }
    // There is nothing to take up, or the file there is another one by now.
    discard(part, headers)?;
    let afresh = ["--dump-header".into(), headers.to_owned().into_os_string()];
    finished(tools, url, curl(tools, url, part, &afresh)?)
}

/// What a publisher said about its file.
#[derive(Default)]
struct Response {
    /// What tells versions of the file apart, if the publisher can.
    version: Option<String>,
    /// The length of the whole file.
    length: Option<u64>,
}

impl Response {
    /// The last of the responses whose headers were kept: those before it lead to another address.
    fn read(headers: &Path) -> anyhow::Result<Self> {
        let text = match fs::read(headers) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", headers.display())),
        };
        let last = text.rfind("HTTP/").map_or("", |start| &text[start..]);
        let header = |wanted: &str| {
            let mut headers = last.lines().filter_map(|line| line.split_once(':'));
            headers
                .find(|(name, _)| name.eq_ignore_ascii_case(wanted))
                .map(|(_, value)| value.trim().to_owned())
        };
        // A weak tag is for versions that mean the same, not for those that are the same bytes.
        let tag = header("etag").filter(|tag| tag.starts_with('"'));
        let length = header("content-length").and_then(|length| length.parse().ok());
        Ok(Self { version: tag.or_else(|| header("last-modified")), length })
    }
}

fn discard(part: &Path, headers: &Path) -> anyhow::Result<()> {
    remove(part)?;
    remove(headers)
}

/// Removes a file that may not be there.
fn remove(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Runs curl, which writes what is at `url` to `part`.
fn curl(tools: &Tools, url: &str, part: &Path, more: &[OsString]) -> anyhow::Result<ExitStatus> {
    tracing::info!("downloading {url}");
    let mut curl = Command::new(&tools.curl);
    curl.args(["--fail", "--location", "--connect-timeout", CONNECT_SECONDS]);
    // A connection that has gone quiet is as good as none.
    curl.args(["--speed-limit", "1000", "--speed-time", "30"]);
    curl.args(if tools.show_progress { &["--progress-bar"][..] } else { &["--silent", "--show-error"][..] });
    curl.args(more).arg("--output").arg(part).arg(url);
    let status = curl.stdin(Stdio::null()).stdout(Stdio::null()).status();
    status.with_context(|| format!("cannot run {}", tools.curl.display()))
}

fn finished(tools: &Tools, url: &str, status: ExitStatus) -> anyhow::Result<()> {
    if status.success() {
        return Ok(());
    }
    bail!("{} could not download {url} ({status})", tools.curl.display())
}

/// Gets the wheel with the copy by the first pip that there is.
fn download_copy(copy: &Copy<'_>, directory: &Path, tools: &Tools) -> anyhow::Result<()> {
    tracing::info!("downloading {} with pip, for the copy in it", copy.requirement);
    let scratch = tempfile::tempdir().context("cannot create a temporary directory")?;
    let mut failures = Vec::new();
    for way in &tools.pips {
        let Some((program, leading)) = way.split_first() else { continue };
        let mut pip = Command::new(program);
        pip.args(leading).args([
            "download",
            "--no-deps",
            "--only-binary=:all:",
            "--disable-pip-version-check",
        ]);
        if !tools.show_progress {
            pip.arg("--quiet");
        }
        pip.arg("--dest").arg(scratch.path()).arg(copy.requirement);
        // pip reports on stdout, which here is for data.
        let status = pip.stdin(Stdio::null()).stdout(io::stderr()).status();
        match status {
            Ok(status) if status.success() => {
                let wheel = wheel_in(scratch.path())?;
                let source = format!("{} in {}", copy.member, copy.requirement);
                return unpack(&wheel, copy.member, directory, Some(copy.sha256), &source);
            }
            Ok(status) => failures.push(format!("{}: {status}", program.display())),
            Err(error) => failures.push(format!("{}: {error}", program.display())),
        }
    }
    bail!("no pip could download {} ({})", copy.requirement, failures.join("; "))
}

fn wheel_in(directory: &Path) -> anyhow::Result<PathBuf> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "whl") {
            return Ok(path);
        }
    }
    bail!("pip succeeded without leaving a wheel")
}

/// Takes one member out of an archive, checks it where its SHA-256 is known, and puts it and its record in place.
fn unpack(
    archive: &Path,
    member: &str,
    directory: &Path,
    sha256: Option<&str>,
    source: &str,
) -> anyhow::Result<()> {
    let context = || format!("cannot unpack {member} from {}", archive.display());
    let mut zip = zip::ZipArchive::new(BufReader::new(File::open(archive).with_context(context)?))
        .with_context(context)?;
    let mut content = zip.by_name(member).with_context(context)?;
    let name = base_name(member);
    place(directory, name, sha256, |file| io::copy(&mut content, file).map(|_| ())).with_context(context)?;
    record(directory, name, source)
}

/// Writes down where a file that is in place came from.
fn record(directory: &Path, name: &str, source: &str) -> anyhow::Result<()> {
    let path = directory.join(name);
    let record = Record {
        source: source.to_owned(),
        file: name.to_owned(),
        bytes: fs::metadata(&path)?.len(),
        sha256: digest::<Sha256>(&path)?,
    };
    let text = serde_json::to_string_pretty(&record)? + "\n";
    place(directory, RECORD, None, |file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", directory.join(RECORD).display()))?;
    tracing::info!("{} is in place and verified (from {source})", path.display());
    Ok(())
}

/// Writes `<directory>/<name>` so that it is there as a whole or not at all.
fn place(
    directory: &Path,
    name: &str,
    sha256: Option<&str>,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> anyhow::Result<()> {
    let beside = directory.join(format!(".{name}.unfinished"));
    let finish = || -> anyhow::Result<()> {
        let mut file = File::create(&beside)?;
        write(&mut file)?;
        file.sync_all()?;
        if let Some(sha256) = sha256 {
            check::<Sha256>(&beside, sha256, "SHA-256")?;
        }
        fs::rename(&beside, directory.join(name))?;
        Ok(())
    };
    finish().inspect_err(|_| {
        // The first error is the one to tell; what cannot be removed is overwritten next time.
        fs::remove_file(&beside).ok();
    })
}

/// Refuses a file whose digest is not the expected one.
fn check<D: Digest>(path: &Path, expected: &str, algorithm: &str) -> anyhow::Result<()> {
    let found = digest::<D>(path)?;
    if found != expected {
        let message = format!(
            "{} has the {algorithm} {found}, expected {expected}; it is damaged or another version, so replace it",
            path.display()
        );
        return Err(Refusal::new(message).into());
    }
    Ok(())
}

/// The digest of a file in hexadecimal.
fn digest<D: Digest>(path: &Path) -> anyhow::Result<String> {
    let context = || format!("cannot read {}", path.display());
    let mut file = File::open(path).with_context(context)?;
    let mut hasher = D::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer).with_context(context)?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
    }
    let mut text = String::new();
    for byte in hasher.finalize() {
        write!(text, "{byte:02x}")?;
    }
    Ok(text)
}

fn base_name(member: &str) -> &str {
    member.rsplit('/').next().unwrap_or(member)
}
