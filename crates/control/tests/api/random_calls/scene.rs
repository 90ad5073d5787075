//! Things that calls can refer to: they are there before each call, made again if an earlier one
//! has removed them.

use crate::world::{TestWorld, at};
use reqwest::Method;
use serde_json::{Value, json};

/// 32 bytes in base64.
const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const TEXT: &str = "dGV4dA==";

/// What is there.
pub(super) struct Scene {
    machine: String,
    /// Nonce of the machine's lease, where the call is about leases.
    nonce: String,
    /// A token that the call may revoke, and its text.
    token: (String, String),
    ciphertext: String,
    signature: String,
    image: String,
    /// Ids of a release and of a build.
    release: (String, i64),
    /// Id of a volume.
    volume: String,
}

impl Scene {
    /// What a call of this operation needs.
    pub(super) async fn of(w: &TestWorld, id: &str) -> Self {
        w.post("/v1/apps", json!({ "app_name": "web" })).await;
        let machine = Self::machine(w, id).await;
        let lease = at(&machine, "/lease");
        let nonce = match id {
            "getLease" | "releaseLease" => {
                w.post(&lease, json!({ "ttl": 60 })).await.1["nonce"].clone()
            }
            _ => Value::Null,
        };
        let mut scene = Self {
            machine: text(&machine["id"]),
            nonce: text(&nonce),
            token: Default::default(),
            ciphertext: String::new(),
            signature: String::new(),
            image: "nginx".to_owned(),
            release: Default::default(),
            volume: String::new(),
        };
        match id {
            "revokeToken" | "revokeAppToken" | "authenticateToken" | "authorizeToken" => {
                scene.token = token(w).await;
            }
            "getSecret" | "deleteSecret" | "listSecrets" => {
                w.post("/v1/apps/web/secrets/S1", json!({ "value": "x" })).await;
            }
            "getSecretKey" | "deleteSecretKey" | "encrypt" | "decrypt" | "sign" | "verify" => {
                scene.keys(w).await;
            }
            "getMetadataKey" | "deleteMetadataKey" => {
                w.post(&at(&machine, "/metadata/role"), json!({ "value": "primary" })).await;
            }
            "removeMember" => {
                w.post("/v1/orgs/personal/members", json!({ "email": EMAIL, "role": "member" }))
                    .await;
            }
            "getOrg" | "deleteOrg" => {
                drop(w.post("/v1/orgs", json!({ "name": "Second", "slug": "second" })).await)
            }
            "updateRelease" | "getCurrentRelease" | "finishBuild" => scene.release(w).await,
            "getVolume" | "updateVolume" | "extendVolume" | "destroyVolume" => {
                let (_, made) = w.post("/v1/apps/web/volumes", json!({ "name": "data" })).await;
                scene.volume = text(&made["id"]);
            }
            "deleteImage" | "deleteImageByPath" | "listImages" => {
                let body =
                    w.request(Method::POST, "/v1/images/import?name=spare:1").body("archive");
                body.send().await.unwrap();
                scene.image = "spare:1".to_owned();
            }
            _ => {}
        }
        scene
    }

    /// A machine in the state from which the call leads on.
    async fn machine(w: &TestWorld, id: &str) -> Value {
        let config = match id {
            "beginRun" | "listRuns" => json!({ "image": "nginx", "schedule": "daily" }),
            _ => json!({ "image": "nginx" }),
        };
        let wanted = if id == "startMachine" { "stopped" } else { "started" };
        let (_, listed) = w.get("/v1/apps/web/machines?include_leases=true").await;
        let listed = listed.as_array().cloned().unwrap_or_default();
        let fits = |machine: &&Value| {
            machine["state"] == wanted
                && machine["lease"].is_null()
                && machine["config"]["schedule"] == config["schedule"]
        };
        if let Some(machine) = listed.iter().find(fits) {
            return machine.clone();
        }
        // The host has memory for sixteen of them.
        if listed.len() > 6 {
            w.delete("/v1/apps/web?force=true").await;
            w.post("/v1/apps", json!({ "app_name": "web" })).await;
        }
        let machine = w.machine(json!({ "config": config })).await;
        if wanted == "stopped" {
            w.post(&at(&machine, "/stop"), Value::Null).await;
        }
        machine
    }

    async fn release(&mut self, w: &TestWorld) {
        let ask = json!({ "app_name": "web", "definition": {} });
        let (_, made) = w.post("/api/v1/releases", ask.clone()).await;
        let id = text(&made["release"]["id"]);
        let complete = json!({ "status": "complete" });
        w.call(Method::PATCH, &format!("/api/v1/releases/{id}"), complete).await;
        let (_, build) = w.post("/api/v1/builds", json!({ "app_name": "web" })).await;
        self.release = (id, build["id"].as_i64().unwrap_or_default());
    }

    async fn keys(&mut self, w: &TestWorld) {
        let path = "/v1/apps/web/secretkeys";
        w.post(&format!("{path}/sign"), json!({ "type": "hs256", "value": KEY })).await;
        w.post(&format!("{path}/box"), json!({ "type": "nacl_secretbox", "value": KEY })).await;
        let message = json!({ "plaintext": TEXT });
        let (_, made) = w.post(&format!("{path}/box/encrypt"), message.clone()).await;
        self.ciphertext = text(&made["ciphertext"]);
        let (_, made) = w.post(&format!("{path}/sign/sign"), message).await;
        self.signature = text(&made["signature"]);
    }

    /// The name for a part of the operation's path.
    pub(super) fn part(&self, id: &str, part: &str) -> String {
        let org = if ["getOrg", "deleteOrg"].contains(&id) { "second" } else { "personal" };
        match (part, id) {
            ("{app}", _) => "web",
            ("{machine}", _) => &self.machine,
            ("{org}", _) => org,
            ("{key}", _) => "role",
            ("{token}", _) => &self.token.0,
            ("{email}", _) => EMAIL,
            ("{kind}", _) => "hs256",
            ("{release}", _) => &self.release.0,
            ("{reference}", _) => &self.image,
            ("{volume}", _) => &self.volume,
            ("{name}", "encrypt" | "decrypt") => "box",
            ("{name}", "sign" | "verify" | "getSecretKey" | "deleteSecretKey") => "sign",
            ("{name}", _) => "S1",
            _ => "app",
        }
        .to_owned()
    }

    /// Parameters of the query that refer to things that are there.
    pub(super) fn query(&self, id: &str) -> Vec<(&'static str, String)> {
        match id {
            "releaseLease" => vec![("nonce", self.nonce.clone())],
            "waitMachine" => vec![("state", "started".to_owned())],
            "deleteMachine" | "deleteApp" => vec![("force", "true".to_owned())],
            "deleteImage" => vec![("reference", self.image.clone())],
            "importImage" => vec![("name", "spare:1".to_owned())],
            "listApps" => vec![("org_slug", "personal".to_owned())],
            _ => Vec::new(),
        }
    }

    /// A body that such a call succeeds with, if it takes one.
    pub(super) fn body(&self, id: &str) -> Option<Value> {
        let config = json!({ "image": "nginx" });
        Some(match id {
            "createApp" => json!({ "app_name": "fresh", "org_slug": "personal" }),
            "createMachine" | "updateMachine" => json!({ "config": config }),
            "patchMachine" => json!({ "config": { "env": { "A": "b" } } }),
            "createMachines" => json!({ "machines": [{ "config": config }] }),
            "signalMachine" => json!({ "signal": "SIGHUP" }),
            "execMachine" => json!({ "command": ["echo", "hi"] }),
            "stopMachine" => json!({ "signal": "SIGTERM", "timeout": "1s" }),
            "createOrg" => json!({ "slug": "third", "name": "Third" }),
            "planPlacements" => json!({ "region": "any", "count": 1, "org_slug": "personal" }),
            "putMember" => json!({ "email": EMAIL, "role": "member" }),
            "createToken" => json!({ "type": "readonly", "name": "t", "expiry": "1h" }),
            "createDeployToken" => json!({ "expiry": "1h" }),
            "replaceMetadata" | "mergeMetadata" => json!({ "metadata": { "role": "primary" } }),
            "setMetadataKey" => json!({ "value": "primary" }),
            "setMemory" => json!({ "limit_mb": 256 }),
            "reclaimMemory" => json!({ "amount_mb": 1 }),
            "acquireLease" => json!({ "ttl": 1 }),
            "createRelease" => json!({ "app_name": "web", "definition": { "a": 1 } }),
            "updateRelease" => json!({ "status": "complete", "metadata": { "a": 1 } }),
            "createBuild" => json!({ "app_name": "web", "builder_type": "local" }),
            "finishBuild" => {
                json!({ "app_name": "web", "build_id": self.release.1, "status": "completed" })
            }
            "createVolume" => json!({ "name": "data" }),
            "updateVolume" => json!({ "snapshot_retention": 7 }),
            "extendVolume" => json!({ "size_gb": 4 }),
            "changeSecrets" => json!({ "values": { "S1": "x" } }),
            "setSecret" => json!({ "value": "x" }),
            "setTypedSecret" => json!({ "value": KEY }),
            "setSecretKey" => json!({ "type": "hs256", "value": KEY }),
            "generateSecretKey" => json!({ "type": "hs256" }),
            "encrypt" | "sign" => json!({ "plaintext": TEXT }),
            "decrypt" => json!({ "ciphertext": self.ciphertext }),
            "verify" => json!({ "plaintext": TEXT, "signature": self.signature }),
            "authenticateToken" => json!({ "header": format!("Bearer {}", self.token.1) }),
            "authorizeToken" => {
                let access = json!({ "action": "r", "org_slug": "personal", "app_name": "web" });
                json!({ "header": format!("Bearer {}", self.token.1), "access": access })
            }
            _ => return None,
        })
    }
}

const EMAIL: &str = "a@example.com";

/// A token of the app: its id and its text.
async fn token(w: &TestWorld) -> (String, String) {
    let (_, made) = w.post("/v1/apps/web/deploy_token", json!({ "expiry": "1h" })).await;
    let (_, listed) = w.get("/v1/apps/web/tokens").await;
    let id = listed["tokens"].as_array().and_then(|all| all.last()).map(|token| text(&token["id"]));
    (id.unwrap_or_default(), text(&made["token"]))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
