//! Waiting for the program while signals arrive, and ending as it ended.
//!
//! # Theory
//!
//! 1. All signals of interest are *blocked* from before the start of the program until its end, and
//!    taken one by one with `sigwaitinfo`. So there are no handlers, nothing is lost between two
//!    steps, and the directory of records is removed also when somebody terminates us.
//! 2. The program gets the mask and the dispositions that we got.
//! 3. A signal from the terminal went to the whole process group, so the program has it already.
//!    One sent by a process (`si_code <= 0`) was sent to us, meant for the program: it is passed
//!    on, except to the program that sent it.
//! 4. A virtual machine is not meant by any signal: [`Blocked::next`] tells its caller what came,
//!    who ends the machine and then gfp, by the same signal.
//! 5. Stopping (Ctrl-Z) acts on the group as well and needs nothing from us.

use std::io;
use std::mem::MaybeUninit;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use libc::c_int;

/// Signals that are passed on to the program.
const PASSED_ON: [c_int; 6] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
];

/// Whether we were started with SIGPIPE ignored; Rust's start code ignores it always.
static SIGPIPE_WAS_IGNORED: AtomicBool = AtomicBool::new(false);

/// Runs before Rust's start code.
#[used]
#[unsafe(link_section = ".init_array")]
static LOOK_AT_SIGPIPE: extern "C" fn() = {
    extern "C" fn look() {
        SIGPIPE_WAS_IGNORED.store(is_ignored(libc::SIGPIPE), Ordering::Relaxed);
    }
    look
};

fn is_ignored(signal: c_int) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: sigaction with no new action only writes the old one; all zeroes is a valid value of
    // it.
    unsafe {
        libc::sigaction(signal, ptr::null(), action.as_mut_ptr());
        action.assume_init().sa_sigaction == libc::SIG_IGN
    }
}

/// Sets the disposition of `signal` to `SIG_DFL` or `SIG_IGN`.
fn set_disposition(signal: c_int, disposition: libc::sighandler_t) {
    debug_assert!(disposition == libc::SIG_DFL || disposition == libc::SIG_IGN);
    // SAFETY: neither disposition runs code of ours.
    unsafe { libc::signal(signal, disposition) };
}

fn set_of(signals: &[c_int]) -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the set; the signal numbers are valid.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in signals {
            libc::sigaddset(set.as_mut_ptr(), *signal);
        }
        set.assume_init()
    }
}

/// The signals of interest, held back for [`Blocked::wait`].
pub(crate) struct Blocked {
    set: libc::sigset_t,
    mask_before: libc::sigset_t,
    sigchld_was_ignored: bool,
}

impl Blocked {
    /// Blocks them for the rest of gfp's life.
    pub(crate) fn new() -> Blocked {
        let mut set = set_of(&PASSED_ON);
        let mut mask_before = set_of(&[]);
        let sigchld_was_ignored = is_ignored(libc::SIGCHLD);
        // An ignored SIGCHLD would throw away the program's exit status.
        set_disposition(libc::SIGCHLD, libc::SIG_DFL);
        // SAFETY: both sets are initialised and ours; gfp has one thread.
        unsafe {
            libc::sigaddset(&mut set, libc::SIGCHLD);
            libc::sigprocmask(libc::SIG_BLOCK, &set, &mut mask_before);
        }
        Blocked {
            set,
            mask_before,
            sigchld_was_ignored,
        }
    }

    /// Starts the program, with the signals as we were given them.
    pub(crate) fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        let mask = self.mask_before;
        let sigchld_was_ignored = self.sigchld_was_ignored;
        let sigpipe_was_ignored = SIGPIPE_WAS_IGNORED.load(Ordering::Relaxed);
        let restore = move || {
            if sigchld_was_ignored {
                set_disposition(libc::SIGCHLD, libc::SIG_IGN);
            }
            if sigpipe_was_ignored {
                set_disposition(libc::SIGPIPE, libc::SIG_IGN);
            }
            // SAFETY: the mask is initialised.
            unsafe { libc::sigprocmask(libc::SIG_SETMASK, &mask, ptr::null_mut()) };
            Ok(())
        };
        // SAFETY: between fork and exec only async-signal-safe calls are made: signal and
        // sigprocmask.
        unsafe { command.pre_exec(restore) };
        command.spawn()
    }

    /// Waits for the end of the program and passes signals on to it.
    pub(crate) fn wait(&self, child: &mut Child) -> io::Result<ExitStatus> {
        let pid = child.id() as libc::pid_t;
        loop {
            let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
            // SAFETY: the set is initialised, info is ours to write.
            let signal = unsafe { libc::sigwaitinfo(&self.set, info.as_mut_ptr()) };
            if signal < 0 {
                let error = io::Error::last_os_error();
                if error.kind() == io::ErrorKind::Interrupted {
                    continue; // by SIGCONT, after we were stopped
                }
                return Err(error);
            }
            if signal == libc::SIGCHLD {
                if let Some(status) = child.try_wait()? {
                    return Ok(status);
                }
                continue;
            }
            // SAFETY: sigwaitinfo filled it in; si_pid is there for a signal that a process sent.
            let (code, sender) = unsafe {
                let info = info.assume_init();
                (info.si_code, info.si_pid())
            };
            if code <= 0 && sender != pid {
                // SAFETY: the child is not reaped yet, so the pid is still its own.
                unsafe { libc::kill(pid, signal) };
            }
        }
    }

    /// Waits until the child has ended, a signal comes, or it is `deadline`. Passes nothing on.
    pub(crate) fn next(&self, child: &mut Child, deadline: Option<Instant>) -> io::Result<Event> {
        // Where other threads do not block SIGCHLD, as in a test, it may be lost: look again.
        const LOOK_EVERY: Duration = Duration::from_millis(200);
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(Event::Ended(status));
            }
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Ok(Event::Late);
            }
            let time = libc::timespec {
                tv_sec: 0,
                tv_nsec: left
                    .map_or(LOOK_EVERY, |left| left.min(LOOK_EVERY))
                    .as_nanos() as _,
            };
            // SAFETY: set and time are initialised; no information is asked for.
            let signal = unsafe { libc::sigtimedwait(&self.set, ptr::null_mut(), &time) };
            match signal {
                libc::SIGCHLD => {}
                1.. => return Ok(Event::Signal(signal)),
                _ => {
                    let error = io::Error::last_os_error();
                    let again = [Some(libc::EAGAIN), Some(libc::EINTR)];
                    if !again.contains(&error.raw_os_error()) {
                        return Err(error);
                    }
                }
            }
        }
    }
}

/// What [`Blocked::next`] waited for.
#[derive(Debug)]
pub(crate) enum Event {
    /// The child has ended.
    Ended(ExitStatus),
    /// A signal came, from whomever.
    Signal(c_int),
    /// The time is over.
    Late,
}

/// Ends gfp by `signal`, so that whoever waits for us sees how the program ended. Leaves no core
/// dump of gfp beside that of the program.
pub(crate) fn die_by(signal: c_int) -> ! {
    let no_core = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    let set = set_of(&[signal]);
    set_disposition(signal, libc::SIG_DFL);
    // SAFETY: the arguments are initialised and ours.
    unsafe {
        libc::setrlimit(libc::RLIMIT_CORE, &no_core);
        libc::sigprocmask(libc::SIG_UNBLOCK, &set, ptr::null_mut());
        libc::raise(signal);
    }
    // Not reached for a signal that can end a process: what a shell would show for it.
    std::process::exit(128 + signal);
}
