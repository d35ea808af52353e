"""Who else may use a layer version: a policy of it, one statement a permission. Texts are recorded from AWS."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Mapping
from typing import Any, Final

import orjson

from gateway.control import describe
from gateway.control.call import Call, Rule
from gateway.control.changes import ChangesOf
from gateway.control.layer_names import LayerNames
from gateway.control.policies import principal_of
from gateway.control.validate import POLICY_MAX_BYTES
from gateway.errors import (
    PolicyLengthExceededException,
    PreconditionFailedException,
    ResourceConflictException,
    ResourceNotFoundException,
)
from gateway.records import Layer, LayerVersion, Policy, Statement

_STALE: Final = (
    "The Revision Id provided does not match the latest Revision Id. "
    "Call the GetLayerPolicy API to retrieve the latest Revision Id"
)


class LayerPolicies:
    """Use cases of layer versions' policies."""

    def __init__(self, *, names: LayerNames, changes: ChangesOf[Layer]) -> None:
        self._names = names
        self._changes = changes

    def rules(self) -> Mapping[str, Rule]:
        return {
            "AddLayerVersionPermission": self.add,
            "RemoveLayerVersionPermission": self.remove,
            "GetLayerVersionPolicy": self.get,
        }

    async def add(self, call: Call) -> Mapping[str, Any]:
        params = call.params
        name, number, arn = self._ref(params, "lambda:AddLayerVersionPermission")

        def edit(layer: Layer | None) -> tuple[Layer, tuple[Statement, Policy]]:
            layer, version = _existing(layer, number, arn)
            organization = params.get("OrganizationId")
            statement = Statement(
                sid=params["StatementId"],
                effect="Allow",
                principal=principal_of(params["Principal"]),
                action=params["Action"],
                resource=arn,
                condition={"StringEquals": {"aws:PrincipalOrgID": organization}} if organization else None,
            )
            statements = version.policy.statements if version.policy else ()
            if any(one.sid == statement.sid for one in statements):
                raise ResourceConflictException(
                    f"The statement id ({statement.sid}) provided already exists. Please provide a new statement id, "
                    "or remove the existing statement."
                )
            _check_revision(params, version.policy)
            policy = Policy(statements=(*statements, statement), revision_id=str(uuid.uuid4()))
            size = len(orjson.dumps(describe.policy(policy)))
            if size > POLICY_MAX_BYTES:
                raise PolicyLengthExceededException(
                    f"The final policy size ({size}) is bigger than the limit ({POLICY_MAX_BYTES})."
                )
            return _with(layer, dataclasses.replace(version, policy=policy)), (statement, policy)

        statement, policy = await self._changes.change(name, edit)
        return {"Statement": orjson.dumps(describe.statement(statement)).decode(), "RevisionId": policy.revision_id}

    async def remove(self, call: Call) -> None:
        params = call.params
        name, number, arn = self._ref(params, "lambda:RemoveLayerVersionPermission")

        def edit(layer: Layer | None) -> tuple[Layer, None]:
            layer, version = _existing(layer, number, arn)
            if version.policy is None:
                raise ResourceNotFoundException("No policy is associated with the given resource.")
            _check_revision(params, version.policy)
            left = tuple(one for one in version.policy.statements if one.sid != params["StatementId"])
            if len(left) == len(version.policy.statements):
                raise ResourceNotFoundException(f"Statement {params['StatementId']} is not found in resource policy.")
            policy = Policy(statements=left, revision_id=str(uuid.uuid4())) if left else None
            return _with(layer, dataclasses.replace(version, policy=policy)), None

        await self._changes.change(name, edit)

    async def get(self, call: Call) -> Mapping[str, Any]:
        name, number, arn = self._ref(call.params, "lambda:GetLayerVersionPolicy")
        _, version = _existing(self._names.catalog.get(name), number, arn)
        if version.policy is None:
            raise ResourceNotFoundException("No policy is associated with the given resource.")
        return {"Policy": orjson.dumps(describe.policy(version.policy)).decode(), "RevisionId": version.policy.revision_id}

    def _ref(self, params: Mapping[str, Any], action: str) -> tuple[str, int, str]:
        name = self._names.name(params["LayerName"], action)
        number: int = params["VersionNumber"]
        return name, number, f"{self._names.arn(name)}:{number}"


def _existing(layer: Layer | None, number: int, arn: str) -> tuple[Layer, LayerVersion]:
    if layer is None or number not in layer.versions:
        raise ResourceNotFoundException(f"Layer version {arn} does not exist.")
    return layer, layer.versions[number]


def _check_revision(params: Mapping[str, Any], policy: Policy | None) -> None:
    given = params.get("RevisionId")
    if given is not None and (policy is None or policy.revision_id != given):
        raise PreconditionFailedException(_STALE)


def _with(layer: Layer, version: LayerVersion) -> Layer:
    return dataclasses.replace(layer, versions={**layer.versions, version.version: version})
