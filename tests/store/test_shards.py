"""Shards: numpy reads them, equal columns give equal bytes, damage is seen."""

from pathlib import Path

import numpy as np
import pytest

from stepcredit.core.errors import StoreError
from stepcredit.store.shards import read_shard, shard_bytes, write_shard

COLUMNS = {
    "ids": np.arange(1000, dtype=np.int32),
    "logprobs": np.array([np.nan, -1.5], np.float32),
    "trained": np.zeros((2, 3), np.bool_),
    "empty": np.zeros(0, np.int64),
}


def test_round_trip_and_numpy_reads_it(tmp_path: Path):
    shard = write_shard(tmp_path, "round-0001", columns=COLUMNS)
    back = read_shard(tmp_path, shard)
    assert list(back) == list(COLUMNS)
    for name, column in COLUMNS.items():
        assert back[name].dtype == column.dtype
        assert back[name].shape == column.shape
        assert back[name].tobytes() == column.tobytes()
    with np.load(tmp_path / shard.name) as archive:
        np.testing.assert_array_equal(archive["ids"], COLUMNS["ids"])


def test_the_same_columns_are_the_same_file(tmp_path: Path):
    one = write_shard(tmp_path, "r", columns=COLUMNS)
    assert write_shard(tmp_path, "r", columns=COLUMNS) == one
    assert len(list(tmp_path.iterdir())) == 1
    other = write_shard(tmp_path, "r", columns={"ids": np.arange(3)})
    assert other.name != one.name


@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_damage_is_seen(tmp_path: Path, damage: str):
    shard = write_shard(tmp_path, "r", columns=COLUMNS)
    path = tmp_path / shard.name
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[500] ^= 1
    path.write_bytes(bytes(data[:-1] if damage == "cut" else data))
    if damage == "gone":
        path.unlink()
    with pytest.raises(StoreError, match="cannot be read" if damage == "gone" else "changed or cut"):
        read_shard(tmp_path, shard)


def test_objects_are_refused():
    with pytest.raises(StoreError, match="column x holds objects"):
        shard_bytes({"x": np.array([object()])})
