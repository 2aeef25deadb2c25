//! The floor of an idle agent: a TCP connection that a task waits on.

use tokio::{io::AsyncReadExt as _, net::TcpListener, task::JoinSet};

use crate::{child, floors::Listening};

pub(super) async fn run() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    child::ready(&Listening { url: format!("http://{}", listener.local_addr()?) })?;
    let mut connections = JoinSet::new();
    let mut released = Box::pin(child::until_released());
    loop {
        tokio::select! {
            () = &mut released => return Ok(()),
            accepted = listener.accept() => {
                let mut stream = accepted?.0;
                connections.spawn(async move {
                    let mut byte = [0];
                    // The end and an error are the same here.
                    while stream.read(&mut byte).await.is_ok_and(|n| n > 0) {}
                });
            }
        }
    }
}
