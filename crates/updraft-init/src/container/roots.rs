//! The root file system of each container: its image below a directory of the scratch
//! disk. Mounted once per boot at `/.fly/containers/<name>`, where the guest's own root
//! shows it too, so a restart of the container keeps what it has written.

use super::thread::{on_own_thread, unshare};
use crate::boot::mounts::{self, FLY, LOWER, SCRATCH};
use crate::system::files::{self, OwnFiles};
use guest_protocol::{Container, Device, GuestConfig, TempDir, Unit};
use rustix::mount::MountFlags;
use std::ffi::CString;
use std::path::Path;

/// The root of a container.
pub(crate) fn root(name: &str) -> String {
    format!("{FLY}/containers/{name}")
}

/// The directory of a volume.
pub(crate) fn volume(name: &str) -> String {
    format!("{FLY}/volumes/{name}")
}

/// The containers of a configuration, with their names.
fn containers(config: &GuestConfig) -> impl Iterator<Item = (&str, &Container)> {
    config
        .units
        .iter()
        .flatten()
        .filter_map(|Unit { name, container, .. }| Some((name.as_str(), container.as_ref()?)))
}

/// Mounts images, volumes and roots, while the layers of the guest's own root still have
/// their names. They follow the file system of [`FLY`] into that root.
pub(crate) fn mount_all(config: &GuestConfig) -> Result<Vec<OwnFiles>, String> {
    for (i, image) in config.images.iter().flatten().enumerate() {
        let at = image_dir(i);
        make_dir(&at)?;
        mounts::mount_device(image, &at, MountFlags::RDONLY)?;
    }
    for directory in config.volumes.iter().flatten() {
        mount_volume(directory)?;
    }
    containers(config).map(|(name, container)| mount_root(config, name, container)).collect()
}

fn image_dir(number: usize) -> String {
    format!("/images/{number}")
}

fn make_dir(path: &str) -> Result<(), String> {
    std::fs::create_dir_all(path).map_err(|err| format!("cannot make directory {path}: {err}"))
}

fn mount_volume(directory: &TempDir) -> Result<(), String> {
    let TempDir { name, memory_mib } = directory;
    plain_name(name)?;
    let at = volume(name);
    make_dir(&at)?;
    if let Some(mib) = memory_mib {
        let options = CString::new(format!("mode=0777,size={mib}m")).unwrap_or_default();
        return rustix::mount::mount("tmpfs", &at, "tmpfs", MountFlags::NODEV, options.as_c_str())
            .map_err(|err| format!("cannot mount volume `{name}`: {err}"));
    }
    // Empty at each boot, also if the scratch disk is kept.
    let source = format!("{SCRATCH}/volumes/{name}");
    let _ = std::fs::remove_dir_all(&source);
    make_dir(&source)?;
    let _ = rustix::fs::chmod(&source, rustix::fs::Mode::from_raw_mode(0o777));
    rustix::mount::mount_bind(&source, &at)
        .map_err(|err| format!("cannot mount volume `{name}`: {err}"))
}

fn mount_root(config: &GuestConfig, name: &str, container: &Container) -> Result<OwnFiles, String> {
    plain_name(name)?;
    let lower = match container.image {
        Some(number) => image_dir(number.into()),
        None => LOWER.to_owned(),
    };
    let own = format!("{SCRATCH}/containers/{name}");
    let (upper, work, at) = (format!("{own}/upper"), format!("{own}/work"), root(name));
    for dir in [&upper, &work, &at] {
        make_dir(dir)?;
    }
    let files = OwnFiles::write_into(Path::new(&upper), Path::new(&lower), config);
    let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
    let options = CString::new(options).unwrap_or_default();
    rustix::mount::mount("overlay", &at, "overlay", MountFlags::empty(), options.as_c_str())
        .map_err(|err| format!("cannot mount the root of container `{name}`: {err}"))?;
    Ok(files)
}

/// The host validates names; this one becomes a part of paths.
fn plain_name(name: &str) -> Result<(), String> {
    match name {
        "" | "." | ".." => Err(format!("`{name}` is not a name")),
        _ if name.contains(['/', ',', ':', '\0']) => Err(format!("`{name}` is not a name")),
        _ => Ok(()),
    }
}

/// Writes the files of each container, once the guest's own root is in place. `own` is the
/// result of [`mount_all`].
pub(crate) fn write_files(own: &[OwnFiles], config: &GuestConfig) -> Result<(), String> {
    for ((name, container), own) in containers(config).zip(own) {
        let write = || {
            mounts::make_tmp();
            files::write_all(own, &container.files)
        };
        in_root(&root(name), write).map_err(|err| format!("container `{name}`: {err}"))?;
    }
    Ok(())
}

/// Runs `work` with another root: a link of the image leads nowhere else.
fn in_root<T: Send>(
    root: &str,
    work: impl FnOnce() -> Result<T, String> + Send,
) -> Result<T, String> {
    on_own_thread(|| {
        unshare(libc::CLONE_FS)?;
        let entered = rustix::process::chroot(root).and_then(|()| rustix::process::chdir("/"));
        entered.map_err(|err| format!("cannot enter {root}: {err}"))?;
        work()
    })
}

/// Devices of the images, which have to be there before [`mount_all`].
pub(crate) fn devices(config: &GuestConfig) -> impl Iterator<Item = &Device> {
    config.images.iter().flatten()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_name_that_would_leave_its_directory_is_refused() {
        for name in ["", ".", "..", "a/b", "a:b", "a,b"] {
            assert!(super::plain_name(name).is_err(), "{name}");
        }
        assert!(super::plain_name("web-1_x.y").is_ok());
    }
}
