//! Image archives: the files of a directory or a tar ([`source`]), read as an
//! OCI image layout ([`layout`]) or as the output of `docker save`
//! ([`docker_save`]); both give images in one form ([`found`]).

pub(crate) mod docker_save;
pub(crate) mod found;
pub(crate) mod layout;
pub(crate) mod source;
