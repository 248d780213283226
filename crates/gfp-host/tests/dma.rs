//! Memory for devices on hosted machines, whose RAM stands where the test wants it.
#![cfg(not(loom))]

use gfp::error::AllocError;
use gfp::flags::GFP_KERNEL;
use gfp::frame::{PAGE_SIZE, PhysAddr};
use gfp::page::BootConfig;
use gfp::pool::dma::{DmaAddr, DmaDevice, DmaMask};
use gfp::{Mm, flags::Gfp};
use gfp_host::{HostConfig, HostPlatform};
use std::thread;

const MIB: u64 = 1 << 20;

/// `bytes` of RAM from `base` on.
fn machine(base: u64, bytes: u64) -> Mm<HostPlatform> {
    let config = HostConfig::new(bytes as usize).phys_base(PhysAddr(base));
    let platform = HostPlatform::new(&config).unwrap();
    let map = platform.memory_map();
    let config = BootConfig {
        memory_is_zero: true,
        ..BootConfig::default()
    };
    Mm::boot(platform, &map, &config).unwrap()
}

fn device(bits: u32) -> DmaDevice {
    DmaDevice::new(DmaMask::bits(bits))
}

#[test]
fn a_device_gets_what_it_reaches_wherever_ram_stands() {
    // M10, P47
    let four_gib = 4u64 << 30;
    let low = machine(8 * MIB, 32 * MIB); // DMA and DMA32
    let across = machine(four_gib - 32 * MIB, 64 * MIB); // DMA32 and NORMAL
    let high = machine(four_gib, 32 * MIB); // NORMAL
    let get = |mm: &Mm<HostPlatform>, bits| {
        let card = device(bits);
        let (p, dma) = mm.dma_alloc_coherent(&card, 3 * PAGE_SIZE, GFP_KERNEL)?;
        // SAFETY: ours, and freed once.
        unsafe { mm.dma_free_coherent(&card, 3 * PAGE_SIZE, p.as_ptr(), dma) };
        Ok(dma.0)
    };
    let out = Err(AllocError::OutOfReach);
    assert!(get(&low, 24).unwrap() < 16 * MIB);
    assert!(get(&low, 32).unwrap() >= 16 * MIB, "spares ZONE_DMA");
    assert_eq!(get(&across, 24), out);
    assert!(get(&across, 32).unwrap() < four_gib);
    assert!(get(&across, 33).unwrap() >= four_gib);
    assert_eq!(get(&high, 32), out);
    assert!(get(&high, 64).unwrap() >= four_gib);
    for mm in [low, across, high] {
        assert_eq!(mm.pages().misuses(), 0);
        mm.verify().unwrap();
    }
}

#[test]
fn threads_take_and_free_for_devices_of_all_widths() {
    // M10
    let mm = machine(4 * MIB, 60 * MIB);
    thread::scope(|scope| {
        for worker in 0..4u8 {
            let mm = &mm;
            scope.spawn(move || {
                for round in 0..2000usize {
                    let card = device([24, 25, 26, 64][(round + worker as usize) % 4]);
                    let size = 1 + round * 7919 % (5 * PAGE_SIZE);
                    let (p, dma) = mm.dma_alloc_coherent(&card, size, GFP_KERNEL).unwrap();
                    // SAFETY: the block is this thread's until it is freed, once.
                    unsafe {
                        let bytes = core::slice::from_raw_parts_mut(p.as_ptr(), size);
                        assert!(bytes.iter().all(|b| *b == 0));
                        bytes.fill(worker + 1);
                        assert!(bytes.iter().all(|b| *b == worker + 1));
                        mm.dma_free_coherent(&card, size, p.as_ptr(), dma);
                    }
                }
            });
        }
    });
    assert_eq!(mm.pages().misuses(), 0);
    mm.verify().unwrap();
}

/// The functions with Linux's names over one machine that lives as long as the process.
mod kernel {
    use super::{HostPlatform, MIB, Mm, machine};
    use std::sync::OnceLock;

    static MM: OnceLock<Mm<HostPlatform>> = OnceLock::new();

    fn mm() -> &'static Mm<HostPlatform> {
        MM.get_or_init(|| machine(8 * MIB, 24 * MIB))
    }

    gfp::global!(mm(), paging: none);
}

#[test]
fn the_functions_with_linux_names_give_both_addresses() {
    // M10
    let card = device(24);
    let mut dma = DmaAddr(7);
    let p = kernel::dma_alloc_coherent(&card, 100, &mut dma, GFP_KERNEL | Gfp::COMP);
    assert!(p.is_null() && dma == DmaAddr(7));
    let p = kernel::dma_alloc_coherent(&card, 100, &mut dma, GFP_KERNEL);
    assert!(!p.is_null() && (8 * MIB..16 * MIB).contains(&dma.0));
    // SAFETY: freed once, as it was allocated.
    unsafe { kernel::dma_free_coherent(&card, 100, p, dma) };
}
