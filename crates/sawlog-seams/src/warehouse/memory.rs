//! A warehouse in memory, with upkeep: the fake for everything that writes, reads or tidies tables.
//!
//! For: tests. Not for: production, since nothing is durable. A "file" is a batch of rows of one partition in
//! [`StoredTable::rows`], at the same place as its entry in [`StoredTable::files`].

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow_array::{Array, Date32Array, RecordBatch, TimestampMicrosecondArray, UInt32Array};
use arrow_ord::sort::{SortColumn, lexsort_to_indices};
use arrow_schema::ArrowError;
use arrow_select::concat::concat_batches;
use arrow_select::take::take_record_batch;
use async_trait::async_trait;

use super::{StoredFile, StoredTable, TableSpec, Warehouse, WarehouseError};
use crate::event_log::Position;
use crate::upkeep::{Moment, Rewritten, RowRange, Swept, TableUpkeep, VisitRows};

/// A warehouse in memory.
#[derive(Debug)]
pub struct MemoryWarehouse {
    tables: Mutex<HashMap<&'static str, MemoryTable>>,
}

#[derive(Debug)]
struct MemoryTable {
    position: Position,
    stored: Arc<StoredTable>,
    /// Files that were taken out and not swept yet: since when, and their bytes.
    removed: BTreeMap<String, (Duration, u64)>,
    files_made: u64,
}

impl Default for MemoryWarehouse {
    fn default() -> Self {
        let empty = |spec: TableSpec| {
            let stored = StoredTable { spec: spec.clone(), root: None, files: Vec::new(), rows: Vec::new() };
            let (position, stored) = (Position::default(), Arc::new(stored));
            (spec.name, MemoryTable { position, stored, removed: BTreeMap::new(), files_made: 0 })
        };
        Self { tables: Mutex::new(TableSpec::all().into_iter().map(empty).collect()) }
    }
}

impl MemoryWarehouse {
    fn tables(&self) -> MutexGuard<'_, HashMap<&'static str, MemoryTable>> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(
        &self,
        table: &str,
        work: impl FnOnce(&mut MemoryTable) -> Result<T, ArrowError>,
    ) -> Result<T, WarehouseError> {
        let mut tables = self.tables();
        let found = tables.get_mut(table).ok_or_else(|| WarehouseError::UnknownTable { table: table.to_owned() })?;
        work(found).map_err(|error| WarehouseError::Backend {
            table: table.to_owned(),
            action: "written",
            problem: error.to_string(),
        })
    }
}

#[async_trait]
impl Warehouse for MemoryWarehouse {
    async fn append(&self, table: &str, rows: Vec<RecordBatch>, position: Position) -> Result<(), WarehouseError> {
        self.with(table, |table| table.append(&rows, position))
    }

    fn committed(&self, table: &str) -> Position {
        self.tables().get(table).map_or(Position::default(), |table| table.position)
    }

    fn stored(&self, table: &str) -> Result<Arc<StoredTable>, WarehouseError> {
        self.with(table, |table| Ok(Arc::clone(&table.stored)))
    }
}

#[async_trait]
impl TableUpkeep for MemoryWarehouse {
    async fn rewrite(
        &self,
        table: &str,
        files: &[String],
        memory_bytes_max: u64,
        at: Moment,
    ) -> Result<Rewritten, WarehouseError> {
        self.with(table, |table| table.rewrite(files, memory_bytes_max, at))
    }

    async fn remove(&self, table: &str, files: &[String], at: Moment) -> Result<u64, WarehouseError> {
        self.with(table, |table| Ok(table.take_out(files, at).len() as u64))
    }

    async fn sweep(&self, table: &str, grace: Duration, at: Moment) -> Result<Swept, WarehouseError> {
        self.with(table, |table| Ok(table.sweep(grace, at)))
    }

    fn read(&self, table: &str, rows: &RowRange<'_>, visit: &mut VisitRows<'_>) -> Result<(), WarehouseError> {
        let stored = self.stored(table)?;
        for (_, batch) in
            stored.files.iter().zip(&stored.rows).filter(|(file, _)| file.partition_days == Some(rows.day))
        {
            let chosen = self.with(table, |_| {
                let times = batch.column_by_name("event_time");
                let times = times.and_then(|times| times.as_any().downcast_ref::<TimestampMicrosecondArray>());
                let within = times.into_iter().flat_map(|times| times.values().iter().enumerate());
                let within = within.filter(|(_, time)| rows.times.contains(time)).map(|(row, _)| row as u32);
                take_record_batch(batch, &UInt32Array::from(within.collect::<Vec<u32>>()))
            })?;
            if chosen.num_rows() > 0 && visit(&chosen).is_break() {
                break;
            }
        }
        Ok(())
    }
}

impl MemoryTable {
    fn append(&mut self, rows: &[RecordBatch], position: Position) -> Result<(), ArrowError> {
        if position <= self.position || rows.iter().all(|batch| batch.num_rows() == 0) {
            return Ok(());
        }
        let all = concat_batches(&self.stored.spec.schema, rows)?;
        for (day, rows) in by_day(&self.stored.spec, &all)? {
            self.add(rows, day, 0)?;
        }
        self.position = position;
        Ok(())
    }

    /// Adds a file.
    fn add(&mut self, rows: RecordBatch, partition_days: Option<i32>, written_at: i64) -> Result<u64, ArrowError> {
        let rows = sorted(&self.stored.spec, rows)?;
        let bytes = rows.get_array_memory_size() as u64;
        let folder = partition_days.map(|day| format!("day={day}/")).unwrap_or_default();
        let path = format!("{folder}{:06}", self.files_made);
        self.files_made += 1;
        let stored = Arc::make_mut(&mut self.stored);
        stored.files.push(StoredFile { path, bytes, rows: rows.num_rows() as u64, written_at, partition_days });
        stored.rows.push(rows);
        Ok(bytes)
    }

    fn rewrite(&mut self, paths: &[String], memory_bytes_max: u64, at: Moment) -> Result<Rewritten, ArrowError> {
        let place_of = |path: &String| self.stored.files.iter().position(|file| file.path == *path);
        let Some(places) = paths.iter().map(place_of).collect::<Option<Vec<usize>>>() else {
            return Ok(Rewritten::default());
        };
        let files: Vec<&StoredFile> = places.iter().map(|&place| &self.stored.files[place]).collect();
        let is_one_partition = files.windows(2).all(|pair| pair[0].partition_days == pair[1].partition_days);
        let mut bytes_in = 0;
        let fits = |file: &&&StoredFile| {
            let fits = bytes_in + file.bytes <= memory_bytes_max;
            bytes_in += if fits { file.bytes } else { 0 };
            fits
        };
        let taken = files.iter().take_while(fits).count();
        if !is_one_partition || taken < 2 {
            return Ok(Rewritten::default());
        }
        let rows =
            concat_batches(&self.stored.spec.schema, places[..taken].iter().map(|&place| &self.stored.rows[place]))?;
        let (partition_days, row_count) = (files[0].partition_days, rows.num_rows() as u64);
        self.take_out(&paths[..taken], at);
        let bytes_out = self.add(rows, partition_days, at.wall)?;
        Ok(Rewritten { files_in: taken as u64, bytes_in, files_out: 1, bytes_out, rows: row_count })
    }

    /// Takes files out; those that are no part of the table are skipped.
    fn take_out(&mut self, paths: &[String], at: Moment) -> Vec<StoredFile> {
        let stored = Arc::make_mut(&mut self.stored);
        let mut taken = Vec::new();
        for path in paths {
            if let Some(place) = stored.files.iter().position(|file| file.path == *path) {
                stored.rows.remove(place);
                taken.push(stored.files.remove(place));
            }
        }
        self.removed.extend(taken.iter().map(|file| (file.path.clone(), (at.monotonic, file.bytes))));
        taken
    }

    fn sweep(&mut self, grace: Duration, at: Moment) -> Swept {
        let mut swept = Swept::default();
        self.removed.retain(|_, (since, bytes)| {
            let is_over = at.monotonic.saturating_sub(*since) >= grace;
            swept.files += u64::from(is_over);
            swept.bytes += if is_over { *bytes } else { 0 };
            !is_over
        });
        swept
    }
}

/// Rows of each partition, in the order of their days.
fn by_day(spec: &TableSpec, rows: &RecordBatch) -> Result<Vec<(Option<i32>, RecordBatch)>, ArrowError> {
    let days = spec.partition.and_then(|column| rows.column_by_name(column));
    let Some(days) = days.and_then(|days| days.as_any().downcast_ref::<Date32Array>()) else {
        return Ok(vec![(None, rows.clone())]);
    };
    let mut chosen: BTreeMap<i32, Vec<u32>> = BTreeMap::new();
    for (row, day) in days.values().iter().enumerate() {
        chosen.entry(*day).or_default().push(row as u32);
    }
    chosen
        .into_iter()
        .map(|(day, chosen)| Ok((Some(day), take_record_batch(rows, &UInt32Array::from(chosen))?)))
        .collect()
}

/// Rows in the order of the table's clustering.
fn sorted(spec: &TableSpec, rows: RecordBatch) -> Result<RecordBatch, ArrowError> {
    let columns = spec.clustering.iter().filter_map(|name| rows.column_by_name(name));
    let columns: Vec<SortColumn> =
        columns.map(|column| SortColumn { values: Arc::clone(column), options: None }).collect();
    match columns.is_empty() {
        true => Ok(rows),
        false => take_record_batch(&rows, &lexsort_to_indices(&columns, None)?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixture(Arc<MemoryWarehouse>);

    #[async_trait]
    impl crate::contract::warehouse::Fixture for Fixture {
        async fn open(&self) -> Arc<dyn Warehouse> {
            Arc::clone(&self.0) as Arc<dyn Warehouse>
        }

        async fn rows(&self, stored: &StoredTable) -> Vec<RecordBatch> {
            stored.rows.clone()
        }
    }

    crate::warehouse_contract!(Fixture(Arc::default()));

    mod upkeep {
        use super::*;

        #[async_trait]
        impl crate::contract::upkeep::Fixture for Fixture {
            async fn open(&self) -> Arc<dyn TableUpkeep> {
                Arc::clone(&self.0) as Arc<dyn TableUpkeep>
            }

            async fn rows(&self, stored: &StoredTable) -> Vec<RecordBatch> {
                stored.rows.clone()
            }
        }

        crate::upkeep_contract!(Fixture(Arc::default()));
    }
}
