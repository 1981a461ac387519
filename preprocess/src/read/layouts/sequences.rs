//! Whole histories: a user and then items on every line, as S3-Rec's authors publish them, or a user and one item, as
//! SASRec's do. A user may recur. There are no ratings and no timestamps: the order of the file is the order of time.

use super::Layout;
use crate::read::schema::{Schema, Syntax};

/// Histories, one or a part of one a line.
pub const SEQUENCES: Layout = Layout {
    name: "sequences",
    title: "a user and then items on every line, between blanks, in order of time",
    files: &["*.txt"],
    example: "1 50 172 133",
    needs: Some("preprocess.format=sequences"),
    begins: |_| false,
    schema: |_| Ok(Schema::by_place(Syntax::Sequence, &["user", "item"])),
};
