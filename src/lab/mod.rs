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
//! | `floor` | what the hardware allows between two cores |
//! | `stats` | medians, and histograms that travel between processes |
//! | `process` | CPU time, affinity, and children that do not outlive us |
//! | `matrix` | what is compared: transports, waits, hosts, workloads, placements |
//! | `worker` | the two measured processes |
//! | `workload`, `slice` | what the GenVM side does, a few milliseconds at a time, between two probes of the floor |
//! | `compare`, `rows`, `table` | rounds, what they come to, and how it is shown |
//! | `study` | one design question each, by itself |
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
mod rows;
mod slice;
mod stats;
mod study;
mod table;
mod trace;
mod worker;
mod workload;
