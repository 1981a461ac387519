//! How large a model is.

use std::ops::Deref;

use artifact::checkpoint::{Defence, Description, Kind};
use artifact::settings::Network;

use crate::Architecture;

/// The sizes of a model; those of its network can be read as its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sizes {
    /// Number of items `n`; ids are 1..=n, 0 is padding.
    pub items: usize,
    /// Sizes beside the number of items.
    pub network: Network,
}

impl Deref for Sizes {
    type Target = Network;

    fn deref(&self) -> &Network {
        &self.network
    }
}

impl Sizes {
    /// What a checkpoint of an undefended model of these sizes says of itself.
    pub fn describe(&self, kind: Kind, architecture: Architecture, fingerprint: &str) -> Description {
        Description {
            kind,
            architecture: architecture.name.to_owned(),
            items: self.items,
            network: self.network,
            defence: Defence::none(),
            fingerprint: fingerprint.to_owned(),
            splits: Vec::new(),
            queries: None,
            learning: None,
        }
    }
}

impl From<&Description> for Sizes {
    fn from(description: &Description) -> Self {
        Self { items: description.items, network: description.network }
    }
}
