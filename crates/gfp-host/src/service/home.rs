//! Which process something was made in, and threads that are there only.

use super::signals;
use super::std::io;
use super::std::string::String;
use super::std::sync::Arc;
use super::std::thread::{Builder, JoinHandle};
use super::std::vec::Vec;
use crate::sys;
use core::sync::atomic::{AtomicBool, Ordering};

/// The process that made something: a fork copies the thing, not what else belongs to it.
#[derive(Copy, Clone)]
pub(super) struct Home(i32);

impl Home {
    /// This process.
    pub(super) fn here() -> Home {
        Home(sys::getpid())
    }

    /// False in a child of the process that made it.
    pub(super) fn is_here(self) -> bool {
        sys::getpid() == self.0
    }
}

/// Says when a thread is to end.
#[derive(Clone)]
pub(super) struct Stop(Arc<AtomicBool>);

impl Stop {
    pub(super) fn is_asked(&self) -> bool {
        // Acquire: pairs with the Release in `Threads::end`.
        self.0.load(Ordering::Acquire)
    }
}

/// The threads of a guard. They take no signals.
pub(super) struct Threads {
    home: Home,
    stop: Stop,
    handles: Vec<JoinHandle<()>>,
}

impl Threads {
    pub(super) fn new() -> Threads {
        Threads {
            home: Home::here(),
            stop: Stop(Arc::new(AtomicBool::new(false))),
            handles: Vec::new(),
        }
    }

    /// Starts one, which ends when [`Stop`] says so or by itself.
    ///
    /// # Errors
    /// The operating system gives none.
    pub(super) fn start(
        &mut self,
        name: String,
        run: impl FnOnce(&Stop) + Send + 'static,
    ) -> Result<(), io::Error> {
        let stop = self.stop.clone();
        let thread = Builder::new().name(name).spawn(move || {
            signals::block_all();
            run(&stop);
        })?;
        self.handles.push(thread);
        Ok(())
    }

    /// Ends them, and waits for that; `wake` has those look that sleep, and those that are parked
    /// are woken. In a child nobody is there.
    pub(super) fn end(&mut self, wake: impl FnOnce()) {
        let handles = core::mem::take(&mut self.handles);
        if !self.home.is_here() {
            return core::mem::forget(handles); // threads of another process
        }
        // Release: pairs with the Acquire in `Stop::is_asked`.
        self.stop.0.store(true, Ordering::Release);
        wake();
        handles.iter().for_each(|thread| thread.thread().unpark());
        for thread in handles {
            let _ = thread.join(); // a panic was printed when it came
        }
    }
}
