"""What is said of functions that cannot run here or are not likely to work, and what the driver is told that they need."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Collection

import pytest

from gateway.advice import Advice
from gateway.records import Function, FunctionVersion, ImageCode, LayerVersion, UsedLayer
from sandbox.driver import Support
from sandbox.fake_driver import FakeDriver, FakeRuntime
from sandbox.native.driver import HOST_ARCHITECTURE
from sandbox.spec import Architecture, Image, StemKey
from tests.sim.records import function, version

HERE = HOST_ARCHITECTURE or Architecture.X86_64
OTHER = Architecture.ARM64 if HERE is Architecture.X86_64 else Architecture.X86_64
ARN = "arn:aws:lambda:eu-west-1:123456789012:layer:agent:1"


async def _nothing(_: FakeRuntime) -> None:
    """No sandbox is made."""


class Driver(FakeDriver):
    """Knows at once what the host lacks; a look finds out that there is no image, and takes until the test says so."""

    def __init__(self) -> None:
        super().__init__(_nothing)
        self.kept: list[set[StemKey]] = []
        self.looks: list[StemKey] = []
        self.go = asyncio.Event()

    def support(self, key: StemKey) -> Support:
        return Support(key.runtime != "ruby3.3", "install Ruby 3.3")

    async def look(self, key: StemKey) -> Support:
        self.looks.append(key)
        await self.go.wait()
        return Support(key.architecture is HERE, "make its image")

    def keep(self, keys: Collection[StemKey]) -> None:
        self.kept.append(set(keys))


def of(**changes: object) -> FunctionVersion:
    return dataclasses.replace(version(), **{"architecture": HERE, **changes})  # type: ignore[arg-type]


def image(digit: str, architecture: str) -> ImageCode:
    return ImageCode(uri="name", image=Image(id=f"sha256:{digit * 64}", resolved_uri="", size_bytes=1, architecture=architecture))


def layer(runtimes: tuple[str, ...] | None, architectures: tuple[str, ...] | None) -> LayerVersion:
    return LayerVersion(
        version=1,
        code_sha256="",
        code_size_bytes=1,
        code_key="",
        unzipped_bytes=1,
        created="",
        runtimes=runtimes,
        architectures=architectures,
    )


async def said(advice: Advice, new: Function, caplog: pytest.LogCaptureFixture) -> list[str]:
    caplog.clear()
    with caplog.at_level(logging.WARNING, "gateway"):
        advice.function_changed(None, new)
        for _ in range(5):
            await asyncio.sleep(0)
    return [record.getMessage() for record in caplog.records]


async def test_what_the_host_lacks_is_said_at_once(caplog: pytest.LogCaptureFixture) -> None:
    driver = Driver()
    advice = Advice(driver, lambda arn: None)
    assert await said(advice, function(of()), caplog) == []
    found = await said(advice, function(of(runtime="ruby3.3")), caplog)
    assert found == ["function echo: it cannot run here: install Ruby 3.3"]
    assert driver.looks == []
    driver.go.set()
    assert await advice.of(of(runtime="python3.11")) == []
    await advice.close()


async def test_foreign_architectures_are_looked_at_once_for_all(caplog: pytest.LogCaptureFixture) -> None:
    driver = Driver()
    advice = Advice(driver, lambda arn: None)
    assert await said(advice, function(of(architecture=OTHER)), caplog) == [], "it is not known yet"
    asyncio.get_running_loop().call_soon(driver.go.set)
    assert await advice.of(of(architecture=OTHER)) == ["it cannot run here: make its image"]
    for _ in range(5):
        await asyncio.sleep(0)
    assert [record.getMessage() for record in caplog.records] == ["function echo: it cannot run here: make its image"]
    assert driver.looks == [StemKey("python3.11", OTHER)]
    await advice.close()


async def test_a_function_larger_than_the_machine_is_spoken_of_when_it_becomes_so(caplog: pytest.LogCaptureFixture) -> None:
    driver = Driver()
    driver.go.set()
    advice = Advice(driver, lambda arn: None, memory_mb=808.0)
    small = function(of(memory_mb=808))
    assert await said(advice, small, caplog) == []
    large = function(of(memory_mb=3008))
    advice.function_changed(small, large)
    advice.function_changed(large, large)
    sentence = "it cannot run here: it needs 3,008 MB, and all sandboxes together may take 808 MB (memory_budget_mb)"
    assert [record.getMessage() for record in caplog.records] == [f"function echo: {sentence}"]
    assert await advice.of(of(memory_mb=3008)) == [sentence]
    await advice.close()


@pytest.mark.parametrize(
    ("runtimes", "architectures", "told"),
    [
        (None, None, []),
        (("python3.11", "python3.12"), (HERE.value,), []),
        (("nodejs22.x",), None, [f"layer {ARN} says that it is for nodejs22.x, not for python3.11"]),
        (None, (OTHER.value,), [f"layer {ARN} says that it is for {OTHER}, not for {HERE}"]),
    ],
)
async def test_layers_are_taken_as_on_aws_and_spoken_of(
    runtimes: tuple[str, ...] | None, architectures: tuple[str, ...] | None, told: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """AWS CDK, pull request 16719: "Lambda service allows layers configured with one architecture" with functions of another."""
    driver = Driver()
    advice = Advice(driver, {ARN: layer(runtimes, architectures)}.get)
    used = of(layers=(UsedLayer(arn=ARN, code_size_bytes=1, unzipped_bytes=1),))
    assert await said(advice, function(used), caplog) == [f"function echo: {one}" for one in told]
    gone = Advice(driver, lambda arn: None)
    assert await said(gone, function(used), caplog) == [], "it may have been deleted, and works where it is used"
    await advice.close()
    await gone.close()


async def test_image_of_another_architecture_is_spoken_of() -> None:
    driver = Driver()
    driver.go.set()
    advice = Advice(driver, lambda arn: None)
    names = {Architecture.X86_64: "amd64", Architecture.ARM64: "arm64"}
    assert await advice.of(of(image=image("1", names[HERE]))) == []
    (sentence,) = await advice.of(of(image=image("1", names[OTHER])))
    assert "exec format error" in sentence
    await advice.close()


async def test_the_driver_is_told_once_what_all_need() -> None:
    driver = Driver()
    driver.go.set()
    advice = Advice(driver, lambda arn: None)
    first = function(of(runtime="", image=image("1", "amd64")))
    both = function(of(runtime="", image=image("2", "amd64")), of(version="1", runtime="", image=image("1", "amd64")))
    other = function(of(architecture=OTHER), of(version="1"))
    advice.function_changed(None, first)
    advice.function_changed(None, other)
    await asyncio.sleep(0)
    one, two = (StemKey("", HERE, f"sha256:{digit * 64}") for digit in "12")
    foreign = StemKey("python3.11", OTHER)
    assert driver.kept == [{one, foreign}], "what stems of the host's own runtimes need is always there"
    advice.function_changed(first, both)
    await asyncio.sleep(0)
    advice.function_changed(other, None)
    advice.function_changed(both, first)
    await asyncio.sleep(0)
    assert driver.kept[1:] == [{one, two, foreign}, {one}]
    await asyncio.sleep(0)
    await advice.close()
