//! Titles of items, for people: a table whose first column is the raw id and whose second the title, as the data sets bring it
//! (`movies.csv`, `movies.dat`, `u.item`, a RecBole `.item` file, or anyone's).

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result};
use remote::Catalogue;
use stage::Refusal;

/// A catalogue with the titles of a table. Says how many items have none.
///
/// # Errors
/// Those of [`read`]; a table that has none of the items.
pub fn entitled(catalogue: Catalogue, path: &Path) -> Result<Catalogue> {
    let known = read(path)?;
    let titles: Vec<Option<String>> = catalogue.ids().iter().map(|id| known.get(id).cloned()).collect();
    let without = titles.iter().filter(|title| title.is_none()).count();
    if without == titles.len() {
        let message = format!(
            "{}: no id in its first column is one of the {without} items, whose first is {}; give the table of this catalogue",
            path.display(),
            catalogue.id(1)
        );
        return Err(Refusal::new(message).into());
    }
    if without > 0 {
        tracing::warn!("{} of {} items have no title in {}", without, titles.len(), path.display());
    }
    Ok(catalogue.titled(titles))
}

/// Titles by raw id.
///
/// # Errors
/// A refusal for a file that cannot be read, or a row without a second column.
pub fn read(path: &Path) -> Result<HashMap<String, String>> {
    let bytes = std::fs::read(path)
        .map_err(|source| Refusal::because(format!("{}: cannot be read", path.display()), source))?;
    // MovieLens-100K and 1M are in Latin-1, whose bytes are the first 256 characters.
    let text = String::from_utf8(bytes)
        .unwrap_or_else(|error| error.into_bytes().iter().map(|&byte| char::from(byte)).collect());
    let separator = separator(text.lines().next().unwrap_or_default()).with_context(|| {
        Refusal::new(format!("{}: expected two columns, the id of an item and its title", path.display()))
    })?;
    // The csv crate separates by a byte.
    let text = if separator == "::" { text.replace("::", "\t") } else { text };
    let byte = if separator == "::" { b'\t' } else { separator.as_bytes()[0] };
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(byte)
        .quoting(byte == b',')
        .has_headers(false)
        .flexible(true)
        .from_reader(text.as_bytes());
    let mut titles = HashMap::new();
    for (line, record) in reader.records().enumerate() {
        let record = record
            .map_err(|source| Refusal::because(format!("{}: line {}", path.display(), line + 1), source))?;
        let (Some(id), Some(title)) = (record.get(0), record.get(1)) else {
            let message =
                format!("{}: line {} has one column, expected an id and a title", path.display(), line + 1);
            return Err(Refusal::new(message).into());
        };
        if !title.trim().is_empty() {
            titles.insert(id.trim().to_owned(), title.trim().to_owned());
        }
    }
    Ok(titles)
}

/// What separates the columns of this line.
fn separator(line: &str) -> Option<&'static str> {
    ["::", "\t", "|", ",", ";"].into_iter().find(|separator| line.contains(separator))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn titles(bytes: &[u8]) -> Result<HashMap<String, String>> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("titles");
        std::fs::write(&path, bytes).unwrap();
        read(&path)
    }

    #[test]
    fn the_tables_of_the_data_sets_are_read() {
        for (bytes, id, title) in [
            (
                &b"movieId,title,genres\n1,\"Usual Suspects, The (1995)\",Crime\n"[..],
                "1",
                "Usual Suspects, The (1995)",
            ),
            (b"1::Toy Story (1995)::Animation\n", "1", "Toy Story (1995)"),
            (b"7|Mis\xe9rables, Les (1995)|1995||\n", "7", "Mis\u{e9}rables, Les (1995)"),
            (b"item_id:token\tmovie_title:token_seq\n50\tStar \"Wars\n", "50", "Star \"Wars"),
        ] {
            assert_eq!(titles(bytes).unwrap()[id], title);
        }
    }

    #[test]
    fn what_has_no_titles_is_refused() {
        assert!(titles(b"1 Toy Story\n").unwrap_err().to_string().contains("two columns"));
        assert!(titles(b"1|a\n2\n").unwrap_err().to_string().contains("line 2 has one column"));
    }
}
