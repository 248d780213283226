//! Finding the program, and asking before the start whether it can run under us.
//!
//! A program that the loader would start without our library runs, but on another malloc: that
//! would be silently wrong, so each such case is an error here that names the fix.

use std::ffi::{CString, OsStr, OsString};
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::elf::{self, Kind};
use crate::failure::Failure;

/// Scripts whose interpreter is a script, and so on: the kernel's own limit.
const SCRIPTS_MAX: usize = 4;
/// The kernel reads this much of a `#!` line.
const LINE_BYTES: usize = 256;
/// Where to look if there is no PATH.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// The path of `program`, looked up in `path` (the value of PATH) as a shell does, and checked.
pub(crate) fn resolve(program: &OsStr, path: Option<&OsStr>) -> Result<PathBuf, Failure> {
    let found = if program.as_bytes().contains(&b'/') {
        let found = PathBuf::from(program);
        executable(&found)?;
        found
    } else {
        search(program, path.unwrap_or(OsStr::new(DEFAULT_PATH)))?
    };
    check(&found, SCRIPTS_MAX)?;
    Ok(found)
}

fn search(program: &OsStr, path: &OsStr) -> Result<PathBuf, Failure> {
    let mut refused = None;
    if !program.is_empty() {
        for dir in path.as_bytes().split(|byte| *byte == b':') {
            let dir = if dir.is_empty() { &b"."[..] } else { dir };
            let candidate = Path::new(OsStr::from_bytes(dir)).join(program);
            match executable(&candidate) {
                Ok(()) => return Ok(candidate),
                Err(failure) if failure.status == crate::failure::NOT_FOUND => {}
                Err(failure) => refused = refused.or(Some(failure)),
            }
        }
    }
    Err(refused.unwrap_or_else(|| {
        let program = program.display();
        Failure::not_found(format!("{program}: not found in PATH; give its path"))
    }))
}

/// Whether the file is there and may be executed.
fn executable(path: &Path) -> Result<(), Failure> {
    let shown = path.display();
    let metadata = path.metadata().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            Failure::not_found(format!("{shown}: not found"))
        }
        _ => Failure::not_executable(format!("{shown}: {error}")),
    })?;
    if metadata.is_dir() {
        return Err(Failure::not_executable(format!(
            "{shown}: is a directory, not a program"
        )));
    }
    if !metadata.is_file() {
        return Err(Failure::not_executable(format!(
            "{shown}: not a regular file"
        )));
    }
    if !may_execute(path) {
        let message = format!("{shown}: permission denied; is it executable (chmod +x)?");
        return Err(Failure::not_executable(message));
    }
    Ok(())
}

fn may_execute(path: &Path) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else {
        return false;
    };
    // SAFETY: path is NUL-terminated; faccessat only reads it.
    let answer =
        unsafe { libc::faccessat(libc::AT_FDCWD, path.as_ptr(), libc::X_OK, libc::AT_EACCESS) };
    answer == 0
}

/// Whether the loader will load our library into `path`, or into the interpreter of a script.
fn check(path: &Path, scripts_left: usize) -> Result<(), Failure> {
    let shown = path.display();
    let mut file = match File::open(path) {
        Ok(file) => file,
        // An executable need not be readable. The kernel can start it; we just cannot tell
        // beforehand.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(()),
        Err(error) => return Err(Failure::not_executable(format!("{shown}: {error}"))),
    };
    let unreadable = |error| Failure::not_executable(format!("{shown}: {error}"));
    let metadata = file.metadata().map_err(unreadable)?;
    match elf::kind(&mut file).map_err(unreadable)? {
        Kind::Dynamic(loader) => {
            if cfg!(target_env = "gnu") && is_musl(&loader) {
                let fix = "libgfp_malloc.so is built for glibc: use a glibc build of the program";
                return Err(Failure::own(format!(
                    "{shown}: uses the musl C library; {fix}"
                )));
            }
            privileges(path, &metadata)
        }
        Kind::Static => Err(Failure::own(format!(
            "{shown}: static binary: cannot be interposed; use a dynamically linked build of it"
        ))),
        Kind::OtherMachine(what) => {
            let fix = "libgfp_malloc.so is for this machine's 64-bit programs: use such a build";
            Err(Failure::own(format!(
                "{shown}: {what}: cannot be interposed; {fix}"
            )))
        }
        Kind::NotAProgram(what) => Err(Failure::not_executable(format!("{shown}: {what}"))),
        Kind::NotElf => {
            let interpreter = script_interpreter(&mut file).map_err(unreadable)?;
            let Some(interpreter) = interpreter else {
                let message = format!("{shown}: neither an ELF program nor a script");
                return Err(Failure::not_executable(message));
            };
            if scripts_left == 0 {
                let message = format!("{shown}: script of a script of a script: too deep");
                return Err(Failure::not_executable(message));
            }
            let interpreter = PathBuf::from(interpreter);
            let of_script = |failure: Failure| Failure {
                // The program is there: it is its interpreter that is not.
                status: failure.status.min(crate::failure::NOT_EXECUTABLE),
                message: format!("{shown}: its interpreter {}", failure.message),
            };
            executable(&interpreter).map_err(of_script)?;
            check(&interpreter, scripts_left - 1).map_err(of_script)
        }
    }
}

fn is_musl(loader: &OsStr) -> bool {
    Path::new(loader)
        .file_name()
        .is_some_and(|name| name.as_bytes().starts_with(b"ld-musl"))
}

/// The interpreter that a script names; `/bin/sh` for text without a `#!` line, as `execvp` does;
/// `None` for what is no text.
fn script_interpreter(file: &mut (impl Read + io::Seek)) -> io::Result<Option<OsString>> {
    let mut start = Vec::new();
    file.rewind()?;
    file.take(LINE_BYTES as u64).read_to_end(&mut start)?;
    let line = start
        .split(|byte| *byte == b'\n')
        .next()
        .unwrap_or_default();
    let Some(line) = line.strip_prefix(b"#!") else {
        let text = !start.contains(&0);
        return Ok(text.then(|| OsString::from("/bin/sh")));
    };
    let is_blank = |byte: &u8| *byte == b' ' || *byte == b'\t';
    let path = line.split(is_blank).find(|word| !word.is_empty());
    Ok(path.map(|path| OsString::from_vec(path.to_vec())))
}

/// A program that gains privileges makes the loader ignore `LD_PRELOAD`.
fn privileges(path: &Path, metadata: &Metadata) -> Result<(), Failure> {
    // SAFETY: these calls read the process's credentials and cannot fail.
    let (uid, euid, gid, egid) = unsafe {
        (
            libc::getuid(),
            libc::geteuid(),
            libc::getgid(),
            libc::getegid(),
        )
    };
    let setuid = metadata.mode() & libc::S_ISUID != 0;
    // Set-group-ID without group execution means something else (mandatory locking).
    let setgid = metadata.mode() & (libc::S_ISGID | libc::S_IXGRP) == libc::S_ISGID | libc::S_IXGRP;
    let new_uid = if setuid { metadata.uid() } else { euid };
    let new_gid = if setgid { metadata.gid() } else { egid };
    let what = if setuid && new_uid != uid {
        "set-user-ID"
    } else if setgid && new_gid != gid {
        "set-group-ID"
    } else if uid != 0 && has_capabilities(path) {
        "a program with file capabilities"
    } else {
        return Ok(());
    };
    let fix = "run it as its owner, or run a copy of it without the privilege";
    Err(Failure::own(format!(
        "{}: {what}: the loader ignores LD_PRELOAD; {fix}",
        path.display()
    )))
}

fn has_capabilities(path: &Path) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else {
        return false;
    };
    // SAFETY: both strings are NUL-terminated; with length 0 nothing is written, only the size is
    // told.
    let bytes = unsafe {
        libc::getxattr(
            path.as_ptr(),
            c"security.capability".as_ptr(),
            std::ptr::null_mut(),
            0,
        )
    };
    bytes > 0
}

#[cfg(test)]
mod tests;
