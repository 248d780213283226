//! Rules of ACPI that QEMU's tables do not show.

use super::image::{FIRST_TABLE, Image, ROOT, RSDP, rsdp_v2, seal, span, table};
use super::tables::acpi::{AcpiError, Cpu, CpuState, MemoryAffinity, Plug, Signature};
use super::tables::nodes::Nodes;
use gfp::frame::{NodeId, PhysAddr};

/// A MADT with those entries.
fn madt(entries: &[u8]) -> Vec<u8> {
    let mut body = 0xfee0_0000u64.to_le_bytes().to_vec();
    body.extend(entries);
    table(b"APIC", 4, &body)
}

fn cpus(entries: &[u8]) -> Vec<(u32, CpuState)> {
    let image = Image::acpi(&[madt(entries)]);
    let cpus = image.tables().madt().unwrap().cpus();
    cpus.map(|Cpu { apic_id, state }| (apic_id, state))
        .collect()
}

fn x2apic(id: u32, flags: u8) -> Vec<u8> {
    let id = id.to_le_bytes();
    [&[9, 16, 0, 0], &id[..], &[flags, 0, 0, 0], &[0; 4]].concat()
}

/// A memory entry of SRAT.
pub(crate) fn memory(domain: u32, start: u64, len: u64, flags: u32) -> Vec<u8> {
    let mut entry = vec![1, 40];
    entry.extend(domain.to_le_bytes());
    entry.extend([0; 2]);
    entry.extend(start.to_le_bytes());
    entry.extend(len.to_le_bytes());
    entry.extend([0; 4]);
    entry.extend(flags.to_le_bytes());
    entry.extend([0; 8]);
    entry
}

pub(crate) fn srat(revision: u8, entries: &[Vec<u8>]) -> Vec<u8> {
    let body = [&[0; 12][..], &entries.concat()].concat();
    table(b"SRAT", revision, &body)
}

pub(crate) fn slit(domains: u64, matrix: &[u8]) -> Vec<u8> {
    table(b"SLIT", 1, &[&domains.to_le_bytes()[..], matrix].concat())
}

#[test]
fn a_cpu_is_enabled_or_may_come_or_is_not_there() {
    let (up, later) = (CpuState::Enabled, CpuState::OnlineCapable);
    let local = |id, flags| [0, 8, 0, id, flags, 0, 0, 0];
    let entries = [
        local(5, 1),
        local(6, 2),
        local(7, 0),
        local(8, 3),
        local(0xff, 1),
    ];
    assert_eq!(cpus(&entries.concat()), [(5, up), (6, later), (8, up)]);
    let entries = [
        x2apic(0x1234, 1),
        x2apic(300, 2),
        x2apic(301, 0),
        x2apic(u32::MAX, 1),
    ];
    assert_eq!(cpus(&entries.concat()), [(0x1234, up), (300, later)]);
}

#[test]
fn an_entry_that_lies_about_its_length_ends_the_table() {
    let good = [0, 8, 0, 5, 1, 0, 0, 0];
    for bad in [&[0, 0][..], &[0, 1], &[0, 9, 0, 6, 1, 0, 0, 0], &[0]] {
        let entries = [&good[..], bad].concat();
        assert_eq!(cpus(&entries), [(5, CpuState::Enabled)], "{bad:?}");
    }
    // Entries that are too short for what they are, or unknown, are passed over.
    let short = [&[0, 4, 0, 6][..], &[9, 2], &[0x7f, 3, 0], &good].concat();
    assert_eq!(cpus(&short), [(5, CpuState::Enabled)]);
}

#[test]
fn the_override_says_where_the_local_apic_is() {
    let address = |entries: &[u8]| {
        let image = Image::acpi(&[madt(entries)]);
        image.tables().madt().unwrap().local_apic().0
    };
    assert_eq!(address(&[]), 0xfee0_0000);
    let moved = [5, 12, 0, 0, 0, 0, 0, 0, 0x12, 0, 0, 0];
    assert_eq!(address(&moved), 0x12_0000_0000);
    assert_eq!(address(&moved[..8]), 0xfee0_0000);
}

/// Version 2: the RSDT lists a SLIT, the XSDT a SRAT.
fn two_roots() -> Image {
    let mut image = Image::acpi(&[slit(1, &[10]), srat(2, &[])]);
    let xsdt = u64::from(FIRST_TABLE + 0x1_0000).to_le_bytes();
    *image.piece(b"RSDT") = table(b"RSDT", 1, &FIRST_TABLE.to_le_bytes());
    image.pieces.push((0x8_0000_0000, table(b"XSDT", 1, &xsdt)));
    *image.piece(b"RSD PTR ") = rsdp_v2(ROOT, 0x8_0000_0000);
    image
}

#[test]
fn the_wide_root_is_taken_if_it_is_good() {
    let found = |image: &Image| (image.tables().slit().is_ok(), image.tables().srat().is_ok());
    assert_eq!(found(&two_roots()), (false, true));
    let damages: [&dyn Fn(&mut Image); 4] = [
        &|i| i.piece(b"XSDT")[40] += 1,
        &|i| i.piece(b"RSD PTR ")[33] += 1,
        &|i| *i.piece(b"RSD PTR ") = rsdp_v2(ROOT, 0),
        // A good table, but not a root.
        &|i| *i.piece(b"RSD PTR ") = rsdp_v2(ROOT, FIRST_TABLE.into()),
    ];
    for (n, damage) in damages.iter().enumerate() {
        let mut image = two_roots();
        damage(&mut image);
        assert_eq!(found(&image), (true, false), "damage {n}");
    }
}

#[test]
fn everything_that_acpi_lies_in_is_named() {
    let image = two_roots();
    let spans: Vec<_> = image.tables().spans().collect();
    let srat_at = u64::from(FIRST_TABLE) + 0x1_0000;
    let expected = [
        span(RSDP.0, RSDP.0 + 36),
        span(0x8_0000_0000, 0x8_0000_0000 + 44),
        span(srat_at, srat_at + 48),
    ];
    assert_eq!(spans, expected);
}

#[test]
fn lengths_of_tables_must_fit() {
    let wrong = |len: u32| {
        let mut bytes = srat(2, &[]);
        bytes[4..8].copy_from_slice(&len.to_le_bytes());
        seal(&mut bytes, 9);
        let image = Image::acpi(&[bytes]);
        image.tables().srat().unwrap_err()
    };
    let bad = AcpiError::BadLength(Signature(*b"SRAT"));
    assert_eq!(wrong(0), bad);
    assert_eq!(wrong(35), bad);
    assert_eq!(wrong(u32::MAX), bad);
    let at = PhysAddr(FIRST_TABLE.into());
    assert_eq!(wrong(49), AcpiError::Unreadable { at });
    // A table of nothing but its head has no room for what a SRAT has.
    let image = Image::acpi(&[table(b"SRAT", 2, &[])]);
    assert_eq!(image.tables().srat().unwrap_err(), bad);
}

#[test]
fn memory_of_srat_has_a_domain_and_may_come_and_go() {
    let entries = [
        memory(0x1_0203, 0, 0x8_0000, 1),
        memory(1, 0x1000, 0x1000, 0),  // not enabled
        memory(1, 0x1000, 0x1000, 2),  // hot-pluggable, not enabled
        memory(1, 0x1000, 0, 1),       // empty
        memory(1, u64::MAX - 1, 2, 1), // wraps
        memory(2, 1 << 32, 1 << 33, 3),
    ];
    let read = |revision| {
        let image = Image::acpi(&[srat(revision, &entries)]);
        image.tables().srat().unwrap().memory().collect::<Vec<_>>()
    };
    let range = |span, domain, plug| MemoryAffinity { span, domain, plug };
    let hot = range(span(1 << 32, 3 << 32), 2, Plug::Hot);
    let low = span(0, 0x8_0000);
    assert_eq!(read(2), [range(low, 0x1_0203, Plug::Fixed), hot]);
    // Revision 1 knows 8 bits.
    assert_eq!(read(1), [range(low, 3, Plug::Fixed), hot]);
}

#[test]
fn cpus_of_srat_have_domains_of_both_kinds() {
    let local = vec![
        0, 16, 0x11, 7, 1, 0, 0, 0, 0xee, 0x22, 0x33, 0x44, 0, 0, 0, 0,
    ];
    let mut off = local.clone();
    off[4] = 0;
    let mut wide = vec![2, 24, 0, 0];
    for number in [0x55u32, 0x1000, 1, 0, 0] {
        wide.extend(number.to_le_bytes());
    }
    let read = |revision| {
        let image = Image::acpi(&[srat(revision, &[local.clone(), off.clone(), wide.clone()])]);
        let cpus = image.tables().srat().unwrap().cpus();
        cpus.map(|c| (c.apic_id, c.domain)).collect::<Vec<_>>()
    };
    assert_eq!(read(3), [(7, 0x4433_2211), (0x1000, 0x55)]);
    assert_eq!(read(1), [(7, 0x11), (0x1000, 0x55)]);
}

#[test]
fn distances_that_contradict_themselves_are_refused() {
    let read = |bytes| {
        let image = Image::acpi(&[bytes]);
        image.tables().slit().map(|s| s.distance(1, 0)).ok()
    };
    assert_eq!(read(slit(2, &[10, 21, 31, 10])), Some(Some(31)));
    assert_eq!(read(slit(1, &[10])), Some(None));
    assert_eq!(read(slit(2, &[11, 21, 31, 10])), None, "far from itself");
    assert_eq!(read(slit(2, &[10, 10, 31, 10])), None, "two that are one");
    assert_eq!(read(slit(2, &[10, 21, 9, 10])), None, "nearer than itself");
    assert_eq!(read(slit(2, &[10, 21, 31])), None, "cut off");
    assert_eq!(read(slit(1 << 32, &[10])), None, "the square wraps");
    assert_eq!(read(slit(0, &[])), Some(None));
}

#[test]
fn sparse_domains_become_nodes_in_order() {
    let at = |n: u64| n << 30;
    let entries: Vec<_> = [70, 3, 70, 9]
        .into_iter()
        .enumerate()
        .map(|(i, domain)| memory(domain, at(i as u64), at(1), 1))
        .collect();
    let image = Image::acpi(&[srat(2, &entries)]);
    let nodes = Nodes::new(Some(&image.tables().srat().unwrap()), None);
    assert_eq!((nodes.count(), nodes.folded()), (3, 0));
    assert_eq!([3, 9, 70, 4].map(|d| nodes.of_domain(d).0), [0, 1, 2, 0]);
    assert_eq!(
        [0, 2, 3].map(|n| nodes.domain(NodeId(n))),
        [Some(3), Some(70), None]
    );
    // Without SLIT: near or not.
    assert_eq!(nodes.distance(NodeId(1), NodeId(1)), 10);
    assert_eq!(nodes.distance(NodeId(1), NodeId(2)), 20);
    assert_eq!(nodes.distance(NodeId(1), NodeId(9)), 255);
}

#[test]
fn domains_beyond_the_eighth_count_as_node_0() {
    let entries: Vec<_> = (0..10)
        .map(|d| memory(d, u64::from(d) << 30, 1 << 30, 1))
        .collect();
    let image = Image::acpi(&[srat(2, &entries)]);
    let nodes = Nodes::new(Some(&image.tables().srat().unwrap()), None);
    assert_eq!((nodes.count(), nodes.folded()), (8, 2));
    assert_eq!([7, 8, 9].map(|d| nodes.of_domain(d).0), [7, 0, 0]);
}
