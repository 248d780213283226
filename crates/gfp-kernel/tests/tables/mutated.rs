//! Damaged tables: no input panics, and whatever is read, memory that firmware or the loader
//! forbids is never usable.

use super::acpi::{memory, slit, srat};
use super::image::{self, Image, seal, span, start_info};
use super::tables::pvh::{E820Kind, StartInfo};
use super::tables::{PhysRead, Span, survey};
use gfp::frame::PhysAddr;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};

/// The same cases in every run; `PROPTEST_RNG_SEED=N` and `PROPTEST_CASES=N` ask for others, more.
pub(crate) fn config() -> Config {
    let default = Config::default();
    let seed = match default.rng_seed {
        RngSeed::Random => RngSeed::Fixed(3),
        given => given,
    };
    Config {
        rng_seed: seed,
        failure_persistence: None,
        // They are quick.
        cases: default.cases.max(4096),
        ..default
    }
}

/// Surveys a machine and checks what must hold for every machine.
fn check(image: &Image, at: PhysAddr) {
    let kernel = span(0x10_0000, 0x45_6789);
    let Ok(survey) = survey(image, at, kernel, PhysAddr(1 << 40)) else {
        return;
    };
    let info = StartInfo::read(image, at).unwrap();
    let map = info.memory_map(image).unwrap();
    let mut forbidden = vec![kernel, span(0, 1 << 20)];
    info.spans(image, |span| forbidden.push(span)).unwrap();
    let not_ram = map.iter().filter(|e| e.kind != E820Kind::Ram);
    forbidden.extend(not_ram.filter_map(|e| Span::clamped(e.start, e.len)));
    let usable = survey.regions.usable.iter();
    let usable: Vec<_> = usable.map(|r| span(r.start.0, r.end.0)).collect();
    let hot: Vec<_> = survey.regions.hot.iter().map(|h| h.span).collect();
    for (i, region) in usable.iter().chain(&hot).enumerate() {
        assert_eq!(region.inward(), *region, "whole pages");
        assert!(region.start < region.end && region.end.0 <= 1 << 40);
        let clash = forbidden.iter().find(|f| f.overlaps(*region));
        assert_eq!(clash, None, "{region:?} is not free");
        let others = usable.iter().chain(&hot).skip(i + 1);
        assert!(
            others.clone().all(|o| !o.overlaps(*region)),
            "{region:?} is there twice"
        );
    }
    assert!(usable.is_sorted_by_key(|r| r.start));
    for region in &usable {
        let listed = |e: &&_| {
            matches!(
                e,
                super::tables::pvh::E820 {
                    kind: E820Kind::Ram,
                    ..
                }
            )
        };
        let mut ram = map
            .iter()
            .filter(listed)
            .filter_map(|e| Span::new(e.start, e.len));
        assert!(ram.any(|r| r.overlaps(*region)), "{region:?} is not RAM");
    }
    let nodes = survey.nodes.count() as u8;
    assert!(survey.regions.usable.iter().all(|r| r.node.0 < nodes));
    assert!(survey.processors.iter().all(|p| p.node.0 < nodes));
}

#[derive(Clone, Debug)]
enum Damage {
    Byte(usize, usize, u8),
    Cut(usize, usize),
    Drop(usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    let byte = prop_oneof![Just(0), Just(1), Just(0x7f), Just(0xff), any::<u8>()];
    prop_oneof![
        20 => (0..64usize, 0..512usize, byte).prop_map(|(p, at, b)| Damage::Byte(p, at, b)),
        1 => (0..64usize, 0..512usize).prop_map(|(p, at)| Damage::Cut(p, at)),
        1 => (0..64usize).prop_map(Damage::Drop),
    ]
}

/// Damages pieces; then their checksums are made good again, or else nothing behind them is read.
fn mutate(image: &mut Image, damages: &[Damage]) {
    for damage in damages {
        let count = image.pieces.len();
        let piece = |p: usize| p % count.max(1);
        match *damage {
            Damage::Byte(p, at, byte) => {
                let Some((_, bytes)) = image.pieces.get_mut(piece(p)) else {
                    return;
                };
                let len = bytes.len().max(1);
                bytes.get_mut(at % len).into_iter().for_each(|b| *b = byte);
            }
            Damage::Cut(p, at) => {
                let Some((_, bytes)) = image.pieces.get_mut(piece(p)) else {
                    return;
                };
                bytes.truncate(at);
            }
            Damage::Drop(p) if count > 0 => drop(image.pieces.remove(piece(p))),
            Damage::Drop(_) => {}
        }
    }
    for (_, bytes) in &mut image.pieces {
        let len = bytes.len();
        if bytes.starts_with(b"RSD PTR ") && len >= 20 {
            seal(&mut bytes[..20], 8);
        } else if len >= 36 && bytes[..4].iter().all(u8::is_ascii_uppercase) {
            let claimed = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]) as usize;
            seal(&mut bytes[..claimed.clamp(36, len)], 9);
        }
    }
}

/// An address or length as damaged tables have them.
fn number() -> impl Strategy<Value = u64> {
    (any::<u64>(), 0..64u32, 0..3u32)
        .prop_map(|(n, shift, low)| (n >> shift) & (u64::MAX << (6 * low)))
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn damaged_tables_of_qemu_never_give_away_what_is_forbidden(
        damages in prop::collection::vec(damage(), 0..12)
    ) {
        let mut image = super::qemu::q35();
        mutate(&mut image, &damages);
        check(&image, super::qemu::START_INFO);
    }

    #[test]
    fn maps_of_any_numbers_never_give_away_what_is_forbidden(
        map in prop::collection::vec((number(), number(), 0..4u32), 0..20),
        affinity in prop::collection::vec((0..12u32, number(), number(), 0..4u32), 0..12),
        distances in prop::collection::vec(9..12u8, 9),
    ) {
        let entries: Vec<_> = affinity.iter().map(|&(d, s, l, f)| memory(d, s, l, f)).collect();
        let mut image = Image::acpi(&[srat(2, &entries), slit(3, &distances)]);
        image.pieces.push((image::START_INFO.0, start_info(&map)));
        check(&image, image::START_INFO);
    }

    #[test]
    fn noise_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        let mut noise = super::qemu::q35();
        for (_, piece) in &mut noise.pieces {
            let len = piece.len().min(bytes.len());
            piece[..len].copy_from_slice(&bytes[..len]);
        }
        prop_assert!(noise.bytes(super::qemu::START_INFO, 56).is_some());
        check(&noise, super::qemu::START_INFO);
    }
}
