"""A watch on a model that notices when it has to be captured again."""

from __future__ import annotations

from torch import Tensor, nn

from lrp_fx.capture.members import named_tensors
from lrp_fx.capture.signature import Signature, Walk
from lrp_fx.capture.watch import Watch


class ModelState:
    """The current signature and tensors of a model.

    The signature is computed again only if some part of the model was replaced. To find that out,
    the identities of all parts are compared, which is fast.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.tensors: dict[str, Tensor] = {}
        """The model's tensors by path, as of the last :meth:`signature`."""
        self._signature = Signature((), [], False)
        self._watch = Watch()

    def signature(self) -> Signature:
        """The signature of all that a capture of the model depends on, as it is now."""
        if not self._watch.holds():
            self.tensors = named_tensors(self.model)
            walk = Walk({id(tensor): path for path, tensor in self.tensors.items()})
            signature = walk.signature((self.model,))
            self._watch = walk.watch
            self._watch.begin(self.tensors.values())
            if signature != self._signature:
                self._signature = signature
        return self._signature
