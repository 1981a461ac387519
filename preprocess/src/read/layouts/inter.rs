//! RecBole's atomic file of interactions: columns in any order between tabs, more than are needed, under a header that
//! names each as `name:type`. <https://recbole.io/docs/user_guide/data/atomic_files.html>

use stage::Refusal;

use super::{Head, Layout};
use crate::read::schema::{Schema, TABS, position};

/// RecBole's `.inter` file.
pub const INTER: Layout = Layout {
    name: "inter",
    title: "RecBole's atomic file: tabs, and a header that names and types the columns",
    files: &["*.inter"],
    example: "user_id:token\titem_id:token\trating:float\ttimestamp:float",
    needs: None,
    begins: is_header,
    schema,
};

/// The columns that are read, with the type each must have, and whether there must be one.
const COLUMNS: [(&str, &str, bool); 4] = [
    ("user_id", "token", true),
    ("item_id", "token", true),
    ("rating", "float", false),
    ("timestamp", "float", false),
];

/// Whether a line names columns with their types.
pub(super) fn is_header(line: &str) -> bool {
    line.split('\t').any(|field| field.ends_with(":token"))
}

fn schema(head: &Head<'_>) -> anyhow::Result<Schema> {
    let columns: Vec<String> = head.first_line.split('\t').map(str::to_owned).collect();
    let mut places = [None; 4];
    for (place, (name, kind, required)) in places.iter_mut().zip(COLUMNS) {
        let full = format!("{name}:{kind}");
        let expected = "tab separated columns user_id:token and item_id:token, and optionally rating:float and \
                        timestamp:float";
        let named = |column: &str| column.split(':').next() == Some(name);
        if !required && !columns.iter().any(|column| named(column)) {
            continue;
        }
        let at = position(head.path, &columns, named, &full, expected)?;
        if columns[at] != full {
            let message = format!("{}:1: column `{}`, expected `{full}`", head.path.display(), columns[at]);
            return Err(Refusal::new(message).into());
        }
        *place = Some(at);
    }
    let [user, item, rating, timestamp] = places;
    Ok(Schema {
        syntax: TABS,
        header: true,
        columns,
        user: user.unwrap_or_default(),
        item: item.unwrap_or_default(),
        rating,
        timestamp,
    })
}
