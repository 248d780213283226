//! Each check of the table can fail.

use super::*;
use crate::tidy::Source;

fn entry(fields: &str) -> Entry {
    toml::from_str(&format!("name = 'kfree'\nrule = 'S24'\n{fields}")).unwrap()
}

#[test]
fn a_claim_needs_a_test_and_a_difference_a_reason() {
    assert_eq!(entry("status = 'supported'").faults(), ["names no test"]);
    assert!(
        entry("status = 'supported'\ntest = 'gfp::a::b'")
            .faults()
            .is_empty()
    );
    for status in ["differs", "refused"] {
        let bare = entry(&format!(
            "status = '{status}'\ntest = 'gfp::a::b'\nwhy = ' '"
        ));
        assert_eq!(bare.faults(), ["does not say why"]);
    }
    assert_eq!(
        entry("status = 'planned'").faults(),
        ["is planned but names no issue"]
    );
    assert!(entry("status = 'planned'\nissue = 6").faults().is_empty());
    assert_eq!(
        entry("status = 'planned'\nissue = 6\ntest = 'gfp::a::b'")
            .faults()
            .len(),
        1
    );
    assert_eq!(
        entry("status = 'supported'\nissue = 6\ntest = 'gfp::a::b'")
            .faults()
            .len(),
        1
    );
}

#[test]
fn unknown_fields_and_statuses_are_refused() {
    let head = "[[flag]]\nname = 'A'\nrule = 'P1'\n";
    assert!(Parity::parse(&format!("{head}status = 'planned'\nissue = 2")).is_ok());
    assert!(Parity::parse(&format!("{head}status = 'almost'")).is_err());
    assert!(Parity::parse(&format!("{head}status = 'planned'\nissue = 2\nnote = 'x'")).is_err());
}

#[test]
fn a_missing_rule_and_a_double_name_are_found() {
    let mut parity = Parity::default();
    let missing = parity.faults();
    assert!(missing.contains(&"flag: rule P1 has no entry".to_owned()));
    assert!(missing.contains(&"tunable: rule P722 has no entry".to_owned()));
    let mut dma = entry("status = 'planned'\nissue = 2");
    dma.rule = "P1".to_owned();
    parity.flag = vec![dma.clone(), dma];
    let faults = parity.faults();
    assert!(!faults.contains(&"flag: rule P1 has no entry".to_owned()));
    assert!(faults.contains(&"flag kfree: twice".to_owned()));
}

#[test]
fn a_proof_is_a_test_function_in_its_own_module() {
    let text = "#[test]\nfn real() {}\nfn helper() {}\n// #[test] fn talk() {}\n\
                #[test]\n#[should_panic(expected = \"x\")]\nfn panics() {}";
    let proofs = proof::Proofs::of(&[
        Source::new("crates/gfp/src/page/tests.rs", text),
        Source::new("crates/gfp-cli/tests/run.rs", "#[test]\nfn ends() {}"),
        Source::new(
            "crates/gfp-malloc/preload/tests/abi.rs",
            "#[test]\nfn abi() {}",
        ),
        Source::new(
            "crates/gfp/src/flags/mod.rs",
            "mod tests {\n #[test]\n fn inline() {}\n}",
        ),
    ]);
    for there in [
        "gfp::page::tests::real",
        "gfp::page::tests::panics",
        "gfp-cli::run::ends",
        "gfp-malloc/preload::abi::abi",
        "gfp::flags::tests::inline",
    ] {
        assert!(proofs.has(there), "{there}");
    }
    for absent in [
        "gfp::page::tests::helper",
        "gfp::page::tests::talk",
        "gfp::slab::tests::real",
        "gfp-host::page::tests::real",
        "real",
        "",
    ] {
        assert!(!proofs.has(absent), "{absent}");
    }
}

#[test]
fn the_table_shows_status_reason_and_proof() {
    let function = vec![
        entry("status = 'differs'\nwhy = 'reports a | b'\ntest = 'gfp::a::b'"),
        entry("status = 'planned'\nissue = 6"),
    ];
    let parity = Parity {
        function,
        ..Parity::default()
    };
    let table = render::table(&parity);
    assert!(
        table.contains("| `kfree` | S24 | differs | reports a \\| b (`gfp::a::b`) |"),
        "{table}"
    );
    assert!(
        table.contains("| `kfree` | S24 | planned | issue 6 |"),
        "{table}"
    );
    assert_eq!(
        render::counts(&parity),
        "0 supported, 1 differ, 0 refused, 1 planned"
    );
}
