"""Resource policies: who else may invoke a function, one statement a permission. Texts are recorded from AWS."""

from __future__ import annotations

import dataclasses
import re
import uuid
from collections.abc import Mapping
from typing import Any, Final

import orjson

from gateway.arn import FunctionRef
from gateway.control import describe
from gateway.control.call import Call, Rule
from gateway.control.changes import Changes
from gateway.control.names import Names, is_alias
from gateway.control.validate import POLICY_MAX_BYTES
from gateway.errors import (
    ApiError,
    InvalidParameterValueException,
    PolicyLengthExceededException,
    PreconditionFailedException,
    ResourceConflictException,
    ResourceNotFoundException,
)
from gateway.records import LATEST, Function, Policy, Statement

_SERVICE: Final = re.compile(r"[a-z0-9.-]+\.(amazonaws\.com(\.cn)?|amazon\.com|aws\.internal)")
_ACCOUNT: Final = re.compile(r"\d{12}", re.ASCII)
_IDENTITY: Final = re.compile(r"arn:aws[a-zA-Z-]*:(iam|sts)::\d{12}:(root|(user|role|assumed-role|federated-user)/.+)", re.ASCII)
_STALE: Final = (
    "The Revision Id provided does not match the latest Revision Id. Call the GetPolicy API to retrieve the latest Revision Id"
)

#: Members of AddPermission that are conditions of the statement: operator and key.
_CONDITIONS: Final = {
    "SourceArn": ("ArnLike", "AWS:SourceArn"),
    "SourceAccount": ("StringEquals", "AWS:SourceAccount"),
    "PrincipalOrgID": ("StringEquals", "aws:PrincipalOrgID"),
    "EventSourceToken": ("StringEquals", "lambda:EventSourceToken"),
    "FunctionUrlAuthType": ("StringEquals", "lambda:FunctionUrlAuthType"),
    "InvokedViaFunctionUrl": ("Bool", "lambda:InvokedViaFunctionUrl"),
}


class Policies:
    """Use cases of resource policies."""

    def __init__(self, *, names: Names, changes: Changes) -> None:
        self._names = names
        self._changes = changes

    def rules(self) -> Mapping[str, Rule]:
        return {"AddPermission": self.add, "RemovePermission": self.remove, "GetPolicy": self.get}

    async def add(self, call: Call) -> Mapping[str, Any]:
        params = call.params
        ref = self._names.ref(params)
        if ref.qualifier == LATEST:
            raise InvalidParameterValueException("We currently do not support adding policies for $LATEST.")
        if "FunctionUrlAuthType" in params and params["Action"] != "lambda:InvokeFunctionUrl":
            raise InvalidParameterValueException("FunctionUrlAuthType is only supported for lambda:InvokeFunctionUrl action")

        def edit(function: Function | None) -> tuple[Function, Statement]:
            function = self._names.existing(function, ref.name)
            self._must_have(function, ref)
            statement = Statement(
                sid=params["StatementId"],
                effect="Allow",
                principal=principal_of(params["Principal"]),
                action=params["Action"],
                resource=self._names.arn(*ref),
                condition=_condition(params),
            )
            old = function.policies.get(ref.qualifier)
            _check_revision(params, old)
            if old is not None and any(one.sid == statement.sid for one in old.statements):
                raise ResourceConflictException(
                    f"The statement id ({statement.sid}) provided already exists. Please provide a new statement id, "
                    "or remove the existing statement."
                )
            statements = (*(old.statements if old else ()), statement)
            policy = Policy(statements=statements, revision_id=str(uuid.uuid4()))
            size = len(orjson.dumps(describe.policy(policy)))
            if size > POLICY_MAX_BYTES:
                raise PolicyLengthExceededException(
                    f"The final policy size ({size}) is bigger than the limit ({POLICY_MAX_BYTES})."
                )
            return _with(function, ref.qualifier, policy), statement

        statement = await self._changes.change(ref.name, edit)
        return {"Statement": orjson.dumps(describe.statement(statement)).decode()}

    async def remove(self, call: Call) -> None:
        params = call.params
        ref = self._names.ref(params)

        def edit(function: Function | None) -> tuple[Function, None]:
            if function is None:
                raise ResourceNotFoundException(f"No policy found for: {self._names.arn(ref.name)}")
            self._must_have(function, ref)
            old = function.policies.get(ref.qualifier)
            if old is None:
                raise ResourceNotFoundException("No policy is associated with the given resource.")
            _check_revision(params, old)
            left = tuple(one for one in old.statements if one.sid != params["StatementId"])
            if len(left) == len(old.statements):
                raise ResourceNotFoundException(f"Statement {params['StatementId']} is not found in resource policy.")
            policy = Policy(statements=left, revision_id=str(uuid.uuid4())) if left else None
            return _with(function, ref.qualifier, policy), None

        await self._changes.change(ref.name, edit)

    async def get(self, call: Call) -> Mapping[str, Any]:
        ref = self._names.ref(call.params)
        function = self._names.catalog.get(ref.name)
        policy = function.policies.get(ref.qualifier) if function else None
        if policy is None:
            raise ResourceNotFoundException("The resource you requested does not exist.")
        return {"Policy": orjson.dumps(describe.policy(policy)).decode(), "RevisionId": policy.revision_id}

    def _must_have(self, function: Function, ref: FunctionRef) -> None:
        """Raises ResourceNotFoundException where there is no such version or alias."""
        qualifier = ref.qualifier
        if qualifier is None or qualifier in function.versions or qualifier in function.aliases:
            return
        missing: ApiError = (
            self._names.no_alias(ref.name, qualifier) if is_alias(qualifier) else self._names.no_function(ref.name, qualifier)
        )
        raise missing


def principal_of(given: str) -> str | Mapping[str, str]:
    """A principal as AWS writes it into the statement. Raises InvalidParameterValueException."""
    if given == "*":
        return given
    if _ACCOUNT.fullmatch(given):
        return {"AWS": f"arn:aws:iam::{given}:root"}
    if _IDENTITY.fullmatch(given):
        return {"AWS": given}
    if _SERVICE.fullmatch(given):
        return {"Service": given}
    raise InvalidParameterValueException("The provided principal was invalid. Please check the principal and try again.")


def _condition(params: Mapping[str, Any]) -> Mapping[str, Mapping[str, str]] | None:
    found: dict[str, dict[str, str]] = {}
    for member, (operator, key) in _CONDITIONS.items():
        if member in params:
            value = params[member]
            found.setdefault(operator, {})[key] = str(value).lower() if isinstance(value, bool) else value
    return found or None


def _check_revision(params: Mapping[str, Any], policy: Policy | None) -> None:
    given = params.get("RevisionId")
    if given is not None and (policy is None or policy.revision_id != given):
        raise PreconditionFailedException(_STALE)


def _with(function: Function, qualifier: str | None, policy: Policy | None) -> Function:
    policies = {key: value for key, value in function.policies.items() if key != qualifier}
    if policy is not None:
        policies[qualifier] = policy
    return dataclasses.replace(function, policies=policies)
