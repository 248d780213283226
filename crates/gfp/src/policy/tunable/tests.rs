//! Names, texts and ranges.

use super::{Access, ELSEWHERE, Numbers, Tunable, TunableError};
use std::format;
use std::string::ToString;
use std::vec::Vec;

#[test]
fn every_name_is_found_with_vm_and_without_and_stands_once() {
    let names = || Tunable::ALL.into_iter().map(Tunable::name);
    for tunable in Tunable::ALL {
        assert_eq!(Tunable::find(tunable.name()), Ok(tunable));
        assert_eq!(
            Tunable::find(&format!("vm.{}", tunable.name())),
            Ok(tunable)
        );
    }
    let mut all: Vec<_> = names().chain(ELSEWHERE.iter().map(|(n, _)| *n)).collect();
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), count);
    assert!(names().is_sorted());
}

#[test]
fn a_name_that_nobody_knows_is_refused_with_the_nearest() {
    let error = Tunable::find("min_fre_kbytes").unwrap_err();
    assert_eq!(
        error.to_string(),
        "no such tunable; did you mean min_free_kbytes?"
    );
    for name in [
        "",
        "vm.",
        "banana",
        &"x".repeat(100),
        "kernel.min_free_kbytes.x",
    ] {
        let error = Tunable::find(name).unwrap_err();
        assert_eq!(error, TunableError::Unknown { nearest: None }, "{name}");
    }
}

#[test]
fn a_name_that_is_elsewhere_says_where() {
    for (name, why) in ELSEWHERE {
        let error = Tunable::find(name).unwrap_err();
        assert_eq!(error, TunableError::Elsewhere { name, why });
        let text = error.to_string();
        assert!(text.contains(name) && text.contains(why), "{text}");
    }
}

#[test]
fn texts_are_decimal_numbers_in_range_and_as_many_as_it_has() {
    // P701, P703, P708, P714, P723
    let scale = Tunable::WatermarkScaleFactor;
    for (text, error) in [
        ("", "watermark_scale_factor takes one number"),
        (" \n", "watermark_scale_factor takes one number"),
        ("1 2", "watermark_scale_factor takes one number"),
        ("ten", "watermark_scale_factor takes decimal numbers"),
        ("0x10", "watermark_scale_factor takes decimal numbers"),
        ("1,2", "watermark_scale_factor takes decimal numbers"),
        (
            "99999999999999999999",
            "watermark_scale_factor takes decimal numbers",
        ),
        ("0", "watermark_scale_factor takes 1 to 3000"),
        ("-1", "watermark_scale_factor takes 1 to 3000"),
        ("3001", "watermark_scale_factor takes 1 to 3000"),
    ] {
        assert_eq!(
            scale.parse(text).unwrap_err().to_string(),
            error,
            "{text:?}"
        );
    }
    for (text, number) in [("1", 1), ("3000", 3000), (" \t10\n", 10)] {
        assert_eq!(scale.parse(text), Ok(Numbers::from(number)));
    }
    let ratio = Tunable::LowmemReserveRatio;
    assert_eq!(ratio.parse("1 2\t3").unwrap().as_slice(), [1, 2, 3]);
    assert_eq!(
        ratio.parse("1 -2 3 4 5").unwrap().to_string(),
        "1\t-2\t3\t4\t5"
    );
    let error = ratio.parse("1 2 3 4 5 6").unwrap_err().to_string();
    assert_eq!(error, "lowmem_reserve_ratio takes one to 5 numbers");
    let error = Tunable::CompactMemory.parse("2").unwrap_err().to_string();
    assert_eq!(error, "compact_memory takes nothing but 1");
    assert_eq!(Tunable::CompactMemory.access(), Access::WriteOnly);
}

#[test]
fn numbers_that_were_not_parsed_are_checked_too() {
    // P723
    let swappiness = Tunable::Swappiness;
    assert_eq!(swappiness.check(&Numbers::from(200)), Ok(()));
    assert!(swappiness.check(&Numbers::from(201)).is_err());
    assert!(swappiness.check(&Numbers::default()).is_err());
    assert!(swappiness.check(&Numbers::new([1, 1])).is_err());
    assert_eq!(Numbers::new(1..100).as_slice(), [1, 2, 3, 4, 5]);
}
