//! The directory of records, and what the records say once the program has ended.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use gfp_malloc_core::record::{FileName, Snapshot, State};

/// Bytes of a file that are looked at; a record is a page.
const FILE_MAX_BYTES: u64 = 64 << 10;

/// A directory of our own under `$TMPDIR`, removed with all its files when dropped.
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    /// Makes it; `what` is part of the name.
    pub(crate) fn new(what: &str) -> io::Result<TempDir> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let parent = std::path::absolute(std::env::temp_dir())?;
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = parent.join(format!("gfp-{what}-{}-{number}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {
                    let dir = TempDir(path);
                    if may_change_user() {
                        // A program that gives its rights up has children that keep records, too:
                        // who knows a name may make or open it, but not list, remove or rename.
                        // After the making, since the umask would take it away.
                        fs::set_permissions(dir.path(), Permissions::from_mode(0o1733))?;
                    }
                    return Ok(dir);
                }
                // Left by a gfp that was killed and had our pid.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < 1000 => {}
                Err(error) => {
                    return Err(io::Error::new(
                        error.kind(),
                        format!("{}: {error}", path.display()),
                    ));
                }
            }
        }
    }

    /// Its absolute path.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

/// Whether a program that we start may become another user without a set-user-ID program.
fn may_change_user() -> bool {
    // SAFETY: reads the process's credentials and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // A process that outlives the program may still be making a file: leave what cannot be
        // removed.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// How a process image stands when the program has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Left through `exit`.
    Exited,
    /// Ended without the library seeing it: `_exit`, or a signal.
    Ended,
    /// Ended by the library, after a misuse.
    Aborted,
    /// Ended by the library, because its memory was used up (`--oom kill`).
    OutOfMemory,
    /// Replaced by `execve`; the next image of this pid has its own record.
    Replaced,
    /// Still there.
    Running,
}

/// One process image.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    /// What it recorded.
    pub(crate) record: Snapshot,
    /// How it ended.
    pub(crate) fate: Fate,
}

impl Image {
    /// The name of its program, as text.
    pub(crate) fn name(&self) -> String {
        String::from_utf8_lossy(self.record.identity.comm.bytes()).into_owned()
    }
}

/// All process images of a run.
#[derive(Debug, Default)]
pub(crate) struct Images {
    /// In the order of their start.
    pub(crate) all: Vec<Image>,
    /// Record files that could not be read, each with the reason.
    pub(crate) unreadable: Vec<String>,
}

impl Images {
    /// Reads the records in `dir`; `is_alive` tells whether there is still a process of that pid.
    pub(crate) fn read(dir: &Path, is_alive: impl Fn(u32) -> bool) -> io::Result<Images> {
        let mut images = Images::default();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if FileName::parse(entry.file_name().as_bytes()).is_none() {
                continue;
            }
            match read_file(&entry.path()) {
                Ok(Some(record)) => images.all.push(Image {
                    record,
                    fate: Fate::Ended,
                }),
                Ok(None) => {}
                Err(reason) => {
                    let name = entry.file_name();
                    images
                        .unreadable
                        .push(format!("{}: {reason}", name.display()));
                }
            }
        }
        images.unreadable.sort();
        images.all.sort_by_key(|image| {
            let identity = &image.record.identity;
            (identity.started_ns, identity.pid)
        });
        for at in 0..images.all.len() {
            let record = &images.all[at].record;
            let pid = record.identity.pid;
            let replaced = images.all[at + 1..]
                .iter()
                .any(|later| later.record.identity.pid == pid);
            images.all[at].fate = match record.state {
                State::Exited => Fate::Exited,
                State::Aborted => Fate::Aborted,
                State::OutOfMemory => Fate::OutOfMemory,
                State::Running | State::Unknown if replaced => Fate::Replaced,
                State::Running | State::Unknown if is_alive(pid) => Fate::Running,
                State::Running | State::Unknown => Fate::Ended,
            };
        }
        Ok(images)
    }

    /// Index of the program's own image: of several that replaced each other, the last.
    pub(crate) fn main(&self, pid: u32) -> Option<usize> {
        self.all
            .iter()
            .rposition(|image| image.record.identity.pid == pid)
    }
}

/// The record in a file; `None` if its process was killed while it started.
fn read_file(path: &Path) -> Result<Option<Snapshot>, String> {
    let mut bytes = Vec::new();
    // A program may put anything here: a link is not followed, a pipe not waited for.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
        .map_err(|error| error.to_string())?;
    if !file.metadata().is_ok_and(|found| found.is_file()) {
        return Err("not a file".into());
    }
    file.take(FILE_MAX_BYTES)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    // The file comes first, its first word last: who was killed in between asked for nothing yet.
    if bytes.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let record = Snapshot::parse(&bytes).map_err(|error| error.to_string())?;
    Ok(Some(record))
}

/// Whether a process of that pid exists.
pub(crate) fn is_alive(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use gfp_malloc_core::record::{Identity, Record, Text, create_file};
    use std::ffi::CString;

    /// A record of a process `pid` that started at `started_ns`.
    pub(crate) fn record(dir: &TempDir, pid: u32, started_ns: u64, name: &str) -> &'static Record {
        let identity = Identity {
            pid,
            ppid: 1,
            started_ns,
            comm: Text::new(name.as_bytes()),
            cmdline: Text::new(b"some command line"),
            exe: Text::new(b"/bin/some"),
        };
        create_file(dir.path().as_os_str().as_bytes(), &identity).unwrap()
    }

    #[test]
    fn images_come_in_order_of_start_with_their_fate() {
        let dir = TempDir::new("records").unwrap();
        record(&dir, 9, 300, "last").set_state(State::Exited);
        record(&dir, 5, 100, "shell");
        record(&dir, 5, 200, "python");
        record(&dir, 7, 150, "daemon");
        record(&dir, 8, 160, "abort").set_state(State::Aborted);
        let images = Images::read(dir.path(), |pid| pid == 7).unwrap();
        let seen: Vec<_> = images
            .all
            .iter()
            .map(|image| (image.name(), image.fate))
            .collect();
        let expected = [
            ("shell", Fate::Replaced),
            ("daemon", Fate::Running),
            ("abort", Fate::Aborted),
            ("python", Fate::Ended),
            ("last", Fate::Exited),
        ];
        assert_eq!(seen, expected.map(|(name, fate)| (name.to_string(), fate)));
        assert_eq!(images.main(5), Some(3));
        assert_eq!(images.main(6), None);
        assert!(images.unreadable.is_empty());
    }

    #[test]
    fn broken_records_are_named_and_other_files_ignored() {
        let dir = TempDir::new("records").unwrap();
        fs::write(dir.path().join("README"), "x").unwrap();
        fs::write(dir.path().join("3.4.gfp"), "short").unwrap();
        fs::write(dir.path().join("3.5.gfp"), [1; 8192]).unwrap();
        // Killed before they were complete: they asked for nothing.
        fs::write(dir.path().join("3.9.gfp"), "").unwrap();
        fs::write(dir.path().join("4.1.gfp"), [0; 8192]).unwrap();
        fs::create_dir(dir.path().join("3.6.gfp")).unwrap();
        // Neither followed nor waited for.
        std::os::unix::fs::symlink("/dev/zero", dir.path().join("3.7.gfp")).unwrap();
        let pipe = CString::new(dir.path().join("3.8.gfp").as_os_str().as_bytes()).unwrap();
        // SAFETY: the path is a C string.
        assert_eq!(unsafe { libc::mkfifo(pipe.as_ptr(), 0o600) }, 0);
        record(&dir, 5, 100, "good");
        let images = Images::read(dir.path(), |_| false).unwrap();
        assert_eq!(images.all.len(), 1);
        assert_eq!(images.unreadable.len(), 5);
        assert!(
            images.unreadable[0].starts_with("3.4.gfp: 5 bytes"),
            "{:?}",
            images.unreadable
        );
    }

    #[test]
    fn a_directory_is_private_and_gone_when_dropped() {
        let dir = TempDir::new("records").unwrap();
        let path = dir.path().to_path_buf();
        let mode = path.metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode, if may_change_user() { 0o1733 } else { 0o700 });
        fs::write(path.join("file"), "x").unwrap();
        drop(dir);
        assert!(!path.exists());
    }

    #[test]
    fn we_are_alive() {
        assert!(is_alive(std::process::id()));
        assert!(!is_alive(u32::MAX));
    }
}
