"""A sparse constant matrix is a linear map, as a dense one is."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lrp_fx import LRPFx
from tests.helpers.numbers import numbers

MATRIX = torch.tensor([[0, 1.5, 0], [-1.0, 0, 2.0], [0, 0.5, 0]])


class Neighbours(nn.Module):
    def __init__(self, matrix: Tensor, by: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last, self.by = nn.Linear(4, 6), nn.Linear(6, 2), by
        self.register_buffer("matrix", matrix)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x).relu()
        h = torch.sparse.mm(self.matrix, h) if self.by == "sparse.mm" else self.matrix @ h
        return self.last(h)  # type: ignore[no-any-return]


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta state")
@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
@pytest.mark.parametrize("composite", ["epsilon", "z_plus"])
@pytest.mark.parametrize("by", ["sparse.mm", "@"])
@pytest.mark.parametrize("layout", [torch.sparse_coo, torch.sparse_csr])
def test_one_map(layout: torch.layout, by: str, composite: str) -> None:
    x, sparse = numbers(3, 4).float(), MATRIX.to_sparse(layout=layout)
    maps = [
        LRPFx(Neighbours(matrix, way).eval(), composite).attribute(x, 1)
        for matrix, way in ((sparse, by), (MATRIX, "@"))
    ]
    torch.testing.assert_close(*maps)


class Built(nn.Module):
    """The same matrix, built as sparse rows in each call, of a model that branches on its input."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 2)
        self.register_buffer("matrix", MATRIX.to_sparse())

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x).relu()
        rows = self.matrix.to_sparse_csr() if float(x.sum()) < 1e9 else self.matrix
        return self.last(rows @ h)  # type: ignore[no-any-return]


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta state")
@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
def test_recorded() -> None:
    x = numbers(3, 4).float()
    expected = LRPFx(Neighbours(MATRIX, "@").eval(), "epsilon").attribute(x, 1)
    torch.testing.assert_close(LRPFx(Built().eval(), "epsilon").attribute(x, 1), expected)
    compressed = Neighbours(MATRIX.to_sparse_csr(), "@").eval()
    for capture in ("export", "record"):
        found = LRPFx(compressed, "epsilon", capture=capture).attribute(x, 1)
        torch.testing.assert_close(found, expected)


class Squared(nn.Module):
    """Messages along paths of two edges: the square of a sparse matrix, which is made in each call."""

    def __init__(self, by: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 2)
        self.by = by
        rows, columns = MATRIX.to_sparse_csr(), MATRIX.to_sparse_csc()
        self.register_buffer("row_ends", rows.crow_indices())
        self.register_buffer("columns", rows.col_indices())
        self.register_buffer("column_ends", columns.ccol_indices())
        self.register_buffer("rows", columns.row_indices())
        self.register_buffer("by_rows", rows.values())
        self.register_buffer("by_columns", columns.values())

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x).relu()
        if self.by == "@":
            return self.last(MATRIX @ MATRIX @ h)  # type: ignore[no-any-return]
        if self.by == "rows":
            made = torch.sparse_csr_tensor(self.row_ends, self.columns, self.by_rows)
        else:
            made = torch.sparse_csc_tensor(
                self.column_ends, row_indices=self.rows, values=self.by_columns, size=(3, 3)
            )
        paths = (made @ made).to_sparse_coo().coalesce()
        (to, source), weights = paths.indices(), paths.values()
        messages = weights[:, None] * h[source]
        return self.last(torch.zeros_like(h).index_add(0, to, messages))  # type: ignore[no-any-return]


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta state")
@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
@pytest.mark.parametrize("by", ["rows", "columns"])
def test_made_in_the_call(by: str) -> None:
    x = numbers(3, 4).float()
    found, wanted = (LRPFx(Squared(form).eval(), "zero").attribute(x, 1) for form in (by, "@"))
    torch.testing.assert_close(found, wanted)
