"""Nodes and arrays of an ONNX graph as it grows.

Operators: https://onnx.ai/onnx/operators/
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from onnx import NodeProto, TensorProto


class Graph:
    """Nodes in the order in which they are computed, and the arrays that they take.

    Attributes
    ----------
    nodes : list of NodeProto
    arrays : list of TensorProto
        Weights and other constants. Floats are float32, the type that every runtime computes with.
    """

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.arrays: list[TensorProto] = []

    def add(
        self,
        name: str,
        operator: str,
        *inputs: str,
        arrays: dict[str, NDArray[Any]] | None = None,
        outputs: tuple[str, ...] = (),
        **attributes: Any,
    ) -> str:
        """Add a node, and return the name of its first output.

        Parameters
        ----------
        name : str
            Of the node, and of its output.
        operator : str
            One of ONNX's.
        *inputs : str
            Names of what it takes.
        arrays : dict of NDArray, optional
            What it takes beside them, in order; kept in the graph as ``name.key``.
        outputs : tuple of str, optional
            Where it has several outputs, or one by another name.
        **attributes
            The operator's.
        """
        from onnx import helper

        constants = [self.constant(f"{name}.{key}", array) for key, array in (arrays or {}).items()]
        outputs = outputs or (name,)
        self.nodes.append(
            helper.make_node(operator, [*inputs, *constants], outputs, name=name, **attributes)
        )
        return outputs[0]

    def constant(self, name: str, array: NDArray[Any]) -> str:
        """Keep an array, and return its name."""
        from onnx import numpy_helper

        if array.dtype.kind == "f":
            array = array.astype(np.float32)
        self.arrays.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name
