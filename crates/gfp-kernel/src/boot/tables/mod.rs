//! What firmware says about the machine, read from its tables. Pure: bytes in, values out.
//!
//! 1. **Concepts.** The loader (PVH) leaves a *start info*: command line, modules, a *memory map*
//!    and the address of the ACPI root. ACPI names the CPUs (MADT), says which memory and which CPU
//!    belong together (SRAT), and how far such *domains* are from each other (SLIT). A memory
//!    hot-plug controller tells about memory that came later.
//! 2. **Structures.** [`PhysRead`] shows bytes at a physical address, or says that there are none;
//!    all tables are read through it. [`List`] is an array with a length: nothing can be allocated
//!    before this is done. [`Survey`] is the result.
//! 3. **Algorithms.** A decoder takes a slice and gives a value or an error. The regions of RAM
//!    come from one sweep over the borders of all ranges that anyone named ([`regions`]).
//! 4. **Failure.** Firmware is input. A table that is cut off, has a bad checksum or does not fit
//!    its own lengths is refused as a whole; a wrong entry ends the reading of its table. No input
//!    panics, loops or reads outside of what `PhysRead` shows. In doubt memory is not usable: where
//!    two ranges overlap the one that is not RAM wins.
//! 5. **Not done here.** Looking for tables without a loader's help, AML, anything that writes;
//!    only [`dimm`] talks to a device, through a trait.
//!
//! | module | what |
//! |---|---|
//! | [`span`], [`list`], [`bytes`] | ranges of addresses, arrays with a length, reading numbers |
//! | [`pvh`] | start info, memory map, modules |
//! | [`acpi`] | the root and its tables: MADT, SRAT, SLIT |
//! | [`nodes`] | domains to node numbers, distances |
//! | [`regions`] | the map that the allocator boots with |
//! | [`cmdline`] | the words of the command line |
//! | [`dimm`] | the memory hot-plug controller of QEMU |
//! | [`survey`](mod@survey) | all of it, in order |

pub mod acpi;
pub mod bytes;
pub mod cmdline;
pub mod dimm;
pub mod list;
pub mod nodes;
pub mod pvh;
pub mod regions;
pub mod span;
pub mod survey;

pub use bytes::PhysRead;
pub use list::List;
pub use span::Span;
pub use survey::{Survey, survey};
