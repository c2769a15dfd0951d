//! The parts of the shop that stay the same during a stream.
//!
//! For: what the makers of logs, metrics and activity share. Not for: what changes ([`crate::world`]).

use crate::catalog::Catalog;
use crate::topology::Fleet;
use crate::visitor::Users;

/// How far the event time of a record may be behind its send time if it is not late: requests take up to 6 s, and
/// agents send with a delay.
pub const DELAY_MICROS_MAX: i64 = 10_000_000;

/// Fleet, texts and users.
#[derive(Debug)]
pub(crate) struct Shop {
    pub(crate) fleet: Fleet,
    pub(crate) catalog: Catalog,
    pub(crate) users: Users,
}
