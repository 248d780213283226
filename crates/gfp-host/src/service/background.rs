//! Threads for each node: one frees memory before requests must, one makes large blocks of it.

use super::Host;
use super::signals;
use super::std::sync::Arc;
use super::std::sync::mpsc::{SyncSender, sync_channel};
use super::std::thread::{Builder, JoinHandle};
use super::std::vec::Vec;
use super::std::{format, io};
use crate::{HostError, HostPlatform, fork, sys};
use core::cell::Cell;
use core::fmt;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use gfp::Mm;
use gfp::frame::NodeId;
use gfp::reclaim::NodeTaskError;

/// Machines of a process that can have a background at a time.
pub const BACKGROUNDS_MAX: usize = 64;

/// The machines that have one, for the child of a fork.
///
/// [INV-HOST-8] An entry that is not null is a machine that lives: it is written by the owner of a
/// [`Background`], which keeps the machine, and cleared before that lets it go.
static MACHINES: [AtomicPtr<Mm<HostPlatform>>; BACKGROUNDS_MAX] =
    [const { AtomicPtr::new(null_mut()) }; BACKGROUNDS_MAX];

/// In the child of a fork: no machine has the threads of its background any more.
pub(crate) fn is_gone_in_child() {
    for machine in &MACHINES {
        // Relaxed: the child is alone, and sees what its thread had seen before the fork.
        let mm = machine.swap(null_mut(), Ordering::Relaxed);
        // SAFETY: [INV-HOST-8] it lived when the process was copied, and so does the copy.
        if let Some(mm) = unsafe { mm.as_ref() } {
            for node in mm.pages().nodes() {
                mm.kswapd_is_gone(node);
                mm.kcompactd_is_gone(node);
            }
        }
    }
}

/// Why there is no background.
#[derive(Debug)]
#[non_exhaustive]
pub enum BackgroundError {
    /// A node has such a task already.
    Task(NodeTaskError),
    /// [`BACKGROUNDS_MAX`] machines of this process have one.
    TooMany,
    /// A thread was not started.
    Thread(io::Error),
    /// The handlers that a fork runs were not registered.
    Fork(HostError),
}

impl fmt::Display for BackgroundError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BackgroundError::Task(error) => error.fmt(f),
            BackgroundError::TooMany => {
                write!(f, "{BACKGROUNDS_MAX} machines have a background already")
            }
            BackgroundError::Thread(error) => write!(f, "no thread: {error}"),
            BackgroundError::Fork(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for BackgroundError {}

/// A machine's entry in [`MACHINES`]; cleared when dropped.
struct Entry(&'static AtomicPtr<Mm<HostPlatform>>);

impl Entry {
    fn take(mm: &Mm<HostPlatform>) -> Option<Entry> {
        let mm = core::ptr::from_ref(mm).cast_mut();
        // Release: pairs with nothing but the copy that a fork makes; the machine is complete.
        let free = |entry: &&AtomicPtr<_>| {
            let (release, relaxed) = (Ordering::Release, Ordering::Relaxed);
            let taken = entry.compare_exchange(null_mut(), mm, release, relaxed);
            taken.is_ok()
        };
        MACHINES.iter().find(free).map(Entry)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        // Release: the machine is let go after this.
        self.0.store(null_mut(), Ordering::Release);
    }
}

/// The background of a machine, while this lives: two threads for each node. One sleeps until the
/// node falls below its low watermark, and asks shrinkers until it is above high (P400-P404). One
/// has movable pages moved together, so that large blocks are there (P427).
///
/// Its drop stops the threads and waits for their ends: not in a shrinker or an owner of pages, nor
/// with a lock held that one of them waits for.
///
/// The threads take no signals. A shrinker or owner that panics ends the thread that called it:
/// requests reclaim, and compact, themselves then.
///
/// In the child of a fork there are no such threads, nobody waits for them, and the child's copy of
/// this does nothing when dropped. [`Host::start_background`] makes new ones, as far as std can
/// start threads there: not if another thread of the parent was just starting one.
pub struct Background {
    /// First, so that it goes before the machine does. `None`: given up.
    entry: Option<Entry>,
    host: Host,
    stop: Arc<AtomicBool>,
    threads: Vec<(Task, NodeId, JoinHandle<()>)>,
    /// The process whose threads they are.
    pid: i32,
}

/// What a thread does for its node.
#[derive(Copy, Clone)]
enum Task {
    Kswapd,
    Kcompactd,
}

impl Task {
    const ALL: [Task; 2] = [Task::Kswapd, Task::Kcompactd];

    const fn name(self) -> &'static str {
        match self {
            Task::Kswapd => "kswapd",
            Task::Kcompactd => "kcompactd",
        }
    }

    fn run(self, host: &Host, node: NodeId, stop: impl Fn() -> bool) -> Result<(), NodeTaskError> {
        match self {
            Task::Kswapd => host.kswapd(node, stop),
            Task::Kcompactd => host.kcompactd(node, stop),
        }
    }

    fn stop(self, host: &Host, node: NodeId) {
        match self {
            Task::Kswapd => host.stop_kswapd(node),
            Task::Kcompactd => host.stop_kcompactd(node),
        }
    }
}

impl Host {
    /// Starts the background: its threads for each node with memory. When this returns, they are
    /// there to be woken.
    ///
    /// # Errors
    /// [`BackgroundError`]: the machine has one, or the operating system gives no threads.
    pub fn start_background(&self) -> Result<Background, BackgroundError> {
        fork::install().map_err(BackgroundError::Fork)?;
        let entry = Entry::take(self).ok_or(BackgroundError::TooMany)?;
        let mut background = Background {
            entry: Some(entry),
            host: self.clone(),
            stop: Arc::new(AtomicBool::new(false)),
            threads: Vec::new(),
            pid: sys::getpid(),
        };
        for node in self.pages().nodes() {
            for task in Task::ALL {
                background.start(task, node)?; // what was started ends with the drop
            }
        }
        Ok(background)
    }
}

impl Background {
    /// Starts a thread of a node, and waits until it is the node's task.
    fn start(&mut self, task: Task, node: NodeId) -> Result<(), BackgroundError> {
        let (ready, is_ready) = sync_channel(1);
        let (host, stop) = (self.host.clone(), self.stop.clone());
        let thread = Builder::new()
            .name(format!("{}{}", task.name(), node.0))
            .spawn(move || run(task, &host, node, &stop, &ready))
            .map_err(BackgroundError::Thread)?;
        let answer = is_ready.recv();
        if matches!(answer, Ok(Ok(()))) {
            self.threads.push((task, node, thread));
            return Ok(());
        }
        let _ = thread.join(); // it has said all that it has to say
        Err(match answer {
            Ok(Err(error)) => BackgroundError::Task(error),
            _ => BackgroundError::Thread(io::Error::other("it ended at once")),
        })
    }
}

/// A thread of the background.
fn run(
    task: Task,
    host: &Host,
    node: NodeId,
    stop: &AtomicBool,
    ready: &SyncSender<Result<(), NodeTaskError>>,
) {
    signals::block_all();
    let told = Cell::new(false);
    // Asked for the first time when the thread has become the node's task.
    let stopped = || {
        if !told.replace(true) {
            let _ = ready.send(Ok(())); // there is room for one, and somebody waits for it
        }
        // Acquire: pairs with the Release in `Background::drop`.
        stop.load(Ordering::Acquire)
    };
    if let Err(error) = task.run(host, node, stopped) {
        let _ = ready.send(Err(error));
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if sys::getpid() != self.pid {
            // They are threads of another process, and the entry may be somebody else's by now.
            core::mem::forget(self.entry.take());
            core::mem::forget(core::mem::take(&mut self.threads));
            return;
        }
        // Release: pairs with the Acquire in `run`.
        self.stop.store(true, Ordering::Release);
        for (task, node, _) in &self.threads {
            task.stop(&self.host, *node);
        }
        for (.., thread) in self.threads.drain(..) {
            let _ = thread.join(); // a panic was printed when it came
        }
    }
}

impl fmt::Debug for Background {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Background({} threads)", self.threads.len())
    }
}
