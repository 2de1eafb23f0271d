"""Linear representations: groups that act by matrices, and by signs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .actions import Action
from .groups import FiniteGroup
from .options import checked
from .permutations import complete

__all__ = ["MatrixAction", "Sign"]


class MatrixAction(Action):
    """A matrix representation acting along one dimension: x -> rho(g) x.

    Parameters
    ----------
    matrices : ``(|G|, n, n)`` floats
        rho(g) for each element, with rho(g h) = rho(g) rho(h). Give float64 for float64 work.
    dim : int
        The dimension of size n that rho acts along.
    """

    def __init__(self, group: FiniteGroup, matrices: Tensor | Sequence, dim: int = -1):
        super().__init__(group)
        rho = torch.as_tensor(matrices)
        if rho.ndim != 3 or len(rho) != len(group) or rho.shape[1] != rho.shape[2]:
            raise ValueError(
                f"{group!r} needs one square matrix per element, shape ({len(group)}, n, n), got "
                f"{tuple(rho.shape)}"
            )
        if rho.is_complex():
            raise ValueError(
                f"the matrices must be real, got dtype {rho.dtype}: write each complex number a + bi "
                "as the 2 x 2 block [[a, -b], [b, a]]"
            )
        if not rho.is_floating_point():
            rho = rho.to(torch.get_default_dtype())
        # Not a buffer: model.half() must not round it. It is converted when used.
        self._representation = rho.detach().clone()
        self.dim = -1  # on the rows of the identity matrix, the check sees all of rho
        basis = torch.eye(rho.shape[-1], dtype=rho.dtype, device=rho.device)
        self.check(basis, rtol=1e-10 if rho.dtype == torch.float64 else 1e-5)
        self.dim = checked("dim", int, dim)

    def act(self, g: int, x: Tensor) -> Tensor:
        rho = self._representation[g].to(x.device, x.dtype)
        with torch.autocast(x.device.type, enabled=False):  # it would round x to half precision
            return (x.movedim(self.dim, -1) @ rho.T).movedim(-1, self.dim)

    def validate(self, x: Tensor) -> None:
        n = self._representation.shape[-1]
        if not -x.ndim <= self.dim < x.ndim or x.shape[self.dim] != n or not x.is_floating_point():
            raise ValueError(
                f"this representation acts on {n} real numbers along dimension {self.dim}, but the "
                f"tensor has shape {tuple(x.shape)} and dtype {x.dtype}"
            )


class Sign(Action):
    """A representation by signs: x -> x or -x, such as a score that changes sides with the players.

    Parameters
    ----------
    signs : ``|G|`` values 1 or -1, or a dict {generator name: 1 or -1}, optional
        With sign(g h) = sign(g) sign(h). Default: the sign representation, -1 for the elements whose
        permutation (``group.permutations``) is odd: the swap of C2, the transpositions of S_n.

    Raises
    ------
    ValueError
        If a value is not 1 or -1, if the signs are not a representation, or, when acting, if the
        tensor is boolean or of unsigned integers.
    """

    def __init__(self, group: FiniteGroup, signs: Sequence[int] | Mapping[str, int] | None = None):
        super().__init__(group)
        if signs is None:
            signs = {
                s.name: _parity(group.permutations[s.index].tolist()) for s in group.generators
            }
        values = list(signs.values() if isinstance(signs, Mapping) else signs)
        values = [checked("each sign", int, value) for value in values]
        if not {*values} <= {1, -1}:
            raise ValueError(f"each sign must be 1 or -1, got {values}")
        swaps = [[0, 1] if value == 1 else [1, 0] for value in values]  # -1 as a swap of two points
        try:
            rows = dict(zip(signs, swaps, strict=True)) if isinstance(signs, Mapping) else swaps
            perms = complete(group, rows) if values else [[0, 1]]
        except ValueError as error:
            raise ValueError(
                f"signs must satisfy sign(g h) = sign(g) sign(h), one for each element or generator "
                f"of {group!r}. As swaps of two points: {error}"
            ) from error
        self.signs: list[int] = [1 if int(row[0]) == 0 else -1 for row in perms]

    def act(self, g: int, x: Tensor) -> Tensor:
        return x if self.signs[g] == 1 else -x

    def validate(self, x: Tensor) -> None:
        if not x.dtype.is_signed:
            raise ValueError(f"Sign acts on signed numbers, got dtype {x.dtype}: -x is not in it")

    def extra_repr(self) -> str:
        odd = [name for name, sign in zip(self.group.names, self.signs, strict=True) if sign < 0]
        return f"{self.group!r}, -1 for {', '.join(odd) or 'none'}"


def _parity(permutation: Sequence[int]) -> int:
    """1 if the permutation is even, -1 if it is odd: each cycle of even length counts."""
    sign, seen = 1, set()
    for start in range(len(permutation)):
        i = start
        while i not in seen:
            seen.add(i)
            i = permutation[i]
            sign = -sign if i not in seen else sign
    return sign
