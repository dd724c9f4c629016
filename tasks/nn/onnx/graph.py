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

    Parameters
    ----------
    prefix : str
        What the names of all that is added begin with.

    Attributes
    ----------
    nodes : list of NodeProto
    arrays : list of TensorProto
        Weights and other constants. Floats are float32, the type that every runtime computes with.
    """

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        self.nodes: list[NodeProto] = []
        self.arrays: list[TensorProto] = []

    def under(self, prefix: str) -> Graph:
        """Return this graph, but with another prefix before all names that are added."""
        part = Graph(self.prefix + prefix)
        part.nodes, part.arrays = self.nodes, self.arrays
        return part

    def add(
        self,
        name: str,
        operator: str,
        *inputs: str,
        arrays: dict[str, NDArray[Any]] | None = None,
        more_outputs: tuple[str, ...] = (),
        **attributes: Any,
    ) -> str:
        """Add a node, and return the name of its output, or of the first of them.

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
        more_outputs : tuple of str, optional
            Names of those after the first.
        **attributes
            The operator's.
        """
        from onnx import helper

        name = self.prefix + name
        constants = [self._keep(f"{name}.{key}", array) for key, array in (arrays or {}).items()]
        outputs = [name, *(self.prefix + each for each in more_outputs)]
        self.nodes.append(
            helper.make_node(operator, [*inputs, *constants], outputs, name=name, **attributes)
        )
        return name

    def _keep(self, name: str, array: NDArray[Any]) -> str:
        from onnx import numpy_helper

        if array.dtype.kind == "f":
            array = array.astype(np.float32)
        self.arrays.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name
