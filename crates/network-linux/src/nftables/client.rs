//! The packet filter and the connection table of one network namespace.

use super::batch::{
    Batch, CHAIN_HOOK, CHAIN_NAME, CHAIN_POLICY, HOOK_FORWARD, NFTABLES, TABLE, header,
};
use crate::netlink::{ACK, DUMP, Messages, Netlink, REQUEST, attribute, text_of};
use netlink_sys::protocols::NETLINK_NETFILTER;
use std::io;
use worker::ports::PortError;

const GET_CHAIN: u16 = NFTABLES | 4;
const GET_RULE: u16 = NFTABLES | 7;
/// `IPCTNL_MSG_CT_DELETE` of the connection table.
const DELETE_FLOW: u16 = (1 << 8) | 2;
const FLOW_MARK: u16 = 8;
const FLOW_MARK_MASK: u16 = 21;
/// `NF_DROP` as the policy of a chain.
const POLICY_DROP: u32 = 0;

/// nftables of the network namespace of the thread that opened it.
#[derive(Debug)]
pub(crate) struct Netfilter {
    // Kept open: `close` may wait until the kernel has freed removed objects.
    netlink: Netlink,
}

/// A chain that the kernel enters, of any table and family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BaseChain {
    /// Family, table and name, as `nft` prints them.
    pub(crate) name: String,
    /// It drops by policy what is forwarded.
    pub(crate) drops_forwarded: bool,
}

impl Netfilter {
    pub(crate) fn open() -> Result<Self, PortError> {
        let netlink = Netlink::open(NETLINK_NETFILTER)
            .map_err(|err| PortError::new("open a netlink socket for nftables", err))?;
        Ok(Self { netlink })
    }

    /// Makes all changes of a batch, or none.
    pub(crate) fn apply(&self, batch: Batch) -> io::Result<()> {
        self.netlink.request(batch.finish())
    }

    /// Names of the chains of a table of family `inet`; none if there is no such
    /// table.
    pub(crate) fn chains(&self, table: &str) -> io::Result<Vec<String>> {
        let mut request = Messages::default();
        request.push(GET_CHAIN, REQUEST | DUMP, |body| {
            body.fixed(&header(libc::NFPROTO_INET as u8, 0));
        });
        self.netlink.list(request, |chain| {
            let chain = chain.get(4..)?;
            let ours = text_of(chain, TABLE) == Some(table);
            text_of(chain, CHAIN_NAME).filter(|_| ours).map(str::to_owned)
        })
    }

    /// How many rules a table of family `inet` has; 0 if there is no such table.
    pub(crate) fn rules(&self, table: &str) -> io::Result<usize> {
        let mut request = Messages::default();
        request.push(GET_RULE, REQUEST | DUMP, |body| {
            body.fixed(&header(libc::NFPROTO_INET as u8, 0));
            body.text(TABLE, table);
        });
        let rules = self
            .netlink
            .list(request, |rule| (text_of(rule.get(4..)?, TABLE) == Some(table)).then_some(()));
        match rules {
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(0),
            rules => rules.map(|rules| rules.len()),
        }
    }

    /// The chains of all tables that the kernel enters.
    pub(crate) fn base_chains(&self) -> io::Result<Vec<BaseChain>> {
        let mut request = Messages::default();
        request.push(GET_CHAIN, REQUEST | DUMP, |body| body.fixed(&header(0, 0)));
        self.netlink.list(request, |message| {
            let (family, chain) = (*message.first()?, message.get(4..)?);
            let number =
                |list, kind| attribute(list, kind)?.try_into().map(u32::from_be_bytes).ok();
            let hook = number(attribute(chain, CHAIN_HOOK)?, 1)?;
            let drops = number(chain, CHAIN_POLICY) == Some(POLICY_DROP);
            let (table, name) = (text_of(chain, TABLE)?, text_of(chain, CHAIN_NAME)?);
            Some(BaseChain {
                name: format!("{} {table} {name}", family_name(family)),
                drops_forwarded: hook == HOOK_FORWARD && drops && is_ip(family),
            })
        })
    }

    /// Removes all flows that have this mark from the connection table.
    pub(crate) fn delete_flows(&self, mark: u32) -> io::Result<()> {
        let mut request = Messages::default();
        request.push(DELETE_FLOW, REQUEST | ACK, |body| {
            body.fixed(&header(0, 0));
            body.number(FLOW_MARK, mark);
            body.number(FLOW_MARK_MASK, u32::MAX);
        });
        self.netlink.request(request)
    }
}

fn is_ip(family: u8) -> bool {
    [libc::NFPROTO_INET, libc::NFPROTO_IPV4, libc::NFPROTO_IPV6].contains(&i32::from(family))
}

fn family_name(family: u8) -> &'static str {
    match i32::from(family) {
        libc::NFPROTO_INET => "inet",
        libc::NFPROTO_IPV4 => "ip",
        libc::NFPROTO_IPV6 => "ip6",
        libc::NFPROTO_ARP => "arp",
        libc::NFPROTO_BRIDGE => "bridge",
        _ => "netdev",
    }
}
