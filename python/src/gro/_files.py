"""Reads what the stages write, as data frames of pandas, or of polars where ``library="polars"`` says so.

A path is that of the directory a stage wrote, of the file in it, or what :func:`gro.run` returned.
"""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Union, overload

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

StrPath = Union[str, "os.PathLike[str]"]
Library = Literal["pandas", "polars"]


class Dataset:
    """What ``gro-preprocess run`` writes: sequences of items, and the raw ids of users and items.

    >>> data = gro.Dataset("out/ml-100k/data")
    >>> data.items().nlargest(10, "count")
    """

    def __init__(self, path: StrPath) -> None:
        self.path = Path(_file(path, "sequences.parquet", "`gro-preprocess run`")).parent
        self.stats: dict[str, Any] = json.loads((self.path / "stats.json").read_text(encoding="utf-8"))
        """``stats.json``: counts, and how the ratings were filtered."""

    def __repr__(self) -> str:
        return f"gro.Dataset({str(self.path)!r})"

    def __len__(self) -> int:
        """Number of users."""
        return int(pyarrow.parquet.read_metadata(self.path / "sequences.parquet").num_rows)

    @overload
    def sequences(self, library: Literal["pandas"] = "pandas") -> pd.DataFrame: ...
    @overload
    def sequences(self, library: Literal["polars"]) -> pl.DataFrame: ...
    def sequences(self, library: Library = "pandas") -> pd.DataFrame | pl.DataFrame:
        """One row a user: ``user``, ``train`` (items in order of time), ``valid``, ``test``."""
        return _frame(pyarrow.parquet.read_table(self.path / "sequences.parquet"), library)

    @overload
    def items(self, library: Literal["pandas"] = "pandas") -> pd.DataFrame: ...
    @overload
    def items(self, library: Literal["polars"]) -> pl.DataFrame: ...
    def items(self, library: Library = "pandas") -> pd.DataFrame | pl.DataFrame:
        """One row an item: ``item``, ``raw_id``, ``count``."""
        return _frame(pyarrow.parquet.read_table(self.path / "items.parquet"), library)

    @overload
    def users(self, library: Literal["pandas"] = "pandas") -> pd.DataFrame: ...
    @overload
    def users(self, library: Literal["polars"]) -> pl.DataFrame: ...
    def users(self, library: Library = "pandas") -> pd.DataFrame | pl.DataFrame:
        """One row a user: ``user``, ``raw_id``."""
        return _frame(pyarrow.parquet.read_table(self.path / "users.parquet"), library)

    @overload
    def interactions(self, library: Literal["pandas"] = "pandas") -> pd.DataFrame: ...
    @overload
    def interactions(self, library: Literal["polars"]) -> pl.DataFrame: ...
    def interactions(self, library: Library = "pandas") -> pd.DataFrame | pl.DataFrame:
        """One row an interaction, users and their items in order: ``user``, ``place`` (from 1), ``item``, ``split`` (``train``, ``valid`` or
        ``test``)."""
        table = pyarrow.parquet.read_table(self.path / "sequences.parquet").combine_chunks()
        users, places, items, splits = [], [], [], []
        for row in table.to_pylist():
            sequence = [(item, "train") for item in row["train"]]
            sequence += [(row[split], split) for split in ("valid", "test") if row[split] is not None]
            for place, (item, split) in enumerate(sequence, start=1):
                users.append(row["user"])
                places.append(place)
                items.append(item)
                splits.append(split)
        columns = {
            "user": pa.array(users, pa.uint32()),
            "place": pa.array(places, pa.uint32()),
            "item": pa.array(items, pa.uint32()),
            "split": pa.array(splits, pa.string()),
        }
        return _frame(pa.table(columns), library)


@overload
def queries(path: StrPath, library: Literal["pandas"] = "pandas") -> pd.DataFrame: ...
@overload
def queries(path: StrPath, library: Literal["polars"]) -> pl.DataFrame: ...
def queries(path: StrPath, library: Library = "pandas") -> pd.DataFrame | pl.DataFrame:
    """A query log as it is on disk, one row a sequence: ``sequence`` (the items asked with), ``answers`` (entry i answers the first
    i + 1 items: ids, best first)."""
    return _frame(pyarrow.parquet.read_table(_file(path, "queries.parquet", "`gro-attack generate`")), library)


@overload
def questions(path: StrPath, library: Literal["pandas"] = "pandas") -> pd.DataFrame: ...
@overload
def questions(path: StrPath, library: Literal["polars"]) -> pl.DataFrame: ...
def questions(path: StrPath, library: Library = "pandas") -> pd.DataFrame | pl.DataFrame:
    """A query log question by question: ``sequence`` (its number, from 0), ``place`` (items of the question, from 1), ``item`` (the last of
    them), ``answers`` (ids, best first)."""
    table = pyarrow.parquet.read_table(_file(path, "queries.parquet", "`gro-attack generate`")).combine_chunks()
    asked = table.column("sequence").combine_chunks()
    answers = pc.list_flatten(table.column("answers").combine_chunks())
    lengths = pc.list_value_length(asked).to_pylist()
    columns = {
        "sequence": pc.list_parent_indices(asked).cast(pa.uint32()),
        "place": pa.array([place for length in lengths for place in range(1, length + 1)], pa.uint32()),
        "item": pc.list_flatten(asked),
        "answers": answers,
    }
    return _frame(pa.table(columns), library)


@overload
def report(path: StrPath, library: Literal["pandas"] = "pandas") -> pd.DataFrame: ...
@overload
def report(path: StrPath, library: Literal["polars"]) -> pl.DataFrame: ...
def report(path: StrPath, library: Library = "pandas") -> pd.DataFrame | pl.DataFrame:
    """The table of ``gro-evaluate report`` in long form: a row a model, defence, surrogate and figure.

    >>> cells = gro.report("out/ml-100k-bert/report").query("figure == 'HR@10'")
    >>> cells.pivot(index="defence", columns="model", values="mean")
    """
    return _frame(pyarrow.parquet.read_table(_file(path, "report.parquet", "`gro-evaluate report`")), library)


@overload
def ranks(path: StrPath, library: Literal["pandas"] = "pandas") -> pd.DataFrame: ...
@overload
def ranks(path: StrPath, library: Literal["polars"]) -> pl.DataFrame: ...
def ranks(path: StrPath, library: Library = "pandas") -> pd.DataFrame | pl.DataFrame:
    """One row a user: where target, surrogate, the most popular items and a table of the target's lists to single items rank the test item (missing outside
    the list), and how far the surrogate's list agrees with the target's."""
    return _frame(pyarrow.parquet.read_table(_file(path, "ranks.parquet", "`gro-evaluate run`")), library)


@overload
def history(path: StrPath, library: Literal["pandas"] = "pandas") -> pd.DataFrame: ...
@overload
def history(path: StrPath, library: Literal["polars"]) -> pl.DataFrame: ...
def history(path: StrPath, library: Library = "pandas") -> pd.DataFrame | pl.DataFrame:
    """Losses and validation, one row an epoch; row 0 is the state before training."""
    makers = "`gro-train`, `gro-defend` and `gro-attack distill`"
    table = pyarrow.csv.read_csv(_file(path, "history.csv", makers))
    # A column without any number has no type.
    fields = [field.with_type(pa.float64()) if pa.types.is_null(field.type) else field for field in table.schema]
    return _frame(table.cast(pa.schema(fields)), library)


@overload
def metrics(path: StrPath, library: Literal["pandas"] = "pandas") -> pd.DataFrame: ...
@overload
def metrics(path: StrPath, library: Literal["polars"]) -> pl.DataFrame: ...
def metrics(path: StrPath, library: Library = "pandas") -> pd.DataFrame | pl.DataFrame:
    """The figures of one evaluation, a row each: ``of`` (``popular``, ``target``, ``table.quality``, ``table.answered``, ``table.own``, ``surrogate``,
    ``fidelity.answered``, ``fidelity.own``),
    ``figure``, ``mean``, and its 95 % interval from ``low`` to ``high``."""
    text = _file(path, "metrics.json", "`gro-evaluate run`").read_text(encoding="utf-8")
    rows: list[dict[str, object]] = []
    _figures(json.loads(text), [], rows)
    kinds = {"of": pa.string(), "figure": pa.string(), "mean": pa.float64(), "low": pa.float64(), "high": pa.float64()}
    return _frame(pa.Table.from_pylist(rows, pa.schema(kinds)), library)


def _figures(value: object, names: list[str], into: list[dict[str, object]]) -> None:
    if not isinstance(value, dict):
        return
    if "mean" in value:
        interval = {key: value.get(key) for key in ("mean", "low", "high")}
        into.append({"of": ".".join(names[:-1]), "figure": names[-1], **interval})
        return
    for name, below in value.items():
        _figures(below, [*names, name], into)


def header(path: StrPath) -> dict[str, Any]:
    """What a checkpoint (``model.safetensors``) or a query log (``queries.parquet``) says of itself: architecture, defence, prices,
    fingerprints."""
    place = Path(os.fspath(path))
    if place.is_dir():
        there = [place / name for name in ("queries.parquet", "model.safetensors") if (place / name).is_file()]
        if not there:
            raise FileNotFoundError(f"{place} has neither queries.parquet nor model.safetensors")
        place = there[0]
    if place.suffix == ".parquet":
        found = (pyarrow.parquet.read_metadata(place).metadata or {}).get(b"gro")
    else:
        with open(place, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            found = json.loads(file.read(length)).get("__metadata__", {}).get("gro")
    if found is None:
        raise ValueError(f"{place} says nothing of itself under the key `gro`; no stage of this project wrote it")
    value: dict[str, Any] = json.loads(found)
    return value


def _file(path: StrPath, name: str, maker: str) -> Path:
    """The file of the name in the directory, or the path itself if it is a file."""
    place = Path(os.fspath(path))
    found = place if place.is_file() else place / name
    if not found.is_file():
        raise FileNotFoundError(f"{place} has no {name}, which {maker} writes")
    return found


def _frame(table: pa.Table, library: Library) -> pd.DataFrame | pl.DataFrame:
    """A table as the library's frame. Integers of which some are missing stay integers."""
    if library == "polars":
        import polars

        return polars.DataFrame(table)
    if library != "pandas":
        raise ValueError(f"library is {library!r}, expected 'pandas' or 'polars'")
    import pandas

    nullable = {pa.uint32(): pandas.UInt32Dtype(), pa.uint64(): pandas.UInt64Dtype()}
    missing = {field.type for field in table.schema if table.column(field.name).null_count > 0}
    frame: pd.DataFrame = table.to_pandas(types_mapper=lambda kind: nullable.get(kind) if kind in missing else None)
    return frame
