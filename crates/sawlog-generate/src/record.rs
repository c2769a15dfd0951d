//! Records before they are text.
//!
//! For: everything that one record says, borrowed from the tables it comes from. Not for: deciding what it says
//! ([`crate::request`], [`crate::journey`], [`crate::metrics`]) or writing it ([`crate::write`]).

use crate::catalog::Exception;
use crate::rng::mix2;
use crate::template::{Template, Values};
use crate::topology::Host;
use crate::visitor::{Address, UserAgent, Visitor};
use crate::world::Version;

/// Severity of a log record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Severity {
    Debug,
    Info,
    Warn,
    Error,
}

impl Severity {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Error => "ERROR",
        }
    }
}

/// Event time of a record; with a wrong text for records that shall be malformed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamp {
    pub(crate) micros: i64,
    pub(crate) wrong_text: Option<&'static str>,
}

/// Unique for each record of a stream, because [`crate::rng::mix`] is a bijection of the sequence number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InsertId {
    pub(crate) stream: u64,
    pub(crate) record: u64,
}

impl InsertId {
    pub(crate) const fn new(seed: u64, sequence: u64) -> Self {
        let stream = mix2(seed, 0x1D);
        Self { stream, record: mix2(stream, sequence) }
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Trace {
    pub(crate) high: u64,
    pub(crate) low: u64,
    pub(crate) span: u64,
}

/// What only the gateway knows of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Edge {
    pub(crate) user_agent: &'static UserAgent,
    pub(crate) client: Address,
    pub(crate) request_bytes: u32,
    pub(crate) response_bytes: u32,
    pub(crate) referrer: Option<&'static str>,
}

/// The request that a record belongs to; method and path are in the record's [`Values`].
#[derive(Clone, Copy, Debug)]
pub(crate) enum Http<'a> {
    /// As the gateway saw it.
    Edge(Edge),
    /// As an inner service saw it: who called.
    Inner { caller: &'a Host },
}

/// A field that only some records have.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Extra {
    CacheHit(bool),
    Attempt(u8),
    Thread(&'static str, u8),
    QueueDepth(u16),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct LogRecord<'a> {
    pub(crate) time: Stamp,
    pub(crate) severity: Severity,
    pub(crate) message: &'a Template,
    pub(crate) values: Values<'a>,
    pub(crate) host: &'a Host,
    pub(crate) version: Version,
    pub(crate) logger: &'static str,
    pub(crate) trace: Option<Trace>,
    pub(crate) insert_id: Option<InsertId>,
    pub(crate) visitor: Option<Visitor>,
    pub(crate) http: Option<Http<'a>>,
    pub(crate) exception: Option<&'a Exception>,
    pub(crate) extra: Option<Extra>,
}

/// Value of a metric.
#[derive(Clone, Copy, Debug)]
pub(crate) enum MetricValue {
    Whole(u64),
    /// In ten-thousandths.
    Fraction(u64),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct MetricRecord<'a> {
    pub(crate) time: Stamp,
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) is_sum: bool,
    pub(crate) value: MetricValue,
    pub(crate) host: &'a Host,
    pub(crate) version: Version,
}

/// What an activity event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topic {
    Page,
    Search,
    Product,
    Cart,
    Order,
    Account,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct ActivityRecord<'a> {
    pub(crate) time: Stamp,
    pub(crate) event: &'static str,
    pub(crate) topic: Topic,
    pub(crate) visitor: Visitor,
    /// The page; subject and user are in the values.
    pub(crate) values: Values<'a>,
    pub(crate) referrer: Option<&'static str>,
    pub(crate) cart_items: u8,
    /// Status of the request that the event met, if that failed.
    pub(crate) error_status: Option<u16>,
    pub(crate) insert_id: Option<InsertId>,
    pub(crate) host: &'a Host,
    pub(crate) version: Version,
}
