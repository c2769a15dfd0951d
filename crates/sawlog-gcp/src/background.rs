//! Waiting for asynchronous calls where the seams are synchronous.
//!
//! For: a runtime of one's own, on whose threads calls are made while the calling thread waits. Any thread may call, also
//! one of another runtime, which waits for as long. Not for: work: it would hold up all calls.

use std::sync::mpsc;

use tokio::runtime::{Builder, Handle, Runtime};

/// The runtime. It ends with this value; calls under way are given up.
pub(crate) struct Background {
    runtime: Option<Runtime>,
    handle: Handle,
}

impl Background {
    /// Starts one thread.
    pub(crate) fn start(name: &str) -> std::io::Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name(name).enable_all().build()?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    /// Where its tasks are started.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Runs a call and waits for its answer; `None` when it panicked.
    pub(crate) fn run<T: Send + 'static>(&self, call: impl Future<Output = T> + Send + 'static) -> Option<T> {
        let (tx, rx) = mpsc::sync_channel(1);
        self.handle.spawn(async move {
            // Nobody waits any more when the thread has died.
            let _ = tx.send(call.await);
        });
        rx.recv().ok()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // Waiting for its threads is forbidden on a thread of another runtime.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_thread_of_another_runtime_may_wait_and_end_it() {
        let background = Background::start("test").expect("a thread");
        assert_eq!(background.run(async { tokio::task::spawn(async { 3 }).await.expect("no panic") }), Some(3));
        assert_eq!(background.run(async { panic!("on purpose") }), None::<()>);
        assert_eq!(background.run(async { 4 }), Some(4));
    }
}
