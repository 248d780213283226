//! Where the sources of the kernel are, and how its image is built from them.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::failure::Failure;

/// What a checkout must have.
const KERNEL: &str = "crates/gfp-kernel/Cargo.toml";
const SCRIPT: &str = "crates/gfp-kernel/src/boot/kernel.ld";

/// Arguments of the linker: no C library, no start files, nothing relocated, our own script. They
/// reach this one program only, since they stand behind `--`.
const LINK_ARGS: [&str; 8] = [
    "-nostartfiles",
    "-nostdlib",
    "-static",
    "-no-pie",
    "-Wl,--build-id=none",
    "-Wl,-z,max-page-size=4096",
    "-Wl,-z,norelro",
    "-Wl,--no-eh-frame-hdr",
];

/// What to build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Image {
    /// The kernel, with debug assertions: tests, shell.
    Checked,
    /// The kernel as fast as it can be: benchmarks.
    Fast,
    /// An example of the package.
    Example(String),
}

impl Image {
    fn profile(&self) -> &'static str {
        match self {
            Image::Fast => "kernel-bench",
            Image::Checked | Image::Example(_) => "kernel",
        }
    }

    fn target(&self) -> (&'static str, &str) {
        match self {
            Image::Example(name) => ("--example", name),
            Image::Checked | Image::Fast => ("--bin", "gfp-kernel"),
        }
    }
}

/// The checkout around `here`, else the one that gfp was built from.
pub(super) fn find(here: &Path) -> Result<PathBuf, Failure> {
    let built_from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    find_or(here, &built_from)
}

fn find_or(here: &Path, built_from: &Path) -> Result<PathBuf, Failure> {
    let is_one = |dir: &&Path| dir.join(KERNEL).is_file();
    let found = here.ancestors().chain([built_from]).find(is_one);
    let found = found.and_then(|dir| dir.canonicalize().ok());
    found.ok_or_else(|| {
        Failure::own(format!(
            "the kernel is built from its sources, and no checkout of gfp is at {} or above it: \
             go into one and try again",
            here.display()
        ))
    })
}

/// The command that builds an image.
pub(super) fn command(root: &Path, image: &Image) -> Command {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    let (kind, name) = image.target();
    command
        .current_dir(root)
        .args(["rustc", "-p", "gfp-kernel", kind, name])
        .args(["--profile", image.profile()])
        .args(["--message-format", "json-render-diagnostics"])
        .args(["--", "--cfg", "image"])
        .args(LINK_ARGS.map(|arg| format!("-Clink-arg={arg}")))
        .arg(script_arg(&root.join(SCRIPT)))
        // Flags for this machine's CPU, for one, would use registers that the kernel has not
        // turned on. An empty value also hides those of configuration files.
        .env("CARGO_ENCODED_RUSTFLAGS", "")
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    command
}

fn script_arg(script: &Path) -> OsString {
    let mut arg = OsString::from("-Clink-arg=-Wl,-T,");
    arg.push(script);
    arg
}

/// Builds it; cargo shows its progress on stderr. The path of the image.
pub(super) fn build(root: &Path, image: &Image) -> Result<PathBuf, Failure> {
    if root.as_os_str().as_encoded_bytes().contains(&b',') {
        // `-Wl` splits there.
        let message = format!("{}: a path with a comma cannot be linked", root.display());
        return Err(Failure::own(message));
    }
    let mut command = command(root, image);
    let output = command.output().map_err(|error| {
        let cargo = command.get_program().to_string_lossy().into_owned();
        Failure::not_found(format!("{cargo}: {error}; get Rust from https://rustup.rs"))
    })?;
    if !output.status.success() {
        return Err(Failure::own("the kernel could not be built, see above"));
    }
    let (_, name) = image.target();
    executable(&String::from_utf8_lossy(&output.stdout), name)
        .ok_or_else(|| Failure::own(format!("cargo built {name} and did not say where")))
}

/// What we read of cargo's messages.
#[derive(Deserialize)]
struct Message {
    executable: Option<PathBuf>,
    target: Option<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

/// The path of the executable called `name` in cargo's messages.
fn executable(messages: &str, name: &str) -> Option<PathBuf> {
    let parsed = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Message>(line).ok());
    let of_name = |message: Message| match message.target {
        Some(target) if target.name == name => message.executable,
        _ => None,
    };
    parsed.filter_map(of_name).next_back()
}

/// QEMU, or how to get it.
pub(super) fn qemu(path: Option<&OsStr>) -> Result<PathBuf, Failure> {
    const NAME: &str = "qemu-system-x86_64";
    crate::program::resolve(OsStr::new(NAME), path).map_err(|failure| {
        if failure.status != crate::failure::NOT_FOUND {
            return failure;
        }
        Failure::not_found(format!(
            "{NAME} was not found; get it with: sudo apt-get install -y qemu-system-x86"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::TempDir;
    use std::fs;

    #[test]
    fn the_checkout_around_us_comes_first() {
        let dir = TempDir::new("checkout").unwrap();
        let base = dir.path().canonicalize().unwrap();
        let (own, other) = (base.join("own"), base.join("other"));
        for root in [&own, &other] {
            fs::create_dir_all(root.join("crates/gfp-kernel/src")).unwrap();
            fs::write(root.join(KERNEL), "").unwrap();
        }
        let inside = own.join("crates/gfp-kernel/src");
        assert_eq!(find_or(&inside, &other), Ok(own));
        assert_eq!(find_or(&base, &other), Ok(other));
        let missing = find_or(&base, &base.join("gone")).unwrap_err();
        assert!(missing.message.contains("no checkout"), "{missing:?}");
        assert_eq!(missing.status, crate::failure::OWN);
    }

    #[test]
    fn the_image_is_linked_by_its_own_script() {
        let words = |image: &Image| -> Vec<String> {
            let command = command(Path::new("/c"), image);
            let args = command.get_args();
            args.map(|arg| arg.to_str().unwrap().to_owned()).collect()
        };
        let checked = words(&Image::Checked);
        assert_eq!(
            checked[..5],
            ["rustc", "-p", "gfp-kernel", "--bin", "gfp-kernel"]
        );
        assert!(checked.windows(2).any(|w| w == ["--profile", "kernel"]));
        let behind: Vec<_> = checked.iter().skip_while(|arg| *arg != "--").collect();
        assert_eq!(behind[1..3], ["--cfg", "image"]);
        assert_eq!(
            behind.last().unwrap().as_str(),
            "-Clink-arg=-Wl,-T,/c/crates/gfp-kernel/src/boot/kernel.ld"
        );
        assert!(words(&Image::Fast).contains(&"kernel-bench".to_owned()));
        let example = words(&Image::Example("smallest".into()));
        assert_eq!(example[3..5], ["--example", "smallest"]);
    }

    #[test]
    fn the_executable_is_the_one_of_that_name() {
        let text = "\
            {\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"gfp\"},\"executable\":null}\n\
            not json\n\
            {\"reason\":\"artifact\",\"target\":{\"name\":\"k\"},\"executable\":\"/t/k\"}\n\
            {\"reason\":\"build-finished\",\"success\":true}\n";
        assert_eq!(executable(text, "k"), Some("/t/k".into()));
        assert_eq!(executable(text, "gfp"), None);
        assert_eq!(executable("", "k"), None);
    }

    #[test]
    fn without_qemu_one_line_says_how_to_get_it() {
        let missing = qemu(Some(OsStr::new("/nowhere"))).unwrap_err();
        assert_eq!(missing.status, crate::failure::NOT_FOUND);
        assert!(
            missing
                .message
                .contains("sudo apt-get install -y qemu-system-x86")
        );
        assert!(!missing.message.contains('\n'));
    }
}
