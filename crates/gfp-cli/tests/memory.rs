//! `gfp run` with the real library: what the summary and the report say of a program's memory.

mod support;

use std::fs;

use serde_json::Value;
use support::{Dir, Output, compile, gfp};

const MIB: u64 = 1 << 20;
const BUDGET: u64 = 64 * MIB;

/// Runs `program` over [`BUDGET`] and reads its report.
fn report(dir: &Dir, program: &[&str]) -> (Output, Value) {
    let path = dir.path().join("report.json");
    let options = [
        "run",
        "--memory",
        "64M",
        "--report",
        path.to_str().unwrap(),
        "--",
    ];
    let output = support::finish(&mut gfp(&[&options[..], program].concat()));
    let text = fs::read_to_string(&path).unwrap();
    (output, support::json(&text))
}

fn processes(report: &Value) -> &Vec<Value> {
    report["processes"].as_array().unwrap()
}

/// The program's own image.
fn main_process(report: &Value) -> &Value {
    let mut mains = processes(report)
        .iter()
        .filter(|process| process["main"] == true);
    let main = mains.next().unwrap();
    assert!(mains.next().is_none());
    assert_eq!(main["pid"], report["main_pid"]);
    main
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

/// Touches 20 MiB in small and large blocks, then does what its argument says.
const USES: &str = r#"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int main(int argc, char **argv) {
    void *blocks[1024];
    for (int i = 0; i < 1024; i++) {
        blocks[i] = malloc(i % 2 ? 4096 : 36864);
        if (!blocks[i]) return 9;
        memset(blocks[i], i, i % 2 ? 4096 : 36864);
    }
    const char *end = argc > 1 ? argv[1] : "free";
    if (!strcmp(end, "kill")) raise(SIGKILL);
    if (!strcmp(end, "_exit")) _exit(4);
    for (int i = 0; i < 1024; i++) free(blocks[i]);
    return 0;
}
"#;

#[test]
fn peak_zones_and_caches_add_up() {
    let dir = Dir::new();
    let program = compile(&dir, "uses", USES, &["-O0"]);
    let (output, report) = report(&dir, &[program.to_str().unwrap()]);
    assert_eq!(output.status, Some(0), "{}", output.stderr);
    assert_eq!(report["library_loaded"], true);
    let main = main_process(&report);
    assert_eq!(
        (main["name"].as_str(), main["state"].as_str()),
        (Some("uses"), Some("exited"))
    );
    let (managed, peak) = (number(&main["managed_bytes"]), number(&main["peak_bytes"]));
    assert!(managed > BUDGET / 2 && managed <= BUDGET, "{managed}");
    assert!(peak >= 20 * MIB && peak <= managed, "{peak}");
    assert!(number(&main["in_use_bytes"]) <= peak);
    let zones = main["zones"].as_array().unwrap();
    let pages = zones
        .iter()
        .map(|zone| number(&zone["managed_pages"]))
        .sum::<u64>();
    assert!(!zones.is_empty() && pages * 4096 <= BUDGET, "{zones:?}");
    for zone in zones {
        let mark = |name: &str| number(&zone[name]);
        assert!(mark("min_pages") <= mark("low_pages"), "{zone}");
        assert!(mark("low_pages") <= mark("high_pages"), "{zone}");
        assert!(mark("free_pages") <= mark("managed_pages"), "{zone}");
    }
    let largest = main["caches"]["largest"].as_array().unwrap();
    let bytes: Vec<u64> = largest
        .iter()
        .map(|cache| number(&cache["bytes"]))
        .collect();
    assert!(!bytes.is_empty() && bytes.len() <= 10);
    assert!(bytes.is_sorted_by(|a, b| a >= b), "{bytes:?}");
    assert!(bytes.iter().sum::<u64>() <= number(&main["caches"]["total_bytes"]));
    assert_eq!(
        (
            number(&main["failed"]["total"]),
            number(&main["misuse"]["total"])
        ),
        (0, 0)
    );
    for part in [
        "memory     managed",
        "zones",
        "caches",
        "vmalloc",
        "failed     none",
    ] {
        assert!(output.stderr.contains(part), "{part}: {}", output.stderr);
    }
}

#[test]
fn the_peak_survives_ends_that_the_library_does_not_see() {
    let dir = Dir::new();
    let program = compile(&dir, "uses", USES, &["-O0"]);
    for end in ["kill", "_exit"] {
        let (output, report) = report(&dir, &[program.to_str().unwrap(), end]);
        let expected = if end == "kill" {
            (None, Some(9))
        } else {
            (Some(4), None)
        };
        assert_eq!((output.status, output.signal), expected);
        let main = main_process(&report);
        // Figures may lag behind by what changed since the last refill: within one MiB here.
        assert!(number(&main["peak_bytes"]) >= 19 * MIB, "{end}: {main}");
    }
}

#[test]
fn out_of_managed_memory_is_enomem_and_counted() {
    let dir = Dir::new();
    let source = r#"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
int main(void) {
    errno = 0;
    void *p = malloc((size_t)1 << 30);
    printf("%d %d\n", p == NULL, errno == ENOMEM);
    printf("%d\n", malloc(100) != NULL);
    return 0;
}
"#;
    let program = compile(&dir, "wants", source, &["-O0"]);
    let (output, report) = report(&dir, &[program.to_str().unwrap()]);
    assert_eq!(
        (output.status, output.stdout.as_str()),
        (Some(0), "1 1\n1\n"),
        "{}",
        output.stderr
    );
    let failed = &main_process(&report)["failed"];
    assert_eq!(
        (number(&failed["total"]), number(&failed["largest_bytes"])),
        (1, 1 << 30)
    );
    assert_eq!(
        failed["by_size"],
        support::json(r#"[{"up_to_bytes": 1073741824, "count": 1}]"#)
    );
    assert!(
        output
            .stderr
            .contains("failed     1 allocation, largest 1.0 GiB")
    );
}

#[test]
fn each_process_of_a_tree_has_its_own_budget_and_line() {
    let dir = Dir::new();
    let program = compile(&dir, "uses", USES, &["-O0"]);
    let path = program.to_str().unwrap();
    // Two children; then the shell itself becomes the program.
    let command = format!("{path} & {path} _exit & wait; exec {path}");
    let (output, report) = report(&dir, &["sh", "-c", &command]);
    assert_eq!(output.status, Some(0), "{}", output.stderr);
    let main = main_process(&report);
    assert_eq!(main["name"], "uses");
    let uses: Vec<&Value> = processes(&report)
        .iter()
        .filter(|p| p["name"] == "uses")
        .collect();
    assert_eq!(uses.len(), 3);
    for process in &uses {
        assert_eq!(process["managed_bytes"], main["managed_bytes"]);
        assert!(number(&process["peak_bytes"]) >= 19 * MIB, "{process}");
    }
    let images: Vec<&Value> = processes(&report)
        .iter()
        .filter(|process| process["pid"] == main["pid"])
        .collect();
    assert_eq!((images.len(), images[0]["name"].as_str()), (2, Some("sh")));
    assert_eq!(images[0]["state"], "replaced");
    assert!(
        output.stderr.contains("2 further processes"),
        "{}",
        output.stderr
    );
}

#[test]
fn a_double_free_is_reported_and_the_program_goes_on() {
    let dir = Dir::new();
    let source = r#"
#include <stdio.h>
#include <stdlib.h>
int main(void) {
    void *volatile p = malloc(100000);
    free(p);
    free(p);
    puts("went on");
    return 0;
}
"#;
    let program = compile(&dir, "frees", source, &["-O0", "-w"]);
    let (output, report) = report(&dir, &[program.to_str().unwrap()]);
    assert_eq!(
        (output.status, output.stdout.as_str()),
        (Some(0), "went on\n")
    );
    let misuse = &main_process(&report)["misuse"];
    assert_eq!(misuse["total"], 1);
    assert!(
        misuse["last"]
            .as_str()
            .is_some_and(|text| text.contains("free")),
        "{misuse}"
    );
    assert!(
        output.stderr.contains("MISUSE     1 report"),
        "{}",
        output.stderr
    );
}

/// Takes blocks until there are no more.
const HOG: &str = r#"
#include <stdio.h>
#include <stdlib.h>
int main(void) {
    for (;;)
        if (!malloc(4000)) {
            puts("null");
            return 3;
        }
}
"#;

#[test]
fn a_program_that_uses_its_memory_up_is_killed_if_that_is_wanted() {
    let dir = Dir::new();
    let program = compile(&dir, "hog", HOG, &["-O0"]);
    let program = program.to_str().unwrap();
    let path = dir.path().join("report.json");
    let report = path.to_str().unwrap();
    let options = [
        "run", "-m", "32M", "--oom", "kill", "--report", report, "--", program,
    ];
    let output = support::run(&options);
    assert_eq!(
        (output.status, output.signal),
        (None, Some(9)),
        "{}",
        output.stderr
    );
    assert_eq!(output.stdout, "");
    for part in [
        "asked for 4000 bytes",
        "biggest caches: kmalloc-4k ",
        "killed by signal 9 (SIGKILL)",
        "it was gfp that killed it: its memory was used up (--oom kill)",
    ] {
        assert!(output.stderr.contains(part), "{part}: {}", output.stderr);
    }
    let report = support::json(&fs::read_to_string(&path).unwrap());
    assert_eq!(main_process(&report)["state"], "out_of_memory");
    assert_eq!(report["exit"]["signal"], 9);
}

#[test]
fn a_program_that_uses_its_memory_up_sees_null_otherwise() {
    let dir = Dir::new();
    let program = compile(&dir, "hog", HOG, &["-O0"]);
    let program = program.to_str().unwrap();
    // A gfp around us does not decide for us.
    for options in [&["--oom", "fail"][..], &[]] {
        let args = [&["run", "-m", "32M"], options, &["--", program]].concat();
        let output = support::finish(gfp(&args).env("GFP_OOM", "kill"));
        assert_eq!((output.status, output.stdout.as_str()), (Some(3), "null\n"));
        assert!(
            !output.stderr.contains("out of memory"),
            "{}",
            output.stderr
        );
    }
}
