//! What the kernel's benchmarks print: one JSON object a line.

use serde::Deserialize;

use crate::failure::Failure;

/// One row.
#[derive(Debug, PartialEq, Deserialize)]
pub(super) struct Row {
    bench: String,
    cpus: u32,
    /// Of one call, or of one pair; a fraction where a batch is shared out
    ours_instructions: f64,
}

/// Reads the rows; one that has another form is an error.
pub(super) fn parse(objects: &[String]) -> Result<Vec<Row>, Failure> {
    let row = |line: &String| {
        serde_json::from_str(line)
            .map_err(|error| Failure::own(format!("a row has another form: {error}: {line}")))
    };
    objects.iter().map(row).collect()
}

/// The rows as a table.
pub(super) fn table(rows: &[Row]) -> String {
    let width = rows.iter().map(|row| row.bench.len()).max().unwrap_or(0);
    let width = width.max("operation".len());
    let mut text = format!("{:<width$}  {:>15}\n", "operation", "instructions");
    for row in rows {
        let count = count(row.ours_instructions);
        text += &format!("{:<width$}  {count:>15}\n", row.bench);
    }
    text + &format!("{} operations, on one CPU\n", rows.len())
}

/// `1234567.891` as `1,234,567.89`.
fn count(number: f64) -> String {
    let digits = format!("{number:.2}");
    let (digits, fraction) = digits.split_at(digits.len() - 3);
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text + fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_a_table() {
        let objects = [
            r#"{"bench":"pair","cpus":1,"ours_instructions":28.50}"#.to_owned(),
            r#"{"bench":"vmalloc_64m","cpus":1,"ours_instructions":3410000.00}"#.to_owned(),
        ];
        let text = table(&parse(&objects).unwrap());
        assert_eq!(
            text,
            "operation       instructions\n\
             pair                   28.50\n\
             vmalloc_64m     3,410,000.00\n\
             2 operations, on one CPU\n"
        );
    }

    #[test]
    fn a_row_of_another_form_is_shown() {
        let wrong = parse(&[r#"{"bench":"pair"}"#.to_owned()]).unwrap_err();
        assert!(
            wrong.message.contains("pair") && wrong.message.contains("cpus"),
            "{wrong:?}"
        );
    }
}
