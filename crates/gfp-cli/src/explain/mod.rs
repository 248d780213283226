//! `gfp explain`: what a flag word does, in words.
//!
//! 1. **Order.** The expression is parsed; a mistake is shown in place, with the nearest name. The
//!    table of `gfp::policy::effort` says what the request may do; its plan, driven over a machine
//!    on which nothing is gained, says in which order.
//! 2. **Nothing of its own.** No flag is interpreted here: what is printed is what a slow path
//!    would execute. Each line names its rule.
//! 3. **Failure.** An expression that is no flag word: exit status 125. A word that is wrong is
//!    explained all the same, and what is wrong with it is said first.
//!
//! | module | what it knows |
//! |---|---|
//! | [`facts`] | what a request may do: one answer a question |
//! | [`steps`] | what it does, in order |
//! | [`show`] | text for people, JSON for programs |

mod facts;
mod show;
mod steps;
#[cfg(test)]
mod tests;

use std::io::Write;

use clap::{Args, ValueEnum};
use gfp::flags::{Entry, Gfp};
use gfp::policy::context::Context;
use gfp::policy::effort::{Caller, Effort, Machine, Scopes};

use crate::failure::Failure;
use crate::run::End;
use show::Explanation;

/// Say in words what a GFP flag word does
///
/// EXPR is what a trace prints or a C program writes: names with |, &, ~ and parentheses, or a
/// number. The plan is that of a machine with reclaim, compaction and an OOM killer, as of
/// Linux 7.0. Each line names the rule that it follows from.
#[derive(Debug, Args)]
#[command(after_long_help = AFTER_EXPLAIN, verbatim_doc_comment)]
pub(crate) struct ExplainArgs {
    /// The flag word
    #[arg(value_name = "EXPR", allow_hyphen_values = true)]
    expression: String,

    /// Of a request for 2^N pages
    #[arg(long, value_name = "N", default_value = "0",
          value_parser = clap::value_parser!(u32).range(0..=30))]
    order: u32,

    /// Where the request comes from
    #[arg(long, value_enum, default_value = "task")]
    context: ContextName,

    /// Inside this scope; may be given several times
    #[arg(long, value_enum, value_name = "SCOPE", value_delimiter = ',')]
    scope: Vec<ScopeName>,

    /// One JSON object
    #[arg(long)]
    json: bool,
}

const AFTER_EXPLAIN: &str = "\
Examples:
  gfp explain GFP_ATOMIC
  gfp explain 'GFP_KERNEL|__GFP_NORETRY' --order 4
  gfp explain 'GFP_KERNEL & ~__GFP_FS' --scope noio --json
  gfp explain GFP_KERNEL --context irq            # says what is wrong with that
  gfp explain 0x1c20ca --order 9                  # a number from a trace

Exit status: 0, or 125 if EXPR is not a flag word.";

#[derive(Copy, Clone, Debug, ValueEnum)]
enum ContextName {
    /// A task that may sleep
    Task,
    /// A task that holds a spin lock
    Atomic,
    /// A deferred interrupt
    Softirq,
    /// A hardware interrupt
    Irq,
    /// A non-maskable interrupt, or a signal handler
    Nmi,
}

impl ContextName {
    const fn context(self) -> Context {
        match self {
            ContextName::Task => Context::Task,
            ContextName::Atomic => Context::Atomic,
            ContextName::Softirq => Context::SoftIrq,
            ContextName::Irq => Context::HardIrq,
            ContextName::Nmi => Context::Nmi,
        }
    }
}

#[derive(Copy, Clone, Debug, ValueEnum)]
enum ScopeName {
    /// Reclaim must not start I/O
    Noio,
    /// Reclaim must not enter file systems
    Nofs,
    /// The caller frees memory itself
    Noreclaim,
    /// The memory will be pinned
    Pin,
}

impl ScopeName {
    const fn scope(self) -> Scopes {
        match self {
            ScopeName::Noio => Scopes::NOIO,
            ScopeName::Nofs => Scopes::NOFS,
            ScopeName::Noreclaim => Scopes::NORECLAIM,
            ScopeName::Pin => Scopes::PIN,
        }
    }
}

/// Explains, on standard output.
pub(crate) fn run(args: &ExplainArgs) -> Result<End, Failure> {
    let text = explain(args)?;
    // A reader that has seen enough is nobody's failure.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(End::Status(0))
}

fn explain(args: &ExplainArgs) -> Result<String, Failure> {
    let gfp: Gfp = args
        .expression
        .parse()
        .map_err(|error: gfp::flags::ParseError| Failure::own(error.annotate(&args.expression)))?;
    let scopes = args.scope.iter().map(|name| name.scope());
    let caller = Caller {
        scopes: scopes.fold(Scopes::NONE, Scopes::with),
        ..Caller::in_context(args.context.context())
    };
    let asked = Effort::of(gfp, args.order, &caller, &Machine::LINUX);
    // A word that gfp refuses is explained as Linux would go on with it.
    let served = match gfp.check() {
        Ok(()) => gfp,
        Err(_) => gfp.sanitize_for(Entry::Pages).0,
    };
    let effort = Effort::of(served, args.order, &caller, &Machine::LINUX);
    let explanation = Explanation::of(&asked, &effort, &Machine::LINUX);
    Ok(if args.json {
        explanation.json()
    } else {
        explanation.text()
    })
}
