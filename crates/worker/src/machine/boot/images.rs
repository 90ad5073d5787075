//! The images of a machine: that of its root, and those of its containers.

use crate::context::HostContext;
use crate::ports::{ImageError, RootImage};
use crate::record::Record;
use crate::units;
use camino::Utf8PathBuf;
use guest_protocol::Device;
use std::collections::BTreeMap;
use wire::machines::{Container, ImageRef};

/// The images of a machine, all of them present on this host.
#[derive(Clone, Debug)]
pub(super) struct MachineImages {
    /// The image of the machine's own root, `/dev/vda`.
    pub(super) root: RootImage,
    /// Those that containers have beside it, from `/dev/vdc` on; each once.
    further: Vec<RootImage>,
    /// The place in `further` by the reference of a container's image; `None` is the root.
    places: BTreeMap<String, Option<u16>>,
}

impl MachineImages {
    /// Makes all images present; pulls what is missing.
    pub(super) async fn ensure(host: &HostContext, record: &Record) -> Result<Self, ImageError> {
        let (reference, digest) = (record.image_reference(), &record.image.digest);
        let root = host.ensure_image(record, reference, digest).await?;
        let mut images = Self { root, further: Vec::new(), places: BTreeMap::new() };
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
