//! From cells of windows to what a watch says: planted incidents, and quiet where nothing happens.

use super::*;
use crate::rollup::{Cell, PaneView, Requests, Rollup};
use crate::window::Window;

const MINUTE: i64 = 60_000_000;
/// A Monday, midnight.
const START: i64 = 1_795_392_000_000_000;

/// A repeatable source of chance.
struct Chance(u64);

impl Chance {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A normal number, by the sum of twelve uniform ones.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }

    /// A count around a mean; normal where the mean is large.
    fn count(&mut self, mean: f64) -> u64 {
        if mean > 50.0 {
            return (mean + mean.sqrt() * self.normal()).round().max(0.0) as u64;
        }
        let (limit, mut product, mut count) = ((-mean).exp(), self.uniform(), 0);
        while product > limit {
            product *= self.uniform();
            count += 1;
        }
        count
    }
}

type Cells = Vec<(Rollup, Vec<Option<String>>, Cell)>;

fn texts<const N: usize>(parts: [&str; N]) -> Vec<Option<String>> {
    parts.iter().map(|part| (!part.is_empty()).then(|| (*part).to_owned())).collect()
}

/// Requests of a service, version and route: their number, errors, and latency in milliseconds around a mean.
fn requests(
    chance: &mut Chance,
    parts: [&str; 3],
    count: u64,
    errors: u64,
    milliseconds: f64,
) -> (Rollup, Vec<Option<String>>, Cell) {
    let mut cell = Requests { count, error_count: errors, request_count: count, ..Requests::default() };
    for _ in 0..count {
        cell.latency.add(milliseconds * 1e3 * (0.4 * chance.normal()).exp());
    }
    (Rollup::Requests, texts(parts), Cell::Requests(Box::new(cell)))
}

fn window(index: i64) -> Window {
    Window { start: START + index * MINUTE, end: START + (index + 1) * MINUTE }
}

fn complete(watch: &mut Watch, index: i64, cells: &Cells) -> Vec<Scored> {
    let panes: Vec<PaneView<'_>> =
        cells.iter().map(|(rollup, parts, cell)| PaneView { rollup: *rollup, parts, cell }).collect();
    watch.complete(window(index), &panes)
}

/// A shop over a day: two services, two versions, two routes each, busier by day.
fn shop(chance: &mut Chance, index: i64) -> Cells {
    let by_day = 1.0 + 0.8 * ((index % 1_440) as f64 / 1_440.0 * std::f64::consts::TAU).sin();
    let mut cells = Vec::new();
    for (service, milliseconds, share) in [("checkout", 80.0, 1.0), ("search", 30.0, 2.0)] {
        for version in ["1.9.1", "1.9.2"] {
            for route in ["/a", "/b"] {
                let count = chance.count(25.0 * share * by_day);
                let errors = (0..count).filter(|_| chance.uniform() < 0.01).count() as u64;
                cells.push(requests(chance, [service, version, route], count, errors, milliseconds));
            }
        }
    }
    cells.retain(|(.., cell)| matches!(cell, Cell::Requests(cell) if cell.count > 0));
    cells
}

#[test]
fn seasonal_noise_over_days() {
    let (mut watch, mut chance) = (Watch::new(WatchOptions::default()), Chance(7));
    let mut scores: Vec<(f64, Signal, i64)> = Vec::new();
    for index in 0..4 * 1_440 {
        let cells = shop(&mut chance, index);
        for found in complete(&mut watch, index, &cells) {
            if found.score > 0.9 {
                scores.push((found.score, found.series.signal, index));
            }
        }
    }
    for threshold in [0.9, 0.95, 0.97, 0.98, 0.985, 0.99, 0.995, 0.999] {
        let by: Vec<_> = Signal::ALL
            .iter()
            .map(|signal| scores.iter().filter(|(score, found, _)| *score >= threshold && found == signal).count())
            .collect();
        println!("{threshold}: {by:?} ");
    }
}
