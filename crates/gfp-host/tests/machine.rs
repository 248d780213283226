//! Whole machines in a process: fork, several at once, threads, the functions with Linux's names.

#[path = "common/child.rs"]
mod child;

use gfp::Mm;
use gfp::flags::{GFP_KERNEL, Gfp};
use gfp::frame::{NodeId, PAGE_SIZE, PhysAddr};
use gfp::page::BootConfig;
use gfp_host::{Backing, HostConfig, HostPlatform, fork};
use std::sync::atomic::{AtomicBool, Ordering};

fn boot(config: &HostConfig) -> Mm<HostPlatform> {
    // The tests of this program fork while others run.
    fork::install().unwrap();
    let platform = HostPlatform::new(config).unwrap();
    let map = platform.memory_map();
    let config = BootConfig {
        memory_is_zero: true,
        ..BootConfig::default()
    };
    Mm::boot(platform, &map, &config).unwrap()
}

/// The functions with Linux's names over one machine that lives as long as the process.
mod kernel {
    use super::{HostConfig, HostPlatform, Mm, boot};
    use std::sync::OnceLock;

    static MM: OnceLock<Mm<HostPlatform>> = OnceLock::new();

    pub(super) fn mm() -> &'static Mm<HostPlatform> {
        MM.get_or_init(|| boot(&HostConfig::new(64 << 20)))
    }

    gfp::global!(mm(), paging: yes);
}

#[test]
fn the_functions_with_linux_names_serve_every_allocator() {
    // G1, G12, G15, G16, G18
    // SAFETY: everything is used inside its size and freed once.
    unsafe {
        let p = kernel::kzalloc(100, GFP_KERNEL);
        assert!(!p.is_null() && (0..100).all(|i| *p.add(i) == 0));
        let p = kernel::krealloc(p, 5000, GFP_KERNEL);
        assert!(!p.is_null() && *p == 0);
        kernel::kfree(p);
        assert!(kernel::kmalloc_array(usize::MAX, 2, GFP_KERNEL).is_null());
        let v = kernel::vzalloc(100_000);
        assert!(kernel::mm().is_vmalloc_addr(v.addr()) && *v.add(99_999) == 0);
        kernel::vfree(v);
        let large = kernel::kvmalloc(9 << 20, GFP_KERNEL);
        assert!(kernel::mm().is_vmalloc_addr(large.addr()));
        large.add((9 << 20) - 1).write(1);
        kernel::kvfree(large);
        let small = kernel::kvmalloc(64, GFP_KERNEL);
        assert!(!kernel::mm().is_vmalloc_addr(small.addr()));
        kernel::kvfree(small);
        let pages = kernel::__get_free_pages(GFP_KERNEL, 3);
        pages.write_bytes(7, 8 * PAGE_SIZE);
        kernel::free_pages(pages, 3);
        let exact = kernel::alloc_pages_exact(5 * PAGE_SIZE, GFP_KERNEL);
        kernel::free_pages_exact(exact, 5 * PAGE_SIZE);
    }
    kernel::mm().verify().unwrap();
}

#[test]
fn a_forked_child_has_its_own_copy_of_the_machine() {
    let mm = boot(&HostConfig::new(32 << 20));
    let p = mm.kmalloc(64, GFP_KERNEL).unwrap();
    // SAFETY: the object is ours.
    unsafe { p.as_ptr().write_bytes(1, 64) };
    let status = child::in_child(|| {
        // SAFETY: the child's copy of the object is the child's.
        unsafe {
            assert_eq!(p.as_ptr().read(), 1);
            p.as_ptr().write_bytes(2, 64);
            for size in [8, 100, 5000, 100_000, 6 << 20] {
                let q = mm.kvmalloc(size, GFP_KERNEL).unwrap();
                q.as_ptr().write_bytes(3, size);
                mm.kvfree(q.as_ptr());
            }
            mm.kfree(p.as_ptr());
        }
        mm.verify().is_err().into()
    });
    assert_eq!(status, 0);
    // SAFETY: still ours, and not what the child made of its copy.
    unsafe {
        assert!((0..64).all(|i| p.as_ptr().add(i).read() == 1));
        mm.kfree(p.as_ptr());
    }
    mm.verify().unwrap();
}

#[test]
fn a_fork_amid_busy_threads_leaves_a_child_that_works() {
    let mm = boot(&HostConfig::new(64 << 20));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for seed in 0..3usize {
            let (mm, stop) = (&mm, &stop);
            scope.spawn(move || {
                let mut n = seed;
                while !stop.load(Ordering::Relaxed) {
                    n = n.wrapping_mul(2862933555777941757).wrapping_add(3037000493);
                    let p = mm.kmalloc(1 + (n >> 33) % 20_000, GFP_KERNEL).unwrap();
                    // SAFETY: freed once.
                    unsafe { mm.kfree(p.as_ptr()) };
                }
            });
        }
        for _ in 0..20 {
            let status = child::in_child(|| {
                for i in 1..1000 {
                    let Ok(p) = mm.kmalloc(i * 17, GFP_KERNEL) else {
                        return 1;
                    };
                    // SAFETY: freed once.
                    unsafe { mm.kfree(p.as_ptr()) };
                }
                // Objects of the threads that are gone stay in use; all else must be whole.
                mm.verify().is_err().into()
            });
            assert_eq!(status, 0);
        }
        stop.store(true, Ordering::Relaxed);
    });
    mm.verify().unwrap();
}

#[test]
fn machines_do_not_know_each_other() {
    let (a, b) = (
        boot(&HostConfig::new(16 << 20)),
        boot(&HostConfig::new(16 << 20)),
    );
    let p = a.kmalloc(64, GFP_KERNEL).unwrap();
    let free = b.pages().free_page_count();
    while a.kmalloc(4096, GFP_KERNEL | Gfp::NORETRY).is_ok() {}
    assert_eq!(b.pages().free_page_count(), free);
    assert!(b.kmalloc(4096, GFP_KERNEL).is_ok());
    // SAFETY: a wild free is refused; then the owner frees it.
    unsafe {
        b.kfree(p.as_ptr());
        assert_eq!(b.pages().misuses(), 1);
        a.kfree(p.as_ptr());
        assert_eq!(a.pages().misuses(), 0);
    }
}

#[test]
fn nodes_and_zones_are_as_configured() {
    // P200, P203
    let config = HostConfig::new(16 << 20)
        .node(NodeId(1), 16 << 20)
        .phys_base(PhysAddr(0));
    let mm = boot(&config);
    assert_eq!(mm.pages().nodes().count(), 2);
    let dma = mm.alloc_pages(GFP_KERNEL | Gfp::DMA, 0).unwrap();
    assert!(dma.phys() < PhysAddr(16 << 20));
    let far = mm.alloc_pages_node(NodeId(1), GFP_KERNEL, 0).unwrap();
    assert_eq!(mm.pages().node_of(far), NodeId(1));
    // V32: both legs of kvmalloc keep to the node.
    for size in [100, 5 << 20] {
        let p = mm
            .kvmalloc_node(size, GFP_KERNEL, NodeId(1))
            .unwrap()
            .as_ptr();
        let pfn = match mm.is_vmalloc_addr(p.addr()) {
            true => mm.vmalloc_to_pfn(p.addr() + size - 1),
            false => mm.virt_to_pfn(p.addr()),
        };
        assert_eq!(mm.pages().node_of(pfn.unwrap()), NodeId(1));
        // SAFETY: freed once.
        unsafe { mm.kvfree(p) };
    }
}

/// What is resident of this process, in pages.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn memory_goes_back_to_the_operating_system() {
    let status = child::in_child(|| {
        let mm = boot(&HostConfig::new(256 << 20).backing(Backing::Private));
        let before = resident();
        let mut blocks = Vec::new();
        while blocks.len() < 48 {
            let p = mm.get_free_pages(GFP_KERNEL, 10).unwrap().as_ptr();
            // SAFETY: the block is ours.
            unsafe { p.write_bytes(1, 4 << 20) };
            blocks.push(p);
        }
        let full = resident() - before;
        // SAFETY: each is freed once.
        blocks.iter().for_each(|p| unsafe { mm.free_pages(*p, 10) });
        let kept = resident() - before;
        mm.trim();
        let trimmed = resident().saturating_sub(before);
        // 192 MiB were in use; 16 blocks of 2 MiB stay by themselves, nothing after a trim.
        let right = full > 48_000 && kept < 16 * 512 + 1500 && trimmed < 1500;
        (!right).into()
    });
    assert_eq!(status, 0);
}
