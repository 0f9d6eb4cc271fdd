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
//! | `serving` | what the connections of a host get |
//! | `line` | how it reaches its host |
//! | `workload`, `executions` | what GenVM does, step by step; whole executions |
//! | `rival` | what transports are compared with: GenVM's present client, HTTP, other people's IPC |
//! | `floor` | what two cores can do at best: pass a line, copy bytes |
//! | `stats` | medians, and histograms that travel between processes |
//! | `process` | CPU time, affinity, and children that do not outlive us |
//! | `matrix` | what is compared: ways to reach a host, in situations |
//! | `slice` | a few milliseconds of calls |
//! | `worker` | the two measured processes |
//! | `visit` | all ways in one situation, taking turns |
//! | `rows` | from slices to rows, by distance of the cores |
//! | `neighbours` | others who want a core |
//! | `interval`, `baseline` | how sure a median is; whether a build is slower than a recorded one |
//! | `compare` | the verb: rounds of visits |
//! | `show`, `table` | rows for programs and for people |
//! | `bench` | the doorway of the suites in `benches/` |
//! | `study` | one design question each, by itself |
//! | `record` | the verb that makes a directory of results |
//! | `report` | the verb that makes pages and plots of it |
//! | `advise` | the verb that says what would pay |
//! | `host`, `replay` | the verbs for other people's programs |
//! | `manual` | the verb for packagers |
//! | `doctor` | the verb that says what disturbs a measurement here, and what does not work |
//! | `machine` | where the numbers come from |

mod advise;
mod baseline;
#[doc(hidden)]
pub mod bench;
mod calls;
pub mod cli;
mod compare;
mod data;
mod doctor;
mod executions;
mod floor;
mod host;
mod interval;
mod line;
mod machine;
mod manual;
mod matrix;
mod model;
mod neighbours;
mod player;
mod process;
mod record;
mod replay;
mod report;
mod rival;
mod rows;
mod serving;
mod show;
mod slice;
mod stats;
mod study;
mod table;
mod trace;
mod visit;
mod worker;
mod workload;
