"""The Python runtime: imports a function's handler and feeds it events, as AWS's own does, from Python 3.8 on.

Two ways lead in. A process forked from a warm interpreter calls `main` with the connection that it was given; all that is slow
has happened when this module was imported, which has no side effects. A fresh interpreter runs this file as a script:
`lambent_bootstrap.py [--fd N]`.

Errors, log lines and the end of the process are as AWS's runtime client (awslambdaric, public) has them, and so are the names
`handle_event_request`, `LambdaRuntimeClient` and its methods, which error trackers look up in `__main__` and wrap.
What differs, on purpose: an answer that cannot be encoded as UTF-8 is a Runtime.MarshalError, where AWS's client dies; a copy of
the process that a handler forked and let run into the end of the handler ends there, instead of answering a second time.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import importlib.machinery
import json
import os
import signal
import site
import socket
import sys
import threading
import time
import traceback
import types

if __name__ == "__main__":  # PYTHONSAFEPATH and -I leave it out
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import lambent_rehearsal
from lambent_context import LambdaContext
from lambent_json import dumps, loads
from lambent_runtime_client import Invocation, LambdaRuntimeClient, LambdaRuntimeClientError
from lambent_streams import LambdaLoggerFilter, LogSink, flush, set_up
from lambent_trace import TraceVariable

TYPE_CHECKING = False  # typing's own would cost a fresh interpreter its import
if TYPE_CHECKING:
    from collections.abc import Callable

    Handler = Callable[[object, LambdaContext], object]

_GC_THRESHOLD = gc.get_threshold()
_RUNTIME_DIR = os.path.dirname(os.path.abspath(__file__))

#: What handlers and their libraries mostly import, apart from what is loaded anyway. Nothing that loads `ssl`: it is large.
# fmt: off
COMMON = (
    "base64", "calendar", "collections.abc", "concurrent.futures", "contextlib", "copy", "ctypes", "dataclasses", "datetime",
    "decimal", "encodings.idna", "enum", "functools", "hashlib", "hmac", "html", "inspect", "itertools", "math", "operator",
    "pathlib", "pickle", "platform", "queue", "random", "re", "secrets", "shutil", "string", "subprocess", "tempfile",
    "textwrap", "typing", "unicodedata", "urllib.parse", "uuid", "weakref", "zlib",
)
# fmt: on


class FaultException(Exception):
    """The function is at fault in a way that has a name of its own on AWS."""

    def __init__(self, exception_type: str, msg: str, trace: list[str] | None = None) -> None:
        super().__init__(msg)
        self.exception_type = exception_type
        self.msg = msg
        self.trace = trace


def _library() -> list[str]:
    """The standard library's part of sys.path; a function sees nothing that the host has installed beside it."""
    directory = os.path.dirname(os.path.abspath(os.__file__))
    archive = "python{}{}.zip".format(*sys.version_info)
    own = [path for path in map(os.path.abspath, sys.path) if path == directory or path.endswith((archive, "/lib-dynload"))]
    return own or [directory]


_LAYERS = ("/opt/python/lib/python{}.{}/site-packages".format(*sys.version_info), "/opt/python")
_LIBRARY = _library()


def _get_handler(name: str) -> Handler:
    module_name, dot, function_name = name.rpartition(".")
    if not dot:
        message = f"Bad handler '{name}': not enough values to unpack (expected 2, got 1)"
        raise FaultException("Runtime.MalformedHandlerName", message)
    try:
        if module_name.split(".")[0] in sys.builtin_module_names:
            message = f"Cannot use built-in module {module_name} as a handler module"
            raise FaultException("Runtime.BuiltInModuleConflict", message)
        module = importlib.import_module(module_name.replace("/", "."))
    except ImportError as error:
        message = f"Unable to import module '{module_name}': {error}"
        raise FaultException("Runtime.ImportModuleError", message) from None
    except SyntaxError as error:
        message = f"Syntax error in module '{module_name}': {error}"
        place = f'  File "{error.filename}" Line {error.lineno}\n    {error.text}'
        raise FaultException("Runtime.UserCodeSyntaxError", message, [place]) from None
    try:
        handler = getattr(module, function_name)  # type: Handler
        return handler
    except AttributeError:
        message = f"Handler '{function_name}' missing on module '{module_name}'"
        raise FaultException("Runtime.HandlerNotFound", message) from None


def _describe(error: BaseException, request_id: str = "") -> dict[str, object]:
    """The error document, and what is logged. Frames of this file that stand before the function's own are left out."""
    if isinstance(error, FaultException):
        return _document(error.msg, error.exception_type, error.trace or [], request_id)
    frames = [(frame.filename, frame.lineno or 0, frame.name, frame.line) for frame in traceback.extract_tb(error.__traceback__)]
    own = [index for index, frame in enumerate(frames) if frame[0] != _HERE]
    frames = frames[own[0] :] if own else frames
    try:
        message = str(error)
    except Exception:
        message = f"<unprintable {type(error).__name__} object>"
    return _document(message, type(error).__name__, traceback.format_list(frames), request_id)


_HERE = _describe.__code__.co_filename  # as frames of this file say it, which need not be __file__


def _document(message: str, error_type: str, stack_trace: list[str], request_id: str) -> dict[str, object]:
    return {"errorMessage": message, "errorType": error_type, "requestId": request_id, "stackTrace": stack_trace}


def _encode(document: dict[str, object]) -> bytes:
    try:
        return dumps(document).encode()
    except UnicodeEncodeError:  # a lone surrogate in the message
        return json.dumps(document).encode()


def _parse_header(text: str | None, name: str) -> object:
    if not text:
        return None
    try:
        return json.loads(text)
    except ValueError as error:
        message = f"Unable to parse {name} JSON: {error}"
        raise FaultException("Runtime.LambdaContextUnmarshalError", message) from None


def _unmarshal(invocation: Invocation) -> object:
    if invocation.content_type not in ("application/json", None):
        return invocation.body
    try:
        return loads(invocation.body)
    except Exception as error:
        raise FaultException("Runtime.UnmarshalError", f"Unable to unmarshal input: {error}") from None


def _marshal(response: object) -> tuple[bytes, str]:
    if isinstance(response, bytes):
        return response, "application/unknown"
    try:
        return dumps(response).encode(), "application/json"
    except Exception as error:
        raise FaultException("Runtime.MarshalError", f"Unable to marshal response: {error}") from None


def handle_event_request(
    lambda_runtime_client: LambdaRuntimeClient, request_handler: Handler, invocation: Invocation, log_sink: LogSink
) -> None:
    try:
        lambda_context = LambdaContext(
            invocation.request_id,
            _parse_header(invocation.client_context, "Client Context"),
            _parse_header(invocation.cognito_identity, "Cognito Identity"),
            invocation.deadline_ms,
            invocation.invoked_function_arn,
            invocation.tenant_id,
        )
        event = _unmarshal(invocation)
        response = request_handler(event, lambda_context)
        result, content_type = _marshal(response)
    except Exception as error:
        document = _describe(error, invocation.request_id)
        log_sink.log_error(document)
        lambda_runtime_client.post_invocation_error(invocation.request_id, _encode(document), str(document["errorType"]))
    else:
        lambda_runtime_client.post_invocation_result(invocation.request_id, result, content_type)


def run(handler: str, lambda_runtime_client: LambdaRuntimeClient, log_sink: LogSink) -> None:
    """Init, then events for ever. Leaves by an exception only: SystemExit and whatever else ends a Python program."""
    try:
        request_handler = _get_handler(handler)
    except Exception as error:
        document = _describe(error)
        log_sink.log_error(document)
        lambda_runtime_client.post_init_error(_encode(document), str(document["errorType"]))
        raise SystemExit(1) from None
    pid = os.getpid()
    trace = TraceVariable()
    while True:
        flush()
        invocation = lambda_runtime_client.wait_next_invocation()
        LambdaLoggerFilter.aws_request_id = invocation.request_id
        LambdaLoggerFilter.tenant_id = invocation.tenant_id
        trace.set(invocation.trace_id)
        handle_event_request(lambda_runtime_client, request_handler, invocation, log_sink)
        if os.getpid() != pid:
            raise SystemExit(0)


def prepare() -> frozenset[str]:
    """For an interpreter that will be forked, once: all of `main` that needs no function. Gives `loaded()`.

    Replaces sys.stdout and sys.stderr, which still write to descriptors 1 and 2, and gives the root logger its handler.
    """
    for name in COMMON:
        with contextlib.suppress(ImportError):  # a build without it
            importlib.import_module(name)
    _set_up()
    for _ in range(20):  # interpreters from 3.11 on adapt their code as it runs
        rehearse()
    return loaded()


def rehearse() -> None:
    """For a fork that waits for its function: run through a made-up one, so that the pages that `main` will write are its own.

    Copying a page at the first write costs more than what the write is part of: 0.8 ms become 0.3.
    """
    lambent_rehearsal.perform(_freshen, run, _set_up())


def loaded() -> frozenset[str]:
    """Top-level modules in this process that a fresh one would look for in the function's directory first.

    Where a function brings a module of such a name, a fork of this process would not see it. Built-in and frozen modules are not
    in the set: nothing in a directory ever takes precedence over them.
    """
    names = {name.partition(".")[0] for name in sys.modules}
    return frozenset(name for name in names if name not in sys.builtin_module_names and not _is_frozen(name))


def _is_frozen(name: str) -> bool:
    spec = getattr(sys.modules.get(name), "__spec__", None)
    return name == "__main__" or getattr(spec, "origin", None) == "frozen"


def _guarded(module: types.ModuleType, name: str) -> None:
    try:
        getattr(module, name)()
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)


def _end(error: BaseException) -> None:
    """End the process as an interpreter ends that nobody caught `error` in; never returns."""
    status = 1
    if isinstance(error, SystemExit):
        code = error.code
        status = 0 if code is None else code & 0xFF if isinstance(code, int) else 1
        if not isinstance(code, (int, type(None))):
            sys.stderr.write(f"{code}\n")
    else:
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None and trace.tb_frame.f_code.co_filename == _HERE:
            trace = trace.tb_next
        sys.excepthook(type(error), error.with_traceback(trace), trace)
    _guarded(threading, "_shutdown")
    _guarded(atexit, "_run_exitfuncs")
    flush()
    if isinstance(error, KeyboardInterrupt):
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(status)


_log_sink = None  # type: LogSink | None


def _set_up() -> LogSink:
    """What a fresh interpreter and one that is forked need alike, once."""
    global _log_sink
    if _log_sink is None:
        _log_sink = set_up()
        sys.modules["__main__"] = sys.modules[__name__]
        sys.argv = [__file__]
        sys.dont_write_bytecode = True  # the code's directory is not the function's to write in
        site.setquit()
        site.setcopyright()
        site.sethelper()
    return _log_sink


def _freshen() -> None:
    """Make a fork like a fresh process in the environment that it has now.

    Python's own hooks for forks have not been run (`guest/syscalls.py`).
    """
    getattr(threading.main_thread(), "_set_native_id", int)()  # else it is that of the process that this is a copy of
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    time.tzset()
    gc.set_threshold(*_GC_THRESHOLD)
    gc.enable()
    if "random" in sys.modules:
        sys.modules["random"].seed()
    for directory in _LAYERS:  # a fork remembers that there is nothing: /opt came later
        sys.path_importer_cache.pop(directory, None)
    path = [os.environ.get("LAMBDA_TASK_ROOT") or os.getcwd(), *_LAYERS, _RUNTIME_DIR]
    path += os.environ.get("PYTHONPATH", "").split(":") + _LIBRARY
    sys.path[:] = [entry for index, entry in enumerate(path) if entry and entry not in path[:index]]


def main(connection_fd: int | None) -> None:
    """Be the runtime of the function that os.environ and the current directory say; never returns.

    `connection_fd`, if any, is a stream socket that is connected to the Runtime API already.
    """
    try:
        log_sink = _set_up()
        _freshen()
        environ = os.environ
        if "AWS_LAMBDA_LOG_FORMAT" in environ or "AWS_LAMBDA_LOG_LEVEL" in environ:
            import lambent_log_json

            lambent_log_json.apply(environ, log_sink)
        connection = None if connection_fd is None else socket.socket(fileno=connection_fd)
        client = LambdaRuntimeClient(environ.get("AWS_LAMBDA_RUNTIME_API", ""), connection)
        run(environ.get("_HANDLER", ""), client, log_sink)
    except (LambdaRuntimeClientError, OSError) as error:  # nothing of the function's own: its errors are reported
        sys.stderr.write(f"[ERROR] Runtime API: {error}\n")
        _end(SystemExit(1))
    except BaseException as error:
        _end(error)
    finally:
        os._exit(1)


def _make_room(directories: list[str]) -> None:
    """Forget the modules that this runtime has loaded and AWS's has not, where the function brings its own of that name."""
    for name in ("array", "heapq", "select", "selectors", "signal", "socket"):
        if name not in sys.builtin_module_names and importlib.machinery.PathFinder.find_spec(name, directories) is not None:
            sys.modules.pop(name, None)


def _script(arguments: list[str]) -> None:
    options = dict(zip(arguments[::2], map(int, arguments[1::2])))
    _make_room([os.environ.get("LAMBDA_TASK_ROOT") or os.getcwd(), *_LAYERS])
    main(options.get("--fd"))


if __name__ == "__main__":
    _script(sys.argv[1:])
