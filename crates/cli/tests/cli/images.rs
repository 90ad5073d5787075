//! Images and apps.

use crate::fake::{Setup, cli, cli_with};
use expect_test::expect;
use std::fs;

#[tokio::test]
async fn apps() {
    expect![[r#"
        exit 0
        --- asked
        GET /v1/apps
        --- stdout
        NAME   OWNER      STATUS     NETWORK   MACHINES
        web    personal   deployed   default   2
    "#]]
    .assert_eq(&cli(&["apps", "list"]).await.show());
    expect![[r#"
        exit 0
        --- asked
        GET /v1/apps
        --- stdout
        web
    "#]]
    .assert_eq(&cli(&["apps", "ls", "-q"]).await.show());
    expect![[r#"
        exit 0
        --- asked
        POST /v1/apps {"app_name":"web","org_slug":"personal"}
        --- stdout
        New app created: web
    "#]]
    .assert_eq(&cli(&["apps", "create", "web", "-o", "personal"]).await.show());
    expect![[r#"
        exit 5
        --- asked
        POST /v1/apps {"app_name":"taken"}
        --- stderr
        Error: Cannot create app taken
        Caused by: Validation failed: Name has already been taken
    "#]]
    .assert_eq(&cli(&["apps", "create", "taken"]).await.show());
    expect![[r#"
        exit 0
        --- asked
        POST /v1/apps {"app_name":"winter-river-4279"}
        --- stdout
        New app created: winter-river-4279
    "#]]
    .assert_eq(&cli(&["apps", "create", "--generate-name"]).await.show());
    expect![[r#"
        exit 2
        --- stderr
        Error: Cannot ask: Destroy app web with all its machines?
        Caused by: The input is not a terminal
        Hint: Give --yes to answer yes to every question.
    "#]]
    .assert_eq(&cli(&["apps", "destroy", "web"]).await.show());
    expect![[r#"
        exit 3
        --- asked
        DELETE /v1/apps/gone?force=true
        DELETE /v1/apps/web?force=true
        --- stderr
        Destroyed app web
        Error: Cannot destroy app gone
        Caused by: Could not find App "gone"
    "#]]
    .assert_eq(&cli(&["apps", "destroy", "-y", "gone", "web"]).await.show());
    let setup = Setup { terminal: true, input: "y\n", ..Setup::default() };
    expect![[r#"
        exit 0
        --- asked
        DELETE /v1/apps/web?force=true
        --- stderr
        Destroy app web with all its machines? (y/N) Destroyed app web
    "#]]
    .assert_eq(&cli_with(setup, &["apps", "destroy", "web"]).await.show());
    let setup = Setup { terminal: true, input: "y\n", broken_input: true, ..Setup::default() };
    expect![[r#"
        exit 1
        --- asked
        DELETE /v1/apps/gone?force=true
        --- stderr
        Destroy app gone with all its machines? (y/N) Destroy app web with all its machines? (y/N) Error: Cannot destroy app gone
        Caused by: Could not find App "gone"
        Error: Cannot read the answer
        Caused by: broken
    "#]]
    .assert_eq(&cli_with(setup, &["apps", "destroy", "gone", "web", "other"]).await.show());
}

#[tokio::test]
async fn app_names_are_saved_once() {
    let dir = tempfile::tempdir().unwrap();
    let at = || Setup { cwd: Some(dir.path().into()), ..Setup::default() };
    assert_eq!(cli_with(at(), &["apps", "create", "web", "--save"]).await.code, 0);
    assert_eq!(fs::read_to_string(dir.path().join("fly.toml")).unwrap(), "app = \"web\"\n");
    assert_eq!(cli_with(at(), &["machine", "list", "-q"]).await.code, 0);
    let again = cli_with(at(), &["apps", "create", "other", "--save"]).await;
    assert_eq!((again.code, again.asked.as_str()), (2, ""));
}

#[tokio::test]
async fn images() {
    expect![[r#"
        exit 0
        --- asked
        GET /v1/images
        --- stdout
        REFERENCE   DIGEST   SIZE    CREATED                    MACHINES
        web:1       aa11     30 MB   2026-11-20T10:00:00.000Z   1
    "#]]
    .assert_eq(&cli(&["image", "list"]).await.show());
    expect![[r#"
        exit 3
        --- asked
        GET /v1/images
        DELETE /v1/images?reference=web%3A1
        DELETE /v1/images?reference=other
        --- stderr
        Removed web:1
        1 machine keeps the image that had this name
        Error: Cannot remove image other
        Caused by: There is no such image
    "#]]
    .assert_eq(&cli(&["image", "rm", "web:1", "other"]).await.show());
}

#[tokio::test]
async fn an_image_is_read_from_standard_input() {
    let input = "in place of a tar";
    let setup = Setup { input, ..Setup::default() };
    let ran = cli_with(setup, &["image", "import", "-", "--name", "zip:1"]).await;
    assert!(ran.code == 0 && ran.out == "zip:1\n", "{}", ran.show());
    assert!(ran.asked.contains("import?name=zip%3A1 <17 bytes>"), "{}", ran.show());
    let setup = Setup { terminal: true, ..Setup::default() };
    let ran = cli_with(setup, &["image", "import", "-"]).await;
    assert!(ran.code == 2 && ran.err.contains("docker save"), "{}", ran.show());
}

#[tokio::test]
async fn a_layout_is_sent_as_a_tar_of_what_belongs_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = dir.path().join("layout/blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    fs::write(dir.path().join("layout/oci-layout"), "{}").unwrap();
    fs::write(dir.path().join("layout/index.json"), "{}").unwrap();
    fs::write(dir.path().join("layout/notes.txt"), "not ours").unwrap();
    fs::write(blobs.join("aa"), vec![7; 700_000]).unwrap();
    fs::write(blobs.join("bb"), "small").unwrap();
    let at = || Setup { cwd: Some(dir.path().into()), ..Setup::default() };
    let ran = cli_with(at(), &["image", "import", "layout", "--name", "web:1"]).await;
    expect![[r#"
        exit 0
        --- asked
        POST /v1/images/import?name=web%3A1&file=layout <oci-layout index.json blobs/sha256/bb blobs/sha256/aa>
        --- stdout
        web:1
        --- stderr
        layer aa11 1.5 kB
        Imported sha256:aa11, 30 MB
    "#]]
    .assert_eq(&ran.show());

    let mut tar = tar::Builder::new(fs::File::create(dir.path().join("x.tar")).unwrap());
    tar.append_dir_all("", dir.path().join("layout/blobs")).unwrap();
    tar.into_inner().unwrap();
    let ran = cli_with(at(), &["image", "import", "x.tar", "--json"]).await;
    assert!(ran.code == 0 && ran.asked.contains("sha256/aa"), "{}", ran.show());
    let sent: wire::machines::Image = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(sent.digest, "sha256:aa11");

    let ran = cli_with(at(), &["image", "import", "layout/blobs"]).await;
    assert!(ran.code == 2 && ran.err.contains("no OCI layout"), "{}", ran.show());
    let ran = cli_with(at(), &["image", "import", "nowhere"]).await;
    assert!(ran.code == 2 && ran.err.contains("No such file"), "{}", ran.show());
    // Without a name of its own it gets its directory's.
    let ran = cli_with(at(), &["image", "import", "layout"]).await;
    assert!(
        ran.asked.contains("import?name=layout%3Alatest&file=layout ") && ran.code == 0,
        "{}",
        ran.show()
    );
    assert_eq!(ran.out, "layout:latest\n");

    fs::remove_file(dir.path().join("layout/index.json")).unwrap();
    let ran = cli_with(at(), &["image", "import", "layout"]).await;
    assert!(ran.code == 1 && ran.err.contains("No such file"), "{}", ran.show());
}
