"""Models of the user: ``package.module:factory`` and ``path/to/file.py:factory``."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from PIL import Image
from torch import Tensor, nn

from lrp_fx._common import entries
from lrp_fx.errors import InputError, blamed
from lrp_fx.zoo.loaded import LoadedModel, ZooError, loaded_model
from lrp_fx.zoo.preprocessing import Preprocessing
from lrp_fx.zoo.weights import fill, read_state

_RETURNS = "return the model, or (model, preprocess), or (model, preprocess, categories)"


def own_model(name: str, file: Path | None) -> LoadedModel:
    """The results of a factory.

    The factory is a function without arguments, or a class of a model. It returns

    * the model,
    * ``(model, preprocess)``, where ``preprocess`` is a :class:`Preprocessing`, a function from a
      PIL image to the input ``(C, H, W)``, or None,
    * ``(model, preprocess, categories)`` with the names of the classes in order, or a mapping from
      index to name, or
    * a :class:`LoadedModel`.

    A model itself under this name will do too.

    Args:
        name: ``package.module:factory`` or ``path/to/file.py:factory``.
        file: weights for the model.

    Raises:
        ZooError: if there is no such module, file or factory, or it returns something else.
        InputError: if it fails; the message has its error.
    """
    found = _named(name)
    if isinstance(found, nn.Module) or not callable(found):
        made = found
    else:
        with _found_from(_folder(name)), _going_on(name), blamed(f"the factory {name}"):
            made = found()  # which may import what lies beside its file
    loaded = _as_loaded(name, made)
    if file is not None:
        fill(loaded.model, read_state(file), name, file)
    return loaded


def own_function(name: str) -> Callable[[Image.Image], Tensor]:
    """The preprocessing ``package.module:function`` or ``path/to/file.py:function``.

    Raises:
        ZooError: if there is no such module, file or function.
        InputError: if the module fails; the message has its error.
    """
    if ":" not in name:
        raise ZooError(
            f"your own function is named package.module:FUNCTION or FILE.py:FUNCTION, got {name!r}"
        )
    found = _named(name)
    if not callable(found):
        raise ZooError(f"{name} is not a function")
    function: Callable[[Image.Image], Tensor] = found
    return function


def _named(name: str) -> Any:
    """The object of this name in a module or a file."""
    place, _, attribute = name.rpartition(":")
    module = _module(place)
    found: Any = module
    for part in attribute.split("."):
        found = getattr(found, part, None)
    if found is None:
        there = sorted(key for key, value in vars(module).items() if _is_factory(value, module))
        raise ZooError(
            f"there is no {attribute!r} in {place}"
            + (f": it has {', '.join(there[:8])}" if there else "")
        )
    return found


def _is_factory(value: object, module: ModuleType) -> bool:
    own = getattr(value, "__module__", None) == module.__name__
    return isinstance(value, nn.Module) or (callable(value) and own)


def _module(place: str) -> ModuleType:
    """The module of this name, or in this file. It is run."""
    if not place.endswith(".py"):
        return _imported(place)
    path = Path(place)
    if not path.is_file():
        raise ZooError(f"there is no file {place}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)  # dataclasses look themselves up there
    # as for python FILE
    with _found_from(path.resolve().parent), _going_on(place), blamed(place):
        spec.loader.exec_module(module)
    return module


def _imported(name: str) -> ModuleType:
    try:
        # as for python -m
        with _found_from(Path.cwd()), _going_on(name), blamed(f"the module {name}"):
            return importlib.import_module(name)
    except InputError as error:
        cause = error.__cause__
        if isinstance(cause, ModuleNotFoundError) and name.startswith(str(cause.name)):
            raise ZooError(
                f"there is no module {name!r} here; for a file write path/to/file.py:factory"
            ) from None
        raise


@contextmanager
def _found_from(folder: Path) -> Iterator[None]:
    """Let imports find what lies in a folder."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        with suppress(ValueError):  # the user's code may have set the path anew
            sys.path.remove(str(folder))


def _folder(name: str) -> Path:
    """Where imports of ``file.py:factory`` and ``package.module:factory`` are found."""
    place = name.rpartition(":")[0]
    return Path(place).resolve().parent if place.endswith(".py") else Path.cwd()


@contextmanager
def _going_on(name: str) -> Iterator[None]:
    """Refuse code that ends the program, as scripts do that read their own arguments.

    Raises:
        InputError: if it does.
    """
    try:
        yield
    except SystemExit as error:
        raise InputError(
            f"{name} ends the program (sys.exit) instead of giving a model: put what a script does "
            'on its own below if __name__ == "__main__":'
        ) from error


def _as_loaded(name: str, made: Any) -> LoadedModel:
    """The result of a factory in one form."""
    if isinstance(made, LoadedModel):
        return made
    model, preprocess, categories, *more = (
        (*made, None, None) if isinstance(made, tuple) else (made, None, None)
    )
    if not isinstance(model, nn.Module) or len(more) > 2 or any(each is not None for each in more):
        raise ZooError(f"the factory {name} must {_RETURNS}, not {_kind(made)}")
    names = _names(name, categories)
    if isinstance(preprocess, Preprocessing):
        return loaded_model(name, model, preprocess, names)
    if preprocess is not None and not callable(preprocess):
        raise ZooError(
            f"the factory {name} must {_RETURNS}; preprocess must be a function from a photograph of "
            f"PIL to a tensor (C, H, W), not {_kind(preprocess)}"
        )
    function: Callable[..., Any] | None = preprocess
    return LoadedModel(name, model.eval(), function, None, None, names)


def _kind(value: object) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(type(each).__name__ for each in value)})"
    return type(value).__name__


def _names(name: str, categories: Any) -> tuple[str, ...]:
    """The names of classes in order."""
    if categories is None:
        return ()
    if isinstance(categories, Mapping):
        listed = dict(categories)
        if sorted(listed) == list(range(len(listed))):
            return tuple(str(listed[index]) for index in range(len(listed)))
    elif not isinstance(categories, (str, bytes)):
        found = entries(categories)
        if found is not None:
            return tuple(map(str, found))
    raise ZooError(
        f"the categories of the factory {name} must be a list of names, or map 0, 1, … to names"
    )
