//! A device that a `Host` tells of free memory, and a fork meanwhile.
//!
//! The tests wait for what comes, two seconds after free memory was seen; none looks at the clock.
//!
//! Seen to fail, by a child that hangs, with: blocks that stay hidden in the child.
#![cfg(not(loom))]

use gfp::flags::{GFP_KERNEL, Gfp};
use gfp::frame::Order;
use gfp::page::{Reported, ReportingDevice, ReportingError};
use gfp::platform::FrameRun;
use gfp_host::service::StartReportingError;
use gfp_host::{Host, HostConfig};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::mpsc::{Sender, channel};
use std::thread;

#[path = "common/child.rs"]
mod child;
use child::in_child;

/// Panics at its first report, and tells of each.
struct Device {
    told: Sender<Vec<FrameRun>>,
    panics: bool,
}

impl ReportingDevice for Device {
    /// A machine of 48 MiB never does without 32 blocks at once.
    fn capacity(&self) -> usize {
        2
    }

    fn report(&mut self, blocks: &[FrameRun]) -> Reported {
        self.told.send(blocks.to_vec()).unwrap();
        if std::mem::take(&mut self.panics) {
            std::panic::resume_unwind(Box::new("on purpose"));
        }
        Reported::Taken
    }
}

fn boot() -> Host {
    Host::boot(&HostConfig::new(48 << 20)).unwrap()
}

#[test]
fn a_device_is_told_until_its_guard_is_dropped_and_a_panic_costs_one_report() {
    // P520, P521
    let host = boot();
    let (told, blocks) = channel();
    let device = Device { told, panics: true };
    let guard = host.report_free_memory(device, None).unwrap();
    let (other, _rest) = channel();
    let second = Device {
        told: other,
        panics: false,
    };
    let refused = host.report_free_memory(second, None).unwrap_err();
    assert!(matches!(
        refused,
        StartReportingError::Device(ReportingError::Busy)
    ));
    // The first report panics, the second tells of the same blocks.
    let (first, second) = (blocks.recv().unwrap(), blocks.recv().unwrap());
    assert_eq!(first, second);
    assert!(first.iter().all(|b| b.pages >= Order::PAGEBLOCK.pages()));
    assert_eq!(guard.panics(), 1);
    while guard.reported_pages() < first.len() * first[0].pages {
        thread::yield_now();
    }
    drop(guard);
    assert!(blocks.iter().all(|more| !more.is_empty()), "and it is gone");
    let (told, _blocks) = channel();
    let next = Device {
        told,
        panics: false,
    };
    drop(host.report_free_memory(next, Order::new(10)).unwrap());
    host.verify().unwrap();
}

/// Takes its time over what it is told.
#[derive(Default)]
struct Slow {
    has_some: AtomicBool,
    may_end: AtomicBool,
}

struct SlowDevice(Arc<Slow>);

impl ReportingDevice for SlowDevice {
    fn capacity(&self) -> usize {
        2
    }

    fn report(&mut self, _: &[FrameRun]) -> Reported {
        self.0.has_some.store(true, Release);
        while !self.0.may_end.load(Acquire) {
            thread::yield_now();
        }
        Reported::Taken
    }
}

#[test]
fn a_child_of_a_fork_amid_a_report_waits_for_no_block_of_it() {
    // P520
    let host = boot();
    let slow = Arc::new(Slow::default());
    let device = SlowDevice(slow.clone());
    let mut of_child = Some(host.report_free_memory(device, None).unwrap());
    while !slow.has_some.load(Acquire) {
        thread::yield_now();
    }
    let answer = in_child(|| {
        drop(of_child.take());
        // A request that fails looks for blocks that are on their way first.
        let gfp = GFP_KERNEL | Gfp::NORETRY | Gfp::NOWARN;
        let mut pages = 0;
        while host.alloc_pages(gfp, 0).is_ok() {
            pages += 1;
        }
        match host.register_reporting(SlowDevice(slow.clone()), None) {
            Ok(_) if pages > 0 && host.verify().is_ok() => 0,
            Ok(_) => 1,
            Err(_) => 2, // its place is not free
        }
    });
    slow.may_end.store(true, Release);
    assert_eq!(answer, 0);
    drop(of_child.take());
    host.verify().unwrap();
}
