//! A device that is told of free memory, by a thread of its own.

use super::Host;
use super::home::{Stop, Threads};
use super::std::panic::{AssertUnwindSafe, catch_unwind};
use super::std::sync::Arc;
use super::std::sync::mpsc::{SyncSender, sync_channel};
use super::std::{io, thread};
use core::fmt;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use gfp::frame::Order;
use gfp::page::{ReportingDevice, ReportingError};
use gfp::platform::Platform;

/// How often the thread looks whether free memory waits.
const LOOK: Duration = Duration::from_secs(1);

/// Why no device is told.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartReportingError {
    /// The machine has another device, or this one is none that there can be.
    Device(ReportingError),
    /// The thread was not started.
    Thread(io::Error),
}

impl fmt::Display for StartReportingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartReportingError::Device(error) => error.fmt(f),
            StartReportingError::Thread(error) => write!(f, "no thread: {error}"),
        }
    }
}

impl core::error::Error for StartReportingError {}

/// A device is told of free memory while this lives.
///
/// Its drop waits for the call that is under way: not in the device itself. In the child of a fork
/// nobody is told, the drop does nothing, and another device may be registered.
pub struct ReportingGuard {
    threads: Threads,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    pages: AtomicUsize,
    panics: AtomicUsize,
}

impl Host {
    /// Has a device told what memory is free, such as a cache of another process that may use it
    /// meanwhile: whole pageblocks (2 MiB), or blocks of the order `least` and larger (P520, P521).
    /// The calls come from a thread of their own, two seconds after memory came free, and only
    /// while there is enough of it: a zone keeps its low watermark and as much as the device takes
    /// at once, by default 32 blocks. To drive a device by oneself there is
    /// [`Mm::register_reporting`](gfp::Mm::register_reporting).
    ///
    /// While this lives free memory goes to the device and not to the operating system, but for
    /// what [`Mm::trim`](gfp::Mm::trim) gives. A device that panics is told again later; it must
    /// not ask this machine for memory, nor wait for who does, nor fork and go on.
    ///
    /// ```
    /// use gfp::page::{Reported, ReportingDevice};
    /// use gfp::platform::FrameRun;
    /// use gfp_host::{Host, HostConfig};
    ///
    /// struct Balloon;
    ///
    /// impl ReportingDevice for Balloon {
    ///     fn report(&mut self, blocks: &[FrameRun]) -> Reported {
    ///         for block in blocks { /* nobody uses these pages now */ }
    ///         Reported::Taken
    ///     }
    /// }
    ///
    /// let host = Host::boot(&HostConfig::new(64 << 20))?;
    /// let guard = host.report_free_memory(Balloon, None)?;
    /// assert_eq!(guard.panics(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`StartReportingError`].
    pub fn report_free_memory(
        &self,
        device: impl ReportingDevice + Send + 'static,
        least: Option<Order>,
    ) -> Result<ReportingGuard, StartReportingError> {
        let mut guard = ReportingGuard {
            threads: Threads::new(),
            counts: Arc::default(),
        };
        let (host, counts) = (self.clone(), guard.counts.clone());
        let (ready, is_ready) = sync_channel(1);
        let body = move |stop: &Stop| run(&host, device, least, stop, &ready, &counts);
        let started = guard.threads.start("gfp-reporting".into(), body);
        started.map_err(StartReportingError::Thread)?;
        match is_ready.recv() {
            Ok(Ok(())) => Ok(guard),
            Ok(Err(error)) => Err(StartReportingError::Device(error)),
            Err(_) => Err(StartReportingError::Thread(io::Error::other(
                "it ended at once",
            ))),
        }
    }
}

impl ReportingGuard {
    /// Pages that the device was told of and took; those that were used meanwhile and came free
    /// again count again.
    pub fn reported_pages(&self) -> usize {
        self.counts.pages.load(Ordering::Relaxed) // a number by itself
    }

    /// How often the device panicked.
    pub fn panics(&self) -> usize {
        self.counts.panics.load(Ordering::Relaxed) // a number by itself
    }
}

/// The thread.
fn run(
    host: &Host,
    device: impl ReportingDevice,
    least: Option<Order>,
    stop: &Stop,
    ready: &SyncSender<Result<(), ReportingError>>,
    counts: &Counts,
) {
    let mut reporting = match host.register_reporting(device, least) {
        Ok(reporting) => reporting,
        Err(error) => {
            let _ = ready.send(Err(error)); // there is room for one, and somebody waits for it
            return;
        }
    };
    let _ = ready.send(Ok(()));
    while !stop.is_asked() {
        // A panic unwinds through the library, which takes the blocks back.
        let wait = match catch_unwind(AssertUnwindSafe(|| reporting.tick())) {
            Ok(pages) => {
                counts.pages.fetch_add(pages, Ordering::Relaxed);
                let now = host.platform().now_ns();
                let due = reporting.due_ns().map(|due| due.saturating_sub(now));
                due.map_or(LOOK, Duration::from_nanos).min(LOOK)
            }
            Err(payload) => {
                core::mem::forget(payload); // its drop may panic again
                counts.panics.fetch_add(1, Ordering::Relaxed);
                LOOK
            }
        };
        // Whoever stops it wakes it, also if that comes before.
        thread::park_timeout(wait);
    }
}

impl Drop for ReportingGuard {
    fn drop(&mut self) {
        self.threads.end(|| ());
    }
}

impl fmt::Debug for ReportingGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReportingGuard({} pages told)", self.reported_pages())
    }
}
