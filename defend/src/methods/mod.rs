//! The defences: answer policies, which change what is answered, and methods that are fitted to the data, be it that they change the
//! weights. Of the latter one file each, and a line in `FITTED`; any other answer policy is an entry of
//! [`service::policies::POLICIES`] and a defence by that alone.

pub mod decoy;
pub mod gro;
pub mod guard;
mod policy;
pub mod positions;

use std::path::Path;
use std::sync::LazyLock;

use anyhow::Result;
use artifact::checkpoint::{ActsOn, Defence};
use artifact::dataset::Dataset;
use artifact::names::{Named, Registry};
use artifact::settings::{Owned, Section, Sections, Settings, owned};
use candle_core::Device;
use service::key::{Key, key_path};
use service::policies::POLICIES;
use stage::{Checked, Flags, Interruption, OtherSplit, Plan, Refusal, Resume, progress};
use training::fit::Run;
use training::state::Saving;

/// The methods that look at the data.
const FITTED: &[Method] = &[guard::METHOD, gro::METHOD, decoy::METHOD];

/// Every defence, in the order of reports: answer policies, then methods that look at the data.
pub static DEFENCES: LazyLock<Registry<Method>> = LazyLock::new(|| {
    let fitted = |name: &str| FITTED.iter().any(|method| method.name == name);
    let others = POLICIES.entries.iter().filter(|policy| !fitted(policy.name));
    let entries: Vec<Method> = others.map(policy::method).chain(FITTED.iter().copied()).collect();
    Registry { kind: "defence", entries: entries.leak() }
});

/// A defence: its names, what it reads, and what it does to a target.
#[derive(Clone, Copy, Debug)]
pub struct Method {
    /// What files, settings and command lines call it.
    pub name: &'static str,
    /// What it does, in a few words.
    pub title: &'static str,
    /// What it changes.
    pub acts_on: ActsOn,
    /// Its own settings, where it has any: the section `defend.NAME`.
    pub section: Option<Section>,
    /// The other sections of the settings that its result depends on.
    pub depends_on: &'static [&'static str],
    /// Whether it reads the dataset that the target was trained on.
    pub needs_data: bool,
    /// Whether answers depend on a secret key.
    pub keyed: bool,
    /// Refuses settings that no catalogue of so many items can be protected with; the path is where the catalogue is.
    pub check: fn(&Settings, usize, &Path) -> Result<()>,
    /// Writes the protected target.
    pub protect: fn(&Job<'_>) -> Result<()>,
}

impl Named for Method {
    fn name(&self) -> &'static str {
        self.name
    }

    fn title(&self) -> &'static str {
        self.title
    }
}

/// A target to be protected, and everything that a method may ask for.
pub struct Job<'a> {
    /// The method.
    pub method: &'a Method,
    /// Settings of all sections.
    pub settings: &'a Checked,
    /// The dataset's directory, where one was given.
    pub data: Option<&'a Path>,
    /// The target's checkpoint.
    pub target: &'a Path,
    /// The key that a service is to answer by, where one was given.
    pub key: Option<&'a Path>,
    /// The directory to write to.
    pub output: &'a Path,
    /// What is being made: it knows where the state of a run is kept, and says in `run.log` what it ran on.
    pub plan: &'a Plan,
    /// What that state depends on, as a digest.
    pub identity: &'a str,
    /// How the run goes on, and how often its state is kept.
    pub resume: &'a Resume,
    /// Whether the target may have been trained on other splits than the dataset's.
    pub other_split: OtherSplit,
    /// Flags of every stage.
    pub flags: &'a Flags,
}

impl Job<'_> {
    /// The method's own settings.
    ///
    /// # Errors
    /// Those of settings that were not checked.
    pub fn own_settings<T: Owned>(&self) -> Result<T> {
        Ok(owned(&self.settings.defend, self.method.name)?)
    }

    /// The method's own settings as a checkpoint keeps them; none where it has none.
    pub fn parameters(&self) -> Sections {
        let own = self.settings.defend.get(self.method.name);
        own.and_then(|section| section.as_object()).cloned().unwrap_or_default()
    }

    /// The dataset, and where it lies.
    ///
    /// # Errors
    /// A refusal where none was given or it cannot be read.
    pub fn dataset(&self) -> Result<(&Path, Dataset)> {
        let data = self.data.ok_or_else(|| missing_data(self.method))?;
        Ok((data, Dataset::read(data)?))
    }

    /// What the target will be described by: this method's defence over the one that it has. Says aloud which answer policy gives way, for a
    /// target has one.
    pub fn over(&self, defence: Defence, earlier: Defence) -> Defence {
        if earlier.acts_on == ActsOn::Answers && earlier.name != "none" {
            tracing::warn!(
                "{} answers by `{}`, which gives way to `{}`: a target has one policy",
                self.target.display(),
                earlier.name,
                defence.name
            );
        }
        defence.over(earlier)
    }

    /// The key that a service is to answer by: the one given, or that of the seed, so that an experiment can be repeated. A copy of
    /// it is written beside the protected target.
    ///
    /// # Errors
    /// A key that cannot be read or written.
    pub fn write_key(&self) -> Result<Key> {
        let key = if let Some(path) = self.key {
            Key::read(path)?
        } else {
            tracing::info!(
                "the key is that of seed {}, so that the experiment can be repeated and whoever knows the seed knows the key; \
                 give --key for a service",
                self.settings.seed
            );
            Key::of_seed(self.settings.seed)
        };
        key.write(&key_path(self.output))?;
        Ok(key)
    }

    /// The device that the flags ask for.
    ///
    /// # Errors
    /// A refusal where it does not answer.
    pub fn device(&self) -> Result<Device> {
        let device = models::device(self.flags.device)?;
        self.plan.runs_on(models::name_of(&device));
        Ok(device)
    }

    /// Trains under this job: with its state, a bar of that name, and heed to signals.
    ///
    /// # Errors
    /// Those of the training.
    pub fn run<T>(&self, name: &str, train: impl FnOnce(&Run<'_>) -> training::Result<T>) -> Result<T> {
        let interruption = Interruption::watch();
        let run = Run {
            output: self.output,
            saving: Saving {
                directory: self.plan.state_dir(),
                identity: self.identity.to_owned(),
                resume: self.resume.resume,
                every: self.resume.save_every,
                interrupted: &|| interruption.requested(),
            },
            bar: progress::bar(0, name, self.flags.quiet),
        };
        Ok(train(&run)?)
    }
}

/// The refusal of a method that reads the data, without any.
pub(crate) fn missing_data(method: &Method) -> Refusal {
    Refusal::new(format!("{} needs the dataset; give it with --data", method.name))
}
