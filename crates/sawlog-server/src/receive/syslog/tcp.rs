//! Syslog over TCP (RFC 6587).
//!
//! For: connections, as many as allowed; when the queue is full their bytes are not read, so that senders wait. Not for:
//! TLS and acknowledgements, which plain syslog does not have.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sawlog_telemetry::SyslogRefusal;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::framing::{Frame, Framer};
use super::intake::{Intake, queue};
use super::{SyslogState, TCP_SOURCE};

/// Bytes that are read at a time.
const READ_BYTES: usize = 16 << 10;
/// After an error of the listener, e.g. when no more files can be opened.
const ERROR_PAUSE: Duration = Duration::from_millis(100);
/// How long bytes that have arrived already are read after a stop.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(1);

/// Takes connections until told to stop, then stores what has arrived.
///
/// # Errors
/// None: errors of the listener and of connections are logged and the others go on.
pub async fn serve(
    listener: TcpListener,
    state: Arc<SyslogState>,
    mut stopped: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let (intake, batcher) = queue(TCP_SOURCE, &state, stopped.clone());
    let accepting = async move {
        let turns = Arc::new(Semaphore::new(state.connections_max));
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                Some(_) = connections.join_next() => continue,
                _ = stopped.wait_for(|stopped| *stopped) => break,
            };
            match accepted {
                Ok((stream, sender)) => match Arc::clone(&turns).try_acquire_owned() {
                    Ok(turn) => {
                        let (intake, stopped) = (intake.clone(), stopped.clone());
                        let framer = Framer::new(state.message_bytes_max);
                        connections.spawn(async move {
                            read(stream, sender, framer, &intake, stopped).await;
                            drop(turn);
                        });
                    }
                    Err(_) => {
                        state.metrics.add_syslog_refusal(TCP_SOURCE, SyslogRefusal::ConnectionLimit);
                        tracing::warn!(%sender, "syslog over TCP: too many connections; raise syslog.connections-max");
                    }
                },
                Err(error) => {
                    tracing::warn!(%error, "syslog over TCP: a connection could not be taken");
                    tokio::time::sleep(ERROR_PAUSE).await;
                }
            }
        }
        while connections.join_next().await.is_some() {}
    };
    tokio::join!(accepting, batcher.run());
    Ok(())
}

/// Reads a connection to its end, or until told to stop.
async fn read(
    mut stream: TcpStream,
    sender: SocketAddr,
    mut framer: Framer,
    intake: &Intake,
    mut stopped: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let read = tokio::select! {
            read = stream.read(&mut buffer) => Some(read),
            _ = stopped.wait_for(|stopped| *stopped) => None,
        };
        match read {
            None => {
                drain(&stream, &mut buffer, &mut framer, intake, sender).await;
                break;
            }
            Some(Ok(0)) => break,
            Some(Ok(len)) => take(&mut framer, &buffer[..len], intake, sender).await,
            Some(Err(error)) => {
                tracing::debug!(%error, %sender, "syslog over TCP: a connection broke");
                break;
            }
        }
    }
    if let Some(Frame::Message(message)) = framer.finish() {
        intake.put(message, sender.ip()).await;
    }
}

/// Takes what has arrived: the sender believes it to be delivered.
async fn drain(stream: &TcpStream, buffer: &mut [u8], framer: &mut Framer, intake: &Intake, sender: SocketAddr) {
    let started = Instant::now();
    while started.elapsed() < DRAIN_TIME_MAX {
        match stream.try_read(buffer) {
            Ok(len) if len > 0 => take(framer, &buffer[..len], intake, sender).await,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            _ => return,
        }
    }
}

async fn take(framer: &mut Framer, bytes: &[u8], intake: &Intake, sender: SocketAddr) {
    framer.push(bytes);
    while let Some(frame) = framer.next() {
        match frame {
            Frame::Message(message) => intake.put(message, sender.ip()).await,
            Frame::Oversize => intake.refuse(SyslogRefusal::Oversize),
        }
    }
}
