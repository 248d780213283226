//! Start, fork, exit, the record, and the thread that keeps the text views up to date.

use crate::MALLOC;
use core::cell::UnsafeCell;
use core::ffi::c_int;
use core::fmt::Write;
use core::sync::atomic::{AtomicU32, Ordering};
use malloc::env::Settings;
use malloc::record::{Identity, State, Text, create_file};
use malloc::sys::{self, File, Path};
use malloc::{Heap, events};

/// What the environment asked for: written by the thread that makes the heap, read-only afterwards.
struct Asked(UnsafeCell<Settings>);

// SAFETY: written once, in `memory`, before the heap is published; read after that only.
unsafe impl Sync for Asked {}

static ASKED: Asked = Asked(UnsafeCell::new(Settings::DEFAULT));

/// The process whose record we write; a child of `vfork` must not end it.
static OWNER: AtomicU32 = AtomicU32::new(0);

fn asked() -> &'static Settings {
    // SAFETY: callers come after the heap was published.
    unsafe { &*ASKED.0.get() }
}

/// The size of the machine. Called once, before there is a heap, by the one thread that makes it.
pub(crate) fn memory() -> Option<usize> {
    // SAFETY: nobody else is here, and nobody reads before the heap is published.
    let settings = unsafe { &mut *ASKED.0.get() };
    settings.read_environment();
    settings.memory
}

/// The heap works from here on, so what allocates may be called.
pub(crate) fn ready(heap: &'static Heap) {
    events::set_after_misuse(asked().after_misuse);
    events::set_out_of_memory(asked().out_of_memory);
    // First of all: handlers before a fork run last-in-first-out, so others may allocate before
    // ours brings everything to rest, and after ours let it go on. The list of handlers may itself
    // allocate.
    let _ = gfp_host::slots::fork::install();
    open_record(heap);
    // SAFETY: the handlers live as long as the library, which is never unloaded.
    let _ = unsafe { libc::pthread_atfork(None, None, Some(child)) };
}

/// After a fork, in the child: another process image, with a record of its own.
unsafe extern "C" fn child() {
    if let Some(heap) = MALLOC.heap_if_ready() {
        open_record(heap);
        helper::start();
    }
}

fn open_record(heap: &'static Heap) {
    OWNER.store(sys::getpid(), Ordering::Relaxed);
    let dir = asked().record_dir.bytes();
    if dir.is_empty() {
        return;
    }
    events::set_record(None);
    let mut identity = identity();
    while let Err(libc::EEXIST) = create_file(dir, &identity).map(|record| {
        events::set_record(Some(record));
    }) {
        identity.started_ns += 1;
    }
    events::update_all(heap);
}

fn identity() -> Identity {
    let mut text = [0u8; 256];
    let comm = read(b"/proc/self/comm", &mut text);
    let comm = Text::new(comm.trim_ascii_end());
    let mut text = [0u8; 256];
    let used = read(b"/proc/self/cmdline", &mut text).len();
    let end = text[..used]
        .iter()
        .rposition(|b| *b != 0)
        .map_or(0, |at| at + 1);
    text[..end]
        .iter_mut()
        .filter(|b| **b == 0)
        .for_each(|b| *b = b' ');
    let cmdline = Text::new(&text[..end]);
    let mut text = [0u8; 256];
    let mut path = Path::new();
    let exe = match path
        .push(b"/proc/self/exe")
        .then(|| sys::readlink(&path, &mut text))
    {
        Some(Ok(len)) => Text::new(&text[..len]),
        _ => Text::EMPTY,
    };
    Identity {
        pid: sys::getpid(),
        ppid: sys::getppid(),
        started_ns: sys::monotonic_ns(),
        comm,
        cmdline,
        exe,
    }
}

fn read<'a>(name: &[u8], into: &'a mut [u8]) -> &'a [u8] {
    let mut path = Path::new();
    let file = path
        .push(name)
        .then(|| File::open(&path, libc::O_RDONLY, 0));
    let used = match file {
        Some(Ok(file)) => file.read(into).unwrap_or(0),
        _ => 0,
    };
    &into[..used]
}

extern "C" fn start() {
    // Takes no memory: the function has no size. Without it a panic in the middle of an allocation
    // would be told by std, which allocates.
    std::panic::set_hook(std::boxed::Box::new(|info| {
        let mut line = events::Line::new();
        let _ = write!(line, "gfp: {info}");
        let _ = sys::write(libc::STDERR_FILENO, line.finish());
        sys::abort();
    }));
    if MALLOC.heap().is_some() {
        // A program that never allocates has a record, too.
        helper::start();
    }
}

/// The last numbers. Not in a child of `vfork`, which shares our memory.
extern "C" fn finish() {
    if OWNER.load(Ordering::Relaxed) != sys::getpid() {
        return;
    }
    if let Some(heap) = MALLOC.heap_if_ready() {
        events::update_all(heap);
        helper::finish(heap);
    }
    if let Some(record) = events::record() {
        record.set_state(State::Exited);
    }
}

#[used]
#[unsafe(link_section = ".init_array")]
static START: extern "C" fn() = start;

#[used]
#[unsafe(link_section = ".fini_array")]
static FINISH: extern "C" fn() = finish;

/// `_exit(2)`: the C library's, and the last numbers first.
#[unsafe(no_mangle)]
pub extern "C" fn _exit(status: c_int) -> ! {
    finish();
    sys::exit_group(status)
}

/// `_Exit(3)`.
#[unsafe(no_mangle)]
pub extern "C" fn _Exit(status: c_int) -> ! {
    _exit(status)
}

/// The thread that writes the text views; there is none unless `GFP_PROC_DIR` is set.
mod helper {
    use super::asked;
    use crate::MALLOC;
    use core::ffi::c_void;
    use core::mem::MaybeUninit;
    use core::ptr;
    use core::sync::atomic::{AtomicBool, Ordering};
    use malloc::sys::{self, File, Path};
    use malloc::{Heap, events, views};

    const INTERVAL_MS: u64 = 200;
    const STACK_BYTES: usize = 1 << 20;

    static FINISHED: AtomicBool = AtomicBool::new(false);

    fn wanted() -> bool {
        !asked().proc_dir.bytes().is_empty()
    }

    /// Starts the thread, if one is wanted. With all signals blocked: handlers are for the
    /// program's own threads.
    pub(super) fn start() {
        if !wanted() {
            return;
        }
        let _blocked = sys::SignalsBlocked::new();
        let mut attr = MaybeUninit::uninit();
        let mut thread = MaybeUninit::uninit();
        // SAFETY: the attributes are made first, and destroyed last; `run` takes no argument.
        unsafe {
            if libc::pthread_attr_init(attr.as_mut_ptr()) != 0 {
                return;
            }
            libc::pthread_attr_setstacksize(attr.as_mut_ptr(), STACK_BYTES);
            libc::pthread_attr_setdetachstate(attr.as_mut_ptr(), libc::PTHREAD_CREATE_DETACHED);
            // Without the thread the views are written at the end only.
            libc::pthread_create(thread.as_mut_ptr(), attr.as_ptr(), run, ptr::null_mut());
            libc::pthread_attr_destroy(attr.as_mut_ptr());
        }
    }

    extern "C" fn run(_: *mut c_void) -> *mut c_void {
        // SAFETY: the name is a C string.
        unsafe { libc::prctl(libc::PR_SET_NAME, c"gfp-stat".as_ptr()) };
        while !FINISHED.load(Ordering::Relaxed) {
            if let Some(heap) = MALLOC.heap_if_ready() {
                events::update_all(heap);
                let _ = views::write_all(heap.source(), asked().proc_dir.bytes(), sys::getpid());
            }
            sys::sleep_ms(INTERVAL_MS);
            if program_is_over() {
                // SAFETY: what the C library does when the last thread ends; but for us it would
                // have.
                unsafe { libc::exit(0) };
            }
        }
        ptr::null_mut()
    }

    /// True if the first thread has ended by itself (`pthread_exit`) and no other is left but this
    /// one.
    fn program_is_over() -> bool {
        let mut text = [0u8; 1024];
        let mut path = Path::new();
        let file = path
            .push(b"/proc/self/stat")
            .then(|| File::open(&path, libc::O_RDONLY, 0));
        let Some(Ok(file)) = file else { return false };
        let used = file.read(&mut text).unwrap_or(0);
        // `pid (name) state ...`: the name may contain anything, the last parenthesis ends it.
        let Some(end) = text[..used].iter().rposition(|b| *b == b')') else {
            return false;
        };
        let mut fields = text[end + 1..used].trim_ascii().split(|b| *b == b' ');
        let state = fields.next();
        let threads = fields.nth(16); // the 20th of the line; the zombie is one of them
        state == Some(b"Z") && matches!(threads, Some(b"1" | b"2"))
    }

    /// The views as they are at the end.
    pub(super) fn finish(heap: &Heap) {
        if wanted() && !FINISHED.swap(true, Ordering::Relaxed) {
            let _ = views::write_all(heap.source(), asked().proc_dir.bytes(), sys::getpid());
        }
    }
}
