//! Images for the tests, made with umoci from the distribution's busybox.

use std::path::Path;
use std::process::Command;

/// The image of most tests: busybox, a web server and a few scripts.
///
/// `serve` listens on 8080: `/` answers hello, `/cgi-bin/echo` returns what was
/// sent, `/cgi-bin/id` shows which machine and boot answers.
pub(crate) fn make_busybox(dir: &Path) {
    let root = dir.join("busybox-root");
    let bin = root.join("bin");
    for path in ["bin", "etc", "tmp", "www/cgi-bin", "home/app"] {
        std::fs::create_dir_all(root.join(path)).expect("make directory");
    }
    std::fs::copy("/bin/busybox", bin.join("busybox")).expect("busybox-static is installed");
    for applet in APPLETS.split_whitespace() {
        std::os::unix::fs::symlink("busybox", bin.join(applet)).expect("link applet");
    }
    make_client(&bin.join("client"));
    for (path, text) in FILES {
        std::fs::write(root.join(path), text).expect("write file of the image");
    }
    for script in ["bin/serve", "www/cgi-bin/echo", "www/cgi-bin/id"] {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(root.join(script), mode).expect("make executable");
    }
    let layout = dir.join("busybox");
    let image = format!("{}:latest", layout.display());
    umoci(&["init", "--layout", &layout.display().to_string()]);
    umoci(&["new", "--image", &image]);
    umoci(&["insert", "--image", &image, &root.display().to_string(), "/"]);
    umoci(&["config", "--image", &image, "--config.cmd", "/bin/serve"]);
}

/// Connects to a Unix socket, which nothing in busybox does.
fn make_client(to: &Path) {
    let source =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../updraft-init/tests/guest/client.rs");
    let built = Command::new("rustc")
        .args(["--edition", "2024", "-O", "-C", "target-feature=+crt-static", "-o"])
        .args([to, &source])
        .status();
    assert!(built.expect("start rustc").success(), "the client builds");
}

fn umoci(args: &[&str]) {
    let output = Command::new("umoci").args(args).output().expect("umoci is installed");
    assert!(output.status.success(), "umoci {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

const APPLETS: &str = "sh cat cp dd df echo env false free grep head hostname httpd id ifconfig ip \
    kill ls mkdir mount nc nslookup od ping ping6 printf ps pwd rm sed seq setsid sleep sort stat stty \
    cmp date mkfifo sync tail tee test touch tr true tty uname vi wc wget which yes";

const FILES: &[(&str, &str)] = &[
    ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:App:/home/app:/bin/sh\n"),
    ("etc/group", "root:x:0:\napp:x:1000:\n"),
    ("www/index.html", "hello from busybox\n"),
    ("bin/serve", "#!/bin/sh\necho serving\nexec httpd -f -p ${PORT:-8080} -h /www\n"),
    (
        "www/cgi-bin/echo",
        "#!/bin/sh\nprintf 'Content-Type: application/octet-stream\\r\\n\\r\\n'\n\
         exec head -c ${CONTENT_LENGTH:-0}\n",
    ),
    (
        "www/cgi-bin/id",
        "#!/bin/sh\nprintf 'Content-Type: text/plain\\r\\n\\r\\n'\n\
         echo $FLY_MACHINE_ID $(cat /proc/sys/kernel/random/boot_id)\n",
    ),
];
