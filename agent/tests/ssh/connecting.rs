//! Getting there: keys, host keys, and each way in which it fails.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::PermissionsExt as _,
    thread,
    time::Duration,
};

use flotilla_agent::ssh::{HostKey, KeyError, Ssh, SshError, SshKey, SshTarget, Stage, Timeouts};

use crate::sshd::{Sshd, fingerprint, free_port, keygen, unique};

async fn fails(target: &SshTarget) -> SshError {
    Ssh::connect(target, Timeouts::default()).await.unwrap_err()
}

/// With little patience for the handshake.
async fn fails_soon(target: &SshTarget) -> SshError {
    let timeouts = Timeouts { handshake: Duration::from_secs(2), ..Timeouts::default() };
    Ssh::connect(target, timeouts).await.unwrap_err()
}

/// A server that does this with its first connection.
fn server(serve: impl FnOnce(std::net::TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || serve(listener.accept().unwrap().0));
    port
}

#[tokio::test]
async fn a_host_key_that_nobody_confirmed_is_shown_and_nothing_else_is_said_to_the_host() {
    let sshd = Sshd::start();
    let error = fails(&SshTarget { host_key: None, ..sshd.target() }).await;
    let SshError::HostKeyUnknown { offered, .. } = &error else { panic!("{error}") };
    assert_eq!(offered.fingerprint, fingerprint(&sshd.path("host_ed25519.pub")));
    assert_eq!(offered.algorithm.as_deref(), Some("ssh-ed25519"));
    assert!(error.to_string().contains("Nothing was sent"), "{error}");
    let log = sshd.log();
    assert!(log.contains("Connection from") && !log.contains("userauth-request"), "{log}");
}

#[tokio::test]
async fn a_host_key_other_than_the_confirmed_one_is_a_hard_stop_before_any_credential() {
    let (sshd, other) = (Sshd::start(), Sshd::start());
    let pinned = HostKey { algorithm: Some("ssh-ed25519".into()), ..other.host_key("ed25519") };
    let error = fails(&SshTarget { host_key: Some(pinned.clone()), ..sshd.target() }).await;
    let SshError::HostKeyChanged { offered, pinned: told, .. } = &error else { panic!("{error}") };
    assert_eq!((&offered.fingerprint, told), (&sshd.host_key("ed25519").fingerprint, &pinned));
    assert!(!sshd.log().contains("userauth-request"), "{}", sshd.log());
    // A pin without its kind makes Flotilla ask for each of the host's keys, and stop all the same.
    let error = fails(&SshTarget { host_key: Some(other.host_key("ed25519")), ..sshd.target() }).await;
    assert!(matches!(error, SshError::HostKeyChanged { .. }));
    assert!(!sshd.log().contains("userauth-request"), "{}", sshd.log());
}

#[tokio::test]
async fn of_several_host_keys_the_pinned_one_is_asked_for() {
    let sshd = Sshd::with(&["ed25519", "ecdsa", "rsa"], "");
    for (kind, algorithm) in [("ed25519", "ssh-ed25519"), ("ecdsa", "ecdsa-sha2-nistp256"), ("rsa", "ssh-rsa")] {
        for known in [None, Some(algorithm.to_owned())] {
            let pinned = HostKey { algorithm: known, ..sshd.host_key(kind) };
            let ssh =
                Ssh::connect(&SshTarget { host_key: Some(pinned.clone()), ..sshd.target() }, Timeouts::default()).await;
            let proven = ssh.unwrap().host_key().await.unwrap();
            assert_eq!(proven, HostKey { algorithm: Some(algorithm.into()), ..pinned });
        }
    }
}

#[tokio::test]
async fn keys_of_each_kind_and_format_log_in() {
    let sshd = Sshd::start();
    let kinds: [(&str, &[&str]); 6] = [
        ("ed25519", &["-t", "ed25519"]),
        ("ecdsa", &["-t", "ecdsa", "-b", "384"]),
        ("rsa", &["-t", "rsa", "-b", "2048"]),
        ("rsa_pem", &["-t", "rsa", "-b", "2048", "-m", "PEM"]),
        ("ecdsa_pem", &["-t", "ecdsa", "-m", "PEM"]),
        ("rsa_pkcs8", &["-t", "rsa", "-b", "2048", "-m", "PKCS8"]),
    ];
    let mut allowed = String::new();
    for (name, args) in kinds {
        keygen(&sshd.path(name), &[args, &["-N", ""]].concat());
        allowed += &fs::read_to_string(sshd.path(&format!("{name}.pub"))).unwrap();
    }
    fs::write(sshd.path("authorized_keys"), allowed).unwrap();
    for (name, _) in kinds {
        let text = fs::read_to_string(sshd.path(name)).unwrap();
        // As a form sends it.
        let pasted = format!("\r\n  {}", text.replace('\n', "\r\n"));
        for key in [SshKey::Path(sshd.path(name)), SshKey::Text(pasted.as_str().into())] {
            let ssh = Ssh::connect(&SshTarget { key, ..sshd.target() }, Timeouts::default()).await;
            assert!(ssh.is_ok(), "{name}: {}", ssh.unwrap_err());
        }
    }
    let log = sshd.log();
    assert!(log.contains("rsa-sha2-512") && !log.contains("signature algorithm ssh-rsa"), "{log}");
}

#[tokio::test]
async fn a_key_that_is_of_no_use_is_told_apart_before_anything_is_sent() {
    let sshd = Sshd::start();
    keygen(&sshd.path("locked"), &["-t", "ed25519", "-N", "secret"]);
    keygen(&sshd.path("locked_pem"), &["-t", "rsa", "-m", "PEM", "-N", "secret"]);
    keygen(&sshd.path("locked_pkcs8"), &["-t", "ecdsa", "-m", "PKCS8", "-N", "secret"]);
    fs::write(sshd.path("noise"), "not a key\n").unwrap();
    fs::write(sshd.path("half"), &fs::read(sshd.path("client")).unwrap()[..200]).unwrap();
    fs::write(sshd.path("huge"), vec![b'x'; 1 << 20]).unwrap();
    for (name, words) in [
        ("none", "does not exist"),
        ("locked", "has a passphrase"),
        ("locked_pem", "has a passphrase"),
        ("locked_pkcs8", "has a passphrase"),
        ("noise", "is not a private key"),
        ("half", "is not a private key"),
        ("huge", "far too long"),
        ("client.pub", "public half"),
        (".", "no regular file"),
    ] {
        let error = fails(&SshTarget { key: SshKey::Path(sshd.path(name)), ..sshd.target() }).await;
        assert!(matches!(error, SshError::Key(_)) && error.to_string().contains(words), "{name}: {error}");
    }
    let SshError::Key(KeyError::NotAKey { what, .. }) =
        fails(&SshTarget { key: SshKey::Text("".into()), ..sshd.target() }).await
    else {
        panic!("an empty key")
    };
    assert_eq!(what, "the stored SSH key");
    // Only the look whether it listens.
    assert!(!sshd.log().contains("SSH2_MSG_KEXINIT sent"), "{}", sshd.log());
}

#[tokio::test]
async fn a_key_that_others_can_read_works_with_a_warning() {
    let sshd = Sshd::start();
    assert_eq!(sshd.connect().await.warning(), None);
    fs::set_permissions(sshd.path("client"), fs::Permissions::from_mode(0o644)).unwrap();
    let ssh = sshd.connect().await;
    assert!(ssh.warning().unwrap().contains("chmod 600"), "{:?}", ssh.warning());
}

#[tokio::test]
async fn each_way_of_not_getting_through_has_its_own_words() {
    let sshd = Sshd::start();
    let with = |port| SshTarget { port, ..sshd.target() };
    let error = fails(&with(free_port())).await;
    assert!(matches!(error, SshError::Refused { .. }) && error.to_string().contains("ssh -v -p"));
    let error = fails(&SshTarget { address: "no-such-host.invalid".into(), ..sshd.target() }).await;
    assert!(matches!(error, SshError::NotResolved { .. }));
    let error = fails(&with(server(|mut tcp| {
        let _ = tcp.read(&mut [0; 64]);
        let _ = tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    })))
    .await;
    assert!(matches!(&error, SshError::NotSsh { said, .. } if said == "HTTP/1.1 400 Bad Request"));
    let error = fails(&with(server(drop))).await;
    assert!(matches!(error, SshError::Dropped { .. }) && error.to_string().contains("MaxStartups"));
}

#[tokio::test]
async fn a_server_that_accepts_and_then_hangs_is_given_up_at_each_stage() {
    let sshd = Sshd::start();
    let hold = |tcp: std::net::TcpStream| {
        let mut tcp = tcp;
        while matches!(tcp.read(&mut [0; 4096]), Ok(1..)) {}
    };
    let error = fails_soon(&SshTarget { port: server(hold), ..sshd.target() }).await;
    assert!(matches!(error, SshError::TimedOut { stage: Stage::Banner, .. }));
    let port = server(move |mut tcp| {
        tcp.write_all(b"SSH-2.0-Slow_1.0\r\n").unwrap();
        hold(tcp);
    });
    let error = fails_soon(&SshTarget { port, ..sshd.target() }).await;
    assert!(matches!(error, SshError::TimedOut { stage: Stage::KeyExchange, .. }));
}

#[tokio::test]
async fn a_refused_login_says_what_the_server_offers() {
    let sshd = Sshd::start();
    keygen(&sshd.path("stranger"), &["-t", "ed25519", "-N", ""]);
    let stranger = |sshd: &Sshd| SshTarget { key: SshKey::Path(sshd.path("stranger")), ..sshd.target() };
    let error = fails(&stranger(&sshd)).await;
    let SshError::AuthenticationRefused { methods, .. } = &error else { panic!("{error}") };
    assert_eq!(methods, &["publickey"]);
    assert!(error.to_string().contains("authorized_keys"), "{error}");
    let passwords = Sshd::with(&["ed25519"], "PubkeyAuthentication no\nPasswordAuthentication yes\n");
    let error = fails(&passwords.target()).await;
    assert!(matches!(&error, SshError::AuthenticationRefused { methods, .. } if methods == &["password"]));
    assert!(error.to_string().contains("takes no keys"), "{error}");
}

#[tokio::test]
async fn a_probe_says_what_works_and_what_does_not() {
    let sshd = Sshd::start();
    let probe = Ssh::probe(&sshd.target(), Timeouts::default(), &unique()).await;
    assert!(probe.works() && probe.host_key.is_some(), "{probe:?}");
    let probe = Ssh::probe(&SshTarget { host_key: None, ..sshd.target() }, Timeouts::default(), &unique()).await;
    assert_eq!(probe.host_key.unwrap().fingerprint, sshd.host_key("ed25519").fingerprint);
    assert!(matches!(probe.login, Err(SshError::HostKeyUnknown { .. })));
    let files_only = Sshd::with(&["ed25519"], "ForceCommand internal-sftp\n");
    let probe = Ssh::probe(&files_only.target(), Timeouts::default(), &unique()).await;
    assert!(probe.login.is_ok() && matches!(probe.sftp, Some(Ok(()))), "{probe:?}");
    assert!(matches!(probe.bash, Some(Err(SshError::NoBash { .. }))), "{probe:?}");
}
