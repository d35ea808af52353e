"""The docker driver, gateway side: the native driver's, because what differs is done by the spawner."""

from __future__ import annotations

from sandbox.driver import Support
from sandbox.images.emulation import emulation
from sandbox.native.driver import NativeDriver
from sandbox.spec import StemKey


class DockerDriver(NativeDriver):
    """Talks to `sandbox.docker.spawner`. Images come and go while Lambent runs, so it is asked each time."""

    name = "docker"
    walls = "containers of the Docker Engine, own uid, seccomp, no capabilities, read-only root"

    def support(self, key: StemKey) -> Support:
        if (why_not := emulation(key.architecture)) is not None:
            return Support(False, why_not)
        return self._support.get(key.runtime) or Support(True, "if the Docker Engine has an image for it")

    def is_light(self, key: StemKey) -> bool:
        return False

    def _asks(self, key: StemKey) -> bool:
        return True

    def _refused(self, key: StemKey) -> str | None:
        return None
