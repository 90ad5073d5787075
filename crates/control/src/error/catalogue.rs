//! The error catalogue: what clients see of each kind of failure, whatever the front.

use super::Kind;
use wire::machines::ErrorBody;

/// One kind of failure as clients see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Code, which never changes.
    pub code: &'static str,
    /// Status of an HTTP answer.
    pub http: u16,
    /// `status` of an answer of the Machines API, where clients look for a certain one.
    pub status: &'static str,
    /// What it means.
    pub meaning: &'static str,
    /// What to do next, if the error has no hint of its own.
    pub remedy: &'static str,
}

const fn entry(
    code: &'static str,
    http: u16,
    meaning: &'static str,
    remedy: &'static str,
) -> Entry {
    Entry { code, http, status: "unknown", meaning, remedy }
}

impl Kind {
    /// Every kind, by status.
    pub const ALL: [Self; 20] = [
        Self::Invalid,
        Self::Unauthorized,
        Self::Forbidden,
        Self::NotFound,
        Self::Timeout,
        Self::Conflict,
        Self::VersionMismatch,
        Self::TooLarge,
        Self::UnsupportedMedia,
        Self::NameTaken,
        Self::NoCapacity,
        Self::Unsupported,
        Self::CommandNotFound,
        Self::CommandNotExecutable,
        Self::Busy,
        Self::Internal,
        Self::NotImplemented,
        Self::BadGateway,
        Self::Unavailable,
        Self::InDoubt,
    ];

    /// What clients see of it.
    pub const fn entry(self) -> Entry {
        match self {
            Self::Invalid => entry(
                "invalid",
                400,
                "The request breaks a rule, which the message names with the field.",
                "correct the field; repeating the request is no use",
            ),
            Self::Unauthorized => entry(
                "unauthorized",
                401,
                "There is no valid token: none was sent, or it has expired or been revoked.",
                "send `Authorization: Bearer <token>`; `updraft tokens create` makes one",
            ),
            Self::Forbidden => entry(
                "forbidden",
                403,
                "The token is valid and lacks a permission, which the message names.",
                "use a token with the permission; `updraft tokens debug` shows what one permits",
            ),
            Self::NotFound => entry(
                "not_found",
                404,
                "There is nothing of that name, or the token may not read it.",
                "check the name; lists show what the token may read",
            ),
            Self::Timeout => entry(
                "timeout",
                408,
                "It took longer than the request allows, or its body did not arrive in time. Nothing \
                 was changed.",
                "repeat the request, with a longer timeout if it has one",
            ),
            Self::Conflict => entry(
                "conflict",
                409,
                "The present state does not allow it, or another caller holds the machine's lease.",
                "read the present state, then try again",
            ),
            Self::VersionMismatch => entry(
                "version_mismatch",
                412,
                "The version given is not the current one: another client was faster.",
                "read the machine, make the change again, and send its version",
            ),
            Self::TooLarge => entry(
                "too_large",
                413,
                "The body is larger than allowed.",
                "send less; the message has the limit",
            ),
            Self::UnsupportedMedia => entry(
                "unsupported_media_type",
                415,
                "The content type is not one that the call takes.",
                "send the content type that the message names",
            ),
            Self::NameTaken => Entry {
                status: "name_taken",
                ..entry(
                    "name_taken",
                    422,
                    "The name belongs to something else.",
                    "choose another name",
                )
            },
            Self::NoCapacity => Entry {
                status: "insufficient_capacity",
                ..entry(
                    "insufficient_capacity",
                    422,
                    "No host can take the machine; the message has the reason of each.",
                    "stop or destroy machines, ask for less memory, or name another region",
                )
            },
            Self::Unsupported => entry(
                "unsupported",
                422,
                "The request is valid and names something that this version cannot do.",
                "leave the part out that the message names",
            ),
            Self::CommandNotFound => Entry {
                status: ErrorBody::COMMAND_NOT_FOUND,
                ..entry(
                    "command_not_found",
                    422,
                    "The guest has no such command.",
                    "give the path of a program that is in the machine's image",
                )
            },
            Self::CommandNotExecutable => Entry {
                status: ErrorBody::COMMAND_NOT_EXECUTABLE,
                ..entry(
                    "command_not_executable",
                    422,
                    "The command exists in the guest and cannot be executed.",
                    "check its mode and its format",
                )
            },
            Self::Busy => entry(
                "busy",
                429,
                "Too many calls of this kind are in progress, or within a time.",
                "wait for the seconds of the header `retry-after`, or a moment, then try again",
            ),
            Self::Internal => entry(
                "internal",
                500,
                "A defect, or a broken host or store.",
                "look at the daemon's log, by the answer's `fly-request-id`, and report it",
            ),
            Self::NotImplemented => entry(
                "not_implemented",
                501,
                "This part of the platform is not built.",
                "docs/api/README.md lists the calls that this version answers",
            ),
            Self::BadGateway => entry(
                "bad_gateway",
                502,
                "Something outside of the platform failed, such as a registry.",
                "see that it can be reached from the host",
            ),
            Self::Unavailable => entry(
                "unavailable",
                503,
                "A host cannot be reached, or the platform is stopping. Nothing was changed.",
                "try again later; `updraft host status` shows the hosts",
            ),
            Self::InDoubt => entry(
                "in_doubt",
                504,
                "It was sent to a host that did not answer in time: it may have been done.",
                "look at the present state before you repeat it, or repeat it with the same \
                 `Idempotency-Key`",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_kind_has_a_code_of_its_own_and_they_are_in_the_order_of_their_status() {
        let entries = Kind::ALL.map(Kind::entry);
        let codes: BTreeSet<_> = entries.iter().map(|entry| entry.code).collect();
        assert_eq!(codes.len(), Kind::ALL.len());
        assert!(entries.is_sorted_by_key(|entry| entry.http));
    }
}
