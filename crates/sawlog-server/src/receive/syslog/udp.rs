//! Syslog over UDP: one datagram, one message (RFC 5426).
//!
//! Not for: slowing senders down, which UDP cannot: what finds no room is dropped and counted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sawlog_telemetry::SyslogRefusal;
use tokio::net::UdpSocket;
use tokio::sync::watch;

use super::intake::{Intake, queue};
use super::{SyslogState, UDP_SOURCE};

/// Largest datagram.
const DATAGRAM_BYTES: usize = 65_536;
/// After an error of the socket, so that one that stays does not take a core.
const ERROR_PAUSE: Duration = Duration::from_millis(100);
/// How long datagrams that have arrived already are read after a stop.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(1);

/// Takes datagrams until told to stop, then stores what has arrived.
///
/// # Errors
/// None: errors of the socket are logged and reading goes on.
pub async fn serve(
    socket: UdpSocket,
    state: Arc<SyslogState>,
    mut stopped: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let (intake, batcher) = queue(UDP_SOURCE, &state, stopped.clone());
    let receiving = async move {
        let mut buffer = vec![0; DATAGRAM_BYTES];
        loop {
            let received = tokio::select! {
                received = socket.recv_from(&mut buffer) => received,
                _ = stopped.wait_for(|stopped| *stopped) => break,
            };
            match received {
                Ok((len, sender)) => take(&intake, &state, &buffer[..len], sender),
                Err(error) => {
                    tracing::warn!(%error, "syslog over UDP: a datagram could not be received");
                    tokio::time::sleep(ERROR_PAUSE).await;
                }
            }
        }
        let started = Instant::now();
        while let Ok((len, sender)) = socket.try_recv_from(&mut buffer) {
            take(&intake, &state, &buffer[..len], sender);
            if started.elapsed() > DRAIN_TIME_MAX {
                break;
            }
        }
    };
    tokio::join!(receiving, batcher.run());
    Ok(())
}

fn take(intake: &Intake, state: &SyslogState, datagram: &[u8], sender: std::net::SocketAddr) {
    if datagram.len() > state.message_bytes_max {
        intake.refuse(SyslogRefusal::Oversize);
    } else {
        intake.offer(datagram, sender.ip());
    }
}
