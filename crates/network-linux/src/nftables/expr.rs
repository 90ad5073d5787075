//! The expressions of which nftables rules consist, as `nft --debug=netlink`
//! prints them. A rule is evaluated up to the first expression that does not
//! match. Numbers are those of `linux/netfilter/nf_tables.h`.

use crate::netlink::Body;

/// Data that is bytes (`NFTA_DATA_VALUE`).
pub(super) const VALUE: u16 = 1;
/// Data that is a verdict (`NFTA_DATA_VERDICT`).
pub(super) const VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const VERDICT_CHAIN: u16 = 2;

const NAME: u16 = 1;
const DATA: u16 = 2;
/// Register of verdicts, and the register that all other values go through.
const VERDICT_REGISTER: u32 = 0;
const REGISTER: u32 = 1;
/// `NFT_CT_STATE`, `NFT_CT_MARK`.
const CT_STATE: u32 = 0;
const CT_MARK: u32 = 3;
/// `NFT_LIMIT_F_INV`, `NFT_CONNLIMIT_F_INV`: matches above the limit.
const OVER: u32 = 1;
/// `NFT_HASH_SYM`, `NFT_DYNSET_OP_ADD`.
const SYMMETRIC: u32 = 1;
const DYNSET_ADD: u32 = 0;
/// `NFT_FIB_RESULT_ADDRTYPE`, and the flags for destination and input interface.
const FIB_ADDRESS_TYPE: u32 = 3;
const FIB_DADDR_IIF: u32 = 2 | 8;
/// `NFT_RT_TCPMSS`.
const RT_TCP_MSS: u32 = 3;
/// `NFT_BYTEORDER_HTON`, of 16 bits.
const HTON: u32 = 1;
/// `NFT_EXTHDR_OP_TCPOPT`; the option for the maximum segment size.
const TCP_OPTION: u32 = 1;
const TCP_MAXSEG: u8 = 2;
/// `NFT_REJECT_TCP_RST`.
const TCP_RESET: u32 = 1;
/// Longest name of an interface, with zeros at the end.
const INTERFACE_NAME: usize = 16;

/// One expression.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Expr {
    /// Loads a property of the packet that is not part of it.
    Meta(Meta),
    /// Loads bytes of the packet.
    Payload { base: Header, offset: u32, length: u32 },
    /// Loads the state of the packet's flow, as bits.
    CtState,
    /// Loads the mark of the packet's flow.
    CtMark,
    /// Loads the type of the destination address on the input interface.
    FibAddressType,
    /// Loads the largest segment size of the route.
    RouteMss,
    /// Loads a number.
    Immediate(u32),
    /// Clears all bits of the loaded value that are not in the mask.
    Bitwise(Bytes),
    /// Converts the loaded 16-bit number to network byte order.
    HostToNetwork,
    /// Compares the loaded value.
    Cmp(Compare, Bytes),
    /// Matches if the loaded value is in a set.
    Lookup(Set),
    /// Ends with the verdict that a map has for the loaded value, if any.
    VerdictMap(Set),
    /// Sets the mark of the packet's flow to the loaded value.
    SetCtMark,
    /// Sets the TCP option for the maximum segment size to the loaded value.
    SetTcpMaxseg,
    /// Matches packets above a rate.
    Limit { per_second: u64, burst: u32 },
    /// Matches if more than this many flows have reached the rule.
    ConnLimit(u32),
    /// Loads a hash of the packet's addresses and ports, below a number; the kernel
    /// keeps its key secret.
    FlowHash(u32),
    /// Adds the loaded value to a set whose elements count flows, each for itself.
    /// Matches if more than this many flows have reached that element.
    ConnLimitIn(Set, u32),
    /// Takes the packet out of connection tracking.
    NoTrack,
    /// Counts packets and bytes.
    Counter,
    /// Replaces the source address by one of the output interface.
    Masquerade,
    /// Drops the packet and answers with a TCP reset.
    RejectTcp,
    /// Ends the rule with a verdict.
    Verdict(Verdict),
}

/// A named set or map of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Set(pub(crate) &'static str);

/// Up to 16 bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bytes {
    bytes: [u8; 16],
    length: usize,
}

/// `enum nft_meta_keys`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Meta {
    InInterface = 6,
    OutInterface = 7,
    Family = 15,
    Protocol = 16,
}

/// `enum nft_payload_bases`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Header {
    Network = 1,
    Transport = 2,
}

/// `enum nft_cmp_ops`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Compare {
    Equal = 0,
    NotEqual = 1,
    AtMost = 3,
    AtLeast = 5,
}

/// The verdict on a packet.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Verdict {
    Drop,
    Accept,
    /// Continue in a chain, and return here after its last rule.
    Jump(&'static str),
    /// Continue in a chain; its end is the end of this chain.
    Goto(&'static str),
}

impl Bytes {
    /// The first 16 bytes of `value`, which has no more.
    pub(crate) const fn new(value: &[u8]) -> Self {
        let (mut bytes, mut length) = ([0; 16], 0);
        while length < value.len() && length < 16 {
            bytes[length] = value[length];
            length += 1;
        }
        Self { bytes, length }
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Verdict {
    fn encode(self, verdict: &mut Body<'_>) {
        let (code, chain) = match self {
            Self::Drop => (0, None),
            Self::Accept => (1, None),
            Self::Jump(chain) => (JUMP, Some(chain)),
            Self::Goto(chain) => (-4_i32 as u32, Some(chain)),
        };
        encode_verdict(verdict, code, chain);
    }
}

/// Verdict code of a jump (`NFT_JUMP`).
pub(super) const JUMP: u32 = -3_i32 as u32;

/// Writes a verdict with the chain of a jump.
pub(super) fn encode_verdict(verdict: &mut Body<'_>, code: u32, chain: Option<&str>) {
    verdict.number(VERDICT_CODE, code);
    if let Some(chain) = chain {
        verdict.text(VERDICT_CHAIN, chain);
    }
}

/// The name of an interface as rules compare it.
pub(crate) fn interface_name(interface: &str) -> [u8; INTERFACE_NAME] {
    let mut name = [0; INTERFACE_NAME];
    name.iter_mut().zip(interface.bytes()).for_each(|(to, from)| *to = from);
    name
}

impl Expr {
    /// The loaded value equals `value`, of at most 16 bytes.
    pub(crate) const fn equal(value: &[u8]) -> Self {
        Self::Cmp(Compare::Equal, Bytes::new(value))
    }

    /// Writes the expression into an entry of a rule's list.
    pub(super) fn encode(&self, item: &mut Body<'_>) {
        item.text(NAME, self.name());
        item.nest(DATA, |data| self.data(data));
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Meta(_) => "meta",
            Self::Payload { .. } => "payload",
            Self::CtState | Self::CtMark | Self::SetCtMark => "ct",
            Self::FibAddressType => "fib",
            Self::RouteMss => "rt",
            Self::Immediate(_) | Self::Verdict(_) => "immediate",
            Self::Bitwise(_) => "bitwise",
            Self::HostToNetwork => "byteorder",
            Self::Cmp(..) => "cmp",
            Self::Lookup(_) | Self::VerdictMap(_) => "lookup",
            Self::SetTcpMaxseg => "exthdr",
            Self::Limit { .. } => "limit",
            Self::ConnLimit(_) => "connlimit",
            Self::FlowHash(_) => "hash",
            Self::ConnLimitIn(..) => "dynset",
            Self::NoTrack => "notrack",
            Self::Counter => "counter",
            Self::Masquerade => "masq",
            Self::RejectTcp => "reject",
        }
    }

    fn data(&self, data: &mut Body<'_>) {
        match *self {
            Self::Meta(key) => numbers(data, &[(1, REGISTER), (2, key as u32)]),
            Self::Payload { base, offset, length } => {
                numbers(data, &[(1, REGISTER), (2, base as u32), (3, offset), (4, length)]);
            }
            Self::CtState => numbers(data, &[(1, REGISTER), (2, CT_STATE)]),
            Self::CtMark => numbers(data, &[(1, REGISTER), (2, CT_MARK)]),
            Self::SetCtMark => numbers(data, &[(2, CT_MARK), (4, REGISTER)]),
            Self::FibAddressType => {
                numbers(data, &[(1, REGISTER), (2, FIB_ADDRESS_TYPE), (3, FIB_DADDR_IIF)]);
            }
            Self::RouteMss => numbers(data, &[(1, REGISTER), (2, RT_TCP_MSS)]),
            Self::Immediate(value) => {
                data.number(1, REGISTER);
                data.nest(2, |data| data.value(VALUE, &value.to_ne_bytes()));
            }
            Self::Bitwise(mask) => {
                numbers(data, &[(1, REGISTER), (2, REGISTER), (3, mask.length as u32)]);
                data.nest(4, |value| value.value(VALUE, mask.as_slice()));
                data.nest(5, |value| value.value(VALUE, &[0; 16][..mask.length]));
            }
            Self::HostToNetwork => {
                numbers(data, &[(1, REGISTER), (2, REGISTER), (3, HTON), (4, 2), (5, 2)]);
            }
            Self::Cmp(compare, value) => {
                numbers(data, &[(1, REGISTER), (2, compare as u32)]);
                data.nest(3, |data| data.value(VALUE, value.as_slice()));
            }
            Self::Lookup(Set(set)) => {
                data.text(1, set);
                data.number(2, REGISTER);
            }
            Self::VerdictMap(Set(map)) => {
                data.text(1, map);
                numbers(data, &[(2, REGISTER), (3, VERDICT_REGISTER)]);
            }
            Self::SetTcpMaxseg => {
                data.value(2, &[TCP_MAXSEG]);
                // Offset and length of the number in the option.
                numbers(data, &[(3, 2), (4, 2), (6, TCP_OPTION), (7, REGISTER)]);
            }
            Self::Limit { per_second, burst } => {
                data.value(1, &per_second.to_be_bytes());
                data.value(2, &1_u64.to_be_bytes());
                numbers(data, &[(3, burst), (4, 0), (5, OVER)]);
            }
            Self::ConnLimit(count) => numbers(data, &[(1, count), (2, OVER)]),
            Self::Counter => {
                data.value(1, &0_u64.to_be_bytes());
                data.value(2, &0_u64.to_be_bytes());
            }
            Self::FlowHash(below) => numbers(data, &[(2, REGISTER), (4, below), (7, SYMMETRIC)]),
            Self::ConnLimitIn(Set(set), count) => {
                data.text(1, set);
                numbers(data, &[(3, DYNSET_ADD), (4, REGISTER)]);
                data.nest(7, |item| Self::ConnLimit(count).encode(item));
            }
            Self::Masquerade | Self::NoTrack => {}
            Self::RejectTcp => data.number(1, TCP_RESET),
            Self::Verdict(verdict) => {
                data.number(1, VERDICT_REGISTER);
                data.nest(2, |value| value.nest(VERDICT, |code| verdict.encode(code)));
            }
        }
    }
}

fn numbers(data: &mut Body<'_>, attributes: &[(u16, u32)]) {
    attributes.iter().for_each(|(kind, value)| data.number(*kind, *value));
}
