//! A body of code in a forked child.

/// Seconds after which a child that hangs is ended, so that its test fails and the run goes on.
const LIMIT: u32 = 120;

/// How a forked child ends that runs `body`: its exit status, or minus the signal that killed it.
///
/// Other tests of the program run in other threads meanwhile, some amid a section: so the fork
/// handlers must be there before the fork, or the child finds the locks of threads it has not got.
pub(crate) fn in_child(body: impl FnOnce() -> i32) -> i32 {
    gfp_host::fork::install().unwrap();
    // SAFETY: the child runs `body`, which allocates nothing, and ends without destructors.
    unsafe {
        let pid = libc::fork();
        assert!(pid >= 0);
        if pid == 0 {
            // std and the sanitizers have handlers, which would make of a fault something else.
            libc::signal(libc::SIGSEGV, libc::SIG_DFL);
            libc::alarm(LIMIT);
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
