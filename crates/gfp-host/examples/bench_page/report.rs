//! Medians, ratios, targets; as a table or as JSON.

use crate::SETTINGS;
use crate::options::{Options, Size};
use crate::rows::{FLAT_TARGET, Figure, Memory, Row, SCALING_TARGET, State};
use crate::work::DECILES;

/// The samples of all rounds of one thread and one side.
pub(crate) type Times = Vec<Vec<f64>>;

/// What one piece of work took with one number of threads.
pub(crate) struct Measured {
    threads: usize,
    /// Name, and the median of each sample. gfp is first, the locked compare-and-exchange second.
    sides: Vec<(&'static str, Vec<f64>)>,
}

impl Measured {
    pub(crate) fn new(
        threads: usize,
        names: impl Iterator<Item = &'static str>,
        all: Vec<Vec<Times>>,
    ) -> Measured {
        let side = |(at, name)| {
            let rounds: Vec<&Vec<f64>> = all.iter().flat_map(|thread| &thread[at]).collect();
            let samples = rounds.first().map_or(0, |round| round.len());
            let of = |sample| median(rounds.iter().map(|round| round[sample]).collect());
            (name, (0..samples).map(of).collect())
        };
        Measured {
            threads,
            sides: names.enumerate().map(side).collect(),
        }
    }

    /// The figure of a row for each side that has one. A floor has one sample for all rows.
    fn figures(&self, figure: Figure) -> Vec<(&'static str, f64)> {
        let of = |(name, medians): &(&'static str, Vec<f64>)| {
            let ns = match (figure, medians.as_slice()) {
                (_, [floor]) => *floor,
                (Figure::Sample(at), all) => *all.get(at)?,
                (Figure::Deciles, all) => all.iter().copied().fold(0.0, f64::max),
            };
            Some((*name, ns))
        };
        match figure {
            // The work of other threads: with one thread only the floors have a sample.
            Figure::Sample(at) if at > 0 && self.sides[0].1.len() <= at => Vec::new(),
            _ => self.sides.iter().filter_map(of).collect(),
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

pub(crate) struct Printer {
    json: bool,
    quick: bool,
    targets: usize,
    met: usize,
}

impl Printer {
    pub(crate) fn new(options: &Options) -> Printer {
        Printer {
            json: options.json,
            quick: options.scale == Size::Quick,
            targets: 0,
            met: 0,
        }
    }

    /// Says what is about to be made, which can take a while.
    pub(crate) fn progress(&self, memory: &Memory) {
        let state = match memory.state {
            State::Fresh => "",
            State::Fragmented => ", half of its frames free by chance",
        };
        if self.json {
            return eprintln!("{} GiB{state}", memory.gib);
        }
        println!("\n{} GiB{state}; ns an operation", memory.gib);
        println!(
            "{:<20} {:>3} {:>9} {:>9} {:>7} {:>7}      peers: ns (gfp to it)",
            "row", "thr", "gfp", "cmpxchg", "ratio", "target"
        );
    }

    /// One row with one number of threads.
    pub(crate) fn row(&mut self, row: &Row, measured: &Measured, memory: Memory) {
        let figures = measured.figures(row.figure);
        let [(_, ours), (_, cmpxchg), peers @ ..] = figures.as_slice() else {
            return;
        };
        let threads = measured.threads;
        let target = row.target.filter(|_| threads >= row.from);
        let ratio = ours / cmpxchg;
        let verdict = target.map(|target| self.judge(ratio <= target));
        if self.json {
            for (at, (peer, ns)) in figures[1..].iter().enumerate() {
                let target = match (at, target) {
                    (0, Some(target)) => {
                        format!(",\"target\":{target},\"met\":{}", ratio <= target)
                    }
                    _ => String::new(),
                };
                println!(
                    "{{\"bench\":\"{}\",\"threads\":{threads},\"ours_ns\":{ours:.2},\"peer\":\
                     \"{peer}\",\"peer_ns\":{ns:.2},\"ratio\":{:.3}{target},\"gib\":{}{}}}",
                    name(row, memory),
                    ours / ns,
                    memory.gib,
                    self.mark(),
                );
            }
        } else {
            print!(
                "{:<20} {threads:>3} {ours:>9.2} {cmpxchg:>9.2} {ratio:>7.2}",
                name(row, memory)
            );
            match (target, verdict) {
                (Some(target), Some(verdict)) => print!(" {target:>7.2} {verdict:<4}"),
                _ => print!(" {:>7} {:<4}", "-", ""),
            }
            for (peer, ns) in peers {
                print!("  {} {ns:.1} ({:.2})", short(peer), ours / ns);
            }
            println!();
        }
        if row.figure == Figure::Deciles {
            self.deciles(row, measured, memory);
        }
    }

    /// How flat the tenths are, of each side.
    fn deciles(&mut self, row: &Row, measured: &Measured, memory: Memory) {
        for (at, (side, medians)) in measured.sides.iter().enumerate() {
            if medians.len() != DECILES {
                continue;
            }
            let flat = medians[DECILES - 1] / medians[0];
            let verdict = (at == 0).then(|| self.judge(flat <= FLAT_TARGET));
            if self.json {
                let deciles: Vec<_> = medians.iter().map(|ns| format!("{ns:.2}")).collect();
                let target = match at {
                    0 => format!(",\"target\":{FLAT_TARGET},\"met\":{}", flat <= FLAT_TARGET),
                    _ => String::new(),
                };
                println!(
                    "{{\"bench\":\"{}-flat\",\"threads\":{},\"side\":\"{side}\",\"deciles_ns\":\
                     [{}],\"last_to_first\":{flat:.3}{target}{}}}",
                    name(row, memory),
                    measured.threads,
                    deciles.join(","),
                    self.mark(),
                );
            } else {
                let deciles: Vec<_> = medians.iter().map(|ns| format!("{ns:.0}")).collect();
                let target = match verdict {
                    Some(verdict) => format!(", target {FLAT_TARGET} {verdict}"),
                    None => String::new(),
                };
                println!(
                    "    tenths of {}: {}; last to first {flat:.2}{target}",
                    short(side),
                    deciles.join(" "),
                );
            }
        }
    }

    /// How much more is done in the same time by 4 threads than by one.
    pub(crate) fn scaling(&mut self, row: &Row, by_threads: &[Measured], memory: Memory) {
        let find = |threads| by_threads.iter().find(|m| m.threads == threads);
        let (Some(one), Some(four)) = (find(1), find(4)) else {
            return;
        };
        let (one, four) = (one.figures(row.figure), four.figures(row.figure));
        let mut line = String::new();
        for (at, ((side, one), (_, four))) in one.iter().zip(&four).enumerate() {
            let times = 4.0 * one / four;
            let verdict = (at == 0).then(|| self.judge(times >= SCALING_TARGET));
            if self.json {
                let target = match at {
                    0 => format!(
                        ",\"target\":{SCALING_TARGET},\"met\":{}",
                        times >= SCALING_TARGET
                    ),
                    _ => String::new(),
                };
                println!(
                    "{{\"bench\":\"{}-scaling\",\"threads\":4,\"side\":\"{side}\",\
                     \"times_one_thread\":{times:.2}{target}{}}}",
                    name(row, memory),
                    self.mark(),
                );
            }
            line += &match verdict {
                Some(verdict) => format!(" gfp {times:.2}, target {SCALING_TARGET} {verdict};"),
                None => format!(" {} {times:.2}", short(side)),
            };
        }
        if !self.json && !one.is_empty() {
            println!("    4 threads do, in times one thread:{line}");
        }
    }

    fn judge(&mut self, met: bool) -> &'static str {
        self.targets += 1;
        self.met += usize::from(met);
        if met { "met" } else { "MISS" }
    }

    /// Figures of a quick run say so.
    fn mark(&self) -> &'static str {
        if self.quick { ",\"quick\":true" } else { "" }
    }

    pub(crate) fn end(&self) {
        if self.json {
            return;
        }
        println!(
            "\n{} of {} targets met. {SETTINGS}.",
            self.met, self.targets
        );
        if self.quick {
            println!("A quick run shows that everything works; it measures nothing.");
        }
    }
}

/// A row that is named after its memory says how much there was.
fn name(row: &Row, memory: Memory) -> String {
    let size = match memory.gib {
        1024 => "1tib".into(),
        gib => format!("{gib}gib"),
    };
    row.name.replace("1tib", &size)
}

fn short(side: &str) -> &str {
    match side {
        "percpu-stack" => "stack",
        "locked-cmpxchg" => "cmpxchg",
        "frame-alloc" => "fa",
        "frame-alloc-cached" => "fa-cached",
        "buddy_system_allocator" => "buddy",
        other => other,
    }
}
