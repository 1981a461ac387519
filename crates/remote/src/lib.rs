//! Recommenders that others run, met as their customers meet them: a history goes in over HTTP or a pipe, an ordered list of items
//! comes out, and nothing else is known of them.
//!
//! [`open`] takes an [`Address`] and [`Flags`] and finds the [`Catalogue`]; what it returns becomes a [`RemoteTarget`], which is a
//! [`BlackBox`](service::black_box::BlackBox) like the laboratory's own: whoever attacks or measures one may attack or measure the other.
//! In between stand a [`pace`] that is kept, a [`ledger`] of what was asked, so that no budget is exceeded and no answer is paid for twice,
//! and checks of all that is answered.
//!
//! Only for systems that one may test.

pub mod address;
pub mod answer;
pub mod catalogue;
pub mod command;
mod error;
pub mod flags;
pub mod http;
pub mod ledger;
pub mod mapping;
pub mod pace;
pub mod protocol;
pub mod target;

pub use address::Address;
pub use catalogue::Catalogue;
pub use error::{Error, Result, is_input};
pub use flags::Flags;
pub use ledger::Ledger;
pub use target::{Opened, RemoteTarget, open};
