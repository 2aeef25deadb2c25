//! Adding, changing and removing repositories, against a real store and vault.

use super::*;
use crate::{clock::ManualClock, domain::Timestamp, hub::Hub};

struct Bench {
    store: Store,
    vault: Vault,
    dir: tempfile::TempDir,
}

fn bench() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(Timestamp::from_unix_ms(1_795_248_000_000));
    let store = Store::open(dir.path(), Hub::new(), clock).unwrap();
    let vault = Vault::open(None, &dir.path().join("master.key")).unwrap().0;
    Bench { store, vault, dir }
}

fn input() -> RepoInput {
    serde_json::from_value(serde_json::json!({
        "name": "vault", "url": "rest:https://vault:8000/", "password": "planted-repo-password",
        "auth": {"username": "web", "password": "planted-auth-password"},
        "maintenance": {"username": "admin", "password": "planted-admin-password"},
        "append_only": true, "init": true,
    }))
    .unwrap()
}

fn fields_of(error: OpError) -> Vec<String> {
    match error {
        OpError::Invalid(errors) => errors.into_iter().map(|error| error.field).collect(),
        other => panic!("{other}"),
    }
}

impl Bench {
    async fn create(&self, input: RepoInput) -> Result<Repo, OpError> {
        create(&self.store, &self.vault, Actor::system(), input).await
    }

    async fn patch(&self, id: RepoId, patch: serde_json::Value) -> Result<Repo, OpError> {
        update(&self.store, &self.vault, Actor::system(), id, serde_json::from_value(patch).unwrap()).await
    }
}

#[tokio::test]
async fn secrets_are_named_in_the_open_and_readable_only_through_the_vault() {
    let bench = bench();
    let repo = bench.create(input()).await.unwrap();
    assert_eq!(repo.secrets_set, ["password", "auth.password", "maintenance"]);
    assert!(!format!("{repo:?}").contains("planted"));
    let secrets = secrets(&bench.store, &bench.vault, repo.id).await.unwrap();
    assert_eq!(secrets.password.expose(), "planted-repo-password");
    for entry in std::fs::read_dir(bench.dir.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(7).any(|part| part == b"planted"), "a secret is on disk in clear");
    }
}

#[tokio::test]
async fn all_that_is_wrong_is_said_at_once_by_field() {
    let bench = bench();
    let wrong = serde_json::json!({
        "name": " ", "url": "ftp://x", "auth": {"username": "", "password": "x"},
        "env": {"PATH": "/evil", "AWS_ACCESS_KEY_ID": ""}, "tls_ca_pem": "nonsense",
    });
    let refused = bench.create(serde_json::from_value(wrong).unwrap()).await.unwrap_err();
    assert_eq!(
        fields_of(refused),
        ["name", "url", "password", "auth", "auth.username", "env.AWS_ACCESS_KEY_ID", "env.PATH", "tls_ca_pem"]
    );
}

#[tokio::test]
async fn a_name_that_is_taken_is_a_conflict() {
    let bench = bench();
    bench.create(input()).await.unwrap();
    let again = bench.create(RepoInput { name: "VAULT".to_owned(), ..input() }).await;
    assert!(matches!(again, Err(OpError::Conflict(_))), "{again:?}");
}

#[tokio::test]
async fn a_change_keeps_the_secrets_that_it_does_not_name() {
    let bench = bench();
    let id = bench.create(input()).await.unwrap().id;
    let patch =
        serde_json::json!({"name": "vault 2", "auth": {"username": "web2"}, "env": {"AWS_DEFAULT_REGION": "eu"}});
    let repo = bench.patch(id, patch).await.unwrap();
    assert_eq!((repo.name.as_str(), repo.username.as_deref(), repo.append_only), ("vault 2", Some("web2"), true));
    let kept = secrets(&bench.store, &bench.vault, id).await.unwrap();
    assert_eq!(kept.password.expose(), "planted-repo-password");
    assert_eq!(kept.auth_password.unwrap().expose(), "planted-auth-password");
    let repo = bench
        .patch(id, serde_json::json!({"auth": null, "maintenance": null, "env": {"AWS_DEFAULT_REGION": null}}))
        .await
        .unwrap();
    assert_eq!((repo.username, repo.secrets_set), (None, vec!["password".to_owned()]));
}

#[tokio::test]
async fn a_removed_repository_has_no_secrets_any_more() {
    let bench = bench();
    let id = bench.create(input()).await.unwrap().id;
    remove(&bench.store, Actor::system(), id).await.unwrap();
    assert!(matches!(secrets(&bench.store, &bench.vault, id).await, Err(OpError::NotFound(_))));
    assert!(matches!(remove(&bench.store, Actor::system(), id).await, Err(OpError::NotFound(_))));
}

#[test]
fn what_uses_a_repository_is_named_with_what_to_do_about_it() {
    let (plans, schedules) = (["nightly".to_owned()], ["check of web".to_owned()]);
    let text = |plans: &[String], schedules: &[String]| in_use("vault", plans, schedules);
    assert_eq!(text(&[], &[]), None);
    assert_eq!(
        text(&plans, &[]).unwrap(),
        "vault is used by nightly: point them to another repository or remove them first"
    );
    let both = text(&plans, &schedules).unwrap();
    assert!(both.starts_with("vault is used by nightly, the schedule of the check of web: point the plans"), "{both}");
}

#[test]
fn unknown_fields_of_a_request_are_refused() {
    let extra = serde_json::json!({"name": "x", "url": "/r", "pasword": "typo"});
    assert!(serde_json::from_value::<RepoInput>(extra).unwrap_err().to_string().contains("pasword"));
}
