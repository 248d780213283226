//! The models of lock-free protocols: loom runs every interleaving of a few operations.
//!
//! Under `--cfg loom` only what is modelled is built, in a target folder of its own, since the flag
//! would rebuild everything else.

use anyhow::Result;

use crate::shell::{self, Repo, step};

/// Which tests are models: a package and the arguments that select them.
const MODELS: [&[&str]; 4] = [
    &["-p", "gfp", "--lib", "frame::tests"],
    &["-p", "gfp", "--lib", "interleavings::"],
    &["-p", "gfp-malloc", "--lib", "interleavings::"],
    &["-p", "gfp-host", "--test", "loom_slot"],
];

/// Runs all models; the closing lines of cargo test.
pub(crate) fn run(repo: &Repo) -> Result<Vec<String>> {
    step("loom", "cargo xtask loom", || {
        let mut results = Vec::new();
        for model in MODELS {
            let mut command = repo.cargo(&["test", "--release"]);
            command.args(model);
            command.arg("--target-dir").arg(repo.target.join("loom"));
            command.env("RUSTFLAGS", "--cfg loom");
            results.extend(shell::run_and_keep(&mut command, |line| {
                line.starts_with("test result:")
            })?);
        }
        Ok(results)
    })
}
