//! Bodies of caveats in MessagePack: structs are arrays of their fields.

use crate::msgpack::{Reader, Unexpected, Writer};
use crate::{Action, Caveat, CommandRule, Kind, Resources, Roles};
use std::collections::BTreeMap;

type Read<T> = Result<T, Unexpected>;

/// A caveat that no token can be narrowed by: third parties, and kinds that are not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotEncodable;

impl std::fmt::Display for NotEncodable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a caveat of this kind cannot be added")
    }
}

impl std::error::Error for NotEncodable {}

/// The caveat of a kind with this body. One that this version does not know, or whose body is
/// not as it expects, is [`Caveat::Unknown`]: it prohibits everything.
pub(crate) fn decode(kind: Kind, body: &[u8]) -> Caveat {
    let mut reader = Reader::new(body);
    let caveat = read(kind, &mut reader);
    caveat.ok().filter(|_| reader.is_at_end()).unwrap_or(Caveat::Unknown(kind))
}

/// Writes kind and body.
///
/// # Errors
/// A caveat that cannot be written: one that is not known, or of a third party.
pub(crate) fn encode(caveat: &Caveat, to: &mut Writer) -> Result<(), NotEncodable> {
    let Kind(kind) = caveat.kind();
    to.uint(kind);
    match caveat {
        Caveat::Organization { id, mask } => {
            to.array(2);
            to.uint(*id);
            to.uint(mask.0.into());
        }
        Caveat::Apps { apps } => resources(apps, to, |id, to| to.uint(*id)),
        Caveat::Volumes { volumes: set }
        | Caveat::Machines { machines: set }
        | Caveat::FeatureSet { features: set }
        | Caveat::MachineFeatureSet { features: set }
        | Caveat::AppFeatureSet { features: set }
        | Caveat::Clusters { clusters: set }
        | Caveat::StorageObjects { storage_objects: set } => {
            resources(set, to, |id, to| to.text(id));
        }
        Caveat::ValidityWindow { not_before, not_after } => {
            to.array(2);
            to.int(*not_before);
            to.int(*not_after);
        }
        Caveat::Mutations { mutations } => {
            to.array(1);
            texts(mutations, to);
        }
        Caveat::IfPresent { ifs, otherwise } => {
            to.array(2);
            to.array(ifs.len() * 2);
            ifs.iter().try_for_each(|caveat| encode(caveat, to))?;
            to.uint(otherwise.0.into());
        }
        Caveat::FromMachineSource { id } => {
            to.array(1);
            to.text(id);
        }
        Caveat::IsMember {} => to.array(0),
        Caveat::Action(mask) => to.uint(mask.0.into()),
        Caveat::Commands(rules) => {
            to.array(rules.len());
            for rule in rules {
                to.array(2);
                texts(&rule.args, to);
                to.bool(rule.exact);
            }
        }
        Caveat::AllowedRoles(roles) => to.uint(roles.0.into()),
        Caveat::FlySrc { organization, app, instance } => {
            to.array(3);
            [organization, app, instance].into_iter().for_each(|text| to.text(text));
        }
        Caveat::ThirdParty { .. } | Caveat::Unknown(_) => return Err(NotEncodable),
    }
    Ok(())
}

fn resources<I: Ord>(set: &Resources<I>, to: &mut Writer, id: impl Fn(&I, &mut Writer)) {
    to.array(1);
    to.map(set.0.len());
    for (own, action) in &set.0 {
        id(own, to);
        to.uint(action.0.into());
    }
}

fn texts(texts: &[String], to: &mut Writer) {
    to.array(texts.len());
    texts.iter().for_each(|text| to.text(text));
}

fn read(kind: Kind, from: &mut Reader<'_>) -> Read<Caveat> {
    Ok(match kind.0 {
        0 => {
            fields(from, 2)?;
            Caveat::Organization { id: from.uint()?, mask: action(from)? }
        }
        2 => Caveat::Volumes { volumes: named(from)? },
        3 => Caveat::Apps { apps: set(from, Reader::uint)? },
        4 => {
            fields(from, 2)?;
            Caveat::ValidityWindow { not_before: from.int()?, not_after: from.int()? }
        }
        5 => Caveat::FeatureSet { features: named(from)? },
        6 => {
            fields(from, 1)?;
            Caveat::Mutations { mutations: list(from, Reader::text)? }
        }
        7 => Caveat::Machines { machines: named(from)? },
        11 => {
            fields(from, 3)?;
            let location = from.text()?;
            from.bytes()?;
            from.bytes()?;
            Caveat::ThirdParty { location }
        }
        13 => {
            fields(from, 2)?;
            Caveat::IfPresent { ifs: caveats(from)?, otherwise: action(from)? }
        }
        14 => Caveat::MachineFeatureSet { features: named(from)? },
        15 => {
            fields(from, 1)?;
            Caveat::FromMachineSource { id: from.text()? }
        }
        16 => Caveat::Clusters { clusters: named(from)? },
        22 => {
            fields(from, 0)?;
            Caveat::IsMember {}
        }
        26 => Caveat::Action(action(from)?),
        27 => Caveat::Commands(list(from, command)?),
        28 => Caveat::AppFeatureSet { features: named(from)? },
        29 => Caveat::StorageObjects { storage_objects: named(from)? },
        30 => Caveat::AllowedRoles(Roles(u32::try_from(from.uint()?).map_err(|_| Unexpected)?)),
        31 => {
            fields(from, 3)?;
            let (organization, app, instance) = (from.text()?, from.text()?, from.text()?);
            Caveat::FlySrc { organization, app, instance }
        }
        _ => return Err(Unexpected),
    })
}

fn fields(from: &mut Reader<'_>, expected: usize) -> Read<()> {
    if from.array()? == expected { Ok(()) } else { Err(Unexpected) }
}

fn action(from: &mut Reader<'_>) -> Read<Action> {
    u16::try_from(from.uint()?).map(Action).map_err(|_| Unexpected)
}

/// The caveats of a caveat. The reader has checked the depth of the whole body.
fn caveats(from: &mut Reader<'_>) -> Read<Vec<Caveat>> {
    let values = from.array()?;
    if values % 2 != 0 {
        return Err(Unexpected);
    }
    let one = |from: &mut Reader<'_>| Ok(decode(Kind(from.uint()?), from.raw()?));
    (0..values / 2).map(|_| one(from)).collect()
}

fn command(from: &mut Reader<'_>) -> Read<CommandRule> {
    fields(from, 2)?;
    Ok(CommandRule { args: list(from, Reader::text)?, exact: from.bool()? })
}

fn list<'a, T>(from: &mut Reader<'a>, value: impl Fn(&mut Reader<'a>) -> Read<T>) -> Read<Vec<T>> {
    (0..from.array()?).map(|_| value(from)).collect()
}

fn named(from: &mut Reader<'_>) -> Read<Resources<String>> {
    set(from, Reader::text)
}

fn set<'a, I: Ord>(
    from: &mut Reader<'a>,
    id: impl Fn(&mut Reader<'a>) -> Read<I>,
) -> Read<Resources<I>> {
    fields(from, 1)?;
    let mut resources = BTreeMap::new();
    for _ in 0..from.map()? {
        let (id, permitted) = (id(from)?, action(from)?);
        // An id that is there twice is not known to mean either.
        if resources.insert(id, permitted).is_some() {
            return Err(Unexpected);
        }
    }
    Ok(Resources(resources))
}
