//! The command `once`: one question, and the answer as a table.

use std::fmt::Write as _;
use std::io::{ErrorKind, Write as _};

use anyhow::Result;
use candle_core::Tensor;
use metrics::listed;
use remote::answer::Id;
use serde_json::json;
use service::black_box::BlackBox;
use stage::Refusal;

use crate::protocol::{Ask, Bounds};
use crate::{Machine, target};

/// What `gro-serve once` is told.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[expect(missing_docs, reason = "a doc comment on a flattened group would become the command's help")]
    #[command(flatten)]
    pub target: target::Arguments,
    /// What was taken so far, oldest first: ids of items with blanks between them
    #[arg(long, value_name = "IDS")]
    pub history: String,
    /// Length of the list
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub k: usize,
    /// Leave items of the history out of the list
    #[arg(long)]
    pub exclude_seen: bool,
    /// Print JSON: {"items": [{"id": ..., "title": ..., "score": ...}, ...]}
    #[arg(long)]
    pub json: bool,
    #[expect(missing_docs, reason = "a doc comment on a flattened group would become the command's help")]
    #[command(flatten)]
    pub machine: Machine,
}

/// Answers a question on stdout: place, raw id, title where one is known, and the model's score.
///
/// # Errors
/// A target that cannot be read, a question that cannot be answered: refusals.
pub fn once(arguments: &Arguments) -> Result<()> {
    let table = answered(arguments)?;
    match std::io::stdout().lock().write_all(table.as_bytes()) {
        // Whoever reads no further, such as `head`, has what he wanted.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// The answer, as it is printed.
fn answered(arguments: &Arguments) -> Result<String> {
    let mut target = target::read(&arguments.target, &arguments.machine)?;
    let history = arguments.history.split_whitespace().map(|id| Id(id.into())).collect();
    let ask = Ask { account: None, history, k: arguments.k, exclude_seen: arguments.exclude_seen };
    let bounds = Bounds { k: usize::MAX, history: usize::MAX };
    let question = ask
        .understood(&target.catalogue, bounds)
        .map_err(|problem| Refusal::new(problem.detail.replace(" (GET /v1/items)", "")))?;
    let asked = question.asked(target.catalogue.items());
    let answers = target.service.top_k(&[&question.history], asked)?;
    let items = question.shown(listed(&answers.ids).to_vec());
    let scores = scores(&target, &question.history, &items)?;
    if arguments.json {
        let items: Vec<_> = items
            .iter()
            .zip(&scores)
            .map(|(&item, score)| match target.catalogue.title(item) {
                None => json!({"id": target.catalogue.id(item), "score": score}),
                Some(title) => json!({"id": target.catalogue.id(item), "title": title, "score": score}),
            })
            .collect();
        return Ok(format!("{}\n", json!({"items": items})));
    }
    let width = items.iter().map(|&item| target.catalogue.id(item).chars().count()).max().unwrap_or(0).max(2);
    let mut table = format!("place  {:<width$}    score  title\n", "id");
    for (place, (&item, score)) in items.iter().zip(&scores).enumerate() {
        let (id, title) = (target.catalogue.id(item), target.catalogue.title(item).unwrap_or(""));
        let line = format!("{:>5}  {id:<width$}  {score:>7.3}  {title}", place + 1);
        writeln!(table, "{}", line.trim_end())?;
    }
    Ok(table)
}

/// The model's own scores of `items` after a history, whatever the policy makes of them.
fn scores(target: &target::Target, history: &[u32], items: &[u32]) -> Result<Vec<f32>> {
    let (model, device) = (&target.model, &target.device);
    let states = model.encode(&model.contexts(&[history]).upload(device)?, models::Mode::Evaluate)?;
    let ids = Tensor::from_slice(items, (1, items.len()), device)?;
    Ok(model.catalogue().pick(&states, &ids)?.flatten_all()?.to_vec1::<f32>()?)
}
