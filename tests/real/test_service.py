"""`lambent up` without what its systemd unit takes away (capabilities, a writable system), and what it tells systemd."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from gateway.cli.bench.instance import Instance
from tests.conftest import client_for
from tests.real.product import Product
from tests.unit.test_service import values

pytestmark = [pytest.mark.real, pytest.mark.slow]

# ProtectSystem=strict, ProtectHome=read-only, ProtectKernelTunables=yes and ReadWritePaths=, as systemd does them: what is bound
# to itself before stays writable.
MOUNTS = """
set -e
mkdir -p /run/lambent
for kept in /run/lambent /tmp /dev; do mount --rbind "$kept" "$kept"; done
mount --bind /proc/sys /proc/sys
mount --bind /proc/sys/net /proc/sys/net
for path in / /proc/sys /sys; do mount -o remount,bind,ro "$path"; done
! touch /usr/lambent-test 2>/dev/null
exec "$@"
"""
CODE = """
import os
def handler(event, context):
    with open("/tmp/written", "w") as file:
        file.write("x" * 100_000)
    return {"size": os.path.getsize("/tmp/written"), "uid": os.getuid()}
"""


def test_sandboxes_work_within_the_hardening(up: Callable[..., Instance]) -> None:
    bounds = ",".join(f"+{name.removeprefix('CAP_').lower()}" for name in values("CapabilityBoundingSet"))
    privileges = ["setpriv", "--no-new-privs", "--inh-caps=-all", f"--bounding-set=-all,{bounds}"]
    wrapper = ["unshare", "--mount", "--propagation", "slave", "sh", "-c", MOUNTS, "sh", *privileges]
    with up(*wrapper) as instance:
        assert "network: nat" in instance.status()["isolation"]
        client = client_for(instance.endpoint)
        product = Product(instance, client)
        answers = [product.invoke(product.deploy(CODE)).value for _ in range(2)]
        client.close()
        assert [answer["size"] for answer in answers] == [100_000, 100_000]
        assert len({answer["uid"] for answer in answers} - {0}) == 2


def test_systemd_is_told_what_goes_on(up: Callable[..., Instance]) -> None:
    with up() as instance:
        instance.process.send_signal(signal.SIGTERM)
        assert instance.process.wait() == 0
        assert instance.notified.recv(4096).decode().splitlines()[0] == "STOPPING=1"
