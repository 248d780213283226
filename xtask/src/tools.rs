//! Which tools of the machine the tests use, and how to get them.
//!
//! A missing tool is never a reason to skip: as root on a system with `apt-get` it is installed,
//! elsewhere the exact line to run is printed and the command fails.

use anyhow::{Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::shell;

/// How much of the list a command needs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Need {
    /// What `cargo xtask vm-test` uses
    Machine,
    /// What `cargo xtask test` uses
    Test,
    /// The long end-to-end rows as well
    Everything,
}

/// One tool: how to see that it is there, and Debian's packages that bring it.
struct Tool {
    name: &'static str,
    packages: fn() -> Vec<String>,
    only_for: Need,
    is_there: fn() -> bool,
}

fn runs(program: &str, args: &[&str]) -> bool {
    shell::succeeds(Path::new(program), args)
}

fn own(packages: &[&str]) -> Vec<String> {
    packages
        .iter()
        .map(|package| (*package).to_owned())
        .collect()
}

/// The package with the tests is named after the version, which only the interpreter knows.
fn python_packages() -> Vec<String> {
    const VERSION: &str = "import sys; print('%d.%d' % sys.version_info[:2])";
    let version = Command::new("/usr/bin/python3")
        .args(["-c", VERSION])
        .output();
    match version {
        Ok(output) if output.status.success() => {
            vec![format!(
                "libpython{}-testsuite",
                String::from_utf8_lossy(&output.stdout).trim()
            )]
        }
        _ => own(&["python3"]),
    }
}

const TOOLS: &[Tool] = &[
    Tool {
        name: "qemu-system-x86_64",
        packages: || own(&["qemu-system-x86"]),
        only_for: Need::Machine,
        is_there: || runs("qemu-system-x86_64", &["--version"]),
    },
    Tool {
        name: "gcc with a C library to link",
        packages: || own(&["gcc", "libc6-dev"]),
        only_for: Need::Test,
        is_there: || {
            runs("gcc", &["--version"])
                && runs("sh", &["-c", "echo '#include <stdlib.h>' | gcc -E -"])
        },
    },
    Tool {
        name: "git",
        packages: || own(&["git"]),
        only_for: Need::Test,
        is_there: || runs("git", &["--version"]),
    },
    Tool {
        name: "perl",
        packages: || own(&["perl"]),
        only_for: Need::Test,
        is_there: || runs("perl", &["-e", "1"]),
    },
    Tool {
        name: "xz",
        packages: || own(&["xz-utils"]),
        only_for: Need::Test,
        is_there: || runs("xz", &["--version"]),
    },
    Tool {
        name: "sqlite3",
        packages: || own(&["sqlite3"]),
        only_for: Need::Test,
        is_there: || runs("sqlite3", &["--version"]),
    },
    Tool {
        name: "python3 with its `test` package",
        packages: python_packages,
        only_for: Need::Test,
        is_there: || python_with_tests().is_some(),
    },
    Tool {
        name: "redis-server and redis-benchmark",
        packages: || own(&["redis-server", "redis-tools"]),
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
    // Each need includes those before it.
    let wanted = |tool: &&Tool| tool.only_for <= need;
    TOOLS
        .iter()
        .filter(wanted)
        .filter(|tool| !(tool.is_there)())
        .collect()
}

fn packages_of(tools: &[&Tool]) -> Vec<String> {
    tools.iter().flat_map(|tool| (tool.packages)()).collect()
}

fn is_root() -> bool {
    Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|output| output.stdout == b"0\n")
}

fn names_of(tools: &[&Tool]) -> String {
    let names: Vec<_> = tools.iter().map(|tool| tool.name).collect();
    names.join(", ")
}

/// `apt-get ARGS`, without questions.
fn apt(args: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    // RUNLEVEL=1 keeps packages from starting their daemons: the rows start their own.
    command
        .args(args)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("RUNLEVEL", "1");
    shell::run(&mut command)
}

/// As [`provide`], without a word if all is there: for what prints for other programs.
pub(crate) fn provide_quietly(need: Need) -> Result<()> {
    if missing(need).is_empty() {
        return Ok(());
    }
    provide(need)
}

/// Makes sure that the tools are there: installs them as root, else fails with the line to run.
pub(crate) fn provide(need: Need) -> Result<()> {
    // Twice: which package has python's tests is known once python is there.
    for round in 0..2 {
        let absent = missing(need);
        if absent.is_empty() {
            println!("all tools are here");
            return Ok(());
        }
        let (names, packages) = (names_of(&absent), packages_of(&absent));
        println!("missing: {names}");
        if !is_root() || !runs("apt-get", &["--version"]) {
            bail!(
                "missing: {names}; install them, on Debian or Ubuntu with\n  \
                 sudo apt-get update && sudo apt-get install -y {}\n\
                 and, where python3 was missing, run this again: it names the package of its tests",
                packages.join(" ")
            );
        }
        if round == 0 {
            apt(&["update", "-q"])?;
        }
        let mut install = vec!["install", "-y", "-q", "--no-install-recommends"];
        install.extend(packages.iter().map(String::as_str));
        apt(&install)?;
    }
    let still = missing(need);
    if !still.is_empty() {
        bail!("still missing after apt-get: {}", names_of(&still));
    }
    println!("all tools are here now");
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
                .all(|tool| !(tool.packages)().is_empty() && !tool.name.is_empty())
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
