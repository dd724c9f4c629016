"""Every object and every record damaged in turn: noticed, said, healed, never a wrong result."""

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from digitflow.flows.cli.app import main
from digitflow.storage.digests import short
from digitflow.storage.store import Store
from digitflow.storage.upkeep.verify import find_damage
from tests.faults.conftest import Undisturbed
from tests.faults.corrupting import DAMAGES, objects, records, runs
from tests.faults.soundness import check_sound, outcomes
from tests.walk import LABELS, TINY


@dataclass(frozen=True)
class Filled:
    """A filled store to be copied and damaged.

    Attributes
    ----------
    store
        Where it is.
    files
        Every object and every record in it, relative to the store.
    makers
        Object → label of the stage that made it, the first where several made the same bytes.
    keys
        Key of a record → label of its stage.
    """

    store: Path
    files: tuple[Path, ...]
    makers: dict[str, str]
    keys: dict[str, str]


@pytest.fixture(scope="module")
def filled(undisturbed: Undisturbed, tmp_path_factory: pytest.TempPathFactory) -> Filled:
    """A store with two runs, so that there is something to compare."""
    folder = tmp_path_factory.mktemp("filled")
    store = folder / "store"
    shutil.copytree(undisturbed.store, store)
    done = replace(undisturbed.walk, name="again")(store, folder / "log")
    assert done.ran == []
    files = [path.relative_to(store) for path in (*objects(store), *records(store), *runs(store))]
    return Filled(
        store,
        tuple(files),
        {
            artifact.sha256: label
            for label in reversed(LABELS)
            for artifact in done.results[label].outputs.values()
        },
        {result.key: label for label, result in done.results.items()},
    )


def test_everything_is_there_to_be_damaged(filled: Filled) -> None:
    kinds = [file.parts[0] for file in filled.files]
    assert kinds.count("objects") == len(filled.makers) > 15
    assert kinds.count("records") == len(LABELS) == 13
    assert kinds.count("runs") == 2


def cases(filled: Filled, which: str) -> list[tuple[Path, str]]:
    """Return files and damages: all with all, or each file with one of them."""
    if which == "all with all":
        return [(file, damage) for file in filled.files for damage in DAMAGES]
    damages = list(DAMAGES)
    return [(file, damages[number % len(damages)]) for number, file in enumerate(filled.files)]


@pytest.mark.parametrize("which", ["each", pytest.param("all with all", marks=pytest.mark.slow)])
def test_damage_is_said_and_healed(
    filled: Filled,
    undisturbed: Undisturbed,
    tmp_path: Path,
    which: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    done = 0
    looked_at: set[tuple[str, str]] = set()
    for number, (file, damage) in enumerate(cases(filled, which)):
        store = tmp_path / f"store-{number}"
        shutil.copytree(filled.store, store)
        monkeypatch.setenv("DIGITFLOW_STORE", str(store))
        DAMAGES[damage](store / file)
        expected = expected_reason(filled, file, damage)

        found = find_damage(Store(store)).damaged
        seen = {store / each.name for each in found}
        if damage != "deleted" or file.parts[0] == "runs":
            assert store / file in seen, (file, damage)
        elif file.parts[0] == "objects":
            assert any("is missing" in each.problem for each in found), (file, damage)
        # The commands do not care which object it is, so once for each kind will do.
        if which == "all with all" or (file.parts[0], damage) not in looked_at:
            looked_at.add((file.parts[0], damage))
            commands_are_sound(undisturbed, file, damage, capsys)
        plan = planned(undisturbed, capsys)
        will_run = {row["label"]: row["reasons"] for row in plan if row["status"] == "will run"}
        assert will_run == expected, (file, damage)

        walked = undisturbed.walk(store, tmp_path / "log")
        assert walked.started == {label: tuple(why) for label, why in expected.items()}
        assert outcomes(store) == undisturbed.outcomes, (file, damage)
        assert walked.digests() == undisturbed.done.digests()
        if file.parts[0] == "runs":
            assert main(["verify", "--repair"]) in (0, 1)
            capsys.readouterr()
        check_sound(store)
        assert all(row["status"] == "cached" for row in planned(undisturbed, capsys))
        shutil.rmtree(store)
        done += 1
    print(f"{done} damages")


def expected_reason(filled: Filled, file: Path, damage: str) -> dict[str, list[str]]:
    """Return what a plan must say, by label: the stages that made what is damaged, and why."""
    if file.parts[0] == "runs":
        return {}
    how = "is missing" if damage == "deleted" else "is damaged"
    if file.parts[0] == "objects":
        sha256 = file.parts[1] + file.parts[2]
        return {filled.makers[sha256]: [f"object {short(sha256)}… {how}"]}
    label = filled.keys[file.stem]
    if label.startswith("download"):
        return {}  # its bytes are there under the published digest, so nothing is amiss
    if damage == "deleted":
        return {label: ["never run"]}  # nothing is left that could tell otherwise
    return {label: [f"record {short(file.stem)}… is damaged"]}


def planned(
    undisturbed: Undisturbed, capsys: pytest.CaptureFixture[str]
) -> list[dict[str, list[str]]]:
    capsys.readouterr()
    code = main(["plan", *arguments(undisturbed), "--json"])
    rows: list[dict[str, list[str]]] = json.loads(capsys.readouterr().out)
    assert code == (0 if all(row["status"] == "cached" for row in rows) else 3)
    return rows


def arguments(undisturbed: Undisturbed) -> list[str]:
    """Return what plans the walk on the command line."""
    changes = {**TINY, **undisturbed.walk.changes}
    settings = [f"{name}={value}" for name, value in changes.items()]
    return ["--dataset", undisturbed.walk.dataset.mirrors[0], "--set", *settings]


def commands_are_sound(
    undisturbed: Undisturbed, file: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Run every command that only looks: none stumbles, and none changes anything."""
    sha256 = "".join(file.parts[1:]) if file.parts[0] == "objects" else file.stem
    commands = {
        ("plan", *arguments(undisturbed)): (0, 3),
        ("runs",): (0,),
        ("runs", "--json"): (0,),
        ("show", "walk"): (0, 1, 2),
        ("show", "train"): (0, 2),
        ("show", sha256): (0, 1, 2),
        ("diff", "walk", "again"): (0, 1, 2),
        ("gc",): (0, 1),  # it deletes nothing while a record cannot be read
        ("gc", "--keep-days", "0"): (0, 1),
        ("verify",): (0, 1),
        ("verify", "--json"): (0, 1),
    }
    for command, codes in commands.items():
        capsys.readouterr()
        code = main(list(command))
        written = capsys.readouterr()
        assert code in codes, (file, damage, command, written)
        assert "--verbose" not in written.err, (file, damage, command, written.err)
        if code in (1, 2) and command[0] != "verify":
            assert written.err.startswith("error: "), (file, damage, command, written)
        if file.parts[0] == "runs":
            assert "is damaged" not in written.out, (file, damage, command, written)
            if command in (("show", file.stem), ("gc",)):
                assert code == 0  # healed from its copy
    # Everything but a deleted record is damage to `verify`; a run's has been healed meanwhile.
    is_damage = file.parts[0] == "objects" or (file.parts[0] == "records" and damage != "deleted")
    assert main(["verify"]) == (1 if is_damage else 0)
    capsys.readouterr()
