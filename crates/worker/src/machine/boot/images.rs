//! The images of a machine: that of its root, and those of its containers.

use crate::context::HostContext;
use crate::ports::{ImageError, RootImage};
use crate::record::Record;
use crate::units;
use camino::Utf8PathBuf;
use guest_protocol::{Device, MAX_FRAME};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use wire::machines::{Container, ImageRef};

/// Longest config of an image that a guest can be sent, in bytes.
const MAX_CONFIG: u64 = MAX_FRAME as u64;

/// The images of a machine, all of them present on this host.
#[derive(Clone, Debug)]
pub(super) struct MachineImages {
    /// The image of the machine's own root, `/dev/vda`.
    pub(super) root: RootImage,
    /// Those that containers have beside it, from `/dev/vdc` on; each once.
    further: Vec<RootImage>,
    /// Reference of the root's image.
    reference: String,
    /// The place in `further` by the reference of a container's image; `None` is the root.
    places: BTreeMap<String, Option<u16>>,
}

impl MachineImages {
    /// Makes all images present; pulls what is missing.
    pub(super) async fn ensure(host: &HostContext, record: &Record) -> Result<Self, ImageError> {
        let (reference, digest) = (record.image_reference(), &record.image.digest);
        let root = host.ensure_image(record, reference, digest).await?;
        let (further, places, reference) = (Vec::new(), BTreeMap::new(), reference.to_owned());
        let mut images = Self { root, further, reference, places };
        let mut seen = BTreeMap::from([(digest.clone(), None)]);
        for (reference, ImageRef { digest, .. }) in &record.container_images {
            let place = match seen.get(digest) {
                Some(place) => *place,
                None => {
                    images.further.push(host.ensure_image(record, reference, digest).await?);
                    let place = u16::try_from(images.further.len() - 1).ok();
                    seen.insert(digest.clone(), place);
                    place
                }
            };
            images.places.insert(reference.clone(), place);
        }
        Ok(images)
    }

    /// The image of a container, and its place if it is not the root's.
    pub(super) fn of(&self, container: &Container) -> (Option<u16>, &RootImage) {
        let place = units::image_of(container).and_then(|name| *self.places.get(name)?);
        let image = place.and_then(|place| self.further.get(usize::from(place)));
        image.map_or((None, &self.root), |image| (place, image))
    }

    /// The OCI config of one of these images, as JSON.
    pub(super) fn config_of(&self, reference: &str) -> Result<Vec<u8>, String> {
        let image = match self.places.get(reference) {
            Some(Some(place)) => self.further.get(usize::from(*place)),
            Some(None) => Some(&self.root),
            None => (reference == self.reference).then_some(&self.root),
        };
        let image = image.ok_or_else(|| format!("{reference} is none of the machine's images"))?;
        let read = || {
            let mut document = Vec::new();
            let limit = MAX_CONFIG + 1;
            File::open(&image.document)?.take(limit).read_to_end(&mut document)?;
            Ok::<_, std::io::Error>(document)
        };
        let document = read().map_err(|err| format!("read the config of {reference}: {err}"))?;
        match document.len() as u64 {
            ..=MAX_CONFIG => Ok(document),
            _ => Err(format!("the config of {reference} has more than {MAX_CONFIG} bytes")),
        }
    }

    /// The files of the images beside the root.
    pub(super) fn drives(&self) -> Vec<Utf8PathBuf> {
        self.further.iter().map(|image| image.path.clone()).collect()
    }

    /// The same as the guest sees them.
    pub(super) fn devices(&self) -> Vec<Device> {
        let device = |(letter, image): (char, &RootImage)| Device {
            path: format!("/dev/vd{letter}"),
            fstype: image.fstype.clone(),
        };
        ('c'..='z').zip(&self.further).map(device).collect()
    }
}
