//! Preprocessing: as many made-up ratings as MovieLens-20M has, from csv to Parquet. It is the whole stage: the digest
//! of the input, the lock, and the wait until the output is on the disk are in it.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use indicatif::ProgressBar;
use preprocess::make;
use preprocess::raw::synth::{self, Recipe};
use stage::{Checked, Flags, Settings};

use crate::{Iteration, SEED, Work};

/// Users, items and ratings of MovieLens-20M.
const MOVIELENS_20M: Recipe = Recipe { users: 138_493, items: 26_744, interactions: 20_000_000, seed: SEED };

/// The ratings, half a gigabyte, stay in `directory` from one run to the next.
pub fn works(directory: &Path) -> Vec<Work> {
    let Recipe { users, items, interactions, .. } = MOVIELENS_20M;
    let shape = format!("{interactions} ratings, {users} users, {items} items");
    let directory = directory.to_owned();
    vec![Work::new("preprocessing", "preprocess", shape, move || stage(&directory))]
}

fn stage(directory: &Path) -> Result<Iteration> {
    let input = ratings(directory)?;
    let out = tempfile::tempdir_in(directory)?;
    let settings = Checked::new(Settings::default())?;
    let flags = Flags { force: true, quiet: true, ..Flags::default() };
    Ok(Box::new(move || {
        make::dataset(&input, &out.path().join("data"), &settings, &flags)?;
        Ok(())
    }))
}

/// The ratings, made where they are not there yet.
fn ratings(directory: &Path) -> Result<PathBuf> {
    let path = directory.join("ratings.csv");
    if path.exists() {
        return Ok(path);
    }
    fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let partial = directory.join("ratings.csv.partial");
    let write = || {
        let mut file = BufWriter::new(File::create(&partial)?);
        synth::write(&MOVIELENS_20M, &mut file, &ProgressBar::hidden())?;
        file.flush()?;
        fs::rename(&partial, &path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}
