//! Changes of nftables and of the connection table over netlink: what `nft`
//! does for a script, without the process.
//!
//! Numbers are those of `linux/netfilter/nf_tables.h` and
//! `nfnetlink_conntrack.h`; only what the rules of a machine need is here.

use crate::expr::Expr;
use crate::netlink::{ACK, APPEND, Body, CREATE, DUMP, Messages, Netlink, REQUEST, text_of};
use netlink_sys::protocols::NETLINK_NETFILTER;
use std::io;
use worker::ports::PortError;

const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const CONNTRACK: u16 = 1 << 8;
const NFTABLES: u16 = 10 << 8;

const NEW_CHAIN: u16 = NFTABLES | 3;
const GET_CHAIN: u16 = NFTABLES | 4;
const DELETE_CHAIN: u16 = NFTABLES | 5;
const NEW_RULE: u16 = NFTABLES | 6;
const DELETE_RULE: u16 = NFTABLES | 8;
const NEW_ELEMENT: u16 = NFTABLES | 12;
const DELETE_ELEMENT: u16 = NFTABLES | 14;
const DELETE_FLOW: u16 = CONNTRACK | 2;

// Of chains and rules alike, and of lists of elements.
const TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
const ELEMENTS_SET: u16 = 2;
const ELEMENTS: u16 = 3;
/// An element of any list.
pub(crate) const ITEM: u16 = 1;
const ELEMENT_KEY: u16 = 1;
const ELEMENT_DATA: u16 = 2;
/// Data that is bytes, and data that is a verdict.
pub(crate) const VALUE: u16 = 1;
pub(crate) const VERDICT: u16 = 2;
pub(crate) const VERDICT_CODE: u16 = 1;
const VERDICT_CHAIN: u16 = 2;
const JUMP: u32 = -3_i32 as u32;

const FLOW_MARK: u16 = 8;
const FLOW_MARK_MASK: u16 = 21;

/// Names of interfaces fill this, with zeros behind.
pub(crate) const NAME: usize = 16;

/// Changes of one table of family `inet`: all are made, or none.
#[derive(Debug)]
pub(crate) struct Batch {
    table: String,
    messages: Messages,
}

impl Batch {
    /// No changes of `table` yet.
    pub(crate) fn new(table: String) -> Self {
        let mut messages = Messages::default();
        messages.push(BATCH_BEGIN, REQUEST, |body| body.fixed(&header(0, NFTABLES)));
        Self { table, messages }
    }

    /// Makes a chain if it is not there.
    pub(crate) fn chain(&mut self, name: &str) {
        self.change(NEW_CHAIN, CREATE, |body| body.text(CHAIN_NAME, name));
    }

    /// Removes the rules of a chain.
    pub(crate) fn flush(&mut self, chain: &str) {
        self.change(DELETE_RULE, 0, |body| body.text(RULE_CHAIN, chain));
    }

    /// Removes a chain that has no rules and is nowhere named.
    pub(crate) fn delete_chain(&mut self, name: &str) {
        self.change(DELETE_CHAIN, 0, |body| body.text(CHAIN_NAME, name));
    }

    /// Adds a rule behind those of its chain.
    pub(crate) fn rule(&mut self, chain: &str, rule: &[Expr]) {
        self.change(NEW_RULE, CREATE | APPEND, |body| {
            body.text(RULE_CHAIN, chain);
            body.nest(RULE_EXPRESSIONS, |list| {
                rule.iter().for_each(|expr| list.nest(ITEM, |item| expr.encode(item)));
            });
        });
    }

    /// Adds to a map from interfaces to verdicts: what concerns this one jumps
    /// to `chain`.
    pub(crate) fn jump(&mut self, map: &str, interface: &str, chain: &str) {
        self.element(NEW_ELEMENT, CREATE, map, interface, |element| {
            element.nest(ELEMENT_DATA, |data| {
                data.nest(VERDICT, |verdict| {
                    verdict.number(VERDICT_CODE, JUMP);
                    verdict.text(VERDICT_CHAIN, chain);
                });
            });
        });
    }

    /// Adds to a set of interfaces.
    pub(crate) fn member(&mut self, set: &str, interface: &str) {
        self.element(NEW_ELEMENT, CREATE, set, interface, |_| {});
    }

    /// Removes an interface from a map or a set.
    pub(crate) fn delete_member(&mut self, set: &str, interface: &str) {
        self.element(DELETE_ELEMENT, 0, set, interface, |_| {});
    }

    fn element(
        &mut self,
        kind: u16,
        flags: u16,
        map: &str,
        interface: &str,
        data: impl FnOnce(&mut Body<'_>),
    ) {
        self.change(kind, flags, |body| {
            body.text(ELEMENTS_SET, map);
            body.nest(ELEMENTS, |list| {
                list.nest(ITEM, |element| {
                    element.nest(ELEMENT_KEY, |key| key.value(VALUE, &padded(interface)));
                    data(element);
                });
            });
        });
    }

    fn change(&mut self, kind: u16, flags: u16, body: impl FnOnce(&mut Body<'_>)) {
        let table = &self.table;
        self.messages.push(kind, REQUEST | ACK | flags, |all| {
            all.fixed(&header(libc::NFPROTO_INET as u8, 0));
            all.text(TABLE, table);
            body(all);
        });
    }
}

/// The packet filter of the network namespace of the thread that opened it.
#[derive(Debug)]
pub(crate) struct Netfilter {
    // Kept open: closing one may wait for what the kernel has yet to clear away.
    netlink: Netlink,
}

impl Netfilter {
    pub(crate) fn open() -> Result<Self, PortError> {
        let netlink = Netlink::open(NETLINK_NETFILTER)
            .map_err(|err| PortError::new("open a netlink socket for nftables", err))?;
        Ok(Self { netlink })
    }

    /// Makes all changes of a batch, or none.
    pub(crate) fn apply(&self, mut batch: Batch) -> io::Result<()> {
        batch.messages.push(BATCH_END, REQUEST, |body| body.fixed(&header(0, NFTABLES)));
        self.netlink.ask(batch.messages)
    }

    /// Names of the chains of a table of family `inet`; none if there is no such
    /// table.
    pub(crate) fn chains(&self, table: &str) -> io::Result<Vec<String>> {
        let mut question = Messages::default();
        question.push(GET_CHAIN, REQUEST | DUMP, |body| {
            body.fixed(&header(libc::NFPROTO_INET as u8, 0));
        });
        let mut names = Vec::new();
        self.netlink.list(question, |chain| {
            let Some(chain) = chain.get(4..) else { return };
            if text_of(chain, TABLE) == Some(table) {
                names.extend(text_of(chain, CHAIN_NAME).map(str::to_owned));
            }
        })?;
        Ok(names)
    }

    /// Removes all flows that have this mark from the connection table.
    pub(crate) fn forget_flows(&self, mark: u32) -> io::Result<()> {
        let mut question = Messages::default();
        question.push(DELETE_FLOW, REQUEST | ACK, |body| {
            body.fixed(&header(0, 0));
            body.number(FLOW_MARK, mark);
            body.number(FLOW_MARK_MASK, u32::MAX);
        });
        self.netlink.ask(question)
    }
}

/// Family, version, and which part of netfilter a batch is for.
fn header(family: u8, part: u16) -> [u8; 4] {
    let [high, low] = (part >> 8).to_be_bytes();
    [family, 0, high, low]
}

/// The name of an interface as rules compare it.
pub(crate) fn padded(interface: &str) -> [u8; NAME] {
    let mut name = [0; NAME];
    name.iter_mut().zip(interface.bytes()).for_each(|(to, from)| *to = from);
    name
}
