//! The test of a connection: one step after the other, up to the first that fails, so that the answer is exactly what is wrong.

use std::{net::SocketAddr, time::Duration};

use flotilla_proto::{JobStatus, TestResult, TestStep};
use http::{Method, StatusCode};
use tokio::{
    net::{TcpStream, lookup_host},
    time::{Instant, timeout},
};

use super::{Broke, Desk, ended};
use crate::{
    process::Cause,
    restic::{
        exit::{self, Trouble},
        preflight,
        rest::RestServer,
    },
    sink::JobOutcome,
};

/// Whether the next step is worth a try.
type Went<T> = Result<T, Halt>;

enum Halt {
    /// The last step says why.
    Here,
    Broke(Broke),
}

impl From<Broke> for Halt {
    fn from(broke: Broke) -> Self {
        Self::Broke(broke)
    }
}

pub(super) async fn test(desk: &mut Desk<'_>) -> Result<JobOutcome, Broke> {
    let mut test = Test { desk, steps: Vec::new() };
    match test.all().await {
        Ok(()) | Err(Halt::Here) => {}
        Err(Halt::Broke(broke)) => return Err(broke),
    }
    let Test { desk, steps } = test;
    let failed = steps.iter().find(|step| !step.ok).map(|step| format!("{}: {}", step.name, step.detail));
    let status = if failed.is_none() { JobStatus::Succeeded } else { JobStatus::Failed };
    Ok(ended(status, failed, TestResult { steps, restic: desk.session.restic.version.to_string() }))
}

struct Test<'t, 'd> {
    desk: &'t mut Desk<'d>,
    steps: Vec<TestStep>,
}

impl Test<'_, '_> {
    async fn all(&mut self) -> Went<()> {
        if let (Some((host, port)), false) = (server_of(self.desk), self.desk.session.proxied) {
            let found = self.resolve(&host, port).await?;
            self.connect(&host, port, &found).await?;
        }
        let may_init = self.desk.order.repo.as_ref().is_some_and(|repo| repo.init);
        let rest = self.desk.order.repo.as_ref().and_then(|repo| RestServer::of(repo, &self.desk.session.address));
        if let (Some(server), false) = (rest, self.desk.session.proxied) {
            match server {
                Ok(server) => self.sign_in(&server).await?,
                Err(error) => return self.bad("Agree on TLS", error),
            }
        }
        if !self.open(may_init).await? {
            return Ok(());
        }
        self.read().await?;
        self.write().await
    }

    fn step(&mut self, name: impl Into<String>, ok: bool, detail: impl ToString) {
        let step = TestStep { name: name.into(), ok, detail: detail.to_string() };
        let word = if ok { "ok" } else { "FAILED" };
        self.desk.sink.say(&format!("{}: {word}: {}", step.name, step.detail));
        self.steps.push(step);
    }

    fn bad<T>(&mut self, name: impl Into<String>, detail: impl ToString) -> Went<T> {
        self.step(name, false, detail);
        Err(Halt::Here)
    }

    async fn resolve(&mut self, host: &str, port: u16) -> Went<Vec<SocketAddr>> {
        let name = format!("Find the address of {host}");
        let next = "Check the name, and this host's DNS";
        match timeout(self.desk.patience.connect, lookup_host((host, port))).await {
            Ok(Ok(found)) => {
                let found: Vec<SocketAddr> = found.collect();
                let shown: Vec<String> = found.iter().map(|address| address.ip().to_string()).collect();
                if found.is_empty() {
                    return self.bad(name, format!("the name has no address. {next}"));
                }
                self.step(name, true, shown.join(", "));
                Ok(found)
            }
            Ok(Err(error)) => self.bad(name, format!("the name can't be resolved ({error}). {next}")),
            Err(_) => {
                let waited = self.desk.patience.connect.as_secs();
                self.bad(name, format!("the name was not resolved within {waited} s. {next}"))
            }
        }
    }

    async fn connect(&mut self, host: &str, port: u16, found: &[SocketAddr]) -> Went<()> {
        let name = format!("Connect to {host}, port {port}");
        let begun = Instant::now();
        match timeout(self.desk.patience.connect, TcpStream::connect(found)).await {
            Ok(Ok(_)) => {
                self.step(name, true, format!("within {} ms", begun.elapsed().as_millis()));
                Ok(())
            }
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => self.bad(
                name,
                "the connection is refused: nothing listens there. Check that the server runs, and the port",
            ),
            Ok(Err(error)) => self.bad(name, format!("{error}. Check the network and firewalls between")),
            Err(_) => {
                let waited = self.desk.patience.connect.as_secs();
                self.bad(name, format!("no answer within {waited} s. A firewall may drop it, or the way is down"))
            }
        }
    }

    async fn sign_in(&mut self, server: &RestServer) -> Went<()> {
        let patience = self.desk.patience.total.min(Duration::from_secs(30));
        if server.is_tls() {
            match server.shake_hands(patience).await {
                Ok(()) => self.step("Agree on TLS", true, "the certificate is trusted"),
                Err(error) => return self.bad("Agree on TLS", tls_words(&error.to_string())),
            }
        }
        let name = "Sign in";
        match server.ask(Method::HEAD, "config", &[], patience).await {
            Ok((StatusCode::UNAUTHORIZED, _)) => self.bad(name, Trouble::Unauthorized.advice()),
            Ok((StatusCode::FORBIDDEN, _)) => self.bad(name, Trouble::Forbidden.advice()),
            Ok((StatusCode::BAD_REQUEST, _)) if !server.is_tls() => self.bad(name, Trouble::TlsMismatch.advice()),
            Ok((status, _)) if status.is_server_error() => {
                self.bad(name, format!("the server answers {status}: look at its log"))
            }
            Ok((status, _)) => {
                self.step(name, true, format!("the server answers {status}"));
                Ok(())
            }
            Err(error) => self.bad(
                name,
                format!("the server takes connections but gives no answer that makes sense ({error}). Check that the address is that of the repository's server"),
            ),
        }
    }

    /// Whether there is a repository to go on with.
    async fn open(&mut self, may_init: bool) -> Went<bool> {
        let there = "Is there a repository";
        let opens = "Open it with its password";
        let deadline = self.desk.deadline.min(Instant::now() + self.desk.patience.total);
        let desk = &mut *self.desk;
        let (exit, said) = match preflight::look(&desk.session.look(), deadline, desk.grace, desk.stop, desk.sink).await
        {
            Ok(looked) => looked,
            Err(error) => return self.bad(there, error),
        };
        match exit.stopped {
            Some(Cause::Asked(wish)) => return Err(Halt::Broke(Broke::Stopped(wish))),
            Some(_) => return self.bad(there, preflight::no_answer(self.desk.patience.total, &said)),
            None => {}
        }
        if exit.code == 0 {
            self.step(there, true, "yes");
            self.step(opens, true, "it does");
            return Ok(true);
        }
        let words = exit::failure(exit.code, &said);
        match Trouble::of(exit.code, &said.error_text()) {
            Some(trouble) if trouble.is_missing() && may_init => {
                self.step(there, true, "not yet: the first backup creates it");
                Ok(false)
            }
            Some(Trouble::WrongPassword | Trouble::ForeignKey) => {
                self.step(there, true, "yes");
                self.bad(opens, words)
            }
            _ => self.bad(there, words),
        }
    }

    async fn read(&mut self) -> Went<()> {
        let name = "Read it";
        match self.desk.snapshots(self.desk.session, &[]).await {
            Ok(list) => {
                self.step(name, true, format!("{} snapshots", list.len()));
                Ok(())
            }
            Err(Broke::Failed { error, .. }) => self.bad(name, error),
            Err(stopped) => Err(stopped.into()),
        }
    }

    async fn write(&mut self) -> Went<()> {
        let name = "Write to it";
        let deadline = self.desk.deadline.min(Instant::now() + 2 * self.desk.patience.total);
        let heard = match self.desk.hear_until(&self.desk.session.lock_and_leave(), deadline).await {
            Ok(heard) => heard.good(),
            Err(broke) => Err(broke),
        };
        match heard {
            Ok(_) => {
                self.step(name, true, "a lock was set and taken away again");
                Ok(())
            }
            Err(Broke::Failed { error, .. }) => self.bad(name, error),
            Err(stopped) => Err(stopped.into()),
        }
    }
}

fn tls_words(reason: &str) -> String {
    if reason.contains("certificate") || reason.contains("UnknownIssuer") {
        format!("{} ({reason})", Trouble::Certificate.advice())
    } else {
        format!("{} ({reason})", Trouble::TlsMismatch.advice())
    }
}

/// Whom to reach: also for kinds whose server does not stand in the address as such. `None`: nobody by TCP, or only what runs for it knows (ssh, rclone).
fn server_of(desk: &Desk<'_>) -> Option<(String, u16)> {
    let address = &desk.session.address;
    let account = || {
        let repo = desk.order.repo.as_ref()?;
        let name = repo.env.get("AZURE_ACCOUNT_NAME")?.expose();
        Some((format!("{name}.blob.core.windows.net"), 443))
    };
    match address.shown.split(':').next()? {
        "b2" => Some(("api.backblazeb2.com".to_owned(), 443)),
        "gs" => Some(("storage.googleapis.com".to_owned(), 443)),
        "azure" => account(),
        _ => address.server.clone(),
    }
}
