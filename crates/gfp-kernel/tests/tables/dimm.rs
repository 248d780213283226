//! The hot-plug controller, played by a model of its documented registers.

use super::image::span;
use super::tables::dimm::{Dimm, Dimms, Event, MAX_DIMMS, MAX_SLOTS, Ports};
use proptest::prelude::*;

#[derive(Copy, Clone, Default, Debug)]
struct Slot {
    start: u64,
    len: u64,
    domain: u32,
    status: u8,
}

/// The controller; `beyond` is what ports of slots that do not exist read as.
#[derive(Default)]
struct Model {
    slots: Vec<Slot>,
    beyond: u32,
    selected: usize,
    ejected: Vec<usize>,
}

impl Ports for Model {
    fn read8(&mut self, port: u16) -> u8 {
        assert_eq!(port, 0xa14);
        let slot = self.slots.get(self.selected);
        slot.map_or(self.beyond as u8, |s| s.status)
    }

    fn read32(&mut self, port: u16) -> u32 {
        let Some(slot) = self.slots.get(self.selected) else {
            return self.beyond;
        };
        match port {
            0xa00 => slot.start as u32,
            0xa04 => (slot.start >> 32) as u32,
            0xa08 => slot.len as u32,
            0xa0c => (slot.len >> 32) as u32,
            0xa10 => slot.domain,
            _ => panic!("no register to read at {port:#x}"),
        }
    }

    fn write8(&mut self, port: u16, value: u8) {
        assert_eq!(port, 0xa14);
        assert_eq!(value & !0xe, 0, "reserved bits are written as 0");
        let slot = &mut self.slots[self.selected];
        slot.status &= !(value & 6);
        if value & 8 != 0 {
            *slot = Slot::default();
            self.ejected.push(self.selected);
        }
    }

    fn write32(&mut self, port: u16, value: u32) {
        assert_eq!(port, 0xa00);
        self.selected = value as usize;
    }
}

fn slot(start: u64, len: u64, domain: u32, status: u8) -> Slot {
    Slot {
        start,
        len,
        domain,
        status,
    }
}

fn controller(slots: &[Slot]) -> Dimms<Model> {
    Dimms(Model {
        slots: slots.to_vec(),
        ..Model::default()
    })
}

#[test]
fn modules_in_their_slots_are_found() {
    let slots = [
        slot(0x1_0000_0000, 0x800_0000, 1, 1),
        Slot::default(),
        slot(0x1_1000_0000, 0x1_0000_0000, 0, 3),
        slot(0x3_0000_0000, 0x1000, 0, 5),
        slot(0x4_0000_0000, 0x1000, 0, 2), // inserted, not enabled
    ];
    let scan = controller(&slots).scan(MAX_SLOTS);
    let dimm = |slot, span, domain, event| Dimm {
        slot,
        span,
        domain,
        event,
    };
    let expected = [
        dimm(0, span(0x1_0000_0000, 0x1_0800_0000), 1, Event::None),
        dimm(2, span(0x1_1000_0000, 0x2_1000_0000), 0, Event::Inserted),
        dimm(3, span(0x3_0000_0000, 0x3_0000_1000), 0, Event::Removing),
    ];
    assert_eq!((&*scan.dimms, scan.refused), (&expected[..], 0));
    assert_eq!(controller(&slots).scan(1).dimms.len(), 1);
}

#[test]
fn ports_without_a_controller_hold_no_module() {
    for beyond in [0, u32::MAX] {
        let mut dimms = controller(&[]);
        dimms.0.beyond = beyond;
        let scan = dimms.scan(u32::MAX);
        assert_eq!((scan.dimms.len(), scan.refused), (0, 0));
        // Nothing is written to what is not there: the model would panic.
        dimms.eject(0);
    }
}

#[test]
fn modules_that_cannot_be_are_refused() {
    let slots = [
        slot(0x1_0000_0000, 0x10_0000, 0, 1),
        slot(0x1_000f_f000, 0x1000, 0, 1), // inside the first
        slot(0x2_0000_0800, 0x1000, 0, 1), // not whole pages
        slot(0x2_0000_0000, 0x800, 0, 1),
        slot(0x2_0000_0000, 0, 0, 1),
        slot(u64::MAX - 0xfff, 0x2000, 0, 1), // wraps
    ];
    let scan = controller(&slots).scan(MAX_SLOTS);
    assert_eq!((scan.dimms.len(), scan.refused), (1, 5));
    let many: Vec<_> = (0..40).map(|i| slot(i << 32, 0x1000, 0, 1)).collect();
    let scan = controller(&many).scan(MAX_SLOTS);
    assert_eq!(
        (scan.dimms.len(), scan.refused),
        (MAX_DIMMS, 40 - MAX_DIMMS)
    );
}

#[test]
fn events_are_forgotten_and_modules_ejected_one_by_one() {
    let both = [slot(0, 0x1000, 0, 3), slot(0x1000, 0x1000, 0, 5)];
    let mut dimms = controller(&both);
    dimms.forget_insert(0);
    assert_eq!(dimms.scan(2).dimms[0].event, Event::None);
    assert_eq!(dimms.scan(2).dimms[1].event, Event::Removing);
    dimms.eject(1);
    assert_eq!(dimms.0.ejected, [1]);
    assert_eq!(dimms.scan(2).dimms.len(), 1);
    let mut dimms = controller(&both);
    dimms.forget_remove(1);
    assert_eq!(dimms.scan(2).dimms[1].event, Event::None);
    assert_eq!(dimms.scan(2).dimms[0].event, Event::Inserted);
}

proptest! {
    #![proptest_config(super::mutated::config())]

    #[test]
    fn whatever_the_registers_say_modules_are_whole_pages_apart(
        slots in prop::collection::vec(
            (any::<u64>(), any::<u64>(), 0u32..64, 0u32..64, any::<u8>()), 0..64)
    ) {
        let slots: Vec<_> = slots.into_iter()
            .map(|(start, len, a, b, status)| slot(start >> a << 12, len >> b << 12, 0, status))
            .collect();
        let scan = controller(&slots).scan(MAX_SLOTS);
        for (i, dimm) in scan.dimms.iter().enumerate() {
            let source = slots[dimm.slot as usize];
            prop_assert!(source.status & 1 == 1 && source.status != 0xff);
            prop_assert_eq!((dimm.span.start.0, dimm.span.bytes()), (source.start, source.len));
            prop_assert!(dimm.span.start < dimm.span.end);
            for other in &scan.dimms[..i] {
                prop_assert!(!other.span.overlaps(dimm.span));
            }
        }
        let there = slots.iter().filter(|s| s.status & 1 == 1 && s.status != 0xff).count();
        prop_assert_eq!(scan.dimms.len() + scan.refused, there);
    }
}
