//! RecBole's atomic file of interactions: columns in any order between tabs, more than are needed, under a header that
//! names each as `name:type`. <https://recbole.io/docs/user_guide/data/atomic_files.html>

use stage::Refusal;
use stage::settings::{Column, Columns};

use super::{Head, Layout};
use crate::read::schema::{Schema, Syntax};
use crate::read::separator::Separator;

/// RecBole's `.inter` file.
pub const INTER: Layout = Layout {
    name: "inter",
    title: "RecBole's atomic file: tabs, and a header that names and types the columns",
    files: &["*.inter"],
    also: &[],
    example: "user_id:token\titem_id:token\trating:float\ttimestamp:float",
    needs: None,
    begins: is_header,
    schema,
};

/// The columns that are read where the settings name no others, with the type each must have: the user's, the item's, the
/// rating's, the timestamp's.
const COLUMNS: [(&str, &str); 4] =
    [("user_id", "token"), ("item_id", "token"), ("rating", "float"), ("timestamp", "float")];

/// Whether a line names columns with their types.
pub(super) fn is_header(line: &str) -> bool {
    line.split(['\t', ',', ';', '|', ' ']).any(|field| field.trim().ends_with(":token"))
}

fn schema(head: &Head<'_>) -> anyhow::Result<Schema> {
    let first = head.first_line();
    let columns = &head.settings.columns;
    let name = |column: &Option<Column>, place: usize| match column {
        Some(column) => column.to_string(),
        None => COLUMNS[place].0.to_owned(),
    };
    let names: [String; 4] = std::array::from_fn(|place| {
        name([&columns.user, &columns.item, &columns.rating, &columns.timestamp][place], place)
    });
    let separator = Separator::named(&head.settings.separator)
        .unwrap_or_else(|| Separator::of_header(first, &[&names[0], &names[1]]));
    let header: Vec<String> =
        separator.fields(first, false).iter().map(|field| field.trim().to_owned()).collect();
    let typed = |name: &str| header.iter().find(|field| field.split(':').next() == Some(name));
    if let Some(list) = header.iter().find(|field| {
        field.ends_with(":token_seq")
            && field.split(':').next().is_some_and(|name| name == format!("{}_list", names[1]))
    }) {
        let message = format!(
            "{}:1: column `{list}` holds histories, so the lines are no single interactions; give the file they were made \
             from, where each line is one",
            head.path.display()
        );
        return Err(Refusal::new(message).into());
    }
    let mut found = Columns { tiebreak: columns.tiebreak.clone(), ..Columns::default() };
    for (place, (name, (_, expected))) in names.iter().zip(COLUMNS).enumerate() {
        let asked = [&columns.user, &columns.item, &columns.rating, &columns.timestamp][place];
        let column = match (typed(name), asked) {
            (Some(field), _) => {
                let kind = field.split(':').nth(1).unwrap_or_default();
                if kind != expected {
                    let message =
                        format!("{}:1: column `{field}`, expected `{name}:{expected}`", head.path.display());
                    return Err(Refusal::new(message).into());
                }
                Some(asked.clone().unwrap_or_else(|| Column::Name(name.clone())))
            }
            // User and item there must be; what the settings ask for too.
            (None, None) if place > 1 => None,
            (None, asked) => Some(asked.clone().unwrap_or_else(|| Column::Name(name.clone()))),
        };
        match place {
            0 => found.user = column,
            1 => found.item = column,
            2 => found.rating = column,
            _ => found.timestamp = column,
        }
    }
    let count = header.len();
    Schema::by_column(head, Syntax::Delimited(separator), Some(header), count, &found)
}
