//! What a repository's fields may hold. An address says where, never who: credentials inside of it would show in lists, logs and
//! process tables. Environment names are allowed by the back end that reads them, so that nothing else of the agent's process can be set.

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};

use crate::domain::variables;

/// Kinds of addresses, as a person is told.
const KINDS: &str = "rest:https://HOST:PORT/, s3:https://HOST/BUCKET, sftp:USER@HOST:/PATH, b2:BUCKET:, azure:CONTAINER:/, gs:BUCKET:/, swift:CONTAINER:/, rclone:REMOTE:PATH or an absolute local path";

/// Variables that restic's back ends read. One that runs a command is left out on purpose.
const ENV_PREFIXES: [&str; 8] = ["AWS_", "B2_", "AZURE_", "GOOGLE_", "RCLONE_CONFIG_", "OS_", "ST_", "SWIFT_"];

/// An absolute path of Unix or Windows.
pub(in crate::ops) fn is_absolute(path: &str) -> bool {
    let bytes = path.as_bytes();
    path.starts_with('/')
        || matches!(bytes, [drive, b':', b'\\' | b'/', ..] if drive.is_ascii_alphabetic())
        || path.starts_with(r"\\")
}

/// The address, trimmed.
pub(super) fn url(text: &str) -> Result<String, String> {
    let url = text.trim();
    if url.is_empty() {
        return Err(format!("is missing: give an address such as {KINDS}"));
    }
    if url.len() > 2000 || url.chars().any(char::is_control) {
        return Err("must have at most 2000 bytes and no control characters".to_owned());
    }
    if is_absolute(url) {
        return Ok(url.to_owned());
    }
    let (kind, rest) = url.split_once(':').ok_or_else(|| format!("is of no known kind: use {KINDS}"))?;
    match kind {
        "rest" if !rest.starts_with("http://") && !rest.starts_with("https://") => {
            return Err("must go on with http:// or https:// after rest:".to_owned());
        }
        "rest" | "s3" | "sftp" | "b2" | "azure" | "gs" | "swift" => {}
        "rclone" if rest.starts_with(['-', ':']) || rest.contains(',') => {
            return Err("must name a remote of the host's rclone configuration, as in rclone:REMOTE:PATH: options and credentials do not belong into an address".to_owned());
        }
        "rclone" => {}
        _ => return Err(format!("is of no known kind: use {KINDS}")),
    }
    let authority = authority(rest);
    if authority.is_empty() {
        return Err(format!("names no place after {kind}:"));
    }
    let userinfo = authority.rsplit_once('@').map(|(user, _)| user);
    match userinfo {
        // The user of an SSH address is no secret, and there is no other field for it.
        Some(user) if kind == "sftp" && !user.contains(':') && !user.starts_with('-') => Ok(url.to_owned()),
        Some(_) if kind == "rest" => {
            Err("must not hold a user or password: give them as auth.username and auth.password".to_owned())
        }
        Some(_) if kind == "sftp" => Err("must not hold a password: SSH keys of the host are used".to_owned()),
        Some(_) => Err("must not hold credentials: give them in env, for instance as AWS_ACCESS_KEY_ID".to_owned()),
        None if authority.starts_with('-') => Err("must not begin with a dash after its kind".to_owned()),
        None => Ok(url.to_owned()),
    }
}

/// The part that names a place, and perhaps a user.
fn authority(rest: &str) -> &str {
    let rest = rest.split_once("://").map_or(rest, |(_, rest)| rest).trim_start_matches("//");
    rest.split('/').next().unwrap_or(rest)
}

/// The name of a variable.
pub(super) fn env_name(name: &str) -> Result<(), String> {
    let shaped = name.starts_with(|c: char| c.is_ascii_uppercase())
        && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
    if !shaped || name.len() > 100 {
        return Err("is no variable's name: use capital letters, digits and _".to_owned());
    }
    if variables::is_for_sftp(name) || variables::is_rclones(name) {
        return Ok(());
    }
    if !ENV_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
        return Err(format!(
            "is not read by any of restic's back ends: allowed are names that begin with {}",
            ENV_PREFIXES.join(", ")
        ));
    }
    if variables::runs_a_program(name) {
        return Err("would run a program on the host: give the secret itself".to_owned());
    }
    Ok(())
}

/// A secret's value, as restic can take it.
pub(super) fn secret(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("must not be empty".to_owned());
    }
    if text.len() > 16_384 || text.contains(['\0', '\n', '\r']) {
        return Err("must be one line of at most 16384 bytes".to_owned());
    }
    Ok(())
}

/// Certificates in PEM, trimmed.
pub(super) fn pem(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.contains("PRIVATE KEY") {
        return Err("holds a private key: give only the certificate of the authority".to_owned());
    }
    let refused = |e: &dyn std::fmt::Display| format!("is no certificate in PEM (-----BEGIN CERTIFICATE-----): {e}");
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(text.as_bytes()) {
        roots.add(certificate.map_err(|e| refused(&e))?).map_err(|e| refused(&e))?;
    }
    if roots.is_empty() {
        return Err(refused(&"there is no such block in it"));
    }
    Ok(format!("{text}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_known_kinds_pass() {
        for good in [
            "rest:https://vault:8000/web-1/",
            "rest:http://127.0.0.1:8000/",
            "s3:https://s3.example.org/bucket/path",
            "s3:s3.amazonaws.com/bucket",
            "sftp:backup@nas:/srv/restic",
            "sftp://backup@nas:2222//srv/restic",
            "b2:bucket:path",
            "azure:container:/",
            "gs:bucket:/",
            "swift:container:/path",
            "rclone:remote:path",
            "/srv/restic",
            r"C:\restic",
            r"\\nas\share\restic",
        ] {
            assert_eq!(url(&format!(" {good} ")).as_deref(), Ok(good));
        }
    }

    #[test]
    fn credentials_within_an_address_are_refused_and_the_answer_says_where_they_belong() {
        for (bad, hint) in [
            ("rest:https://me:hunter2@vault:8000/", "auth.password"),
            ("rest:https://me@vault:8000/", "auth.username"),
            ("s3:https://AKIA:secret@s3.example.org/bucket", "env"),
            ("sftp:me:hunter2@nas:/srv", "SSH keys"),
            ("sftp://me:hunter2@nas//srv", "SSH keys"),
            ("rclone::s3,secret_access_key=hunter2:bucket", "rclone configuration"),
        ] {
            let said = url(bad).unwrap_err();
            assert!(said.contains(hint), "{bad}: {said}");
            assert!(!said.contains("hunter2"), "{said}");
        }
    }

    #[test]
    fn addresses_of_no_known_kind_or_that_would_be_an_option_are_refused() {
        for bad in [
            "",
            "relative/path",
            "ftp://x/",
            "rest:vault:8000",
            "rest:https:///x",
            "--password-command=x",
            "rclone:-v",
            "sftp:-oProxyCommand=x@y:/",
            "s3:",
            "sftp:-oProxyCommand=x:/",
            "/srv/\nx",
        ] {
            assert!(url(bad).is_err(), "{bad:?} passed");
        }
    }

    #[test]
    fn only_variables_of_back_ends_may_be_set() {
        for good in [
            "AWS_ACCESS_KEY_ID",
            "B2_ACCOUNT_KEY",
            "RCLONE_CONFIG_PASS",
            "RCLONE_CONFIG_X_TYPE",
            "OS_PASSWORD",
            "FLOTILLA_SFTP_KEY_FILE",
        ] {
            assert_eq!(env_name(good), Ok(()));
        }
        for bad in [
            "PATH",
            "LD_PRELOAD",
            "RESTIC_PASSWORD_COMMAND",
            "RESTIC_REPOSITORY",
            "aws_key",
            "AWS KEY",
            "AWS_=",
            "",
            "RCLONE_PASSWORD_COMMAND",
            "RCLONE_CONFIG_X_SSH",
            "RCLONE_RC",
            "RCLONE_LOG_FILE",
            "FLOTILLA_LOG",
            "GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES",
        ] {
            assert!(env_name(bad).is_err(), "{bad:?} passed");
        }
    }

    #[test]
    fn a_certificate_passes_and_what_is_none_or_holds_a_key_is_refused() {
        let made = rcgen::generate_simple_self_signed(vec!["vault".to_owned()]).unwrap();
        assert!(pem(&made.cert.pem()).is_ok());
        for bad in [
            "",
            "hello",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
            &made.signing_key.serialize_pem(),
        ] {
            assert!(pem(bad).is_err(), "{bad:?} passed");
        }
    }
}
