//! Devices read and write memory that gfp gave them.

use crate::memory::mm;
use crate::virtio::{self, DEVICE, Disk, OpenError, Rng, SECTOR_BYTES};
use alloc::vec;
use alloc::vec::Vec;
use core::ptr::{NonNull, null_mut};
use gfp::flags::GFP_KERNEL;
use gfp::frame::{FrameKind, Order, Pfn};
use gfp::pool::dma::{DmaDevice, DmaMask};
use virtio_drivers::Error;
use virtio_drivers::transport::DeviceType;

super::tests! { "virtio":
    random_bytes_arrive_in_coherent_memory,
    a_disk_keeps_what_was_written_and_nothing_else_changes,
    a_disk_reads_into_memory_below_16_mib,
    a_request_beyond_the_disk_is_refused,
    a_device_has_one_owner_at_a_time,
    registers_above_4_gib_are_brought_into_reach,
    a_device_without_memory_is_refused_and_leaves_nothing,
}

const WANT_RNG: &str = "no free rng: start QEMU with -device virtio-rng-pci";
const WANT_DISK: &str = "no free disk: start QEMU with -device virtio-blk-pci";

/// Frames that begin a block of coherent memory.
fn coherent_blocks() -> usize {
    let frames = mm().pages().frames();
    let all = (0..frames.len()).map(|i| Pfn(frames.base().0 + i));
    all.filter(|pfn| frames.get(*pfn).is(FrameKind::DmaCoherent))
        .count()
}

/// What stands in byte `at` of the disk in round `round`.
fn pattern(at: usize, round: usize) -> u8 {
    let x = (at + round * 0x1_0001).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (x >> 56) as u8
}

fn patterns(first_sector: usize, sectors: usize, round: usize) -> Vec<u8> {
    let first = first_sector * SECTOR_BYTES;
    (first..first + sectors * SECTOR_BYTES)
        .map(|at| pattern(at, round))
        .collect()
}

fn random_bytes_arrive_in_coherent_memory() {
    // M10
    let _quiet = super::disturb::quiet(); // or handlers give a page back meanwhile
    let before = coherent_blocks();
    let mut rng = virtio::rng().expect(WANT_RNG);
    assert!(coherent_blocks() > before, "rings and buffer are coherent");
    let mut bytes = [vec![0u8; 10_000], vec![0u8; 10_000]];
    for part in &mut bytes {
        rng.fill(part).expect("the host has random bytes");
        let mut seen = [0usize; 256];
        part.iter().for_each(|byte| seen[usize::from(*byte)] += 1);
        // 10,000 throws of 256 sides: 39 each; 100 would be 10 standard deviations off.
        assert!(seen.iter().all(|n| (1..100).contains(n)), "not random");
    }
    assert!(bytes[0] != bytes[1]);
    drop(rng);
    assert_eq!(coherent_blocks(), before, "all of it is freed");
}

fn a_disk_keeps_what_was_written_and_nothing_else_changes() {
    let misuses = mm().pages().misuses();
    // M10
    let _quiet = super::disturb::quiet(); // or handlers give a page back meanwhile
    let before = coherent_blocks();
    let mut disk = virtio::disk().expect(WANT_DISK);
    assert!(disk.sectors() >= 512, "{} sectors", disk.sectors());
    assert!(coherent_blocks() > before, "rings and buffer are coherent");
    // 0..300 in one call, which takes several requests, then 100..157 over it.
    disk.write(0, &patterns(0, 300, 1)).expect("written");
    disk.write(100, &patterns(100, 57, 2)).expect("written");
    let last = disk.sectors() as usize - 1;
    disk.write(last as u64, &patterns(last, 1, 3))
        .expect("written");
    drop(disk);
    assert_eq!(coherent_blocks(), before, "all of it is freed");
    let mut disk = virtio::disk().expect("it can be opened again");
    let mut expected = patterns(0, 300, 1);
    expected[100 * SECTOR_BYTES..157 * SECTOR_BYTES].copy_from_slice(&patterns(100, 57, 2));
    let mut found = vec![0; 300 * SECTOR_BYTES];
    disk.read(0, &mut found).expect("read");
    assert!(found == expected);
    for sector in [99, 100, 156, 157] {
        let mut one = [0; SECTOR_BYTES];
        disk.read(sector as u64, &mut one).expect("read");
        assert!(one == expected[sector * SECTOR_BYTES..][..SECTOR_BYTES]);
    }
    let mut end = [0; SECTOR_BYTES];
    disk.read(last as u64, &mut end).expect("read");
    assert!(end[..] == patterns(last, 1, 3));
    drop(disk);
    assert_eq!(coherent_blocks(), before, "all of it is freed");
    assert_eq!(mm().pages().misuses(), misuses);
}

fn a_disk_reads_into_memory_below_16_mib() {
    // G10, M10
    let isa = DmaDevice::new(DmaMask::bits(24));
    let mut disk = Disk::open(&isa).expect(WANT_DISK);
    assert!(disk.buffer_dma().0 < 16 << 20);
    let data = patterns(400, 80, 4);
    disk.write(400, &data).expect("written");
    drop(disk);
    let mut disk = Disk::open(&isa).expect("it can be opened again");
    let mut found = vec![0; data.len()];
    disk.read(400, &mut found).expect("read");
    assert!(found == data);
}

fn a_request_beyond_the_disk_is_refused() {
    let mut disk = Disk::open(&DEVICE).expect(WANT_DISK);
    let mut two = [0; 2 * SECTOR_BYTES];
    let end = disk.sectors();
    for first in [end - 1, end, u64::MAX] {
        assert_eq!(disk.read(first, &mut two), Err(Error::InvalidParam));
        assert_eq!(disk.write(first, &two), Err(Error::InvalidParam));
    }
    assert_eq!(disk.read(0, &mut two[..100]), Err(Error::InvalidParam));
    disk.read(end - 2, &mut two)
        .expect("the last two are there");
}

fn a_device_has_one_owner_at_a_time() {
    let rng = Rng::open().expect(WANT_RNG);
    assert!(matches!(Rng::open(), Err(OpenError::Busy)));
    let disk = Disk::open(&DEVICE).expect(WANT_DISK);
    assert!(matches!(Disk::open(&DEVICE), Err(OpenError::Busy)));
    drop((rng, disk));
    drop(Rng::open().expect("free again"));
    drop(Disk::open(&DEVICE).expect("free again"));
}

fn registers_above_4_gib_are_brought_into_reach() {
    let data = patterns(500, 2, 5);
    for round in 0..2 {
        virtio::pci::move_registers_up(DeviceType::Block);
        virtio::pci::move_registers_up(DeviceType::EntropySource);
        let mut disk = Disk::open(&DEVICE).expect(WANT_DISK);
        let mut rng = Rng::open().expect(WANT_RNG);
        let mut found = vec![0; data.len()];
        match round {
            0 => disk.write(500, &data).expect("written"),
            _ => {
                disk.read(500, &mut found).expect("read");
                assert!(found == data);
            }
        }
        rng.fill(&mut found).expect("the host has random bytes");
        assert!(found.iter().any(|byte| *byte != 0));
    }
}

/// A block that is held, as it stands in its first bytes.
struct Held {
    before: *mut Held,
    order: u8,
}

/// Takes all memory that `GFP_KERNEL` gives, the largest blocks first.
fn take_all_memory() -> *mut Held {
    let mut last: *mut Held = null_mut();
    for order in (0..=Order::MAX.get()).rev() {
        while let Ok(block) = mm().get_free_pages(GFP_KERNEL, order) {
            let block: NonNull<Held> = block.cast();
            // SAFETY: the block is ours, and a page is large and aligned enough.
            unsafe {
                block.write(Held {
                    before: last,
                    order,
                });
            }
            last = block.as_ptr();
        }
    }
    last
}

fn give_back(mut last: *mut Held) {
    while !last.is_null() {
        // SAFETY: `take_all_memory` wrote it; each block is freed once.
        unsafe {
            let Held { before, order } = last.read();
            mm().free_pages(last.cast(), order);
            last = before;
        }
    }
}

fn a_device_without_memory_is_refused_and_leaves_nothing() {
    // M10
    let _quiet = super::disturb::quiet(); // or handlers give a page back meanwhile
    let before = coherent_blocks();
    let held = take_all_memory();
    let results = (Rng::open().err(), Disk::open(&DEVICE).err());
    give_back(held);
    let refused = |error: Option<OpenError>| {
        assert!(
            matches!(error, Some(OpenError::Driver(Error::DmaError))),
            "{error:?}"
        );
    };
    refused(results.0);
    refused(results.1);
    assert_eq!(coherent_blocks(), before, "all of it is freed");
    drop(Rng::open().expect("there is memory again"));
    drop(Disk::open(&DEVICE).expect("there is memory again"));
    mm().verify().expect("all invariants hold");
}
