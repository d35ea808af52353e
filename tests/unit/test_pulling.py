"""Images that are on their way: Pending until they are here, and what becomes of functions whose image does not come."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import looptime
import pytest

from gateway.control import images
from gateway.control.catalog import Catalog
from gateway.control.changes import Changes
from gateway.control.images import Images
from gateway.control.pulling import AGAIN_S, ATTEMPTS, Pulling
from gateway.control.settling import in_progress, pending, settled, updating
from gateway.errors import InvalidParameterValueException, ServiceException
from gateway.records import LATEST, Function, FunctionVersion, ImageCode
from sandbox.errors import DriverUnavailable, ImageError, SandboxError
from sandbox.images.progress import Progress
from sandbox.spec import Architecture, Image
from tests.unit.test_changes import Recorded
from tests.unit.test_store import version

pytestmark = pytest.mark.looptime

FOUND = Image(id="sha256:" + "1" * 64, resolved_uri="slow@sha256:1", size_bytes=5, architecture="amd64", command=("/x",))
OLD = ImageCode(uri="old:1", image=dataclasses.replace(FOUND, id="sha256:" + "2" * 64))
COMING = images.on_its_way("slow:1", Architecture.X86_64)


class Registry:
    """Finds an image after a while, once it has raised all of `errors`."""

    def __init__(self, takes_s: float = 0.0, *errors: SandboxError) -> None:
        self.takes_s = takes_s
        self.errors = list(errors)
        self.asked: list[tuple[str, Architecture]] = []

    async def find(self, uri: str, architecture: Architecture) -> Image:
        self.asked.append((uri, architecture))
        await asyncio.sleep(self.takes_s)
        if self.errors:
            raise self.errors.pop(0)
        return FOUND


class Gateway:
    """One function, whose image comes from this registry."""

    def __init__(self, registry: Registry, latest: FunctionVersion, **more: FunctionVersion) -> None:
        self.store = Recorded()
        self.changes = Changes(store=self.store, catalog=Catalog())
        self.images = Images(registry.find)
        self.pulling = Pulling(found_images=self.images, changes=self.changes, next_generation=lambda: 99)
        self.function = Function(name="f", versions={LATEST: latest, **{one.version: one for one in more.values()}})

    async def settle(self) -> Function:
        await self.changes.change("f", lambda _: (self.function, None))
        self.pulling.recover([self.function])
        await self.pulling._tasks.join()
        found = self.store.saved["f"]
        assert found is not None
        return found


def new(**more: Any) -> FunctionVersion:
    return pending(version("f", **{"image": COMING, "code_sha256": "", "runtime": "", **more}))


async def test_what_is_there_soon_is_the_answer() -> None:
    registry = Registry(images.PATIENCE_S / 2)
    found = await Images(registry.find).of("slow:1", Architecture.X86_64, {"Command": ["y"]})
    assert (found.image, found.command, found.pulling) == (FOUND, ("y",), "")


async def test_what_is_known_soon_to_be_wrong_is_the_answer() -> None:
    with pytest.raises(InvalidParameterValueException, match="no such thing"):
        await Images(Registry(1, ImageError("no such thing")).find).of("slow:1", Architecture.X86_64, {})
    with pytest.raises(ServiceException, match="no engine"):
        await Images(Registry(1, DriverUnavailable("no engine")).find).of("slow:1", Architecture.X86_64, {})


async def test_a_name_that_no_image_has_is_not_looked_for() -> None:
    def find(uri: str, architecture: Architecture) -> Any:
        raise AssertionError(uri)

    with pytest.raises(
        InvalidParameterValueException, match=r"Source image x+… is not valid. Provide a valid source image."
    ) as found:
        await Images(find).of("x" * 5000, Architecture.X86_64, {})
    assert len(str(found.value)) < 200


@pytest.mark.parametrize("member", ["Command", "EntryPoint"])
def test_an_image_config_has_a_largest_size(member: str) -> None:
    images.check({"ImageConfig": {member: ["x" * 16_000]}}, image=True)
    with pytest.raises(InvalidParameterValueException, match="and 16384 are the most"):
        images.check({"ImageConfig": {member: ["x" * 15] * 1000}}, image=True)


async def test_nobody_waits_longer_unless_he_says_so() -> None:
    registry = Registry(1000)
    found_images = Images(registry.find)
    began_s = asyncio.get_running_loop().time()
    found = await found_images.of("slow:1", Architecture.X86_64, {"WorkingDirectory": "/w"})
    assert asyncio.get_running_loop().time() - began_s == pytest.approx(images.PATIENCE_S)
    assert (found.pulling, found.pulling_for, found.directory) == ("slow:1", "x86_64", "/w")
    assert images.fields(found) == {"image": found, "code_sha256": "", "code_size_bytes": 0}
    assert (await found_images.of("slow:1", Architecture.X86_64, {}, to_the_end=True)).image == FOUND
    assert registry.asked == [("slow:1", Architecture.X86_64)], "once for both"
    await found_images.close()


async def test_looking_ends_with_the_gateway() -> None:
    found_images = Images(Registry(1000).find)
    await found_images.of("slow:1", Architecture.X86_64, {})
    await found_images.close()
    assert not found_images._looking


async def test_new_function_is_active_when_its_image_is_here() -> None:
    assert isinstance(asyncio.get_running_loop(), looptime.LoopTimeEventLoop)
    begun = new()
    assert in_progress(settled(Function(name="f", versions={LATEST: begun})).latest), "nobody else settles it"
    found = await Gateway(Registry(600), begun, published=dataclasses.replace(begun, version="1")).settle()
    for each in (found.latest, found.versions["1"]):
        assert (each.state, each.state_reason_code, each.last_update_status) == ("Active", None, "Successful")
        assert each.image is not None
        assert (each.image.image, each.image.pulling, each.image.uri) == (FOUND, "", "slow:1")
        assert (each.code_sha256, each.code_size_bytes, each.generation) == ("1" * 64, 5, 99)
        assert each.architecture is Architecture.X86_64


async def test_updated_function_has_its_old_image_until_then() -> None:
    latest = updating(version("f", image=dataclasses.replace(OLD, pulling="slow:1", pulling_for="x86_64")))
    published = version("f", "1", image=OLD)
    found = await Gateway(Registry(600), latest, published=published).settle()
    assert found.latest.image is not None
    assert (found.latest.image.image, found.latest.image.uri) == (FOUND, "slow:1")
    assert found.latest.last_update_status == "Successful"
    assert found.versions["1"] == published


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ImageError("slow:1 is gone", missing=True), "ImageDeleted"),
        (ImageError("pull access denied for slow", missing=True), "ImageAccessDenied"),
        (ImageError("no image at all"), "InvalidImage"),
        (SandboxError("the spawner refused"), "InternalError"),
    ],
)
async def test_image_that_does_not_come(error: SandboxError, code: str) -> None:
    found = (await Gateway(Registry(600, error), new()).settle()).latest
    assert (found.state, found.state_reason, found.state_reason_code) == ("Failed", str(error), code)
    assert not in_progress(found)
    changed = updating(version("f", image=dataclasses.replace(OLD, pulling="slow:1", pulling_for="x86_64")))
    found = (await Gateway(Registry(600, error), changed).settle()).latest
    assert (found.state, found.last_update_status, found.last_update_reason_code) == ("Active", "Failed", code)
    assert found.image == OLD
    assert found.generation == changed.generation, "its sandboxes go on"


async def test_engine_that_is_away_is_waited_for() -> None:
    registry = Registry(1, *[DriverUnavailable("no engine answers")] * 3)
    assert (await Gateway(registry, new()).settle()).latest.state == "Active"
    assert len(registry.asked) == 4
    registry = Registry(0, *[DriverUnavailable("no engine answers")] * (ATTEMPTS + 1))
    began_s = asyncio.get_running_loop().time()
    found = (await Gateway(registry, new()).settle()).latest
    assert (found.state, found.state_reason_code) == ("Failed", "InternalError")
    assert asyncio.get_running_loop().time() - began_s == pytest.approx((ATTEMPTS - 1) * AGAIN_S)


async def test_function_that_was_deleted_meanwhile_stays_so() -> None:
    gateway = Gateway(Registry(600), new())
    await gateway.changes.change("f", lambda _: (gateway.function, None))
    gateway.pulling.begin(gateway.function.latest)
    await gateway.changes.change("f", lambda _: (None, None))
    await gateway.pulling._tasks.join()
    assert gateway.store.saved["f"] is None


async def test_function_that_was_made_anew_for_another_architecture_has_its_own_image() -> None:
    gateway = Gateway(Registry(600), new())
    await gateway.changes.change("f", lambda _: (gateway.function, None))
    gateway.pulling.begin(gateway.function.latest)
    anew = dataclasses.replace(gateway.function, versions={LATEST: new(image=images.on_its_way("slow:1", Architecture.ARM64))})
    await gateway.changes.change("f", lambda _: (None, None))
    await gateway.changes.change("f", lambda _: (anew, None))
    await gateway.pulling._tasks.join()
    assert gateway.store.saved["f"] == anew, "what it waits for is still on its way"
    gateway.pulling.begin(anew.latest)
    await gateway.pulling._tasks.join()
    found = gateway.store.saved["f"]
    assert found is not None
    assert (found.latest.state, found.latest.architecture) == ("Active", Architecture.ARM64)


def test_progress_is_that_of_all_layers() -> None:
    progress = Progress()
    lines: list[tuple[dict[str, Any], tuple[int, int] | None]] = [
        ({"status": "Pulling from library/x", "id": "latest"}, None),
        ({"status": "Already exists", "id": "a"}, None),
        ({"status": "Downloading", "id": "b", "progressDetail": {"current": 10, "total": 100}}, (10, 100)),
        ({"status": "Downloading", "id": "c", "progressDetail": {"current": 1, "total": 50}}, (11, 150)),
        ({"status": "Download complete", "id": "b"}, (101, 150)),
        ({"status": "Extracting", "id": "b", "progressDetail": {"current": 5, "total": 300}}, (101, 150)),
        ({"status": "Pull complete", "id": "c"}, (150, 150)),
    ]
    for line, far in lines:
        assert progress.told(line) == far
