//! The summary that `gfp run` prints on stderr.

use std::cmp::Reverse;
use std::fmt::Write;

use gfp_malloc_core::record::{Failures, PAGE_BYTES, Snapshot};

use crate::records::{Fate, Image};
use crate::report::buckets;
use crate::run::{End, Outcome};
use crate::size::show;

/// Further processes that get a line; the report has them all.
const FURTHER_MAX: usize = 20;
/// Unreadable records that are named.
const UNREADABLE_MAX: usize = 3;

/// The summary of a run.
pub(crate) fn render(outcome: &Outcome) -> String {
    let mut out = String::new();
    let main = outcome.images.main(outcome.main_pid);
    head(&mut out, outcome, main);
    if let Some(main) = main {
        let record = &outcome.images.all[main].record;
        process(&mut out, record);
        if is_short(record.managed_bytes, outcome.memory_bytes) {
            line(
                &mut out,
                format_args!(
                    "gfp: managed is less than the {} asked for: the system did not give the \
                     program\n     so many addresses (look at ulimit -v)",
                    show(outcome.memory_bytes)
                ),
            );
        }
    }
    let further = outcome
        .images
        .all
        .iter()
        .enumerate()
        .filter(|(at, _)| Some(*at) != main);
    further_processes(&mut out, further.map(|(_, image)| image).collect());
    for reason in outcome.images.unreadable.iter().take(UNREADABLE_MAX) {
        line(&mut out, format_args!("gfp: unreadable record {reason}"));
    }
    let more = outcome
        .images
        .unreadable
        .len()
        .saturating_sub(UNREADABLE_MAX);
    if more > 0 {
        line(
            &mut out,
            format_args!("gfp: and {more} more unreadable records"),
        );
    }
    out
}

/// True if a machine is smaller than asked for, beyond what gfp keeps for itself (a sixteenth is
/// far more than that, except in the smallest machines).
fn is_short(managed: u64, asked: u64) -> bool {
    managed + (asked / 16).max(4 << 20) < asked
}

/// Appends a line; writing to a String does not fail.
fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(text);
    out.push('\n');
}

fn head(out: &mut String, outcome: &Outcome, main: Option<usize>) {
    let name = outcome
        .command
        .first()
        .map(|name| name.display().to_string())
        .unwrap_or_default();
    let end = match outcome.end {
        End::Status(code) => format!("exit status {code}"),
        End::Signal(signal) => format!("killed by signal {signal}{}", signal_name(signal)),
    };
    let (pid, seconds) = (outcome.main_pid, outcome.elapsed.as_secs_f64());
    line(
        out,
        format_args!("gfp: {name} (pid {pid}): {end}, {seconds:.2} s"),
    );
    if main.is_some_and(|main| outcome.images.all[main].fate == Fate::OutOfMemory) {
        line(
            out,
            format_args!("gfp: it was gfp that killed it: its memory was used up (--oom kill)"),
        );
    }
    if main.is_none() {
        let who = match outcome.images.all.is_empty() {
            true => "no process left a record",
            false => "the program itself left NO record",
        };
        line(
            out,
            format_args!(
                "gfp: {who}: libgfp_malloc.so was not loaded or could not start,\n     \
                 so its memory was NOT gfp's \
                 (did something clear LD_PRELOAD, or change root or user?)"
            ),
        );
    }
}

/// Everything about the program's own process.
fn process(out: &mut String, record: &Snapshot) {
    let managed = record.managed_bytes;
    let (peak, in_use) = (record.peak_bytes, record.in_use_bytes);
    line(
        out,
        format_args!(
            "  memory     managed {}, peak {} ({}), at the end {} ({})",
            show(managed),
            show(peak),
            percent(peak, managed),
            show(in_use),
            percent(in_use, managed)
        ),
    );
    if !record.zones().is_empty() {
        line(
            out,
            format_args!(
                "  {:<22} {:>11} {:>11} {:>11} {:>11} {:>11}",
                "zones", "managed", "free", "min", "low", "high"
            ),
        );
    }
    for zone in record.zones() {
        let shown = |pages: u64| show(pages.saturating_mul(PAGE_BYTES));
        let name = format!(
            "node {} {}",
            zone.node,
            String::from_utf8_lossy(zone.name.bytes())
        );
        line(
            out,
            format_args!(
                "    {name:<20} {:>11} {:>11} {:>11} {:>11} {:>11}",
                shown(zone.managed_pages),
                shown(zone.free_pages),
                shown(zone.min_pages),
                shown(zone.low_pages),
                shown(zone.high_pages)
            ),
        );
    }
    caches(out, record);
    let vmalloc = &record.vmalloc;
    line(
        out,
        format_args!(
            "  vmalloc    {}, {} used, peak {}",
            counted(vmalloc.areas, "area"),
            show(vmalloc.bytes),
            show(vmalloc.peak_bytes)
        ),
    );
    failures(out, &record.failed);
    if record.misuse_total > 0 {
        // The text comes from the program's process: one line, printable, whatever it holds.
        let last = record.misuse_last.bytes().escape_ascii();
        line(
            out,
            format_args!(
                "  MISUSE     {}, last: {last}",
                counted(record.misuse_total, "report")
            ),
        );
    }
    if record.malloc_calls > 0 || record.free_calls > 0 {
        line(
            out,
            format_args!(
                "  calls      malloc {}, free {}",
                record.malloc_calls, record.free_calls
            ),
        );
    }
}

fn caches(out: &mut String, record: &Snapshot) {
    let caches = &record.caches;
    line(
        out,
        format_args!(
            "  caches     {}, {} in slabs",
            caches.total_caches,
            show(caches.total_bytes)
        ),
    );
    if !caches.rows().is_empty() {
        let title = "largest";
        line(
            out,
            format_args!(
                "    {title:<32} {:>11} {:>11} {:>11}",
                "objects", "slabs", "bytes"
            ),
        );
    }
    for cache in caches.rows() {
        line(
            out,
            format_args!(
                "    {:<32} {:>11} {:>11} {:>11}",
                String::from_utf8_lossy(cache.name.bytes()),
                cache.objects,
                cache.slabs,
                show(cache.bytes)
            ),
        );
    }
}

fn failures(out: &mut String, failed: &Failures) {
    if failed.total == 0 {
        return line(out, format_args!("  failed     none"));
    }
    let largest = show(failed.largest_bytes);
    line(
        out,
        format_args!(
            "  failed     {}, largest {largest}",
            counted(failed.total, "allocation")
        ),
    );
    for (up_to_bytes, count) in buckets(failed) {
        let size = up_to_bytes.map_or("larger".into(), |bytes| format!("up to {}", show(bytes)));
        line(out, format_args!("    {size:<20} {count:>11}"));
    }
}

fn further_processes(out: &mut String, mut images: Vec<&Image>) {
    let all = images.len();
    // A shell script leaves many images that exec replaced at once: only those with something to
    // tell.
    images.retain(|image| {
        let record = &image.record;
        image.fate != Fate::Replaced || record.failed.total > 0 || record.misuse_total > 0
    });
    let replaced = all - images.len();
    if replaced > 0 {
        line(
            out,
            format_args!(
                "gfp: {} replaced by exec",
                counted(replaced as u64, "process image")
            ),
        );
    }
    if images.is_empty() {
        return;
    }
    images.sort_by_key(|image| Reverse(image.record.peak_bytes));
    let title = match images.len() {
        1 => "gfp: 1 further process, with its own budget".into(),
        count => format!("gfp: {count} further processes, each with its own budget"),
    };
    line(out, format_args!("{title}"));
    line(
        out,
        format_args!(
            "    {:>8} {:<20} {:>11} {:>11}",
            "pid", "name", "peak", "failed"
        ),
    );
    for image in images.iter().take(FURTHER_MAX) {
        let record = &image.record;
        let note = match image.fate {
            Fate::Exited | Fate::Ended => "",
            Fate::Aborted => "  aborted after a misuse",
            Fate::OutOfMemory => "  killed by gfp: its memory was used up",
            Fate::Replaced => "  replaced by exec",
            Fate::Running => "  still running",
        };
        let misuse = match record.misuse_total {
            0 => String::new(),
            count => format!("  MISUSE: {}", counted(count, "report")),
        };
        line(
            out,
            format_args!(
                "    {:>8} {:<20} {:>11} {:>11}{note}{misuse}",
                record.identity.pid,
                image.name(),
                show(record.peak_bytes),
                record.failed.total
            ),
        );
    }
    let more = images.len().saturating_sub(FURTHER_MAX);
    if more > 0 {
        line(
            out,
            format_args!("    and {more} more (--report FILE.json lists all)"),
        );
    }
}

/// `1 area`, `2 areas`.
fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "-".into();
    }
    format!("{:.1} %", part as f64 * 100.0 / whole as f64)
}

/// ` (SIGTERM)`, or nothing for a signal without a common name.
fn signal_name(signal: i32) -> &'static str {
    match signal {
        libc::SIGHUP => " (SIGHUP)",
        libc::SIGINT => " (SIGINT)",
        libc::SIGQUIT => " (SIGQUIT)",
        libc::SIGILL => " (SIGILL)",
        libc::SIGTRAP => " (SIGTRAP)",
        libc::SIGABRT => " (SIGABRT)",
        libc::SIGBUS => " (SIGBUS)",
        libc::SIGFPE => " (SIGFPE)",
        libc::SIGKILL => " (SIGKILL)",
        libc::SIGUSR1 => " (SIGUSR1)",
        libc::SIGSEGV => " (SIGSEGV)",
        libc::SIGUSR2 => " (SIGUSR2)",
        libc::SIGPIPE => " (SIGPIPE)",
        libc::SIGALRM => " (SIGALRM)",
        libc::SIGTERM => " (SIGTERM)",
        libc::SIGXCPU => " (SIGXCPU)",
        libc::SIGXFSZ => " (SIGXFSZ)",
        libc::SIGSYS => " (SIGSYS)",
        _ => "",
    }
}

#[cfg(test)]
mod tests;
