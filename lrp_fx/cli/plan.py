"""The command ``lrp-fx plan``: which operation gets which rule, and why."""

from __future__ import annotations

from typing import Any

from lrp_fx.attribution import Plan
from lrp_fx.cli.examples import Example, Shape, example_of
from lrp_fx.cli.methods import lrp_of
from lrp_fx.cli.models import open_model
from lrp_fx.cli.options import Composite, ModelOptions, RuleOptions, TalkOptions
from lrp_fx.cli.talk import Talk
from lrp_fx.errors import CaptureError


def plan(
    model: ModelOptions,
    rules: RuleOptions,
    talk: TalkOptions,
    composite: Composite = None,
    input: Example = None,
    shape: Shape = None,
) -> None:
    """Print which operation of a model gets which rule, and which line of the composite chose it.

    Nothing is explained. An example is needed only for models that cannot be read without one.

    Exit code: 0 all well, 2 wrong usage.

    Examples:
      lrp-fx plan
      lrp-fx plan --model torchvision/resnet18 --weights resnet18.pth --composite epsilon_plus
      lrp-fx plan --model my_models.py:make --shape 1,16 --json
    """
    voice = Talk(talk)
    with voice.usage():
        loaded = open_model(model, voice)
        lrp = lrp_of(loaded, composite, rules)
        if input is None and shape is None:
            try:
                found = lrp.plan()
            except CaptureError:
                found = lrp.plan(example_of(loaded, None, None))
        else:
            found = lrp.plan(example_of(loaded, input, shape))
    if talk.quiet:
        counted: dict[str, int] = {}
        for row in rows_of(found):
            counted[row["rule"]] = counted.get(row["rule"], 0) + 1
        for rule, count in counted.items():
            voice.result(f"{count} × {rule}")
    else:
        voice.result(str(found))
    voice.document({"command": "plan", "notes": list(found.notes), "steps": rows_of(found)})


def rows_of(plan: Plan) -> list[dict[str, Any]]:
    """The steps of a plan as plain values."""
    return [
        {
            "node": step.node.name,
            "module": step.path,
            "operation": step.place.operation,
            "rule": str(step.rule),
            "chosen_by": step.chosen_by,
            "top_k": None if step.top_k is None else step.top_k.share,
        }
        for step in plan.steps
        if step.place is not None
    ]
