//! Records that were sent and may be sent again.
//!
//! For: choosing which record a duplicate repeats: half of them seconds old (a retry), half minutes to an hour.
//! Not for: deciding when to repeat ([`crate::Generator`]).

use crate::generator::Generated;
use crate::rhythm::HOUR;
use crate::rng::Rng;

/// Records in each of the two samples, and their mean age in seconds where the rate allows.
const SAMPLES: [(usize, f64); 2] = [(128, 5.0), (1024, 900.0)];
/// A duplicate comes within this time.
const AGE_MAX: i64 = HOUR;
/// Draws before the newest record is taken.
const DRAWS: usize = 8;

/// A record that was sent.
#[derive(Debug)]
struct Sent {
    bytes: Vec<u8>,
    meta: Generated,
}

/// Sample in which the age of records is exponentially distributed.
#[derive(Debug)]
struct Sample {
    size: usize,
    keep_ratio: f64,
    records: Vec<Sent>,
}

/// Samples of the records sent so far.
#[derive(Debug)]
pub(crate) struct Replay {
    samples: [Sample; 2],
}

impl Replay {
    pub(crate) fn new(events_per_second: f64) -> Self {
        let samples = SAMPLES.map(|(size, age)| Sample {
            size,
            keep_ratio: (size as f64 / (events_per_second * age)).min(1.0),
            records: Vec::with_capacity(size),
        });
        Self { samples }
    }

    /// Offers a record for repetition.
    pub(crate) fn offer(&mut self, bytes: &[u8], meta: Generated, rng: &mut Rng) {
        for sample in &mut self.samples {
            if sample.records.len() < sample.size {
                sample.records.push(Sent { bytes: bytes.to_vec(), meta });
            } else if rng.chance(sample.keep_ratio) {
                let place = rng.below(sample.size as u32) as usize;
                let kept = &mut sample.records[place];
                kept.bytes.clear();
                kept.bytes.extend_from_slice(bytes);
                kept.meta = meta;
            }
        }
    }

    /// Appends a record of the last hour to `out` and says which; none if there is none. A record seldom comes
    /// more than twice, unless there are more duplicates than other records.
    pub(crate) fn repeat(&mut self, now: i64, out: &mut Vec<u8>, rng: &mut Rng) -> Option<Generated> {
        let sample = &mut self.samples[usize::from(rng.chance(0.5))];
        let place = sample.draw(now, rng)?;
        let Sent { bytes, meta } = &sample.records[place];
        let meta = *meta;
        out.extend_from_slice(bytes);
        if sample.records.len() > sample.size / 2 && rng.chance(0.8) {
            sample.records.swap_remove(place);
        }
        Some(meta)
    }
}

impl Sample {
    /// Place of a record of the last hour: any, or else the newest.
    fn draw(&self, now: i64, rng: &mut Rng) -> Option<usize> {
        let is_fresh = |place: &usize| now - self.records[*place].meta.send_time_micros <= AGE_MAX;
        let count = self.records.len() as u32;
        let newest = || (0..self.records.len()).max_by_key(|&place| self.records[place].meta.sequence);
        let any = (0..DRAWS).map(|_| rng.below(count) as usize).filter(|_| count > 0).find(is_fresh);
        any.or_else(|| newest().filter(is_fresh))
    }
}
