"""C: one linear layer from [z, h] to the action, for one policy or a whole population at once (paper, section 2.3).

Letters: P candidates, B batch, N parameters, F inputs, A actions.
"""

import torch
from torch import Tensor


class Controller:
    """The shape of C; its parameters are flat vectors, since CMA-ES searches among those.

    Without a hidden layer: raw = W x + b, laid out as W row by row, then b. With `hidden_size` (the paper's V-only
    variant has 40): raw = W2 tanh(W1 x + b1) + b2. The task squashes raw actions into the environment's units.
    """

    def __init__(
        self, input_size: int = 288, action_size: int = 3, bias: bool = True, hidden_size: int = 0
    ):
        sizes = [input_size, hidden_size, action_size] if hidden_size else [input_size, action_size]
        self.layers = list(zip(sizes[:-1], sizes[1:]))
        self.bias = bias

    @property
    def num_params(self) -> int:
        """N: 867 for the paper's CarRacing controller."""
        return sum((inputs + self.bias) * outputs for inputs, outputs in self.layers)

    def act(self, params: Tensor, x: Tensor) -> Tensor:
        """Raw actions of P policies: params (P, N) and x (P, B, F) to (P, B, A).

        Raises ValueError when the parameters or the inputs don't fit this controller.
        """
        P, B, F = x.shape
        if params.shape != (P, self.num_params) or F != self.layers[0][0]:
            sizes = f"{self.num_params} parameters and {self.layers[0][0]} inputs"
            raise ValueError(
                f"controller of {sizes} got params {tuple(params.shape)} and x {tuple(x.shape)}"
            )
        start = 0
        for index, (inputs, outputs) in enumerate(self.layers):
            x = x if index == 0 else torch.tanh(x)
            weight = params[:, start : start + inputs * outputs].view(P, outputs, inputs)
            start += inputs * outputs
            x = x @ weight.transpose(1, 2)  # (P, B, outputs)
            if self.bias:
                x = x + params[:, None, start : start + outputs]
                start += outputs
        return x
