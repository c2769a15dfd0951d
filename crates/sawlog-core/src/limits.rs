//! Bounds on what one record may hold.
//!
//! For: the limits that every parser keeps, in one place. Not for: limits of requests (body size, rate), which the
//! receiving side sets.

/// Largest record that becomes a row; a longer line is rejected before it is kept.
pub const RECORD_BYTES_MAX: usize = 1 << 20;

/// Largest data of a message of Pub/Sub after decompression: what the service takes, and some more. A record of it over
/// [`RECORD_BYTES_MAX`] is a dead letter, since a message cannot be refused for good.
pub const MESSAGE_BYTES_MAX: usize = 12 << 20;

/// Deepest nesting of a structured record; a deeper one is a dead letter.
pub const NESTING_MAX: usize = 64;

/// Most fields of one record; a record with more is a dead letter.
pub const FIELDS_MAX: usize = 1000;

/// Most problems that one answer lists; the counts go on.
pub const PROBLEMS_MAX: usize = 100;
