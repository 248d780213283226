//! RAM, mappings, and the rest of the seam in a real process.
#![cfg(not(loom))]

mod common;
#[path = "common/stderr.rs"]
mod stderr;

use common::{RAM, in_child, machine};
use gfp::frame::{NodeId, Order, PAGE_SIZE, Pfn, PhysAddr};
use gfp::page::{MemoryRegion, RegionKind};
use gfp::platform::{FrameRun, Mapped, Nested, Paging, Platform, Protection};
use gfp::report::{Caller, Misuse, Owner, Report};
use gfp_host::slots::GUEST;
use gfp_host::{Backing, HostConfig, HostError, HostPlatform};
use std::ptr::NonNull;
use std::thread;
use stderr::stderr_of_child;

const FOUR_GIB: PhysAddr = PhysAddr(4 << 30);

/// Frame number `index` of a machine.
fn frame(index: usize) -> Pfn {
    FOUR_GIB.pfn().add(index)
}

fn byte_of(machine: &HostPlatform, frame: Pfn) -> *mut u8 {
    machine.direct_map().ptr(frame.phys())
}

/// Reads one byte in a forked child, as [`in_child`].
fn touch_in_child(at: *const u8) -> i32 {
    in_child(|| {
        // SAFETY: a fault kills the child, which is what the caller asks for.
        unsafe { i32::from(at.read_volatile()) }
    })
}

#[test]
fn private_ram_is_copied_and_shared_ram_is_missing_in_a_child() {
    let private = machine(Backing::Private);
    let at = byte_of(&private, frame(3));
    // SAFETY: RAM of this machine, which has no other user.
    unsafe { at.write(7) };
    let answer = in_child(|| {
        // SAFETY: the child's own copy.
        unsafe {
            let seen = at.read();
            at.write(9);
            i32::from(seen)
        }
    });
    assert_eq!(answer, 7);
    // SAFETY: as above.
    let seen = unsafe { at.read() };
    assert_eq!(seen, 7, "the parent does not see the child's write");
    let shared = machine(Backing::Shared);
    let at = byte_of(&shared, frame(3));
    // SAFETY: as above.
    unsafe { at.write(7) };
    assert_eq!(touch_in_child(at), -libc::SIGSEGV);
}

#[test]
fn ram_is_aligned_as_its_frames_are() {
    // P301, S10
    for base in [4u64 << 30, 1 << 20, (16 << 20) + 0x3000] {
        let config = HostConfig::new(RAM).phys_base(PhysAddr(base));
        let machine = HostPlatform::new(&config).unwrap();
        let first = machine.direct_map().ptr(PhysAddr(base)) as u64;
        assert_eq!(
            first % Order::MAX.bytes() as u64,
            base % Order::MAX.bytes() as u64
        );
        assert_eq!(machine.direct_map().phys(first as usize), PhysAddr(base));
        assert_eq!(machine.size(), RAM);
    }
}

#[test]
fn nodes_follow_each_other() {
    let config = HostConfig::new(8 << 20).node(NodeId(2), 4 << 20);
    let machine = HostPlatform::new(&config).unwrap();
    let map = machine.memory_map();
    let usable = |node, start, end| MemoryRegion {
        start,
        end,
        node,
        kind: RegionKind::Usable,
    };
    let middle = PhysAddr(FOUR_GIB.0 + (8 << 20));
    let end = PhysAddr(FOUR_GIB.0 + (12 << 20));
    let expected = [
        usable(NodeId(0), FOUR_GIB, middle),
        usable(NodeId(2), middle, end),
    ];
    assert_eq!(*map, expected);
    assert_eq!(machine.size(), 12 << 20);
}

#[test]
fn impossible_machines_are_refused() {
    let refused = |config: HostConfig| HostPlatform::new(&config).unwrap_err();
    assert_eq!(refused(HostConfig::new(0)), HostError::NoMemory);
    assert_eq!(refused(HostConfig::new(5000)), HostError::NotPageAligned);
    assert_eq!(
        refused(HostConfig::new(RAM).phys_base(PhysAddr(1))),
        HostError::NotPageAligned
    );
    assert_eq!(
        refused(HostConfig::new(RAM).vmalloc_bytes(1)),
        HostError::NotPageAligned
    );
    assert_eq!(
        refused(HostConfig::new(usize::MAX & !4095)),
        HostError::TooLarge
    );
    let two = HostConfig::new(usize::MAX & !4095).node(NodeId(1), usize::MAX & !4095);
    assert_eq!(refused(two), HostError::TooLarge);
    let huge = refused(HostConfig::new(1 << 60));
    assert!(
        matches!(
            huge,
            HostError::System {
                errno: libc::ENOMEM,
                ..
            }
        ),
        "{huge}"
    );
}

#[test]
fn machines_are_independent_but_a_thread_is_inside_one_at_a_time() {
    let machines = [Backing::Private, Backing::Shared, Backing::Private].map(machine);
    for (value, machine) in machines.iter().enumerate() {
        // SAFETY: RAM of a machine without another user.
        unsafe { byte_of(machine, frame(1)).write(value as u8 + 1) };
    }
    for (value, machine) in machines.iter().enumerate() {
        // SAFETY: as above.
        let seen = unsafe { byte_of(machine, frame(1)).read() };
        assert_eq!(seen, value as u8 + 1);
    }
    let section = machines[0].enter().unwrap();
    assert!(matches!(machines[1].enter(), Err(Nested)));
    drop(section);
    assert!(machines[1].enter().is_ok());
}

#[test]
fn discarded_frames_read_as_zero_and_cost_nothing() {
    for backing in [Backing::Private, Backing::Shared] {
        let machine = machine(backing);
        let at = byte_of(&machine, frame(512));
        // SAFETY: RAM of this machine, which has no other user.
        unsafe { at.write_bytes(0xa5, 4 * PAGE_SIZE) };
        assert!(resident(at));
        assert!(machine.discard(frame(512), 2));
        assert!(!resident(at), "{backing:?}");
        // SAFETY: as above.
        unsafe {
            assert_eq!(at.add(2 * PAGE_SIZE - 1).read(), 0);
            assert_eq!(at.add(2 * PAGE_SIZE).read(), 0xa5, "not asked for");
        }
        assert!(
            !machine.discard(frame(RAM / PAGE_SIZE - 1), 2),
            "beyond the end"
        );
        assert!(!machine.discard(Pfn(0), 1), "before the start");
    }
}

fn resident(at: *mut u8) -> bool {
    let mut answer = 0u8;
    // SAFETY: `answer` has one byte for the one page.
    let done = unsafe { libc::mincore(at.cast(), PAGE_SIZE, &mut answer) };
    assert_eq!(done, 0);
    answer & 1 != 0
}

const RUNS: [FrameRun; 3] = [
    FrameRun {
        first: Pfn(FOUR_GIB.0 as usize / PAGE_SIZE + 40),
        pages: 2,
    },
    FrameRun {
        first: Pfn(FOUR_GIB.0 as usize / PAGE_SIZE + 42),
        pages: 1,
    },
    FrameRun {
        first: Pfn(FOUR_GIB.0 as usize / PAGE_SIZE + 10),
        pages: 1,
    },
];
const RUNS_PAGES: usize = 4;

fn map(machine: &HostPlatform, at: NonNull<u8>, protection: Protection) -> Mapped {
    // SAFETY: the test owns the whole machine; nothing is mapped at `at`.
    unsafe { machine.map(at, &mut RUNS.into_iter(), protection, &mut || None) }.unwrap()
}

#[test]
fn shared_mappings_show_the_very_frames() {
    let machine = machine(Backing::Shared);
    assert!(machine.aliases_frames());
    let (at, _) = machine.vmalloc_range();
    for (index, value) in [(40, 1u8), (41, 2), (42, 3), (10, 4)] {
        // SAFETY: RAM of this machine, which has no other user.
        unsafe { byte_of(&machine, frame(index)).write(value) };
    }
    assert_eq!(map(&machine, at, Protection::ReadWrite), Mapped::Content);
    for page in 0..RUNS_PAGES {
        // SAFETY: mapped above.
        assert_eq!(unsafe { at.add(page * PAGE_SIZE).read() }, page as u8 + 1);
    }
    // SAFETY: as above.
    unsafe { at.add(3 * PAGE_SIZE).write(9) };
    // SAFETY: as above.
    assert_eq!(unsafe { byte_of(&machine, frame(10)).read() }, 9);
    // SAFETY: mapped above, used by nobody.
    unsafe { machine.unmap(at, RUNS_PAGES) };
    machine.flush(at, RUNS_PAGES);
    assert_eq!(touch_in_child(at.as_ptr()), -libc::SIGSEGV);
}

#[test]
fn private_mappings_take_the_place_of_their_frames() {
    let machine = machine(Backing::Private);
    assert!(!machine.aliases_frames());
    let (start, _) = machine.vmalloc_range();
    // SAFETY: inside the range.
    let at = unsafe { start.add(PAGE_SIZE) };
    let frames = byte_of(&machine, frame(40));
    // SAFETY: RAM of this machine, which has no other user.
    unsafe { frames.write_bytes(0xa5, 3 * PAGE_SIZE) };
    assert_eq!(map(&machine, at, Protection::ReadWrite), Mapped::Zeroed);
    assert!(!resident(frames), "the frames' own pages are given back");
    // SAFETY: mapped above.
    unsafe {
        assert_eq!(at.add(RUNS_PAGES * PAGE_SIZE - 1).read(), 0);
        at.write_bytes(0x5a, RUNS_PAGES * PAGE_SIZE);
    }
    // SAFETY: mapped above, used by nobody.
    unsafe { machine.unmap(at, RUNS_PAGES) };
    assert_eq!(touch_in_child(at.as_ptr()), -libc::SIGSEGV);
    assert_eq!(map(&machine, at, Protection::Read), Mapped::Zeroed);
    // SAFETY: mapped again.
    assert_eq!(unsafe { at.read() }, 0, "unmapping dropped the content");
}

#[test]
fn what_is_not_mapped_faults() {
    for backing in [Backing::Private, Backing::Shared] {
        let machine = machine(backing);
        let (start, bytes) = machine.vmalloc_range();
        assert!(bytes >= 64 << 30 && (start.as_ptr() as usize).is_multiple_of(PAGE_SIZE));
        // SAFETY: inside the range.
        let at = unsafe { start.add(PAGE_SIZE) };
        map(&machine, at, Protection::Read);
        let before = start.as_ptr();
        // SAFETY: inside the range: its page after the area and its last page.
        let (after, last) = unsafe {
            (
                at.add(RUNS_PAGES * PAGE_SIZE).as_ptr(),
                start.add(bytes - 1).as_ptr(),
            )
        };
        for guard in [before, after, last] {
            assert_eq!(touch_in_child(guard), -libc::SIGSEGV, "{backing:?}");
        }
        let wrote = in_child(|| {
            // SAFETY: a fault kills the child, which is what the test expects.
            unsafe { at.as_ptr().write_volatile(1) };
            0
        });
        assert_eq!(wrote, -libc::SIGSEGV, "read only, {backing:?}");
        if backing == Backing::Private {
            assert_eq!(touch_in_child(at.as_ptr()), 0);
        }
    }
}

#[test]
fn a_dropped_machine_is_gone() {
    for part in [0, 1] {
        let machine = machine(Backing::Private);
        let (range, _) = machine.vmalloc_range();
        let at = [byte_of(&machine, frame(0)), range.as_ptr()][part];
        map(&machine, range, Protection::ReadWrite);
        let answer = in_child(|| {
            // In a child, where no other thread can map something in its place.
            drop(machine);
            // SAFETY: a fault kills the child, which is what the test expects.
            unsafe { i32::from(at.read_volatile()) }
        });
        assert_eq!(answer, -libc::SIGSEGV);
    }
}

#[test]
fn errno_is_left_alone() {
    let machine = machine(Backing::Shared);
    // SAFETY: the place of this thread's errno.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    unsafe { *errno = 4321 };
    assert!(HostPlatform::new(&HostConfig::new(1 << 60)).is_err());
    assert!(machine.discard(frame(0), 1));
    drop(machine.enter());
    machine.relax(0);
    machine.relax(1_000_000);
    let before = machine.now_ns();
    assert!(machine.now_ns() >= before && before != 0);
    // SAFETY: as above.
    assert_eq!(unsafe { *errno }, 4321);
}

#[test]
fn cpus_are_counted() {
    let machine = machine(Backing::Private);
    assert_eq!(machine.nr_cpus(), GUEST.0 + 1);
    let available = thread::available_parallelism().unwrap().get() as u32;
    assert!(machine.nr_cpus_running() >= available);
}

#[test]
fn a_report_is_one_line_on_standard_error() {
    let machine = machine(Backing::Private);
    let long = "x".repeat(1000);
    for (cache, cut) in [("kmalloc-64", false), (long.as_str(), true)] {
        let owner = Owner::Object {
            cache,
            start: 0x1000,
            size: 64,
        };
        let report = Report {
            misuse: Misuse::DoubleFree,
            addr: 0x1000,
            owner,
            caller: Caller::Address(1),
        };
        let text = stderr_of_child(|| machine.report(&report));
        let expected = format!("{report}\n");
        if cut {
            assert_eq!(text.len(), 512);
            assert_eq!(text[..511], expected[..511]);
        } else {
            assert_eq!(text, expected);
        }
        assert!(text.ends_with('\n') && text.starts_with("gfp: double free of 0x1000"));
    }
}
