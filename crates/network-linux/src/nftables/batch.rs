//! Changes of one table of family `inet`: all are made, or none.
//!
//! Numbers are those of `linux/netfilter/nf_tables.h` and `nfnetlink.h`.

use super::expr::{Expr, JUMP, VALUE, VERDICT, encode_verdict, interface_name};
use crate::netlink::{ACK, APPEND, Body, CREATE, Messages, REQUEST};

const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
/// Subsystem of nftables in the upper byte of a message type.
pub(super) const NFTABLES: u16 = 10 << 8;

const NEW_TABLE: u16 = NFTABLES;
const DELETE_TABLE: u16 = NFTABLES | 2;
const NEW_CHAIN: u16 = NFTABLES | 3;
const DELETE_CHAIN: u16 = NFTABLES | 5;
const NEW_RULE: u16 = NFTABLES | 6;
const DELETE_RULE: u16 = NFTABLES | 8;
const NEW_SET: u16 = NFTABLES | 9;
const NEW_ELEMENT: u16 = NFTABLES | 12;
const DELETE_ELEMENT: u16 = NFTABLES | 14;

/// Name of the table: the first attribute of all objects.
pub(super) const TABLE: u16 = 1;
pub(super) const CHAIN_NAME: u16 = 3;
pub(super) const CHAIN_HOOK: u16 = 4;
pub(super) const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
const SET_NAME: u16 = 2;
const SET_FLAGS: u16 = 3;
const SET_KEY_TYPE: u16 = 4;
const SET_KEY_LENGTH: u16 = 5;
const SET_DATA_TYPE: u16 = 6;
const SET_DESCRIPTION: u16 = 9;
const SET_ID: u16 = 10;
const ELEMENTS_SET: u16 = 2;
const ELEMENTS: u16 = 3;
const LIST_ELEMENT: u16 = 1;
const ELEMENT_KEY: u16 = 1;
const ELEMENT_DATA: u16 = 2;

/// `NFT_SET_MAP`; `NFT_SET_EVAL`: rules may add elements.
const MAP: u32 = 8;
const DYNAMIC: u32 = 0x20;
/// Numbers and interface names in the type numbers of the `nft` program, which
/// prints them.
const TYPE_INTEGER: u32 = 4;
const INTEGER_LENGTH: u32 = 4;
const TYPE_INTERFACE: u32 = 41;
const INTERFACE_LENGTH: u32 = 16;
/// Type and length of a set's keys.
const INTERFACE: (u32, u32) = (TYPE_INTERFACE, INTERFACE_LENGTH);
/// `NFT_DATA_VERDICT`.
const TYPE_VERDICT: u32 = 0xffff_ff00;

/// Where and when the kernel enters a chain.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hook {
    /// `filter` or `nat`.
    pub(crate) kind: &'static str,
    /// One of the `HOOK_` constants.
    pub(crate) number: u32,
    /// Chains with smaller priorities come first.
    pub(crate) priority: i32,
    /// Whether a packet that no rule decides on is dropped.
    pub(crate) drop: bool,
}

/// `NF_INET_PRE_ROUTING`.
pub(crate) const HOOK_PREROUTING: u32 = 0;
/// `NF_INET_LOCAL_IN`.
pub(crate) const HOOK_INPUT: u32 = 1;
/// `NF_INET_FORWARD`.
pub(crate) const HOOK_FORWARD: u32 = 2;
/// `NF_INET_LOCAL_OUT`.
pub(crate) const HOOK_OUTPUT: u32 = 3;
/// `NF_INET_POST_ROUTING`.
pub(crate) const HOOK_POSTROUTING: u32 = 4;

/// Changes of one table.
#[derive(Debug)]
pub(crate) struct Batch {
    table: String,
    messages: Messages,
    rules: usize,
    sets: u32,
}

impl Batch {
    /// No changes of `table` yet.
    pub(crate) fn new(table: String) -> Self {
        let mut messages = Messages::default();
        messages.push(BATCH_BEGIN, REQUEST, |body| body.fixed(&header(0, NFTABLES)));
        Self { table, messages, rules: 0, sets: 0 }
    }

    /// Deletes `table`, whether it exists or not.
    pub(crate) fn removal(table: String) -> Self {
        let mut batch = Self::new(table);
        batch.create_table();
        batch.delete_table();
        batch
    }

    /// How many rules the batch adds.
    pub(crate) fn rules(&self) -> usize {
        self.rules
    }

    /// Creates the table if it does not exist.
    pub(crate) fn create_table(&mut self) {
        self.change(NEW_TABLE, CREATE, |_| {});
    }

    /// Deletes the table, which must exist, with everything in it.
    pub(crate) fn delete_table(&mut self) {
        self.change(DELETE_TABLE, 0, |_| {});
    }

    /// Creates a set of interfaces if it does not exist.
    pub(crate) fn create_set(&mut self, name: &str) {
        self.set(name, INTERFACE, |_| {});
    }

    /// Creates a map from interfaces to verdicts if it does not exist.
    pub(crate) fn create_map(&mut self, name: &str) {
        self.set(name, INTERFACE, |body| {
            body.number(SET_FLAGS, MAP);
            body.number(SET_DATA_TYPE, TYPE_VERDICT);
        });
    }

    /// Creates a set of numbers that rules add to, if it does not exist. It has at
    /// most `size` elements.
    pub(crate) fn create_dynamic_set(&mut self, name: &str, size: u32) {
        self.set(name, (TYPE_INTEGER, INTEGER_LENGTH), |body| {
            body.number(SET_FLAGS, DYNAMIC);
            body.nest(SET_DESCRIPTION, |description| description.number(1, size));
        });
    }

    /// Deletes the elements of a set that exists.
    pub(crate) fn flush_set(&mut self, name: &str) {
        self.change(DELETE_ELEMENT, 0, |body| body.text(ELEMENTS_SET, name));
    }

    fn set(&mut self, name: &str, key: (u32, u32), data: impl FnOnce(&mut Body<'_>)) {
        self.sets += 1;
        let id = self.sets;
        self.change(NEW_SET, CREATE, |body| {
            body.text(SET_NAME, name);
            body.number(SET_KEY_TYPE, key.0);
            body.number(SET_KEY_LENGTH, key.1);
            body.number(SET_ID, id);
            data(body);
        });
    }

    /// Creates a chain that the kernel enters at `hook`, if it does not exist.
    pub(crate) fn create_base_chain(&mut self, name: &str, hook: Hook) {
        self.change(NEW_CHAIN, CREATE, |body| {
            body.text(CHAIN_NAME, name);
            body.nest(CHAIN_HOOK, |list| {
                list.number(1, hook.number);
                list.number(2, hook.priority.cast_unsigned());
            });
            body.number(CHAIN_POLICY, u32::from(!hook.drop));
            body.text(CHAIN_TYPE, hook.kind);
        });
    }

    /// Creates a chain if it does not exist.
    pub(crate) fn create_chain(&mut self, name: &str) {
        self.change(NEW_CHAIN, CREATE, |body| body.text(CHAIN_NAME, name));
    }

    /// Deletes the rules of a chain.
    pub(crate) fn flush(&mut self, chain: &str) {
        self.change(DELETE_RULE, 0, |body| body.text(RULE_CHAIN, chain));
    }

    /// Deletes a chain that has no rules and that nothing refers to.
    pub(crate) fn delete_chain(&mut self, name: &str) {
        self.change(DELETE_CHAIN, 0, |body| body.text(CHAIN_NAME, name));
    }

    /// Adds a rule at the end of its chain.
    pub(crate) fn rule(&mut self, chain: &str, rule: &[Expr]) {
        self.rules += 1;
        self.change(NEW_RULE, CREATE | APPEND, |body| {
            body.text(RULE_CHAIN, chain);
            body.nest(RULE_EXPRESSIONS, |list| {
                rule.iter().for_each(|expr| list.nest(LIST_ELEMENT, |item| expr.encode(item)));
            });
        });
    }

    /// Adds to a map: packets of this interface jump to `chain`.
    pub(crate) fn add_jump(&mut self, map: &str, interface: &str, chain: &str) {
        self.element(NEW_ELEMENT, CREATE, map, interface, |element| {
            element.nest(ELEMENT_DATA, |data| {
                data.nest(VERDICT, |verdict| encode_verdict(verdict, JUMP, Some(chain)));
            });
        });
    }

    /// Adds an interface to a set.
    pub(crate) fn add_element(&mut self, set: &str, interface: &str) {
        self.element(NEW_ELEMENT, CREATE, set, interface, |_| {});
    }

    /// Removes an interface from a map or a set.
    pub(crate) fn delete_element(&mut self, set: &str, interface: &str) {
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
                list.nest(LIST_ELEMENT, |element| {
                    element.nest(ELEMENT_KEY, |key| key.value(VALUE, &interface_name(interface)));
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

    /// The messages of the batch, with its end.
    pub(super) fn finish(mut self) -> Messages {
        self.messages.push(BATCH_END, REQUEST, |body| body.fixed(&header(0, NFTABLES)));
        self.messages
    }
}

/// `struct nfgenmsg`: family, version, and the subsystem of a batch.
pub(super) fn header(family: u8, subsystem: u16) -> [u8; 4] {
    let [high, low] = (subsystem >> 8).to_be_bytes();
    [family, 0, high, low]
}
