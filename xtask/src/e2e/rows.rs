//! The table of rows.

use anyhow::{Context, Result};
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use super::{programs, python};

/// Is the row part of the test command?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Length {
    /// A few seconds
    Short,
    /// Longer, or needs more tools
    Long,
}

/// How a run under gfp is judged.
pub(super) enum Compare {
    /// Output and status as in the plain run, which must end well and print `must_contain`
    Exact { must_contain: &'static str },
    /// The outcome of `python3 -m test -v` as in the plain run
    PythonTests,
    /// Under gfp only: this output, a good end, and failed allocations in the report
    Limit { stdout: &'static str },
}

/// One program.
pub(super) struct Row {
    pub(super) name: String,
    pub(super) length: Length,
    /// `--memory`; half of the machine if left out
    pub(super) memory: Option<&'static str>,
    /// Written into the folder of each run
    pub(super) files: Vec<(&'static str, String)>,
    pub(super) environment: &'static [(&'static str, &'static str)],
    pub(super) command: Vec<String>,
    pub(super) compare: Compare,
    pub(super) time_max: Duration,
}

impl Row {
    /// A row that compares output exactly.
    pub(super) fn new(name: &str, length: Length, command: Vec<String>) -> Row {
        let minutes = if length == Length::Short { 4 } else { 20 };
        Row {
            name: name.to_owned(),
            length,
            memory: None,
            files: Vec::new(),
            environment: &[],
            command,
            compare: Compare::Exact { must_contain: "" },
            time_max: Duration::from_secs(minutes * 60),
        }
    }

    /// A row that runs a shell line over generated files.
    fn shell(name: &str, length: Length, line: &str, files: &[(&'static str, &str)]) -> Row {
        let command = ["sh", "-c", line].map(str::to_owned).to_vec();
        let files = files
            .iter()
            .map(|&(name, text)| (name, text.to_owned()))
            .collect();
        Row {
            files,
            ..Row::new(name, length, command)
        }
    }

    fn must_contain(mut self, text: &'static str) -> Row {
        self.compare = Compare::Exact { must_contain: text };
        self
    }

    fn limited(mut self, memory: &'static str, stdout: &'static str) -> Row {
        self.memory = Some(memory);
        self.compare = Compare::Limit { stdout };
        self
    }
}

/// Every row; `python` is the interpreter that has its tests.
pub(super) fn all(python: &Path) -> Result<Vec<Row>> {
    let python3 = python.display().to_string();
    let sum = [python3.as_str(), "-c", "print(sum(range(10**6)))"]
        .map(str::to_owned)
        .to_vec();
    let mut sum = Row::new("python-sum", Length::Short, sum).must_contain("499999500000\n");
    sum.memory = Some("256M");

    let mut rows = vec![sum];
    rows.extend(python::rows(python)?);
    let gcc = "gcc -O2 -o program program.c && ./program";
    rows.push(
        Row::shell(
            "gcc-2000-lines",
            Length::Short,
            gcc,
            &[("program.c", &programs::c_source())],
        )
        .must_contain("sum "),
    );
    rows.push(
        Row::shell(
            "perl",
            Length::Short,
            "perl words.pl",
            &[("words.pl", programs::PERL)],
        )
        .must_contain("words "),
    );
    let xz = &[("xz.sh", programs::XZ), ("data.pl", programs::XZ_DATA)];
    rows.push(Row::shell("xz-T4", Length::Short, "sh xz.sh", xz).must_contain("same\n"));
    let git = &[
        ("git.sh", programs::GIT),
        ("history", &programs::git_history()),
    ];
    let git = Row::shell("git-gc", Length::Short, "sh git.sh", git);
    rows.push(git.must_contain("commits 400\n"));
    for (name, length, count, bytes) in [
        ("sqlite3-10MB", Length::Short, 42_000, 10_000_000),
        ("sqlite3-100MB", Length::Long, 420_000, 100_000_000),
    ] {
        let sql = programs::sql(count, bytes);
        let line = "sqlite3 base.db < build.sql";
        let sqlite = Row::shell(name, length, line, &[("build.sql", &sql)]);
        rows.push(sqlite.must_contain("large enough\nok\n"));
    }
    let redis = format!("sh redis.sh {}", free_port()?);
    let redis = Row::shell(
        "redis-1000000",
        Length::Long,
        &redis,
        &[("redis.sh", programs::REDIS)],
    );
    rows.push(redis.must_contain("benchmark complete\n"));

    let line = format!("{python3} limit.py");
    let limit = Row::shell(
        "limit-python",
        Length::Short,
        &line,
        &[("limit.py", programs::LIMIT_PYTHON)],
    );
    rows.push(limit.limited("64M", "MemoryError\n1048576 bytes are fine\n"));
    let line = "gcc -O0 -o limit limit.c && exec ./limit";
    let limit = Row::shell(
        "limit-c",
        Length::Short,
        line,
        &[("limit.c", programs::LIMIT_C)],
    );
    rows.push(limit.limited(
        "64M",
        "malloc: NULL, ENOMEM\n\
         calloc: NULL, ENOMEM\n\
         realloc: NULL, ENOMEM, old kept\n\
         blocks: some, then ENOMEM\n\
         goes on\n",
    ));
    Ok(rows)
}

/// A TCP port of the loopback interface that is free now.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("no loopback interface")?;
    Ok(listener.local_addr()?.port())
}
