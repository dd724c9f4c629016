"""Trainings worth choosing by name. Each says only what differs from the defaults.

Chosen on validation data only. What they reach is in `docs/performance.md`.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

# The best plain network for a minute of training. Deformed digits regularise so well that little
# dropout is left to do.
MLP = {
    "hidden_sizes": (512,),
    "dropout": 0.2,
    "epochs": 30,
    "learning_rate": 0.002,
    "shift": 1,
    "rotation": 10.0,
    "scale": 0.1,
    "elastic": 0.6,
}

# The best convolutional network for five.
CNN = {
    "convolution_channels": (16, 32),
    "hidden_sizes": (128,),
    "dropout": 0.3,
    "epochs": 35,
    "learning_rate": 0.003,
    "shift": 1,
    "rotation": 10.0,
    "scale": 0.1,
    "elastic": 0.6,
}

# Ten seconds: to see that everything works, or to try an idea.
QUICK = {
    "hidden_sizes": (256,),
    "dropout": 0.2,
    "learning_rate": 0.002,
}

PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        name: MappingProxyType(values)
        for name, values in (("mlp", MLP), ("cnn", CNN), ("quick", QUICK))
    }
)
