//! A client that follows server-sent events of the API.

use super::Cluster;
use http_body_util::BodyExt;
use hyper::Method;
use serde_json::Value;
use std::sync::{Arc, Mutex, PoisonError};

/// The events of a watch that have arrived so far, in their order.
#[derive(Clone, Debug, Default)]
pub struct Followed(Arc<Mutex<Vec<Value>>>);

impl Followed {
    /// All events until now.
    pub fn events(&self) -> Vec<Value> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn add(&self, event: Value) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }
}

impl Cluster {
    /// Follows a watch: what is done from now on is in it.
    ///
    /// # Panics
    /// It is refused.
    pub async fn follow(&self, path: &str) -> Followed {
        let answer = self.answer_to(Method::GET, path, Value::Null).await;
        assert_eq!(answer.status(), 200, "{path}");
        let followed = Followed::default();
        let (to, mut body) = (followed.clone(), answer.into_body());
        self.tasks.spawn_until_stop(async move {
            let mut text = String::new();
            while let Some(Ok(frame)) = body.frame().await {
                let part = frame.into_data().unwrap_or_default();
                text.push_str(&String::from_utf8_lossy(&part));
                while let Some((block, rest)) = text.split_once("\n\n") {
                    let data = block.lines().find_map(|line| line.strip_prefix("data:"));
                    if let Some(event) = data.and_then(|data| serde_json::from_str(data).ok()) {
                        to.add(event);
                    }
                    text = rest.to_owned();
                }
            }
        });
        followed
    }
}
