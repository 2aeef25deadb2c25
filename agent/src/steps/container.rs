//! A container of a host as a host of steps: the host's own `docker exec` or `podman exec`, with the script through its standard input. The mark is on both sides, and
//! what carries it is ended on both sides.

use std::{sync::Arc, time::Duration};

use flotilla_proto::{Container, FailureClass, Secret, Stream};

use super::{
    failure::Failure,
    remote::{End, OutputLine, Remote, Running, Script, Transfer},
    script::{self, ARGUMENTS, BOOTSTRAP, MARK},
};
use crate::{
    leftovers::{self, Stopped},
    runbook::{Direction, shell::quoted},
    runner::BoxFuture,
};

/// How long what ends processes within the container may take beyond its grace: as on any host.
const WORK: Duration = leftovers::WORK;
/// Lines of a refusal that are told.
const TOLD: usize = 3;

/// See the module.
pub(super) struct Inside {
    host: Arc<dyn Remote>,
    container: Container,
}

impl Inside {
    pub(super) fn new(host: Arc<dyn Remote>, container: Container) -> Self {
        Self { host, container }
    }

    /// The host's command that runs `words` within. The error: the container's settings can't be meant.
    fn command(&self, options: &[String], words: &[&str]) -> Result<String, Failure> {
        let Container { cli, name, user } = &self.container;
        if !(matches!(cli.as_str(), "docker" | "podman") || cli.starts_with('/')) {
            let why = format!(
                "{cli:?} is no program for containers: write docker, podman, or the path of one, in the host's settings"
            );
            return Err(Failure::new(FailureClass::NotConfigured, why));
        }
        let odd = |text: &str| text.is_empty() || text.starts_with('-') || text.chars().any(char::is_control);
        if odd(name) || user.as_deref().is_some_and(odd) {
            let why = format!(
                "the container {name:?}, or its user, is empty or begins with a dash: correct it in the host's settings"
            );
            return Err(Failure::new(FailureClass::NotConfigured, why));
        }
        let mut all = vec!["exec".to_owned(), quoted(cli), "exec".to_owned(), "-i".to_owned()];
        all.extend(options.iter().map(|option| quoted(option)));
        all.push(quoted(name));
        all.extend(words.iter().map(|word| quoted(word)));
        Ok(all.join(" "))
    }

    async fn enter(&self, script: Script) -> Result<Box<dyn Running>, Failure> {
        let mut options = vec!["-e".to_owned(), format!("{MARK}={}", script.mark)];
        if let Some(user) = &self.container.user {
            options.extend(["-u".to_owned(), user.clone()]);
        }
        // Says that it is there first: whatever fails before that is no failure of the script.
        let greeting = format!("echo \"{}\"; {BOOTSTRAP}", sign(&script.mark));
        let mut words = vec!["bash"];
        words.extend(ARGUMENTS);
        words.extend([greeting.as_str(), "bash"]);
        let text = self.command(&options, &words)?;
        let (stdin, mark) = (Some(script::input(&script)?), script.mark);
        let outer = Script { text, env: Vec::new(), stdin, mark: mark.clone() };
        let inner = self.host.exec(outer).await?;
        let (sign, said) = (sign(&mark), Vec::new());
        Ok(Box::new(Entered { inner, sign, begun: false, said, container: self.container.clone() }))
    }

    /// Ends what carries the mark within the container.
    async fn kill_within(&self, mark: &str, grace: Duration) -> Result<Stopped, String> {
        let options = ["-u".to_owned(), "0".to_owned()];
        let text = self.command(&options, &["sh", "-s"]).map_err(|failure| failure.why)?;
        let stdin = Some(Secret::new(leftovers::script(mark, grace)));
        let own = Script { text, env: Vec::new(), stdin, mark: format!("{mark}-stop") };
        let ask = async {
            let mut running = self.host.exec(own).await?;
            let mut said = String::new();
            while let Some(line) = running.line().await {
                if line.stream == Stream::Stdout && said.len() < leftovers::MOST_OUTPUT {
                    said.push_str(&line.text);
                    said.push('\n');
                }
            }
            leftovers::read(&said).ok_or_else(|| Failure::from("it did not answer"))
        };
        match tokio::time::timeout(grace + WORK, ask).await {
            Ok(Ok(stopped)) => Ok(stopped),
            Ok(Err(failure)) => Err(self.unknown(&failure.why)),
            Err(_) => Err(self.unknown("it took too long")),
        }
    }

    fn unknown(&self, why: &str) -> String {
        format!(
            "whether anything of the command still runs in the container {} is not known ({why}). Look for it there",
            self.container.name
        )
    }
}

fn sign(mark: &str) -> String {
    format!("flotilla-run {mark}")
}

impl Remote for Inside {
    fn exec(&self, script: Script) -> BoxFuture<'_, Result<Box<dyn Running>, Failure>> {
        Box::pin(self.enter(script))
    }

    fn kill_marked<'a>(&'a self, mark: &'a str, grace: Duration) -> BoxFuture<'a, Result<Stopped, String>> {
        Box::pin(async move {
            let within = self.kill_within(mark, grace).await;
            // What entered the container is on the host, and a host sees the container's processes as well.
            let outside = self.host.kill_marked(mark, grace).await?;
            Ok(match within {
                Ok(within) => within.and(outside),
                // A container that is gone has nothing running in it: the host's own look counts.
                Err(_) if outside.is_clean() && outside.found > 0 => outside,
                Err(why) => return Err(why),
            })
        })
    }

    fn transfer<'a>(&'a self, transfer: Transfer<'a>) -> BoxFuture<'a, Result<u64, Failure>> {
        self.host.transfer(transfer)
    }

    fn tidy<'a>(&'a self, direction: Direction, local: &'a str, remote: &'a str, id: &'a str) -> BoxFuture<'a, ()> {
        self.host.tidy(direction, local, remote, id)
    }
}

struct Entered {
    inner: Box<dyn Running>,
    sign: String,
    begun: bool,
    /// What was said before the script began.
    said: Vec<String>,
    container: Container,
}

impl Entered {
    /// Whether the line is the script's.
    fn is_own(&mut self, line: &OutputLine) -> bool {
        if self.begun {
            return true;
        }
        if line.stream == Stream::Stdout && line.text == self.sign {
            self.begun = true;
            return false;
        }
        if self.said.len() < TOLD {
            self.said.push(line.text.clone());
        }
        true
    }

    async fn next(&mut self) -> Option<OutputLine> {
        loop {
            let line = self.inner.line().await?;
            if self.is_own(&line) {
                return Some(line);
            }
        }
    }

    fn refusal(&self, code: i32) -> String {
        let Container { cli, name, .. } = &self.container;
        let said = self.said.join(" / ");
        let lower = said.to_lowercase();
        let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
        if has(&["no such container", "no container with name"]) {
            format!(
                "the container {name:?} does not exist on this host: look at its name in the host's settings, and at `{cli} ps -a`"
            )
        } else if has(&["is not running", "container state improper", "is paused"]) {
            format!(
                "the container {name:?} does not run: start it, or give the step `on_host = true`. {cli} said: {said}"
            )
        } else if has(&["executable file", "stat bash"]) && has(&["bash"]) {
            format!(
                "the container {name:?} has no bash, which steps are run by: install it there, or give the step `on_host = true`"
            )
        } else if code == 127 && lower.contains(&cli.to_lowercase()) {
            format!(
                "this host has no {cli}, by which its container {name:?} would be entered: install it, or correct the host's settings"
            )
        } else {
            format!("the container {name:?} could not be entered: {cli} ended with code {code} and said: {said}")
        }
    }
}

impl Running for Entered {
    fn line(&mut self) -> BoxFuture<'_, Option<OutputLine>> {
        Box::pin(self.next())
    }

    fn ready(&mut self) -> Option<OutputLine> {
        let line = self.inner.ready()?;
        if self.is_own(&line) { Some(line) } else { self.inner.ready() }
    }

    fn wait(&mut self) -> BoxFuture<'_, End> {
        Box::pin(async move {
            while self.next().await.is_some() {}
            match self.inner.wait().await {
                End::Exited { code, .. } if !self.begun => {
                    End::Unclear(Failure::new(FailureClass::NoContainer, self.refusal(code)))
                }
                end => end,
            }
        })
    }

    fn skim(&mut self) {
        if self.begun {
            self.inner.skim();
        }
    }

    fn skimmed(&self) -> u64 {
        self.inner.skimmed()
    }

    fn interrupt(&mut self) {
        self.inner.interrupt();
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;
    use crate::steps::here::Here;

    fn container(cli: &str, name: &str) -> Inside {
        Inside::new(Arc::new(Here), Container { cli: cli.to_owned(), name: name.to_owned(), user: None })
    }

    #[test]
    fn what_would_be_an_option_or_another_program_is_refused() {
        for (cli, name) in
            [("sh", "app"), ("docker", "-app"), ("podman", ""), ("docker; id", "app"), ("docker", "a\nb")]
        {
            assert!(container(cli, name).command(&[], &["bash"]).is_err(), "{cli} {name}");
        }
        let command = container("podman", "a;b").command(&["-u".to_owned(), "o'x".to_owned()], &["bash"]).unwrap();
        assert_eq!(command, r"exec podman exec -i -u 'o'\''x' 'a;b' bash");
    }

    async fn refusal(cli: &str) -> String {
        let script = Script { text: "true".to_owned(), env: Vec::new(), stdin: None, mark: "m".to_owned() };
        let mut running = container(cli, "app").exec(script).await.unwrap();
        match running.wait().await {
            End::Unclear(failure) => {
                assert_eq!(failure.class, FailureClass::NoContainer);
                failure.why
            }
            end => panic!("{end:?}"),
        }
    }

    #[tokio::test]
    async fn a_container_that_can_not_be_entered_is_told_apart_from_a_script_that_fails() {
        let folder = tempfile::tempdir().unwrap();
        let said = |name: &str, text: &str, code: u8| {
            use std::os::unix::fs::PermissionsExt as _;
            let path = folder.path().join(name);
            std::fs::write(&path, format!("#!/bin/sh\necho '{text}' >&2\nexit {code}\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let cases = [
            (said("a", "Error response from daemon: No such container: app", 1), "does not exist"),
            (said("b", "Error: no container with name or ID \"app\" found: no such container", 125), "does not exist"),
            (said("c", "Error response from daemon: container 1 is not running", 1), "does not run"),
            (
                said("d", "OCI runtime exec failed: exec: \"bash\": executable file not found in $PATH", 126),
                "has no bash",
            ),
            (said("e", "Cannot connect to the Docker daemon", 1), "could not be entered"),
            ("/no/such/docker".to_owned(), "this host has no /no/such/docker"),
        ];
        for (cli, words) in cases {
            let why = refusal(&cli).await;
            assert!(why.contains(words), "{why}");
        }
    }
}
