//! The command `proxy`: a defence of ours in front of a recommender that others run ([`service::front`]).

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use artifact::checkpoint::MODEL;
use artifact::queries::QueryHeader;
use remote::{Address, Flags, Ledger};
use service::front::Front;
use service::policies::key_of;
use stage::memory::check_loading;
use stage::{Kernels, Refusal};

use crate::http::{Listening, Source, serve};
use crate::{Machine, target};

/// How often a question is asked again whose answer was lost.
const RETRIES: u32 = 1;

/// What `gro-serve proxy` is told.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// The recommender: http(s)://…, or 'command:PROGRAM ARGUMENTS'
    ///
    /// It speaks the laboratory's protocol, or any that --mapping describes (docs/foreign.md).
    #[arg(long, value_name = "URL")]
    pub upstream: Address,
    /// Directory of a copy of it behind a guard, made by `gro-defend --method guard`
    ///
    /// The copy, made by `gro-attack` from its answers, says what these don't: where an item stands that is in no list, and which items
    /// nobody wants after a history. What is answered are the recommender's own lists.
    #[arg(long, value_name = "DIR")]
    pub guard: PathBuf,
    /// Key of the guard; by default answer.key beside the copy
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Items of the recommender, where it does not list them itself, in the order of the copy's
    #[arg(long, value_name = "FILE")]
    pub catalogue: Option<PathBuf>,
    /// How to ask a service that does not speak the laboratory's protocol: YAML or JSON
    #[arg(long, value_name = "FILE")]
    pub mapping: Option<PathBuf>,
    /// Environment variable that holds the recommender's key, sent as `Authorization: Bearer …`
    #[arg(long, value_name = "NAME")]
    pub key_env: Option<String>,
    /// Trust the certificates of the authorities in this PEM file and no others
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Calls of the recommender on their way at once, or copies of a program
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub concurrency: Option<u16>,
    #[expect(missing_docs, reason = "a doc comment on a flattened group would become the command's help")]
    #[command(flatten)]
    pub listening: Listening,
    #[expect(missing_docs, reason = "a doc comment on a flattened group would become the command's help")]
    #[command(flatten)]
    pub machine: Machine,
}

/// Answers with the recommender's lists behind the guard, until a signal comes.
///
/// # Errors
/// As [`serve`]; a recommender that cannot be reached, or a copy of another catalogue.
pub fn proxy(arguments: &Arguments) -> Result<()> {
    if let Address::Directory(path) = &arguments.upstream {
        let message = format!(
            "--upstream {}: expected http://…, https://… or command:…; what is in a directory `gro-serve http` answers for",
            path.display()
        );
        return Err(Refusal::new(message).into());
    }
    let listening = &arguments.listening;
    let arguments = arguments.clone();
    serve(listening, move || read(&arguments))
}

fn read(arguments: &Arguments) -> Result<Source> {
    kernels::set_plain(arguments.machine.kernels == Kernels::Plain);
    let path = arguments.guard.join(MODEL);
    target::check_lock(&arguments.guard)?;
    check_loading(&path)?;
    let device = models::device(arguments.machine.device)?;
    let (model, description) = models::load(&path, &device)?;
    let key = key_of(&description, &arguments.guard, arguments.key.as_deref())?;
    let flags = Flags {
        catalogue: arguments.catalogue.clone(),
        mapping: arguments.mapping.clone(),
        key_env: arguments.key_env.clone(),
        ca: arguments.ca.clone(),
        concurrency: arguments.concurrency,
        // Its client waits no longer.
        timeout: Some(std::time::Duration::from_secs(arguments.listening.timeout)),
        retries: Some(RETRIES),
        ..Flags::default()
    };
    let opened = remote::open(&arguments.upstream, &flags, &|| false)?;
    if opened.catalogue.fingerprint != description.fingerprint {
        let message = format!(
            "{} is a copy of another recommender than {}: fingerprint {} ({} items) against {} ({}); give the copy that was made of \
             it, or its items in the copy's order with --catalogue",
            path.display(),
            opened.name,
            description.fingerprint,
            description.items,
            opened.catalogue.fingerprint,
            opened.catalogue.items()
        );
        return Err(Refusal::new(message).into());
    }
    let catalogue = opened.catalogue.clone();
    let header = QueryHeader {
        items: catalogue.items(),
        fingerprint: description.fingerprint.clone(),
        splits: opened.catalogue.splits.clone(),
        target: opened.catalogue.target.clone(),
        ..QueryHeader::default()
    };
    let max_len = opened.catalogue.max_len.unwrap_or(description.network.max_len);
    let max_k = opened.catalogue.max_k;
    let upstream = opened.target(Ledger::unkept(), &|| false, "k", "");
    let service = Front::new((Box::new(upstream), max_k), Arc::from(model), &description, key, device)?;
    Ok(Source {
        services: vec![Box::new(service)],
        catalogue,
        header,
        max_len,
        max_k,
        demo: None,
        in_front: true,
    })
}
