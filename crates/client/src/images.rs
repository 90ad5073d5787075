//! Images on the hosts.

use crate::{Client, Error, Lines, SHORT};
use bytes::Bytes;
use futures_util::Stream;
use reqwest::{Body, Method};
use std::io;
use wire::machines::{Image, ImageProgress};

impl Client {
    /// All images.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn images(&self) -> Result<Vec<Image>, Error> {
        self.json(self.call(Method::GET, &["v1", "images"]).within(SHORT)).await
    }

    /// Sends the tar of an OCI layout or of a `docker save`; the answer is its
    /// progress, which ends with `Done` or `Failed`. The file's name is what an image
    /// without a name is called by, and what errors call the tar.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn import_image<S>(
        &self,
        name: Option<&str>,
        file_name: Option<&str>,
        tar: S,
    ) -> Result<Lines<ImageProgress>, Error>
    where
        S: Stream<Item = io::Result<Bytes>> + Send + Sync + 'static,
    {
        let mut call = self.call(Method::POST, &["v1", "images", "import"]);
        if let Some(name) = name {
            call = call.query(&[("name", name.to_owned())]);
        }
        if let Some(file_name) = file_name {
            call = call.query(&[("file", file_name.to_owned())]);
        }
        call.request = call.request.header("content-type", "application/x-tar");
        call.request = call.request.body(Body::wrap_stream(tar));
        let name = call.name.clone();
        Ok(Lines::new(name, self.send(call).await?))
    }

    /// Removes a name or a digest.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn remove_image(&self, reference: &str) -> Result<(), Error> {
        let call = self.call(Method::DELETE, &["v1", "images"]).within(SHORT);
        self.done(call.query(&[("reference", reference.to_owned())])).await
    }
}
