//! Merges the layers of an image and writes the root image.

use crate::config::limits::Limits;
use crate::config::settings::OciConfig;
use crate::content::blob::Blob;
use crate::content::disk_space::SpaceBooking;
use crate::error::{Error, Result};
use crate::flatten::pack;
use crate::flatten::tree::Tree;
use crate::layer::reader;
use camino::Utf8Path;

/// Merges the tars of layers, lowest first, into the new SquashFS image `out`.
pub(crate) fn flatten(
    layers: &[Blob],
    out: &Utf8Path,
    config: &OciConfig,
    space: &SpaceBooking,
    progress: &dyn Fn(u64),
) -> Result<()> {
    let tree = merge(layers, config.limits)?;
    pack::squash(&tree, out, config, space, progress)
}

/// Merges the tars of layers, lowest first.
pub(crate) fn merge(layers: &[Blob], limits: Limits) -> Result<Tree> {
    let mut tree = Tree::new(limits);
    let mut entries = 0;
    for (n, tar) in layers.iter().enumerate() {
        tree.next_layer();
        let read = reader::for_each(tar, &limits, |entry| {
            entries += 1;
            if entries > limits.entries {
                let limit = limits.entries;
                return Err(Error::refused(format!("exceeds the limit of {limit} entries")));
            }
            tree.apply(entry)
        });
        read.map_err(|error| error.within(&format!("layer {}", n + 1)))?;
    }
    Ok(tree)
}

#[cfg(test)]
#[path = "merge_tests.rs"]
mod tests;
