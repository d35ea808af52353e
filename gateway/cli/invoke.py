"""`lambent invoke`."""

from __future__ import annotations

import base64
import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from gateway.cli.api import STREAMS, Api, endpoint_option, function_path
from gateway.cli.progress import waiting


@click.command(
    "invoke",
    epilog="""\b
Examples:
  lambent invoke hello
  lambent invoke hello '{"name": "Ada"}'
  lambent invoke hello @event.json --tail
  jq -n '{n: 3}' | lambent invoke hello -
  lambent invoke hello --stream
""",
)
@click.argument("name")
@click.argument("payload", default="{}")
@click.option("--qualifier", metavar="Q", help="Version or alias to run; otherwise the latest code.")
@click.option("--tail", is_flag=True, help="Show the end of the invocation's log, too.")
@click.option("--stream", is_flag=True, help="Print the answer while the function gives it (InvokeWithResponseStream).")
@endpoint_option
def command(name: str, payload: str, qualifier: str | None, tail: bool, stream: bool, endpoint: str) -> None:
    """Run function NAME with PAYLOAD and print its answer.

    PAYLOAD is JSON text, @FILE to read it from a file, or - to read it from standard input. The exit code is 1 when the
    function failed.
    """
    event = _event(payload)
    query = {"Qualifier": qualifier} if qualifier else None
    wanted = {"X-Amz-Log-Type": "Tail"} if tail else {}
    if stream:
        path = f"{STREAMS}/{name}/response-streaming-invocations"
        with contextlib.closing(Api(endpoint)) as api, contextlib.closing(api.pieces(path, event, query, wanted)) as pieces:
            _stream(pieces)
        return
    with waiting(f"{name} runs"):
        answer = Api(endpoint).call("POST", function_path(name, "/invocations"), event, query=query, headers=wanted)
    headers = {key.lower(): value for key, value in answer.headers.items()}
    if tail and "x-amz-log-result" in headers:
        click.echo(base64.b64decode(headers["x-amz-log-result"]).decode(errors="replace"), err=True, nl=False)
    click.echo(_readable(answer.body))
    if "x-amz-function-error" in headers:
        click.echo(f"lambent: the function failed ({headers['x-amz-function-error']})", err=True)
        sys.exit(1)


def _stream(pieces: Iterator[bytes]) -> None:
    """Print what comes, as it comes: bytes as they are, since nobody knows what they are."""
    from gateway.edge.eventstream import Events

    events = Events()
    ended: dict[str, str] | None = None
    try:
        for piece in pieces:
            for kind, payload in events.feed(piece):
                if kind == "PayloadChunk":
                    click.echo(payload, nl=False)
                elif kind == "InvokeComplete":
                    ended = json.loads(payload)
    except ValueError as error:
        raise click.ClickException(f"what answers there is {error}") from error
    if ended is None:
        raise click.ClickException("the answer broke off")
    if sys.stdout.isatty():
        click.echo()
    if "LogResult" in ended:
        click.echo(base64.b64decode(ended["LogResult"]).decode(errors="replace"), err=True, nl=False)
    if "ErrorCode" in ended:
        click.echo(f"lambent: the function failed ({ended['ErrorCode']}): {ended.get('ErrorDetails', '')}", err=True)
        sys.exit(1)


def _event(payload: str) -> bytes:
    if payload == "-":
        text = sys.stdin.buffer.read()
    elif payload.startswith("@"):
        try:
            text = Path(payload[1:]).read_bytes()
        except OSError as error:
            raise click.BadParameter(f"cannot read {payload[1:]}: {error.strerror}", param_hint="PAYLOAD") from error
    else:
        text = payload.encode(errors="surrogateescape")  # bytes that are no text come back as they were given
    try:
        json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"not JSON: {error}", param_hint="PAYLOAD") from error
    except RecursionError:
        raise click.BadParameter("its values are nested too deeply", param_hint="PAYLOAD") from None
    return text


def _readable(body: bytes) -> str:
    """Indented for a person, untouched for a pipe."""
    text = body.decode(errors="replace")
    if sys.stdout.isatty():
        try:
            return json.dumps(json.loads(body), indent=2, ensure_ascii=False)
        except (ValueError, RecursionError):
            return text
    return text
