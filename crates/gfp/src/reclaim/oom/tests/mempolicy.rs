//! Shortages of who is bound to some nodes.

extern crate std;

use super::script::{QUIET, Script, boot_nodes};
use crate::flags::{GFP_ATOMIC, Gfp};
use crate::frame::{NodeId, NodeMask};
use crate::page::MemPolicy;

#[test]
fn a_shortage_of_a_policy_is_named_with_its_nodes() {
    // P432, P601: nobody else's nodes are the reason.
    let mm = boot_nodes(2);
    let script = Script::new(&mm, &[(7, 2000, 0)]);
    let bound = MemPolicy::bind(NodeMask::of(NodeId(1)));
    let pfn = script.run(|| mm.alloc_pages_mpol(&bound, QUIET, 0));
    assert_eq!(mm.pages().node_of(pfn.unwrap()), NodeId(1));
    let reports = script.reports.lock().unwrap();
    let named = "constraint=CONSTRAINT_MEMORY_POLICY,nodemask=1,";
    assert!(reports[0].contains(named), "{}", reports[0]);
    assert!(reports[0].contains("\nNode 1 Normal: "), "{}", reports[0]);
    assert!(!reports[0].contains("Node 0"), "{}", reports[0]);
    // Bound to all nodes that have memory it is limited by nothing.
    let all = MemPolicy::bind(NodeMask::ALL);
    let reports_before = reports.len();
    drop(reports);
    let script = Script::new(&mm, &[(8, 1000, 0)]);
    assert!(script.run(|| mm.alloc_pages_mpol(&all, QUIET, 0)).is_ok());
    assert_eq!(reports_before, 1);
    let reports = script.reports.lock().unwrap();
    assert!(
        reports[0].contains("CONSTRAINT_NONE,nodemask=(null),"),
        "{}",
        reports[0]
    );
}

#[test]
fn a_failure_by_a_policy_names_its_nodes() {
    // P601
    let mm = boot_nodes(2);
    let _script = Script::new(&mm, &[(1, 2000, 0)]);
    while mm.alloc_pages(GFP_ATOMIC | Gfp::NOWARN, 0).is_ok() {}
    let bound = MemPolicy::bind(NodeMask::of(NodeId(0)));
    assert!(mm.alloc_pages_mpol(&bound, GFP_ATOMIC, 0).is_err());
    let failures = mm.platform().failures.lock().unwrap();
    assert!(
        failures[0].contains("(GFP_ATOMIC), nodemask=0\nNode 0 "),
        "{}",
        failures[0]
    );
    assert!(!failures[0].contains("Node 1 "), "{}", failures[0]);
}
