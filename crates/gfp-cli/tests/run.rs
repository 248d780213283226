//! `gfp run` end to end: what a shell, a supervisor or a script sees of it.

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};

use support::{Dir, compile, gfp, run, script};

#[test]
fn the_exit_status_of_the_program_is_ours() {
    for status in [0, 1, 3, 125, 255] {
        let output = run(&["run", "--", "sh", "-c", &format!("exit {status}")]);
        assert_eq!(output.status, Some(status));
        assert!(
            output.stderr.contains(&format!("exit status {status}")),
            "{}",
            output.stderr
        );
        assert_eq!(output.stdout, "");
    }
}

#[test]
fn death_by_signal_is_ours_too() {
    for (signal, name) in [
        (9, "SIGKILL"),
        (15, "SIGTERM"),
        (6, "SIGABRT"),
        (11, "SIGSEGV"),
    ] {
        let output = run(&["run", "--", "sh", "-c", &format!("kill -{signal} $$")]);
        assert_eq!((output.status, output.signal), (None, Some(signal)));
        assert!(output.stderr.contains(name), "{}", output.stderr);
    }
}

#[test]
fn arguments_input_and_output_are_untouched() {
    let command = [
        "run",
        "sh",
        "-c",
        "echo \"$0\" \"$@\" --; cat",
        "zero",
        "a b",
        "--memory",
    ];
    let mut child = gfp(&command)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"in\0put").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.stdout, b"zero a b --memory --\nin\0put");
}

#[test]
fn the_program_has_the_name_it_was_called_by() {
    let dir = Dir::new();
    let source = "#include <stdio.h>\nint main(int n, char **v) { puts(v[0]); }";
    compile(&dir, "name", source, &[]);
    let output = support::finish(gfp(&["run", "--", "name"]).env("PATH", dir.path()));
    assert_eq!(output.stdout, "name\n", "{}", output.stderr);
}

#[test]
fn the_program_finds_the_library_and_its_budget_in_the_environment() {
    let print = "echo $GFP_MEMORY; echo ${LD_PRELOAD%%:*}; test -d $GFP_RECORD_DIR && echo dir; \
                 echo ${GFP_PROC_DIR-none}";
    let output = run(&["run", "--memory", "64M", "--", "sh", "-c", print]);
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(lines[0], "67108864", "{}", output.stderr);
    assert!(lines[1].ends_with("/libgfp_malloc.so"), "{lines:?}");
    assert_eq!(lines[2..], ["dir", "none"]);
}

#[test]
fn signals_and_mask_are_as_without_gfp() {
    // A shell would change some of its own accord; grep does not.
    let lines = |mut command: Command| {
        let ignore = || {
            for signal in [libc::SIGPIPE, libc::SIGUSR2, libc::SIGCHLD] {
                // SAFETY: signal is async-signal-safe.
                unsafe { libc::signal(signal, libc::SIG_IGN) };
            }
            Ok(())
        };
        // SAFETY: `ignore` makes async-signal-safe calls only.
        unsafe { command.pre_exec(ignore) };
        support::finish(&mut command).stdout
    };
    let args = ["grep", "-E", "^Sig(Blk|Ign|Cgt)", "/proc/self/status"];
    let mut direct = Command::new(args[0]);
    direct.args(&args[1..]);
    let direct = lines(direct);
    // Bits 12, 16 and 11: SIGPIPE, SIGCHLD, SIGUSR2.
    let ignored = direct
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:\t"))
        .unwrap();
    assert_eq!(
        u64::from_str_radix(ignored, 16).unwrap() & 0x11800,
        0x11800,
        "{direct}"
    );
    assert_eq!(lines(gfp(&[&["run", "--"], &args[..]].concat())), direct);
}

/// Tells by its exit status which signal it was sent.
const WAITS: &str = r#"
#include <signal.h>
#include <stdio.h>
int main(void) {
    sigset_t all; int signal;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, 0);
    puts("ready"); fflush(stdout);
    sigwait(&all, &signal);
    return 40 + signal;
}
"#;

/// Starts gfp with its records in `dir` and waits until the program says that it is ready.
fn start(dir: &Dir, args: &[&str]) -> Child {
    let mut child = gfp(args)
        .env("TMPDIR", dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "ready\n");
    child
}

fn kill(child: &Child, signal: i32) {
    // SAFETY: a signal to a child of ours that was not waited for yet.
    assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0);
}

#[test]
fn a_signal_sent_to_gfp_reaches_the_program() {
    let dir = Dir::new();
    let waits = compile(&dir, "waits", WAITS, &[]);
    for signal in [1, 2, 3, 10, 12, 15] {
        let child = start(&dir, &["run", "--", waits.to_str().unwrap()]);
        assert_eq!(support::record_dirs(&dir), 1);
        kill(&child, signal);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(40 + signal));
        assert_eq!(support::record_dirs(&dir), 0, "removed at the end");
    }
}

#[test]
fn a_signal_that_kills_the_program_kills_gfp_after_it_cleaned_up() {
    let dir = Dir::new();
    let mut child = start(&dir, &["run", "--", "sh", "-c", "echo ready; read line"]);
    kill(&child, libc::SIGTERM);
    // Held open, since the shell would end by itself at the end of its input.
    let stdin = child.stdin.take();
    let output = child.wait_with_output().unwrap();
    drop(stdin);
    assert_eq!(output.status.signal(), Some(libc::SIGTERM));
    assert!(String::from_utf8_lossy(&output.stderr).contains("SIGTERM"));
    assert_eq!(support::record_dirs(&dir), 0);
}

#[test]
fn a_wrong_size_is_refused_before_anything_runs() {
    for (size, part) in [
        ("1K", "at least 4M"),
        ("x", "256M"),
        ("64MB", "write 64M"),
        ("", "256M"),
    ] {
        let output = run(&["run", "--memory", size, "--", "echo", "ran"]);
        assert_eq!((output.status, output.stdout.as_str()), (Some(125), ""));
        assert!(output.stderr.contains(part), "{size}: {}", output.stderr);
    }
}

#[test]
fn usage_errors_are_125_and_help_is_0() {
    for args in [&["run"][..], &["run", "--bad", "ls"], &["walk"], &[]] {
        let output = run(args);
        assert_eq!(
            (output.status, output.stdout.as_str()),
            (Some(125), ""),
            "{args:?}"
        );
        assert!(output.stderr.contains("Usage:"), "{}", output.stderr);
    }
    let help = run(&["help", "run"]);
    assert_eq!(help.status, Some(0));
    assert!(help.stdout.contains("Examples:") && help.stdout.contains("--proc"));
    assert!(run(&["--version"]).stdout.starts_with("gfp "));
}

#[test]
fn wrong_programs_are_refused_with_a_reason() {
    let dir = Dir::new();
    let nothing = dir.path().join("nothing");
    let no_bit = script(&dir, "no-bit", "#!/bin/sh\n", 0o644);
    let interpreter = script(&dir, "interpreter", "#!/no/such\n", 0o755);
    let source = "void _start(void) { for (;;) ; }";
    let fixed = compile(
        &dir,
        "fixed",
        source,
        &["-static", "-nostdlib", "-ffreestanding"],
    );
    let of_fixed = script(&dir, "of-fixed", &format!("#!{}\n", fixed.display()), 0o755);
    let object = compile(&dir, "object.o", "int x;", &["-c"]);
    fs::set_permissions(&object, fs::metadata(&fixed).unwrap().permissions()).unwrap();
    for (program, status, part) in [
        (&nothing, 127, "not found"),
        (&dir.path().to_path_buf(), 126, "directory"),
        (&no_bit, 126, "chmod +x"),
        (&interpreter, 126, "its interpreter /no/such"),
        (&fixed, 125, "static binary: cannot be interposed"),
        (&of_fixed, 125, "static binary: cannot be interposed"),
        (&object, 126, "no executable"),
    ] {
        let output = run(&["run", "--", program.to_str().unwrap()]);
        assert_eq!(output.status, Some(status), "{}", output.stderr);
        assert!(output.stderr.contains(part), "{part}: {}", output.stderr);
        assert!(
            output.stderr.contains(program.to_str().unwrap()),
            "{}",
            output.stderr
        );
    }
}

#[test]
fn scripts_run_with_and_without_an_interpreter_line() {
    let dir = Dir::new();
    for (name, text) in [
        ("with", "#!/bin/sh\necho \"$1\"\n"),
        ("without", "echo \"$1\"\n"),
    ] {
        let script = script(&dir, name, text, 0o755);
        let output = run(&["run", "--", script.to_str().unwrap(), "said"]);
        assert_eq!(output.stdout, "said\n", "{}", output.stderr);
        assert_eq!(output.status, Some(0));
    }
}

#[test]
fn a_missing_library_is_an_error_not_a_run_without_it() {
    let output = support::finish(gfp(&["run", "echo", "ran"]).env("GFP_MALLOC_LIB", "/no/such.so"));
    assert_eq!((output.status, output.stdout.as_str()), (Some(125), ""));
    assert!(
        output.stderr.contains("GFP_MALLOC_LIB=/no/such.so"),
        "{}",
        output.stderr
    );
}

#[test]
fn unusable_paths_are_found_before_the_program_runs() {
    let dir = Dir::new();
    let file = script(&dir, "file", "", 0o644);
    let below = file.join("x");
    let nowhere = dir.path().join("none/r.json");
    for (option, path) in [
        ("--report", &nowhere),
        ("--proc", &file),
        ("--proc", &below),
    ] {
        let output = run(&["run", option, path.to_str().unwrap(), "--", "echo", "ran"]);
        assert_eq!((output.status, output.stdout.as_str()), (Some(125), ""));
        assert!(
            output.stderr.contains(path.to_str().unwrap()),
            "{}",
            output.stderr
        );
    }
    let tmp = support::finish(gfp(&["run", "echo", "ran"]).env("TMPDIR", &nowhere));
    assert_eq!((tmp.status, tmp.stdout.as_str()), (Some(125), ""));
    assert!(tmp.stderr.contains("TMPDIR"), "{}", tmp.stderr);
}

#[test]
fn a_program_that_does_not_start_leaves_no_report() {
    let dir = Dir::new();
    let report = dir.path().join("r.json");
    let (option, path) = ("--report", report.to_str().unwrap());
    assert_eq!(run(&["run", option, path, "/no/such"]).status, Some(127));
    assert!(!report.exists());
    let late = support::finish(gfp(&["run", option, path, "true"]).env("TMPDIR", "/no/such"));
    assert_eq!(late.status, Some(125));
    assert!(!report.exists());
}

#[test]
fn the_report_tells_the_end_and_the_budget() {
    let dir = Dir::new();
    let report = dir.path().join("r.json");
    let path = report.to_str().unwrap();
    let read = || support::json(&fs::read_to_string(&report).unwrap());
    run(&[
        "run", "-m", "32M", "--report", path, "--", "sh", "-c", "exit 7",
    ]);
    let told = read();
    assert_eq!(told["schema"], "gfp-run/1");
    assert_eq!(told["exit"]["code"], 7);
    assert!(told["exit"]["signal"].is_null());
    assert_eq!(told["memory_bytes"], 32 << 20);
    assert_eq!(told["command"], support::json(r#"["sh", "-c", "exit 7"]"#));
    assert!(told["processes"].is_array());
    run(&["run", "--report", path, "--", "sh", "-c", "kill -9 $$"]);
    assert_eq!(read()["exit"]["signal"], 9);
    // A report that is no file: a pipe that the caller reads.
    let output = run(&["run", "--report", "/dev/stdout", "--", "true"]);
    assert_eq!(support::json(&output.stdout)["exit"]["code"], 0);
}

#[test]
fn a_closed_stderr_does_not_change_the_end() {
    let command = format!(
        "exec {} run -- sh -c 'exit 5' 2>&-",
        env!("CARGO_BIN_EXE_gfp")
    );
    let status = Command::new("sh").args(["-c", &command]).status().unwrap();
    assert_eq!(status.code(), Some(5));
}
