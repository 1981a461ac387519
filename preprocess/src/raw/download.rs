//! The programs that reach other machines: curl for a publisher's file, pip for a wheel. Downloads resume where they broke
//! off; a file without a checksum only while the publisher still has the same version of it, since the halves of two
//! versions would pass for a whole.
//!
//! Weighed: ureq with rustls in place of curl. It resumes, and takes proxies and certificates from the environment, but not
//! from `.curlrc`, `.netrc` or CURL_CA_BUNDLE, and knows no proxy with NTLM or Kerberos: where curl works today it might not.
//! It adds 2.3 MB (12 %) to the binary and 16 crates. And pip would stay: index, mirror and certificates of a wheel are in
//! its settings.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, bail};

use crate::raw::datasets::Mirror;

/// Seconds until an unreachable host counts as unreachable.
const CONNECT_SECONDS: &str = "10";

/// How curl ends when the server cannot send the rest of a file.
const CANNOT_RESUME: i32 = 33;

/// Which programs to run. They, and not this one, know the proxies, certificates and package indices of the place.
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

/// Gets what is at `url` into `part`, or what is still missing there. The caller checks the whole.
pub(super) fn resume(url: &str, part: &Path, tools: &Tools) -> anyhow::Result<()> {
    let resume = ["--continue-at", "-"].map(OsString::from);
    finished(tools, url, curl(tools, url, part, &resume)?)
}

/// Gets what is at `url` into `part`, or what is still missing there, if the publisher has the version that the download
/// began with. `headers` keeps the response that began it.
pub(super) fn resume_same_version(
    url: &str,
    part: &Path,
    headers: &Path,
    tools: &Tools,
) -> anyhow::Result<()> {
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
    // There is nothing to resume, or the publisher has another version by now.
    remove(part)?;
    remove(headers)?;
    let afresh = ["--dump-header".into(), headers.to_owned().into_os_string()];
    finished(tools, url, curl(tools, url, part, &afresh)?)
}

/// What a publisher said about its file.
#[derive(Default)]
struct Response {
    /// What tells versions of the file apart, if the publisher says so.
    version: Option<String>,
    /// The length of the whole file, in bytes.
    length: Option<u64>,
}

impl Response {
    /// The last of the responses whose headers were kept: those before it redirect to another address.
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

/// Removes a file that may not be there.
pub(super) fn remove(path: &Path) -> anyhow::Result<()> {
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
    // Half a minute of next to nothing counts as a broken connection.
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

/// Gets the mirror's wheel into `directory` by the first pip that can, and says where it lies.
pub(super) fn wheel(mirror: &Mirror<'_>, directory: &Path, tools: &Tools) -> anyhow::Result<PathBuf> {
    tracing::info!("downloading {} with pip, for the data set in it", mirror.requirement);
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
        pip.arg("--dest").arg(directory).arg(mirror.requirement);
        // pip reports on stdout, which here is for data.
        let status = pip.stdin(Stdio::null()).stdout(io::stderr()).status();
        match status {
            Ok(status) if status.success() => return wheel_in(directory),
            Ok(status) => failures.push(format!("{}: {status}", program.display())),
            Err(error) => failures.push(format!("{}: {error}", program.display())),
        }
    }
    bail!("no pip could download {} ({})", mirror.requirement, failures.join("; "))
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
