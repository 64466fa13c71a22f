"""Random small models, and random rewrites of them that compute the same.

A :class:`Program` is a list of steps, each a meaning in one of its spellings (see ``spellings``) with
what stands behind it. A rewrite changes the spelling of some steps and inserts identities. The map of
the rewritten program is held against that of the first; where they differ, :func:`shrunk` looks for
the smallest program and rewrite that still do.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, lru_cache, partial

import torch
from torch import Tensor, nn

from lrp_fx import LRPFx, composites, rules
from lrp_fx.composites import Composite, operation
from lrp_fx.errors import LRPError
from lrp_fx.rules import Stabilizer
from tests.helpers.spellings import CLASSES, IDENTITIES, MEANINGS, SIDE, TOKENS, Meaning, Size

TINY = Stabilizer(1e-10)
"""Keeps what ε changes below what a rewrite may change: quotients by the small sums of random models
are larger than the map by a factor of up to a thousand, and ε moves it by as much."""


def sharp(composite: Composite, stabilizer: Stabilizer = TINY) -> Composite:
    """The composite with that ε wherever it has one, in the operations without weights too."""
    lines: list[tuple[composites.Matcher, rules.Rule]] = []
    for matcher, rule in composite.assignments:
        known = getattr(rule, "stabilizer", None)
        tiny = known is not None and known.eps > 0
        lines.append((matcher, replace(rule, stabilizer=stabilizer) if tiny else rule))
    sums = operation("addition", "sum", "average pooling", "interpolation")
    lines += [
        (sums, rules.Proportional(stabilizer)),
        (operation("bilinear"), rules.Half(stabilizer)),
    ]
    lines += [(operation("normalization", "recurrent"), rules.Epsilon(stabilizer=stabilizer))]
    return Composite(lines, name=composite.name, strict=False)


PRESETS: dict[str, Callable[[], Composite | None]] = {
    "zero": composites.Zero,
    "default": lambda: None,
    "epsilon": composites.Epsilon,
    "z_plus": composites.ZPlus,
    "epsilon_plus": composites.EpsilonPlus,
    "epsilon_plus_flat": composites.EpsilonPlusFlat,
    "epsilon_gamma": composites.EpsilonGamma,
    "epsilon_gamma_box": lambda: composites.EpsilonGammaBox(-5.0, 5.0),
    "epsilon_alpha2_beta1": composites.EpsilonAlpha2Beta1,
    "epsilon_alpha2_beta1_flat": composites.EpsilonAlpha2Beta1Flat,
    "uniform": lambda: composites.Uniform(rules.GeneralizedGamma(0.25)),
    "attn_lrp": composites.AttnLRP,
    "cp_lrp": composites.CPLRP,
}
"""All presets by name, what a model gets without one, and one rule everywhere."""

STEMS = {"image": "convolution", "tokens": "linear", "vector": "linear"}
"""Each program starts with a linear map: what a rule for the first layer is about."""

TO_VECTOR = {
    "image": ("global mean",),
    "tokens": ("mean of tokens", "maximum of tokens", "last token"),
}
ENDS = [name for name, each in MEANINGS.items() if each.space == "logits"]
NO_PROBABILITIES = ("where", "masked_fill", "padded")
"""Identities whose numbers are no probabilities on the way: behind final ones the result is explained."""
PRODUCTS = ("gates", "products re-associated, commuted")
TARGET = 1


@dataclass(frozen=True)
class Step:
    """A meaning, the values that it reads, its spelling, and the identities behind it."""

    meaning: str
    reads: tuple[int, ...]
    spelling: str
    behind: tuple[str, ...] = ()

    def __str__(self) -> str:
        reads = ", ".join(f"v{i}" for i in self.reads)
        words = "".join(f", then {each}" for each in self.behind)
        return f"{self.meaning}({reads}) as '{self.spelling}'{words}"


@dataclass(frozen=True)
class Program:
    """A network: value 0 is the input, value i + 1 the result of step i, the last one the output."""

    space: str
    width: int
    seed: int
    steps: tuple[Step, ...]

    def size(self, space: str) -> Size:
        """The shape of a sample."""
        sizes = {
            "image": (self.width, SIDE, SIDE),
            "tokens": (TOKENS, self.width),
            "vector": (self.width,),
            "logits": (CLASSES,),
        }
        return sizes[space]

    def spaces(self) -> list[str]:
        """The space of each value."""
        found = [self.space]
        for step in self.steps:
            found.append(result_space(step, found))
        return found

    def input(self) -> Tensor:
        """Two samples."""
        generator = torch.Generator().manual_seed(self.seed)
        x = torch.randn(2, *self.size(self.space), generator=generator, dtype=torch.double)
        return x.clamp(-5, 5)

    def __str__(self) -> str:
        lines = [f"v{i + 1} = {step}" for i, step in enumerate(self.steps)]
        return "\n".join([f"v0: {self.space} of width {self.width}, seed {self.seed}", *lines])


def result_space(step: Step, spaces: list[str]) -> str:
    if step.meaning == "head":
        return "logits"
    result = MEANINGS[step.meaning].result
    return spaces[step.reads[0]] if result == "features" else result


Write = Callable[..., Tensor]
"""How a step computes its value from its module and its operands."""


class Network(nn.Module):
    """The steps of a program, one after the other.

    It holds its own steps and not the table of meanings: what a model's code refers to is looked at
    in every call of an attribution.

    Args:
        writes: of each step, how it is computed, and the places of the values that it reads.
        parts: the modules of the steps, by name; a step without one has none in the tree either.
    """

    def __init__(
        self, writes: list[tuple[str, Write, tuple[int, ...]]], parts: dict[str, nn.Module | None]
    ) -> None:
        super().__init__()
        self.writes = writes
        for name, part in parts.items():
            if part is None:
                setattr(self, name, None)
            else:
                self.add_module(name, part)

    def forward(self, x: Tensor) -> Tensor:
        values = [x]
        for name, write, reads in self.writes:
            values.append(write(getattr(self, name), *(values[place] for place in reads)))
        return values[-1]


def network(program: Program) -> Network:
    """A program as a module in eval mode and float64; a step's parameters do not depend on spelling."""
    spaces, values = program.spaces(), [0]  # values: the place of each step's value
    writes: list[tuple[str, Write, tuple[int, ...]]] = []
    parts: dict[str, nn.Module | None] = {}

    def add(name: str, write: Write, part: nn.Module | None, reads: tuple[int, ...]) -> None:
        writes.append((name, write, reads))
        parts[name] = part

    for i, step in enumerate(program.steps):
        torch.manual_seed(program.seed * 1000 + i)
        reads = tuple(values[place] for place in step.reads)
        if step.meaning == "head":
            add(f"step{i}", apply, nn.Linear(program.width, CLASSES), reads)
        else:
            each = MEANINGS[step.meaning]
            part, spelling = each.make(program.width), each.spellings[step.spelling]
            add(f"step{i}", spelling.write, spelling.prepare(part and part.double()), reads)
        size = program.size(spaces[i + 1])
        for place, name in enumerate(step.behind):
            identity = IDENTITIES[name]
            write = partial(of_size, identity.write, size)
            add(f"behind{i}_{place}", write, identity.make(), (len(writes),))
        values.append(len(writes))
    return Network(writes, parts).double().eval()


def apply(part: nn.Module, value: Tensor) -> Tensor:
    """The value of a module."""
    result: Tensor = part(value)
    return result


def of_size(write: Write, size: tuple[int, ...], part: nn.Module | None, value: Tensor) -> Tensor:
    """An identity, which is told the size of a sample."""
    return write(part, value, size)


def fits(meaning: Meaning, space: str) -> bool:
    """Whether a meaning reads values of that space."""
    return meaning.space == space or (meaning.space == "features" and space != "image")


def random_program(draw: random.Random, seed: int) -> Program:
    """A stem, some steps, a way to a vector, a linear head, an end; in the first spellings."""
    space = draw.choice(["image", "tokens", "tokens", "vector"])
    spaces, steps = [space], list[Step]()

    def add(name: str, reads: tuple[int, ...]) -> None:
        if name == "global mean" and MEANINGS[steps[-1].meaning].result == "image":
            add("GELU of image", reads)  # the mean of a normed image is a constant
            reads = (len(spaces) - 1,)
        steps.append(Step(name, reads, "linear" if name == "head" else MEANINGS[name].first))
        spaces.append(result_space(steps[-1], spaces))

    add(STEMS[space], (0,))
    for _ in range(draw.randint(2, 4)):
        last = len(spaces) - 1
        same = [i for i in range(1, last) if spaces[i] == spaces[last]]
        kinds: dict[str, list[str]] = {}
        of_product = MEANINGS[steps[-1].meaning].kind in PRODUCTS
        for name, each in MEANINGS.items():
            if of_product and name == "experts":
                continue  # a softmax of scores is attention, and a sigmoid of their difference is none
            if fits(each, spaces[last]) and each.operands <= 1 + len(same):
                kinds.setdefault(each.kind, []).append(name)
        name = draw.choice(kinds[draw.choice(list(kinds))])
        others = draw.sample(same, MEANINGS[name].operands - 1)
        add(name, (last, *others))
    if spaces[-1] in TO_VECTOR:
        add(draw.choice(TO_VECTOR[spaces[-1]]), (len(spaces) - 1,))
    add("head", (len(spaces) - 1,))
    add(draw.choice(ENDS), (len(spaces) - 1,))
    return Program(space, draw.choice([4, 6]), seed, tuple(steps))


def around(name: str, width: int = 6, seed: int = 0) -> Program:
    """The smallest program with that meaning in it."""
    each = MEANINGS[name]
    if each.space == "logits":
        steps = [Step("linear", (0,), MEANINGS["linear"].first), Step("head", (1,), "linear")]
        return Program("vector", width, seed, (*steps, Step(name, (2,), each.first)))
    space = "tokens" if each.space == "features" else each.space
    stem = STEMS[space]
    steps = [Step(stem, (0,), MEANINGS[stem].first)]
    steps += [  # other values for the sums
        Step(f"tanh of {'image' if space == 'image' else 'features'}", (i,), "as modules")
        for i in range(1, each.operands)
    ]
    steps.append(Step(name, tuple(range(1, 1 + each.operands)), each.first))
    if each.result == "image":  # the mean of a normed image does not depend on it
        steps.append(Step("GELU of image", (len(steps),), "as modules"))
    result = result_space(steps[-1], Program(space, width, seed, tuple(steps[:-1])).spaces())
    if result in TO_VECTOR:
        if result == "tokens":
            steps.append(Step("linear", (len(steps),), MEANINGS["linear"].first))
        steps.append(
            Step(TO_VECTOR[result][0], (len(steps),), MEANINGS[TO_VECTOR[result][0]].first)
        )
    steps.append(Step("head", (len(steps),), "linear"))
    return Program(space, width, seed, tuple(steps))


@dataclass(frozen=True)
class Change:
    """One rewrite at one step: another spelling, or an identity behind it."""

    step: int
    spelling: str = ""
    behind: str = ""

    def __str__(self) -> str:
        return f"v{self.step + 1}: {self.spelling or f'{self.behind} behind it'}"


@dataclass(frozen=True)
class Case:
    """A program and what is rewritten in it."""

    program: Program
    changes: tuple[Change, ...]

    def kinds(self) -> list[str]:
        """The kind of each change."""
        return [self._spelling(change).kind for change in self.changes]

    def _spelling(self, change: Change):  # type: ignore[no-untyped-def]
        if change.behind:
            return IDENTITIES[change.behind]
        return MEANINGS[self.program.steps[change.step].meaning].spellings[change.spelling]

    def rewritten(self, preset: str = "zero") -> Program:
        """The program after all changes that the map under a preset must survive."""
        steps = list(self.program.steps)
        for change in self.changes:
            step = steps[change.step]
            if change.behind:
                steps[change.step] = replace(step, behind=(*step.behind, change.behind))
            elif (under := self._spelling(change).under) is None or preset in under:
                steps[change.step] = replace(step, spelling=change.spelling)
        return replace(self.program, steps=tuple(steps))


def random_case(seed: int) -> Case:
    """A random program with most of its steps written in another way."""
    draw = random.Random(seed)
    program = random_program(draw, seed)
    changes = []
    for i, step in enumerate(program.steps):
        if step.meaning == "head":
            continue
        others = list(MEANINGS[step.meaning].spellings)[1:]
        if others and draw.random() < 0.8:
            changes.append(Change(i, spelling=draw.choice(others)))
        if draw.random() < 0.4:
            known = [
                name
                for name, each in IDENTITIES.items()
                # behind final probabilities only what leaves them probabilities
                if i < len(program.steps) - 1
                or (
                    each.kind != "constant factors inserted"
                    and not name.startswith(NO_PROBABILITIES)
                )
            ]
            changes.append(Change(i, behind=draw.choice(known)))
    return Case(program, tuple(changes))


def every_case() -> Iterator[tuple[str, Case]]:
    """Each spelling of each meaning, and each identity, by itself in a small program."""
    for name, each in MEANINGS.items():
        program = around(name)
        place = next(i for i, step in enumerate(program.steps) if step.meaning == name)
        for i, step in enumerate(program.steps):  # the last one of them, if the stem is one too
            place = i if step.meaning == name and name != "linear" else place
        for spelling in list(each.spellings)[1:]:
            yield f"{name}: {spelling}", Case(program, (Change(place, spelling=spelling),))
    for name in IDENTITIES:
        for meaning in ("GELU of image", "layer norm", "two linear maps"):
            program = around(meaning)
            yield f"{meaning}, {name} behind", Case(program, (Change(1, behind=name),))


# --- how far off ----------------------------------------------------------------------------------

Explain = Callable[[nn.Module, Tensor], Tensor]


def composite_of(preset: str, stabilizer: Stabilizer = TINY) -> Composite | None:
    """A preset made sharp; None for the default, which LRPFx chooses."""
    composite = PRESETS[preset]()
    return composite and sharp(composite, stabilizer)


def explained(preset: str) -> Explain:
    """The library's maps under a preset."""
    return lambda model, x: LRPFx(model, composite_of(preset)).attribute(x, TARGET)


SAME_FUNCTION = 1e-10
"""Of max |y|: both spellings compute the same in float64, sums in another order."""


def same_function(case: Case, preset: str = "zero") -> bool:
    """Whether the rewritten program computes the same."""
    x = case.program.input()
    with torch.no_grad():
        a, b = (network(each)(x) for each in (case.program, case.rewritten(preset)))
    return a.shape == b.shape and bool((a - b).abs().max() <= SAME_FUNCTION * a.abs().max())


@lru_cache(maxsize=16)
def attribution_of(program: Program) -> LRPFx:
    """An attribution of a program's network that has read it."""
    lrp = LRPFx(network(program), composite_of("zero"))
    lrp.attribute(program.input(), TARGET)
    return lrp


@cache
def map_of(program: Program, preset: str, stabilizer: Stabilizer = TINY) -> Tensor:
    """The library's map of a program, made once."""
    lrp = attribution_of(program).with_composite(composite_of(preset, stabilizer))
    return lrp.attribute(program.input(), TARGET)


def limit_of(program: Program, preset: str) -> Tensor:
    """The map for ε → 0: ``2 R(ε) − R(2ε)``, which is off by the second order of ε only."""
    return 2 * map_of(program, preset) - map_of(program, preset, Stabilizer(2 * TINY.eps))


def deviation(case: Case, preset: str, of: Callable[[Program, str], Tensor] = map_of) -> float:
    """How far the rewritten map is off, of max |R|; with ``limit_of`` what ε does not explain."""
    expected, mine = (of(each, preset) for each in (case.program, case.rewritten(preset)))
    off, largest = (mine - expected).abs().max(), expected.abs().max()
    return float(off / largest if largest else off)  # z⁺ may have nothing to give the relevance to


def shrunk(case: Case, fails: Callable[[Case], bool]) -> Case:
    """The smallest case that still fails: changes undone, then steps left out, one by one."""

    def still_fails(each: Case) -> bool:
        try:
            return fails(each)
        except LRPError:  # another model, and refused
            return False

    smaller = True
    while smaller:
        smaller = False
        for each in (*_less_changes(case), *_less_steps(case)):
            if still_fails(each):
                case, smaller = each, True
                break
    return case


def _less_changes(case: Case) -> Iterator[Case]:
    for change in case.changes:
        yield replace(case, changes=tuple(c for c in case.changes if c is not change))


def _less_steps(case: Case) -> Iterator[Case]:
    """Without one step that keeps the space and is not rewritten; its readers read what it read."""
    program, spaces = case.program, case.program.spaces()
    for i, step in enumerate(program.steps):
        changed = any(change.step == i for change in case.changes)
        if changed or step.meaning == "head" or spaces[step.reads[0]] != spaces[i + 1]:
            continue

        def place(value: int, i: int = i, source: int = step.reads[0]) -> int:
            value = source if value == i + 1 else value
            return value - (value > i + 1)

        steps = tuple(
            replace(each, reads=tuple(map(place, each.reads)))
            for j, each in enumerate(program.steps)
            if j != i
        )
        changes = tuple(replace(c, step=c.step - (c.step > i)) for c in case.changes)
        if steps:
            yield Case(replace(program, steps=steps), changes)


def report(case: Case, preset: str, off: float | str) -> str:
    """What was rewritten, in which program, and how far off the map is."""
    words = f"{off:.2g} of max |R|" if isinstance(off, float) else off
    changes = "\n".join(f"  {change}" for change in case.changes)
    return f"under {preset} the map is off by {words}\n{case.program}\nrewritten\n{changes}"
