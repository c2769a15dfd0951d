//! This machine's own CPU, memory, disk and network as metrics, so that no page is empty.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sawlog_core::batch::{AgeLimits, Format};
use sawlog_stream::{AckLevel, Pipeline, Submission};
use serde_json::{Value, json};
use sysinfo::{Disks, Networks, Pid, ProcessRefreshKind, ProcessesToUpdate, System};
use tokio::sync::watch;

const SOURCE: &str = "host";
const SERVICE: &str = "host";

/// Measures and submits until told to stop.
pub(crate) async fn run(
    pipeline: Arc<Pipeline>,
    folder: PathBuf,
    interval: Duration,
    mut stopped: watch::Receiver<bool>,
) {
    let mut sampler = match Sampler::new(folder) {
        Ok(sampler) => sampler,
        Err(error) => {
            tracing::warn!(%error, "this machine cannot be measured");
            return;
        }
    };
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stopped.wait_for(|stopped| *stopped) => return,
        }
        let submission = Submission {
            source: SOURCE.to_owned(),
            file: None,
            format: Format::Json,
            is_declared: true,
            age: AgeLimits::default(),
            body: sampler.sample(),
            idempotency_key: None,
            ack: AckLevel::Memory,
        };
        if let Err(error) = pipeline.submit(submission).await {
            tracing::debug!(%error, "host metrics were not taken");
        }
    }
}

struct Sampler {
    system: System,
    disks: Disks,
    networks: Networks,
    process: Option<Pid>,
    folder: PathBuf,
    host: String,
}

impl Sampler {
    fn new(folder: PathBuf) -> Result<Self, sysinfo::Error> {
        let mut system = System::new()?;
        // Utilization is the difference between two looks.
        system.refresh_cpu_usage();
        Ok(Self {
            system,
            disks: Disks::new_with_refreshed_list()?,
            networks: Networks::new_with_refreshed_list()?,
            process: sysinfo::get_current_pid().ok(),
            folder,
            host: System::host_name().unwrap_or_else(|_| "localhost".to_owned()),
        })
    }

    /// One body of metric records. Without a timestamp of their own they get the receive time.
    fn sample(&mut self) -> Bytes {
        self.system.refresh_cpu_usage();
        self.system.refresh_memory();
        self.disks.refresh(true);
        self.networks.refresh(true);
        let (used, total) = (self.system.used_memory() as f64, self.system.total_memory().max(1) as f64);
        let mut values = vec![
            ("system.cpu.utilization", "1", f64::from(self.system.global_cpu_usage()) / 100.0),
            ("system.memory.utilization", "1", used / total),
            ("system.memory.usage", "By", used),
        ];
        if let Ok(load) = System::load_average() {
            values.push(("system.cpu.load_average.1m", "{thread}", load.one));
        }
        if let Some(utilization) = disk_utilization(&self.disks, &self.folder) {
            values.push(("system.filesystem.utilization", "1", utilization));
        }
        let (received, sent) = self.networks.values().fold((0, 0), |(received, sent), network| {
            (received + network.total_received(), sent + network.total_transmitted())
        });
        values.push(("system.network.io.receive", "By", received as f64));
        values.push(("system.network.io.transmit", "By", sent as f64));
        if let Some(pid) = self.process {
            let kind = ProcessRefreshKind::nothing().with_cpu().with_memory();
            self.system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, kind);
            if let Some(process) = self.system.process(pid) {
                values.push(("process.cpu.utilization", "1", f64::from(process.cpu_usage()) / 100.0));
                values.push(("process.memory.usage", "By", process.memory() as f64));
            }
        }
        let lines: Vec<String> =
            values.iter().map(|(name, unit, value)| self.record(name, unit, *value).to_string()).collect();
        Bytes::from(lines.join("\n"))
    }

    fn record(&self, name: &str, unit: &str, value: f64) -> Value {
        json!({"kind": "metric", "metric": name, "unit": unit, "value": value, "service": SERVICE, "host": self.host})
    }
}

/// How full the file system with the data folder is: the one with the longest mount point above it.
fn disk_utilization(disks: &Disks, folder: &Path) -> Option<f64> {
    let disk = disks
        .iter()
        .filter(|disk| folder.starts_with(disk.mount_point()) && disk.total_space() > 0)
        .max_by_key(|disk| disk.mount_point().as_os_str().len())?;
    Some(1.0 - disk.available_space() as f64 / disk.total_space() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_cpu_and_memory_between_0_and_1() {
        let body = Sampler::new(std::env::temp_dir()).expect("this machine can be measured").sample();
        let text = String::from_utf8(body.to_vec()).expect("UTF-8");
        for name in ["system.cpu.utilization", "system.memory.utilization"] {
            let line = text.lines().find(|line| line.contains(name)).expect("a metric");
            let record: Value = serde_json::from_str(line).expect("JSON");
            let value = record["value"].as_f64().expect("a number");
            assert!((0.0..=1.0).contains(&value), "{line}");
        }
    }
}
