//! The shapes whose templates are to be made.

use crate::ports::Shape;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Shapes that may wait; others are requested again by the next boot.
const QUEUE: usize = 32;
/// Tries for one shape until the next boot requests it again.
const MAX_TRIES: u32 = 3;
/// Shapes whose template is to be made.
#[derive(Debug, Default)]
pub(crate) struct TemplateQueue {
    /// Shapes and the tries so far; the first is being made.
    queue: Mutex<VecDeque<(Shape, u32)>>,
    pub(crate) requested: Notify,
}

impl TemplateQueue {
    /// A machine of this shape was booted without a template.
    pub(crate) fn request(&self, shape: Shape) {
        let mut queue = self.lock();
        if queue.len() < QUEUE && queue.iter().all(|(waiting, _)| *waiting != shape) {
            queue.push_back((shape, 0));
            self.requested.notify_one();
        }
    }

    pub(crate) fn first(&self) -> Option<Shape> {
        self.lock().front().map(|(shape, _)| *shape)
    }

    /// The first is made, or has failed and is tried again after the others. Returns
    /// whether it has failed for good.
    pub(crate) fn finish_first(&self, made: bool) -> bool {
        let mut queue = self.lock();
        let Some((shape, tries)) = queue.pop_front() else { return false };
        let again = !made && tries + 1 < MAX_TRIES;
        if again {
            queue.push_back((shape, tries + 1));
        }
        !made && !again
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(Shape, u32)>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_queued_once_and_dropped_after_the_last_try() {
        let templates = TemplateQueue::default();
        let shape = |memory_mib| Shape { vcpus: 1, memory_mib };
        for n in [256, 512, 256] {
            templates.request(shape(n));
        }
        assert_eq!(templates.first(), Some(shape(256)));
        assert!(!templates.finish_first(false), "it is tried again, after the other");
        assert_eq!(templates.first(), Some(shape(512)));
        assert!(!templates.finish_first(true));
        assert!(!templates.finish_first(false));
        assert!(templates.finish_first(false));
        assert_eq!(templates.first(), None);
        (0..100).for_each(|n| templates.request(shape(n)));
        assert_eq!(templates.lock().len(), QUEUE);
    }
}
