//! The malloc ABI in real processes: each row of the interposition table, and the rules of the C
//! library.
//!
//! The programs are in `tests/c`; what each one shows is said at its top.

mod common;

use common::{assert_clean, cc, library, must_be_ok, preloaded, program_is_ok, scratch, text};
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

/// Seen failing: with `set_errno(ENOMEM)` left out of `or_enomem`; with `realloc(p, 0)` resizing
/// to 0.
#[test]
fn c_library_semantics() {
    program_is_ok("semantics.c");
}

/// Seen failing: with `read_proc` left out (the machine has half of the computer's memory then).
#[test]
fn calls_before_any_constructor() {
    let dir = scratch();
    let mut command = preloaded(&cc(&dir, "early.c", "early", &[]));
    command.env("GFP_MEMORY", "67108864");
    must_be_ok(command);
}

/// Seen failing: with requests of about 100000 bytes refused.
#[test]
fn tls_of_a_library_opened_late() {
    let dir = scratch();
    let shared = cc(
        &dir,
        "tls_library.c",
        "libtls_library.so",
        &["-shared", "-fPIC"],
    );
    let mut command = preloaded(&cc(&dir, "tls.c", "tls", &[]));
    command.arg(shared);
    must_be_ok(command);
}

/// The library's own TLS is initial-exec: an access must never allocate.
#[test]
#[cfg(target_arch = "x86_64")]
fn own_tls_is_static() {
    let out = Command::new("readelf")
        .arg("-dW")
        .arg(library())
        .output()
        .expect("readelf");
    let flags = text(&out.stdout);
    assert!(
        flags
            .lines()
            .any(|line| line.contains("FLAGS") && line.contains("STATIC_TLS")),
        "{flags}"
    );
}

#[test]
fn c_library_calls_that_allocate() {
    program_is_ok("inside.c");
}

/// Seen failing: without `watch` (slots are not given back: 121 MB); with a thread that has ended
/// taken for a new one, or for a living one; with a thread that is watched before its slot is
/// known, and a key that is not among the first 32 (`watch` calls `malloc`, which calls `watch`).
#[test]
fn threads_that_end() {
    program_is_ok("thread_exit.c");
}

#[test]
fn fork_while_threads_allocate() {
    program_is_ok("fork.c");
}

/// Seen failing: with `__libc_valloc` left out.
#[test]
fn all_names_lead_here() {
    program_is_ok("symbols.c");
}

/// Seen failing: without the `dlopen` of `hooks.rs` ("free(): invalid pointer", from the C
/// library); with a `dlopen` that calls instead of jumping (the run path is not searched).
#[test]
fn deepbind() {
    let dir = scratch();
    cc(
        &dir,
        "deepbind_library.c",
        "libdeepbind_library.so",
        &["-shared", "-fPIC"],
    );
    must_be_ok(preloaded(&cc(
        &dir,
        "deepbind.c",
        "deepbind",
        &["-Wl,-rpath,$ORIGIN"],
    )));
}

/// Every line that the program prints has its report, in the same order; the call did nothing else.
///
/// Seen failing: with the caller's register left out (the address is that of the C library).
#[test]
fn foreign_pointers_and_double_frees_are_reported() {
    let dir = scratch();
    let out = preloaded(&cc(&dir, "misuse.c", "misuse", &["-no-pie"]))
        .output()
        .expect("it starts");
    let (stdout, stderr) = (text(&out.stdout), text(&out.stderr));
    assert_eq!(out.status.code(), Some(0), "{stdout}{stderr}");
    let mut said = stdout.lines();
    let start = said
        .next()
        .and_then(|line| line.strip_prefix("bad_free 0x"))
        .expect("an address");
    let start = u64::from_str_radix(start, 16).expect("hexadecimal");
    let mut reports = stderr.lines();
    let mut count = 0;
    for line in said.take_while(|line| *line != "done") {
        let (what, address) = line.split_once(' ').expect("kind and address");
        let report = reports
            .next()
            .unwrap_or_else(|| panic!("no report for {line}\n{stderr}"));
        let kind = match what {
            "interior" => "gfp: free of an interior address of ",
            "double" => "gfp: double free of ",
            _ => "gfp: wild free of ",
        };
        assert!(
            report.starts_with(&format!("{kind}{address} (")),
            "{line}: {report}"
        );
        let (_, caller) = report.rsplit_once("called from 0x").expect("a caller");
        let caller = u64::from_str_radix(caller, 16).expect("hexadecimal");
        assert!(
            (start - 4096..start + 4096).contains(&caller),
            "{caller:#x} is not in the program's functions: {report}"
        );
        count += 1;
    }
    assert_eq!(reports.next(), None);
    assert_eq!(count, 18, "{stdout}{stderr}");
}

#[test]
fn a_double_free_aborts_where_asked() {
    let dir = scratch();
    let mut command = preloaded(&cc(&dir, "misuse.c", "misuse", &[]));
    let out = command
        .env("GFP_MALLOC_REPORT", "abort")
        .output()
        .expect("it starts");
    assert_eq!(out.status.signal(), Some(6), "{}", text(&out.stderr));
    assert_eq!(text(&out.stderr).lines().count(), 1);
}

/// Seen failing: without `-z nodelete`.
#[test]
fn opened_late_and_closed() {
    let dir = scratch();
    let mut command = preloaded(&cc(&dir, "unload.c", "unload", &[]));
    command.env_remove("LD_PRELOAD").arg(library());
    must_be_ok(command);
}

/// Seen failing: without the reserve (every request in the middle is refused).
#[test]
fn signal_handlers_that_allocate() {
    program_is_ok("signals.c");
}

/// Seen failing: with pages that lie together as the only source of 100000 bytes; with 2 MiB and
/// a page always rounded up to a block of 4 MiB.
#[test]
fn out_of_memory_is_enomem() {
    let dir = scratch();
    let mut command = preloaded(&cc(&dir, "out_of_memory.c", "program", &[]));
    command.env("GFP_MEMORY", "67108864");
    must_be_ok(command);
}

/// Seen failing: with the second free not looked for, and with what is parked not given up.
#[test]
fn large_blocks_are_used_again() {
    let dir = scratch();
    let mut command = preloaded(&cc(&dir, "large.c", "large", &[]));
    let out = command.env("GFP_MEMORY", "268435456").output().unwrap();
    let (stdout, stderr) = (text(&out.stdout), text(&out.stderr));
    assert_eq!(stdout, "ok\n", "{stderr}");
    let reports: Vec<&str> = stderr.lines().collect();
    assert_eq!(reports.len(), 2, "{stderr}");
    assert!(
        reports[0].contains("interior") && reports[1].contains("double free"),
        "{stderr}"
    );
}

/// Seen failing: with the buffers of the text views on the stack (optimised).
#[test]
fn threads_with_little_stack() {
    let dir = scratch();
    // Code that is not optimised needs more.
    let stack = if cfg!(debug_assertions) {
        "-DSTACK=65536"
    } else {
        "-DSTACK=PTHREAD_STACK_MIN"
    };
    let program = cc(&dir, "small_stack.c", "program", &[stack]);
    must_be_ok(preloaded(&program));
    let mut command = preloaded(&program);
    command
        .env("GFP_RECORD_DIR", &dir)
        .env("GFP_PROC_DIR", &dir);
    must_be_ok(command);
}

/// Seen failing: without `fit` (the program's own `mmap` fails).
#[test]
fn a_limit_of_addresses() {
    let dir = scratch();
    for limit in ["1000000000", "200000000"] {
        let mut command = preloaded(&cc(&dir, "address_limit.c", "program", &[]));
        command.env("GFP_MEMORY", "8000000000").arg(limit);
        must_be_ok(command);
    }
}

/// Where there is no room for any machine this is said, once, and is no crash.
///
/// Seen failing: without `no_machine`.
#[test]
fn no_room_for_a_machine() {
    let dir = scratch();
    let mut command = preloaded(&cc(&dir, "address_limit.c", "program", &[]));
    let out = command.arg("6000000").output().expect("it starts");
    let stderr = text(&out.stderr);
    assert_eq!(
        (out.status.signal(), stderr.matches("no machine").count()),
        (None, 1),
        "{stderr}"
    );
}

/// Programs of others, which allocate in their own ways.
#[test]
fn other_programs() {
    let out = preloaded("sh".as_ref())
        .args([
            "-c",
            "for i in 1 2 3; do echo $i; done | sort -r | head -n 1 | sed s/3/ok/",
        ])
        .output()
        .expect("sh starts");
    assert_clean(&out);
}
