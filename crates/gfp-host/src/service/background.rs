//! Threads for each node: one frees memory before requests must, one makes large blocks of it.

use super::Host;
use super::home::{Stop, Threads};
use super::std::panic::{AssertUnwindSafe, catch_unwind};
use super::std::sync::Arc;
use super::std::sync::mpsc::{SyncSender, sync_channel};
use super::std::vec::Vec;
use super::std::{format, io};
use core::cell::Cell;
use core::fmt;
use core::sync::atomic::{AtomicUsize, Ordering};
use gfp::frame::NodeId;
use gfp::reclaim::NodeTaskError;

/// Why there is no background.
#[derive(Debug)]
#[non_exhaustive]
pub enum BackgroundError {
    /// A node has such a task already.
    Task(NodeTaskError),
    /// A thread was not started.
    Thread(io::Error),
}

impl fmt::Display for BackgroundError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BackgroundError::Task(error) => error.fmt(f),
            BackgroundError::Thread(error) => write!(f, "no thread: {error}"),
        }
    }
}

impl core::error::Error for BackgroundError {}

/// The background of a machine, while this lives: two threads for each node. One sleeps until the
/// node falls below its low watermark, and asks shrinkers until it is above high (P400-P404). One
/// has movable pages moved together, so that large blocks are there (P427).
///
/// Its drop stops the threads and waits for their ends: not in a shrinker or an owner of pages, nor
/// with a lock held that one of them waits for.
///
/// The threads take no signals. What panics in one of them is printed as ever, and the thread goes
/// on when it is called next ([`Background::panics`]); a shrinker that panicked is asked no more.
///
/// In the child of a fork there are no such threads, nobody waits for them, and the child's copy of
/// this does nothing when dropped. [`Host::start_background`] makes new ones, as far as std can
/// start threads there: not if another thread of the parent was just starting one.
pub struct Background {
    host: Host,
    tasks: Vec<(Task, NodeId)>,
    threads: Threads,
    panics: Arc<AtomicUsize>,
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
        let mut background = Background {
            host: self.clone(),
            tasks: Vec::new(),
            threads: Threads::new(),
            panics: Arc::default(),
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
        let (host, panics) = (self.host.clone(), self.panics.clone());
        let run = move |stop: &Stop| run(task, &host, node, stop, &ready, &panics);
        self.threads
            .start(format!("{}{}", task.name(), node.0), run)
            .map_err(BackgroundError::Thread)?;
        match is_ready.recv() {
            Ok(Ok(())) => self.tasks.push((task, node)),
            Ok(Err(error)) => return Err(BackgroundError::Task(error)),
            Err(_) => {
                return Err(BackgroundError::Thread(io::Error::other(
                    "it ended at once",
                )));
            }
        }
        Ok(())
    }

    /// How often something panicked in one of the threads: a shrinker, or an owner of pages.
    pub fn panics(&self) -> usize {
        self.panics.load(Ordering::Relaxed) // a number by itself
    }
}

/// A thread of the background.
fn run(
    task: Task,
    host: &Host,
    node: NodeId,
    stop: &Stop,
    ready: &SyncSender<Result<(), NodeTaskError>>,
    panics: &AtomicUsize,
) {
    let told = Cell::new(false);
    // Asked for the first time when the thread has become the node's task.
    let stopped = || {
        if !told.replace(true) {
            let _ = ready.send(Ok(())); // there is room for one, and somebody waits for it
        }
        stop.is_asked()
    };
    // A panic unwinds through the library, whose guards leave everything whole, and whose task is
    // free for the next turn.
    while !stop.is_asked() {
        match catch_unwind(AssertUnwindSafe(|| task.run(host, node, stopped))) {
            Ok(Ok(())) => return,
            Ok(Err(error)) => {
                let _ = ready.send(Err(error));
                return;
            }
            Err(payload) => {
                core::mem::forget(payload); // its drop may panic again
                panics.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let (host, tasks) = (&self.host, &self.tasks);
        self.threads
            .end(|| tasks.iter().for_each(|(task, node)| task.stop(host, *node)));
    }
}

impl fmt::Debug for Background {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Background({} threads)", self.tasks.len())
    }
}
