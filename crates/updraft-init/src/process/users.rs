//! Users and groups, by the `/etc/passwd` and `/etc/group` of the image.

use rustix::fs::{FileType, Mode, OFlags};
use std::io::Read;

/// More than any sane passwd; the file belongs to the image.
const MAX_FILE: u64 = 4 << 20;

/// The id that means "no change" to the kernel's system calls: a process that is to
/// run as it would run as root.
const RESERVED_ID: u32 = u32::MAX;

/// The user and groups that a process runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// User id.
    pub(crate) uid: u32,
    /// Group id.
    pub(crate) gid: u32,
    /// Supplementary groups.
    pub(crate) groups: Vec<u32>,
    /// Home directory.
    pub(crate) home: String,
    /// For messages: the name, or the number.
    pub(crate) name: String,
}

struct Passwd<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

fn passwd(line: &str) -> Option<Passwd<'_>> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|n| !n.is_empty())?;
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    let home = fields.nth(1).unwrap_or_default();
    Some(Passwd { name, uid, gid, home })
}

/// Name, id and members of a line of `/etc/group`.
fn group(line: &str) -> Option<(&str, u32, &str)> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|n| !n.is_empty())?;
    let gid = fields.nth(1)?.parse().ok()?;
    Some((name, gid, fields.next().unwrap_or_default()))
}

/// Resolves `user[:group]` (names or numbers, empty is root) as container
/// engines do: an unknown number is taken as it is, an unknown name is an error.
pub(crate) fn resolve(spec: &str, passwd_file: &str, group_file: &str) -> Result<Identity, String> {
    let (user, wanted_group) = spec.split_once(':').unwrap_or((spec, ""));
    let user = if user.is_empty() { "0" } else { user };
    let number = user.parse::<u32>().ok();
    let entries = || passwd_file.lines().filter_map(passwd);
    // A name wins over a number, as in the engines.
    let entry =
        entries().find(|e| e.name == user).or_else(|| entries().find(|e| Some(e.uid) == number));
    let uid = match (&entry, number) {
        (Some(entry), _) => entry.uid,
        (None, Some(number)) => number,
        (None, None) => return Err(format!("user `{user}` not found in /etc/passwd")),
    };
    let (gid, groups) = if wanted_group.is_empty() {
        let name = entry.as_ref().map(|e| e.name);
        let member = |members: &str| name.is_some_and(|n| members.split(',').any(|m| m == n));
        let groups = group_file.lines().filter_map(group);
        let groups = groups.filter(|(_, _, members)| member(members)).map(|(_, gid, _)| gid);
        (entry.as_ref().map_or(0, |e| e.gid), groups.collect())
    } else {
        (group_id(wanted_group, group_file)?, Vec::new())
    };
    if [uid, gid].iter().chain(&groups).any(|&id| id == RESERVED_ID) {
        return Err(format!(
            "user `{spec}` has the id {RESERVED_ID}, which is reserved: use another one"
        ));
    }
    let home = entry.as_ref().map(|e| e.home).filter(|h| !h.is_empty());
    let fallback = if uid == 0 { "/root" } else { "/" };
    Ok(Identity {
        uid,
        gid,
        groups,
        home: home.unwrap_or(fallback).to_owned(),
        name: match (&entry, uid) {
            (Some(entry), _) => entry.name.to_owned(),
            (None, 0) => "root".to_owned(),
            (None, uid) => uid.to_string(),
        },
    })
}

fn group_id(wanted: &str, group_file: &str) -> Result<u32, String> {
    let named = group_file.lines().filter_map(group).find(|(name, _, _)| *name == wanted);
    named
        .map(|(_, gid, _)| gid)
        .or_else(|| wanted.parse().ok())
        .ok_or_else(|| format!("group `{wanted}` not found in /etc/group"))
}

/// [`resolve`] with the files of the guest.
pub(crate) fn lookup(spec: &str) -> Result<Identity, String> {
    resolve(spec, &read("/etc/passwd"), &read("/etc/group"))
}

/// The text of a file that an app may have replaced by anything: never waits,
/// never takes more than [`MAX_FILE`].
fn read(path: &str) -> String {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let Ok(fd) = rustix::fs::open(path, flags, Mode::empty()) else { return String::new() };
    let regular = rustix::fs::fstat(&fd)
        .is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::RegularFile);
    let mut text = Vec::new();
    if regular {
        let _ = std::fs::File::from(fd).take(MAX_FILE).read_to_end(&mut text);
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbroken\napp:x:1000:1001:An App:/home/app:/bin/sh\n\
                          1234:x:77:78::/n:/bin/sh\nnohome:x:5:6:::\n";
    const GROUP: &str = "root:x:0:\napp:x:1001:\nwww:x:33:other,app\nvideo:x:44:app\nfake:x:zz:app\nnew:x:9:apple\n";

    fn show(spec: &str) -> String {
        match resolve(spec, PASSWD, GROUP) {
            Ok(i) => format!("{} {}:{} {:?} {}", i.name, i.uid, i.gid, i.groups, i.home),
            Err(error) => error,
        }
    }

    #[test]
    fn users_resolve_as_in_container_engines() {
        for (spec, want) in [
            ("", "root 0:0 [] /root"),
            ("app", "app 1000:1001 [33, 44] /home/app"),
            ("1000", "app 1000:1001 [33, 44] /home/app"),
            ("app:www", "app 1000:33 [] /home/app"),
            ("app:7", "app 1000:7 [] /home/app"),
            ("4000", "4000 4000:0 [] /"),
            ("4000:www", "4000 4000:33 [] /"),
            ("1234", "1234 77:78 [] /n"),
            ("nohome", "nohome 5:6 [] /"),
            (":www", "root 0:33 [] /root"),
            ("ghost", "user `ghost` not found in /etc/passwd"),
            ("app:ghosts", "group `ghosts` not found in /etc/group"),
            ("-1", "user `-1` not found in /etc/passwd"),
            ("4294967294", "4294967294 4294967294:0 [] /"),
        ] {
            assert_eq!(show(spec), want, "{spec}");
        }
    }

    #[test]
    fn the_id_that_means_no_change_is_refused_wherever_it_comes_from() {
        let passwd = "user:x:4294967295:1:::\ngroup:x:5:4294967295:::\nmember:x:7:8:::\n";
        let group = "wheel:x:4294967295:member\n";
        for spec in ["4294967295", "0:4294967295", "user", "group", "member", "0:wheel"] {
            let error = resolve(spec, passwd, group).unwrap_err();
            let want =
                format!("user `{spec}` has the id 4294967295, which is reserved: use another one");
            assert_eq!(error, want);
        }
        assert_eq!(
            resolve("4294967296", "", "").unwrap_err(),
            "user `4294967296` not found in /etc/passwd"
        );
    }

    #[test]
    fn an_image_without_files_has_root() {
        let root = resolve("", "", "").map(|i| (i.uid, i.home, i.name));
        assert_eq!(root, Ok((0, "/root".into(), "root".into())));
    }
}
