//! Files that grow, move, shrink and vanish, with stops and kills in between.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;

use proptest::prelude::*;
use sawlog_seams::disk::sim::Fault;
use sawlog_seams::{ManualClock, RealDisk, SimDisk};

use super::*;

/// A folder with logs, a follower, and a pipeline that drops batches whose key it has.
struct World {
    folder: tempfile::TempDir,
    clock: Arc<ManualClock>,
    tail: Tail,
    follower: Follower,
    stored: BTreeMap<String, String>,
    order: Vec<String>,
    oversize: usize,
}

impl World {
    fn new(pattern: &str, starts_at_end: bool) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let clock = Arc::new(ManualClock::at_micros(1_795_489_200_000_000));
        let paths = vec![folder.path().join(pattern).display().to_string()];
        let tail = Tail { paths, format: None, source: "tail".to_owned(), starts_at_end };
        let follower = open(&tail, &folder, &clock);
        Self { folder, clock, tail, follower, stored: BTreeMap::new(), order: Vec::new(), oversize: 0 }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let mut file = OpenOptions::new().create(true).append(true).open(self.path(name)).expect("a log");
        file.write_all(text.as_bytes()).expect("written");
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).expect("renamed");
    }

    fn truncate(&self, name: &str) {
        OpenOptions::new().write(true).truncate(true).open(self.path(name)).expect("truncated");
    }

    /// Looks, and stores what comes, until nothing comes.
    fn catch_up(&mut self) {
        loop {
            self.clock.advance(Duration::from_secs(1));
            let round = self.follower.poll().expect("polled");
            self.oversize += round.oversize.len();
            let is_idle = round.batches.is_empty() && !round.has_more;
            for batch in &round.batches {
                self.store(batch);
                self.follower.acknowledge(batch);
            }
            self.follower.save().expect("saved");
            if is_idle {
                return;
            }
        }
    }

    fn store(&mut self, batch: &Batch) {
        if !self.stored.contains_key(&batch.key) {
            self.order.push(batch.key.clone());
            self.stored.insert(batch.key.clone(), String::from_utf8_lossy(&batch.body).into_owned());
        }
    }

    fn wait(&mut self, time: Duration) {
        self.clock.advance(time);
        self.catch_up();
    }

    fn restart(&mut self) {
        self.follower = open(&self.tail, &self.folder, &self.clock);
    }

    fn text(&self) -> String {
        self.order.iter().map(|key| self.stored[key].as_str()).collect()
    }

    fn remembered(&self) -> Vec<Entry> {
        State::load(&RealDisk, &self.path("tail.json")).expect("a state").files
    }
}

fn open(tail: &Tail, folder: &tempfile::TempDir, clock: &Arc<ManualClock>) -> Follower {
    let clock: Arc<dyn Clock> = Arc::clone(clock) as Arc<dyn Clock>;
    let state = folder.path().join("tail.json");
    Follower::open(vec![tail.clone()], state, Arc::new(RealDisk), clock).expect("a state")
}

#[test]
fn lines_come_once_they_are_whole() {
    let mut world = World::new("*.log", false);
    world.write("a.log", "one\ntw");
    world.catch_up();
    assert_eq!(world.text(), "one\n");
    world.write("a.log", "o\nthree");
    world.catch_up();
    assert_eq!(world.text(), "one\ntwo\n");
    world.wait(RENAMED_QUIET * 2);
    assert_eq!(world.text(), "one\ntwo\n", "a file that is there may go on at any time");
}

#[test]
fn a_renamed_file_is_read_to_its_end_beside_the_new_one() {
    let mut world = World::new("a.log", false);
    world.write("a.log", "one\n");
    world.catch_up();
    world.write("a.log", "two\n");
    world.rename("a.log", "a.log.1");
    world.write("a.log", "three\n");
    world.write("a.log.1", "late\nunended");
    world.catch_up();
    let mut lines: Vec<String> = world.text().lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["late", "one", "three", "two"]);
    world.wait(RENAMED_QUIET);
    assert!(world.text().ends_with("unended"));
    world.wait(RENAMED_QUIET);
    assert_eq!(world.remembered().len(), 1, "the old file is done");
}

#[test]
fn a_truncated_file_is_read_anew_even_with_the_same_lines() {
    let mut world = World::new("a.log", false);
    for _ in 0..3 {
        world.write("a.log", "started\n");
        world.catch_up();
        world.truncate("a.log");
        world.catch_up();
    }
    assert_eq!(world.text(), "started\n".repeat(3));
    world.write("a.log", "x\n");
    world.catch_up();
    world.truncate("a.log");
    world.write("a.log", "longer than it was before\n");
    world.catch_up();
    assert!(world.text().ends_with("x\nlonger than it was before\n"), "{}", world.text());
}

#[test]
fn a_truncated_file_is_known_again_after_a_kill_though_it_has_no_whole_line_yet() {
    let mut world = World::new("a.log", false);
    world.write("a.log", "one\n");
    world.catch_up();
    world.truncate("a.log");
    world.write("a.log", "half of a line");
    world.catch_up();
    world.rename("a.log", "old");
    world.restart();
    world.catch_up();
    world.wait(RENAMED_QUIET);
    assert_eq!(world.text(), "one\nhalf of a line");
}

#[test]
fn a_deleted_file_is_read_to_its_end_and_forgotten() {
    let mut world = World::new("a.log", false);
    world.write("a.log", "one\n");
    world.catch_up();
    world.write("a.log", "two\nunended");
    fs::remove_file(world.path("a.log")).expect("removed");
    world.catch_up();
    assert_eq!(world.text(), "one\ntwo\n");
    world.wait(DELETED_QUIET);
    world.wait(DELETED_QUIET);
    assert_eq!(world.text(), "one\ntwo\nunended");
    assert!(world.remembered().is_empty());
}

#[test]
fn a_restart_goes_on_at_the_byte_and_a_kill_repeats_the_same_batch() {
    let mut world = World::new("a.log", false);
    world.write("a.log", "one\ntwo\n");
    world.catch_up();
    world.restart();
    world.write("a.log", "three\nfour\n");
    world.clock.advance(SEARCH_INTERVAL);
    let submitted = world.follower.poll().expect("polled").batches;
    world.store(&submitted[0]); // and the acknowledgement was not seen
    world.write("a.log", "five\n");
    world.restart();
    let again = world.follower.poll().expect("polled").batches;
    assert_eq!(again, submitted, "the range is the same though the file has grown");
    world.restart();
    world.catch_up();
    assert_eq!(world.text(), "one\ntwo\nthree\nfour\nfive\n");
}

#[test]
fn a_file_that_was_rotated_while_nobody_looked_is_found_under_its_new_name() {
    let mut world = World::new("a.log", false);
    world.write("a.log", "one\n");
    world.catch_up();
    world.write("a.log", "two\n");
    world.rename("a.log", "old");
    world.write("a.log", "three\n");
    world.restart();
    world.catch_up();
    let mut lines: Vec<String> = world.text().lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["one", "three", "two"]);
}

#[test]
fn an_endless_line_is_left_out_and_counted_once() {
    let mut world = World::new("a.log", false);
    world.write("a.log", "before\n");
    world.write("a.log", &"x".repeat(3 * BATCH_BYTES));
    world.catch_up();
    world.restart();
    world.write("a.log", "yyy\nafter\n");
    world.catch_up();
    assert_eq!((world.text().as_str(), world.oversize), ("before\nafter\n", 1));
}

#[test]
fn starting_at_the_end_holds_for_the_first_look_only() {
    let mut world = World::new("*.log", true);
    world.write("a.log", "old\nhalf of an old l");
    world.write("b.log", "old\n");
    world.catch_up();
    world.write("a.log", "ine\nnew\n");
    world.write("b.log", "new\n");
    world.write("c.log", "all of it\n");
    world.catch_up();
    world.restart();
    world.write("d.log", "this too\n");
    world.catch_up();
    let mut lines: Vec<String> = world.text().lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["all of it", "new", "new", "this too"]);
}

#[test]
fn compressed_files_and_folders_are_left_alone() {
    let mut world = World::new("*", false);
    world.write("a.log.gz", "text with a wrong name\n");
    fs::write(world.path("b.log"), [0x1f, 0x8b, 8, 0, b'\n']).expect("written");
    fs::create_dir(world.path("folder")).expect("a folder");
    world.write("c.log", "kept\n");
    world.tail.paths = vec![world.path("?.log*").display().to_string(), world.path("folder").display().to_string()];
    world.restart();
    world.catch_up();
    assert_eq!(world.text(), "kept\n");
}

#[test]
fn nothing_is_handed_out_before_its_range_is_written_down() {
    for fault in [Fault::DiskFull, Fault::Io] {
        for n in 1..20 {
            let world = World::new("a.log", false);
            let disk = SimDisk::new(n);
            disk.create_dir_all(Path::new("/data")).expect("a folder");
            let clock: Arc<dyn Clock> = Arc::clone(&world.clock) as Arc<dyn Clock>;
            let state = PathBuf::from("/data/tail.json");
            let mut follower =
                Follower::open(vec![world.tail.clone()], state.clone(), Arc::new(disk.clone()), clock).expect("opened");
            world.write("a.log", "one\n");
            disk.fail_nth_call(n, fault);
            let batches = match follower.poll() {
                Ok(round) => round.batches,
                Err(_) => follower.poll().expect("the second time it works").batches,
            };
            assert_eq!(batches.len(), 1);
            let written = State::load(&disk.crash(n), &state).expect("a state").files;
            assert_eq!(written[0].pending, Some(4), "call {n}");
        }
    }
}

#[test]
fn a_damaged_state_is_no_reason_to_read_all_again() {
    let world = World::new("a.log", false);
    fs::write(world.path("tail.json"), "{\"version\":1").expect("written");
    let clock: Arc<dyn Clock> = Arc::clone(&world.clock) as Arc<dyn Clock>;
    let opened = Follower::open(vec![], world.path("tail.json"), Arc::new(RealDisk), clock);
    assert!(opened.err().expect("an error").to_string().contains("move it away"));
}

#[derive(Clone, Debug)]
enum Step {
    Line,
    Half,
    Rotate,
    Delete,
    /// After reading all, since what is truncated unread is lost by design.
    Truncate,
    Read,
    /// Submitted, and killed before or after it was stored.
    Kill(bool),
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_line_comes_exactly_once(steps in proptest::collection::vec(prop_oneof![
        4 => Just(Step::Line), 2 => Just(Step::Half), 1 => Just(Step::Rotate), 1 => Just(Step::Truncate),
        1 => Just(Step::Delete), 2 => Just(Step::Read), 2 => any::<bool>().prop_map(Step::Kill),
    ], 1..40)) {
        let mut world = World::new("a.log", false);
        let mut written = Vec::new();
        let mut is_half = false;
        let mut rotations = 0;
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Line => {
                    world.write("a.log", &format!("{number}\n"));
                    match is_half {
                        true => { let last: &mut String = written.last_mut().expect("a half line"); last.push_str(&number.to_string()); }
                        false => written.push(number.to_string()),
                    }
                    is_half = false;
                }
                Step::Half if !is_half => {
                    world.write("a.log", &format!("half{number}-"));
                    written.push(format!("half{number}-"));
                    is_half = true;
                }
                Step::Rotate if world.path("a.log").exists() => {
                    // A file that was never seen under its name cannot be followed to another one.
                    world.catch_up();
                    rotations += 1;
                    if !is_half {
                        world.write("a.log", &format!("late{number}\n"));
                        written.push(format!("late{number}"));
                    }
                    world.rename("a.log", &format!("old.{rotations}"));
                    is_half = false;
                }
                Step::Delete | Step::Truncate if !is_half && world.path("a.log").exists() => {
                    world.catch_up();
                    match step {
                        Step::Delete => fs::remove_file(world.path("a.log")).expect("removed"),
                        _ => world.truncate("a.log"),
                    }
                    world.catch_up();
                }
                Step::Read => world.catch_up(),
                Step::Kill(was_stored) => {
                    world.clock.advance(SEARCH_INTERVAL);
                    let batches = world.follower.poll().expect("polled").batches;
                    batches.iter().filter(|_| was_stored).for_each(|batch| world.store(batch));
                    world.restart();
                }
                _ => {}
            }
        }
        world.catch_up();
        world.wait(RENAMED_QUIET);
        if is_half {
            written.pop();
        }
        let mut found: Vec<String> = world.stored.values().flat_map(|text| text.lines()).map(str::to_owned).collect();
        found.sort();
        written.sort();
        prop_assert_eq!(found, written);
    }
}
