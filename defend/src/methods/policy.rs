//! A defence that is an answer policy: the weights stay as they are, and the checkpoint names the policy through which whatever
//! serves the target must answer.

use anyhow::Result;
use artifact::checkpoint::{ActsOn, Checkpoint, Defence, Description, Kind, MODEL};
use service::policies::{Build, Policy};

use super::{Job, Method};

/// The method that puts a target behind `policy`.
pub(super) const fn method(policy: &Policy) -> Method {
    Method {
        name: policy.name,
        title: policy.title,
        acts_on: ActsOn::Answers,
        section: policy.section,
        depends_on: &[],
        needs_data: false,
        keyed: matches!(policy.build, Build::Keyed(_)),
        check: |_, _, _| Ok(()),
        protect,
    }
}

fn protect(job: &Job<'_>) -> Result<()> {
    stage::memory::check_loading(job.target)?;
    let Checkpoint { description, tensors } = Checkpoint::read(job.target)?;
    let mut parameters = job.parameters();
    if job.method.keyed {
        let key = job.write_key()?;
        parameters.insert("key".to_owned(), key.fingerprint().into());
    }
    let defence = job.over(Defence::answers(job.method.name, parameters), description.defence);
    let description = Description { kind: Kind::Protected, defence, ..description };
    Ok(Checkpoint { description, tensors }.write(&job.output.join(MODEL))?)
}
