//! Settings of one simulated run, drawn from its seed.

use sawlog_core::rollup::RollupOptions;
use sawlog_core::session::SessionOptions;
use sawlog_core::watermark::WatermarkOptions;
use sawlog_seams::SeededRng;

use crate::stream_state::StreamOptions;

pub(super) const SECOND: i64 = 1_000_000;
pub(super) const MINUTE: i64 = 60 * SECOND;
pub(super) const HOUR: i64 = 60 * MINUTE;
pub(super) const DAY: i64 = 24 * HOUR;

#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    pub(super) stream: StreamOptions,
    /// Length of the dedup window, microseconds.
    pub(super) dedup_window: i64,
    pub(super) dedup_keys_max: u64,
    /// Cells that a frame judges at most.
    pub(super) cells_at_once: usize,
}

impl Options {
    /// Small limits as often as the usual ones, so that every rule comes into play within a few dozen batches.
    pub(super) fn draw(rng: &mut SeededRng) -> Self {
        let mut one_of = |values: &[i64]| values[rng.below_usize(values.len())];
        Self {
            stream: StreamOptions {
                watermark: WatermarkOptions {
                    out_of_orderness: one_of(&[0, SECOND, 5 * SECOND, MINUTE]),
                    idle_timeout: one_of(&[5 * SECOND, 30 * SECOND, 10 * MINUTE]),
                },
                allowed_lateness: one_of(&[0, 20 * SECOND, 2 * MINUTE, HOUR]),
                rollup: RollupOptions { series_max: one_of(&[1, 3, 6, 20_000]) as usize, ..RollupOptions::default() },
                session: SessionOptions {
                    gap: one_of(&[20 * SECOND, 3 * MINUTE, 30 * MINUTE]),
                    length_max: one_of(&[MINUTE, 10 * MINUTE, DAY]),
                },
            },
            dedup_window: one_of(&[10 * MINUTE, HOUR, DAY]),
            dedup_keys_max: one_of(&[1, 2, 6, i64::MAX]) as u64,
            cells_at_once: one_of(&[1, 5, 10_000]) as usize,
        }
    }
}
