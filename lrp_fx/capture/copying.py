"""Structural copies of a model: new objects in eval mode around the same parameters.

Everything that has to run the model's Python code runs it on such a copy, so that nothing of the
user's is traced, hooked, switched to eval, given an attribute or written to.
"""

from __future__ import annotations

import enum
import functools
import sys
import types
import weakref
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from lrp_fx.capture.functions import (
    assigned_attributes,
    assigned_cells,
    assigns_globals,
    closed_over,
    functions_of,
    named_globals,
    names_in,
)
from lrp_fx.capture.origin import class_of_user, of_user
from lrp_fx.errors import InputError

Replace = Callable[[str | None, Tensor], Any]
Hooks = frozenset[tuple[int, int]]
"""Forward hooks, each by the id of its module and its own."""

OBJECTS = 100_000
"""So many objects and entries of containers that are no part of a module are copied, those nearest to
the model first; the rest is shared. A model may hold on to a trainer, and that to everything."""
BYTES = 2**28
"""The same for the memory of NumPy arrays."""


def structural_copy(
    model: nn.Module,
    *,
    replace_tensor: Replace | None = None,
    left_out: Hooks = frozenset(),
) -> nn.Module:
    """A copy of ``model`` in eval mode, of new objects around the same tensors.

    Modules, containers, arrays and objects that the model reaches are copied, and so are the functions
    around what they close over. A global that its code names is copied too, where all code of the
    model that names it can be given the copy; so are the attributes of its classes that hold values.
    What is one object in the model is one in the copy. What cannot be copied is shared: classes, the
    code of libraries, locks, files, generators.

    Args:
        model: the module to copy; it is only read.
        replace_tensor: called with (path, tensor) for each parameter, buffer and tensor attribute,
            returns what stands in its place. The path is None in modules that are not registered.
        left_out: forward hooks of the user's that the copy does not have. It never has backward hooks.

    Raises:
        InputError: for a parameter of a lazy module that has no values yet; running even the copy
            would fill it.
    """
    for path, parameter in model.named_parameters():
        if is_lazy(parameter):
            raise InputError(
                f"the model's parameter '{path}' has no values yet (it is lazy): run the model once on "
                "an example"
            )
    paths = {id(tensor): path for path, tensor in named_tensors(model).items()}
    tensors: dict[int, Any] = {}

    def place(tensor: Tensor) -> Any:
        if replace_tensor is None:
            return tensor
        if id(tensor) not in tensors:
            tensors[id(tensor)] = replace_tensor(paths.get(id(tensor)), tensor)
        return tensors[id(tensor)]

    return _Copier(place, left_out).run(model)  # type: ignore[no-any-return]


_ATOMIC = frozenset(
    [
        *(
            int,
            float,
            complex,
            bool,
            str,
            bytes,
            type(None),
            type(...),
            type(NotImplemented),
            range,
        ),
        *(
            slice,
            object,
            torch.dtype,
            torch.device,
            torch.layout,
            torch.memory_format,
            torch.Size,
        ),
    ]
)
"""Kinds of values without parts that anybody could write to."""
_COPIED = sys.stdlib_module_names | {"numpy"}
"""Packages whose objects know how to be copied."""
_SIZED = (list, tuple, dict, set, frozenset, deque)
_CACHED = functools._lru_cache_wrapper
_PLAIN = (types.BuiltinFunctionType, types.MethodDescriptorType, torch._ops.OpOverloadPacket)
"""What globals and classes often hold and nobody writes to."""
_SHARED = (type, types.ModuleType, enum.Enum, torch.jit.ScriptModule, torch.jit.ScriptFunction)
_DICTS = (OrderedDict, defaultdict, dict)  # what another derives from comes behind it
FORWARD_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
_BACKWARD_HOOKS = ("_backward_hooks", "_backward_pre_hooks")


def _has_state(kind: type) -> bool:
    """Whether an object is its attributes; others say themselves how to be pickled."""
    methods = (
        (getattr(kind, name), getattr(object, name)) for name in ("__reduce_ex__", "__reduce__")
    )
    return all(own is plain for own, plain in methods)


def _slots_of(kind: type) -> list[Any]:
    return [
        slot
        for each in kind.__mro__
        if each.__module__ != "builtins"
        for slot in vars(each).values()
        if isinstance(slot, types.MemberDescriptorType)
    ]


class _HeldRef(weakref.ref[Any]):
    """A weak reference of a copy. It holds what it refers to, for nobody else may."""

    __slots__ = ("held",)
    held: Any


class _Copier:
    """Copies objects, each once.

    An object is made empty first and filled later, so that neither cycles nor depth matter. Sets, and
    dicts with keys that are copied, come behind all others: a hash may depend on what an object holds.
    """

    def __init__(self, place: Callable[[Tensor], Any], left_out: Hooks) -> None:
        self.place, self.left_out = place, left_out
        self.memo: dict[int, tuple[Any, Any]] = {}  # with the original: its id must stay its own
        self.unfilled: deque[Callable[[], None]] = deque()
        self.hashed: list[Callable[[], None]] = []
        self.objects, self.bytes = OBJECTS, BYTES
        self.globals: dict[int, tuple[dict[str, Any], dict[str, Any]]] = {}
        self.named: dict[tuple[int, str], Any] = {}
        self.fixed: set[tuple[int, str]] = set()
        self.seen: dict[Any, Any] = {}
        self.root: Any = None

    def run(self, value: Any) -> Any:
        """The copy, filled."""
        self.root = value
        twin = self.copy(value)
        while self.unfilled or self.hashed or self.named:
            if self.unfilled:
                self.unfilled.popleft()()
            elif self.hashed:
                self.hashed.pop()()
            else:
                self._copy_global(*self.named.popitem())
        return twin

    def copy(self, value: Any) -> Any:
        """The copy of a value, maybe still to be filled; the value itself where it is shared."""
        if type(value) in weakref.ProxyTypes:
            return self._proxy(value)
        if type(value) in _ATOMIC or isinstance(value, _SHARED):
            return value
        if id(value) in self.memo:
            return self.memo[id(value)][1]
        if isinstance(value, Tensor):
            return self.place(value)
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
    def _makers() -> tuple[tuple[Any, Callable[[_Copier, Any], Any]], ...]:
        return (
            (types.FunctionType, _Copier._function),
            (types.MethodType, _Copier._method),
            (types.BuiltinFunctionType, _Copier._builtin_method),
            (functools.partial, _Copier._partial),
            (_CACHED, _Copier._cached),
            (types.CellType, _Copier._cell),
            (weakref.ref, _Copier._weak),
            (_DICTS, _Copier._dict),
            ((list, deque), _Copier._list),
            ((set, frozenset), _Copier._set),
            (tuple, _Copier._tuple),
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
        if hasattr(kind, "__del__") or any(value is part for part in vars(kind).values()):
            return value  # what its copies would close; what code tells by identity, as an enum
        if self._is_sentinel(value):
            return value
        try:
            if kind.__module__ not in sys.stdlib_module_names or _has_state(kind):
                twin = object.__new__(kind)
                self._fill_later(value, twin)
                return twin
        except TypeError:  # made in C
            pass
        return self._of_c(value)

    def _is_sentinel(self, value: Any) -> bool:
        """Whether code tells this object by its identity alone: a global without any state.

        Code that runs as it is, such as a property, compares with the global itself.
        """
        kind = type(value)
        if _slots_of(kind) or getattr(value, "__dict__", None):
            return False
        known = vars(sys.modules.get(kind.__module__, types)).values()
        return any(value is each for each in known) and id(value) not in self._given_attributes()

    def _given_attributes(self) -> set[int]:
        """The ids of the objects that code of the root's assigns attributes of."""
        if "given" in self.seen:
            return self.seen["given"]  # type: ignore[no-any-return]
        given: set[int] = set()
        self.seen["given"] = given
        known: set[types.FunctionType] = set()
        for _, module in walk(self.root) if isinstance(self.root, nn.Module) else ():
            waiting = [function for _, function, _ in functions_of(type(module))]
            while waiting:
                function = waiting.pop()
                names = assigned_attributes(function.__code__)
                given.update(id(vars(module)[name]) for name in names if name in vars(module))
                if function in known:
                    continue
                known.add(function)
                for name, value in named_globals(function):
                    if name in names:
                        given.add(id(value))
                    if isinstance(value, types.FunctionType) and of_user(value):
                        waiting += [value] if value not in known else []
        return given

    def _of_c(self, value: Any) -> Any:
        """A copy of an object made in C, where Python or NumPy know how; else the object itself."""
        kind = type(value)
        if isinstance(value, types.SimpleNamespace):
            twin: Any = types.SimpleNamespace.__new__(kind)
            self._fill_later(value, twin)
            return twin
        if isinstance(value, torch.Generator):
            return torch.Generator(value.device).set_state(value.get_state())
        if kind.__module__.partition(".")[0] in _COPIED:
            with suppress(Exception):  # a lock, a file, a generator
                return deepcopy(value)
        return value

    def _fill_later(self, value: Any, twin: Any) -> None:
        """Give the copy of an object the attributes, later."""
        if hasattr(value, "__dict__") or any("__slots__" in vars(c) for c in type(value).__mro__):
            self.unfilled.append(functools.partial(self._fill_object, value, twin))

    def _fill_object(self, value: Any, twin: Any) -> None:
        for slot in _slots_of(type(value)):
            with suppress(AttributeError, TypeError):  # not assigned yet, or of C
                slot.__set__(twin, self.copy(slot.__get__(value)))
        if hasattr(value, "__dict__"):
            state = twin.__dict__
            state.update((name, self.copy(part)) for name, part in vars(value).items())
            self._shadow(value, state)

    def _shadow(self, value: Any, state: dict[str, Any]) -> None:
        """Copies, on an instance, of what its class holds for all: values, and code that writes."""
        for name, part in self._shadows(type(value)):
            twin = self.copy(part)
            if name in state or twin is part:
                continue
            is_method = isinstance(part, types.FunctionType)
            state[name] = types.MethodType(twin, self.memo[id(value)][1]) if is_method else twin

    def _shadows(self, kind: type) -> list[tuple[str, Any]]:
        """What of a class its copied instances need of their own."""
        if kind in self.seen:
            return self.seen[kind]  # type: ignore[no-any-return]
        found: list[tuple[str, Any]] = []
        self.seen[kind] = found
        if not class_of_user(kind):
            return found
        by_class: set[str] = set()
        classes = {each.__name__ for each in kind.__mro__} | {"type", "cls", "__class__"}
        for name, function, plain in functions_of(kind):
            names = names_in(function.__code__)
            if classes & (names | {*function.__code__.co_varnames}):
                by_class |= names
            if not self._writes(function):
                continue
            if plain:
                found.append((name, function))
            else:
                self._fix(function)
        known: set[str] = set()
        for each in kind.__mro__:
            for name, part in vars(each).items() if class_of_user(each) else ():
                if name in known or name in by_class or name.startswith("__"):
                    continue
                if self._may_be_written(part) and not hasattr(type(part), "__get__"):
                    found.append((name, part))
            known.update(vars(each))
        return found

    # weak references

    def _weak(self, reference: weakref.ref[Any]) -> Any:
        """A reference to the copy of what is referred to; without the callback."""
        target = reference()
        twin = self.copy(target)
        if twin is target:
            return reference
        try:
            held = _HeldRef(twin)
        except TypeError:  # nothing refers weakly to what stands in its place
            return reference
        held.held = twin
        return held

    def _proxy(self, proxy: Any) -> Any:
        """The copy of what a proxy stands for, itself: a proxy would not hold it."""
        try:
            target = proxy.__reduce_ex__.__self__
        except (AttributeError, ReferenceError):  # the target is no more
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
            if all(type(key) in _ATOMIC for key, _ in items):
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
        except TypeError:  # of C, such as what torch.max returns
            return type(value)(items)
        self._fill_later(value, twin)
        return twin

    # what can be called

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
        """A function of the user's with a cache of its own, which is empty."""
        inner = value.__wrapped__
        if not isinstance(inner, types.FunctionType) or not of_user(inner):
            return value
        return functools.lru_cache(**value.cache_parameters())(self.copy(inner))

    def _function(self, function: types.FunctionType) -> Any:
        """The function around copies of what it closes over, of its defaults and of globals."""
        writes = self._writes(function)
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
        """A variable that functions share, and so do their copies."""
        twin = types.CellType()

        def fill() -> None:
            with suppress(ValueError):  # not assigned yet
                twin.cell_contents = self.copy(cell.cell_contents)

        self.unfilled.append(fill)
        return twin

    # globals

    def _globals_of(self, function: types.FunctionType) -> dict[str, Any]:
        """A copy of a function's globals; those that it names are copied in the end."""
        key = id(function.__globals__)
        if key not in self.globals:
            self.globals[key] = function.__globals__, dict(function.__globals__)
        for name, value in named_globals(function):
            if self._may_be_written(value):
                self.named[key, name] = value
        return self.globals[key][1]

    def _copy_global(self, place: tuple[int, str], value: Any) -> None:
        if place not in self.fixed:
            self.globals[place[0]][1][place[1]] = self.copy(value)

    def _fix(self, function: types.FunctionType) -> None:
        """Share the globals that a function names: it runs as it is, and must see what others see."""
        if ("fixed", function) in self.seen:
            return
        self.seen["fixed", function] = True
        key = id(function.__globals__)
        for name, value in named_globals(function):
            if self._may_be_written(value):
                self.fixed.add((key, name))
                if key in self.globals:
                    self.globals[key][1][name] = value
            if isinstance(value, types.FunctionType) and of_user(value):
                self._fix(value)

    def _writes(self, function: types.FunctionType) -> bool:
        """Whether code of the user's may write to globals or to what it closes over."""
        key = "writes", function
        if key not in self.seen:
            self.seen[key] = False  # while it is found out: a function may call itself
            self.seen[key] = of_user(function) and (
                assigns_globals(function.__code__)
                or bool(assigned_cells(function.__code__))
                or any(self._may_be_written(value) for _, value in named_globals(function))
                or any(map(self._may_be_written, closed_over(function)))
            )
        return self.seen[key]  # type: ignore[no-any-return]

    def _may_be_written(self, value: Any) -> bool:
        """Whether a global or an attribute of a class holds something that code may write to."""
        kind = type(value)
        if kind in _ATOMIC or isinstance(value, (*_SHARED, *_PLAIN)):
            return False
        if isinstance(value, types.FunctionType):
            return self._writes(value)
        if kind is tuple or kind is frozenset:
            return any(map(self._may_be_written, value))
        return kind.__module__ not in ("typing", "functools") or isinstance(value, _CACHED)


INTERNAL = frozenset(vars(nn.Module()))
"""The attributes that every module has."""


def held_tensors(model: nn.Module, left_out: Hooks = frozenset()) -> list[Tensor]:
    """All tensors that a structural copy of the model would share, each once."""
    found: list[Tensor] = []
    structural_copy(
        model, replace_tensor=lambda path, tensor: found.append(tensor), left_out=left_out
    )
    return found


def own_buffer(path: str | None, tensor: Tensor) -> Tensor:
    """A tensor of its own for each of the model's; those of parameters are views of them.

    So no forward counts in the model's buffers, or gives its parameters other data. Code that writes
    to the values of parameters needs :func:`own_values`.
    """
    if type(tensor) is not nn.Parameter:
        return tensor if isinstance(tensor, nn.Parameter) else tensor.detach().clone()
    return _parameter(tensor, tensor.detach())


def own_values(path: str | None, tensor: Tensor) -> Tensor:
    """A copy of each of the model's tensors."""
    values = tensor.detach().clone()
    return _parameter(tensor, values) if isinstance(tensor, nn.Parameter) else values


def _parameter(original: nn.Parameter, values: Tensor) -> nn.Parameter:
    requires_grad = original.requires_grad and not values.is_inference()
    parameter = nn.Parameter(values, requires_grad=requires_grad)
    vars(parameter).update(vars(original))
    return parameter


def walk(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """What ``model.named_modules()`` yields, in a third of the time: it runs before each explanation."""
    found: list[tuple[str, nn.Module]] = []
    known: set[nn.Module] = set()
    waiting: list[tuple[str, nn.Module | None]] = [("", model)]
    while waiting:
        path, module = waiting.pop()
        if module is None or module in known:
            continue
        known.add(module)
        found.append((path, module))
        prefix = f"{path}." if path else ""
        waiting += [(prefix + name, child) for name, child in reversed(module._modules.items())]
    return found


def named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """All parameters, buffers and plain tensor attributes of modules, by path.

    A tensor under several paths is under its first one, parameters before buffers before others.
    """
    named: dict[str, Tensor] = {}
    known: set[int] = set()
    modules = [(f"{path}." if path else "", module) for path, module in walk(model)]

    def note(prefix: str, tensors: Iterable[tuple[str, Any]]) -> None:
        for name, value in tensors:
            if value is not None and id(value) not in known:
                known.add(id(value))
                named[prefix + name] = value

    for prefix, module in modules:
        note(prefix, module._parameters.items())
    for prefix, module in modules:
        note(prefix, module._buffers.items())
    for prefix, module in modules:
        own = ((name, v) for name, v in vars(module).items() if name not in INTERNAL)
        note(prefix, (each for each in own if isinstance(each[1], Tensor)))
    return named
