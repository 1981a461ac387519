//! The page at `/`: what an account is answered with the defence and without it, side by side, and what a guard makes of the account.
//! For the owner's eyes, on his own machine.

use anyhow::Result;
use artifact::checkpoint::Defence;
use metrics::listed;
use remote::Catalogue;
use serde::Serialize;
use service::black_box::{BlackBox, ProtectedTarget};
use service::policies::{Answering, key_of, policy_of};
use std::sync::Mutex;
use std::sync::PoisonError;

use crate::target::{Arguments, Target};

/// The page.
pub const PAGE: &str = include_str!("demo.html");

/// Length of the lists that are shown.
pub const K: usize = 20;

/// A target and the same without its policy.
pub struct Demo {
    protected: Mutex<ProtectedTarget>,
    open: Mutex<ProtectedTarget>,
    answering: Answering,
    title: String,
    model: std::sync::Arc<dyn models::Recommender>,
    device: candle_core::Device,
}

/// What the page shows of a history.
#[derive(Debug, Serialize)]
pub struct Lists {
    /// The defence, by name.
    pub defence: String,
    /// What is answered.
    pub protected: Vec<Item>,
    /// What the model ranks.
    pub open: Vec<Item>,
    /// What a guard makes of the account, question by question; empty without one.
    pub evidence: Vec<Evidence>,
    /// Evidence in nats above which a guard answers with decoys.
    pub threshold: Option<f64>,
}

/// An item of a list.
#[derive(Debug, Serialize)]
pub struct Item {
    /// Its raw id.
    pub id: String,
    /// Its title, where one is known.
    pub title: Option<String>,
}

/// What a guard makes of an account at a question.
#[derive(Debug, Serialize)]
pub struct Evidence {
    /// Nats for a thief.
    pub nats: f64,
    /// Place of the item that was taken in the list before; none for the first.
    pub place: Option<u32>,
    /// Whether that was a canary.
    pub canary: bool,
    /// Whether the question is answered with decoys.
    pub flagged: bool,
}

impl Demo {
    /// The demonstration of a target.
    ///
    /// # Errors
    /// Those of reading its key.
    pub fn new(target: &Target, arguments: &Arguments) -> Result<Self> {
        let description = &target.description;
        let key = || key_of(description, &arguments.target, arguments.key.as_deref());
        let open = artifact::checkpoint::Description { defence: Defence::none(), ..description.clone() };
        let behind = |description, key| {
            ProtectedTarget::new(
                std::sync::Arc::clone(&target.model),
                description,
                key,
                target.device.clone(),
            )
        };
        Ok(Self {
            protected: Mutex::new(behind(description, key()?)?),
            open: Mutex::new(behind(&open, None)?),
            answering: policy_of(description, key()?)?,
            title: description.defence.title(),
            model: std::sync::Arc::clone(&target.model),
            device: target.device.clone(),
        })
    }

    /// What the page shows of a history, in lists of `k`.
    ///
    /// # Errors
    /// Those of the model.
    pub fn lists(&self, history: &[u32], k: usize, catalogue: &Catalogue) -> Result<Lists> {
        let list = |target: &Mutex<ProtectedTarget>| -> Result<Vec<Item>> {
            let answers = target.lock().unwrap_or_else(PoisonError::into_inner).top_k(&[history], k)?;
            let item = |&id: &u32| Item {
                id: catalogue.id(id).to_owned(),
                title: catalogue.title(id).map(str::to_owned),
            };
            Ok(listed(&answers.ids).iter().map(item).collect())
        };
        let mut evidence = Vec::new();
        let mut threshold = None;
        if let Answering::ByAccount(guard) = &self.answering {
            threshold = Some(guard.parameters().threshold).filter(|threshold| threshold.is_finite());
            evidence.extend(guard.watch(&*self.model, history, k, &self.device)?.iter().map(|watched| {
                Evidence {
                    nats: watched.nats,
                    place: watched.taken.map(|taken| taken.place),
                    canary: watched.taken.is_some_and(|taken| taken.canary),
                    flagged: watched.flagged,
                }
            }));
        }
        Ok(Lists {
            defence: self.title.clone(),
            protected: list(&self.protected)?,
            open: list(&self.open)?,
            evidence,
            threshold,
        })
    }
}
