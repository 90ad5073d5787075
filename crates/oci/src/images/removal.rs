//! Removal of names and images.

use crate::content::digest::Digest;
use crate::jobs::gc_guard::GcGuards;
use crate::reference::Requested;
use crate::store::catalog::Store;
use std::collections::BTreeSet;
use worker::ports::ImageError;

/// The fewest digits of a shortened digest: fewer are easily mistaken.
const MIN_DIGITS: usize = 7;

/// Removes a name, or an image by its digest or the first digits of it. `keep`
/// has the digests that machines use.
///
/// A name is removed also while machines use its image, which stays in the
/// store for them. An image is only removed when nothing uses it: otherwise
/// nothing changes and the error names the reason.
pub(crate) fn remove(
    store: &mut Store,
    text: &str,
    keep: &BTreeSet<String>,
    guards: &GcGuards,
) -> Result<bool, ImageError> {
    let digest = match Requested::parse(text) {
        Ok(Requested::Digest(digest)) => digest,
        Ok(Requested::Name(name)) => {
            if let Some(digest) = store.names.remove(&name.canonical())? {
                if !guards.in_call(&digest) {
                    store.release(&digest, keep)?;
                }
                return Ok(true);
            }
            match name.digest() {
                Some(digest) => digest,
                None => match by_digits(store, text)? {
                    Some(digest) => digest,
                    None => return Ok(false),
                },
            }
        }
        Err(error) => by_digits(store, text)?.ok_or(error)?,
    };
    let key = digest.to_string();
    if !store.has(&key) {
        return Ok(false);
    }
    let in_use = |problem: &str| ImageError::InUse {
        reference: text.chars().take(200).collect(),
        problem: problem.into(),
    };
    if keep.contains(&key) {
        return Err(in_use("machines use it: destroy them or update them to another image first"));
    }
    if guards.in_call(&key) {
        return Err(in_use("a machine is being prepared with it: try again later"));
    }
    store.names.remove_of(&key)?;
    store.release(&key, keep)?;
    Ok(true)
}

/// The image whose digest begins with `text`, as lists shorten digests.
fn by_digits(store: &Store, text: &str) -> Result<Option<Digest>, ImageError> {
    if text.len() < MIN_DIGITS {
        return Ok(None);
    }
    match &store.digests_from(text)[..] {
        [] => Ok(None),
        [digest] => Ok(Some(digest.clone())),
        _ => {
            let problem = "several digests begin with it".into();
            Err(ImageError::BadReference { reference: text.into(), problem })
        }
    }
}
