"""The switch: the host model instance's `forward`, which runs the overlay in steps that the schedule gave to it."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from .degree import Degree
from .overlay import Overlay
from .sampled_rows import Rows
from .steps import FallbackReason, StepOutcome

RowsRead = Callable[[], Rows | None]  # asked in a forward: the rows that are read after it; None: any may be
PLAIN_INPUTS = {"input_ids", "positions", "intermediate_tensors", "inputs_embeds"}


class ForwardSwitch:
    """Set on the instance, so that no class of vLLM's changes; its scheduler, sampler, logits and caches see one model.

    Outside of `arm` and `disarm` (warm-up, drafts, graph capture) it is the host's own forward.
    """

    def __init__(self, host: nn.Module, gpus: int) -> None:
        self._host_forward = host.forward
        self._host = host
        self._stock = StepOutcome(Degree.full_tensor(gpus))
        self._unknown_inputs = self._stock._replace(fallback=FallbackReason.INPUTS)
        self._overlays: dict[Degree, Overlay] = {}
        self._armed: Overlay | None = None
        self._rows_read: RowsRead | None = None
        self._outcome = self._stock

    def install(self, overlay: Overlay) -> None:
        """From now on steps can run at the overlay's degree."""
        self._overlays[overlay.degree] = overlay
        self._host.forward = self._forward  # type: ignore[method-assign, unused-ignore]

    def remove(self, degree: Degree) -> None:
        """No step runs at `degree` any more."""
        self._overlays.pop(degree, None)
        if not self._overlays:
            self.remove_all()

    def remove_all(self) -> None:
        """Back to stock vLLM: the class's own forward is found again."""
        self._overlays.clear()
        self._host.__dict__.pop("forward", None)

    def arm(self, degree: Degree, rows_read: RowsRead | None = None) -> None:
        """The forwards until `disarm` run at this degree. Without `rows_read` all rows of theirs are right."""
        self._armed = self._overlays.get(degree)
        self._rows_read = rows_read
        self._outcome = self._stock

    @property
    def armed(self) -> Degree | None:
        """The degree of the overlay that the forwards now run, None for the host's own."""
        return None if self._armed is None else self._armed.degree

    def replayed(self, pad_tokens: int) -> None:
        """A graph of the armed overlay stood in for the forward, with so many rows of padding."""
        if self._armed is not None:
            self._outcome = StepOutcome(self._armed.degree, pad_tokens)

    def disarm(self) -> StepOutcome:
        """The step is over. -> what ran."""
        self._armed = None
        return self._outcome

    def _forward(self, *args: Any, **inputs: Any) -> Any:
        overlay = self._armed
        if overlay is None:
            return self._host_forward(*args, **inputs)
        ids, positions = inputs.get("input_ids"), inputs.get("positions")
        if args or not _plain(inputs) or ids is None or positions is None or positions.ndim != 1:
            self._outcome = self._unknown_inputs
            return self._host_forward(*args, **inputs)
        self._outcome = StepOutcome(overlay.degree, overlay.pad_tokens(ids.shape[0]))
        return overlay.forward(ids, positions, None if self._rows_read is None else self._rows_read())


def _plain(inputs: dict[str, Tensor | None]) -> bool:
    """True where the inputs are token ids and positions alone."""
    return (
        inputs.keys() <= PLAIN_INPUTS
        and inputs.get("intermediate_tensors") is None
        and inputs.get("inputs_embeds") is None
    )
