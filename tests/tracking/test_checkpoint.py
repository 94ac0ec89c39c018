"""A checkpoint is read back exactly or refused; reading one runs no code; a killed writer leaves a whole file."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import os
import pickle
import random
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from stable_baselines3 import PPO

from hamiltonian_rl.errors import CheckpointError, RunStorageError
from hamiltonian_rl.tracking.checkpoint import is_sb3_file, read_checkpoint, write_checkpoint

DTYPES = ["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]
DTYPES += ["float16", "float32", "float64"]
arrays = st.sampled_from(DTYPES).flatmap(lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, min_side=0)))
numbers = st.integers() | st.floats() | st.sampled_from([2**127, -(2**127) - 1, -0.0, 5e-324])
leaves = st.none() | st.booleans() | numbers | st.text() | arrays | arrays.map(np.asfortranarray)
trees = st.recursive(
    leaves | st.sampled_from(DTYPES).map(lambda dtype: np.dtype(dtype).type(1)),
    lambda parts: st.lists(parts) | st.lists(parts).map(tuple) | st.dictionaries(st.text(), parts),
    max_leaves=15,
)
TREE = {"weights": np.arange(12.0).reshape(3, 4), "count": 2**127, "name": "λ", "parts": [1.5, None, np.int8(3)]}


def exact(tree: Any) -> Any:
    """Return the tree in a form in which equal means equal to the bit; tuples count as lists."""
    if isinstance(tree, dict):
        return {key: exact(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [exact(value) for value in tree]
    if isinstance(tree, np.ndarray | np.generic):
        return type(tree).__name__, tree.dtype.str, tree.shape, tree.tobytes()
    return type(tree).__name__, repr(tree)  # repr tells -0.0 from 0.0, and finds nan equal to nan


@given(trees)
@settings(max_examples=80, deadline=None)
def test_what_is_read_is_what_was_written(tree: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "λ ☕.zip"
        write_checkpoint(path, tree)
        assert exact(read_checkpoint(path)) == exact(tree)
        assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    "tree",
    [
        {"__array__": "x", "array": np.arange(3)},
        "\udc80",
        {"\ud800": 1},
        {"": {"": []}},
        float("nan"),
        np.float32("nan"),
        np.array([np.nan, -np.inf]),
        {},
    ],
    ids=repr,
)
def test_trees_that_look_odd_are_read_back_too(tmp_path: Path, tree: Any) -> None:
    write_checkpoint(tmp_path / "odd.zip", tree)
    assert exact(read_checkpoint(tmp_path / "odd.zip")) == exact(tree)


@pytest.mark.parametrize("tree", [{"__array__": "0"}, {"__scalar__": "0"}, {"a": {"__array__": np.arange(3)}}])
def test_a_dict_that_looks_like_a_reference_is_read_back_or_refused_at_once(tmp_path: Path, tree: Any) -> None:
    """Never may a checkpoint be written that cannot be read."""
    try:
        write_checkpoint(tmp_path / "odd.zip", tree)
    except TypeError:
        return
    assert exact(read_checkpoint(tmp_path / "odd.zip")) == exact(tree)


def test_an_array_in_fortran_order_and_a_view_are_read_back_by_value(tmp_path: Path) -> None:
    whole = np.arange(24.0).reshape(4, 6)
    tree = [np.asfortranarray(whole), whole[::2, ::-1], whole.T]
    write_checkpoint(tmp_path / "a.zip", tree)
    for one, other in zip(read_checkpoint(tmp_path / "a.zip"), tree, strict=True):
        assert one.tolist() == other.tolist()


def test_arrays_that_were_read_can_be_written_to_and_are_apart(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "a.zip", [np.zeros(3), np.zeros(3)])
    one, other = read_checkpoint(tmp_path / "a.zip")
    one += 1
    assert other.tolist() == [0, 0, 0]


def test_one_array_in_two_places_is_read_back_in_both(tmp_path: Path) -> None:
    array = np.arange(3)
    write_checkpoint(tmp_path / "a.zip", {"one": array, "two": array})
    assert {name: value.tolist() for name, value in read_checkpoint(tmp_path / "a.zip").items()} == {
        "one": [0, 1, 2],
        "two": [0, 1, 2],
    }


@pytest.mark.parametrize(
    "leaf",
    [
        np.array([None]),
        np.array([{"a": 1}], dtype=object),
        np.array(["text"]),
        np.array([1j]),
        np.longdouble(1),
        np.zeros(2, [("field", int)]),
        {1, 2},
        b"bytes",
        1j,
        object(),
        print,
        {1: "a key that is no text"},
        {(1, 2): 3},
        torch.zeros(2),
    ],
    ids=lambda leaf: type(leaf).__name__ + (str(leaf.dtype) if hasattr(leaf, "dtype") else ""),
)
def test_what_is_no_plain_data_is_a_type_error_and_leaves_no_file(tmp_path: Path, leaf: Any) -> None:
    with pytest.raises(TypeError):
        write_checkpoint(tmp_path / "a.zip", {"part": [leaf]})
    assert list(tmp_path.iterdir()) == []


# Damage


@pytest.fixture(scope="module")
def whole() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint(Path(folder) / "a.zip", TREE)
        return (Path(folder) / "a.zip").read_bytes()


def refused_or_same(path: Path, data: bytes) -> bool:
    """Return whether a damaged file is refused; if it is not, what it holds is exactly what was written."""
    path.write_bytes(data)
    try:
        tree = read_checkpoint(path)
    except CheckpointError:
        return True
    assert exact(tree) == exact(TREE)
    return False


def test_a_changed_byte_is_refused_or_makes_no_difference(tmp_path: Path, whole: bytes) -> None:
    generator = random.Random(0)
    refused = 0
    for position in generator.sample(range(len(whole)), min(300, len(whole))):
        damaged = bytearray(whole)
        damaged[position] ^= generator.randrange(1, 256)
        refused += refused_or_same(tmp_path / "damaged.zip", bytes(damaged))
    assert refused > 150  # the data, its checksums and its sizes are most of the file


# In a zip's central directory (PK 1 2): what happens where a member claims to be encrypted or compressed.
@pytest.mark.parametrize(
    ("offset", "value"),
    [(8, 1), (10, 8), (10, 9), (10, 12), (10, 14), (10, 93)],
    ids=["encrypted", "deflate", "deflate64", "bzip2", "lzma", "zstd"],
)
@pytest.mark.parametrize("member", [0, 1, 2])
def test_a_member_that_claims_to_be_encrypted_or_compressed_is_refused(
    tmp_path: Path, whole: bytes, member: int, offset: int, value: int
) -> None:
    position = -1
    for _ in range(member + 1):
        position = whole.index(b"PK\x01\x02", position + 1)
    damaged = bytearray(whole)
    damaged[position + offset] = value
    assert refused_or_same(tmp_path / "damaged.zip", bytes(damaged))


def test_every_truncation_is_refused(tmp_path: Path, whole: bytes) -> None:
    lengths = {0, 1, 4, len(whole) - 1, *random.Random(0).sample(range(len(whole)), min(200, len(whole)))}
    assert all(refused_or_same(tmp_path / "short.zip", whole[:length]) for length in lengths)


def test_a_file_of_zeros_as_a_crashed_disk_leaves_it_is_refused(tmp_path: Path, whole: bytes) -> None:
    assert refused_or_same(tmp_path / "a.zip", bytes(len(whole)))
    assert refused_or_same(tmp_path / "a.zip", whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2))


def test_a_missing_file_a_folder_and_a_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"There is no file .*nowhere\.zip"):
        read_checkpoint(tmp_path / "nowhere.zip")
    with pytest.raises(CheckpointError, match=tmp_path.name):
        read_checkpoint(tmp_path)
    (tmp_path / "notes.txt").write_text("no checkpoint")
    with pytest.raises(CheckpointError, match=r"notes\.txt is damaged or no checkpoint"):
        read_checkpoint(tmp_path / "notes.txt")
    with pytest.raises(CheckpointError):
        read_checkpoint(tmp_path / "notes.txt" / "below")


# Planted files: each would run code if it were unpickled


class Exploit:
    """Touches a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return Path.touch, (self.marker,)


def plant_members(path: Path, members: dict[str, bytes], *, honest_sums: bool = True) -> None:
    """Write our own kind of zip with any content, and checksums that match it."""
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in members.items())
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
        if honest_sums:
            archive.writestr("SHA256SUMS", sums)


def plant_pickle(path: Path, payload: Any) -> None:
    path.write_bytes(pickle.dumps(payload))


def plant_torch(path: Path, payload: Any) -> None:
    torch.save({"state": payload}, path)


def plant_npy(path: Path, payload: Any) -> None:
    with path.open("wb") as file:
        np.save(file, np.array([payload], dtype=object), allow_pickle=True)


def plant_npz(path: Path, payload: Any) -> None:
    with path.open("wb") as file:
        np.savez(file, tree=np.array([payload], dtype=object))


def plant_tree(path: Path, payload: Any) -> None:
    plant_members(path, {"tree.json": pickle.dumps(payload), "arrays.safetensors": safetensors.numpy.save({})})


def plant_arrays(path: Path, payload: Any) -> None:
    plant_members(path, {"tree.json": b'{"__array__": "0"}', "arrays.safetensors": pickle.dumps(payload)})


def plant_both_and_sums(path: Path, payload: Any) -> None:
    raw = pickle.dumps(payload)
    plant_members(path, dict.fromkeys(("tree.json", "arrays.safetensors", "SHA256SUMS"), raw), honest_sums=False)


def plant_npy_as_arrays(path: Path, payload: Any) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.array([payload], dtype=object), allow_pickle=True)
    plant_members(path, {"tree.json": b'{"__array__": "0"}', "arrays.safetensors": buffer.getvalue()})


def unpickle_member(name: str) -> Callable[[Path], Any]:
    return lambda path: pickle.loads(zipfile.ZipFile(path).read(name))


# How a file is planted, and how a careless reader would be caught by it.
PLANTS: dict[str, tuple[Callable[[Path, Any], None], Callable[[Path], Any]]] = {
    "pickle": (plant_pickle, lambda path: pickle.loads(path.read_bytes())),
    "torch.save": (plant_torch, lambda path: torch.load(path, weights_only=False)),
    "npy": (plant_npy, lambda path: np.load(path, allow_pickle=True)),
    "npz": (plant_npz, lambda path: np.load(path, allow_pickle=True)["tree"]),
    "our tree": (plant_tree, unpickle_member("tree.json")),
    "our arrays": (plant_arrays, unpickle_member("arrays.safetensors")),
    "our zip, all members": (plant_both_and_sums, unpickle_member("SHA256SUMS")),
    "our arrays as npy": (
        plant_npy_as_arrays,
        lambda path: np.load(io.BytesIO(zipfile.ZipFile(path).read("arrays.safetensors")), allow_pickle=True),
    ),
}


@pytest.mark.parametrize("kind", PLANTS)
def test_a_planted_pickle_is_refused_and_does_not_run(tmp_path: Path, kind: str) -> None:
    plant, read_carelessly = PLANTS[kind]
    marker, path = tmp_path / "marker", tmp_path / "planted.zip"
    plant(path, Exploit(marker))
    with pytest.raises(CheckpointError, match=r"planted\.zip"):
        read_checkpoint(path)
    assert not marker.exists()
    read_carelessly(path)
    assert marker.exists(), "The planted file is harmless: the test proves nothing."


@pytest.fixture(scope="module")
def sb3_model() -> bytes:
    buffer = io.BytesIO()
    PPO("MlpPolicy", "CartPole-v1", n_steps=32, batch_size=32, n_epochs=1, seed=0, device="cpu").learn(32).save(buffer)
    return buffer.getvalue()


def test_an_sb3_file_with_a_planted_pickle_is_refused_and_does_not_run(tmp_path: Path, sb3_model: bytes) -> None:
    marker, path = tmp_path / "marker", tmp_path / "model.zip"
    with zipfile.ZipFile(io.BytesIO(sb3_model)) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "data":
                settings_of_model = json.loads(data)
                payload = base64.b64encode(pickle.dumps(Exploit(marker))).decode()
                settings_of_model["clip_range"] = {":type:": "function", ":serialized:": payload}
                data = json.dumps(settings_of_model).encode()
            if name == "policy.pth":
                buffer = io.BytesIO()
                torch.save({"weights": Exploit(marker)}, buffer)
                data = buffer.getvalue()
            new.writestr(name, data)
    with pytest.raises(CheckpointError, match=r"model\.zip is a Stable-Baselines3 file.*--trust"):
        read_checkpoint(path)
    assert is_sb3_file(path)
    assert not marker.exists()
    with contextlib.suppress(Exception):  # what was planted in policy.pth is no policy
        PPO.load(path, device="cpu")
    assert marker.exists(), "The planted file is harmless: the test proves nothing."


def test_only_an_sb3_file_passes_for_one(tmp_path: Path, sb3_model: bytes, whole: bytes) -> None:
    for data, expected in ((sb3_model, True), (whole, False), (b"text", False), (sb3_model[:-30], False)):
        (tmp_path / "file.zip").write_bytes(data)
        assert is_sb3_file(tmp_path / "file.zip") is expected
    assert not is_sb3_file(tmp_path)
    assert not is_sb3_file(tmp_path / "nowhere.zip")


@pytest.mark.parametrize(
    "tree",
    [
        b"[" * 100_000 + b"]" * 100_000,
        b'{"__array__": []}',
        b'{"__array__": {"a": 1}}',
        b'{"__array__": "missing"}',
        b'{"__array__": null}',
        b"",
        b"\xff\xfe",
    ],
    ids=["too deep", "list", "dict", "missing", "null", "empty", "no text"],
)
def test_nonsense_with_matching_checksums_is_refused(tmp_path: Path, tree: bytes) -> None:
    arrays = safetensors.numpy.save({"0": np.zeros(3)})
    plant_members(tmp_path / "a.zip", {"tree.json": tree, "arrays.safetensors": arrays})
    with pytest.raises(CheckpointError, match=r"a\.zip"):
        read_checkpoint(tmp_path / "a.zip")


def test_a_file_without_its_checksums_or_with_another_member_is_refused(tmp_path: Path) -> None:
    members = {"tree.json": b"{}", "arrays.safetensors": safetensors.numpy.save({})}
    plant_members(tmp_path / "a.zip", members)
    assert read_checkpoint(tmp_path / "a.zip") == {}
    plant_members(tmp_path / "a.zip", members, honest_sums=False)
    with pytest.raises(CheckpointError, match="is no checkpoint of this toolkit"):
        read_checkpoint(tmp_path / "a.zip")
    plant_members(tmp_path / "a.zip", {**members, "extra.pkl": b""})
    with pytest.raises(CheckpointError, match="is no checkpoint of this toolkit"):
        read_checkpoint(tmp_path / "a.zip")


def test_a_member_that_was_exchanged_does_not_match_its_checksum(tmp_path: Path, whole: bytes) -> None:
    """The zip's own checksums are right, as they are where somebody edits a member with an archiver."""
    for name, data in (("tree.json", b"{}"), ("arrays.safetensors", safetensors.numpy.save({}))):
        with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(tmp_path / "a.zip", "w") as new:
            for member in old.namelist():
                new.writestr(member, data if member == name else old.read(member))
        with pytest.raises(CheckpointError, match=rf"a\.zip was altered: the checksum of {name}"):
            read_checkpoint(tmp_path / "a.zip")


# Whole or absent

# Reads the number of the last version, starts a writer of all later ones, says its process id, and waits for its end.
WRITER = """
import os, sys
from pathlib import Path
import numpy as np
from hamiltonian_rl.tracking.checkpoint import write_checkpoint

path = Path(sys.argv[1])
for line in sys.stdin:
    version = int(line)
    worker = os.fork()
    while worker == 0:
        version += 1
        write_checkpoint(path, {"version": version, "array": np.full(20_000, version)})
    print(worker, flush=True)
    os.waitpid(worker, 0)
    print("dead", flush=True)
"""


def test_whoever_is_killed_at_any_moment_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    write_checkpoint(path, {"version": 0, "array": np.full(20_000, 0)})
    generator = random.Random(0)
    versions = [0]
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdin is not None
        assert writer.stdout is not None
        for _ in range(20):
            writer.stdin.write(f"{versions[-1]}\n")
            writer.stdin.flush()
            worker = int(writer.stdout.readline())
            time.sleep(generator.uniform(0, 0.1))  # a version takes a few milliseconds to write, on a busy machine tens
            os.kill(worker, signal.SIGKILL)
            assert writer.stdout.readline() == "dead\n"
            tree = read_checkpoint(path)
            assert (tree["array"] == tree["version"]).all()
            versions.append(tree["version"])
        writer.stdin.close()
    assert versions == sorted(versions), "An older version came back."
    assert versions[-1] > 0, "No version was ever written: the test proves nothing."
    write_checkpoint(path, TREE)
    assert exact(read_checkpoint(path)) == exact(TREE)


FULL_DISK = """
import resource, sys
import numpy as np
from hamiltonian_rl.errors import RunStorageError
from hamiltonian_rl.tracking.checkpoint import write_checkpoint

resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
try:
    write_checkpoint(sys.argv[1], {"array": np.zeros(100_000)})
except RunStorageError as error:
    print(error)
"""


def run_child(program: str, *arguments: Any) -> str:
    """Run a program of its own and return what it printed."""
    command = [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


@pytest.mark.parametrize("limit", [0, 500_000])
def test_a_full_disk_is_a_storage_error_and_the_earlier_file_stays_whole(tmp_path: Path, limit: int) -> None:
    path = tmp_path / "a.zip"
    write_checkpoint(path, TREE)
    message = run_child(FULL_DISK, path, limit)
    assert str(path) in message
    assert "File too large" in message
    assert "Free space" in message
    assert exact(read_checkpoint(path)) == exact(TREE)
    assert [file.name for file in tmp_path.iterdir()] == ["a.zip"]


def test_a_folder_that_cannot_be_written_to_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    # Root may write anywhere but below a file, in a folder that is not there, or among the kernel's processes.
    for path in (tmp_path / "file" / "a.zip", tmp_path / "nowhere" / "a.zip", Path("/proc/a.zip")):
        with pytest.raises(RunStorageError, match=f"Cannot write {path}"):
            write_checkpoint(path, TREE)


def test_a_folder_in_the_place_of_the_file_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "a.zip").mkdir()
    with pytest.raises(RunStorageError, match=r"Cannot write .*a\.zip"):
        write_checkpoint(tmp_path / "a.zip", TREE)
    assert [file.name for file in tmp_path.iterdir()] == ["a.zip"]


def test_an_error_while_writing_leaves_the_earlier_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_checkpoint(tmp_path / "a.zip", TREE)

    def interrupted(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_checkpoint(tmp_path / "a.zip", {})
    monkeypatch.undo()
    assert exact(read_checkpoint(tmp_path / "a.zip")) == exact(TREE)
    assert [file.name for file in tmp_path.iterdir()] == ["a.zip"]


def test_a_file_whose_checksums_were_taken_away_is_refused(tmp_path):
    file = tmp_path / "some.zip"
    write_checkpoint(file, {"seed": 1, "a": np.arange(3)})
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["tree.json"] = members["tree.json"].replace(b"1", b"2", 1)
    members["SHA256SUMS"] = b""
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    with pytest.raises(CheckpointError, match=r"tree\.json does not match"):
        read_checkpoint(file)
