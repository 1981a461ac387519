//! `gro-preprocess export`: a dataset as one of RecBole's atomic files (`.inter`), under its raw ids. A dataset
//! keeps the order of a user's interactions and not their times, so the timestamp is the place in the sequence, from 1.
//! `run` on the exported file gives the same sequences again.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use anyhow::Context;
use artifact::dataset::{self, Dataset};
use stage::{Checked, Flags, Plan, Refusal, Settings, output};

/// The columns, as RecBole names and types them.
const HEADER: &[u8] = b"user_id:token\titem_id:token\ttimestamp:float\n";

/// What ends a field or a line: RecBole's format cannot quote it.
const SEPARATORS: [char; 3] = ['\t', '\n', '\r'];

/// Writes the dataset in `data` as `out`, where that ends in `.inter`, or else as a directory `out` with a file of the
/// same name in it, where RecBole looks for it.
pub fn export(data: &Path, out: &Path, flags: &Flags) -> anyhow::Result<()> {
    if out.extension().is_some_and(|extension| extension == "inter") {
        return export_file(data, out, flags.force);
    }
    let name = out.file_name().ok_or_else(|| {
        Refusal::new(format!("{} has no name; name a directory to make or a file *.inter", out.display()))
    })?;
    let name = format!("{}.inter", name.to_string_lossy());
    let settings = Checked::new(Settings::default())?;
    let plan = Plan::new("gro-preprocess export", out, flags, &settings, &[])
        .inputs(dataset::files(data))
        .argument("format", "inter");
    plan.produce(|directory| {
        let path = directory.join(&name);
        let mut file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        write(data, &mut file)
    })?;
    Ok(())
}

/// Writes one file, whole or not at all. A file that holds something else is not replaced without `force`.
fn export_file(data: &Path, out: &Path, force: bool) -> anyhow::Result<()> {
    for input in dataset::files(data) {
        output::check_input(&input)?;
    }
    output::check_link(out, out)?;
    if out.is_dir() {
        let message = format!("{} is a directory, expected a file to write", out.display());
        return Err(Refusal::new(message).into());
    }
    let context = || format!("cannot write {}", out.display());
    let parent = match out.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(parent).with_context(context)?;
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // The permissions of any new file: with tempfile's own, nobody else could read it.
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    let mut beside = builder.tempfile_in(parent).with_context(context)?;
    write(data, beside.as_file_mut())?;
    if out.exists() && !force {
        if out.is_file() && artifact::digest::file(out)? == artifact::digest::file(beside.path())? {
            tracing::info!("{} is up to date", out.display());
            return Ok(());
        }
        let message =
            format!("{} is there and holds something else; choose another --out, or --force", out.display());
        return Err(Refusal::new(message).into());
    }
    beside.as_file().sync_all().with_context(context)?;
    beside.persist(out).with_context(context)?;
    tracing::info!("wrote {}", out.display());
    Ok(())
}

fn write(data: &Path, file: &mut File) -> anyhow::Result<()> {
    let dataset = Dataset::read(data)?;
    let users = raw_ids(data, dataset::USERS, dataset::read_raw_users(data)?)?;
    let items = raw_ids(data, dataset::ITEMS, dataset::read_raw_items(data)?)?;
    if users.len() != dataset.users() {
        let message = format!(
            "{} holds {} users and {} {}; make both again with `gro-preprocess run`",
            data.join(dataset::USERS).display(),
            users.len(),
            dataset::SEQUENCES,
            dataset.users()
        );
        return Err(Refusal::new(message).into());
    }
    write_rows(&dataset, &users, &items, BufWriter::with_capacity(1 << 20, file))
        .context("cannot write the rows")
}

/// The raw ids, of which none may hold what ends a field.
fn raw_ids(data: &Path, name: &str, raw_ids: Vec<String>) -> Result<Vec<String>, Refusal> {
    match raw_ids.iter().position(|id| id.contains(SEPARATORS)) {
        None => Ok(raw_ids),
        Some(row) => Err(Refusal::new(format!(
            "{}: the raw id {:?} in row {} holds a tab or the end of a line, which a .inter file cannot express",
            data.join(name).display(),
            raw_ids[row],
            row + 1
        ))),
    }
}

fn write_rows(dataset: &Dataset, users: &[String], items: &[String], mut out: impl Write) -> io::Result<()> {
    out.write_all(HEADER)?;
    let mut digits = itoa::Buffer::new();
    for (index, user) in users.iter().enumerate() {
        let held_out = [dataset.valid(index)].into_iter().chain(dataset.test(index));
        for (position, item) in (1_u32..).zip(dataset.train(index).iter().copied().chain(held_out)) {
            let item = &items[item as usize - 1];
            for part in [user.as_str(), "\t", item, "\t", digits.format(position), "\n"] {
                out.write_all(part.as_bytes())?;
            }
        }
    }
    out.flush()
}
