"""Hash everything in the store again, and remove what is damaged."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from storage.atomic import remove
from storage.cache import Cache
from storage.digests import short
from storage.errors import ObjectDamagedError, ObjectMissingError, RecordDamagedError


@dataclass(frozen=True)
class Damage:
    """One thing that is not what it should be.

    Attributes
    ----------
    kind
        ``object``, ``record`` or ``run``.
    path
        Where it lies.
    problem
        What is wrong, in a sentence.
    """

    kind: str
    path: Path
    problem: str


@dataclass
class Report:
    """What was verified, and the damage found.

    Attributes
    ----------
    objects, records
        How many were verified.
    size
        Bytes of all objects.
    damaged
        What is wrong.
    """

    objects: int = 0
    records: int = 0
    size: int = 0
    damaged: list[Damage] = field(default_factory=list)


def find_damage(cache: Cache) -> Report:
    """Verify every object, every stage's record and every run's record."""
    report = Report()
    for sha256 in cache.objects:
        path = cache.objects.path(sha256)
        try:
            report.size += cache.objects.verify(sha256).stat().st_size
        except ObjectDamagedError as error:
            report.damaged.append(Damage("object", path, str(error)))
        except ObjectMissingError:
            continue  # swept meanwhile
        report.objects += 1
    for path in sorted(cache.records.root.glob("*/*.json")):
        report.records += 1
        try:
            record = cache.records.load(path.parent.name, path.stem)
        except (RecordDamagedError, ValueError) as error:
            report.damaged.append(Damage("record", path, str(error)))
            continue
        for name, artifact in record.outputs.items() if record is not None else ():
            if not cache.objects.path(artifact.sha256).exists():
                problem = f"{path} names {name}, object {short(artifact.sha256)}…, which is missing"
                report.damaged.append(Damage("record", path, problem))
    for path in sorted(cache.runs.root.glob("*.json")):
        report.records += 1
        try:
            cache.runs.load(path.stem)
        except FileNotFoundError:
            continue
        except (RecordDamagedError, ValueError) as error:
            report.damaged.append(Damage("run", path, str(error)))
    return report


def remove_damage(report: Report) -> None:
    """Remove what is damaged: the stages that made it will miss it and make it again."""
    for damage in report.damaged:
        remove(damage.path)
