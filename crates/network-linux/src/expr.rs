//! What rules are made of: the kernel's expressions, as `nft --debug=netlink`
//! shows them. A rule goes on to its next expression as long as all hold.

use crate::netfilter::{VALUE, VERDICT, VERDICT_CODE, padded};
use crate::netlink::Body;

const NAME: u16 = 1;
const DATA: u16 = 2;
/// What a verdict is loaded into, and what all else is.
const VERDICT_REGISTER: u32 = 0;
const REGISTER: u32 = 1;
/// `NFT_CT_MARK`.
const FLOW_MARK: u32 = 3;
/// `NFT_LIMIT_F_INV`, `NFT_CONNLIMIT_F_INV`: it holds above the limit.
const OVER: u32 = 1;

/// One expression.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Expr {
    /// Reads something that the packet itself does not say.
    Meta(Meta),
    /// Reads bytes of the packet.
    Packet { from: Header, offset: u32, length: u32 },
    /// What was read compares so with the first bytes of this.
    Is { how: Compare, what: [u8; 16], length: usize },
    /// Reads the mark of the packet's flow.
    FlowMark,
    /// Instead of reading something, has this.
    Load(u32),
    /// Sets the mark of the packet's flow to what was read.
    SetFlowMark,
    /// Holds for what comes faster than this.
    Faster { per_second: u64, burst: u32 },
    /// Holds if there are more flows than this that came to this rule.
    MoreFlows(u32),
    /// Counts packets and bytes.
    Counter,
    /// The end.
    Verdict(Verdict),
}

/// `enum nft_meta_keys`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Meta {
    InInterface = 6,
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
    AtMost = 3,
    AtLeast = 5,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Verdict {
    Drop = 0,
    Accept = 1,
}

impl Expr {
    /// What was read is `what`.
    pub(crate) fn is(what: &[u8]) -> Self {
        Self::compared(Compare::Equal, what)
    }

    /// What was read compares so with `what`, of at most 16 bytes.
    pub(crate) fn compared(how: Compare, what: &[u8]) -> Self {
        let mut bytes = [0; 16];
        bytes[..what.len()].copy_from_slice(what);
        Self::Is { how, what: bytes, length: what.len() }
    }

    /// It came in by this interface.
    pub(crate) fn comes_from(interface: &str) -> [Self; 2] {
        [Self::Meta(Meta::InInterface), Self::is(&padded(interface))]
    }

    /// Writes the expression into an item of a rule's list.
    pub(crate) fn encode(&self, item: &mut Body<'_>) {
        item.text(NAME, self.name());
        item.nest(DATA, |data| self.data(data));
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Meta(_) => "meta",
            Self::Packet { .. } => "payload",
            Self::Is { .. } => "cmp",
            Self::FlowMark | Self::SetFlowMark => "ct",
            Self::Faster { .. } => "limit",
            Self::MoreFlows(_) => "connlimit",
            Self::Counter => "counter",
            Self::Load(_) | Self::Verdict(_) => "immediate",
        }
    }

    fn data(&self, data: &mut Body<'_>) {
        match *self {
            Self::Meta(key) => {
                data.number(1, REGISTER);
                data.number(2, key as u32);
            }
            Self::Packet { from, offset, length } => {
                data.number(1, REGISTER);
                data.number(2, from as u32);
                data.number(3, offset);
                data.number(4, length);
            }
            Self::Is { how, what, length } => {
                data.number(1, REGISTER);
                data.number(2, how as u32);
                data.nest(3, |value| value.value(VALUE, &what[..length]));
            }
            Self::FlowMark => {
                data.number(1, REGISTER);
                data.number(2, FLOW_MARK);
            }
            Self::Load(value) => {
                data.number(1, REGISTER);
                data.nest(2, |data| data.value(VALUE, &value.to_ne_bytes()));
            }
            Self::SetFlowMark => {
                data.number(2, FLOW_MARK);
                data.number(4, REGISTER);
            }
            Self::Faster { per_second, burst } => {
                data.value(1, &per_second.to_be_bytes());
                data.value(2, &1_u64.to_be_bytes());
                data.number(3, burst);
                data.number(4, 0);
                data.number(5, OVER);
            }
            Self::MoreFlows(count) => {
                data.number(1, count);
                data.number(2, OVER);
            }
            Self::Counter => {
                data.value(1, &0_u64.to_be_bytes());
                data.value(2, &0_u64.to_be_bytes());
            }
            Self::Verdict(verdict) => {
                data.number(1, VERDICT_REGISTER);
                data.nest(2, |value| {
                    value.nest(VERDICT, |code| code.number(VERDICT_CODE, verdict as u32));
                });
            }
        }
    }
}
