//! A TCP connection: the address of a name, then each of its addresses in turn, within one deadline.

use std::{
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs as _},
    sync::Arc,
};

use tokio::{
    net::TcpStream,
    sync::Semaphore,
    time::{Instant, timeout_at},
};

use super::{Bad, Deadline, place::Address};

/// Connects.
pub(super) async fn connect(lookups: &Arc<Semaphore>, address: &Address, deadline: Deadline) -> Result<TcpStream, Bad> {
    let found =
        deadline.bound(&format!("the address of {} was not found", address.host), resolve(lookups, address)).await?;
    let mut left = u32::try_from(found.len()).unwrap_or(u32::MAX);
    let mut last =
        Bad::None(format!("the name {} has no address: check the name, and DNS on the control plane", address.host));
    for target in found {
        // One that swallows everything must leave time for the others.
        let now = Instant::now();
        let ends = now + deadline.ends.saturating_duration_since(now) / left.max(1);
        left -= 1;
        match timeout_at(ends, TcpStream::connect(target)).await {
            Ok(Ok(tcp)) => {
                tcp.set_nodelay(true).ok();
                return Ok(tcp);
            }
            Ok(Err(error)) => last = Bad::None(words(target, &error)),
            Err(_) => {
                last = Bad::None(format!(
                    "{}: a firewall may drop it, or the machine is down",
                    deadline.late(&format!("no connection to {target}"))
                ));
            }
        }
    }
    Err(last)
}

async fn resolve(lookups: &Arc<Semaphore>, address: &Address) -> Result<Vec<SocketAddr>, Bad> {
    if let Ok(ip) = address.host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, address.port)]);
    }
    let closed = |_| Bad::None("the server is stopping".to_owned());
    // Goes along with the lookup, which can't be called off.
    let turn = Arc::clone(lookups).acquire_owned().await.map_err(closed)?;
    let (host, port) = (address.host.clone(), address.port);
    let found = tokio::task::spawn_blocking(move || {
        let found = (host.as_str(), port).to_socket_addrs().map(Iterator::collect);
        drop(turn);
        found
    });
    let found: io::Result<Vec<SocketAddr>> = found.await.unwrap_or_else(|error| Err(io::Error::other(error)));
    found.map_err(|error| {
        Bad::None(format!(
            "the address of {} is not found ({error}): check the name, and DNS on the control plane",
            address.host
        ))
    })
}

fn words(target: SocketAddr, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            format!("nothing listens at {target} (connection refused): is the service running?")
        }
        io::ErrorKind::ConnectionReset => format!("{target} broke the connection off at once (reset)"),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            format!("there is no way to {target} ({error}): check the network, and whether the machine is up")
        }
        io::ErrorKind::TimedOut => format!("no answer from {target}: a firewall may drop it, or the machine is down"),
        _ => format!("no connection to {target}: {error}"),
    }
}
