//! `guard`: as ranked to who takes like a user, with decoys to who takes like a thief. The guard itself is [`crate::guard`].

use artifact::settings::read_all;

use super::{Answering, Build, Policy};
use crate::guard::{Guard, Parameters};

/// The registry's entry. Its settings are those of the defence that fits it to users.
pub(super) const POLICY: Policy = Policy {
    name: "guard",
    title: "Answers accounts that take like thieves with decoys",
    section: None,
    build: Build::Keyed(|parameters, key, items| {
        Ok(Answering::ByAccount(Box::new(Guard::new(read_all::<Parameters>(parameters)?, key, items)?)))
    }),
};
