//! Negative controls: with one check of the kernel taken out, the tests that exist for it must
//! fail.
//!
//! What such a run prints is shown only where it is not as it must be, so that a log holds no
//! failures that are meant.

use anyhow::{Context, Result};
use std::fs::{self, File};
use std::path::Path;

use super::{MACHINES, Sum, boot, repeat};
use crate::shell::{self, Repo};

/// A check that can be taken out.
struct Control {
    /// Its name in `crates/gfp-kernel/src/controls.rs`
    name: &'static str,
    /// Which tests are run
    filter: &'static str,
    /// Those that must fail
    fails: &'static [&'static str],
}

/// A control whose one test is named in full.
const fn one(name: &'static str, test: &'static [&'static str; 1]) -> Control {
    Control {
        name,
        filter: test[0],
        fails: test,
    }
}

/// How often a control may be run. Some checks keep races out, which on a host with few CPUs, where
/// those of the machine take turns, may not come in each run.
const RUNS_MAX: u32 = 10;

/// What status and lines show where the tests pass.
const NOTHING_FAILED: &str = "nothing failed";

/// Every control of the kernel stands here, in one row or more.
const CONTROLS: &[Control] = &[
    one(
        "nested",
        &["faults::a_fault_inside_the_allocator_is_told_without_asking_it"],
    ),
    one(
        "nested",
        &["sections::every_place_has_one_visitor_at_a_time"],
    ),
    one(
        "nested",
        &["context::nmis_inside_a_section_are_refused_as_nested"],
    ),
    one(
        "interrupts-on",
        &["context::interrupts_never_come_inside_a_section"],
    ),
    one(
        "not-taken",
        &["stress::nmis_leave_a_place_alone_that_another_cpu_took"],
    ),
    one(
        "not-taken",
        &["sections::every_place_has_one_visitor_at_a_time"],
    ),
    one(
        "no-wait",
        &["stress::who_takes_a_place_waits_until_its_owner_is_outside"],
    ),
    one(
        "given-twice",
        &["stress::a_million_operations_in_all_contexts_on_all_cpus"],
    ),
    one(
        "leak",
        &["stress::a_million_operations_in_all_contexts_on_all_cpus"],
    ),
    one("leak", &["heap::a_vector_grows_by_pushing"]),
    Control {
        name: "no-dma",
        filter: "zones::",
        fails: &[
            "zones::zones_lie_where_their_names_say",
            "zones::gfp_dma_is_below_16_mib",
        ],
    },
    one(
        "no-reserve",
        &["oom::pages_to_the_last_and_the_reserves_still_serve"],
    ),
    one(
        "nested",
        &["nolock::inside_a_section_there_is_none_and_a_free_is_put_off"],
    ),
    one("red-zone", &["sched::the_red_zone_survives_interrupts"]),
    one(
        "nmis-nest",
        &["machine::an_nmi_waits_for_the_end_of_the_one_before"],
    ),
    one(
        "share",
        &["virtio::a_disk_keeps_what_was_written_and_nothing_else_changes"],
    ),
    one("guard", &["paging::areas_show_their_frames"]),
    Control {
        name: "guard",
        filter: "faults::a",
        fails: &[
            "faults::a_guard_page_is_told_with_its_owner",
            "faults::an_overflow_of_a_stack_is_told_as_such",
            "faults::a_fault_inside_the_allocator_is_told_without_asking_it",
        ],
    },
    Control {
        name: "shootdown",
        filter: "shootdown::",
        fails: &[
            "shootdown::no_cpu_reads_a_page_that_was_freed_and_used_again",
            "shootdown::after_a_flush_no_cpu_remembers_a_page",
        ],
    },
    one(
        "unmap",
        &["faults::use_after_vfree_is_told_with_its_owner_before_and_after_the_purge"],
    ),
    one("unmap", &["shootdown::a_mapping_that_fails_leaves_nothing"]),
    Control {
        name: "restart",
        filter: "restart::",
        fails: &[
            "restart::a_sequence_stopped_at_each_instruction_loses_and_doubles_nothing",
            "restart::sequences_on_all_cpus_lose_and_double_nothing",
        ],
    },
    one(
        "restart",
        &["at_hand::a_page_stopped_at_each_instruction_has_one_owner"],
    ),
    one(
        "restart",
        &["at_hand::pages_have_one_owner_each_whatever_comes_between"],
    ),
    one(
        "protection",
        &["faults::text_and_constants_cannot_be_written_by_any_address"],
    ),
    one("execute", &["faults::data_cannot_be_executed"]),
    Control {
        name: "null",
        filter: "faults::a",
        fails: &[
            "faults::addresses_that_are_nobodys_are_told_apart",
            "faults::a_null_pointer_faults",
        ],
    },
];

/// Seconds until a machine that has lost its check is taken as hung, which is a failure as well.
const LIMIT_SECONDS: &str = "900";
const KERNEL_TABLE: &str = "crates/gfp-kernel/src/controls.rs";

/// Runs the controls that `filter` picks, in the first machine.
pub(super) fn run(repo: &Repo, gfp: &Path, filter: Option<&str>) -> Result<Sum> {
    let text = fs::read_to_string(repo.root.join(KERNEL_TABLE)).context(KERNEL_TABLE)?;
    println!("\n==> negative controls: a check is taken out, its tests must fail");
    let folder = repo.target.join("vm-test");
    fs::create_dir_all(&folder)?;
    let mut sum = Sum::default();
    let rows: Vec<_> = CONTROLS.iter().map(|control| control.name).collect();
    for fault in differences(&names(&text), &rows) {
        println!("WRONG: {fault}");
        sum.add(Sum::one(false));
    }
    let picked = |control: &&Control| {
        filter.is_none_or(|text| control.name.contains(text) || control.filter.contains(text))
    };
    for control in CONTROLS.iter().filter(picked) {
        let good = run_one(
            repo,
            gfp,
            control,
            &folder.join(format!("{}.log", control.name)),
        )?;
        sum.add(Sum::one(good));
    }
    Ok(sum)
}

fn run_one(repo: &Repo, gfp: &Path, control: &Control, log: &Path) -> Result<bool> {
    let mut args = vec![
        "--test",
        "--break",
        control.name,
        "--filter",
        control.filter,
    ];
    args.extend(MACHINES[0].args);
    args.extend(["--timeout", LIMIT_SECONDS]);
    let mut run = 1;
    loop {
        let mut command = boot(repo, gfp);
        command.args(&args).stderr(File::create(log)?);
        let (status, lines) = shell::run_and_capture(&mut command)?;
        let said = fs::read_to_string(log)?;
        let name = control.name;
        match fault_of(control, status.code(), &lines, &said).as_deref() {
            None if run == 1 => println!("without `{name}`: failed as it must"),
            None => println!("without `{name}`: failed as it must, in run {run}"),
            Some(NOTHING_FAILED) if run < RUNS_MAX => {
                run += 1;
                continue;
            }
            Some(fault) => {
                println!(
                    "without `{name}`: WRONG, {fault}, in {run} runs\n{}",
                    lines.join("\n")
                );
                println!("{said}\nrepeat it with:  {}", repeat(&args));
                return Ok(false);
            }
        }
        return Ok(true);
    }
}

/// What is wrong with a run that must fail, if anything. `said` is what `gfp` itself said.
fn fault_of(
    control: &Control,
    status: Option<i32>,
    lines: &[String],
    said: &str,
) -> Option<String> {
    /// `gfp boot` says with it that something failed inside the machine.
    const INSIDE: i32 = 1;
    match status {
        Some(INSIDE) => {}
        Some(0) => return Some(NOTHING_FAILED.to_owned()),
        _ => return Some("the machine was not run".to_owned()),
    }
    // A test also fails by taking the machine down, or by never ending: gfp says in which test.
    let has_failed = |name: &str| {
        let line = format!("test {name} ... FAILED");
        lines.iter().any(|seen| seen.starts_with(&line))
            || said
                .split_whitespace()
                .any(|word| word.trim_end_matches(';') == name)
    };
    let missing = control.fails.iter().find(|name| !has_failed(name))?;
    Some(format!("{missing} did not fail"))
}

/// The names that the kernel knows: `Variant = "name",`.
fn names(text: &str) -> Vec<&str> {
    let name = |line: &'_ str| -> Option<(usize, usize)> {
        let (before, rest) = line.split_once(" = \"")?;
        let variant = before.trim_start();
        let is_variant =
            variant.starts_with(char::is_uppercase) && variant.chars().all(char::is_alphanumeric);
        let end = rest.strip_suffix("\",")?;
        is_variant.then_some((line.len() - rest.len(), end.len()))
    };
    text.lines()
        .filter_map(|line| name(line).map(|(from, len)| &line[from..from + len]))
        .collect()
}

/// The kernel's controls and the rows here must be the same.
fn differences(kernel: &[&str], rows: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    if kernel.is_empty() {
        found.push(format!(
            "no control found in {KERNEL_TABLE}: has its form changed?"
        ));
    }
    found.extend(
        kernel
            .iter()
            .filter(|name| !rows.contains(name))
            .map(|name| {
                format!(
                    "control `{name}` has no row in xtask/src/vm/controls.rs: which test needs it?"
                )
            }),
    );
    found.extend(
        rows.iter()
            .filter(|name| !kernel.contains(name))
            .map(|name| {
                format!("xtask/src/vm/controls.rs has a row `{name}` that the kernel does not know")
            }),
    );
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTROL: Control = one("x", &["a::b"]);

    fn fault(status: Option<i32>, line: &str, said: &str) -> Option<String> {
        fault_of(&CONTROL, status, &[line.to_owned()], said)
    }

    #[test]
    fn a_control_that_breaks_nothing_is_wrong() {
        let failed = "test a::b ... FAILED";
        assert_eq!(fault(Some(1), failed, ""), None);
        assert_eq!(
            fault(Some(1), "", "gfp: the kernel broke in test a::b\n"),
            None
        );
        assert_eq!(
            fault(Some(1), "", "gfp: it was killed in test a::b; --timeout"),
            None
        );
        assert_eq!(fault(Some(0), failed, "").unwrap(), NOTHING_FAILED);
        for said in ["", "gfp: the kernel broke in test a::bc"] {
            let fault = fault(Some(1), "test a::b ... ok", said);
            assert_eq!(fault.unwrap(), "a::b did not fail");
        }
        for status in [Some(125), Some(127), None] {
            assert_eq!(
                fault(status, failed, "").unwrap(),
                "the machine was not run"
            );
        }
    }

    #[test]
    fn every_control_has_a_row() {
        let text = "controls! {\n    /// = \"no\",\n    Nested = \"nested\",\n    B2 = \"b-c\",\n\
                    }\nstatic X: &str = \"y\";\n";
        assert_eq!(names(text), ["nested", "b-c"]);
        assert!(differences(&["a", "b"], &["b", "a"]).is_empty());
        assert!(differences(&["a", "b"], &["a"])[0].contains("`b` has no row"));
        assert!(differences(&["a"], &["a", "b"])[0].contains("a row `b`"));
        assert_eq!(differences(&[], &[]).len(), 1);
    }
}
