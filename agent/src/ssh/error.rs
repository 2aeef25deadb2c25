//! What can go wrong with a host reached by SSH, in words: what happened, why, what to try. No text shows a key or a value of a step.

use std::{path::PathBuf, sync::Arc, time::Duration};

use super::target::{Endpoint, HostKey};

/// Why a host could not be reached, or not be worked with.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SshError {
    /// The private key can't be used; nothing was sent.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The order itself is wrong; nothing was sent.
    #[error("{why}")]
    Input {
        /// What is wrong, and what to do.
        why: String,
    },
    /// The name leads nowhere.
    #[error("no address is known for {at}: {why}. Check the spelling of its address, and that the machine that connects can find it: getent hosts {}", .at.address)]
    NotResolved {
        /// Which host.
        at: Arc<Endpoint>,
        /// The resolver's text.
        why: String,
    },
    /// Nothing listens there.
    #[error("{at} refused the connection: nothing listens on port {}. Check that sshd runs there and that the port is right. By hand: {}", .at.port, .at.by_hand())]
    Refused {
        /// Which host.
        at: Arc<Endpoint>,
    },
    /// The network has no way there.
    #[error("{at} can't be reached: {why}. Check the host's address, its network and the firewalls between. By hand: {}", .at.by_hand())]
    Unreachable {
        /// Which host.
        at: Arc<Endpoint>,
        /// The system's text.
        why: String,
    },
    /// Nothing came for too long.
    #[error("{at} did not {stage} within {} s. {} By hand: {}", .after.as_secs(), .stage.hint(), .at.by_hand())]
    TimedOut {
        /// Which host.
        at: Arc<Endpoint>,
        /// How far it had come.
        stage: Stage,
        /// How long it was waited for.
        after: Duration,
    },
    /// Something else than an SSH server answers.
    #[error("{at} does not speak SSH: it answered {said:?}. Check the port")]
    NotSsh {
        /// Which host.
        at: Arc<Endpoint>,
        /// Its first bytes.
        said: String,
    },
    /// No host key is pinned. Nothing but the key exchange took place.
    #[error(
        "the host key of {at} is not confirmed yet: it showed {offered}. Compare it with what ssh-keygen -lf prints on the host itself, then confirm it. Nothing was sent to the host"
    )]
    HostKeyUnknown {
        /// Which host.
        at: Arc<Endpoint>,
        /// What it showed.
        offered: HostKey,
    },
    /// Another key than the pinned one. Nothing but the key exchange took place.
    #[error(
        "the host key of {at} has changed: {pinned} is confirmed, it showed {offered}. Either the host was installed anew, or somebody stands between. No credential was sent. \
             Find out which: if the host itself prints the new key by ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub, confirm the new one"
    )]
    HostKeyChanged {
        /// Which host.
        at: Arc<Endpoint>,
        /// What was confirmed.
        pinned: HostKey,
        /// What it showed.
        offered: HostKey,
    },
    /// The server does not take the key.
    #[error("{at} refused the login: {why}. Check the user, and that the public half of the key stands in that user's ~/.ssh/authorized_keys on the host. By hand: {}", .at.by_hand())]
    AuthenticationRefused {
        /// Which host.
        at: Arc<Endpoint>,
        /// What is known of it.
        why: String,
        /// The ways of logging in that the server offers.
        methods: Vec<String>,
    },
    /// The connection ended on its own.
    #[error("the connection to {at} dropped while {doing}: {why}{}", .doing.consequence())]
    Dropped {
        /// Which host.
        at: Arc<Endpoint>,
        /// What was under way.
        doing: Doing,
        /// The reason, where one is known.
        why: String,
    },
    /// The connection stands, a session on it is refused.
    #[error(
        "{at} refused a session: {why}. Check MaxSessions and what this key may do (authorized_keys: command=, restrict) in the server's configuration"
    )]
    ChannelRefused {
        /// Which host.
        at: Arc<Endpoint>,
        /// The server's reason.
        why: String,
    },
    /// The login worked and the shell did not start bash.
    #[error(
        "{at} did not start bash: {why}. Steps need bash on the host; check that it is installed, and that the user's login shell is one that runs commands"
    )]
    NoBash {
        /// Which host.
        at: Arc<Endpoint>,
        /// What was said instead.
        why: String,
    },
    /// Both sides speak SSH and don't understand each other.
    #[error("{at} and Flotilla don't agree on SSH: {why}. Very old servers may need an update; by hand: {}", .at.by_hand())]
    Protocol {
        /// Which host.
        at: Arc<Endpoint>,
        /// In the library's words.
        why: String,
    },
}

/// What a server did not get to in its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The network did not answer.
    Connect,
    /// Accepted, and not a word.
    Banner,
    /// Silent during the key exchange.
    KeyExchange,
    /// Silent at the login.
    Authentication,
    /// Silent when asked for a session.
    Session,
    /// Silent when asked for bash.
    Start,
    /// Silent in the midst of a file.
    Transfer,
}

impl Stage {
    fn hint(self) -> &'static str {
        match self {
            Self::Connect => "It is down, or a firewall drops what is sent to it.",
            Self::Banner => {
                "It accepts connections and says nothing: sshd there is overloaded or stopped, or another program has the port."
            }
            Self::KeyExchange => {
                "It began to speak SSH and stopped: often a broken path for big packets (MTU), or an overloaded host."
            }
            Self::Authentication => {
                "sshd waits for something: often a name service, PAM or a home directory on a dead network mount."
            }
            Self::Session | Self::Transfer => "The host is overloaded, or the network is gone.",
            Self::Start => "The user's login shell hangs: look at its start-up files.",
        }
    }
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Connect => "answer",
            Self::Banner => "greet",
            Self::KeyExchange => "finish the key exchange",
            Self::Authentication => "finish the login",
            Self::Session => "open a session",
            Self::Start => "start bash",
            Self::Transfer => "answer in a file transfer",
        })
    }
}

/// What was under way when a connection dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// Keys were exchanged.
    Handshake,
    /// The login.
    Authentication,
    /// A session was asked for: nothing had begun.
    Opening,
    /// A command ran.
    Command,
    /// A file went over.
    Transfer,
}

impl Doing {
    fn consequence(self) -> &'static str {
        match self {
            Self::Handshake => {
                ". The server closed it itself: too many connections at once (MaxStartups), or this address is blocked there"
            }
            Self::Authentication | Self::Opening | Self::Transfer => "",
            Self::Command => "; whether it finished is unknown",
        }
    }
}

impl std::fmt::Display for Doing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Handshake => "keys were exchanged",
            Self::Authentication => "logging in",
            Self::Opening => "a session was opened",
            Self::Command => "the command ran",
            Self::Transfer => "a file was transferred",
        })
    }
}

/// Why a private key is of no use.
#[derive(Debug, Clone, thiserror::Error)]
pub enum KeyError {
    /// There is no such file.
    #[error("the SSH key {} does not exist on the machine that connects. Check the path in the host's settings, or put the key there", .path.display())]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// It is there and can't be read.
    #[error("the SSH key {} can't be read: {why}. The user that Flotilla runs as must be allowed to read it", .path.display())]
    Unreadable {
        /// Where it is.
        path: PathBuf,
        /// The system's text.
        why: String,
    },
    /// Nobody is there to type it.
    #[error(
        "{what} has a passphrase, and nobody is there to type it. Make a key without one for Flotilla (ssh-keygen -t ed25519 -N '' -f FILE), or take it off a copy (ssh-keygen -p -N '' -f FILE)"
    )]
    Passphrase {
        /// Which key.
        what: String,
    },
    /// Something else.
    #[error(
        "{what} is not a private key that Flotilla can use: {why}. Ed25519, ECDSA and RSA keys in OpenSSH's formats are"
    )]
    NotAKey {
        /// Which key.
        what: String,
        /// What it is, where that can be seen.
        why: String,
    },
}
