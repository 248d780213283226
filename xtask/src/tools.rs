//! Which tools of the machine the tests use, and how to get them.
//!
//! A missing tool is never a reason to skip: as root on a system with `apt-get` it is installed,
//! elsewhere the exact line to run is printed and the command fails.

use anyhow::{Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::shell;

/// How much of the list a command needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Need {
    /// What `cargo xtask test` uses
    Test,
    /// The long end-to-end rows as well
    Everything,
}

/// One tool: how to see that it is there, and Debian's packages that bring it.
struct Tool {
    name: &'static str,
    packages: &'static [&'static str],
    only_for: Need,
    is_there: fn() -> bool,
}

fn runs(program: &str, args: &[&str]) -> bool {
    shell::succeeds(Path::new(program), args)
}

const TOOLS: &[Tool] = &[
    Tool {
        name: "gcc with a C library to link",
        packages: &["gcc", "libc6-dev"],
        only_for: Need::Test,
        is_there: || {
            runs("gcc", &["--version"])
                && runs("sh", &["-c", "echo '#include <stdlib.h>' | gcc -E -"])
        },
    },
    Tool {
        name: "git",
        packages: &["git"],
        only_for: Need::Test,
        is_there: || runs("git", &["--version"]),
    },
    Tool {
        name: "perl",
        packages: &["perl"],
        only_for: Need::Test,
        is_there: || runs("perl", &["-e", "1"]),
    },
    Tool {
        name: "xz",
        packages: &["xz-utils"],
        only_for: Need::Test,
        is_there: || runs("xz", &["--version"]),
    },
    Tool {
        name: "sqlite3",
        packages: &["sqlite3"],
        only_for: Need::Test,
        is_there: || runs("sqlite3", &["--version"]),
    },
    Tool {
        name: "python3 with its `test` package",
        packages: &["python3", "libpython3-testsuite"],
        only_for: Need::Test,
        is_there: || python_with_tests().is_some(),
    },
    Tool {
        name: "redis-server and redis-benchmark",
        packages: &["redis-server", "redis-tools"],
        only_for: Need::Everything,
        is_there: || {
            runs("redis-server", &["--version"]) && runs("redis-benchmark", &["--version"])
        },
    },
];

/// A python that ships the `test` package and the modules that the rows use. Version managers put a
/// shell script in front, so the interpreter is asked for its own path.
pub(crate) fn python_with_tests() -> Option<PathBuf> {
    const PROBE: &str = "import sys, test.test_json, test.libregrtest; \
                         import sqlite3, ctypes, zlib, bz2, lzma; \
                         assert sys.version_info >= (3, 8); print(sys.executable)";
    for candidate in ["python3", "/usr/bin/python3", "/usr/local/bin/python3"] {
        let Ok(output) = Command::new(candidate).args(["-c", PROBE]).output() else {
            continue;
        };
        if output.status.success() {
            let path = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            return Some(PathBuf::from(path));
        }
    }
    None
}

fn missing(need: Need) -> Vec<&'static Tool> {
    let wanted = |tool: &&Tool| need == Need::Everything || tool.only_for == Need::Test;
    TOOLS
        .iter()
        .filter(wanted)
        .filter(|tool| !(tool.is_there)())
        .collect()
}

fn packages_of(tools: &[&Tool]) -> Vec<&'static str> {
    tools
        .iter()
        .flat_map(|tool| tool.packages.iter().copied())
        .collect()
}

fn is_root() -> bool {
    Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|output| output.stdout == b"0\n")
}

/// Makes sure that the tools are there: installs them as root, else fails with the line to run.
pub(crate) fn provide(need: Need) -> Result<()> {
    let absent = missing(need);
    if absent.is_empty() {
        println!("all tools are here");
        return Ok(());
    }
    let names: Vec<_> = absent.iter().map(|tool| tool.name).collect();
    let packages = packages_of(&absent);
    println!("missing: {}", names.join(", "));
    if !is_root() || !runs("apt-get", &["--version"]) {
        bail!(
            "missing: {}; install them, on Debian or Ubuntu with\n  sudo apt-get install -y {}",
            names.join(", "),
            packages.join(" ")
        );
    }
    let apt = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        // RUNLEVEL=1 keeps packages from starting their daemons: the rows start their own.
        command
            .args(args)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("RUNLEVEL", "1");
        shell::run(&mut command)
    };
    apt(&["update", "-q"])?;
    let mut install = vec!["install", "-y", "-q", "--no-install-recommends"];
    install.extend(&packages);
    apt(&install)?;
    let still = missing(need);
    if !still.is_empty() {
        let names: Vec<_> = still.iter().map(|tool| tool.name).collect();
        bail!(
            "still missing after `apt-get {}`: {}",
            install.join(" "),
            names.join(", ")
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tool_names_a_package() {
        assert!(
            TOOLS
                .iter()
                .all(|tool| !tool.packages.is_empty() && !tool.name.is_empty())
        );
        let redis: Vec<_> = TOOLS
            .iter()
            .filter(|t| t.only_for == Need::Everything)
            .collect();
        assert_eq!(packages_of(&redis), ["redis-server", "redis-tools"]);
    }

    #[test]
    fn a_tool_that_is_not_there_is_seen() {
        assert!(!runs("no-such-program-here", &["--version"]));
        assert!(!runs("sh", &["-c", "exit 1"]));
        assert!(runs("sh", &["-c", "exit 0"]));
    }
}
