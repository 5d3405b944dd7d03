"""Cut any Hugging Face encoder in two before one of its layers, so that a frozen lower half can be cached.

Encoders differ in what is around their layers: projected embeddings, positions passed to every layer, a norm after the
last. So no half is built from parts; the whole model runs both times. The lower half stops when it reaches the layer.
The upper half lets its input pass through the layers below and gives the cached values to the layer. Whether both give
exactly what the uncut model gives is tested when the cut is made.
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
    """The forward pass reached the layer; nothing after it is needed."""


def layers_of(model: nn.Module) -> nn.ModuleList:
    """Return the layers of an encoder: the longest list of modules in it, the outermost if several are as long.

    Raises:
        ValueError: there is no list of modules.
    """
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    if not lists:
        raise ValueError(f"{type(model).__name__} has no layers")
    return max(lists, key=len)  # the first of the longest


class LayerCut:
    """An encoder, cut before one of its layers.

    Attributes:
        model: the whole encoder.
        layers: all its layers.
        at: the first layer of the upper half; the number of layers if the lower half is the whole encoder.
        width: values of the last hidden state of each token.
        exact: True if the two halves, one after the other, give what the whole encoder gives.
    """

    def __init__(self, model: nn.Module, at: int) -> None:
        """Cut `model`, in evaluation mode, before its layer `at`.

        Raises:
            IndexError: the model has fewer layers.
            Exception: what a model raises that does not take token ids and a mask.
        """
        self.model = model
        self.layers = layers_of(model)
        if not 0 <= at <= len(self.layers):
            raise IndexError(f"there are only {len(self.layers)} layers")
        self.at = at
        ids = torch.arange(3, 17).reshape(2, 7)
        mask = torch.ones_like(ids)
        mask[1, 4:] = 0
        # How many values a layer returns; None if it returns the hidden values alone, not in a tuple.
        self._outputs: int | None = None
        handle = self.layers[0].register_forward_hook(self._note_outputs)
        with torch.no_grad():
            whole = self.whole(ids, mask)
            handle.remove()
            self.width = int(whole.shape[-1])
            try:
                halves = self.upper(self.lower(ids, mask), mask)
            except Exception:  # layers that pass more to each other than hidden values
                self.exact = False
            else:
                error = ((halves - whole) * mask.unsqueeze(-1)).abs().max()
                self.exact = bool(error <= TOLERANCE * whole.abs().max())
        self._example = (ids, mask)

    def whole(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Compute the last hidden state (B, T, width) from token ids and mask (B, T)."""
        hidden: Tensor = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
        return hidden

    def lower(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Compute the input (B, T, width) of the layer `at` from token ids and mask (B, T)."""
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
        """Compute the last hidden state (B, T, width) from the input (B, T, width) of the layer `at`."""
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
            # The mask stands in for token ids: what the lower layers compute from them is not used.
            return self.whole(mask, mask)

    def learned_below(self) -> list[nn.Parameter]:
        """Return the parameters that the input of the layer `at` depends on."""
        with torch.enable_grad():
            return self._used(self.lower(*self._example))

    def unused(self) -> list[nn.Parameter]:
        """Return the parameters that the last hidden state does not depend on, such as those of a pooler."""
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
        """Let the layers below the cut return their input."""
        below = list(self.layers)[: self.at]
        for layer in below:
            layer.forward = self._give_back
        try:
            yield
        finally:
            for layer in below:
                del layer.forward  # the method of the class is visible again

    def _give_back(self, *args: Any, **kwargs: Any) -> Any:
        hidden = args[0] if args else kwargs["hidden_states"]
        return hidden if self._outputs is None else (hidden, *[None] * (self._outputs - 1))


@contextlib.contextmanager
def _hook(layer: nn.Module, work: Callable[..., Any]) -> Iterator[None]:
    """Let `work` see, and change, the input of a layer."""
    handle = layer.register_forward_pre_hook(work, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()
