//! What an app finds in its guest, and what can be done in it from outside.

use super::Test;
use crate::platform::{App, Context, Outcome, Platform, sh};
use anyhow::{Context as _, Result, ensure};
use futures_util::{SinkExt, StreamExt};
use reqwest::Method;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("an_app_finds_its_world_in_order", world),
    ("an_app_matches_its_image", user),
    ("processes_signals_and_commands", processes),
    ("a_command_with_a_terminal", terminal),
    ("a_root_that_persists_lives_until_the_update", persist),
    ("several_processes_run_beside_each_other", several),
    ("containers_of_two_images_start_in_order_and_sleep", containers),
];

/// All lines of the app's log, without what is around them.
fn messages(app: &App<'_>, provider: &str) -> Result<Vec<String>> {
    let path = format!("/apps/{}/logs?tail=10000", app.name);
    let text = match app.platform.ok(Method::GET, &path, None)? {
        Value::String(lines) => lines,
        one => one.to_string(),
    };
    let entries = text.lines().map(serde_json::from_str::<Value>).collect::<Result<Vec<_>, _>>()?;
    let lines = entries.iter().filter(|entry| entry["provider"] == provider);
    Ok(lines.map(|entry| entry["message"].as_str().unwrap_or_default().to_owned()).collect())
}

/// Waits in the guest until `condition` of its shell is met.
fn until(app: &App<'_>, id: &str, condition: &str) -> Outcome {
    let line = format!(
        "i=0; while [ $i -lt 300 ]; do {condition} && exit 0; sleep 0.1; i=$((i+1)); done; exit 1"
    );
    let (code, out) = app.exec(id, &["sh", "-c", &line])?;
    ensure!(code == 0, "it never came to `{condition}`: {out}\n{}", app.story(id));
    Ok(())
}

const WORLD: &str = "echo host=$(hostname); echo cpus=$(busybox nproc); \
    echo mem=$(busybox awk '/MemTotal/ {print $2}' /proc/meminfo); \
    echo swap=$(busybox awk 'NR > 1 {print $3}' /proc/swaps); \
    echo cmdline=$(cat /proc/cmdline); echo files=$(ulimit -n); \
    echo note=$(stat -c %a /etc/deep/note) $(cat /etc/deep/note); \
    echo env=$A $FLY_APP_NAME $FLY_MACHINE_ID $FLY_REGION $FLY_VM_MEMORY_MB $FLY_PRIVATE_IP; \
    sed 's/^/hosts=/' /etc/hosts; sed 's/^/resolv=/' /etc/resolv.conf; \
    echo more=$FLY_ALLOC_ID $FLY_MACHINE_VERSION $FLY_IMAGE_REF $FLY_PROCESS_GROUP $PRIMARY_REGION \
        ${FLY_PUBLIC_IP-unset} $FLY_METADATA_ROLE; \
    echo aws=$AWS_ROLE_ARN $AWS_WEB_IDENTITY_TOKEN_FILE $AWS_ROLE_SESSION_NAME \
        $(busybox tr -cd . < /.fly/oidc_token); \
    echo image=$(grep -c rootfs /etc/image.json); \
    api=http://_api.internal:4280/v1/apps/$FLY_APP_NAME/machines/$FLY_MACHINE_ID; \
    echo api=$(wget --header \"Authorization: Bearer $API_TOKEN\" -qO- $api); \
    echo denied=$(wget -qO- $api 2>&1); \
    echo hard=$(ulimit -Hn) umask=$(umask); \
    for d in null zero full random urandom tty console ptmx fd stdin stdout stderr; do \
        [ -e /dev/$d ] || echo no /dev/$d; done; \
    for d in /proc /proc/sys/fs/binfmt_misc /sys /sys/fs/cgroup /dev /dev/pts /dev/shm /dev/mqueue \
        /dev/hugepages /run /.fly; do grep -q \" $d \" /proc/mounts || echo no $d; done; \
    seq 1 2000; echo last >&2; exit 0";

fn world(cx: &Context) -> Outcome {
    let app = cx.shared().app("world")?;
    let id = app.create(
        "one",
        json!({
            "init": {"exec": ["sh", "-c", WORLD], "swap_size_mb": 64, "kernel_args": ["updraft.test=1"]},
            "guest": {"cpu_kind": "shared", "cpus": 2, "memory_mb": 512},
            "env": {"A": "config", "AWS_ROLE_ARN": "arn:aws:iam::1:role/x",
                    "API_TOKEN": app.platform.token()},
            "metadata": {"role": "primary"}, "metadata_env": true,
            "files": [{"guest_path": "/etc/deep/note", "raw_value": "bm90ZQ==", "mode": 0o640},
                      {"guest_path": "/etc/image.json", "image_config": "busybox:latest"}],
            "dns": {"nameservers": ["192.0.2.53"], "searches": ["a.test"],
                    "options": [{"name": "ndots", "value": "2"}]},
            "restart": {"policy": "no"},
        }),
    )?;
    app.wait(&id, "stopped")?;
    let exit = app.event(&id, "exit")?;
    ensure!(exit["request"]["exit_event"]["exit_code"] == 0, "{}", app.story(&id));
    let lines = messages(&app, "app")?;
    let all = lines.join("\n");
    let value = |name: &str| lines.iter().find_map(|line| line.strip_prefix(name)).unwrap_or("");
    let machine = app.get(&id, "")?;
    let ip = machine["private_ip"].as_str().unwrap_or_default().to_owned();
    ensure!(value("host=") == id && value("cpus=") == "2" && value("files=") == "10240", "{all}");
    let kib = |name| value(name).parse::<u64>().unwrap_or(0);
    ensure!((400 << 10..=512 << 10).contains(&kib("mem=")), "{all}");
    ensure!((63 << 10..=64 << 10).contains(&kib("swap=")), "{all}");
    ensure!(value("cmdline=").split(' ').any(|word| word == "updraft.test=1"), "{all}");
    ensure!(value("note=") == "640 note", "{all}");
    ensure!(value("env=") == format!("config world {id} local 512 {ip}"), "{all}");
    let version = machine["instance_id"].as_str().unwrap_or_default();
    let more = format!("{id} {version} busybox:latest app local unset primary");
    ensure!(value("more=") == more, "{more} is not in\n{all}");
    let aws = format!("arn:aws:iam::1:role/x /.fly/oidc_token {id} ..");
    ensure!(value("aws=") == aws, "{aws} is not in\n{all}");
    ensure!(value("image=") != "0" && !value("image=").is_empty(), "{all}");
    let shown: Value = serde_json::from_str(value("api=")).with_context(|| all.clone())?;
    ensure!(shown["id"] == id.as_str() && shown["config"]["env"]["A"] == "config", "{all}");
    ensure!(value("denied=").contains("401"), "{all}");
    ensure!(value("hard=") == "1048576 umask=0022", "{all}");
    let own = ip.parse::<std::net::Ipv6Addr>()?;
    for line in [
        "hosts=127.0.0.1 localhost localhost.localdomain".to_owned(),
        "hosts=::1 localhost ip6-localhost ip6-loopback".to_owned(),
        "hosts=ff02::1 ip6-allnodes".to_owned(),
        "hosts=fdaa::4280 _api.internal".to_owned(),
        format!("hosts={own} {id} fly-local-6pn"),
        "resolv=nameserver 192.0.2.53".to_owned(),
        "resolv=search a.test".to_owned(),
        "resolv=options ndots:2".to_owned(),
    ] {
        ensure!(lines.contains(&line), "{line:?} is not in\n{all}");
    }
    let missing = lines.iter().any(|line| line.starts_with("no /"));
    ensure!(!missing, "all mounts and devices are there: {all}");
    let ipv4 = lines.iter().find_map(|line| line.strip_suffix(" fly-global-services"));
    let ipv4 = ipv4.and_then(|line| line.strip_prefix("hosts="));
    ensure!(ipv4.is_some_and(|ip| ip.parse::<std::net::Ipv4Addr>().is_ok()), "{all}");
    let of_init = messages(&app, "machine")?;
    for (begins, ends) in [
        ("Starting init (commit: ", ")..."),
        ("Preparing to run: `sh -c ", ""),
        ("Main child exited normally with code: 0", ""),
    ] {
        let fits = |line: &String| line.starts_with(begins) && line.ends_with(ends);
        ensure!(of_init.iter().any(fits), "{begins}…{ends} is not in {of_init:?}");
    }
    let other = |line: &String| line.contains("firecracker") || line.starts_with("Mounting ");
    ensure!(!of_init.iter().any(other), "{of_init:?}");
    let numbers = lines.iter().filter_map(|line| line.parse::<u32>().ok());
    ensure!(numbers.eq(1..=2000), "every line came, in order: {all}");
    ensure!(lines.iter().any(|line| line == "last"), "also what went to stderr: {all}");
    Ok(())
}

fn user(cx: &Context) -> Outcome {
    let layout = cx.dir("user-image");
    sh(&format!(
        "cp -a {} {layout} && umoci config --image {layout}:latest --config.user app \
         --config.workingdir /home/app --config.env A=image --config.env B=image \
         --config.env FLY_APP_NAME=fake --config.entrypoint /bin/sh --config.entrypoint -c \
         --config.cmd 'exit 9'",
        cx.busybox().display(),
        layout = layout.display()
    ))?;
    let platform = cx.shared();
    platform.cli(&["image", "import", &layout.display().to_string(), "--name", "user:1"])?;
    let app = platform.app("user")?;
    let line = "echo $(id -un) $(id -g) $(pwd) $HOME $A $B $FLY_APP_NAME";
    let one = json!({"image": "user:1", "env": {"B": "config"}, "restart": {"policy": "no"},
                     "init": {"cmd": [line]}});
    let id = app.create("one", one)?;
    app.wait(&id, "stopped")?;
    let lines = messages(&app, "app")?;
    let wanted = "app 1000 /home/app /home/app image config user";
    ensure!(lines == [wanted], "{lines:?}\n{}", app.story(&id));
    let two = json!({"image": "user:1", "restart": {"policy": "no"}});
    let id = app.create("two", two)?;
    app.wait(&id, "stopped")?;
    let exit = app.event(&id, "exit")?;
    ensure!(exit["request"]["exit_event"]["exit_code"] == 9, "the image's own CMD: {exit}");
    let line = "[ -t 0 ] && [ -t 1 ] && echo terminal";
    let three = json!({"image": "user:1", "restart": {"policy": "no"},
                       "init": {"tty": true, "cmd": [line]}});
    let id = app.create("three", three)?;
    app.wait(&id, "stopped")?;
    let lines = messages(&app, "app")?;
    ensure!(lines.iter().any(|line| line.trim() == "terminal"), "{lines:?}");
    Ok(())
}

const TRAPS: &str = "trap 'echo usr1; touch /usr1' USR1; trap 'echo bye; exit 0' TERM; \
    httpd -p 8080 -h /www; echo up; while :; do sleep 0.2; done";

fn processes(cx: &Context) -> Outcome {
    let app = cx.shared().app("processes")?;
    let config = json!({"init": {"exec": ["sh", "-c", TRAPS]},
                        "stop_config": {"signal": "SIGTERM", "timeout": "60s"}});
    let id = app.run("one", config)?;
    let exec = |body: Value| cx.shared().call(Method::POST, &app.path(&id, "/exec"), Some(body));

    let (_, answer) = exec(json!({"command": ["cat"], "stdin": "two\nlines"}))?;
    ensure!(answer["stdout"] == "two\nlines" && answer["exit_code"] == 0, "{answer}");
    let (_, answer) = exec(json!({"cmd": "sh -c 'echo \"a b\"; echo no >&2; exit 7'"}))?;
    ensure!(answer["exit_code"] == 7 && answer["stdout"] == "a b\n", "{answer}");
    ensure!(answer["stderr"] == "no\n" && answer["truncated"].is_null(), "{answer}");
    let (_, answer) = exec(json!({"command": ["sh", "-c", "yes | head -c 3000000; echo e >&2"]}))?;
    let length = answer["stdout"].as_str().map(str::len);
    ensure!(length == Some(1 << 20) && answer["truncated"] == true, "{length:?}");
    ensure!(
        answer["stderr"] == "e\n",
        "what comes after the cut is received: {}",
        answer["stderr"]
    );
    let (_, answer) = exec(json!({"command": ["sh", "-c", "kill -9 $$"]}))?;
    ensure!(answer["exit_signal"] == 9, "{answer}");
    let (status, answer) = exec(json!({"command": ["sleep", "1000"], "timeout": 1}))?;
    ensure!(status.is_success() && answer["exit_signal"] == 9, "timed out: {status} {answer}");
    let (status, answer) = exec(json!({"command": ["/no/such"]}))?;
    ensure!(status.as_u16() == 422 && answer.to_string().contains("/no/such"), "{status} {answer}");
    let (status, answer) = exec(json!({"command": []}))?;
    ensure!(status.as_u16() == 400 && answer.to_string().contains("command"), "{status} {answer}");

    // Orphans become ours, and their ends are taken note of.
    app.exec(&id, &["sh", "-c", "for i in 1 2 3 4 5; do (true &) ; done; setsid true & exit 0"])?;
    until(&app, &id, "! grep -q '^State:.Z' /proc/[0-9]*/status 2>/dev/null")?;

    let list = app.get(&id, "/ps")?;
    let listens = |p: &Value| {
        let sockets = p["listen_sockets"].as_array().cloned().unwrap_or_default();
        sockets.iter().any(|s| s["address"].as_str().is_some_and(|a| a.ends_with(":8080")))
    };
    let web = list.as_array().and_then(|all| all.iter().find(|p| listens(p)).cloned());
    let web = web.with_context(|| format!("no process listens on 8080 in {list}"))?;
    ensure!(web["command"].as_str().is_some_and(|c| c.contains("httpd")), "{web}");
    ensure!(web["pid"].as_i64() > Some(1) && web["rss"].as_u64() > Some(0), "{web}");

    app.post(&id, "/signal", json!({"signal": "SIGUSR1"}))?;
    until(&app, &id, "test -e /usr1")?;
    let (status, answer) =
        cx.shared().call(Method::POST, &app.path(&id, "/signal"), Some(json!({"signal": "NO"})))?;
    ensure!(status.as_u16() == 400 && answer.to_string().contains("signal"), "{status} {answer}");

    app.post(&id, "/stop", json!({}))?;
    app.wait(&id, "stopped")?;
    let exit = app.event(&id, "exit")?["request"]["exit_event"].clone();
    ensure!(exit["exit_code"] == 0 && exit["requested_stop"] == true, "{exit}");
    let lines = messages(&app, "app")?;
    ensure!(lines == ["up", "usr1", "bye"], "in order, up to the last: {lines:?}");
    let (status, answer) = exec(json!({"command": ["true"]}))?;
    ensure!(status.is_client_error(), "no commands in a stopped machine: {status} {answer}");
    Ok(())
}

type Socket =
    tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

async fn open(platform: &Platform, path: &str, first: Value) -> Result<Socket> {
    let url = format!("{}/v1{path}/exec/stream", platform.api()).replacen("http", "ws", 1);
    let mut request = url.into_client_request()?;
    request.headers_mut().insert("authorization", format!("Bearer {}", platform.token()).parse()?);
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await?;
    socket.send(Message::text(first.to_string())).await?;
    Ok(socket)
}

/// Reads output until `enough` of it, or the last word; both so far.
async fn receive(socket: &mut Socket, enough: &str) -> Result<(String, Option<Value>)> {
    let mut received = String::new();
    let guard = std::time::Duration::from_secs(60);
    while let Some(message) = tokio::time::timeout(guard, socket.next())
        .await
        .with_context(|| format!("silence after {received:?}"))?
    {
        match message? {
            Message::Binary(data) => received.push_str(&String::from_utf8_lossy(&data[1..])),
            Message::Text(text) => return Ok((received, Some(serde_json::from_str(&text)?))),
            _ => {}
        }
        if !enough.is_empty() && received.contains(enough) {
            return Ok((received, None));
        }
    }
    anyhow::bail!("the connection ended after {received:?}")
}

fn terminal(cx: &Context) -> Outcome {
    let platform = cx.shared();
    let app = platform.app("terminal")?;
    let id = app.run("one", json!({}))?;
    let path = app.path(&id, "");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let pid = runtime.block_on(async {
        let line = "stty size; echo $GREETING-$(tty); read a; stty size; echo got-$a; \
                    exec sleep 1000";
        let first = json!({"argv": ["sh", "-c", line], "env": [["GREETING", "hi"]],
                           "tty": {"rows": 24, "cols": 80}});
        let mut socket = open(platform, &path, first).await?;
        let (received, _) = receive(&mut socket, "hi-/dev/pts/").await?;
        ensure!(received.contains("24 80"), "{received:?}");
        let resize = json!({"resize": {"rows": 50, "cols": 132}});
        socket.send(Message::text(resize.to_string())).await?;
        socket.send(Message::binary(b"zz\n".to_vec())).await?;
        let (received, _) = receive(&mut socket, "got-zz").await?;
        ensure!(received.contains("50 132"), "{received:?}");
        // Control-C, which the terminal makes a signal of.
        socket.send(Message::binary(b"\x03".to_vec())).await?;
        let (_, end) = receive(&mut socket, "").await?;
        ensure!(end == Some(json!({"exited": {"code": 130, "signal": 2}})), "{end:?}");

        let mut socket = open(platform, &path, json!({"argv": ["/no/such"], "env": []})).await?;
        let (_, end) = receive(&mut socket, "").await?;
        ensure!(
            end.as_ref().is_some_and(|end| end["failed"]
                .as_str()
                .is_some_and(|why| why.contains("/no/such"))),
            "{end:?}"
        );

        let first = json!({"argv": ["sh", "-c", "echo pid=$$.; exec sleep 1000"],
                           "env": []});
        let mut socket = open(platform, &path, first).await?;
        let (received, end) = receive(&mut socket, ".").await?;
        ensure!(end.is_none(), "{received:?} {end:?}");
        let pid = received.trim().trim_start_matches("pid=").trim_end_matches('.').to_owned();
        drop(socket);
        anyhow::Ok(pid)
    })?;
    ensure!(pid.parse::<u32>().is_ok(), "{pid:?}");
    until(&app, &id, &format!("! test -d /proc/{pid}"))
}

fn persist(cx: &Context) -> Outcome {
    let app = cx.shared().app("persist")?;
    let config = json!({"rootfs": {"persist": "restart"}});
    let id = app.run("one", config.clone())?;
    app.exec(&id, &["sh", "-c", "echo kept > /written; rm /www/index.html; busybox sync"])?;
    app.post(&id, "/stop", json!({}))?;
    app.wait(&id, "stopped")?;
    app.post(&id, "/start", json!({}))?;
    app.wait(&id, "started")?;
    let (code, out) = app.exec(&id, &["sh", "-c", "cat /written; ls /www"])?;
    ensure!((code, out.as_str()) == (0, "kept\ncgi-bin\n"), "{code} {out}");
    let mut config = config;
    config["image"] = json!("busybox:latest");
    app.post(&id, "", json!({"config": config}))?;
    app.wait(&id, "started")?;
    let (code, out) = app.exec(&id, &["sh", "-c", "ls /www; cat /written"])?;
    ensure!(code == 1 && out.contains("index.html"), "an update brings a fresh root: {out}");
    Ok(())
}

/// Lines of the app's log as (name of their process or container, message).
fn named_lines(app: &App<'_>, kind: &str) -> Result<Vec<(String, String)>> {
    let path = format!("/apps/{}/logs?tail=10000", app.name);
    let text = app.platform.ok(Method::GET, &path, None)?;
    let text = text.as_str().context("several lines")?;
    let entries = text.lines().map(serde_json::from_str::<Value>).collect::<Result<Vec<_>, _>>()?;
    let named = entries.iter().filter_map(|entry| {
        Some((entry["meta"][kind].as_str()?.to_owned(), entry["message"].as_str()?.to_owned()))
    });
    Ok(named.collect())
}

fn several(cx: &Context) -> Outcome {
    let app = cx.shared().app("several")?;
    let config = json!({
        "env": {"A": "machine"}, "restart": {"policy": "no"},
        "dns": {"hostname": "named", "hostname_fqdn": "named.a.test"},
        "processes": [
            {"name": "web", "exec": ["sh", "-c", "echo $A $B; exec sleep 100000"], "env": {"B": "web"}},
            {"name": "job", "user": "app", "exec": ["sh", "-c", "echo $A $WHERE $(id -un); while [ ! -e /tmp/end ]; do sleep 0.2; done; exit 5"],
             "env_from": [{"env_var": "WHERE", "field_ref": "region"}]},
        ],
    });
    let id = app.run("one", config)?;
    let (_, ps) = app.exec(&id, &["sh", "-c", "ps | grep -c 'sleep 10000[0]'"])?;
    ensure!(ps == "1\n", "{ps}");
    let names = "hostname; grep -c ' named.a.test named fly-local-6pn$' /etc/hosts";
    let (_, names) = app.exec(&id, &["sh", "-c", names])?;
    ensure!(names == "named\n1\n", "{names}");
    app.exec(&id, &["touch", "/tmp/end"])?;
    app.wait(&id, "stopped")?;
    let exit = app.event(&id, "exit")?;
    ensure!(exit["request"]["exit_event"]["exit_code"] == 5, "the first that ended: {exit}");
    let lines = named_lines(&app, "process")?;
    for (name, line) in [("web", "machine web"), ("job", "machine local app")] {
        ensure!(lines.contains(&(name.into(), line.into())), "{name} {line} is not in {lines:?}");
    }
    Ok(())
}

fn containers(cx: &Context) -> Outcome {
    let layout = cx.dir("other-image");
    sh(&format!(
        "cp -a {} {layout} && umoci config --image {layout}:latest --config.env IMAGE=other \
         --config.entrypoint /bin/sh --config.entrypoint -c --config.cmd 'exit 9'",
        cx.busybox().display(),
        layout = layout.display()
    ))?;
    let platform = cx.shared();
    platform.cli(&["image", "import", &layout.display().to_string(), "--name", "other:1"])?;
    let app = platform.app("containers")?;
    let secret = json!({ "value": "Y29udGVudA==" });
    platform.ok(Method::POST, "/apps/containers/secrets/FILE", Some(secret))?;
    let web = "httpd -p 8080 -h /etc; trap 'echo by usr1; exit 0' USR1; sleep 100000 & wait";
    let config = json!({
        "image": "", "restart": {"policy": "no"},
        "guest": {"cpu_kind": "shared", "cpus": 1, "memory_mb": 256},
        "volumes": [{"name": "v", "temp_dir": {"storage_type": "disk"}}],
        "containers": [
            {"name": "web", "image": "busybox:latest", "exec": ["sh", "-c", web],
             "files": [{"guest_path": "/etc/secret", "secret_name": "FILE"}],
             "stop": {"signal": "SIGUSR1", "timeout": "5s"},
             "mounts": [{"name": "v", "path": "/v"}],
             "healthchecks": [{"http": {"port": 8080, "path": "/passwd"}, "interval": 1},
                              {"tcp": {"port": 8080}, "interval": 1}]},
            {"name": "job", "image": "other:1", "cmd": ["echo $IMAGE $B $FLY_IMAGE_REF; echo > /v/done"], "env": {"B": "job"},
             "mounts": [{"name": "v", "path": "/deep/v"}], "restart": {"policy": "no"},
             "depends_on": [{"name": "web", "condition": "healthy"}]},
            {"name": "side", "image": "other:1", "exec": ["sleep", "200000"],
             "depends_on": [{"name": "job", "condition": "started"}]},
        ],
    });
    let id = app.run("one", config)?;
    let start = app.event(&id, "start")?;
    ensure!(start["request"]["origin"] == "cold" || start["origin"] == "cold", "{start}");
    let states = || -> Result<String> {
        let machine = app.get(&id, "")?;
        let all = machine["containers"].as_array().cloned().unwrap_or_default();
        let words = all.iter().map(|one| format!("{}={}", one["name"], one["state"]));
        Ok(words.collect::<Vec<_>>().join(" ").replace('"', ""))
    };
    platform.until("all containers did what they were to", || {
        Ok(states()? == "web=healthy job=failed side=started")
    })?;
    let lines = named_lines(&app, "container")?;
    // It fails since `/v` is not where its own mount is.
    ensure!(lines.contains(&("job".into(), "other job other:1".into())), "{lines:?}");
    let exec = |body: Value| app.post(&id, "/exec", body);
    let answer = exec(json!({"cmd": "touch /v/shared"}))?;
    ensure!(answer["exit_code"] == 0, "the first container by default: {answer}");
    let answer = exec(
        json!({"cmd": "sh -c 'echo $IMAGE; ps | grep -c \"sleep [12]0000[0]\"'", "container": "side"}),
    )?;
    ensure!(answer["stdout"] == "other\n1\n", "only its own processes: {answer}");
    let answer =
        exec(json!({"cmd": "sh -c 'ps | grep -c \"sleep [12]0000[0]\"'", "machine": true}))?;
    ensure!(answer["stdout"] == "3\n", "all processes, a shell among them: {answer}");
    let answer = exec(json!({"cmd": "cat /etc/secret", "container": "web"}))?;
    ensure!(answer["stdout"] == "content", "{answer}");
    let path = app.path(&id, "/exec");
    let (status, answer) =
        platform.call(Method::POST, &path, Some(json!({"cmd": "true", "container": "no"})))?;
    ensure!(status == 400, "{status} {answer}");
    // A suspended machine needs all of its images again.
    app.post(&id, "/suspend", Value::Null)?;
    app.wait(&id, "suspended")?;
    app.post(&id, "/start", Value::Null)?;
    app.wait(&id, "started")?;
    let answer = exec(json!({"cmd": "cat /etc/passwd", "container": "side"}))?;
    ensure!(answer["exit_code"] == 0, "{answer}\n{}", app.story(&id));
    ensure!(states()? == "web=healthy job=failed side=started", "{}", states()?);
    app.post(&id, "/stop", json!({"timeout": "20s"}))?;
    app.wait(&id, "stopped")?;
    ensure!(states()? == "web=stopped job=stopped side=stopped", "{}", states()?);
    let lines = named_lines(&app, "container")?;
    ensure!(lines.contains(&("web".into(), "by usr1".into())), "{lines:?}");
    Ok(())
}
