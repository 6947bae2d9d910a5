"""The cache on disk: damaged entries, several writers at once, the size bound, disks that refuse."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tilewright.compiler.backend.versions import KERNEL_SOURCES, source_digest, tool_versions
from tilewright.runtime import cache as cache_module
from tilewright.runtime.cache import Cache, default_folder, make_key


def test_keeps_and_finds(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    key = make_key("a", "b")
    assert cache.get("kernels", key) is None
    cache.put("kernels", key, b"content")
    assert Cache(tmp_path).get("kernels", key) == b"content"
    assert (cache.hits, cache.misses) == (0, 1)


def test_key_depends_on_every_part_and_its_borders() -> None:
    keys = {make_key(*parts) for parts in (("a", "b"), ("ab", ""), ("", "ab"), ("a", "b", ""), ("a", "c"))}
    assert len(keys) == 5


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-1], lambda b: b"x" + b[1:], lambda b: b"", lambda b: b[:40] + b"!"]
)
def test_damaged_entry_is_not_found_and_removed(tmp_path: Path, damage) -> None:
    cache, key = Cache(tmp_path), make_key("k")
    cache.put("kernels", key, b"something of some length")
    path = cache.path("kernels", key)
    path.write_bytes(damage(path.read_bytes()))
    assert cache.get("kernels", key) is None
    assert not path.exists()
    cache.put("kernels", key, b"again")
    assert cache.get("kernels", key) == b"again"


def test_many_threads_and_one_key_see_whole_entries(tmp_path: Path) -> None:
    key, wrong = make_key("k"), []

    def work(number: int) -> None:
        cache = Cache(tmp_path)
        for _ in range(40):
            cache.put("kernels", key, bytes([number]) * 5000)
            found = cache.get("kernels", key)
            if found is None or len(found) != 5000 or len(set(found)) != 1:
                wrong.append(found)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert not list(tmp_path.rglob(".writing-*"))


def test_two_processes_at_once(tmp_path: Path) -> None:
    code = """
import sys; from pathlib import Path
from tilewright.runtime.cache import Cache, make_key
cache = Cache(Path(sys.argv[1]), limit=20000)
for round in range(60):
    key = make_key(str(round % 7))
    found = cache.get("kernels", key)
    assert found is None or found == str(round % 7).encode() * 3000, found
    cache.put("kernels", key, str(round % 7).encode() * 3000)
    cache.trim()
"""
    processes = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) for _ in range(2)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0]


def test_trim_evicts_what_was_not_used_for_longest(tmp_path: Path) -> None:
    cache = Cache(tmp_path, limit=10_000)
    keys = [make_key(str(number)) for number in range(12)]
    for age, key in enumerate(keys):
        cache.put("kernels", key, b"x" * 1000)
        os.utime(cache.path("kernels", key), (age, age))
    assert cache.get("kernels", keys[0]) is not None  # used just now, so it stays
    assert cache.trim() > 0
    assert cache.size() <= 8000
    assert cache.get("kernels", keys[0]) is not None
    assert cache.get("kernels", keys[1]) is None
    assert cache.get("kernels", keys[-1]) is not None
    assert cache.trim() == 0  # nothing written since


def test_disk_that_refuses_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    cache = Cache(blocked)
    cache.put("kernels", make_key("k"), b"content")
    assert cache.get("kernels", make_key("k")) is None

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache_module.os, "replace", full)
    cache = Cache(tmp_path / "good")
    cache.put("kernels", make_key("k"), b"content")
    assert cache.get("kernels", make_key("k")) is None
    assert not list((tmp_path / "good").rglob(".writing-*"))
    assert cache.trim() == 0


def test_folder_is_chosen_by_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TILEWRIGHT_CACHE", str(tmp_path / "own"))
    assert default_folder() == tmp_path / "own"
    monkeypatch.delenv("TILEWRIGHT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "tilewright"


def test_versions_name_the_tools() -> None:
    assert "missing" not in tool_versions()
    assert "xtc_mlir_python_bindings=22" in tool_versions()
    assert source_digest() != source_digest(KERNEL_SOURCES)
