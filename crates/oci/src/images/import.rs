//! The import of an archive: read it, build the root image of each image in it,
//! record their names.

use crate::archive::found::{FoundImage, repository_name};
use crate::archive::layout;
use crate::archive::source::Source;
use crate::content::blob::Blob;
use crate::error::{Error, Result as Step, lost};
use crate::jobs::job::Job;
use crate::jobs::progress::ProgressMeter;
use crate::jobs::shared::{Jobs, NewImage};
use crate::reference::ImageName;
use crate::store::catalog::Store;
use crate::store::names::familiar;
use crate::store::records::NameSource;
use std::sync::Arc;
use tokio::task::JoinSet;
use worker::ports::{ImageArchive, ImageError, ImageSummary, Progress};

/// The repository of a bare tag in an archive without a file name.
const REPOSITORY: &str = "image";

/// Imports all images of an archive. Returns the first, with its new names first.
pub(crate) async fn import(
    jobs: &Arc<Jobs>,
    archive: ImageArchive<'_>,
    progress: Progress,
) -> Result<ImageSummary, ImageError> {
    if let Some(given) = archive.name
        && ImageName::parse(given)?.digest().is_some()
    {
        let problem = "the name for an import has a tag, not a digest".into();
        return Err(ImageError::BadReference { reference: given.into(), problem });
    }
    let job = jobs.begin(&jobs.imports).await?;
    // The path is one of this host, which callers do not know.
    let shown = archive.file_name.or(archive.name).unwrap_or("archive").to_owned();
    let images = read(jobs, &job, archive, &shown, &progress).await;
    let images = images.map_err(|error| error.for_image(&shown))?;
    if archive.name.is_some() && images.len() > 1 {
        let names: Vec<_> = images.iter().flat_map(|image| image.names.clone()).collect();
        let problem = format!(
            "it holds {} images, and one name cannot be given to all of them: {}",
            images.len(),
            names.join(", ")
        );
        jobs.close(images).await;
        return Err(Error::refused(problem).for_image(&shown));
    }
    let only = images.len() == 1;
    let mut images = images.into_iter();
    let outcome = register(jobs, &job, &archive, &mut images, only, &progress).await;
    // After an error there may be files left.
    jobs.close(images).await;
    outcome.map_err(|problem| match problem {
        Problem::Image(error) => error.for_image(&shown),
        Problem::Other(error) => error,
    })
}

/// Why an image was not registered.
enum Problem {
    /// Its content, or a failure around it.
    Image(Error),
    Other(ImageError),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self::Image(error)
    }
}

impl From<ImageError> for Problem {
    fn from(error: ImageError) -> Self {
        Self::Other(error)
    }
}

/// Builds the images that the store does not have, and records their names.
async fn register(
    jobs: &Arc<Jobs>,
    job: &Arc<Job>,
    archive: &ImageArchive<'_>,
    images: &mut std::vec::IntoIter<FoundImage>,
    only: bool,
    progress: &Progress,
) -> Result<ImageSummary, Problem> {
    let mut first = None;
    for image in images {
        let digest = image.digest.clone();
        let names = names(archive, &image, only)?;
        // Until its name is recorded, nothing else keeps it.
        let _guard = jobs.guards.guard_job(&digest.to_string());
        let known = digest.to_string();
        if jobs.store(move |store| store.has(&known)).await? {
            jobs.close(image).await;
        } else {
            build(jobs, job, image, progress).await?;
        }
        // Each is synced to disk: the store is locked for one name at a time, so
        // that starts of machines do not wait for all of them.
        for name in names.clone() {
            let named = digest.clone();
            let record =
                move |store: &mut Store| store.names.set(&name, &named, NameSource::Imported);
            jobs.store(record).await??;
        }
        first.get_or_insert((digest, names));
    }
    let (digest, names) = first.ok_or_else(|| Error::refused("it holds no image"))?;
    let summary = jobs.store(move |store| store.summary(&digest.to_string())).await?;
    let mut summary =
        summary.ok_or_else(|| Error::refused("it was removed while it was imported"))?;
    let known = |name: &String| !names.iter().any(|new| familiar(new) == name);
    summary.references.sort_by_key(known);
    Ok(summary)
}

/// Reads the documents of an archive.
async fn read(
    jobs: &Arc<Jobs>,
    job: &Arc<Job>,
    archive: ImageArchive<'_>,
    shown: &str,
    progress: &Progress,
) -> Step<Vec<FoundImage>> {
    let (path, shown, config) = (archive.path.to_owned(), shown.to_owned(), jobs.config.clone());
    let repository = archive.file_name.and_then(repository_name);
    let (tmp, space) = (jobs.tmp(), Arc::clone(&job.space));
    let meter = ProgressMeter::new(progress, "read", 0);
    let read = move || {
        let source = Source::open(&path, &shown, &config.limits, &tmp, &space, &|n| meter.add(n))?;
        layout::contents(&source, repository.as_deref().unwrap_or(REPOSITORY), &config)
    };
    let contents = jobs.compute(job, read).await?;
    for artifact in &contents.artifacts {
        tracing::info!(%artifact, "left out of an import: an artifact, not an image");
        progress(&format!("left out {artifact}, not an image"), 0, 0);
    }
    Ok(contents.images)
}

/// The names to record: the given one; else those of the archive that are valid;
/// else the archive's file name, if this is its `only` image; else the digest.
fn names(
    archive: &ImageArchive<'_>,
    image: &FoundImage,
    only: bool,
) -> Result<Vec<String>, ImageError> {
    if let Some(given) = archive.name {
        return Ok(vec![ImageName::parse(given)?.canonical()]);
    }
    let parse = |name: &String| match ImageName::parse(name) {
        Ok(name) => Some(name.canonical()),
        Err(error) => {
            tracing::warn!(%error, "a name in an image archive is not valid and left out");
            None
        }
    };
    let names: Vec<_> = image.names.iter().filter_map(parse).collect();
    if !names.is_empty() {
        return Ok(names);
    }
    let file = archive.file_name.filter(|_| only).and_then(repository_name);
    Ok(vec![match file.and_then(|name| ImageName::parse(&name).ok()) {
        Some(name) => name.canonical(),
        None => image.digest.to_string(),
    }])
}

/// Builds the root image of an image and adds it to the store.
async fn build(
    jobs: &Arc<Jobs>,
    job: &Arc<Job>,
    image: FoundImage,
    progress: &Progress,
) -> Step<()> {
    if let Some(left_out) = image.config.left_out() {
        tracing::info!(image = %image.digest, "{left_out}");
        progress(&left_out, 0, 0);
    }
    let total = image.layers.iter().map(|(blob, _)| blob.len).sum();
    let space = Arc::clone(&job.space);
    // The root image takes at least the size of the layers, as a rule.
    jobs.compute(job, move || space.ensure(total, "import an image")).await?;
    let budget = jobs.budget(job);
    let meter = ProgressMeter::new(progress, "unpack", total);
    let mut tasks = JoinSet::new();
    let count = image.layers.len();
    for (n, (blob, expected)) in image.layers.into_iter().enumerate() {
        let (jobs, job) = (Arc::clone(jobs), Arc::clone(job));
        let (budget, meter) = (Arc::clone(&budget), meter.clone());
        tasks.spawn(async move {
            jobs.unpack(&job, blob, expected, budget, &meter).await.map(|tar| (n, tar))
        });
    }
    let mut tars: Vec<Option<Blob>> = vec![None; count];
    while let Some(done) = tasks.join_next().await {
        match done.map_err(lost).flatten() {
            Ok((n, tar)) => tars[n] = Some(tar),
            Err(error) => {
                jobs.close(tars).await;
                return Err(error);
            }
        }
    }
    let run = image.config.image_config();
    let (digest, manifest, config_bytes) = (image.digest, image.manifest, image.config_bytes);
    let new = NewImage { digest, manifest, config_bytes, run };
    jobs.finish(job, new, tars.into_iter().flatten().collect(), progress).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::digest::Digest;
    use crate::manifest::image_config::Config;

    #[test]
    fn names_come_from_the_caller_then_the_archive_then_its_file_name() {
        let image = |names: &[&str]| FoundImage {
            digest: Digest::of(b""),
            manifest: Vec::new(),
            config_bytes: Vec::new(),
            config: Config::default(),
            layers: Vec::new(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
        };
        let archive = |name, file_name| ImageArchive { path: "/x".into(), name, file_name };
        let names = |name, file, own: &[&str], only| {
            names(&archive(name, file), &image(own), only).unwrap().join(" ")
        };
        let digest = Digest::of(b"").to_string();
        let web = Some("web.tar");
        assert_eq!(names(Some("a:1"), web, &["b:2"], true), "docker.io/library/a:1");
        assert_eq!(names(None, web, &["b:2", "NOT"], true), "docker.io/library/b:2");
        assert_eq!(names(None, web, &["NOT"], true), "docker.io/library/web:latest");
        assert_eq!(names(None, web, &[], false), digest);
        assert_eq!(names(None, None, &[], true), digest);
    }
}
