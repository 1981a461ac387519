//! What is wrong with a file of interactions and on which line, for the one message that a user gets.

use std::io;
use std::path::Path;

use stage::Refusal;

use crate::read::interactions::TooMany;

/// What is wrong with a file.
#[derive(Debug, PartialEq, Eq)]
pub enum Fault {
    /// A line breaks the layout.
    Line {
        /// Counted from 1.
        number: u64,
        /// What was expected and what was found.
        message: String,
    },
    /// No single line is to blame.
    File(String),
    /// The bytes of the file do not come, or are not what they should be.
    Unreadable(String),
}

impl Fault {
    /// The refusal of the file at `path`: `path:line: message`.
    pub fn refusal(self, path: &Path) -> Refusal {
        match self {
            Self::Line { number, message } => Refusal::new(format!("{}:{number}: {message}", path.display())),
            Self::File(message) => Refusal::new(format!("{}: {message}", path.display())),
            Self::Unreadable(message) => Refusal::new(format!("cannot read {}: {message}", path.display())),
        }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        let advice = match error.kind() {
            io::ErrorKind::UnexpectedEof => "; it breaks off, so fetch or copy it again",
            _ => "",
        };
        Self::Unreadable(format!("{error}{advice}"))
    }
}

impl From<TooMany> for Fault {
    fn from(TooMany: TooMany) -> Self {
        Self::File("2^32 rows, users or items or more, which is more than this program can number".to_owned())
    }
}

/// `text` in quotes, cut to a length that fits a message.
pub fn shorten(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}
