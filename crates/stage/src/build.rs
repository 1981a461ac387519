//! What a binary was built from, as `--version` says it. It stands in no lock and in no other output: two builds of one version are one to
//! the question of what is up to date.

/// What a binary was built from. `main.rs` says it: what a library knows would be known again at each commit.
#[derive(Clone, Copy, Debug)]
pub struct Build {
    version: &'static str,
    commit: &'static str,
    features: &'static str,
}

impl Build {
    /// A build of `commit`, of a binary without features.
    pub const fn new(commit: &'static str) -> Self {
        Self { version: env!("CARGO_PKG_VERSION"), commit, features: "" }
    }

    /// The same of a binary that can be built for NVIDIA GPUs, and was if `cuda`.
    #[must_use]
    pub const fn with_cuda(self, cuda: bool) -> Self {
        Self { features: if cuda { ", cuda" } else { ", without cuda" }, ..self }
    }

    /// `0.1.0 (commit 0123456789, without cuda)`.
    pub(crate) fn long(self) -> String {
        format!("{} (commit {}{})", self.version, self.commit, self.features)
    }
}

#[cfg(test)]
mod tests {
    use super::Build;

    #[test]
    fn a_build_names_commit_and_features() {
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(Build::new("unknown").long(), format!("{version} (commit unknown)"));
        assert_eq!(Build::new("1-dirty").with_cuda(true).long(), format!("{version} (commit 1-dirty, cuda)"));
        assert_eq!(Build::new("1").with_cuda(false).long(), format!("{version} (commit 1, without cuda)"));
    }
}
