//! Pulls from a registry that runs within the test.
#![allow(clippy::unwrap_used, reason = "a test that cannot continue has failed")]

mod common;
#[path = "../../disk-linux/tests/mount/mod.rs"]
mod mount;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use common::*;
use expect_test::expect;
use futures_util::StreamExt;
use oci::Login;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use worker::ports::{ImageError, Images};

/// The authentication that the registry requires.
#[derive(Clone, Copy, PartialEq)]
enum Auth {
    None,
    Basic,
    Token,
}

/// The content of the registry, its failures, and the requests it has had.
struct Shelf {
    auth: Auth,
    blobs: BTreeMap<String, Vec<u8>>,
    tags: BTreeMap<String, String>,
    /// Blobs of which only the first half comes, once; the connection breaks
    /// when something is in the file.
    cut: Vec<(String, std::path::PathBuf)>,
    ranges: bool,
    /// Requests whose answer never ends.
    endless: Vec<&'static str>,
    /// Answers of 503 before anything else.
    busy: u32,
    asked: Vec<String>,
    /// Called at each request with the number of earlier ones.
    at_request: Option<Box<dyn Fn(usize) + Send>>,
    host: String,
}

type Shared = Arc<Mutex<Shelf>>;

/// `me` and `secret`, and the token for them.
const BASIC: &str = "Basic bWU6c2VjcmV0";
const TOKEN: &str = "Bearer t0ken";

fn denied(shelf: &Shelf, headers: &HeaderMap) -> Option<Response> {
    let given = headers.get("authorization").and_then(|value| value.to_str().ok());
    let (want, challenge) = match shelf.auth {
        Auth::None => return None,
        Auth::Basic => (BASIC, "Basic realm=\"r\"".to_owned()),
        Auth::Token => {
            (TOKEN, format!("Bearer realm=\"http://{}/token\",service=\"s\"", shelf.host))
        }
    };
    if given == Some(want) {
        return None;
    }
    Some((StatusCode::UNAUTHORIZED, [("www-authenticate", challenge)]).into_response())
}

async fn root(State(shelf): State<Shared>, headers: HeaderMap) -> Response {
    denied(&shelf.lock().unwrap(), &headers).unwrap_or_else(|| "{}".into_response())
}

/// Sends until the peer has closed the connection.
fn endless(status: StatusCode) -> Response {
    let chunks = futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b' '; 4096]));
    (status, Body::from_stream(chunks)).into_response()
}

async fn token(State(shelf): State<Shared>, headers: HeaderMap) -> Response {
    if shelf.lock().unwrap().endless.contains(&"token") {
        return endless(StatusCode::OK);
    }
    match headers.get("authorization").is_some_and(|value| value == BASIC) {
        true => r#"{"token":"t0ken","expires_in":300}"#.into_response(),
        false => (StatusCode::UNAUTHORIZED, "no").into_response(),
    }
}

async fn any(
    State(shelf): State<Shared>,
    Path((repo, kind, what)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Response {
    let mut shelf = shelf.lock().unwrap();
    if let Some(denied) = denied(&shelf, &headers) {
        return denied;
    }
    if shelf.busy > 0 {
        shelf.busy -= 1;
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let range = headers.get("range").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let range = range.to_owned();
    if let Some(at_request) = &shelf.at_request {
        at_request(shelf.asked.len());
    }
    shelf.asked.push(format!("{kind} {range}").trim_end().to_owned());
    if shelf.endless.contains(&kind.as_str()) {
        return endless(StatusCode::OK);
    }
    if shelf.endless.contains(&"error") {
        return endless(StatusCode::BAD_REQUEST);
    }
    let digest = shelf.tags.get(&what).cloned().unwrap_or(what);
    let blob = shelf.blobs.get(digest.trim_start_matches("sha256:")).cloned();
    let Some(blob) = blob.filter(|_| repo == "app") else {
        let body = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"no such\u0007 image"}]}"#;
        return (StatusCode::NOT_FOUND, body).into_response();
    };
    if let Some(at) = shelf.cut.iter().position(|(cut, _)| digest.ends_with(cut)) {
        let (_, file) = shelf.cut.remove(at);
        let half = blob[..blob.len() / 2].to_vec();
        let broken = async move {
            let arrived = async {
                // Polled: the pull writes a real file, and nothing announces that.
                while std::fs::metadata(&file).map_or(0, |file| file.len()) == 0 {
                    tokio::task::yield_now().await;
                }
            };
            let _ = tokio::time::timeout(Duration::from_secs(20), arrived).await;
            Err(std::io::Error::other("cut"))
        };
        let half = futures_util::stream::iter([Ok(half)]);
        let chunks = half.chain(futures_util::stream::once(broken));
        let body = Body::from_stream(chunks);
        return (StatusCode::OK, [("content-length", blob.len().to_string())], body)
            .into_response();
    }
    match range.strip_prefix("bytes=").and_then(|range| range.strip_suffix('-')) {
        Some(from) if shelf.ranges => {
            let rest = blob[from.parse::<usize>().unwrap()..].to_vec();
            (StatusCode::PARTIAL_CONTENT, rest).into_response()
        }
        _ => blob.into_response(),
    }
}

struct Registry {
    shelf: Shared,
    host: String,
    task: tokio::task::JoinSet<()>,
}

impl Registry {
    async fn new(image: &Image) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let shelf = Arc::new(Mutex::new(Shelf {
            auth: Auth::None,
            blobs: image.blobs.clone(),
            tags: BTreeMap::from([("1".into(), image.manifest.clone())]),
            cut: Vec::new(),
            ranges: true,
            endless: Vec::new(),
            busy: 0,
            asked: Vec::new(),
            at_request: None,
            host: host.clone(),
        }));
        let app = Router::new()
            .route("/v2/", get(root))
            .route("/token", get(token))
            .route("/v2/{repo}/{kind}/{what}", get(any))
            .with_state(Arc::clone(&shelf));
        let mut task = tokio::task::JoinSet::new();
        task.spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { shelf, host, task }
    }

    fn set(&self, change: impl FnOnce(&mut Shelf)) {
        change(&mut self.shelf.lock().unwrap());
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.shelf.lock().unwrap().asked)
    }

    fn app(&self) -> String {
        format!("{}/app:1", self.host)
    }
}

/// An image of random bytes, which are as large compressed as not.
fn image() -> Image {
    image_of(1_500_000)
}

fn image_of(bytes: usize) -> Image {
    let mut state = 1u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    })
    .take(bytes)
    .collect();
    let (one, two) = (tar(&[("app", b"one"), ("noise", &noise)]), tar(&[("app", b"two")]));
    Image::new(&[(gzip(&one), one), (gzip(&two), two)])
}

/// The path of a layer while it is downloaded.
fn partial(world: &World, image: &Image, layer: &str) -> camino::Utf8PathBuf {
    world.path("oci/partial").join(format!("{layer}-{}", image.blobs[layer].len()))
}

async fn pulled(world: &World, registry: &Registry, image: &Image) {
    let found = world.images.resolve(&registry.app()).await.unwrap();
    assert_eq!(found.digest, image.digest());
    assert_eq!(found.labels, BTreeMap::from([("k".into(), "v".into())]));
    assert_eq!((found.registry, found.repository), (registry.host.clone(), "app".into()));
    assert_eq!(found.tag, "1");
    let root = world.images.ensure(&registry.app(), &image.digest(), quiet()).await.unwrap();
    assert_eq!(cat(&root.path, "app"), "two");
    assert_eq!(world.images.list().await.unwrap()[0].references, [registry.app()]);
    assert!(world.files("partial").is_empty());
}

#[tokio::test]
async fn without_and_with_a_login() {
    let image = image();
    let registry = Registry::new(&image).await;
    pulled(&World::new(), &registry, &image).await;
    for auth in [Auth::Basic, Auth::Token] {
        registry.set(|shelf| shelf.auth = auth);
        let login = |password: &str| Login { user: "me".into(), password: password.into() };
        let with = |login| World::with(|config| config.credentials.insert(&registry.host, login));
        pulled(&with(login("secret")), &registry, &image).await;
        for world in [with(login("wrong")), World::new()] {
            let error = world.images.resolve(&registry.app()).await.unwrap_err();
            assert!(matches!(error, ImageError::NotFound { .. }), "{error:?}");
            let text = error.to_string().replace(&registry.host, "HOST");
            assert_eq!(text, "image \"HOST/app:1\" was not found: the registry denies access");
        }
    }
}

#[tokio::test]
async fn a_cut_download_continues_where_it_broke() {
    let image = image();
    let registry = Registry::new(&image).await;
    let cut = |world: &World| {
        let file = partial(world, &image, &image.layers[0]);
        (image.layers[0].clone(), file.into_std_path_buf())
    };
    let world = World::new();
    registry.set(|shelf| shelf.cut = vec![cut(&world), cut(&world)]);
    pulled(&world, &registry, &image).await;
    let asked = registry.asked();
    assert!(asked.iter().any(|line| line.starts_with("blobs bytes=")), "{asked:?}");

    // A server without ranges is asked for all of it again.
    let world = World::new();
    registry.set(|shelf| (shelf.cut, shelf.ranges) = (vec![cut(&world)], false));
    pulled(&world, &registry, &image).await;
}

#[tokio::test]
async fn a_download_continues_after_a_crash_and_damaged_remains_do_no_harm() {
    let image = image();
    let registry = Registry::new(&image).await;
    let big = &image.blobs[&image.layers[0]];
    let part = big[..big.len() / 3].to_vec();
    let broken = vec![7; part.len()];
    for (remains, requests) in [(part, 1), (broken, 2)] {
        let world = World::new();
        let size = remains.len();
        std::fs::write(partial(&world, &image, &image.layers[0]), &remains).unwrap();
        pulled(&world, &registry, &image).await;
        let asked = registry.asked();
        let ranged = format!("blobs bytes={size}-");
        assert!(asked.contains(&ranged), "{asked:?}");
        // Beside them the config, for labels and for the pull, and the small layer.
        let blobs = asked.iter().filter(|line| line.starts_with("blobs")).count();
        assert_eq!(blobs, requests + 3, "{asked:?}");
    }
}

#[tokio::test]
async fn a_busy_registry_is_asked_again() {
    let image = image();
    let registry = Registry::new(&image).await;
    registry.set(|shelf| shelf.busy = 2);
    pulled(&World::new(), &registry, &image).await;
}

#[tokio::test]
async fn wrong_digests_are_refused_and_leave_nothing() {
    let image = image();
    let (layer, config) = (image.layers[0].clone(), image.config.clone());
    let same_length = vec![0; image.blobs[&layer].len()];
    let longer = [&image.blobs[&layer][..], b"!"].concat();
    let other_config = vec![b' '; image.blobs[&config].len()];
    let mut problems = String::new();
    for (digest, bytes) in [
        (&layer, same_length),
        (&layer, longer),
        (&config, other_config),
        (&image.manifest, b"{}".to_vec()),
    ] {
        let registry = Registry::new(&image).await;
        registry.set(|shelf| drop(shelf.blobs.insert(digest.clone(), bytes)));
        let world = World::new();
        let error =
            world.images.ensure(&registry.app(), &image.digest(), quiet()).await.unwrap_err();
        assert!(matches!(error, ImageError::Refused { .. }), "{error:?}");
        let text = rt::chain(&error).replace(&registry.host, "HOST");
        problems += &format!("{text}\n");
        assert!(!world.files("partial").iter().any(|file| file.starts_with(digest)));
        assert!(world.images.list().await.unwrap().is_empty());
    }
    expect![[r#"
        image HOST/app:1 is refused: digest of the layer is sha256:0c94e44edfa41ab6ffabf3463fb691d83e946fc34162a22b577ef854385300b6, not sha256:5f9379c54be76f8d37d8327d34a372815a6db43e132feb29d87ae3417d814a48 as promised
        image HOST/app:1 is refused: blob sha256:5f9379c54be76f8d37d8327d34a372815a6db43e132feb29d87ae3417d814a48 is longer than the 1582058 bytes promised
        image HOST/app:1 is refused: digest of the config is sha256:a0db5f1a664c58b276ecf68d60dab5cffd2f56b1f7614827f1b2f363dd70d28f, not sha256:2e7478b3eefa8b99200e6a559ecd00cbfbe1942f8502a1f7dee12a75e4eb6468 as promised
        image HOST/app:1 is refused: digest of the manifest is sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a, not sha256:0eeddc664eff7c9cd5b17cfeb0bd80aadeb1d34b56f2f88d8cce1eb130581430 as promised
    "#]].assert_eq(&problems);
}

#[tokio::test]
async fn absent_images_are_not_found() {
    let registry = Registry::new(&image()).await;
    let world = World::with(|config| config.attempts = 1);
    let none = format!("sha256:{}", "0".repeat(64));
    let mut problems = String::new();
    for name in ["app:2", "none:1", &format!("app@{none}")] {
        let reference = format!("{}/{name}", registry.host);
        let error = world.images.resolve(&reference).await.unwrap_err();
        assert!(matches!(error, ImageError::NotFound { .. }), "{error:?}");
        problems += &format!("{}\n", error.to_string().replace(&registry.host, "HOST"));
    }
    for reference in [none.as_str(), "Not A Name"] {
        problems += &format!("{}\n", world.images.resolve(reference).await.unwrap_err());
    }
    expect![[r#"
        image "HOST/app:2" was not found: no such image
        image "HOST/none:1" was not found: no such image
        image "HOST/app@sha256:0000000000000000000000000000000000000000000000000000000000000000" was not found: no such image
        image "sha256:0000000000000000000000000000000000000000000000000000000000000000" was not found: no image of this digest is on this host
        image reference "Not A Name" is not valid: invalid reference format
    "#]].assert_eq(&problems);
}

#[tokio::test]
async fn a_known_name_outlives_its_registry() {
    let image = image();
    let mut registry = Registry::new(&image).await;
    let world = World::with(|config| config.attempts = 1);
    let never = world.images.resolve("127.0.0.1:1/app:1").await.unwrap_err();
    assert!(matches!(&never, ImageError::Failed(error) if error.transient), "{never:?}");
    pulled(&world, &registry, &image).await;
    registry.task.shutdown().await;
    let found = world.images.resolve(&registry.app()).await.unwrap();
    assert_eq!(found.digest, image.digest());
    world.images.ensure(&registry.app(), &image.digest(), quiet()).await.unwrap();
    let by_digest = format!("{}/app@{}", registry.host, image.digest());
    assert_eq!(world.images.resolve(&by_digest).await.unwrap().digest, image.digest());
}

#[tokio::test]
async fn an_imported_name_asks_no_registry() {
    let image = image();
    let registry = Registry::new(&image).await;
    let world = World::new();
    let path = world.layout("l", &image.layout(None));
    world.import(&path, Some(&registry.app())).await.unwrap();
    assert_eq!(world.images.resolve(&registry.app()).await.unwrap().registry, "local");
    assert!(registry.asked().is_empty());
}

#[tokio::test]
async fn many_callers_share_one_pull_and_each_sees_progress() {
    let image = image();
    let registry = Registry::new(&image).await;
    let world = World::new();
    let app = registry.app();
    let seen: Vec<_> = (0..8).map(|_| Arc::new(Mutex::new(0u64))).collect();
    let digest = image.digest();
    let calls: Vec<_> = seen
        .iter()
        .map(|seen| {
            let seen = Arc::clone(seen);
            let progress: worker::ports::Progress = Arc::new(move |step: &str, done, all| {
                assert!(done <= all, "{step}: {done} of {all}");
                *seen.lock().unwrap() += 1;
            });
            world.images.ensure(&app, &digest, progress)
        })
        .collect();
    for done in futures_util::future::join_all(calls).await {
        done.unwrap();
    }
    assert!(seen.iter().all(|seen| *seen.lock().unwrap() > 0));
    // A manifest, a config, two layers: once.
    assert_eq!(registry.asked().len(), 4);
}

#[tokio::test]
async fn endless_answers_are_cut_at_their_limits() {
    let image = image();
    let registry = Registry::new(&image).await;
    let mut problems = String::new();
    for what in ["manifests", "blobs", "token", "error"] {
        registry.set(|shelf| {
            shelf.auth = if what == "token" { Auth::Token } else { Auth::None };
            shelf.endless = vec![what];
        });
        let world = World::new();
        let (name, digest) = (registry.app(), image.digest());
        let error = world.images.ensure(&name, &digest, quiet()).await.unwrap_err();
        problems += &format!("{}\n", rt::chain(&error).replace(&registry.host, "HOST"));
    }
    expect![[r#"
        image HOST/app:1 is refused: its manifest exceeds the limit of 4194304 bytes
        image HOST/app:1 is refused: its config exceeds the limit of 8388608 bytes
        image HOST/app:1 is refused: the token exceeds the limit of 262144 bytes
        fetch the manifest of HOST/app:1: the registry answers 400 Bad Request
    "#]]
    .assert_eq(&problems);
}

#[tokio::test]
async fn images_that_share_layers_come_at_once() {
    let (shared, plain) = (image(), tar(&[("plain", b"as it is")]));
    let packed = shared.blobs[&shared.layers[0]].clone();
    let unpacked = {
        let mut out = Vec::new();
        let mut packed = flate2::read::GzDecoder::new(&packed[..]);
        std::io::Read::read_to_end(&mut packed, &mut out).unwrap();
        out
    };
    let images: Vec<_> = (0..6)
        .map(|n| {
            let own = tar(&[("app", format!("image {n}").as_bytes())]);
            Image::new(&[
                (packed.clone(), unpacked.clone()),
                (plain.clone(), plain.clone()),
                (gzip(&own), own),
            ])
        })
        .collect();
    let registry = Registry::new(&images[0]).await;
    let world = World::new();
    let cut = partial(&world, &images[0], &images[0].layers[0]).into_std_path_buf();
    registry.set(|shelf| {
        for image in &images {
            shelf.blobs.extend(image.blobs.clone());
            shelf.tags.insert(image.manifest.clone(), image.manifest.clone());
        }
        shelf.cut = vec![(images[0].layers[0].clone(), cut)];
    });
    let calls = images.iter().map(|image| {
        let name = format!("{}/app:{}", registry.host, image.manifest);
        let (world, digest) = (&world, image.digest());
        async move { world.images.ensure(&name, &digest, quiet()).await }
    });
    for (n, root) in futures_util::future::join_all(calls).await.into_iter().enumerate() {
        let root = root.unwrap();
        assert_eq!(cat(&root.path, "app"), format!("image {n}"));
        assert_eq!(cat(&root.path, "plain"), "as it is");
    }
    assert!(world.files("partial").is_empty(), "{:?}", world.files("partial"));
}

#[tokio::test]
async fn from_an_index_the_best_image_for_the_guest_is_pulled() {
    let mut all = Image::default();
    let mut listed = vec![];
    // A bill of materials without a platform; a variant that guests do not run.
    let bill = all.add(br#"{"schemaVersion":2,"artifactType":"application/spdx+json"}"#);
    listed.push(serde_json::json!({"digest": format!("sha256:{bill}"), "size": 1}));
    let mut expected = String::new();
    for variant in ["v4", "v2", "v1"] {
        let tar = tar(&[("variant", variant.as_bytes())]);
        let image = Image::new(&[(gzip(&tar), tar)]);
        all.blobs.extend(image.blobs.clone());
        let platform =
            serde_json::json!({"os": "linux", "architecture": "amd64", "variant": variant});
        listed.push(serde_json::json!({"digest": image.digest(), "size": 1, "platform": platform}));
        if variant == "v2" {
            expected = image.digest();
        }
    }
    let index = |listed: &[serde_json::Value]| {
        serde_json::json!({"schemaVersion": 2, "manifests": listed}).to_string()
    };
    all.manifest = all.add(index(&listed).as_bytes());
    let registry = Registry::new(&all).await;
    let world = World::with(|config| config.guest_cpu = oci::CpuLevel::V2);
    let found = world.images.resolve(&registry.app()).await.unwrap();
    assert_eq!(found.digest, expected);
    let root = world.images.ensure(&registry.app(), &expected, quiet()).await.unwrap();
    assert_eq!(cat(&root.path, "variant"), "v2");

    // Artifacts first, the image after them; then artifacts only.
    for (listed, expected) in [
        (vec![listed[0].clone(), serde_json::json!({"digest": expected, "size": 1})], Ok(expected)),
        (vec![listed[0].clone()], Err("application/spdx+json")),
    ] {
        let manifest = all.add(index(&listed).as_bytes());
        registry.set(|shelf| {
            shelf.blobs.extend(all.blobs.clone());
            shelf.tags.insert("1".into(), manifest);
        });
        let world = World::new();
        match (world.images.resolve(&registry.app()).await, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found.digest, expected),
            (Err(error), Err(artifact)) => assert_eq!(
                error.to_string(),
                format!(
                    "image {} is refused: it holds no image, only artifacts: {artifact}",
                    registry.app()
                )
            ),
            (outcome, expected) => panic!("{outcome:?}, expected {expected:?}"),
        }
    }
}

#[tokio::test]
async fn a_pull_without_room_is_refused_before_layers_are_fetched() {
    let image = image();
    let registry = Registry::new(&image).await;
    let world = World::with(|config| config.disk_reserve_bytes = 1 << 60);
    let error = world.images.ensure(&registry.app(), &image.digest(), quiet()).await.unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("pull an image: the disk of the image store has "), "{text}");
    assert_eq!(registry.asked(), ["manifests", "blobs"], "the manifest and the config only");
    assert!(world.files("partial").is_empty());
}

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_pulled_image_goes_some_time_after_its_last_use() {
    let image = image();
    let registry = Registry::new(&image).await;
    let world = World::new();
    let (none, used) = (BTreeSet::new(), BTreeSet::from([image.digest()]));
    pulled(&world, &registry, &image).await;
    world.clock.advance(23 * HOUR);
    assert_eq!(world.images.collect(&none).await.unwrap(), 0);
    // A machine uses it for two days.
    world.clock.advance(48 * HOUR);
    assert_eq!(world.images.collect(&used).await.unwrap(), 0);
    world.clock.advance(23 * HOUR);
    assert_eq!(world.images.collect(&none).await.unwrap(), 0);
    // The time of the last use outlives the daemon.
    let World { dir, images, clock } = world;
    drop(images);
    let store = camino::Utf8PathBuf::from_path_buf(dir.path().join("oci")).unwrap();
    let images = oci::OciImages::open(oci::OciConfig::new(store), clock.clone()).unwrap();
    let world = World { dir, images, clock };
    assert_eq!(world.images.collect(&none).await.unwrap(), 0);
    world.clock.advance(2 * HOUR);
    assert!(world.images.collect(&none).await.unwrap() > 0);
    for dir in ["roots", "images", "names", "blobs"] {
        assert!(world.files(dir).is_empty(), "{dir}: {:?}", world.files(dir));
    }
}

#[tokio::test]
async fn an_image_with_a_name_from_an_import_stays_however_it_came() {
    let image = image();
    let registry = Registry::new(&image).await;
    let world = World::new();
    pulled(&world, &registry, &image).await;
    let path = world.layout("l", &image.layout(Some("mine:1")));
    world.import(&path, None).await.unwrap();
    world.clock.advance(1000 * HOUR);
    assert_eq!(world.images.collect(&BTreeSet::new()).await.unwrap(), 0);
    assert_eq!(world.images.list().await.unwrap().len(), 1);
}

#[tokio::test]
async fn the_name_of_an_image_that_was_never_pulled_is_not_kept() {
    let image = image();
    let registry = Registry::new(&image).await;
    let world = World::new();
    world.images.resolve(&registry.app()).await.unwrap();
    world.images.collect(&BTreeSet::new()).await.unwrap();
    assert!(world.files("names").is_empty());
    // It is no loss: a pull records it again.
    pulled(&world, &registry, &image).await;
    assert_eq!(world.files("names").len(), 1);
}

#[tokio::test]
async fn old_partial_downloads_go_while_another_pull_runs() {
    let image = image();
    let registry = Registry::new(&image).await;
    let world = World::new();
    let [old, young] =
        ["a", "b"].map(|digit| world.path(&format!("oci/partial/{}-9", digit.repeat(64))));
    std::fs::write(&old, b"old").unwrap();
    std::fs::write(&young, b"young").unwrap();
    std::fs::File::open(&old).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    world.clock.advance(25 * HOUR);
    // The answer to this pull never ends.
    registry.set(|shelf| shelf.endless = vec!["manifests"]);
    let (app, digest) = (registry.app(), image.digest());
    let (begun, mut has_begun) = tokio::sync::mpsc::unbounded_channel();
    let begun = move |_| {
        let _ = begun.send(());
    };
    registry.set(|shelf| shelf.at_request = Some(Box::new(begun)));
    let pull = world.images.ensure(&app, &digest, quiet());
    let collect = async {
        has_begun.recv().await.unwrap();
        world.images.collect(&BTreeSet::new()).await.unwrap()
    };
    tokio::select! {
        biased;
        freed = collect => assert_eq!(freed, 3),
        ended = pull => panic!("{ended:?}"),
    }
    assert!(!old.exists() && young.exists());
}

#[tokio::test]
async fn a_registry_at_loopback_is_only_asked_where_the_host_allows_it() {
    let image = image();
    let registry = Registry::new(&image).await;
    let world = World::with(|config| config.allow_loopback_registry = false);
    let error = world.images.resolve(&registry.app()).await.unwrap_err();
    assert_eq!(
        error.to_string().replace(&registry.host, "HOST"),
        "image reference \"HOST/app:1\" is not valid: its registry is at a loopback address of the \
         host, which is not asked unless the host sets images.allow_loopback_registry"
    );
    assert!(world.images.ensure(&registry.app(), &image.digest(), quiet()).await.is_err());
    assert!(registry.asked().is_empty());
    // The name of an import asks no registry.
    let path = world.layout("l", &image.layout(None));
    world.import(&path, Some(&registry.app())).await.unwrap();
    assert_eq!(world.images.resolve(&registry.app()).await.unwrap().digest, image.digest());
}

#[test]
fn a_download_ends_before_the_reserve_when_the_disk_fills_meanwhile() {
    if !mount::can_mount() {
        return;
    }
    let world = World::with(|config| {
        config.disk_reserve_bytes = 1 << 20;
        config.attempts = 1;
    });
    let store = world.path("oci");
    mount::with_tmpfs(&store, "100m", || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            for dir in ["images", "names", "roots", "blobs", "partial", "tmp"] {
                std::fs::create_dir_all(store.join(dir)).unwrap();
            }
            let image = image_of(20 << 20);
            let registry = Registry::new(&image).await;
            // Manifest and config have come, and the space is booked: a machine
            // writes to its disk.
            let fill = store.join("machine");
            let full = move |before| {
                if before == 2 {
                    std::fs::write(&fill, vec![1; 88 << 20]).unwrap();
                }
            };
            registry.set(|shelf| shelf.at_request = Some(Box::new(full)));
            let (app, digest) = (registry.app(), image.digest());
            let error = world.images.ensure(&app, &digest, quiet()).await.unwrap_err();
            let text = error.to_string();
            assert!(text.starts_with("fetch a layer: the disk of the image store has "), "{text}");
        });
    });
}
