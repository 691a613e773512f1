//! The `pumice` command.
#![forbid(unsafe_code)]

fn main() {}
