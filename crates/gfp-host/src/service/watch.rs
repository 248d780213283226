//! Being told of memory pressure, and of time that is lost to it.

use super::Host;
use super::home::{Stop, Threads};
use super::std::io;
use core::fmt;
use gfp::platform::Platform;
use gfp::policy::pressure::Pressure;
use gfp::policy::stall::{Trigger, Watch};

/// While there is pressure, it is looked at so often whether it has gone: nobody says when memory
/// comes free otherwise than by reclaim.
const LOOK_NS: u64 = 100_000_000;

/// Somebody is told of pressure while this lives.
///
/// Its drop waits for the call that is under way: not in the callback itself. In the child of a
/// fork nobody is told, and the drop does nothing.
pub struct PressureGuard {
    host: Host,
    threads: Threads,
}

impl Host {
    /// Calls `tell` with the pressure whenever it has become another, first of all if there is any.
    ///
    /// The calls come one after the other, from a thread of their own with no lock held: `tell` may
    /// wait, and free and ask for memory. What changes while it runs is told as far as it is still
    /// so afterwards. To look without being told there is
    /// [`Mm::pressure`](gfp::Mm::pressure).
    ///
    /// ```
    /// use gfp::policy::pressure::Pressure;
    /// use gfp_host::{Host, HostConfig};
    /// # let host = Host::boot(&HostConfig::new(16 << 20))?;
    /// let guard = host.on_pressure(|level| match level {
    ///     Pressure::None | Pressure::Low => { /* as ever */ }
    ///     Pressure::Medium => { /* take no new work that needs much memory */ }
    ///     _ => { /* let go of whatever can be done without */ }
    /// })?;
    /// # drop(guard);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The operating system gives no thread.
    pub fn on_pressure(
        &self,
        tell: impl FnMut(Pressure) + Send + 'static,
    ) -> Result<PressureGuard, io::Error> {
        self.start_watch(move |host, stop| watch(host, stop, tell))
    }

    /// Calls `tell` whenever within a window so much time was lost to memory, at most once a window
    /// (P680). To look without being told there is
    /// [`Mm::memory_stalls`](gfp::Mm::memory_stalls).
    ///
    /// The calls come as those of [`Host::on_pressure`].
    ///
    /// ```
    /// use gfp_host::{Host, HostConfig};
    /// # let host = Host::boot(&HostConfig::new(16 << 20))?;
    /// // 150 ms in a second.
    /// let guard = host.on_stall("some 150000 1000000".parse()?, || { /* take less work */ })?;
    /// # drop(guard);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The operating system gives no thread.
    pub fn on_stall(
        &self,
        trigger: Trigger,
        tell: impl FnMut() + Send + 'static,
    ) -> Result<PressureGuard, io::Error> {
        // Before the thread runs: what stalls from now on counts.
        let Ok(stalls) = self.watch_stalls(trigger) else {
            return Err(io::Error::other("called in the middle of an allocation"));
        };
        self.start_watch(move |host, stop| watch_stalls(host, stop, stalls, tell))
    }

    /// Starts a thread that runs `body` until it is to stop.
    fn start_watch(
        &self,
        body: impl FnOnce(&Host, &Stop) + Send + 'static,
    ) -> Result<PressureGuard, io::Error> {
        let (host, mut threads) = (self.clone(), Threads::new());
        threads.start("gfp-pressure".into(), move |stop| body(&host, stop))?;
        Ok(PressureGuard {
            host: self.clone(),
            threads,
        })
    }
}

fn watch_stalls(host: &Host, stop: &Stop, mut watch: Watch, mut tell: impl FnMut()) {
    let stopped = || stop.is_asked();
    while !stopped() {
        // It is never inside the allocator here, so it is never refused.
        if host.wait_stall(&mut watch, None, stopped) == Ok(true) && !stopped() {
            tell();
        }
    }
}

fn watch(host: &Host, stop: &Stop, mut tell: impl FnMut(Pressure)) {
    let stopped = || stop.is_asked();
    let mut told = Pressure::None;
    while !stopped() {
        let look = host.platform().now_ns().saturating_add(LOOK_NS);
        let deadline = (told != Pressure::None).then_some(look);
        let level = host.wait_pressure(told, deadline, stopped);
        if level != told && !stopped() {
            tell(level);
            told = level;
        }
    }
}

impl Drop for PressureGuard {
    fn drop(&mut self) {
        let host = &self.host;
        self.threads.end(|| host.stop_wait_pressure());
    }
}

impl fmt::Debug for PressureGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PressureGuard")
    }
}
