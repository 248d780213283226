//! Tests of finding and judging programs.

use super::*;
use crate::failure::{NOT_EXECUTABLE, NOT_FOUND, OWN};
use crate::records::TempDir;
use std::fs;
use std::io::Cursor;
use std::os::unix::fs::PermissionsExt;

fn put(dir: &TempDir, name: &str, content: impl AsRef<[u8]>, mode: u32) -> PathBuf {
    let path = dir.path().join(name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

fn dir() -> TempDir {
    TempDir::new("program").unwrap()
}

fn failure(program: &Path) -> Failure {
    resolve(program.as_os_str(), None).unwrap_err()
}

#[test]
fn programs_are_found_in_path_order() {
    let (one, two) = (dir(), dir());
    put(&one, "only-readable", "#!/bin/sh\n", 0o644);
    put(&two, "only-readable", "#!/bin/sh\n", 0o755);
    let path = std::env::join_paths([one.path(), two.path()]).unwrap();
    let found = resolve(OsStr::new("only-readable"), Some(&path)).unwrap();
    assert_eq!(found, two.path().join("only-readable"));
    let refused = resolve(OsStr::new("only-readable"), Some(one.path().as_os_str())).unwrap_err();
    assert_eq!(refused.status, NOT_EXECUTABLE);
    assert!(refused.message.contains("chmod +x"), "{}", refused.message);
    assert!(resolve(OsStr::new("sh"), None).is_ok());
}

#[test]
fn what_is_missing_is_told_with_127() {
    let dir = dir();
    assert_eq!(failure(&dir.path().join("none")).status, NOT_FOUND);
    let file = put(&dir, "file", "#!/bin/sh\n", 0o755);
    assert_eq!(failure(&file.join("none")).status, NOT_FOUND);
    for name in ["no-such-program-anywhere", ""] {
        let failure = resolve(OsStr::new(name), None).unwrap_err();
        assert_eq!(failure.status, NOT_FOUND);
        assert!(failure.message.contains("PATH"), "{}", failure.message);
    }
}

#[test]
fn what_cannot_be_executed_is_told_with_126() {
    let dir = dir();
    assert_eq!(failure(dir.path()).status, NOT_EXECUTABLE);
    assert_eq!(failure(Path::new("/dev/null")).status, NOT_EXECUTABLE);
    assert_eq!(
        failure(&put(&dir, "binary", [1, 0, 2], 0o755)).status,
        NOT_EXECUTABLE
    );
    assert_eq!(
        failure(&put(&dir, "elf", b"\x7fELF\x02\x01", 0o755)).status,
        NOT_EXECUTABLE
    );
}

#[test]
fn the_interpreter_of_a_script_is_checked() {
    let dir = dir();
    let good = put(&dir, "good", "#! /bin/sh -e\n", 0o755);
    assert_eq!(resolve(good.as_os_str(), None), Ok(good.clone()));
    let nested = put(&dir, "nested", format!("#!{}\n", good.display()), 0o755);
    assert!(resolve(nested.as_os_str(), None).is_ok());
    let missing = failure(&put(&dir, "missing", "#!/no/such/interpreter\n", 0o755));
    assert_eq!(missing.status, NOT_EXECUTABLE);
    assert!(
        missing.message.contains("interpreter /no/such/interpreter"),
        "{}",
        missing.message
    );
    let own = dir.path().join("own");
    let endless = failure(&put(&dir, "own", format!("#!{}\n", own.display()), 0o755));
    assert_eq!(endless.status, NOT_EXECUTABLE);
    assert!(endless.message.contains("too deep"), "{}", endless.message);
}

#[test]
fn static_and_foreign_programs_are_refused_also_as_interpreters() {
    let dir = dir();
    let mut header = vec![0; 64];
    header[..6].copy_from_slice(b"\x7fELF\x02\x01");
    header[16] = 2;
    header[18] = if cfg!(target_arch = "x86_64") {
        62
    } else {
        183
    };
    let fixed = put(&dir, "static", &header, 0o755);
    let refused = failure(&fixed);
    assert_eq!(refused.status, OWN);
    assert!(
        refused
            .message
            .contains("static binary: cannot be interposed"),
        "{refused:?}"
    );
    let script = failure(&put(
        &dir,
        "script",
        format!("#!{}\n", fixed.display()),
        0o755,
    ));
    assert_eq!(script.status, OWN);
    assert!(script.message.contains("static binary"), "{script:?}");
    header[4] = 1;
    let narrow = failure(&put(&dir, "narrow", &header, 0o755));
    assert_eq!(narrow.status, OWN);
    assert!(narrow.message.contains("32-bit"), "{narrow:?}");
}

#[test]
fn a_set_group_id_program_of_another_group_is_refused() {
    // A dynamic program of ours; which groups we may give it to depends on who runs the test, so
    // the file's own metadata decides what is right.
    let dir = dir();
    let program = std::env::current_exe().unwrap();
    let copy = dir.path().join("copy");
    fs::copy(program, &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o6755)).unwrap();
    let _ = std::os::unix::fs::chown(&copy, Some(12345), Some(12345));
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o6755)).unwrap();
    let metadata = copy.metadata().unwrap();
    // SAFETY: reads the process's credentials.
    let ours = unsafe { (libc::getuid(), libc::getgid()) } == (metadata.uid(), metadata.gid());
    let answer = resolve(copy.as_os_str(), None);
    assert_eq!(answer.is_ok(), ours, "{answer:?}");
    if let Err(failure) = answer {
        assert_eq!(failure.status, OWN);
        assert!(failure.message.contains("LD_PRELOAD"), "{failure:?}");
    }
}

#[test]
fn interpreter_lines_are_read_as_the_kernel_does() {
    let read = |text: &str| script_interpreter(&mut Cursor::new(text.as_bytes())).unwrap();
    assert_eq!(read("#!/bin/sh\n"), Some("/bin/sh".into()));
    assert_eq!(
        read("#! \t/usr/bin/env python3"),
        Some("/usr/bin/env".into())
    );
    assert_eq!(read("echo no line\n"), Some("/bin/sh".into()));
    assert_eq!(read(""), Some("/bin/sh".into()));
    assert_eq!(read("#!\n"), None);
    assert_eq!(read("\0"), None);
}

#[test]
fn a_musl_loader_is_known() {
    assert!(is_musl(OsStr::new("/lib/ld-musl-x86_64.so.1")));
    assert!(!is_musl(OsStr::new("/lib64/ld-linux-x86-64.so.2")));
}
