//! Builds small C programs and runs them with the library preloaded.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

/// libgfp_malloc.so of the profile that this test was built with.
pub(crate) fn library() -> PathBuf {
    let me = std::env::current_exe().expect("the test's own path");
    let deps = me.parent().expect("target/<profile>/deps");
    let places = [deps, deps.parent().expect("target/<profile>")];
    let mut found = places.iter().map(|dir| dir.join("libgfp_malloc.so"));
    found.find(|file| file.exists()).unwrap_or_else(build)
}

/// For a runner that built the tests only.
fn build() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("preload");
    let done = Command::new(std::env::var("CARGO").as_deref().unwrap_or("cargo"))
        .args([
            "build",
            "--quiet",
            "--package",
            "gfp-malloc-preload",
            "--target-dir",
        ])
        .arg(&target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .expect("cargo starts");
    assert!(done.success(), "cargo build of the library");
    target.join("debug/libgfp_malloc.so")
}

/// An empty directory for one test.
pub(crate) fn scratch() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!(
        "{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    );
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&dir).expect("a scratch directory");
    dir
}

/// Builds `tests/c/<source>` as `dir/<output>`.
pub(crate) fn cc(dir: &Path, source: &str, output: &str, flags: &[&str]) -> PathBuf {
    let output = dir.join(output);
    let done = Command::new("cc")
        .args([
            "-std=gnu11",
            "-O1",
            "-g",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-fno-builtin",
            "-pthread",
        ])
        .args([
            "-Wno-deprecated-declarations",
            "-Wno-free-nonheap-object",
            "-Wno-use-after-free",
        ])
        .arg("-o")
        .arg(&output)
        .arg(
            Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("tests/c")
                .join(source),
        )
        .args(flags)
        .arg("-ldl")
        .output()
        .expect("cc starts: install a C compiler");
    assert!(done.status.success(), "cc {source}: {}", text(&done.stderr));
    output
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A program about to run on the library.
pub(crate) fn preloaded(program: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .env("LD_PRELOAD", library())
        .env("GFP_MEMORY", "268435456");
    for name in [
        "GFP_RECORD_DIR",
        "GFP_PROC_DIR",
        "GFP_MALLOC_REPORT",
        "GFP_OOM",
    ] {
        command.env_remove(name);
    }
    command
}

/// Runs it: it must end well, print "ok", and complain about nothing.
#[allow(dead_code, reason = "as above")]
pub(crate) fn must_be_ok(mut command: Command) {
    let out = command.output().expect("the program starts");
    assert_clean(&out);
}

#[allow(dead_code, reason = "not used by every test program")]
pub(crate) fn assert_clean(out: &Output) {
    let (stdout, stderr) = (text(&out.stdout), text(&out.stderr));
    assert!(
        out.status.success() && stdout == "ok\n" && stderr.is_empty(),
        "status {:?}, signal {:?}\n--- stdout\n{stdout}--- stderr\n{stderr}",
        out.status.code(),
        out.status.signal(),
    );
}

/// Builds and runs one program.
#[allow(dead_code, reason = "as above")]
pub(crate) fn program_is_ok(source: &str) {
    let dir = scratch();
    must_be_ok(preloaded(&cc(&dir, source, "program", &[])));
}
