//! A TCP proxy that breaks what passes through it, on demand: cut, reset, stall, half open, slow, or with one end replaced while the other lives on.
//! A byte is passed on once and in order, or not at all: what a real network may do to a TCP connection, and nothing else.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::broadcast,
    task::JoinHandle,
    time::{Instant, sleep_until},
};

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the agent to the server.
    Up,
    /// From the server to the agent.
    Down,
}

/// What can be done to all connections that stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Both ends are closed, after what was passed on.
    Cut,
    /// Both ends are reset: what is under way is lost.
    Reset,
    /// Nothing passes for so long; new connections stall as well. Then all goes on.
    Stall(Duration),
    /// What goes one way is taken and lost for so long, while the other way works; then both ends are reset.
    HalfOpen(Way, Duration),
    /// Every piece comes so much later, for so long.
    Delay(Duration, Duration),
    /// The agent's end is closed, so that it connects anew, while the server still holds the old connection and late gets what was under way on it.
    Double(Duration),
}

/// The proxy; it ends with its owner.
pub(crate) struct FaultProxy {
    port: u16,
    faults: broadcast::Sender<Fault>,
    shared: Arc<Mutex<Shared>>,
    accepting: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    stalled_until: Option<Instant>,
    standing: usize,
}

impl FaultProxy {
    /// A proxy on a free port, to this port of this machine.
    #[expect(clippy::disallowed_methods, reason = "the proxy is the task's owner, and ends it when it is dropped")]
    pub(crate) async fn start(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let faults = broadcast::Sender::new(64);
        let shared = Arc::new(Mutex::new(Shared::default()));
        let accepting = tokio::spawn(accept(listener, target, faults.clone(), Arc::clone(&shared)));
        Self { port, faults, shared, accepting }
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Whether a connection stands.
    pub(crate) fn carries(&self) -> bool {
        lock(&self.shared).standing > 0
    }

    /// Does this to every connection that stands.
    pub(crate) fn inflict(&self, fault: Fault) {
        if let Fault::Stall(span) = fault {
            lock(&self.shared).stalled_until = Some(Instant::now() + span);
        }
        // Without a connection there is nobody to hear it.
        self.faults.send(fault).ok();
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn lock(shared: &Mutex<Shared>) -> std::sync::MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, target: u16, faults: broadcast::Sender<Fault>, shared: Arc<Mutex<Shared>>) {
    // Its connections end with it.
    let mut carried = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((agent, _)) = accepted else { continue };
                let (faults, shared) = (faults.subscribe(), Arc::clone(&shared));
                carried.spawn(async move {
                    // A server that is away: the agent's connection is closed, as a load balancer would.
                    let target = SocketAddr::from(([127, 0, 0, 1], target));
                    if let Ok(server) = TcpStream::connect(target).await {
                        let stalled_until = lock(&shared).stalled_until;
                        lock(&shared).standing += 1;
                        Carried::new(agent, server, stalled_until).run(faults).await;
                        lock(&shared).standing -= 1;
                    }
                });
            }
            Some(_) = carried.join_next() => {}
        }
    }
}

/// One connection through the proxy.
struct Carried {
    up: Lane,
    down: Lane,
    /// When it ends, and whether by a reset.
    ends: Option<Instant>,
}

/// One direction of it.
struct Lane {
    from: OwnedReadHalf,
    to: Option<OwnedWriteHalf>,
    buffer: Box<[u8]>,
    /// What of the buffer is to be passed on, and not before when.
    waiting: std::ops::Range<usize>,
    not_before: Instant,
    held_until: Instant,
    delay: Duration,
    delay_until: Instant,
    loses: bool,
    over: bool,
}

impl Lane {
    fn new(from: OwnedReadHalf, to: OwnedWriteHalf, held_until: Instant) -> Self {
        let now = Instant::now();
        Self {
            from,
            to: Some(to),
            buffer: vec![0; 16 << 10].into(),
            waiting: 0..0,
            not_before: now,
            held_until,
            delay: Duration::ZERO,
            delay_until: now,
            loses: false,
            over: false,
        }
    }

    /// One read or one write; cancel-safe, as both are.
    async fn step(&mut self) -> io::Result<()> {
        if self.over {
            return std::future::pending().await;
        }
        if self.waiting.is_empty() {
            sleep_until(self.held_until).await;
            let read = self.from.read(&mut self.buffer).await?;
            self.waiting = 0..read;
            let now = Instant::now();
            self.not_before = if now < self.delay_until { now + self.delay } else { now };
            if read == 0 {
                self.over = true;
                if let Some(to) = &mut self.to {
                    to.shutdown().await?;
                }
            }
            return Ok(());
        }
        sleep_until(self.held_until.max(self.not_before)).await;
        match &mut self.to {
            Some(to) if !self.loses => self.waiting.start += to.write(&self.buffer[self.waiting.clone()]).await?,
            _ => self.waiting = 0..0,
        }
        Ok(())
    }
}

impl Carried {
    fn new(agent: TcpStream, server: TcpStream, stalled_until: Option<Instant>) -> Self {
        let held_until = stalled_until.unwrap_or_else(Instant::now);
        // Small frames are passed on as they come: the proxy adds no delay of its own.
        agent.set_nodelay(true).ok();
        server.set_nodelay(true).ok();
        let (from_agent, to_agent) = agent.into_split();
        let (from_server, to_server) = server.into_split();
        Self {
            up: Lane::new(from_agent, to_server, held_until),
            down: Lane::new(from_server, to_agent, held_until),
            ends: None,
        }
    }

    async fn run(mut self, mut faults: broadcast::Receiver<Fault>) {
        loop {
            let ends = self.ends;
            let passed = tokio::select! {
                fault = faults.recv() => match fault {
                    Ok(Fault::Cut) | Err(_) => return,
                    Ok(Fault::Reset) => return self.reset(),
                    Ok(fault) => {
                        self.suffer(fault);
                        Ok(())
                    }
                },
                passed = self.up.step() => passed,
                passed = self.down.step() => passed,
                () = async { match ends { Some(at) => sleep_until(at).await, None => std::future::pending().await } } => return self.reset(),
            };
            if passed.is_err() || (self.up.over && self.down.over) {
                return;
            }
        }
    }

    fn suffer(&mut self, fault: Fault) {
        let now = Instant::now();
        match fault {
            Fault::Stall(span) => {
                self.up.held_until = now + span;
                self.down.held_until = now + span;
            }
            Fault::HalfOpen(way, span) => {
                match way {
                    Way::Up => self.up.loses = true,
                    Way::Down => self.down.loses = true,
                }
                self.ends = Some(now + span);
            }
            Fault::Delay(each, span) => {
                for lane in [&mut self.up, &mut self.down] {
                    (lane.delay, lane.delay_until) = (each, now + span);
                }
            }
            Fault::Double(span) => {
                // The agent hears the end of its connection; what it had sent reaches the server late.
                self.down.to = None;
                self.up.held_until = now + span / 4 * 3;
                self.ends = Some(now + span);
            }
            Fault::Cut | Fault::Reset => {}
        }
    }

    /// Ends both sides so that the kernel says at once that nothing more comes.
    fn reset(self) {
        self.up.from.as_ref().set_zero_linger().ok();
        self.down.from.as_ref().set_zero_linger().ok();
    }
}
