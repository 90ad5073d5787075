//! An import to all hosts at once: a machine of the image may be placed on any.

use crate::{Error, Kind, Platform};
use bytes::BytesMut;
use futures_util::StreamExt;
use futures_util::future::try_join_all;
use futures_util::stream::{self, BoxStream};
use host_api::{ImageUpload, ImportName, KnownHost};
use model::id::HostId;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use wire::machines::{ErrorBody, ImageProgress};

/// Longest import; an upload that stalls is cut by the front long before.
const IMPORT_TIMEOUT: Duration = Duration::from_secs(24 * 3600);
/// Bytes under way to each host: the slowest host sets the pace.
const WINDOW: usize = 256 * 1024;
const CHUNK: usize = 64 * 1024;
/// Progress messages that wait for a slow client.
const QUEUE: usize = 16;

type Steps = BoxStream<'static, ImageProgress>;

/// Imports an image from a tar to every host; the stream of its progress ends
/// with `Done` once all hosts have it, or with `Failed` and the host's name.
///
/// # Errors
/// There is no host, or one cannot be reached or refuses.
pub async fn import(
    platform: &Platform,
    name: ImportName,
    tar: ImageUpload,
) -> Result<Steps, Error> {
    let hosts = platform.hosts().all();
    let context = || platform.context(IMPORT_TIMEOUT);
    match &hosts[..] {
        [] => Err(Error::new(Kind::Unavailable, "there is no host")),
        [only] => Ok(only.host.import_image(context(), name, tar).await?),
        several => {
            let (uploads, ends): (Vec<_>, Vec<_>) =
                several.iter().map(|_| tokio::io::duplex(WINDOW)).unzip();
            platform.tasks().spawn_until_stop(copy(tar, uploads));
            let imports = several.iter().zip(ends).map(|(known, tar)| {
                let (name, context) = (name.clone(), context());
                async move {
                    let steps = known.host.import_image(context, name, Box::new(tar)).await;
                    steps.map(|steps| (known.id, steps)).map_err(|err| at(known, err.into()))
                }
            });
            let imports = try_join_all(imports).await?;
            Ok(combine(platform, imports))
        }
    }
}

fn at(known: &KnownHost, err: Error) -> Error {
    Error { message: format!("host {}: {}", known.id, err.message), ..err }
}

/// Copies the tar to all hosts. One that reads no more is left out; where none
/// reads any more, or the tar breaks off, the uploads end.
async fn copy(mut tar: ImageUpload, mut uploads: Vec<DuplexStream>) {
    let mut buffer = BytesMut::with_capacity(CHUNK);
    while !uploads.is_empty() {
        buffer.clear();
        buffer.reserve(CHUNK);
        if !matches!(tar.read_buf(&mut buffer).await, Ok(1..)) {
            return;
        }
        let mut reading = Vec::with_capacity(uploads.len());
        for mut upload in uploads {
            if upload.write_all(&buffer).await.is_ok() {
                reading.push(upload);
            }
        }
        uploads = reading;
    }
}

/// The progress of the first host, and the end of all.
fn combine(platform: &Platform, imports: Vec<(HostId, Steps)>) -> Steps {
    let (sender, receiver) = mpsc::channel(QUEUE);
    platform.tasks().spawn_until_stop(async move {
        // A client that goes away ends all imports.
        tokio::select! {
            () = pass(imports, &sender) => {}
            () = sender.closed() => {}
        }
    });
    let next = |mut from: mpsc::Receiver<_>| async { Some((from.recv().await?, from)) };
    stream::unfold(receiver, next).boxed()
}

async fn pass(imports: Vec<(HostId, Steps)>, to: &mpsc::Sender<ImageProgress>) {
    let ends = imports.into_iter().enumerate().map(|(position, (host, mut steps))| async move {
        let mut end = None;
        while let Some(step) = steps.next().await {
            match step {
                ImageProgress::Step { .. } if position > 0 => {}
                ImageProgress::Step { .. } => drop(to.send(step).await),
                ImageProgress::Done { .. } => end = Some(step),
                ImageProgress::Failed { error } => {
                    let error =
                        ErrorBody { error: format!("host {host}: {}", error.error), ..error };
                    return Err(ImageProgress::Failed { error });
                }
            }
        }
        end.ok_or_else(|| ImageProgress::Failed {
            error: ErrorBody {
                hint: Some("import the image again".into()),
                ..ErrorBody::unknown(format!("host {host}: the import broke off"))
            },
        })
    });
    let last = match try_join_all(ends).await {
        // Every host has the same image, by its digest.
        Ok(ends) => ends.into_iter().next(),
        Err(failed) => Some(failed),
    };
    if let Some(last) = last {
        // The client may have gone.
        let _ = to.send(last).await;
    }
}
