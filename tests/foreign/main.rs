//! Targets that others run.
