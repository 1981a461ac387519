//! What a client meets, be it a user or a thief: a recommender behind an answer policy, of which nothing shows but ordered
//! lists of item ids.

pub mod black_box;
mod error;
pub mod front;
pub mod guard;
pub mod key;
mod list_memory;
pub mod policies;
mod prefix_cache;
mod prefix_memory;

pub use error::{Error, Result, is_input};
