//! Events in JSON, as watches pass them on: made once, however many watch.

use host_api::FeedEvent;
use model::id::HostId;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use wire::machines::WatchEvent;

/// Events whose JSON is kept: the watchers of a platform are close together in its events.
const KEPT: usize = 64;

/// The JSON of the newest events that were passed on.
#[derive(Debug, Default)]
pub(crate) struct EventTexts {
    newest: Mutex<VecDeque<Entry>>,
}

#[derive(Debug)]
struct Entry {
    host: HostId,
    number: u64,
    /// Unique, also if the database of a host was lost and its numbers are given again.
    id: String,
    json: Arc<str>,
}

impl EventTexts {
    /// A [`WatchEvent`] in JSON.
    pub(crate) fn of(&self, host: HostId, event: &FeedEvent) -> Arc<str> {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |kept: &&Entry| {
            kept.number == event.number && kept.host == host && kept.id == event.event.id
        };
        if let Some(kept) = newest.iter().rev().find(is_it) {
            return kept.json.clone();
        }
        let json = encode(event);
        if newest.len() == KEPT {
            newest.pop_front();
        }
        let (number, id) = (event.number, event.event.id.clone());
        newest.push_back(Entry { host, number, id, json: json.clone() });
        json
    }
}

fn encode(event: &FeedEvent) -> Arc<str> {
    let shown = WatchEvent {
        event: event.event.clone(),
        app_name: event.app_name.to_string(),
        machine_id: event.machine.to_string(),
        machine_name: event.machine_name.to_string(),
        region: event.region.clone(),
    };
    // Numbers and texts with texts as keys can always be written.
    serde_json::to_string(&shown).unwrap_or_default().into()
}
