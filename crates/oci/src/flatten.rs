//! Layers into one root image.

use crate::blob::Blob;
use crate::config::{Limits, OciConfig};
use crate::fault::{Fault, Result};
use crate::index;
use crate::pack;
use crate::tree::Tree;
use camino::Utf8Path;

/// Merges the tars of layers, lowest first, into the new SquashFS image `out`.
pub(crate) fn flatten(
    layers: &[Blob],
    out: &Utf8Path,
    config: &OciConfig,
    progress: &dyn Fn(u64),
) -> Result<()> {
    let tree = merge(layers, config.limits)?;
    pack::squash(&tree, out, config, progress)
}

/// Merges the tars of layers, lowest first.
pub(crate) fn merge(layers: &[Blob], limits: Limits) -> Result<Tree> {
    let mut tree = Tree::new(limits);
    let mut entries = 0;
    for (n, tar) in layers.iter().enumerate() {
        tree.next_layer();
        let walked = index::walk(tar, &limits, |entry| {
            entries += 1;
            if entries > limits.entries {
                let limit = limits.entries;
                return Err(Fault::refused(format!("exceeds the limit of {limit} entries")));
            }
            tree.apply(entry)
        });
        walked.map_err(|fault| fault.within(&format!("layer {}", n + 1)))?;
    }
    Ok(tree)
}
