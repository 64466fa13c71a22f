"""A model, watched for changes of what a reading of it depends on."""

from __future__ import annotations

from torch import Tensor, nn

from lrp_fx.capture.members import named_tensors
from lrp_fx.capture.signature import Signature, Walk
from lrp_fx.capture.watch import Watch


class ModelState:
    """A model, watched: its signature and its tensors as they are now.

    The signature is made anew only if something was replaced. Whether it was is seen from the identities
    of all that a container, an object or a function holds, which are compared in one go.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.tensors: dict[str, Tensor] = {}
        """The model's tensors by path, as of the last :meth:`signature`."""
        self._signature = Signature((), [], False)
        self._watch = Watch()

    def signature(self) -> Signature:
        """What a reading of the model depends on now."""
        if not self._watch.holds():
            self.tensors = named_tensors(self.model)
            walk = Walk({id(tensor): path for path, tensor in self.tensors.items()})
            signature = walk.signature((self.model,))
            self._watch = walk.watch
            self._watch.begin(self.tensors.values())
            if signature != self._signature:
                self._signature = signature
        return self._signature
