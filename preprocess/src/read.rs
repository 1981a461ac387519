//! The second room: a ratings file in any layout, read into columns of integers.
//!
//! A file is [`packed`] or not and has some [`encoding`]; past these two it is UTF-8. [`layouts`] lists the layouts and finds the
//! one a file has; that gives the [`schema`] of its lines, for which a table's [`separator`] is found. [`blocks`] cuts the
//! file into blocks of lines, and [`parser`] cuts those into fields, with [`json`] or [`literal`] where a line is an object
//! and [`objects`] where an object is several lines; a Parquet table comes through [`columnar`] instead. [`reader`] does this in parallel and joins what comes into
//! [`interactions`], whose ids an [`interner`] and whose times [`timestamps`] keep. [`fault`] is what any of them finds wrong.

pub mod blocks;
pub mod columnar;
pub mod encoding;
pub mod fault;
pub mod interactions;
pub mod interner;
pub mod json;
pub mod layouts;
pub mod literal;
pub mod objects;
pub mod packed;
pub mod parser;
pub mod reader;
pub mod schema;
pub mod separator;
pub mod spool;
pub mod timestamps;

pub use layouts::{LAYOUTS, Layout};
pub use reader::{Part, read};
pub use spool::Spool;
