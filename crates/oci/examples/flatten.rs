//! Imports an image archive into a fresh store and says how long it took:
//! `flatten ARCHIVE STORE`. For measuring; see `bench/`.

use std::sync::Arc;
use worker::ports::Images;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(archive), Some(store)) = (args.next(), args.next()) else {
        return Err("usage: flatten ARCHIVE STORE".into());
    };
    let images = oci::OciImages::open(oci::OciConfig::new(store), rt::Clock::system())?;
    let begun = tokio::time::Instant::now();
    let quiet = Arc::new(|_: &str, _, _| {});
    let summary = images.import(archive.as_str().into(), Some("bench:1"), quiet).await?;
    println!("{} ms, {} bytes, {}", begun.elapsed().as_millis(), summary.size, summary.digest);
    Ok(())
}
