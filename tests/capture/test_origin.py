"""Whose code it is decides how far a signature and a copy go."""

from __future__ import annotations

import collections
import json.decoder
import sys
import sysconfig
import types
from pathlib import Path

import hypothesis.errors
import numpy as np
import pytest
import torch
from torch import nn

from lrp_fx.capture.origin import (
    class_of_user,
    is_installed,
    is_module_of_user,
    is_standard,
    of_user,
    origin_of,
)


class Own:
    def method(self) -> None: ...


class Nowhere:
    """Of a module that nobody imported."""

    __module__ = "lrp_fx.nowhere"


@pytest.mark.parametrize(
    ("file", "origin"),
    [
        (torch.__file__, "standard"),
        (collections.__file__, "standard"),
        ("<frozen importlib>", "standard"),
        (pytest.__file__, "installed"),
        (f"{sysconfig.get_path('platlib')}/one.py", "installed"),
        ("/elsewhere/site-packages/one.py", "installed"),
        (__file__, "own"),
        ("<string>", "own"),
    ],
)
def test_of_files(file: str, origin: str) -> None:
    assert origin_of(file) == origin


def test_an_installer_s_record_tells_packages_from_own_files_beside_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = tmp_path / "some-1.0.dist-info" / "RECORD"
    record.parent.mkdir()
    record.write_text('some/one.py,sha256=0,3\n"some/two, three.py",,\n')
    unseen, folder = tmp_path / "some" / "one.py", str(tmp_path)
    assert origin_of(f"{folder}/some/two, three.py") == "own"  # no import path
    monkeypatch.syspath_prepend(folder)
    assert origin_of(str(unseen)) == "installed"
    assert origin_of(str(tmp_path / "some" / "mine.py")) == "own"
    assert origin_of(str(tmp_path / "mine.py")) == "own"


def test_of_functions() -> None:
    assert of_user(Own.method)
    assert not of_user(nn.Linear.forward)


def test_of_classes() -> None:
    theirs = [int, nn.Linear, json.decoder.JSONDecoder, hypothesis.errors.HypothesisException]
    assert all(map(class_of_user, [Own, Nowhere]))
    assert not any(map(class_of_user, theirs))
    assert [is_standard(each) for each in (*theirs, np.memmap, Own)] == [True] * 3 + [
        False,
        True,
        False,
    ]
    assert [is_installed(each) for each in (*theirs[1:], Own, Nowhere)] == [True] * 3 + [False] * 2


def test_of_modules() -> None:
    alone = types.ModuleType("__main__")
    assert is_module_of_user(sys.modules[__name__])
    assert is_module_of_user(alone)
    assert not any(map(is_module_of_user, [types.ModuleType("made"), sys, torch, pytest]))
