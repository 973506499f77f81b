"""Parts of the network that are not trained."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from mtl_core.errors import MtlError, nearest
from mtl_core.hooks.relay import Hooks
from mtl_core.training.network import Network


def freeze_parts(network: Network, names: Sequence[str]) -> None:
    """Keep parts of the network as they are, in evaluation mode: their batch norm does not move either.

    :param names: tasks, whose heads are meant, or parts by their names in the network, such as ``backbone``
    :raises MtlError: there is no such task or part
    """
    for name in names:
        part = _part_of(network, name)
        part.requires_grad_(False)
        network.fix(part)


def _part_of(network: Network, name: str) -> nn.Module:
    if name in network.tasks.names:
        name = f"heads.{name}"
    parts: dict[str, nn.Module] = {path: part for path, part in network.named_modules() if path}
    if name in parts:
        return parts[name]
    known = [*network.tasks.names, *parts]
    some = [*network.tasks.names, *(path for path in parts if path.count(".") < 2 and path.startswith("backbone"))]
    hint = nearest(name, known) or f" (such as: {', '.join(some[:12])})"
    raise MtlError(f'freeze: there is no task and no part of the network "{name}"{hint}')


def check_trained(network: Network, hooks: Hooks) -> None:
    """Refuse what could not be trained.

    :raises MtlError: everything is frozen, or the encoder is and a plugin shapes or watches its gradient
    """
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise MtlError("freeze: nothing of the network is left to train; leave a part out")
    if any(parameter.requires_grad for parameter in network.backbone.parameters()):
        return
    for hook in ("shape_encoder_gradient", "watch_encoder_gradient"):
        for plugin, _ in hooks.implementations(hook):
            raise MtlError(
                f'freeze: the whole encoder is frozen, and plugin "{plugin}" works on its gradient; leave one of them'
                " out"
            )
