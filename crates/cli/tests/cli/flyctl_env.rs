//! `updraft flyctl-env --hosts`: names, certificates and variables.

use crate::fake::{Ran, Setup, cli_with};
use std::fs;
use std::path::Path;

async fn ask(dir: &Path, args: &[&str]) -> Ran {
    let system = dir.join("system.pem");
    fs::write(&system, "SYSTEM").unwrap();
    let vars = vec![
        ("UPDRAFT_CONFIG_DIR", dir.join("config").display().to_string()),
        ("SSL_CERT_FILE", system.display().to_string()),
    ];
    let setup = Setup { vars, cwd: Some(dir.into()), ..Setup::default() };
    cli_with(setup, &[&["flyctl-env", "--hosts"][..], args].concat()).await
}

#[tokio::test]
async fn certificates_are_saved_and_variables_point_at_them() {
    let dir = tempfile::tempdir().unwrap();
    let ran = ask(dir.path(), &[]).await;
    assert_eq!((ran.code, ran.asked.as_str()), (0, "GET /v1/platform/host-names\n"), "{}", ran.err);
    let own = dir.path().join("config/host-names");
    let (ca, bundle) = (own.join("ca.pem"), own.join("bundle.pem"));
    let wanted = format!(
        "# Line for /etc/hosts: 127.0.0.43 api.fly.io api.machines.dev\n\
         export CURL_CA_BUNDLE='{bundle}'\n\
         export FLY_API_TOKEN='t0ken'\n\
         export NODE_EXTRA_CA_CERTS='{ca}'\n\
         export REQUESTS_CA_BUNDLE='{bundle}'\n\
         export SSL_CERT_FILE='{bundle}'\n",
        ca = ca.display(),
        bundle = bundle.display(),
    );
    assert_eq!(ran.out, wanted);
    assert!(ran.err.contains("  127.0.0.43 api.fly.io api.machines.dev\n"), "{}", ran.err);
    let pem = "-----BEGIN CERTIFICATE-----\n";
    assert_eq!(fs::read_to_string(ca).unwrap(), pem);
    assert_eq!(fs::read_to_string(&bundle).unwrap(), format!("SYSTEM\n{pem}"));
    let ran = ask(dir.path(), &["--json", "--no-token"]).await;
    let shown: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(shown["hosts"], "127.0.0.43 api.fly.io api.machines.dev");
    assert_eq!(shown["variables"]["SSL_CERT_FILE"], bundle.display().to_string());
    assert_eq!(shown["variables"]["FLY_API_TOKEN"], serde_json::Value::Null);
    let ran = ask(dir.path(), &["--write", "env"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (0, ""), "{}", ran.err);
    assert_eq!(fs::read_to_string(dir.path().join("env")).unwrap(), wanted);
}
