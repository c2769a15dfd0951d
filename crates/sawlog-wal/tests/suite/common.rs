//! An oracle that remembers what was appended and how it was answered, and checks replays against it.

use bytes::Bytes;
use sawlog_seams::contract::event_log::records_from;
use sawlog_seams::event_log::Damage;
use sawlog_seams::{AppendError, Appended, Disk, EventLog, ManualClock, Position, SeededRng, SimDisk};
use sawlog_wal::{OpenError, RecoveryReport, Wal, WalOptions};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::Duration;

pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
pub(crate) const DIR: &str = "/wal";

/// Small sizes, so that a few frames make several segments.
pub(crate) fn options() -> WalOptions {
    WalOptions { segment_bytes_max: 2048, ..WalOptions::new(DIR) }
}

pub(crate) fn open(disk: &SimDisk) -> Result<(Wal, RecoveryReport), OpenError> {
    open_with(options(), Arc::new(disk.clone()))
}

pub(crate) fn open_with(options: WalOptions, disk: Arc<dyn Disk>) -> Result<(Wal, RecoveryReport), OpenError> {
    Wal::open(options, disk, Arc::new(ManualClock::at_micros(1_700_000_000_000_000)))
}

pub(crate) fn segment_path(start: u64) -> PathBuf {
    PathBuf::from(DIR).join(format!("{start:020}.wal"))
}

/// Paths of the segments, in order.
pub(crate) fn segment_paths(disk: &dyn Disk) -> Vec<PathBuf> {
    let names = disk.list(&PathBuf::from(DIR)).unwrap_or_default();
    let segments = names.into_iter().filter(|name| name.ends_with(".wal"));
    segments.map(|name| PathBuf::from(DIR).join(name)).collect()
}

/// A frame with a number of its own and random content.
pub(crate) fn frame(id: u64, bytes_max: u64) -> Bytes {
    let mut rng = SeededRng::new(id);
    let len = rng.below_usize(usize::try_from(bytes_max).unwrap());
    let mut bytes = id.to_le_bytes().to_vec();
    bytes.extend(rng.bytes(len));
    Bytes::from(bytes)
}

type Outcome = Result<Appended, AppendError>;

/// What is known about every frame ever appended.
#[derive(Default)]
pub(crate) struct Oracle {
    frames: BTreeMap<u64, (Bytes, Outcome)>,
    released: Position,
    next_id: u64,
    pub(crate) frame_bytes_max: u64,
}

impl Oracle {
    pub(crate) fn new() -> Self {
        Self { frame_bytes_max: 400, ..Self::default() }
    }

    /// Appends frames so that all of them are committed as one group, and waits for the answers.
    pub(crate) fn append_group(&mut self, wal: &Wal, count: u64) -> Vec<Outcome> {
        let (gate_entered, entered) = mpsc::channel();
        let (open_gate, gate) = mpsc::channel::<()>();
        let (tx, rx) = mpsc::channel();
        let gate_id = self.next_id;
        let gate_tx = tx.clone();
        // While the writer is inside this answer, the frames behind it gather.
        let gate_done = move |outcome: Outcome| {
            gate_entered.send(()).unwrap();
            let _opened = gate.recv_timeout(DEADLINE);
            gate_tx.send((gate_id, outcome)).unwrap();
        };
        let gate_frame = frame(gate_id, self.frame_bytes_max);
        if wal.stats().is_failed {
            drop(open_gate); // refused on this very thread, which must not wait for itself
            wal.append(gate_frame, Box::new(gate_done));
        } else {
            wal.append(gate_frame, Box::new(gate_done));
            entered.recv_timeout(DEADLINE).expect("every append is answered");
            for id in gate_id + 1..gate_id + count {
                let tx = tx.clone();
                let done = move |outcome| tx.send((id, outcome)).unwrap();
                wal.append(frame(id, self.frame_bytes_max), Box::new(done));
            }
            open_gate.send(()).unwrap();
        }
        drop(tx);
        self.next_id += count;
        let mut outcomes = BTreeMap::new();
        while let Ok((id, outcome)) = rx.recv_timeout(DEADLINE) {
            self.frames.insert(id, (frame(id, self.frame_bytes_max), outcome.clone()));
            assert!(outcomes.insert(id, outcome).is_none(), "answered once");
        }
        outcomes.into_values().collect()
    }

    pub(crate) fn release(&mut self, wal: &Wal, before: Position) {
        self.released = self.released.max(before);
        let _may_fail = wal.release(before);
    }

    /// Position of a random acknowledged frame.
    pub(crate) fn some_position(&self, rng: &mut SeededRng) -> Position {
        let acked: Vec<Appended> = self.acked().map(|(_, appended)| appended).collect();
        acked.get(rng.below_usize(acked.len())).map_or(Position(0), |appended| appended.position)
    }

    pub(crate) fn acked(&self) -> impl Iterator<Item = (u64, Appended)> {
        self.frames.iter().filter_map(|(id, (_, outcome))| Some((*id, *outcome.as_ref().ok()?)))
    }

    /// Every acknowledged frame is there, where it was acknowledged, once; no frame that was reported
    /// as not kept is there; nothing else is there.
    #[track_caller]
    pub(crate) fn check(&self, log: &dyn EventLog) {
        let mut missing: BTreeMap<u64, Appended> =
            self.acked().filter(|(_, appended)| appended.position >= self.released).collect();
        let mut seen = BTreeMap::new();
        let mut last = Position(0);
        for (position, next, bytes) in records_from(log, Position(0)) {
            assert!(position >= last && next > position, "in order");
            last = next;
            let id = u64::from_le_bytes(*bytes.first_chunk().expect("frames hold their number"));
            let (expected, outcome) = self.frames.get(&id).expect("only appended frames are there");
            assert_eq!(bytes, expected, "frame {id} has its bytes");
            assert_eq!(seen.insert(id, position), None, "frame {id} is there once");
            match outcome {
                Ok(appended) => assert_eq!(appended.position, position, "frame {id} has not moved"),
                Err(error) => assert!(error.is_outcome_unknown(), "frame {id} was {error:?}"),
            }
            missing.remove(&id);
        }
        assert!(missing.is_empty(), "acknowledged frames are lost: {missing:?}");
        let acked_end = self.acked().map(|(_, appended)| appended.next).max().unwrap_or_default();
        assert!(log.next_position() >= acked_end, "no position is used twice");
    }

    /// Positions grow with every acknowledgement, also across restarts.
    #[track_caller]
    pub(crate) fn check_order(&self) {
        let acked: Vec<Appended> = self.acked().map(|(_, appended)| appended).collect();
        assert!(acked.windows(2).all(|pair| pair[0].next <= pair[1].position), "{acked:?}");
    }

    /// A crash alone damages nothing that had been acknowledged, so no alarm may be raised.
    #[track_caller]
    pub(crate) fn check_no_alarm(damages: &[Damage]) {
        let alarms: Vec<&Damage> = damages.iter().filter(|damage| damage.cause.is_loss()).collect();
        assert!(alarms.is_empty(), "false alarms: {alarms:?}");
    }
}
