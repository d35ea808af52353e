"""A stand-in for the zygote, run under each interpreter: imports the runtime once, then forks a function per request.

Run as ``python forker.py DIRECTORY_OF_THE_RUNTIME CONTROL_FD``. A request is one JSON packet with three descriptors (Runtime
API connection, standard output, standard error) or ``{"wait": pid}``.
"""

import array
import gc
import importlib.util
import json
import os
import socket
import sys
import time

sys.path.insert(0, sys.argv[1])
import lambent_bootstrap

spec = importlib.util.spec_from_file_location("syscalls", os.path.join(os.path.dirname(sys.argv[1]), "syscalls.py"))
assert spec is not None
assert spec.loader is not None
syscalls = importlib.util.module_from_spec(spec)  # not in sys.modules, as it is none of the function's
spec.loader.exec_module(syscalls)
control = socket.socket(fileno=int(sys.argv[2]))
loaded = sorted(lambent_bootstrap.prepare())
gc.collect()
gc.freeze()
gc.disable()
gc.set_threshold(1)
control.send(json.dumps(loaded).encode())
while True:
    fds = array.array("i")
    data, ancillary, _, _ = control.recvmsg(200000, socket.CMSG_SPACE(3 * fds.itemsize))
    if not data:
        os._exit(0)
    request = json.loads(data.decode())
    if "wait" in request:
        control.send(json.dumps(os.waitpid(request["wait"], 0)[1]).encode())
        continue
    fds.frombytes(ancillary[0][2])
    pid = syscalls.clone_process()
    if pid == 0:
        control.close()
        os.dup2(fds[1], 1)
        os.dup2(fds[2], 2)
        os.close(fds[1])
        os.close(fds[2])
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["environment"]["LAMBDA_TASK_ROOT"])
        lambent_bootstrap.rehearse()
        if "WHEN" in os.environ:
            os.write(1, repr(time.clock_gettime(time.CLOCK_MONOTONIC)).encode())
        lambent_bootstrap.main(fds[0])
    for fd in fds:
        os.close(fd)
    control.send(json.dumps(pid).encode())
