//! `true` on one host and on fifty, through their agents and over SSH, from the orders to the last end on disk, beside Ansible and bare `ssh` on the same hosts in turn;
//! and what a step and a line of a step cost, beside bash alone.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use flotilla_agent::{
    identity::{Identity, StateDir},
    server_url::PlainHttp,
};
use flotilla_proto::Secret;
use http::Method;
use serde_json::{Value, json};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    api::Api,
    child::Child,
    measure::median,
    scenes::{Plan, note},
    server::{self, Server, Wanted},
    sshd::Sshds,
    table::{Goal, Row, Table},
};

/// Hosts of each sort.
const HOSTS: u32 = 50;
/// Steps of the long runbook.
const STEPS: u32 = 50;
/// Lines of the one that prints.
const LINES: u32 = 100_000;

pub(crate) async fn run(plan: Plan, table: &mut Table) -> anyhow::Result<()> {
    let count = plan.size(HOSTS, 10);
    let server = Server::start(Wanted { hosts: count, tls: false })?;
    write_runbooks(&server)?;
    let agents = Agents::start(&server, count)?;
    let mut orders = Orders::connect(&server, count).await?;
    let with_agent: Vec<String> = (0..count).map(|n| server::host_id(n).to_string()).collect();
    orders.until_online(&with_agent).await?;
    let sshds = Sshds::can_be().then(|| Sshds::start(count)).transpose()?;
    let over_ssh = match &sshds {
        Some(sshds) => orders.add_hosts(sshds).await?,
        None => {
            note(
                "no sshd on this machine: hosts by SSH, and Ansible, are left out (scripts/setup-tools test installs it)",
            );
            Vec::new()
        }
    };
    let others = sshds.as_ref().map(Others::of).transpose()?;
    fleet(plan, table, &mut orders, [&with_agent, &over_ssh], others.as_ref()).await?;
    steps(plan, table, &mut orders, &with_agent[0]).await?;
    drop(agents);
    Ok(())
}

/// Times of one sort, by round.
#[derive(Default)]
struct Times(Vec<f64>);

impl Times {
    fn add(&mut self, time: Duration) {
        self.0.push(time.as_secs_f64() * 1e3);
    }

    fn median(&self) -> Option<f64> {
        (!self.0.is_empty()).then(|| median(&self.0))
    }
}

async fn fleet(
    plan: Plan,
    table: &mut Table,
    orders: &mut Orders,
    [with_agent, over_ssh]: [&[String]; 2],
    others: Option<&Others<'_>>,
) -> anyhow::Result<()> {
    let mut times: [Times; 8] = Default::default();
    let [one, many, ssh_one, ssh_many, bare, raw, command, raw_one] = &mut times;
    for round in 0..=plan.rounds {
        // The first round warms all of them up.
        let keep = |times: &mut Times, time| {
            if round > 0 {
                times.add(time);
            }
        };
        keep(one, orders.all_of("bench_true", &with_agent[..1]).await?);
        keep(many, orders.all_of("bench_true", with_agent).await?);
        let Some(others) = others else { continue };
        keep(ssh_one, orders.all_of("bench_true", &over_ssh[..1]).await?);
        keep(ssh_many, orders.all_of("bench_true", over_ssh).await?);
        keep(bare, others.bare()?);
        if others.has_ansible() {
            keep(raw, others.ansible("raw", "all")?);
            keep(command, others.ansible("command", "all")?);
            keep(raw_one, others.ansible("raw", "host0")?);
        }
    }
    let count = with_agent.len();
    let [one, many, ssh_one, ssh_many, bare, raw, command, raw_one] = times.map(|times| times.median());
    let mut add = |name: String, product: Option<f64>, floor, goal| {
        if let Some(product) = product {
            table.add(Row { name, product, floor, unit: "ms", goal });
        }
    };
    let at_most = |bar, floor: Option<f64>| if floor.is_some() { Goal::RatioAtMost(bar) } else { Goal::None };
    add("`true` by 1 agent, order to end on disk".to_owned(), one, None, Goal::AtMost(3.0));
    add(format!("`true` by {count} agents, orders to last end on disk"), many, None, Goal::AtMost(80.0));
    add(format!("`true` by {count} agents, beside ansible -m command"), many, command, at_most(0.01, command));
    add(format!("`true` by {count} agents, beside ansible -m raw"), many, raw, at_most(0.02, raw));
    add("`true` on 1 host by SSH, beside ansible -m raw".to_owned(), ssh_one, raw_one, at_most(0.5, raw_one));
    add(format!("`true` on {count} hosts by SSH, beside ansible -m raw"), ssh_many, raw, at_most(1.0, raw));
    add(format!("`true` on {count} hosts by SSH, beside ansible -m command"), ssh_many, command, at_most(0.5, command));
    add(format!("`true` on {count} hosts by SSH, beside so many bare ssh at once"), ssh_many, bare, at_most(1.5, bare));
    Ok(())
}

async fn steps(plan: Plan, table: &mut Table, orders: &mut Orders, host: &String) -> anyhow::Result<()> {
    let host = std::slice::from_ref(host);
    let mut times: [Times; 5] = Default::default();
    for _ in 0..plan.rounds {
        let [one, many, lines, bash, bare_lines] = &mut times;
        one.add(orders.all_of("bench_true", host).await?);
        many.add(orders.all_of("bench_steps", host).await?);
        lines.add(orders.all_of("bench_lines", host).await?);
        bash.add(timed(|| (0..STEPS).try_for_each(|_| bash_alone("true")))?);
        bare_lines.add(timed(|| bash_alone(&format!("seq {LINES} | while read -r n; do echo \"line $n\"; done")))?);
    }
    let [one, many, lines, bash, bare_lines] = times.map(|times| times.median().unwrap_or(f64::NAN));
    let each = (many - one) / f64::from(STEPS - 1);
    let floor = Some(bash / f64::from(STEPS));
    table.add(Row {
        name: "a further step of `true`, beside bash alone".to_owned(),
        product: each,
        floor,
        unit: "ms",
        goal: Goal::None,
    });
    let per_line = |time: f64| time * 1e3 / f64::from(LINES);
    table.add(Row {
        name: "a line of a step, printed to stored, beside bash to /dev/null".to_owned(),
        product: per_line(lines - one),
        floor: Some(per_line(bare_lines)),
        unit: "us",
        goal: Goal::RatioAtMost(2.0),
    });
    Ok(())
}

fn timed(work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<Duration> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed())
}

fn bash_alone(script: &str) -> anyhow::Result<()> {
    let status = Command::new("bash").args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::null()).status()?;
    ensure!(status.success(), "bash alone failed: {script}");
    Ok(())
}

fn write_runbooks(server: &Server) -> anyhow::Result<()> {
    let folder = server.data_dir().join("runbooks");
    fs::create_dir_all(&folder)?;
    let head = |name: &str| {
        format!("name = \"{name}\"\ntitle = \"Bench\"\nlock = \"none\"\ntransports = [\"agent\", \"ssh\"]\n")
    };
    let step = |n: u32, cmd: &str| format!("[[steps]]\ntype = \"ssh\"\nlabel = \"Step {n}\"\ncmd = '''{cmd}'''\n");
    let print = format!("seq {LINES} | while read -r n; do echo \"line $n\"; done");
    let books = [
        ("bench_true", step(0, "true")),
        ("bench_steps", (0..STEPS).map(|n| step(n, "true")).collect()),
        ("bench_lines", step(0, &print)),
    ];
    for (name, steps) in books {
        fs::write(folder.join(format!("{name}.toml")), head(name) + &steps)?;
    }
    Ok(())
}

/// The real agents, a process each.
struct Agents {
    _running: Vec<Child>,
    _folder: tempfile::TempDir,
}

impl Agents {
    fn start(server: &Server, count: u32) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut running = Vec::new();
        for n in 0..count {
            let dir = folder.path().join(n.to_string());
            let state = StateDir::at(&dir);
            state.create()?;
            state.save(&Identity {
                server: server.info.url.parse()?,
                host_id: server::host_id(n),
                agent_token: Secret::new(server::agent_token(n)),
                host_name: format!("bench-{n}"),
                ca_fingerprint: None,
                plain_http: PlainHttp::LoopbackOnly,
            })?;
            fs::set_permissions(&dir, fs::Permissions::from_mode(0o700))?;
            fs::write(dir.join("agent.toml"), "allow_remote_commands = true\n")?;
            running.push(Child::start::<()>(&["agent".to_owned(), dir.display().to_string()])?.0);
        }
        Ok(Self { _running: running, _folder: folder })
    }
}

/// Places orders, one connection for each host, and waits for their ends.
struct Orders {
    url: String,
    token: String,
    db: rusqlite::Connection,
    connections: Vec<Api>,
}

impl Orders {
    async fn connect(server: &Server, count: u32) -> anyhow::Result<Self> {
        let (url, token) = (server.info.url.clone(), server.info.api_token.clone());
        let mut orders = Self { url, token, db: server.database()?, connections: Vec::new() };
        orders.reconnect(count as usize).await?;
        Ok(orders)
    }

    /// Fresh connections: the server closes those that were silent while others were measured.
    async fn reconnect(&mut self, count: usize) -> anyhow::Result<()> {
        self.connections.clear();
        for _ in 0..count {
            self.connections.push(Api::connect(&self.url, &self.token).await?);
        }
        Ok(())
    }

    async fn ask(&mut self, method: Method, path: &str, body: Value) -> anyhow::Result<Value> {
        let api = self.connections.first_mut().context("no connection")?;
        let body = if body.is_null() { String::new() } else { body.to_string() };
        Ok(serde_json::from_slice(&api.ask(method, path, body).await?)?)
    }

    async fn until_online(&mut self, hosts: &[String]) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        for host in hosts {
            while self.ask(Method::GET, &format!("/api/hosts/{host}"), Value::Null).await?["status"] != "online" {
                ensure!(Instant::now() < deadline, "an agent does not come");
                sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(())
    }

    /// Makes a host of each sshd, its key pinned. Their identities.
    async fn add_hosts(&mut self, sshds: &Sshds) -> anyhow::Result<Vec<String>> {
        let mut hosts = Vec::new();
        for port in &sshds.ports {
            let ssh = json!({ "host": "127.0.0.1", "port": port, "user": sshds.user, "key_path": sshds.key(),
                "host_key": sshds.fingerprint });
            let made =
                self.ask(Method::POST, "/api/hosts", json!({ "name": format!("ssh-{port}"), "ssh": ssh })).await?;
            hosts.push(made["id"].as_str().context("a host without an id")?.to_owned());
        }
        Ok(hosts)
    }

    /// Orders this runbook on all of `hosts` at once. The time until the last end is on disk.
    async fn all_of(&mut self, kind: &str, hosts: &[String]) -> anyhow::Result<Duration> {
        let last: i64 = self.db.query_row("SELECT coalesce(max(no), 0) FROM jobs", [], |row| row.get(0))?;
        self.reconnect(hosts.len()).await?;
        let start = Instant::now();
        let mut placing = JoinSet::new();
        for host in hosts {
            let mut api = self.connections.pop().context("fewer connections than hosts")?;
            let (path, body) = (format!("/api/hosts/{host}/jobs"), json!({ "kind": kind }).to_string());
            placing.spawn(async move { api.ask(Method::POST, &path, body).await.map(|_| api) });
        }
        while let Some(placed) = placing.join_next().await {
            self.connections.push(placed??);
        }
        let ended = "SELECT count(*), coalesce(max(CASE WHEN status <> 'succeeded' THEN error END), '') FROM jobs WHERE no > ?1 AND finished_at IS NOT NULL";
        loop {
            let (ended, error): (i64, String) =
                self.db.query_row(ended, [last], |row| Ok((row.get(0)?, row.get(1)?)))?;
            ensure!(error.is_empty(), "{kind}: a job failed: {error}");
            if usize::try_from(ended)? >= hosts.len() {
                return Ok(start.elapsed());
            }
            ensure!(
                start.elapsed() < Duration::from_secs(300),
                "{kind}: {ended} of {} ended in five minutes",
                hosts.len()
            );
            // Seldom enough not to be measured itself.
            sleep(Duration::from_millis(1)).await;
        }
    }
}

/// What else runs a command on these hosts.
struct Others<'a> {
    sshds: &'a Sshds,
    inventory: PathBuf,
    known_hosts: PathBuf,
    ansible: Option<PathBuf>,
}

impl<'a> Others<'a> {
    fn of(sshds: &'a Sshds) -> anyhow::Result<Self> {
        let known_hosts = sshds.known_hosts()?;
        let lines: String = sshds
            .ports
            .iter()
            .enumerate()
            .map(|(n, port)| {
                format!(
                    "host{n} ansible_host=127.0.0.1 ansible_port={port} ansible_user={} ansible_ssh_private_key_file={} ansible_python_interpreter=/usr/bin/python3\n",
                    sshds.user,
                    sshds.key().display()
                )
            })
            .collect();
        let inventory = sshds.write("inventory", &lines)?;
        let tools = std::env::var_os("FLOTILLA_TOOLS").map_or_else(|| PathBuf::from(".tools"), PathBuf::from);
        let ansible = Some(tools.join("ansible/bin/ansible")).filter(|path| path.exists());
        if ansible.is_none() {
            note("no Ansible in FLOTILLA_TOOLS/ansible: it is left out (scripts/setup-tools bench installs it)");
        }
        Ok(Self { sshds, inventory, known_hosts, ansible })
    }

    fn has_ansible(&self) -> bool {
        self.ansible.is_some()
    }

    /// As its own manual has it for speed: as many forks as hosts, pipelining, no facts; connections are kept between rounds, as its default is.
    fn ansible(&self, module: &str, hosts: &str) -> anyhow::Result<Duration> {
        let program = self.ansible.as_deref().context("no Ansible")?;
        let mut command = Command::new(program);
        command
            .args([hosts, "-f", &HOSTS.to_string(), "-m", module, "-a", "true", "-i"])
            .arg(&self.inventory)
            .env("ANSIBLE_PIPELINING", "1")
            .env("ANSIBLE_SSH_ARGS", ssh_args(&self.known_hosts) + " -o ControlMaster=auto -o ControlPersist=60s")
            .env("ANSIBLE_SSH_CONTROL_PATH_DIR", self.inventory.with_file_name("cp"))
            .env("ANSIBLE_LOCALHOST_WARNING", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        timed(|| {
            ensure!(command.status()?.success(), "ansible -m {module} failed");
            Ok(())
        })
    }

    /// As many processes of `ssh` as hosts, at once.
    fn bare(&self) -> anyhow::Result<Duration> {
        timed(|| {
            let start = |port: &u16| {
                let mut ssh = Command::new("ssh");
                ssh.args(ssh_args(&self.known_hosts).split(' ')).arg("-i").arg(self.sshds.key());
                ssh.args([
                    "-o",
                    "BatchMode=yes",
                    "-p",
                    &port.to_string(),
                    &format!("{}@127.0.0.1", self.sshds.user),
                    "true",
                ]);
                ssh.stdin(Stdio::null()).spawn()
            };
            let running = self.sshds.ports.iter().map(start).collect::<Result<Vec<_>, _>>()?;
            for mut ssh in running {
                ensure!(ssh.wait()?.success(), "a bare ssh failed");
            }
            Ok(())
        })
    }
}

fn ssh_args(known_hosts: &Path) -> String {
    format!("-F none -o StrictHostKeyChecking=yes -o UserKnownHostsFile={}", known_hosts.display())
}
