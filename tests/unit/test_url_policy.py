"""Who may call a function URL: the developer guide's rules since October 2025."""

from __future__ import annotations

import dataclasses

import pytest

from gateway.edge.url_policy import public
from gateway.records import Policy, Statement
from tests.wire.edge import BY_URL, VIA_URL


def policy(*statements: Statement) -> Policy:
    return Policy(statements=statements, revision_id="1")


def test_both_actions_are_needed() -> None:
    assert public(policy(BY_URL, VIA_URL))
    assert not public(policy(BY_URL))
    assert not public(policy(VIA_URL))
    assert not public(policy())
    assert not public(None)


@pytest.mark.parametrize(
    "other",
    [
        dataclasses.replace(BY_URL, condition={"StringEquals": {"lambda:FunctionUrlAuthType": "AWS_IAM"}}),
        dataclasses.replace(BY_URL, principal={"AWS": "arn:aws:iam::111122223333:root"}),
        dataclasses.replace(BY_URL, principal={"Service": "*"}),
        dataclasses.replace(BY_URL, action="lambda:GetFunction"),
        dataclasses.replace(BY_URL, condition={"StringEquals": {"AWS:SourceAccount": "111122223333"}}),
        dataclasses.replace(BY_URL, condition={"ArnLike": {"lambda:FunctionUrlAuthType": "NONE"}}),
        dataclasses.replace(
            BY_URL, condition={"StringEquals": {"lambda:FunctionUrlAuthType": "NONE", "aws:PrincipalOrgID": "o-1"}}
        ),
    ],
)
def test_what_does_not_allow_everybody(other: Statement) -> None:
    assert not public(policy(other, VIA_URL))


@pytest.mark.parametrize(
    "other",
    [
        dataclasses.replace(BY_URL, principal={"AWS": "*"}),
        dataclasses.replace(BY_URL, condition=None),
        dataclasses.replace(BY_URL, action="lambda:*", condition=None),
        dataclasses.replace(BY_URL, condition={"StringEquals": {"Lambda:functionurlauthtype": "NONE"}}),
    ],
)
def test_what_allows_everybody(other: Statement) -> None:
    assert public(policy(other, VIA_URL))


def test_a_deny_wins_and_one_that_is_not_understood_counts() -> None:
    deny = dataclasses.replace(BY_URL, sid="no", effect="Deny")
    assert not public(policy(BY_URL, VIA_URL, deny))
    doubtful = dataclasses.replace(deny, condition={"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}})
    assert not public(policy(BY_URL, VIA_URL, doubtful))
    about_others = dataclasses.replace(deny, condition={"StringEquals": {"lambda:FunctionUrlAuthType": "AWS_IAM"}})
    assert public(policy(BY_URL, VIA_URL, about_others))
