//! The second room: a ratings file in any layout, read into columns of integers.
//!
//! [`layouts`] lists the layouts and finds the one a file has; that gives the [`schema`] of its lines. [`blocks`] cuts the
//! file into blocks of lines, and [`parser`] cuts those into fields, with [`json`] or [`literal`] where a line is an object;
//! a Parquet table comes through [`columnar`] instead. [`reader`] does this in parallel and joins what comes into
//! [`interactions`], whose ids an [`interner`] and whose times [`timestamps`] keep. [`fault`] is what any of them finds wrong.

pub mod blocks;
pub mod columnar;
pub mod fault;
pub mod interactions;
pub mod interner;
pub mod json;
pub mod layouts;
pub mod literal;
pub mod parser;
pub mod reader;
pub mod schema;
pub mod timestamps;

pub use layouts::{LAYOUTS, Layout};
pub use reader::read;
