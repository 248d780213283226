//! A body of code in a forked child.

/// How a forked child ends that runs `body`: its exit status, or minus the signal that killed it.
pub(crate) fn in_child(body: impl FnOnce() -> i32) -> i32 {
    // SAFETY: the child runs `body`, which allocates nothing, and ends without destructors.
    unsafe {
        let pid = libc::fork();
        assert!(pid >= 0);
        if pid == 0 {
            // std and the sanitizers have handlers, which would make of a fault something else.
            libc::signal(libc::SIGSEGV, libc::SIG_DFL);
            libc::_exit(body());
        }
        let mut status = 0;
        assert_eq!(libc::waitpid(pid, &mut status, 0), pid);
        if libc::WIFSIGNALED(status) {
            -libc::WTERMSIG(status)
        } else {
            libc::WEXITSTATUS(status)
        }
    }
}
