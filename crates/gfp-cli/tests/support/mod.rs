//! What the end-to-end tests share.

// Each test file uses its own part of this.
#![allow(dead_code)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory of a test, removed at its end.
pub(crate) struct Dir(PathBuf);

impl Dir {
    pub(crate) fn new() -> Dir {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("e2e-{}-{number}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).unwrap();
        Dir(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What a finished gfp left.
pub(crate) struct Output {
    pub(crate) status: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// `gfp` with these arguments.
pub(crate) fn gfp(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gfp"));
    command.args(args);
    command
}

/// Runs a command to its end.
pub(crate) fn finish(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    Output {
        status: output.status.code(),
        signal: output.status.signal(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Runs `gfp` to its end.
pub(crate) fn run(args: &[&str]) -> Output {
    finish(&mut gfp(args))
}

/// Directories of running gfp under `dir`.
pub(crate) fn record_dirs(dir: &Dir) -> usize {
    let names = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    names
        .filter(|name| name.as_encoded_bytes().starts_with(b"gfp-run-"))
        .count()
}

/// Writes a file with that mode.
pub(crate) fn script(dir: &Dir, name: &str, text: &str, mode: u32) -> PathBuf {
    let path = dir.path().join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

/// Compiles a C program with the C compiler that Rust links with anyway.
pub(crate) fn compile(dir: &Dir, name: &str, source: &str, options: &[&str]) -> PathBuf {
    let (path, source_path) = (dir.path().join(name), dir.path().join(format!("{name}.c")));
    fs::write(&source_path, source).unwrap();
    let status = Command::new("cc")
        .args(options)
        .arg("-o")
        .arg(&path)
        .arg(&source_path)
        .status()
        .unwrap();
    assert!(status.success(), "cc {name}");
    path
}

/// Parses JSON.
pub(crate) fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}
