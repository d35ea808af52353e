"""Whether a function's resource policy lets everybody call its URL. [P]

AuthType NONE only says that no signature is asked for; the policy still decides. Since October 2025 both actions must be allowed:
``lambda:InvokeFunctionUrl`` for calls with FunctionUrlAuthType NONE, and ``lambda:InvokeFunction`` for calls that came through a
function URL. An anonymous caller has no other attributes, so a condition on anything else (source account, organisation) is not
met, and one that is not understood counts as not met in an Allow and as met in a Deny.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gateway.records import Policy, Statement

_CONTEXT: Final = {"lambda:functionurlauthtype": "NONE", "lambda:invokedviafunctionurl": "true"}
_SAME: Final = frozenset({"StringEquals", "StringLike", "StringEqualsIgnoreCase", "Bool"})
_FOLDED: Final = frozenset({"StringEqualsIgnoreCase", "Bool"})


def public(policy: Policy | None) -> bool:
    """Whether anybody may call the URL that this policy guards. Not for each request: ask once a policy and keep the answer."""
    if policy is None:
        return False
    return all(_allowed(policy, action) for action in ("lambda:InvokeFunctionUrl", "lambda:InvokeFunction"))


def _allowed(policy: Policy, action: str) -> bool:
    about = [one for one in policy.statements if _everybody(one.principal) and _covers(one.action, action)]
    if any(_met(one, doubtful=True) for one in about if one.effect != "Allow"):
        return False
    return any(_met(one, doubtful=False) for one in about if one.effect == "Allow")


def _everybody(principal: str | Mapping[str, str]) -> bool:
    return principal == "*" or (isinstance(principal, Mapping) and principal.get("AWS") == "*")


def _covers(pattern: str, action: str) -> bool:
    pattern, action = pattern.lower(), action.lower()
    return action.startswith(pattern[:-1]) if pattern.endswith("*") else pattern == action


def _met(statement: Statement, *, doubtful: bool) -> bool:
    """Whether the statement's condition is met; `doubtful` where that cannot be told."""
    for operator, wanted in (statement.condition or {}).items():
        for key, value in wanted.items():
            actual = _CONTEXT.get(key.lower())
            if operator not in _SAME or actual is None:
                if not doubtful:
                    return False
            elif actual != value and not (operator in _FOLDED and actual.lower() == value.lower()):
                return False
    return True
