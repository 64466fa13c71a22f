"""Copies modules, containers, functions and objects, each once; what cannot be copied is shared."""

from __future__ import annotations

import functools
import io
import sys
import types
import weakref
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from lrp_fx.capture.captured import Arguments
from lrp_fx.capture.functions import named_globals
from lrp_fx.capture.generators import GENERATORS, reseeded
from lrp_fx.capture.members import INTERNAL
from lrp_fx.capture.origin import of_user
from lrp_fx.capture.written import ATOMIC, CACHED, SHARED, Written, asks_for_identity, members_of
from lrp_fx.errors import InputError

Hooks = frozenset[tuple[int, int]]
"""Forward hooks, each given by the id of its module and the id of the hook."""


OBJECTS = 100_000
"""How many objects and container entries are copied at most, modules not counted. Those nearest to the
model come first, and the rest is shared. A model may refer to a trainer that refers to
everything."""


MAX_BYTES = 2**28
"""How many bytes of NumPy arrays are copied at most; further arrays are shared."""


_COPIED = sys.stdlib_module_names | {"numpy"}
"""Packages whose objects written in C can be copied by ``deepcopy``."""


_SIZED = (list, tuple, dict, set, frozenset, deque)


_DICTS = (OrderedDict, defaultdict, dict)  # subclasses first


BEFORE_FORWARD = "_forward_pre_hooks"


FORWARD_HOOKS = ("_forward_hooks", BEFORE_FORWARD)


_BACKWARD_HOOKS = ("_backward_hooks", "_backward_pre_hooks")


def _has_state(kind: type) -> bool:
    """Whether objects of a class consist of their attributes: it defines no pickling of its own."""
    methods = (
        (getattr(kind, name), getattr(object, name)) for name in ("__reduce_ex__", "__reduce__")
    )
    return all(own is plain for own, plain in methods)


_IN_MEMORY = (io.StringIO, io.BytesIO)
"""Files that lie in memory, so that a copy opens and closes nothing."""


class _NoGenerator:
    """Takes the place of a generator, which cannot be copied and would move on if code asked it.

    Raises:
        InputError: when it is asked for a value.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __iter__(self) -> _NoGenerator:
        return self

    def __next__(self) -> Any:
        raise InputError(
            f"forward() takes the next value of a generator ({self._name}) that the model or an argument "
            "holds. It cannot be copied, and an explanation would move it on. Hold a list or an iterator "
            "of itertools, or make the generator in forward()."
        )

    def send(self, value: Any) -> Any:
        """As ``next``."""
        return next(self)


class _HeldRef(weakref.ref[Any]):
    """A weak reference in a copy. It keeps its target alive, since perhaps nothing else does."""

    __slots__ = ("held",)
    held: Any


class Copier:
    """Copies objects, each once.

    An object is first created empty and filled later, so that cycles and deep nesting do no harm.
    Sets, and dicts whose keys are copied, are filled last, because the hash of a key may depend on
    its content.
    """

    def __init__(self, place: Callable[[Tensor], Any], left_out: Hooks, written: Written) -> None:
        self.place, self.left_out, self.written = place, left_out, written
        self.memo: dict[int, tuple[Any, Any]] = {}  # keeps the originals alive: ids stay valid
        self.unfilled: deque[Callable[[], None]] = deque()
        self.hashed: list[Callable[[], None]] = []
        self.objects, self.bytes = OBJECTS, MAX_BYTES
        self.globals: dict[int, tuple[dict[str, Any], dict[str, Any]]] = {}
        self.named: dict[tuple[int, str], Any] = {}
        self.identities: dict[int, tuple[Any, int]] = {}
        self.generators: list[Any] = []
        """The random generators that were copied."""

    def run(self, value: Any) -> Any:
        """Copy a value, and fill all copies that were made for it."""
        twin = self.copy(value)
        while self.unfilled or self.hashed or self.named:
            if self.unfilled:
                self.unfilled.popleft()()
            elif self.hashed:
                self.hashed.pop()()
            else:
                (key, name), part = self.named.popitem()
                self.globals[key][1][name] = self.copy(part)
        for (key, name), part in self.written.fixed.items():
            if key in self.globals:
                self.globals[key][1][name] = part
        self.identities |= {id(copy): (copy, key) for key, (_, copy) in self.memo.items()}
        return twin

    def run_arguments(self, arguments: Arguments, values: tuple[Any, ...]) -> Arguments:
        """Copy the arguments with ``values`` in place of their tensors, also inside other objects."""
        known = map(id, arguments.tensors)  # empty if there are no example inputs
        given = dict(zip(known, values, strict=False))
        self.identities |= {id(value): (value, key) for key, value in given.items()}
        place = self.place
        self.place = lambda tensor: given[id(tensor)] if id(tensor) in given else place(tensor)
        constants = self.run(list(arguments.constants))
        return replace(arguments, tensors=values, constants=tuple(constants))

    def _placed(self, tensor: Tensor) -> Any:
        twin = self.place(tensor)
        self.identities[id(twin)] = twin, id(tensor)
        return twin

    def identity(self, value: Any) -> int:
        """The ``id`` of the original of a copy, for code that looks objects up by ``id``."""
        return self.identities.get(id(value), (None, id(value)))[1]

    def hash(self, value: Any) -> int:
        """The ``hash`` of the original of a copy; that of a tensor is its ``id``."""
        return hash(self.identity(value) if isinstance(value, Tensor | fx.Proxy) else value)

    def copy(self, value: Any) -> Any:
        """The copy of a value, which may still have to be filled; a shared value itself."""
        if type(value) in weakref.ProxyTypes:
            return self._proxy(value)
        if type(value) in ATOMIC or isinstance(value, SHARED):
            is_scripted = isinstance(value, torch.jit.ScriptModule)
            if is_scripted and value.training and any(True for _ in value.buffers()):
                raise InputError(
                    "the model holds a scripted or traced module "
                    f"({value.original_name}) in train mode, which cannot be copied and would move its "
                    "statistics: call .eval() on it"
                )
            return value
        if id(value) in self.memo:
            return self.memo[id(value)][1]
        if isinstance(value, Tensor):
            return self._placed(value)
        if not issubclass(type(value), nn.Module):
            self.objects -= 1 + (len(value) if isinstance(value, _SIZED) else 0)
            if self.objects < 0:
                return value
        twin = self._made(value)
        self.memo[id(value)] = value, twin
        return twin

    def _made(self, value: Any) -> Any:
        if issubclass(type(value), nn.Module):
            return self._module(value)
        for base, make in self._makers():
            if issubclass(type(value), base):
                return make(self, value)
        numpy = sys.modules.get("numpy")
        if numpy is not None and isinstance(value, numpy.ndarray):
            self.bytes -= value.nbytes
            return value if self.bytes < 0 else value.copy()
        return self._object(value)

    @staticmethod
    @functools.cache
    def _makers() -> tuple[tuple[Any, Callable[[Copier, Any], Any]], ...]:
        return (
            (types.FunctionType, Copier._function),
            (types.MethodType, Copier._method),
            (types.BuiltinFunctionType, Copier._builtin_method),
            (functools.partial, Copier._partial),
            (CACHED, Copier._cached),
            (types.CellType, Copier._cell),
            (weakref.ref, Copier._weak),
            (_DICTS, Copier._dict),
            ((list, deque), Copier._list),
            ((set, frozenset), Copier._set),
            (tuple, Copier._tuple),
        )

    # modules and objects

    def _module(self, module: nn.Module) -> nn.Module:
        twin = object.__new__(module.__class__)  # fx.GraphModule's own __new__ makes another class
        self.unfilled.append(functools.partial(self._fill_module, module, twin))
        return twin

    def _fill_module(self, module: nn.Module, twin: nn.Module) -> None:
        state = twin.__dict__
        for name, value in vars(module).items():
            if name in _BACKWARD_HOOKS:
                state[name] = type(value)()
            elif name in FORWARD_HOOKS:
                state[name] = type(value)(
                    (key, self.copy(hook))
                    for key, hook in value.items()
                    if (id(module), key) not in self.left_out
                )
            elif name in INTERNAL and isinstance(value, dict):
                state[name] = type(value)((key, self.copy(item)) for key, item in value.items())
            else:
                state[name] = self.copy(value)
        state["training"] = False
        self._shadow(module, state)

    def _object(self, value: Any) -> Any:
        kind = type(value)
        if kind is types.GeneratorType:
            return _NoGenerator(value.__qualname__)
        if kind in _IN_MEMORY:
            return self._of_c(value)
        if hasattr(kind, "__del__") or any(value is part for part in vars(kind).values()):
            return value  # a copy's __del__ may close a file; enum members are compared by identity
        if self.written.is_sentinel(value):
            return value
        try:
            if kind.__module__ not in sys.stdlib_module_names or _has_state(kind):
                twin = object.__new__(kind)
                self._fill_later(value, twin)
                return twin
        except TypeError:  # its class is written in C
            pass
        return self._of_c(value)

    def _of_c(self, value: Any) -> Any:
        """A copy of an object whose class is written in C if possible, else the object itself."""
        kind = type(value)
        if isinstance(value, types.SimpleNamespace):
            twin: Any = types.SimpleNamespace.__new__(kind)
            self._fill_later(value, twin)
            return twin
        if isinstance(value, GENERATORS):
            self.generators.append(value)
            with suppress(Exception):  # of a class that cannot be copied
                return reseeded(value)
        if kind.__module__.partition(".")[0] in _COPIED:
            with suppress(Exception):  # a lock, a file
                return deepcopy(value)
        return value

    def _fill_later(self, value: Any, twin: Any) -> None:
        """Schedule copying the attributes of an object to its copy."""
        if hasattr(value, "__dict__") or any("__slots__" in vars(c) for c in type(value).__mro__):
            self.unfilled.append(functools.partial(self._fill_object, value, twin))

    def _fill_object(self, value: Any, twin: Any) -> None:
        for slot in members_of(type(value)):
            with suppress(AttributeError, TypeError):  # not assigned yet, or read-only in C
                slot.__set__(twin, self.copy(slot.__get__(value)))
        if hasattr(value, "__dict__"):
            state = twin.__dict__
            state.update((name, self.copy(part)) for name, part in vars(value).items())
            self._shadow(value, state)

    def _shadow(self, value: Any, state: dict[str, Any]) -> None:
        """Give a copied instance its own copies of class attributes and of methods that write."""
        for name, part, is_method in self.written.of_class(type(value)):
            twin = self.copy(part)
            if name in state or twin is part:
                continue
            state[name] = types.MethodType(twin, self.memo[id(value)][1]) if is_method else twin

    # weak references

    def _weak(self, reference: weakref.ref[Any]) -> Any:
        """A weak reference to the copy of the target, without the callback."""
        target = reference()
        twin = self.copy(target)
        if twin is target:
            return reference
        try:
            held = _HeldRef(twin)
        except TypeError:  # the replacement does not support weak references
            return reference
        held.held = twin
        return held

    def _proxy(self, proxy: Any) -> Any:
        """The copy of a proxy's target itself, because a proxy would not keep it alive."""
        try:
            target = proxy.__reduce_ex__.__self__
        except (AttributeError, ReferenceError):  # the target no longer exists
            return proxy
        twin = self.copy(target)
        return proxy if twin is target else twin

    # containers

    def _dict(self, value: dict[Any, Any]) -> Any:
        base = next(kind for kind in _DICTS if isinstance(value, kind))
        twin: Any = base.__new__(type(value))
        if isinstance(value, defaultdict):
            twin.default_factory = self.copy(value.default_factory)
        self._fill_later(value, twin)

        def insert(items: list[tuple[Any, Any]]) -> None:
            for key, item in items:
                base.__setitem__(twin, key, item)

        def fill() -> None:
            items = [(self.copy(key), self.copy(item)) for key, item in base.items(value)]
            if all(type(key) in ATOMIC for key, _ in items):
                insert(items)
            else:
                self.hashed.append(lambda: insert(items))

        self.unfilled.append(fill)
        return twin

    def _list(self, value: Any) -> Any:
        base = list if isinstance(value, list) else deque
        twin = base.__new__(type(value))
        if isinstance(value, deque):
            deque.__init__(twin, (), value.maxlen)
        self._fill_later(value, twin)
        self.unfilled.append(lambda: base.extend(twin, list(map(self.copy, base.__iter__(value)))))
        return twin

    def _set(self, value: Any) -> Any:
        if isinstance(value, frozenset):
            items = [self.copy(item) for item in value]
            same = all(new is old for new, old in zip(items, value, strict=True))
            return value if same else frozenset.__new__(type(value), items)
        twin = set.__new__(type(value))
        self._fill_later(value, twin)

        def fill() -> None:
            items = list(map(self.copy, set.__iter__(value)))
            self.hashed.append(lambda: set.update(twin, items))

        self.unfilled.append(fill)
        return twin

    def _tuple(self, value: Any) -> Any:
        items = [self.copy(item) for item in tuple.__iter__(value)]
        if all(new is old for new, old in zip(items, tuple.__iter__(value), strict=True)):
            return value
        try:
            twin = tuple.__new__(type(value), items)
        except TypeError:  # a type written in C, such as the result of torch.max
            return type(value)(items)
        self._fill_later(value, twin)
        return twin

    # callables

    def _method(self, method: Any) -> Any:
        return types.MethodType(self.copy(method.__func__), self.copy(method.__self__))

    def _builtin_method(self, method: Any) -> Any:
        owner = getattr(method, "__self__", None)
        twin = self.copy(owner)
        return method if twin is owner else getattr(twin, method.__name__, method)

    def _partial(self, value: Any) -> Any:
        keywords = {key: self.copy(item) for key, item in value.keywords.items()}
        twin = type(value)(self.copy(value.func), *map(self.copy, value.args), **keywords)
        vars(twin).update((key, self.copy(item)) for key, item in vars(value).items())
        return twin

    def _cached(self, value: Any) -> Any:
        """A function of the user with ``lru_cache`` gets a new, empty cache."""
        inner = value.__wrapped__
        if not isinstance(inner, types.FunctionType) or not of_user(inner):
            return value
        return functools.lru_cache(**value.cache_parameters())(self.copy(inner))

    def _function(self, function: types.FunctionType) -> Any:
        """A function with copies of its closure, its defaults and the globals it may write to."""
        writes = self.written.by(function)
        held = (function.__defaults__, function.__kwdefaults__, vars(function))
        if not (writes or function.__closure__ or (of_user(function) and any(held))):
            return function
        cells = tuple(map(self.copy, function.__closure__ or ()))
        own_globals = self._globals_of(function) if writes else function.__globals__
        twin = types.FunctionType(function.__code__, own_globals, function.__name__, None, cells)
        twin.__qualname__, twin.__module__ = function.__qualname__, function.__module__
        twin.__doc__, twin.__annotations__ = function.__doc__, function.__annotations__

        def fill() -> None:
            twin.__defaults__ = self.copy(function.__defaults__)
            twin.__kwdefaults__ = self.copy(function.__kwdefaults__)
            vars(twin).update((key, self.copy(item)) for key, item in vars(function).items())

        self.unfilled.append(fill)
        return twin

    def _cell(self, cell: types.CellType) -> types.CellType:
        """A closure cell. Functions that share a cell share its copy."""
        twin = types.CellType()

        def fill() -> None:
            with suppress(ValueError):  # not assigned yet
                twin.cell_contents = self.copy(cell.cell_contents)

        self.unfilled.append(fill)
        return twin

    # globals

    def _globals_of(self, function: types.FunctionType) -> dict[str, Any]:
        """A copy of a function's global namespace; the values that it names are copied later."""
        key, space = id(function.__globals__), function.__globals__
        if key not in self.globals:
            self.globals[key] = function.__globals__, dict(function.__globals__)
        if asks_for_identity(function):
            own = {"id": self.identity, "hash": self.hash}
            self.globals[key][1].update({k: v for k, v in own.items() if k not in space})
        for name, value in named_globals(function):
            if self.written.may_be(value):
                self.named[key, name] = value
        return self.globals[key][1]
