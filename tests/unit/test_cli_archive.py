"""From a directory to a deployment package, and to the runtime and handler that its files tell."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import pytest

from gateway.cli.archive import Ignore, files_of, pack, read_ignore
from gateway.cli.detect import NothingFound, detect


def write(directory: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return directory


def names(directory: Path) -> list[str]:
    return [name for _, name in files_of(directory, read_ignore(directory))]


# Answers of `git check-ignore` 2.39 for these patterns and paths.
@pytest.mark.parametrize(
    ("pattern", "path", "directory", "left_out"),
    [
        ("*.log", "a.log", False, True),
        ("*.log", "deep/er/a.log", False, True),
        ("*.log", "a.log.txt", False, False),
        ("/a.log", "deep/a.log", False, False),
        ("/a.log", "a.log", False, True),
        ("build/", "build", False, False),
        ("build/", "build", True, True),
        ("build/", "src/build", True, True),
        ("docs/*.md", "docs/a.md", False, True),
        ("docs/*.md", "docs/sub/a.md", False, False),
        ("docs/*.md", "x/docs/a.md", False, False),
        ("docs/**/a.md", "docs/a.md", False, True),
        ("docs/**/a.md", "docs/x/y/a.md", False, True),
        ("**/secret", "x/secret", False, True),
        ("a?c", "abc", False, True),
        ("a?c", "a/c", False, False),
        ("[ab].py", "a.py", False, True),
        ("[!ab].py", "a.py", False, False),
        ("# comment", "# comment", False, False),
        (r"\#file", "#file", False, True),
        ("", "a", False, False),
    ],
)
def test_patterns_mean_what_they_mean_to_git(pattern: str, path: str, directory: bool, left_out: bool) -> None:
    assert Ignore((pattern,))(path, directory=directory) is left_out


def test_last_match_decides() -> None:
    ignore = Ignore(("*.txt", "!keep.txt", "deep/keep.txt"))
    assert [ignore(path, directory=False) for path in ("a.txt", "keep.txt", "deep/keep.txt")] == [True, False, True]


def test_package_holds_what_is_not_left_out(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "app.py": "", "lib/x.py": "", "lib/__pycache__/x.pyc": "", ".git/config": "", ".venv/bin/python": "", "notes.md": "",
            ".lambentignore": "*.md\n", ".gitignore": "lib/\n",
        },
    )  # fmt: skip
    assert names(tmp_path) == [".gitignore", "app.py", "lib/x.py"]


def test_same_files_make_the_same_bytes(tmp_path: Path) -> None:
    first = write(tmp_path / "1", {"b.py": "b", "a.py": "a"})
    second = write(tmp_path / "2", {"a.py": "a", "b.py": "b"})
    os.utime(second / "a.py", (1, 1))
    packages = [pack(files_of(directory, read_ignore(directory)), lambda _: None) for directory in (first, second)]
    assert packages[0] == packages[1]


def test_permission_to_execute_is_kept(tmp_path: Path) -> None:
    write(tmp_path, {"bootstrap": "#!/bin/sh\n", "data": "x"})
    (tmp_path / "bootstrap").chmod(0o700)
    (tmp_path / "data").chmod(0o600)
    archive = zipfile.ZipFile(io.BytesIO(pack(files_of(tmp_path, read_ignore(tmp_path)), lambda _: None)))
    assert [oct(info.external_attr >> 16) for info in archive.infolist()] == ["0o100755", "0o100644"]


def test_links_are_followed_and_loops_end(tmp_path: Path) -> None:
    directory = write(tmp_path / "function", {"app.py": "x"})
    write(tmp_path / "shared", {"util.py": "y"})
    (directory / "shared").symlink_to(tmp_path / "shared")
    (directory / "loop").symlink_to(directory)
    (directory / "broken").symlink_to(tmp_path / "nowhere")
    assert names(directory) == ["app.py", "shared/util.py"]


@pytest.mark.parametrize(
    ("files", "runtime", "handler"),
    [
        ({"lambda_function.py": "def lambda_handler(event, context): ..."}, "python3.11", "lambda_function.lambda_handler"),
        ({"app.py": "async def helper(): ...\ndef handler(e, c): ..."}, "python3.11", "app.handler"),
        ({"app.py": "app = 1", "main.py": "def main(e, c): ..."}, "python3.11", "main.main"),
        ({"app.py": "from mangum import Mangum\nhandler = Mangum(None)"}, "python3.11", "app.handler"),
        ({"main.py": "from service import handle as handler"}, "python3.11", "main.handler"),
        ({"strange.py": "def handler(e, c): ..."}, "python3.11", "strange.handler"),
        ({"app.py": "def handler(e, c): ...", ".python-version": "3.9.18\n"}, "python3.9", "app.handler"),
        ({"bootstrap": "#!/bin/sh", "app.py": "def handler(e, c): ..."}, "provided.al2023", "bootstrap"),
        ({"index.mjs": "export const handler = async (event) => {}"}, "nodejs22.x", "index.handler"),
        ({"index.js": "exports.handler = async (event) => {}"}, "nodejs22.x", "index.handler"),
        ({"app.js": "module.exports.lambdaHandler = async () => {}"}, "nodejs22.x", "app.lambdaHandler"),
        ({"index.js": "const handler = f\nmodule.exports = { other: 1, handler }"}, "nodejs22.x", "index.handler"),
        ({"index.mjs": "async function handler() {}\nexport { handler };"}, "nodejs22.x", "index.handler"),
        ({"index.mjs": "export async function handler() {}", ".nvmrc": "v20.11\n"}, "nodejs20.x", "index.handler"),
        ({"index.js": "exports.handler = f", ".node-version": "lts/iron"}, "nodejs22.x", "index.handler"),
    ],
)
def test_files_tell_runtime_and_handler(files: dict[str, str], runtime: str, handler: str, tmp_path: Path) -> None:
    found = detect(write(tmp_path, files), ["python3.11", "python3.13"])
    assert (found.runtime, found.handler) == (runtime, handler)


def test_the_newest_node_that_is_there_is_taken(tmp_path: Path) -> None:
    found = detect(write(tmp_path, {"index.js": "exports.handler = f"}), ["python3.11"], ["nodejs20.x", "nodejs18.x"])
    assert found.runtime == "nodejs20.x"


@pytest.mark.parametrize("files", [{}, {"a.py": "def handler(): ...", "b.py": "def handler(): ..."}, {"app.py": "x = 1"}])
def test_directory_that_does_not_tell(files: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(NothingFound, match="Say it with --runtime and --handler"):
        detect(write(tmp_path, files), ["python3.11"])


def test_file_that_does_not_parse_is_named_with_its_line(tmp_path: Path) -> None:
    write(tmp_path, {"app.py": "x = 1\ndef handler(:\n"})
    with pytest.raises(NothingFound, match=r"app\.py cannot be parsed: .* in line 2"):
        detect(tmp_path, ["python3.11"])
