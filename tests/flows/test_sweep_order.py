"""What takes longest is trained first, so that no worker waits long for the last one."""

from digitflow.flows.sweep_points import _work
from digitflow.tasks.sweeps.grid import plan_points


def order(preset: str, *grid: str) -> list[str]:
    points = plan_points(preset, {}, list(grid), random=None, seed=0)
    return [point.label for point in sorted(points, key=lambda point: -_work(point))]


def test_larger_networks_and_more_epochs_first() -> None:
    assert order("quick", "hidden_sizes=64,512-256,512") == [
        "hidden_sizes=512-256",
        "hidden_sizes=512",
        "hidden_sizes=64",
    ]
    assert order("quick", "epochs=2,9")[0] == "epochs=9"


def test_convolutions_count() -> None:
    assert order("cnn", "convolution_channels=8,16-64")[0] == "convolution_channels=16-64"


def test_equals_stay_in_order() -> None:
    assert order("quick", "learning_rate=0.003,0.001,0.002") == [
        "learning_rate=0.003",
        "learning_rate=0.001",
        "learning_rate=0.002",
    ]
