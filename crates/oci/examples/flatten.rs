//! Imports an image archive into a new store and prints how long it took:
//! `flatten ARCHIVE STORE`. For measuring; see `bench/`.

use std::sync::Arc;
use worker::ports::{ImageArchive, Images};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(archive), Some(store)) = (args.next(), args.next()) else {
        return Err("usage: flatten ARCHIVE STORE".into());
    };
    let images = oci::OciImages::open(oci::OciConfig::new(store), rt::Clock::system())?;
    let begun = tokio::time::Instant::now();
    let quiet = Arc::new(|_: &str, _, _| {});
    let archive =
        ImageArchive { path: archive.as_str().into(), name: Some("bench:1"), file_name: None };
    let summary = images.import(archive, quiet).await?;
    println!("{} ms, {} bytes, {}", begun.elapsed().as_millis(), summary.size, summary.digest);
    Ok(())
}
