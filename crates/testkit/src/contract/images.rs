//! The contract of [`Images`].

use camino::Utf8Path;
use std::collections::BTreeSet;
use std::sync::Arc;
use worker::ports::{ImageArchive, ImageError, Images, Progress};

/// Checks an image store that is empty and has no network; `archive` can be
/// imported. Leaves it empty.
///
/// # Panics
/// It breaks the contract.
pub async fn images_contract(images: &impl Images, archive: &Utf8Path) {
    let silent: Progress = Arc::new(|_, _, _| {});
    assert_eq!(images.list().await.unwrap(), []);
    let named = |name| ImageArchive { path: archive, name: Some(name), file_name: None };
    let import = |name| images.import(named(name), silent.clone());
    let summary = import("contract/app:1").await.unwrap();
    assert_eq!(summary.references, ["contract/app:1"]);
    let digest = summary.digest.clone();

    // An imported image needs no registry.
    let resolved = images.resolve("contract/app:1").await.unwrap();
    assert_eq!((resolved.registry.as_str(), &resolved.digest), ("local", &digest));
    let ensure = || images.ensure("contract/app:1", &digest, silent.clone());
    let (first, second) = futures_util::join!(ensure(), ensure());
    let root = first.unwrap();
    assert_eq!(root, second.unwrap());
    assert!(root.path.exists());
    let document = std::fs::read(&root.document).unwrap();
    assert!(serde_json::from_slice::<serde_json::Value>(&document).unwrap().is_object());

    // A second import is the same image.
    let again = import("contract/app:1").await.unwrap();
    assert_eq!(again.digest, digest);
    let list = images.list().await.unwrap();
    assert_eq!(list.iter().map(|image| &image.digest).collect::<Vec<_>>(), [&digest]);

    // The digest of a machine's image cannot be removed, and no name is lost.
    let keep = BTreeSet::from([digest.clone()]);
    let refused = images.remove(&digest, &keep).await;
    assert!(matches!(refused, Err(ImageError::InUse { .. })), "{refused:?}");
    assert_eq!(images.resolve("contract/app:1").await.unwrap().digest, digest);

    // Without a name the image stays for as long as a machine needs it.
    assert!(images.remove("contract/app:1", &keep).await.unwrap());
    assert!(!images.remove("contract/app:1", &keep).await.unwrap());
    images.collect(&keep).await.unwrap();
    assert!(root.path.exists());
    assert_eq!(images.ensure("contract/app:1", &digest, silent.clone()).await.unwrap(), root);
    images.collect(&BTreeSet::new()).await.unwrap();
    assert!(!root.path.exists());
    assert_eq!(images.list().await.unwrap(), []);
    assert_eq!(images.collect(&BTreeSet::new()).await.unwrap(), 0, "nothing is left to free");

    let refused = images.resolve("not a reference!").await;
    assert!(matches!(refused, Err(ImageError::BadReference { .. })), "{refused:?}");
}
