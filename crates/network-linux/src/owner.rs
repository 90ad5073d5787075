//! Which data directory the names of a platform belong to.
//!
//! The names of its namespace, tables, taps and control groups are made of the tag, 16
//! bits of a hash. Two data directories of one host may have the same one: the second
//! daemon would take the VMs of the first for its own, and end them. So a platform
//! that runs is recorded by the path of its data directory.

use crate::config::NetworkConfig;
use std::fs::{self, File};
use std::io::{self, Write};
use worker::ports::PortError;

/// Refuses a tag that another data directory has.
pub(crate) fn check(config: &NetworkConfig) -> Result<(), PortError> {
    let file = &config.owner_file;
    let owner = match fs::read_to_string(file) {
        Ok(owner) => owner,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(err) => return Err(PortError::new(format!("read {file}"), err)),
    };
    // Empty: a daemon was killed while it wrote the file.
    if owner.is_empty() || owner == config.data_dir.as_str() {
        return Ok(());
    }
    Err(PortError::plain(format!(
        "use the data directory {}: its interfaces and control groups would have the same \
         names ({}) as those of {owner}, which has a platform on this host; choose another \
         data directory, or run `updraft down` on that one (if it no longer exists, remove \
         {file})",
        config.data_dir, config.tag,
    )))
}

/// Records that the tag belongs to the data directory, until [`release`].
pub(crate) fn claim(config: &NetworkConfig) -> Result<(), PortError> {
    let file = &config.owner_file;
    let failed = |err: io::Error| PortError::new(format!("write {file}"), err);
    if let Some(dir) = file.parent() {
        fs::create_dir_all(dir).map_err(failed)?;
    }
    let mut open = match File::create_new(file) {
        Ok(open) => open,
        Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {
            check(config)?;
            File::create(file).map_err(failed)?
        }
        Err(err) => return Err(failed(err)),
    };
    open.write_all(config.data_dir.as_str().as_bytes()).map_err(failed)
}

/// Gives the tag up.
pub(crate) fn release(config: &NetworkConfig) -> Result<(), PortError> {
    let file = &config.owner_file;
    match fs::remove_file(file) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => {
            Err(PortError::new(format!("remove {file}"), err))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use camino::Utf8Path;
    use model::address::Ipv4Pool;

    #[test]
    fn a_tag_belongs_to_one_data_directory_until_it_is_released() {
        let temp = tempfile::tempdir().unwrap();
        let file = Utf8Path::from_path(temp.path()).unwrap().join("run/tag");
        let pool = Ipv4Pool::new([172, 30, 0, 0].into(), 16).unwrap();
        let config = |data_dir: &str| NetworkConfig {
            owner_file: file.clone(),
            ..NetworkConfig::new(data_dir.into(), pool)
        };
        let (first, second) = (config("/srv/first"), config("/srv/second"));
        check(&second).unwrap();
        claim(&first).unwrap();
        claim(&first).unwrap();
        for refused in [check(&second), claim(&second)] {
            let text = refused.unwrap_err().to_string();
            assert!(text.contains("/srv/first") && text.contains(file.as_str()), "{text}");
        }
        check(&first).unwrap();
        release(&first).unwrap();
        release(&first).unwrap();
        claim(&second).unwrap();
        assert!(check(&first).is_err());
        // A daemon was killed while it wrote.
        fs::write(&file, "").unwrap();
        claim(&first).unwrap();
        assert!(check(&second).is_err());
    }
}
