use super::*;

fn fail(text: &str) -> (usize, usize, ParseErrorKind) {
    let error = text.parse::<Gfp>().expect_err(text);
    (error.at, error.len, error.kind)
}

#[test]
fn prints_what_traces_print() {
    // P602
    let table = [
        (Gfp::NONE, "none"),
        (GFP_KERNEL, "GFP_KERNEL"),
        (GFP_KERNEL | Gfp::ZERO, "GFP_KERNEL|__GFP_ZERO"),
        (GFP_KERNEL | Gfp::COMP, "GFP_KERNEL|__GFP_COMP"),
        (
            GFP_KERNEL_ACCOUNT | Gfp::NOWARN,
            "GFP_KERNEL_ACCOUNT|__GFP_NOWARN",
        ),
        (
            GFP_ATOMIC | Gfp::DIRECT_RECLAIM,
            "GFP_ATOMIC|__GFP_DIRECT_RECLAIM",
        ),
        (GFP_NOWAIT | Gfp::COMP, "GFP_NOWAIT|__GFP_COMP"),
        (Gfp::KSWAPD_RECLAIM, "__GFP_KSWAPD_RECLAIM"),
        (GFP_NOFS | Gfp::HIGH, "GFP_NOFS|__GFP_HIGH"),
        (GFP_KERNEL | Gfp::DMA, "GFP_KERNEL|GFP_DMA"),
        (GFP_TRANSHUGE, "GFP_TRANSHUGE"),
        (
            GFP_TRANSHUGE | Gfp::KSWAPD_RECLAIM,
            "GFP_TRANSHUGE|__GFP_KSWAPD_RECLAIM",
        ),
        (
            GFP_HIGHUSER_MOVABLE | Gfp::ACCOUNT,
            "GFP_HIGHUSER_MOVABLE|__GFP_ACCOUNT",
        ),
        (GFP_USER | Gfp::ACCOUNT, "GFP_USER|__GFP_ACCOUNT"),
        (Gfp::from_bits_retain(0x8000_0000), "0x80000000"),
        (Gfp::from_bits_retain(0x8000_0EC0), "GFP_KERNEL|0x80000200"),
    ];
    for (gfp, text) in table {
        assert_eq!(gfp.to_string(), text);
        assert_eq!(format!("{gfp:?}"), text);
    }
    assert_eq!(format!("{GFP_KERNEL:#x}"), "0xcc0"); // P601: mode:0xcc0(GFP_KERNEL)
    for known in known_flags().take(13) {
        assert_eq!(known.gfp.to_string(), known.name); // every composite prints as itself
    }
}

#[test]
fn composites_are_tried_longest_first() {
    // P602
    let lengths: Vec<_> = known_flags()
        .take(13)
        .map(|k| k.gfp.bits().count_ones())
        .collect();
    assert!(lengths.is_sorted_by(|a, b| a >= b), "{lengths:?}");
    let names: Vec<_> = known_flags().map(|known| known.name).collect();
    for (index, name) in names.iter().enumerate() {
        assert!(!names[..index].contains(name), "{name} twice");
    }
}

#[test]
fn what_is_printed_reads_back() {
    let composites = known_flags().map(|known| known.gfp);
    let single = (0..32).map(|bit| Gfp::from_bits_retain(1 << bit) & Gfp::ALL);
    let pairs = known_flags().flat_map(|a| known_flags().map(move |b| a.gfp | b.gfp));
    let sampled = words(602)
        .take(20_000)
        .map(|bits| Gfp::from_bits_retain(bits) & Gfp::ALL);
    for gfp in composites.chain(single).chain(pairs).chain(sampled) {
        assert_eq!(gfp.to_string().parse(), Ok(gfp), "{gfp}");
    }
}

#[test]
fn expressions_have_the_precedence_of_c() {
    let table = [
        ("none", Gfp::NONE),
        ("0", Gfp::NONE),
        (" GFP_KERNEL\t|\n__GFP_ZERO ", GFP_KERNEL | Gfp::ZERO),
        ("KERNEL|ZERO", GFP_KERNEL | Gfp::ZERO),
        ("0xcc0", GFP_KERNEL),
        ("0XCC0|256", GFP_KERNEL | Gfp::ZERO),
        ("GFP_KERNEL & ~__GFP_FS", GFP_NOFS),
        ("GFP_KERNEL & ~(__GFP_FS | __GFP_IO)", GFP_NOIO),
        ("__GFP_ZERO | GFP_KERNEL & ~__GFP_FS", GFP_NOFS | Gfp::ZERO),
        (
            "(__GFP_ZERO | GFP_KERNEL) & ~__GFP_FS & ~__GFP_ZERO",
            GFP_NOFS,
        ),
        ("~~GFP_KERNEL", GFP_KERNEL),
        ("~0", Gfp::ALL),
        ("((GFP_ATOMIC))", GFP_ATOMIC),
        ("GFP_KERNEL & ~__GFP_RECLAIM", Gfp::IO | Gfp::FS),
        ("__GFP_SKIP_KASAN", Gfp::NONE),
    ];
    for (text, gfp) in table {
        assert_eq!(text.parse(), Ok(gfp), "{text}");
    }
    for known in known_flags() {
        assert_eq!(known.name.parse(), Ok(known.gfp));
        let bare = known
            .name
            .trim_start_matches('_')
            .trim_start_matches("GFP_");
        assert_eq!(bare.parse(), Ok(known.gfp), "{bare}");
    }
}

#[test]
fn errors_say_where_and_what_was_meant() {
    use ParseErrorKind::*;
    let unknown = |name| UnknownName {
        nearest: Some(name),
    };
    let table = [
        ("GFP_KERNAL", (0, 10, unknown("GFP_KERNEL"))),
        ("GFP_KERNEL|__GFP_ZEROO", (11, 11, unknown("__GFP_ZERO"))),
        (
            "GFP_KERNEL | GFP_NORETRY",
            (13, 11, unknown("__GFP_NORETRY")),
        ),
        ("gfp_kernel", (0, 10, unknown("GFP_KERNEL"))),
        ("atomc", (0, 5, unknown("GFP_ATOMIC"))),
        ("BANANA_SPLIT", (0, 12, UnknownName { nearest: None })),
        ("", (0, 0, ExpectedFlag)),
        ("GFP_KERNEL|", (11, 0, ExpectedFlag)),
        ("|GFP_KERNEL", (0, 1, ExpectedFlag)),
        ("GFP_KERNEL & & 1", (13, 1, ExpectedFlag)),
        ("()", (1, 1, ExpectedFlag)),
        ("GFP_KERNEL __GFP_ZERO", (11, 1, ExpectedOperator)),
        ("GFP_KERNEL+1", (10, 1, ExpectedOperator)),
        ("(GFP_KERNEL +1)", (12, 1, ExpectedOperator)),
        ("1|(GFP_KERNEL", (2, 1, UnclosedParenthesis)),
        ("GFP_KERNEL)", (10, 1, UnopenedParenthesis)),
        ("0xZZ", (0, 4, BadNumber)),
        ("0x", (0, 2, BadNumber)),
        ("12ab", (0, 4, BadNumber)),
        ("1|0x100000000", (2, 11, BadNumber)),
        ("0x200", (0, 5, UndefinedBits { bits: 0x200 })),
        (
            "GFP_KERNEL|0xC0000040",
            (11, 10, UndefinedBits { bits: 0xC000_0000 }),
        ),
        ("é", (0, 2, ExpectedFlag)),
    ];
    for (text, want) in table {
        assert_eq!(fail(text), want, "{text:?}");
    }
}

#[test]
fn nesting_is_bounded() {
    let nested = |levels: usize| format!("{}1{}", "(".repeat(levels), ")".repeat(levels));
    assert_eq!(nested(31).parse(), Ok(Gfp::DMA));
    assert_eq!(fail(&nested(32)), (32, 1, ParseErrorKind::TooDeep));
    assert_eq!(
        fail(&"~".repeat(1_000_000)),
        (32, 1, ParseErrorKind::TooDeep)
    );
    // Depth is depth, not length: a long flat sum is fine.
    let flat = ["(1)"; 500].join("|");
    assert_eq!(flat.parse(), Ok(Gfp::DMA));
}

#[test]
fn no_text_panics() {
    // A tiny grammar fuzzer with a fixed seed: every outcome is a word or an error inside the text.
    let pieces = [
        "GFP_KERNEL",
        "__GFP_",
        "0x",
        "9",
        "|",
        "&",
        "~",
        "(",
        ")",
        " ",
        "é",
        "_",
        "\u{0}",
    ];
    let mut draw = words(4242);
    let mut parsed = 0;
    for _ in 0..20_000 {
        let count = draw.next().unwrap() % 9;
        let text: String = (0..count)
            .map(|_| pieces[draw.next().unwrap() as usize % pieces.len()])
            .collect();
        match text.parse::<Gfp>() {
            Ok(gfp) => {
                assert_eq!(gfp.undefined_bits(), 0);
                parsed += 1;
            }
            Err(error) => {
                assert!(
                    text.get(error.at..error.at + error.len).is_some(),
                    "{text:?} {error:?}"
                );
                assert!(!error.annotate(&text).to_string().is_empty());
            }
        }
    }
    assert!(parsed > 100);
}

#[test]
fn the_annotated_error_points_at_the_mistake() {
    let text = "GFP_KERNEL|__GFP_ZEROO";
    let error = text.parse::<Gfp>().unwrap_err();
    let want = "at byte 11: unknown flag name, did you mean __GFP_ZERO?\n  \
                GFP_KERNEL|__GFP_ZEROO\n             ^^^^^^^^^^^";
    assert_eq!(error.annotate(text).to_string(), want);
    let end = "1|".parse::<Gfp>().unwrap_err();
    assert!(end.annotate("1|").to_string().ends_with("\n  1|\n    ^"));
}
