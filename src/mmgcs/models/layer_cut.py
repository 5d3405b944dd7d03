"""Cutting any Hugging Face encoder in two before one of its layers, so that a frozen lower half can be cached.

Encoders differ in what stands around their layers: embeddings that are projected, positions that every layer is given,
a norm after the last. So no half is built from parts. The whole model runs both times: for the lower half until it
reaches the layer, for the upper half with the layers below passing through and the layer given the cached values.
Whether that gives exactly what the uncut model gives is tried out when the cut is made.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

TOLERANCE = 1e-4
"""How far the two halves may be from the whole, of its largest value."""


class _ReachedError(Exception):
    """The forward pass came to the layer; nothing after it is needed."""


def layers_of(model: nn.Module) -> nn.ModuleList:
    """The layers of an encoder: the longest list of modules in it, the outermost of equals.

    Raises:
        ValueError: it has none.
    """
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    if not lists:
        raise ValueError(f"{type(model).__name__} has no layers")
    return max(lists, key=len)  # the first of the longest


class LayerCut:
    """An encoder, cut before one of its layers.

    Attributes:
        model: the encoder, whole.
        layers: all its layers.
        at: the layer that the upper half begins with; the number of layers where there is no upper half.
        width: values of the last hidden state for each token.
        exact: whether the two halves, one after the other, give what the whole gives.
    """

    def __init__(self, model: nn.Module, at: int) -> None:
        """Cut `model`, in evaluation mode, before its layer `at`.

        Raises:
            IndexError: it has fewer layers.
            Exception: whatever the model raises that cannot read token ids and a mask.
        """
        self.model = model
        self.layers = layers_of(model)
        if not 0 <= at <= len(self.layers):
            raise IndexError(f"there are only {len(self.layers)} layers")
        self.at = at
        ids = torch.arange(3, 17).reshape(2, 7)
        mask = torch.ones_like(ids)
        mask[1, 4:] = 0
        # How many values a layer gives back; None where it gives the hidden values alone, and not as a tuple.
        self._outputs: int | None = None
        handle = self.layers[0].register_forward_hook(self._note_outputs)
        with torch.no_grad():
            whole = self.whole(ids, mask)
            handle.remove()
            self.width = int(whole.shape[-1])
            try:
                halves = self.upper(self.lower(ids, mask), mask)
            except Exception:  # an encoder whose layers need more from each other than hidden values
                self.exact = False
            else:
                error = ((halves - whole) * mask.unsqueeze(-1)).abs().max()
                self.exact = bool(error <= TOLERANCE * whole.abs().max())
        self._example = (ids, mask)

    def whole(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Token ids and mask (B, T) to the last hidden state (B, T, width)."""
        hidden: Tensor = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
        return hidden

    def lower(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Token ids and mask (B, T) to what the layer `at` is given (B, T, width)."""
        if self.at == len(self.layers):
            return self.whole(ids, mask)
        found: list[Tensor] = []

        def stop(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            del layer
            found.append(args[0] if args else kwargs["hidden_states"])
            raise _ReachedError

        with _hook(self.layers[self.at], stop), contextlib.suppress(_ReachedError):
            self.whole(ids, mask)
        return found[0]

    def upper(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """What the layer `at` is given (B, T, width) to the last hidden state (B, T, width)."""
        if self.at == len(self.layers):
            return hidden
        given = [hidden]  # once: an encoder may run the same layer many times

        def put(
            layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
            del layer
            if not given:
                return None
            if args:
                return (given.pop(), *args[1:]), kwargs
            return args, {**kwargs, "hidden_states": given.pop()}

        with self._passing_through(), _hook(self.layers[self.at], put):
            # The mask's 0 and 1 are ids of some tokens; what is made of them is not used.
            return self.whole(mask, mask)

    def learned_below(self) -> list[nn.Parameter]:
        """The parameters that what the layer `at` is given depends on."""
        with torch.enable_grad():
            return self._used(self.lower(*self._example))

    def unused(self) -> list[nn.Parameter]:
        """The parameters that nothing depends on, such as those of a pooler."""
        with torch.enable_grad():
            used = {id(parameter) for parameter in self._used(self.whole(*self._example))}
        return [parameter for parameter in self.model.parameters() if id(parameter) not in used]

    def _used(self, output: Tensor) -> list[nn.Parameter]:
        parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        found = torch.autograd.grad(output.sum(), parameters, allow_unused=True)
        return [parameter for parameter, gradient in zip(parameters, found, strict=True) if gradient is not None]

    def _note_outputs(self, layer: nn.Module, args: Any, output: Any) -> None:
        del layer, args
        self._outputs = len(output) if isinstance(output, tuple) else None

    @contextlib.contextmanager
    def _passing_through(self) -> Iterator[None]:
        """The layers below the cut give back what they are given."""
        below = list(self.layers)[: self.at]
        for layer in below:
            layer.forward = self._give_back
        try:
            yield
        finally:
            for layer in below:
                del layer.forward  # the class's own shows again

    def _give_back(self, *args: Any, **kwargs: Any) -> Any:
        hidden = args[0] if args else kwargs["hidden_states"]
        return hidden if self._outputs is None else (hidden, *[None] * (self._outputs - 1))


@contextlib.contextmanager
def _hook(layer: nn.Module, work: Callable[..., Any]) -> Iterator[None]:
    """Let `work` see, and change, what a layer is given."""
    handle = layer.register_forward_pre_hook(work, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()
