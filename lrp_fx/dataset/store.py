"""The folder of a run: parts that are committed as a whole, in Zarr v3 and Parquet."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from lrp_fx._common import appearing, locked, needed, sweep, write_whole, writing
from lrp_fx.dataset.explaining import Record, Row
from lrp_fx.dataset.job import FILE, LAYOUT, Job, Shard, load_job
from lrp_fx.errors import RunError

PARTS, ARRAYS, TABLE, END = "parts", "relevance.zarr", "samples.parquet", "end.json"
STAMP = "lrp_fx.files"
"""Where the rows of a part have the digest of the sizes and times of their files."""


@dataclass(frozen=True)
class Store:
    """The folder of a run.

    A part is committed by its files: first one chunk of each array, then the rows of the table. Each
    is written under another name, synchronized and renamed. So a part whose rows are there is whole,
    and writing it again writes the same.

    Args:
        folder: of the run.
        job: the job of the run.
    """

    folder: Path
    job: Job

    def done(self) -> set[int]:
        """The numbers of the committed parts."""
        found = (
            re.fullmatch(r"(\d+)\.parquet", path.name) for path in self._parts.glob("*.parquet")
        )
        return {int(match[1]) for match in found if match}

    def missing(self, shard: Shard) -> Iterator[int]:
        """The parts of a shard that are not committed yet; without end while a stream has not ended."""
        done, parts, part = self.done(), self.job.parts, shard.index
        while parts is None or part < parts:
            if part not in done:
                yield part
            part += shard.of

    def commit(self, part: int, records: Sequence[Record], stamp: str = "") -> None:
        """Write a part, unless another process has done so already.

        Args:
            part: its number.
            records: of its samples.
            stamp: a digest of the sizes and times of their files, before they were read.

        Raises:
            RunError: if it cannot be written.
        """
        path = self._rows(part)
        if path.exists():
            return
        for place, (name, goal) in enumerate(zip(self.job.shapes, self._chunks(part), strict=True)):
            values = {n: record.values[place] for n, record in enumerate(records) if record.values}
            content = self._chunk(name, values)
            if content is not None:
                write_whole(goal, content)
            else:  # what another try left
                with writing(goal):
                    goal.unlink(missing_ok=True)
        write_whole(path, _parquet([record.row for record in records], stamp))

    def files(self, part: int) -> list[Path]:
        """The files of a committed part, the rows last; and the end of the stream."""
        found = [path for path in (self.folder / END, *self._chunks(part)) if path.is_file()]
        return [*found, self._rows(part)]

    def forget(self, parts: Iterable[int]) -> None:
        """Take back committed parts, to compute them again.

        Raises:
            RunError: if the files cannot be removed.
        """
        with writing(self.folder):
            for part in parts:
                self._rows(part).unlink(missing_ok=True)
            (self.folder / TABLE).unlink(missing_ok=True)

    def failed_parts(self) -> list[int]:
        """The committed parts with samples that have no explanation."""
        return [part for part in sorted(self.done()) if self._fails(part)]

    def stamp(self, part: int) -> str:
        """The digest of sizes and times of the files of a committed part; empty without files.

        Raises:
            RunError: if the part is damaged.
        """
        found: dict[bytes, bytes] = read_table(self._rows(part), ["index"]).schema.metadata or {}
        return found.get(STAMP.encode(), b"").decode()

    def _fails(self, part: int) -> bool:
        column = read_table(self._rows(part), ["status"]).column("status").to_pylist()
        return any(each != "ok" for each in column)

    def end_stream(self, count: int) -> Store:
        """Note that a stream has ended.

        Args:
            count: how many samples it had.
        """
        write_whole(self.folder / END, json.dumps({"count": count}).encode())
        return replace(self, job=replace(self.job, count=count))

    def finish(self) -> None:
        """Join the rows of all parts into one table.

        Raises:
            RunError: if parts are missing or damaged.
        """
        parts, done = self.job.parts, self.done()
        left = [part for part in range(parts or 0) if part not in done]
        if parts is None or left:
            named = ", ".join(map(str, left[:8])) + (" …" if len(left) > 8 else "")
            what = (
                f"{len(left)} of its {parts} parts are missing ({named})"
                if left
                else "it has no end"
            )
            raise RunError(
                f"the run in '{self.folder}' is not complete: {what}; run what is missing, then merge"
            )
        with needed("tables need"):
            from pyarrow import parquet
        with (
            appearing(self.folder / TABLE) as place,
            parquet.ParquetWriter(place, schema(), compression="zstd") as writer,
        ):
            for part in range(parts):
                table = read_table(self._rows(part))
                explained = "ok" in table.column("status").to_pylist()
                whole = not explained or all(chunk.is_file() for chunk in self._chunks(part))
                if table.num_rows != len(self.job.samples(part)) or not whole:
                    raise RunError(
                        f"'{self._rows(part)}' is damaged: remove it and run the same again"
                    )
                writer.write_table(table)
        self._describe()

    def is_finished(self) -> bool:
        """Whether the table of all samples is there."""
        return (self.folder / TABLE).is_file()

    def prepare(self) -> None:
        """Make the folders and the metadata of the arrays.

        Raises:
            RunError: if they cannot be made.
        """
        with writing(self.folder):
            self._parts.mkdir(exist_ok=True)
            for name in self.job.shapes:
                self.array(name).mkdir(parents=True, exist_ok=True)
        self._describe()

    def tidy(self) -> None:
        """Remove what an interrupted writer left; only for the holder of the lock of the whole run."""
        for place in (self.folder, self._parts, *map(self.array, self.job.shapes)):
            sweep(place)

    def array(self, name: str) -> Path:
        """The folder of an array."""
        return self.folder / ARRAYS / quote(name, safe="")

    @property
    def _parts(self) -> Path:
        return self.folder / PARTS

    def _rows(self, part: int) -> Path:
        return self._parts / f"{part:06}.parquet"

    def _chunks(self, part: int) -> list[Path]:
        """The files of a part, one for each array."""
        return [
            self.array(name) / ".".join(["c", str(part), *["0"] * len(shape)])
            for name, shape in self.job.shapes.items()
        ]

    def _describe(self) -> None:
        """Write the metadata of the arrays, with as many samples as are known of."""
        if not self.job.shapes:
            return
        count = self.job.count
        if count is None:
            count = self.job.part_size * (max(self.done(), default=-1) + 1)
        attributes = {
            "lrp_fx": dict(self.job.identity),
            "keep": self.job.keep,
            "names": list(self.job.names),
            "missing": "NaN: the sample has no explanation; see status and reason in the table",
            "rounding": "the column 'error' of the table: max |R - stored| / max |R| of each sample",
        }
        group = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
        write_whole(self.folder / ARRAYS / "zarr.json", json.dumps(group).encode())
        for name in self.job.shapes:
            _, files = self._empty(name, max(count, 1))
            write_whole(self.array(name) / "zarr.json", bytes(files["zarr.json"].to_bytes()))

    def _chunk(
        self, name: str, values: dict[int, NDArray[np.float32 | np.float16]]
    ) -> bytes | None:
        """The file of a part of an array; None if it holds nothing."""
        array, files = self._empty(name, self.job.part_size)
        if values:
            block = np.full(array.shape, np.nan, dtype=array.dtype)
            for place, value in values.items():
                block[place] = value
            array[:] = block
        keys = [key for key in files if key != "zarr.json"]
        return bytes(files[keys[0]].to_bytes()) if keys else None

    def _empty(self, name: str, count: int) -> tuple[Any, dict[str, Any]]:
        """An array of the run without values, in memory."""
        with needed("runs over data sets need"):
            import zarr
        shape, size = self.job.shapes[name], self.job.part_size
        item = prod(shape) * np.dtype(self.job.dtype).itemsize
        inner = next(
            n
            for n in range(1, size + 1)
            if size % n == 0 and (n * item >= LAYOUT.chunk_bytes or n == size)
        )
        files: dict[Any, Any] = {}
        array = zarr.create_array(
            zarr.storage.MemoryStore(files),
            shape=(count, *shape),
            shards=(size, *shape),
            chunks=(inner, *shape),
            dtype=self.job.dtype,
            compressors=zarr.codecs.BloscCodec(
                cname=LAYOUT.codec, clevel=LAYOUT.level, shuffle=LAYOUT.shuffle
            ),
            chunk_key_encoding={"name": "default", "separator": "."},
            fill_value=float("nan"),
            zarr_format=3,
        )
        return array, files


def schema() -> Any:
    """The columns of the table."""
    with needed("tables need"):
        import pyarrow
    kinds = {"int | None": pyarrow.int64(), "str | None": pyarrow.string()}
    kinds |= {"float | None": pyarrow.float64(), "int": pyarrow.int64()}
    kinds |= {"str": pyarrow.string(), "float": pyarrow.float64()}
    columns = Row.__annotations__.items()
    return pyarrow.schema(
        [(name, kinds[str(getattr(kind, "__forward_arg__", kind))]) for name, kind in columns]
    )


def read_table(path: Path, columns: Sequence[str] | None = None) -> Any:
    """The rows of a file.

    Raises:
        RunError: if it is damaged.
    """
    with needed("tables need"):
        import pyarrow
        from pyarrow import parquet
    try:
        with open(path, "rb") as file:
            table = parquet.read_table(file, columns=columns)
        return table if columns else table.cast(schema())
    except (OSError, pyarrow.ArrowException, ValueError) as error:
        raise RunError(f"'{path}' is damaged: remove it and run the same again") from error


def _parquet(rows: Sequence[Row], stamp: str) -> bytes:
    """The file of some rows."""
    with needed("tables need"):
        import pyarrow
        from pyarrow import parquet
    sink = pyarrow.BufferOutputStream()
    clean = [
        {**row, "id": _storable(row["id"]), "reason": _storable(row["reason"])} for row in rows
    ]
    table = pyarrow.Table.from_pylist(clean, schema=schema())
    table = table.replace_schema_metadata({STAMP: stamp})
    parquet.write_table(table, sink, compression="zstd")
    return bytes(sink.getvalue())


def _storable(text: str | None) -> str | None:
    """A text that is valid UTF-8: names of files may be anything."""
    return None if text is None else text.encode("utf-8", "backslashreplace").decode()


@contextmanager
def opened(folder: Path, make: Any, shard: Shard) -> Iterator[Store]:
    """The store of a run, for its only writer, or for one of its shards.

    Args:
        folder: of the run; it is made if it is not there.
        make: makes the job, if there is none, and checks it against the existing one.
        shard: the parts to compute.

    Raises:
        RunError: if another process writes, or if the folder holds something else or another run.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    what = f"'{folder}'"
    if FILE not in names and names - {PARTS, ARRAYS}:
        raise RunError(f"{what} holds something other than a run: choose another folder")
    with ExitStack() as stack:
        with locked(folder / ".creating.lock", what, wait=True):
            found = load_job(folder) if (folder / FILE).is_file() else None
            job = make(found)
            stack.enter_context(locked(folder / ".lock", what, shared=shard.of > 1))
            if shard.of > 1:
                name = f".lock-{shard.index}-of-{shard.of}"
                stack.enter_context(locked(folder / name, f"shard {shard} of {what}"))
            store = Store(folder, job)
            if found is None:
                store.prepare()
                job.write(folder)
            if shard.of == 1:
                store.tidy()
        yield ended(store)


def ended(store: Store) -> Store:
    """The store with the number of samples, if it is that of a stream that has ended."""
    path = store.folder / END
    if store.job.count is None and path.is_file():
        with suppress(ValueError, KeyError, OSError, TypeError):
            count = int(json.loads(path.read_bytes())["count"])
            return replace(store, job=replace(store.job, count=count))
    return store
