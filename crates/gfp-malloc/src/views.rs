//! The text views as files: `DIR/<pid>/{buddyinfo,zoneinfo,pressure/memory,...}`.
//!
//! A file is written in `DIR/<pid>` under another name and then moved to its place, so that a
//! reader sees all of one version or all of another.

use crate::sys::{self, Errno, File, Pages, Path};
use core::fmt::{self, Write};
use core::mem::size_of;
use gfp::stat::{Source, View};

/// What is too large for the stack of a small thread that calls `_exit`.
struct Scratch {
    path: Path,
    place: Path,
    buffer: [u8; Sink::ROOM],
}

/// Writes all views of `source` into the directory `dir/pid`, which is made if it is not there.
/// Allocates nothing, leaves `errno` alone, and needs some hundred bytes of stack.
///
/// # Errors
/// What the first system call that failed said; views after that are not written.
pub fn write_all(source: &dyn Source, dir: &[u8], pid: u32) -> Result<(), Errno> {
    let mut pages = Pages::new(size_of::<Scratch>())?;
    let mut scratch = pages.start().cast::<Scratch>();
    // SAFETY: the pages are ours, large enough, aligned, and gone after the last use; all zeroes
    // are a valid `Scratch`: bytes and lengths.
    write_with(unsafe { scratch.as_mut() }, source, dir, pid)
}

fn write_with(
    scratch: &mut Scratch,
    source: &dyn Source,
    dir: &[u8],
    pid: u32,
) -> Result<(), Errno> {
    let Scratch {
        path,
        place,
        buffer,
    } = scratch;
    let fits = path.push(dir);
    make_dir(path)?;
    let fits = fits && path.push(b"/") && path.push_number(u64::from(pid));
    make_dir(path)?;
    if !fits || !path.push(b"/") {
        return Err(Errno(libc::ENAMETOOLONG));
    }
    let len = path.bytes().len();
    for view in View::ALL {
        path.truncate(len);
        let name = view.file_name();
        let base = match name.rsplit_once('/') {
            None => name,
            Some((inside, base)) => {
                if !path.push(inside.as_bytes()) {
                    return Err(Errno(libc::ENAMETOOLONG));
                }
                make_dir(path)?;
                path.truncate(len);
                base
            }
        };
        // By thread: the last write at the exit may meet one of the helper thread.
        let fits = path.push(b".") && path.push(base.as_bytes());
        if !(fits && path.push(b".") && path.push_number(u64::from(sys::gettid()))) {
            return Err(Errno(libc::ENAMETOOLONG));
        }
        write_one(source, view, path, buffer)?;
        place.truncate(0);
        if !(place.push(&path.bytes()[..len]) && place.push(name.as_bytes())) {
            return Err(Errno(libc::ENAMETOOLONG));
        }
        sys::rename(path, place)?;
    }
    Ok(())
}

fn make_dir(path: &Path) -> Result<(), Errno> {
    match sys::mkdir(path, 0o777) {
        Err(Errno(libc::EEXIST)) | Ok(()) => Ok(()),
        Err(e) => Err(e),
    }
}

fn write_one(
    source: &dyn Source,
    view: View,
    path: &Path,
    buffer: &mut [u8; Sink::ROOM],
) -> Result<(), Errno> {
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC;
    let mut sink = Sink {
        file: File::open(path, flags, view.mode() | 0o200)?,
        buffer,
        used: 0,
        failed: None,
    };
    let _ = view.write(source, &mut sink); // its only errors are those of the sink
    sink.flush();
    sink.failed.map_or(Ok(()), Err)
}

struct Sink<'a> {
    file: File,
    buffer: &'a mut [u8; Sink::ROOM],
    used: usize,
    failed: Option<Errno>,
}

impl Sink<'_> {
    const ROOM: usize = 4096;

    fn flush(&mut self) {
        let text = &self.buffer[..self.used];
        if self.failed.is_none() {
            self.failed = self.file.write(text).err();
        }
        self.used = 0;
    }
}

impl Write for Sink<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            let taken = rest.len().min(Sink::ROOM - self.used);
            self.buffer[self.used..self.used + taken].copy_from_slice(&rest[..taken]);
            self.used += taken;
            rest = &rest[taken..];
            if self.used == Sink::ROOM {
                self.flush();
            }
        }
        if self.failed.is_some() {
            Err(fmt::Error)
        } else {
            Ok(())
        }
    }
}
