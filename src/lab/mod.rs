//! The measuring lab behind `transport-lab`: recorded executions as workloads, a host and a GenVM side as separate processes, and
//! one table that compares them. Uses the public API of this crate only, as any other program would.
//!
//! | file | what it does |
//! | --- | --- |
//! | `cli` | the verbs and their options |
//! | `trace` | recorded executions, built in or from a file |
//! | `data` | the bytes behind a trace: addresses, slots and contents, all functions of their place |
//! | `calls`, `player` | plays executions through a `HostClient`, with or without a cache of pages |
//! | `model` | what storage must contain, independently of `HostState` |
//! | `floor` | one cache line between two cores |
//! | `stats` | medians, and histograms that travel between processes |
//! | `process` | CPU time, affinity, and children that do not outlive us |
//! | `matrix` | what is compared: transports, waits, hosts, workloads, placements |
//! | `worker` | the two measured processes |
//! | `compare`, `table` | rounds, rows, and how they are shown |
//! | `host`, `replay` | the verbs for other people's programs |
//! | `machine` | where the numbers come from |

mod calls;
pub mod cli;
mod compare;
mod data;
mod floor;
mod host;
mod machine;
mod matrix;
mod model;
mod player;
mod process;
mod replay;
mod stats;
mod table;
mod trace;
mod worker;
