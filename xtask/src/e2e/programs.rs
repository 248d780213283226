//! Generated inputs. All of them are the same on each run, so that outputs can be compared byte by
//! byte.

use std::fmt::Write;

/// Lines that the generated C program has at least.
const C_LINES: usize = 2_000;

/// A C program of 2,000 lines: many small functions over heap memory, and a checksum at the end.
pub(super) fn c_source() -> String {
    let mut text = String::from(
        "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n\
         struct node { struct node *next; unsigned long value; };\n",
    );
    let mut functions = 0;
    while text.lines().count() < C_LINES - 40 {
        let (n, step, mul) = (
            functions,
            3 + functions % 17,
            2654435761u64 + 2 * functions as u64,
        );
        let _ = write!(
            text,
            "static unsigned long f{n}(unsigned long seed)\n{{\n\
             \x20   size_t count = {count};\n\
             \x20   unsigned long *values = malloc(count * sizeof *values), sum = 0;\n\
             \x20   struct node *list = NULL;\n\
             \x20   if (values == NULL)\n        abort();\n\
             \x20   for (size_t i = 0; i < count; i++) {{\n\
             \x20       values[i] = (seed + i * {step}) * {mul}ul;\n\
             \x20       struct node *node = calloc(1, sizeof *node);\n\
             \x20       if (node == NULL)\n            abort();\n\
             \x20       node->next = list;\n        node->value = values[i] >> {shift};\n\
             \x20       list = node;\n    }}\n\
             \x20   values = realloc(values, 2 * count * sizeof *values);\n\
             \x20   memcpy(values + count, values, count * sizeof *values);\n\
             \x20   for (size_t i = 0; i < 2 * count; i++)\n        sum ^= values[i] + i;\n\
             \x20   while (list != NULL) {{\n        struct node *next = list->next;\n\
             \x20       sum += list->value;\n        free(list);\n        list = next;\n    }}\n\
             \x20   free(values);\n    return sum;\n}}\n\n",
            count = 50 + n * 37 % 400,
            shift = n % 31,
        );
        functions += 1;
    }
    text.push_str("int main(void)\n{\n    unsigned long sum = 1;\n");
    text.push_str("    for (int round = 0; round < 20; round++) {\n");
    for n in 0..functions {
        let _ = writeln!(text, "        sum = f{n}(sum + {n});");
    }
    text.push_str("    }\n    printf(\"sum %lx\\n\", sum);\n    return 0;\n}\n");
    text
}

pub(super) const PERL: &str = include_str!("inputs/words.pl");
pub(super) const XZ: &str = include_str!("inputs/xz.sh");
pub(super) const XZ_DATA: &str = include_str!("inputs/data.pl");
pub(super) const GIT: &str = include_str!("inputs/git.sh");
pub(super) const REDIS: &str = include_str!("inputs/redis.sh");
pub(super) const LIMIT_PYTHON: &str = include_str!("inputs/limit.py");
pub(super) const LIMIT_C: &str = include_str!("inputs/limit.c");

/// A stream for `git fast-import`: 400 commits over 40 files that grow and change.
pub(super) fn git_history() -> String {
    const COMMITS: usize = 400;
    const FILES: usize = 40;
    let mut contents = vec![String::new(); FILES];
    let mut stream = String::new();
    let mut x: u32 = 99;
    for commit in 1..=COMMITS {
        let file = commit * 7 % FILES;
        for line in 0..40 {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let _ = writeln!(contents[file], "commit {commit} line {line} value {x:08x}");
        }
        let message = format!("change {commit}");
        let _ = write!(
            stream,
            "commit refs/heads/main\ncommitter A <a@example.org> {} +0000\ndata {}\n{message}\n",
            1_600_000_000 + commit * 60,
            message.len(),
        );
        let text = &contents[file];
        let _ = write!(
            stream,
            "M 100644 inline file{file}.txt\ndata {}\n{text}\n",
            text.len()
        );
    }
    stream
}

/// A table of `rows` rows with about 240 bytes each, two indexes, and queries over it; at the end
/// the database says whether it has `bytes` bytes.
pub(super) fn sql(rows: u32, bytes: u32) -> String {
    const TEMPLATE: &str = include_str!("inputs/build.sql");
    TEMPLATE
        .replace("@ROWS@", &rows.to_string())
        .replace("@BYTES@", &bytes.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_c_program_has_its_lines_and_is_the_same_each_time() {
        let source = c_source();
        let lines = source.lines().count();
        assert!((C_LINES..C_LINES + 300).contains(&lines), "{lines} lines");
        assert_eq!(source, c_source());
    }

    #[test]
    fn sql_has_its_numbers() {
        let sql = sql(10, 100_000_000);
        assert!(
            sql.contains("x < 10)") && sql.contains(">= 100000000 THEN"),
            "{sql}"
        );
        assert!(!sql.contains('@'), "{sql}");
    }

    #[test]
    fn the_git_stream_counts_its_bytes() {
        let stream = git_history();
        assert_eq!(stream.matches("commit refs/heads/main\n").count(), 400);
        assert_eq!(stream, git_history());
    }
}
