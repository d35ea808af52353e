"""Settings: where they come from, which one wins, and what is said of a wrong one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.host import MIB, stems
from gateway.settings import DEFINITIONS, SettingError, Settings, load, unknown, variable

HOME = {"HOME": "/home/ada"}


@pytest.fixture(autouse=True)
def not_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "lambent.toml"
    path.write_text('port = 9200\nregion = "eu-west-1"\nfreeze_after_ms = 0\ninsecure = true\ndrain_s = 5\n')
    return path


def test_defaults_need_nothing() -> None:
    found = load({}, HOME)
    assert (found.host, found.port, found.account_id, found.region) == ("127.0.0.1", 9000, "000000000000", "us-east-1")
    assert found.data_dir == Path("/home/ada/.local/share/lambent")


def test_root_keeps_its_data_where_services_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert load({}, HOME).data_dir == Path("/var/lib/lambent")


def test_data_directory_of_xdg_counts_if_it_is_absolute() -> None:
    assert load({}, {**HOME, "XDG_DATA_HOME": "/data"}).data_dir == Path("/data/lambent")
    assert load({}, {**HOME, "XDG_DATA_HOME": "data"}).data_dir == Path("/home/ada/.local/share/lambent")


def test_flag_wins_over_environment_wins_over_file(file: Path) -> None:
    env = {**HOME, "LAMBENT_PORT": "9300", "LAMBENT_REGION": "eu-west-2"}
    found = load({"port": "9400", "region": None}, env, file)
    assert (found.port, found.region, found.freeze_after_ms) == (9400, "eu-west-2", 0)


def test_environment_names_the_file_if_no_flag_does(file: Path) -> None:
    assert load({}, {**HOME, "LAMBENT_CONFIG": str(file)}).port == 9200


def test_empty_variable_says_nothing(file: Path) -> None:
    assert load({}, {**HOME, "LAMBENT_PORT": ""}, file).port == 9200


def test_numbers_of_the_file_have_their_type(file: Path) -> None:
    found = load({}, HOME, file)
    assert (found.drain_s, type(found.drain_s), found.insecure) == (5.0, float, True)


def test_settings_survive_the_way_through_the_environment(file: Path) -> None:
    found = load({"memory_budget_mb": "512", "url_base": "https://fn.example.com"}, HOME, file)
    assert load({}, {**HOME, **found.environment()}) == found


@pytest.mark.parametrize(
    ("flags", "env", "text", "told"),
    [
        ({"port": "nine"}, {}, "", "port: 'nine' is not a whole number (from --port)"),
        (
            {},
            {"LAMBENT_PORT": "tcp://10.0.0.1:9000"},
            "",
            "port: 'tcp://10.0.0.1:9000' is not a whole number (from LAMBENT_PORT)",
        ),
        ({}, {}, "port = 70000", "port: 70000 is more than 65535 (from FILE)"),
        ({}, {}, "port = 90.5", "port: 90.5 is not a whole number (from FILE)"),
        ({}, {}, "port = true", "port: True is not a number (from FILE)"),
        ({}, {}, "region = 5", "region: 5 is not text; put it into quotes (from FILE)"),
        ({}, {}, "region = ['eu-west-1']", "region: ['eu-west-1'] is not text (from FILE)"),
        ({}, {}, "drain_ms = 5", "drain_ms: there is no such setting (from FILE); did you mean drain_s?"),
        ({}, {}, "[zzz]\nport = 1", "zzz: there is no such setting (from FILE); settings stand in no [table]"),
        ({"drain_s": "-1"}, {}, "", "drain_s: '-1' is less than 0 (from --drain-s)"),
        ({"drain_s": "nan"}, {}, "", "drain_s: 'nan' is less than 0 (from --drain-s)"),
        ({"driver": "podman"}, {}, "", "driver: 'podman' is not one of auto, native, docker (from --driver)"),
        ({"account_id": "12"}, {}, "", "account_id: '12' does not look like one, such as 000000000000 (from --account-id)"),
        ({}, {"LAMBENT_INSECURE": "perhaps"}, "", "insecure: 'perhaps' is neither true nor false (from LAMBENT_INSECURE)"),
        ({"url_base": "fn.example.com/x"}, {}, "", "url_base: 'fn.example.com/x' does not look like one (from --url-base)"),
        ({"url_base": "http://h:99999"}, {}, "", "url_base: 'http://h:99999' does not look like one: Port out of range 0-65535"),
        ({}, {}, "url_base = 'http://[::1'", "url_base: 'http://[::1' does not look like one: Invalid IPv6 URL"),
        (
            {"url_base": "http://h:x"},
            {},
            "",
            "url_base: 'http://h:x' does not look like one: Port could not be cast to integer value as 'x'",
        ),
        ({"url_base": "http://:80"}, {}, "", "url_base: 'http://:80' does not look like one: it names no host"),
        ({"network": "bridge"}, {}, "", "network: 'bridge' is not one of auto, nat, none (from --network)"),
        ({"network_allow": "10.0.0.1,db"}, {}, "", "network_allow: 'db' does not appear to be an IPv4 or IPv6 network"),
        ({"network_allow": "10.0.0.1/8"}, {}, "", "network_allow: 10.0.0.1/8 has host bits set"),
        ({"network_range": "10.0.0.0/24"}, {}, "", "network_range: 10.0.0.0/24 is not an IPv4 network from /8 to /22"),
        ({"network_range": "fd00::/16"}, {}, "", "network_range: fd00::/16 is not an IPv4 network from /8 to /22"),
        ({"stems_min": "3", "stems_max": "2"}, {}, "", "stems_max: 2 is less than stems_min, which is 3"),
    ],
)
def test_wrong_settings_are_told_with_their_source(
    flags: dict[str, str], env: dict[str, str], text: str, told: str, tmp_path: Path
) -> None:
    file = tmp_path / "lambent.toml"
    file.write_text(text)
    with pytest.raises(SettingError) as raised:
        load(flags, {**HOME, **env}, file)
    assert str(raised.value) == told.replace("FILE", str(file))


@pytest.mark.parametrize(
    ("asked", "memory_mb", "light", "heavy"),
    [
        ({}, 64 * 1024, (32, 32), (4, 16)),
        ({}, 8 * 1024, (16, 16), (4, 16)),
        ({}, 2 * 1024, (4, 16), (4, 16)),
        ({}, 64, (4, 16), (4, 16)),
        ({"stems_min": "2"}, 64 * 1024, (2, 16), (2, 16)),
        ({"stems_min": "20"}, 64, (20, 20), (20, 20)),
        ({"stems_max": "9"}, 64 * 1024, (9, 9), (4, 9)),
        ({"stems_max": "0"}, 64 * 1024, (0, 0), (0, 0)),
        ({"stems_min": "1", "stems_max": "3"}, 64 * 1024, (1, 3), (1, 3)),
    ],
)
def test_stems_that_take_little_are_more_where_there_is_memory(
    asked: dict[str, str], memory_mb: int, light: tuple[int, int], heavy: tuple[int, int]
) -> None:
    settings = load(asked, HOME)
    assert stems(settings, memory_mb * MIB, light=True) == light
    assert stems(settings, memory_mb * MIB, light=False) == heavy


def test_file_that_is_not_there_or_not_toml(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"config: cannot read .*: No such file"):
        load({}, HOME, tmp_path / "none.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("port 9000")
    with pytest.raises(SettingError, match=r"config: .* is not valid TOML: .*line 1"):
        load({}, HOME, broken)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "lambda.example.com"])
def test_address_that_others_can_reach_is_refused(host: str) -> None:
    with pytest.raises(SettingError, match=r"host: .* can be reached from outside.*--insecure"):
        load({"host": host}, HOME)
    assert load({"host": host, "insecure": True}, HOME).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
def test_loopback_is_safe(host: str) -> None:
    assert load({"host": host}, HOME).host == host


def test_variables_that_nothing_reads_are_told_with_the_nearest_that_is() -> None:
    known = {variable(definition.name): "1" for definition in DEFINITIONS}
    assert unknown({**known, "LAMBENT_CONFIG": "x", "LAMBENT_ENDPOINT": "y", "LAMBENTISH": "z", "PATH": "/bin"}) == []
    assert unknown({"LAMBENT_PROT": "1", "LAMBENT_XYZZY": "2"}) == [
        "LAMBENT_PROT: there is no such setting (from the environment); did you mean LAMBENT_PORT?",
        "LAMBENT_XYZZY: there is no such setting (from the environment)",
    ]


def test_every_setting_is_explained_and_says_its_unit() -> None:
    for definition in DEFINITIONS:
        assert re.fullmatch(r"[A-Z].*\.", definition.help.removesuffix(" "), re.DOTALL) or definition.help[0].islower(), (
            definition
        )
        if definition.kind is float:
            assert definition.name.endswith("_s")
    assert variable("drain_s") == "LAMBENT_DRAIN_S"
    assert {definition.name for definition in DEFINITIONS} == set(Settings.__slots__)
