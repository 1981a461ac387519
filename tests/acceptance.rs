//! Acceptance tests of the workspace; there is no code here. `parity.rs` holds the models, the losses and GRO
//! to the numbers of the authors' PyTorch code, `interchange.rs` carries weights to PyTorch and back, `pipeline.rs`
//! chains the five binaries as a user does, `known_bytes.rs` holds what they write to hashes that an emulated
//! processor without AVX-512 wrote too,
//! `workflows.rs` has make, DVC, Snakemake and separate machines do it, and `interruption.rs` cuts it off and takes it up again.
