//! What a forked child says.

use super::in_child;
use std::io::Read;
use std::os::fd::AsRawFd;

/// What a child of a fork that runs `body` writes on standard error.
pub(crate) fn stderr_of_child(body: impl FnOnce()) -> String {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let fd = writer.as_raw_fd();
    let answer = in_child(|| {
        // SAFETY: the child's own standard error.
        if unsafe { libc::dup2(fd, 2) } != 2 {
            return 1;
        }
        body();
        0
    });
    assert_eq!(answer, 0);
    drop(writer);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    text
}
