//! Secrets: which boots are given them, and that they are nowhere in plain text.

use crate::daemon::Settings;
use crate::lab::{Lab, check};
use expect_test::expect;
use std::path::Path;

#[test]
fn a_boot_takes_the_newest_secrets_and_a_resume_keeps_what_it_has() {
    check(
        "secrets 5 A=one; create m1 show A B; wait m1 started; secrets-of m1
         secrets 7 A=two B=new; secrets-of m1
         suspend m1; wait m1 suspended; start m1; wait m1 started; secrets-of m1
         restart m1; wait m1 started; secrets-of m1
         secrets 6 A=stale; stop m1; wait m1 stopped; start m1; wait m1 started; secrets-of m1
         secrets 8; stop m1; wait m1 stopped; start m1; wait m1 started; secrets-of m1
         stop m1; wait m1 stopped; app-logs m1",
        expect![[r#"
            m1 has secrets Some(5)
            m1 has secrets Some(5)
            m1 resumes
            m1 has secrets Some(5)
            m1 has secrets Some(7)
            m1 has secrets Some(7)
            m1 has secrets Some(8)
            [app] A=one
            [app] B=?
            [app] resumed
            [app] A=two
            [app] B=new
            [app] A=two
            [app] B=new
            [app] A=?
            [app] B=?
        "#]],
    );
}

#[test]
fn secrets_outlive_the_daemon_and_power_cuts() {
    check(
        "secrets 5 A=one; create m1 show A; wait m1 started
         kill; daemon; stop m1; wait m1 stopped; start m1; wait m1 started; secrets-of m1
         power-cut; daemon; wait m1 started; secrets-of m1
         stop m1; wait m1 stopped; app-logs m1",
        expect![[r#"
            m1 has secrets Some(5)
            m1 has secrets Some(5)
            [app] A=one
            [app] A=one
            [app] A=one
        "#]],
    );
}

#[test]
fn a_machine_may_be_given_none_or_its_own() {
    check(
        "create m1 show A B --skip-secrets; wait m1 started
         create m2 show A B; wait m2 started
         secrets 5 A=app app:B=group other:A=other @m2:A=machine
         restart m1; wait m1 started; secrets-of m1; stop m1; wait m1 stopped; app-logs m1
         restart m2; wait m2 started; secrets-of m2; stop m2; wait m2 stopped; app-logs m2",
        expect![[r#"
            m1 has secrets None
            [app] A=?
            [app] B=?
            [app] A=?
            [app] B=?
            m2 has secrets Some(5)
            [app] A=?
            [app] B=?
            [app] A=machine
            [app] B=group
        "#]],
    );
}

#[test]
fn secrets_of_another_key_are_named_and_not_guessed() {
    let mut lab = Lab::new(Settings::default());
    lab.script("secrets 5 A=hunter2; create m1 show A; wait m1 started; stop m1; wait m1 stopped");
    lab.kill();
    // Layout, then the id of the key.
    lab.sql(
        "UPDATE sealed_secrets SET sealed = CAST(x'01' || x'0102030405060708' || substr(sealed, 10) AS BLOB)",
    );
    lab.restart();
    lab.script("start m1; wait m1 stopped; events m1 3");
    let out = lab.take();
    assert!(out.contains("it was sealed with key 0102030405060708"), "{out}");
    assert!(!out.contains("hunter2"), "{out}");
}

/// Files below `dir` that contain `text`.
fn files_with(dir: &Path, text: &[u8], found: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files_with(&path, text, found);
        } else if std::fs::read(&path)
            .is_ok_and(|bytes| bytes.windows(text.len()).any(|w| w == text))
        {
            found.push(path.display().to_string());
        }
    }
}

#[test]
fn no_file_of_the_host_has_a_secret_in_plain_text() {
    let mut lab = Lab::new(Settings::default());
    lab.script("secrets 5 A=hunter2-hunter2; create m1 serve 80; wait m1 started; secrets-of m1");
    lab.script(
        "suspend m1; wait m1 suspended; start m1; wait m1 started; stop m1; wait m1 stopped",
    );
    assert_eq!(lab.take(), "m1 has secrets Some(5)\nm1 resumes\n");
    let mut found = Vec::new();
    files_with(lab.world.data_dir().as_std_path(), b"hunter2-hunter2", &mut found);
    assert!(found.is_empty(), "{found:?}");
    files_with(lab.world.data_dir().as_std_path(), b"calm\0", &mut found);
    files_with(lab.world.data_dir().as_std_path(), b"sealed_secrets", &mut found);
    assert!(!found.is_empty(), "the search finds what is there");
}
