//! What is printed.

use crate::held::Held;
use crate::measure::Measured;
use crate::options::Options;

pub(crate) struct Printer {
    json: bool,
    quick: bool,
}

impl Printer {
    pub(crate) fn new(options: &Options) -> Printer {
        Printer {
            json: options.json,
            quick: options.quick,
        }
    }

    pub(crate) fn head(&self) {
        if self.json {
            return;
        }
        if self.quick {
            println!("A quick run shows that everything works; it measures nothing.");
        }
        println!(
            "{:<16} {:>3} {:<16} {:>9} {:>9} {:>8}",
            "row", "thr", "side", "ns", "cmpxchg", "guests"
        );
    }

    /// One row with one number of threads. The first figure is the floor.
    pub(crate) fn times(&self, row: &str, measured: &Measured) {
        let floor = measured.figures[0].ns;
        let threads = measured.threads;
        for figure in &measured.figures {
            let (side, ns, ratio) = (figure.side, figure.ns, figure.ns / floor);
            if self.json {
                println!(
                    "{{\"bench\":\"{row}\",\"threads\":{threads},\"side\":\"{side}\",\
                     \"ns\":{ns:.2},\"peer\":\"locked-cmpxchg\",\"peer_ns\":{floor:.2},\
                     \"ratio\":{ratio:.3},\"guests\":{:.4}{}}}",
                    figure.guests,
                    self.mark(),
                );
            } else {
                println!(
                    "{row:<16} {threads:>3} {side:<16} {ns:>9.2} {ratio:>9.2} {:>7.1}%",
                    100.0 * figure.guests
                );
            }
        }
    }

    pub(crate) fn held(&self, side: &str, held: &Held) {
        let Held {
            threads,
            pages,
            cpus,
        } = held;
        if self.json {
            println!(
                "{{\"bench\":\"percpu/held\",\"threads\":{threads},\"side\":\"{side}\",\
                 \"pages\":{pages},\"cpus\":{cpus}{}}}",
                self.mark(),
            );
        } else {
            println!("percpu/held      {threads:>3} {side:<16} {pages} pages of {cpus} CPUs");
        }
    }

    pub(crate) fn drain(&self, side: &str, running: usize, us: f64) {
        if self.json {
            println!(
                "{{\"bench\":\"percpu/drain\",\"threads\":{running},\"side\":\"{side}\",\
                 \"us\":{us:.2}{}}}",
                self.mark(),
            );
        } else {
            println!("percpu/drain     {running:>3} {side:<16} {us:>9.2} us");
        }
    }

    /// Figures of a quick run say so.
    fn mark(&self) -> &'static str {
        if self.quick { ",\"quick\":true" } else { "" }
    }
}
