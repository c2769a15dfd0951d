//! Event streams of an invented shop: realistic, seeded, the same bytes for ever.
//!
//! For: demos, benches and tests. Not for: sending (the caller paces the records by their send times) or reading a
//! clock (stream time starts where the scenario says). There is no I/O here.
//!
//! ```
//! use sawlog_generate::{Generator, Kind, Scenario};
//!
//! let mut generator = Generator::new(Scenario { seed: 7, ..Scenario::demo() })?;
//! let mut line = Vec::new();
//! let generated = generator.next_into(&mut line);
//! assert!(generated.kind != Kind::Log || line.starts_with(b"{\"timestamp\":\"2026-01-0"));
//! # Ok::<(), sawlog_generate::ScenarioError>(())
//! ```
//!
//! A stream is a function of its [`Scenario`]: own generators of random numbers, own logarithms, no hash maps with
//! random order. A change that alters the bytes of a seed changes the golden hashes in `tests/stream.rs`.

mod catalog;
mod generator;
mod incident;
mod journey;
mod malform;
mod math;
mod metrics;
mod quota;
mod record;
mod replay;
mod request;
mod rhythm;
mod rng;
mod scenario;
mod shop;
mod template;
mod text;
mod topology;
mod visitor;
mod world;
mod write;

pub use generator::{Counts, Defect, Generated, Generator, Kind, LATE_MICROS_MAX, LATE_MICROS_MIN};
pub use incident::{Incident, IncidentKind};
pub use malform::MalformedKind;
pub use scenario::{
    DEFECT_RATIO_MAX, EVENTS_PER_SECOND_MAX, EVENTS_PER_SECOND_MIN, Format, Mix, START_MICROS_MAX, START_MICROS_MIN,
    Scenario, ScenarioError, USERS_MAX,
};
pub use shop::DELAY_MICROS_MAX;
