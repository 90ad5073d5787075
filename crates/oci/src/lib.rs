//! worker::Images: pull, import, flatten layers into one read-only root filesystem image.
