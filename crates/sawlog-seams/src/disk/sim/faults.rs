//! Planned failures of the simulated disk, and the count of its calls.
//!
//! For: deciding whether a call fails. Not for: what a failing call leaves behind ([`super::state`]).

use std::io::{self, ErrorKind};

/// An operation of [`Disk`](crate::Disk) or [`DiskFile`](crate::DiskFile).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is named like its method")]
pub enum DiskOp {
    CreateDirAll,
    CreateNew,
    Open,
    Exists,
    Read,
    List,
    Rename,
    Remove,
    SyncDir,
    Append,
    ReadAt,
    SyncData,
    SetLen,
    Len,
}

const OP_COUNT: usize = DiskOp::Len as usize + 1;

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// ENOSPC.
    DiskFull,
    /// EIO.
    Io,
}

impl Fault {
    fn error(self) -> io::Error {
        match self {
            Self::DiskFull => io::Error::new(ErrorKind::StorageFull, "simulated full disk"),
            Self::Io => io::Error::other("simulated i/o error"),
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Plan {
    AtCall { call: u64, fault: Fault },
    AtOp { op: DiskOp, op_call: u64, fault: Fault },
    Every { op: DiskOp, fault: Fault },
}

#[derive(Debug, Default)]
pub(super) struct Faults {
    calls: u64,
    op_calls: [u64; OP_COUNT],
    plans: Vec<Plan>,
    power_off_at: Option<u64>,
    is_off: bool,
}

impl Faults {
    pub(super) fn fail_nth_call(&mut self, n: u64, fault: Fault) {
        let call = self.calls + n;
        self.plans.push(Plan::AtCall { call, fault });
    }

    pub(super) fn fail_nth(&mut self, op: DiskOp, n: u64, fault: Fault) {
        let op_call = self.calls_of(op) + n;
        self.plans.push(Plan::AtOp { op, op_call, fault });
    }

    pub(super) fn fail_all(&mut self, op: DiskOp, fault: Fault) {
        self.plans.push(Plan::Every { op, fault });
    }

    pub(super) fn clear(&mut self) {
        self.plans.clear();
    }

    pub(super) fn power_off_at_call(&mut self, n: u64) {
        self.power_off_at = Some(self.calls + n);
    }

    pub(super) fn turn_off(&mut self) {
        self.is_off = true;
    }

    pub(super) fn is_off(&self) -> bool {
        self.is_off
    }

    pub(super) fn calls(&self) -> u64 {
        self.calls
    }

    pub(super) fn calls_of(&self, op: DiskOp) -> u64 {
        self.op_calls[op as usize]
    }

    /// Counts one call and says whether it may run.
    pub(super) fn check(&mut self, op: DiskOp) -> io::Result<()> {
        self.calls += 1;
        self.op_calls[op as usize] += 1;
        self.is_off |= self.power_off_at == Some(self.calls);
        if self.is_off {
            return Err(io::Error::other("simulated disk has no power"));
        }
        let (calls, op_calls) = (self.calls, self.calls_of(op));
        let due = self.plans.iter().find_map(|plan| match *plan {
            Plan::AtCall { call, fault } if call == calls => Some(fault),
            Plan::AtOp { op: of, op_call, fault } if of == op && op_call == op_calls => Some(fault),
            Plan::Every { op: of, fault } if of == op => Some(fault),
            _not_due => None,
        });
        due.map_or(Ok(()), |fault| Err(fault.error()))
    }
}
