//! The floor of an order: axum takes the POST, a writer thread inserts the job (group commit, `synchronous=FULL`), the order goes out on the agent's
//! WebSocket, the agent says that it started, that is committed too, and the POST is answered. No accounts, no audit, no queue, no restart.

use std::{collections::HashMap, sync::Arc};

use axum::{
    Router,
    extract::{
        Path, State,
        ws::{Message, WebSocket, WebSocketUpgrade},
    },
    response::Response,
    routing::{get, post},
};
use rusqlite::{Connection, params};
use tokio::{
    net::TcpListener,
    sync::{Mutex, mpsc, oneshot},
};

use crate::{child, floors::Listening};

enum Write {
    Insert(u32, oneshot::Sender<i64>),
    Update(i64, &'static str, oneshot::Sender<i64>),
}

#[derive(Clone)]
struct Floor {
    writer: mpsc::Sender<Write>,
    agents: Arc<Mutex<HashMap<u32, mpsc::Sender<i64>>>>,
    started: Arc<Mutex<HashMap<i64, oneshot::Sender<()>>>>,
}

pub(super) async fn run() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let db = Connection::open(dir.path().join("floor.db"))?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    db.execute_batch("CREATE TABLE jobs (no INTEGER PRIMARY KEY, host INTEGER NOT NULL, status TEXT NOT NULL)")?;
    let (writer, queue) = mpsc::channel(1024);
    std::thread::spawn(move || write(db, queue));
    let floor = Floor { writer, agents: Arc::default(), started: Arc::default() };
    let router =
        Router::new().route("/agent/{host}", get(agent)).route("/hosts/{host}/jobs", post(create)).with_state(floor);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    child::ready(&Listening { url: format!("http://{}", listener.local_addr()?) })?;
    let nodelay = axum::serve::ListenerExt::tap_io(listener, |stream| {
        // Measured with it or, on a system without, not.
        stream.set_nodelay(true).ok();
    });
    Ok(axum::serve(nodelay, router).with_graceful_shutdown(child::until_released()).await?)
}

fn write(mut db: Connection, mut queue: mpsc::Receiver<Write>) {
    let mut run = move || -> Result<(), rusqlite::Error> {
        while let Some(first) = queue.blocking_recv() {
            let tx = db.transaction()?;
            let (mut next, mut done) = (Some(first), Vec::new());
            while let Some(write) = next {
                done.push(match write {
                    Write::Insert(host, reply) => {
                        tx.prepare_cached("INSERT INTO jobs (host, status) VALUES (?1, 'queued')")?.execute([host])?;
                        (tx.last_insert_rowid(), reply)
                    }
                    Write::Update(no, status, reply) => {
                        tx.prepare_cached("UPDATE jobs SET status = ?2 WHERE no = ?1")?.execute(params![no, status])?;
                        (no, reply)
                    }
                });
                next = if done.len() < 512 { queue.try_recv().ok() } else { None };
            }
            tx.commit()?;
            for (no, reply) in done {
                reply.send(no).ok();
            }
        }
        Ok(())
    };
    run().expect("the floor's database is its own");
}

async fn create(State(floor): State<Floor>, Path(host): Path<u32>) -> Result<String, &'static str> {
    let (reply, inserted) = oneshot::channel();
    floor.writer.send(Write::Insert(host, reply)).await.map_err(|_| "closed")?;
    let no = inserted.await.map_err(|_| "closed")?;
    let (reply, started) = oneshot::channel();
    floor.started.lock().await.insert(no, reply);
    let agent = floor.agents.lock().await.get(&host).cloned().ok_or("no such agent")?;
    agent.send(no).await.map_err(|_| "gone")?;
    started.await.map_err(|_| "gone")?;
    Ok(no.to_string())
}

async fn agent(State(floor): State<Floor>, Path(host): Path<u32>, upgrade: WebSocketUpgrade) -> Response {
    upgrade.read_buffer_size(4096).write_buffer_size(4096).on_upgrade(async move |socket| {
        // A connection that breaks is the client's to notice.
        serve(floor, host, socket).await.ok();
    })
}

async fn serve(floor: Floor, host: u32, mut socket: WebSocket) -> anyhow::Result<()> {
    let (orders, mut queue) = mpsc::channel(32);
    floor.agents.lock().await.insert(host, orders);
    socket.send(Message::Text("welcome".into())).await?;
    loop {
        tokio::select! {
            Some(no) = queue.recv() => socket.send(Message::Text(format!("run {no}").into())).await?,
            message = socket.recv() => {
                let Some(Ok(Message::Text(text))) = message else { return Ok(()) };
                let (what, no) = text.split_once(' ').unwrap_or_default();
                let no: i64 = no.parse()?;
                let status = if what == "started" { "running" } else { "succeeded" };
                let (reply, written) = oneshot::channel();
                floor.writer.send(Write::Update(no, status, reply)).await?;
                written.await?;
                if what == "started" {
                    let waiting = floor.started.lock().await.remove(&no);
                    waiting.map(|waiting| waiting.send(()));
                } else {
                    socket.send(Message::Text(format!("ack {no}").into())).await?;
                }
            }
        }
    }
}
