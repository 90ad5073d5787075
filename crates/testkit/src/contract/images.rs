//! The contract of [`Images`].

use camino::Utf8Path;
use std::collections::BTreeSet;
use std::sync::Arc;
use worker::ports::{ImageError, Images, Progress};

/// Checks an image store that is empty and has no network; `archive` can be
/// imported. Leaves it empty.
///
/// # Panics
/// It breaks the contract.
pub async fn images_contract(images: &impl Images, archive: &Utf8Path) {
    let silent: Progress = Arc::new(|_, _, _| {});
    assert_eq!(images.list().await.unwrap(), []);
    let summary = images.import(archive, Some("contract/app:1"), silent.clone()).await.unwrap();
    let digest = summary.digest.clone();

    // What was imported is there without a registry.
    let resolved = images.resolve("contract/app:1").await.unwrap();
    assert_eq!((resolved.registry.as_str(), &resolved.digest), ("local", &digest));
    let ensure = || images.ensure("contract/app:1", &digest, silent.clone());
    let (first, second) = futures_util::join!(ensure(), ensure());
    let root = first.unwrap();
    assert_eq!(root, second.unwrap());
    assert!(root.path.exists());

    // A second import is the same image.
    let again = images.import(archive, Some("contract/app:1"), silent.clone()).await.unwrap();
    assert_eq!(again.digest, digest);
    let list = images.list().await.unwrap();
    assert_eq!(list.iter().map(|image| &image.digest).collect::<Vec<_>>(), [&digest]);

    // Without a name it stays for as long as a machine needs it.
    let keep = BTreeSet::from([digest.clone()]);
    assert!(images.remove("contract/app:1", &keep).await.unwrap());
    assert!(!images.remove("contract/app:1", &keep).await.unwrap());
    images.collect(&keep).await.unwrap();
    assert!(root.path.exists());
    images.collect(&BTreeSet::new()).await.unwrap();
    assert!(!root.path.exists());
    assert_eq!(images.list().await.unwrap(), []);
    assert_eq!(images.collect(&BTreeSet::new()).await.unwrap(), 0, "nothing is left to free");

    let refused = images.resolve("not a reference!").await;
    assert!(matches!(refused, Err(ImageError::BadReference { .. })), "{refused:?}");
}
