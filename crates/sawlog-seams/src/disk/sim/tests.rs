//! Tests of the simulated disk: a fake that is too kind proves nothing.

use super::*;
use std::collections::BTreeSet;

const DIR: &str = "/d";

fn disk_with_dir() -> SimDisk {
    let disk = SimDisk::new(1);
    disk.create_dir_all(Path::new(DIR)).unwrap();
    disk
}

fn write(file: &mut dyn DiskFile, bytes: &[u8]) -> io::Result<()> {
    file.append(&[IoSlice::new(bytes)])
}

#[test]
fn synced_bytes_survive_every_crash_and_unsynced_ones_tear_in_many_ways() {
    let path = Path::new("/d/f");
    let mut states = BTreeSet::new();
    for seed in 0..300 {
        let disk = disk_with_dir();
        let mut file = disk.create_new(path).unwrap();
        write(&mut *file, b"durable").unwrap();
        file.sync_data().unwrap();
        disk.sync_dir(Path::new(DIR)).unwrap();
        write(&mut *file, b"-first").unwrap();
        write(&mut *file, b"-second").unwrap();
        let after = disk.crash(seed).read(path).unwrap();
        assert!(after.starts_with(b"durable"));
        states.insert(after);
    }
    assert!(states.contains(&b"durable"[..]));
    assert!(states.contains(&b"durable-first-second"[..]));
    assert!(states.contains(&b"durable\0\0\0\0\0\0-second"[..]), "writes may be reordered");
    assert!(states.len() > 20, "only {} crash states", states.len());
}

#[test]
fn names_survive_only_after_the_directory_is_synced() {
    let path = Path::new("/d/f");
    let survived = |seed: u64, is_synced: bool| {
        let disk = disk_with_dir();
        disk.create_new(path).unwrap();
        if is_synced {
            disk.sync_dir(Path::new(DIR)).unwrap();
        }
        disk.crash(seed).exists(path).unwrap()
    };
    assert!((0..50).all(|seed| survived(seed, true)));
    let survivors = (0..50).filter(|seed| survived(*seed, false)).count();
    assert!((1..50).contains(&survivors));
}

#[test]
fn a_later_sync_does_not_repair_a_failed_one() {
    let path = Path::new("/d/f");
    let lost = |seed: u64| {
        let disk = SimDisk::new(seed);
        disk.create_dir_all(Path::new(DIR)).unwrap();
        let mut file = disk.create_new(path).unwrap();
        disk.sync_dir(Path::new(DIR)).unwrap();
        write(&mut *file, b"bytes").unwrap();
        disk.fail_nth(DiskOp::SyncData, 1, Fault::Io);
        file.sync_data().unwrap_err();
        file.sync_data().unwrap();
        assert_eq!(disk.read(path).unwrap(), b"bytes", "the page cache still shows them");
        disk.crash(seed).read(path).unwrap() != b"bytes"
    };
    assert!((0..20).any(lost));
}

#[test]
fn a_full_disk_takes_writes_again_after_a_file_is_removed() {
    let disk = disk_with_dir();
    disk.set_capacity(10);
    let mut first = disk.create_new(Path::new("/d/1")).unwrap();
    let mut second = disk.create_new(Path::new("/d/2")).unwrap();
    write(&mut *first, b"12345678").unwrap();
    let error = write(&mut *second, b"abcd").unwrap_err();
    assert!(crate::disk::is_disk_full(&error));
    assert_eq!(second.len().unwrap(), 2, "what fits is written");
    disk.remove(Path::new("/d/1")).unwrap();
    write(&mut *second, b"cdef").unwrap();
    assert_eq!(disk.used_bytes(), 6);
}

#[test]
fn the_nth_call_fails_and_only_that_one() {
    let disk = disk_with_dir();
    disk.fail_nth_call(2, Fault::Io);
    let outcomes: Vec<bool> = (0..3).map(|_| disk.list(Path::new(DIR)).is_ok()).collect();
    assert_eq!(outcomes, [true, false, true]);
}

#[test]
fn after_a_crash_the_old_disk_and_its_files_are_dead() {
    let disk = disk_with_dir();
    let mut file = disk.create_new(Path::new("/d/f")).unwrap();
    let after = disk.crash(0);
    write(&mut *file, b"x").unwrap_err();
    disk.list(Path::new(DIR)).unwrap_err();
    after.list(Path::new(DIR)).unwrap();
}

#[test]
fn a_killed_process_leaves_unsynced_bytes_readable_but_not_durable() {
    let path = Path::new("/d/f");
    let disk = disk_with_dir();
    let mut file = disk.create_new(path).unwrap();
    disk.sync_dir(Path::new(DIR)).unwrap();
    write(&mut *file, b"unsynced").unwrap();
    let killed = disk.kill();
    assert_eq!(killed.read(path).unwrap(), b"unsynced");
    assert!((0..20).any(|seed| killed.kill_then_crash(seed).read(path).unwrap() != b"unsynced"));
}

#[test]
fn power_off_lets_the_last_write_through_in_part() {
    let lengths: BTreeSet<u64> = (0..50)
        .map(|seed| {
            let disk = SimDisk::new(seed);
            disk.create_dir_all(Path::new(DIR)).unwrap();
            let mut file = disk.create_new(Path::new("/d/f")).unwrap();
            disk.power_off_at_call(1);
            write(&mut *file, b"0123456789").unwrap_err();
            write(&mut *file, b"later").unwrap_err();
            disk.used_bytes()
        })
        .collect();
    assert!(lengths.len() > 5 && lengths.iter().all(|length| *length <= 10));
}

impl SimDisk {
    /// Crashes a copy, so that one state can be crashed with many seeds.
    fn kill_then_crash(&self, seed: u64) -> SimDisk {
        Self::from_files(self.lock().files.clone()).crash(seed)
    }
}
