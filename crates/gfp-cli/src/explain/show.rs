//! An explanation as text for people and as JSON for programs.

use std::fmt::Write;

use gfp::flags::Gfp;
use gfp::policy::effort::{Effort, Machine, OomRule, Warn};
use serde::Serialize;

use super::facts::{self, Said};
use super::steps;

/// What is known about a request. The names of the fields are the keys of the JSON object.
#[derive(Debug, Serialize)]
pub(super) struct Explanation {
    /// The word as a trace prints it, with scopes and context applied.
    gfp: String,
    /// The word that was asked for.
    asked: String,
    /// Its value, `0xcc0`.
    value: String,
    order: u32,
    context: &'static str,
    scopes: Vec<&'static str>,
    level: u8,
    may_sleep: bool,
    wake_background: bool,
    /// `none`, `one round`, `until no progress`, `for ever`.
    direct_reclaim: &'static str,
    /// `none`, or the highest priority: `async`, `sync-light`, `sync-full`.
    compaction: &'static str,
    oom_kill: bool,
    may_fail: bool,
    warn: bool,
    /// Reclaim for it may start I/O.
    io: bool,
    /// Reclaim for it may call into file systems.
    fs: bool,
    accounted: bool,
    /// How far down it may look at most: `min`, `37.5 % of min`, `none`.
    watermark: String,
    /// What it may take that is kept for others.
    reserves: Vec<Said>,
    zones: Vec<&'static str>,
    mobility: &'static str,
    /// What is wrong with the request.
    wrong: Vec<Said>,
    steps: Vec<Said>,
    #[serde(skip)]
    head: Option<Said>,
    #[serde(skip)]
    sections: Vec<(&'static str, Vec<Said>)>,
}

impl Explanation {
    /// `asked` is the request as it stands, `effort` as it is served.
    pub(super) fn of(asked: &Effort, effort: &Effort, machine: &Machine) -> Explanation {
        let (io, fs) = facts::io_fs(effort);
        let scopes = gfp::policy::effort::Scopes::NAMED
            .into_iter()
            .filter(|(_, scope)| effort.caller.scopes.contains(*scope));
        let mut sections = Vec::new();
        if !effort.refused {
            sections.push(("Where", facts::place(effort, machine)));
            sections.push(("May", facts::may(effort)));
        }
        sections.push(("Fails", vec![facts::fails(effort)]));
        sections.push(("Warns", facts::warns(effort)));
        Explanation {
            gfp: effort.gfp.to_string(),
            asked: asked.asked.to_string(),
            value: format!("{:#x}", asked.asked.bits()),
            order: effort.order,
            context: effort.caller.context.name(),
            scopes: scopes.map(|(name, _)| name).collect(),
            level: effort.level as u8,
            may_sleep: effort.may_sleep(),
            wake_background: effort.wake_background,
            direct_reclaim: facts::direct_reclaim(effort),
            compaction: facts::compaction(effort),
            oom_kill: effort.oom == OomRule::Kill,
            may_fail: effort.may_fail,
            warn: effort.may_fail && effort.warn == Warn::Report,
            io,
            fs,
            accounted: effort.gfp.contains(Gfp::ACCOUNT),
            watermark: facts::mark(facts::lowest(effort)),
            reserves: facts::reserves(effort),
            zones: facts::zones(effort, machine),
            mobility: facts::mobility(effort),
            wrong: facts::wrong(asked),
            steps: steps::steps(effort),
            head: (!effort.refused).then(|| facts::level(effort)),
            sections,
        }
    }

    pub(super) fn json(&self) -> String {
        let text = serde_json::to_string_pretty(self).expect("strings and numbers only");
        text + "\n"
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        let pages = 1u64 << self.order;
        let size = match pages * 4 {
            kib if kib < 1024 => format!("{kib} KiB"),
            kib => format!("{} MiB", kib / 1024),
        };
        let plural = if pages == 1 { "page" } else { "pages" };
        let order = self.order;
        let _ = write!(
            text,
            "{} ({}), order {order} ({pages} {plural}, {size})",
            self.asked, self.value
        );
        let _ = writeln!(text, ", context {}", self.context);
        for scope in &self.scopes {
            let _ = writeln!(text, "inside a scope: {scope} (P150)");
        }
        if self.gfp != self.asked {
            let _ = writeln!(text, "goes on as {} (P29, P49-P51, P150, P154)", self.gfp);
        }
        section(&mut text, "Wrong", &self.wrong);
        if let Some(head) = &self.head {
            let _ = writeln!(text, "\n{}", Line(head));
        }
        for (title, lines) in &self.sections {
            section(&mut text, title, lines);
        }
        section(&mut text, "Reserves", &self.reserves);
        let _ = writeln!(
            text,
            "\nSteps, each only where the one before it did not help"
        );
        for (i, step) in self.steps.iter().enumerate() {
            let _ = writeln!(text, "  {:>2}. {}", i + 1, Line(step));
        }
        text
    }
}

fn section(text: &mut String, title: &str, lines: &[Said]) {
    if lines.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n{title}");
    for line in lines {
        let _ = writeln!(text, "  {}", Line(line));
    }
}

/// A sentence with its rule behind it.
struct Line<'a>(&'a Said);

impl std::fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.0.what, self.0.rule)
    }
}
