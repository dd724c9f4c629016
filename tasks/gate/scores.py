"""The gate for models of a flow of one's own: compared by a score for each test row.

The model is whatever a stage made, the scores are what another stage made of it and of test rows.
That stage scores the champion, too: on tonight's rows, and both on those that it was promoted by.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from numpy.typing import NDArray

from digitflow.storage.errors import ObjectDamagedError, ObjectMissingError
from digitflow.storage.formats.artifacts import Artifact
from digitflow.storage.history.models import TEST, ModelVersion, tested_alike
from digitflow.storage.store import Store
from digitflow.tasks.engine.call import Inputs, Recipe, StageResult
from digitflow.tasks.gate.approval import Approval
from digitflow.tasks.gate.compare import Comparison
from digitflow.tasks.gate.data import DataCheck
from digitflow.tasks.gate.decision import Verdict, decision_markdown, unchanged_markdown
from digitflow.tasks.gate.rules import Rules, decide_by_scores, improves_scores
from digitflow.tasks.gate.ruling import Log, rule


@dataclass(frozen=True)
class Candidate:
    """What is to be judged.

    Attributes
    ----------
    trained, output
        What trained the model, and which of its outputs that is.
    scored, scores
        What scored it, and which of its outputs are the scores.
    metric
        What their mean is called.
    """

    trained: StageResult
    output: str
    scored: StageResult
    scores: str
    metric: str

    @property
    def weights(self) -> Artifact:
        """The model."""
        return self.trained.outputs[self.output]

    def recipe(self) -> tuple[Recipe, str]:
        """Return how it was scored, and as which input the model.

        Raises
        ------
        ValueError
            If the stage that scored was not given the model, or nothing else.
        """
        recipe = self.scored.recipe
        given: Inputs = {} if recipe is None else recipe.inputs
        named = [name for name, each in given.items() if each == self.weights]
        if recipe is None or len(named) != 1 or len(given) < 2:
            message = (
                f"{self.scored.label}: expected scores of a stage that takes the model (the output "
                f"{self.output} of {self.trained.label}) and test rows as inputs, found the inputs "
                f"{', '.join(given) or 'none'}"
            )
            raise ValueError(message)
        return recipe, named[0]

    def test_rows(self) -> dict[str, Artifact]:
        """Return what it was scored on, by the names of inputs.

        Raises
        ------
        ValueError
            If that was an input of several values.
        """
        recipe, model = self.recipe()
        rows = {name: each for name, each in recipe.inputs.items() if name != model}
        single = {name: each for name, each in rows.items() if isinstance(each, Artifact)}
        if len(single) != len(rows):
            message = f"{self.scored.label}: expected inputs of one value each, found a tuple"
            raise ValueError(message)
        return single


def judge(
    cache: Store, candidate: Candidate, model: str, rules: Rules, *, run: str, log: Log
) -> Verdict:
    """Register a model, compare it with the champion, and enter the verdict in the ledger.

    Parameters
    ----------
    cache
        The store.
    candidate
        The model and its scores.
    model
        The named model whose champion it challenges.
    rules
        What the gate requires.
    run, log
        Name of the run, and what is told what people should know.

    Raises
    ------
    ValueError
        If the scores are none, or the champion cannot be scored.
    StorageError
        If the store cannot keep a ledger, or something of the champion is lost.
    """
    mean = float(cache.read(candidate.scored.outputs[candidate.scores]).mean())
    challenger = _register(cache, candidate, model, mean, run)

    def compared(champion: ModelVersion | None) -> Comparison:
        return _compare(cache, candidate, challenger, champion, rules, run)

    # Scored by other code it may be judged anew.
    terms = {**asdict(rules), "metric": candidate.metric, "scored": candidate.scored.key}
    ruling = rule(
        cache,
        challenger,
        model,
        compared,
        rules,
        approval=Approval(),
        terms=terms,
        run=run,
        log=log,
    )
    log.info(ruling.headline)
    if ruling.found is None:
        text = unchanged_markdown(
            ruling.headline, ruling.champion or challenger, notices=ruling.notices
        )
    else:
        text = decision_markdown(
            ruling.found.decision,
            challenger,
            ruling.champion,
            data=ruling.found.data,
            notices=ruling.notices,
        )
    return Verdict(ruling.word, ruling.headline, text)


def _register(
    cache: Store, candidate: Candidate, model: str, mean: float, run: str
) -> ModelVersion:
    record = cache.records.load(candidate.trained.stage, candidate.trained.key)
    made_of: Mapping[str, Any] = {} if record is None else record.document
    trained_on = {
        name: each for name, each in made_of.get("inputs", {}).items() if isinstance(each, str)
    }
    tested_on = {_test_name(name): each.sha256 for name, each in candidate.test_rows().items()}
    return cache.models.register(
        model=model,
        run=run,
        preset="",
        dataset=model,
        parameters=made_of.get("parameters", {}),
        metrics={candidate.metric: mean},
        training=candidate.trained.key,
        data={**trained_on, **tested_on},
        class_names=(),
        weights=candidate.weights,
        predictions=candidate.scored.outputs[candidate.scores],
        metric=candidate.metric,
    )


def _compare(
    cache: Store,
    candidate: Candidate,
    challenger: ModelVersion,
    champion: ModelVersion | None,
    rules: Rules,
    run: str,
) -> Comparison:
    metric, rows = candidate.metric, candidate.test_rows()
    ours = cache.read(candidate.scored.outputs[candidate.scores])
    if champion is None:
        return Comparison(decide_by_scores(ours, None, rules, metric), (), None)
    if champion.is_of_images:
        message = (
            f"version {champion.version}, the champion, classifies images: give your model a name "
            "of its own"
        )
        raise ValueError(message)
    theirs = _score(cache, candidate, champion.weights, rows, run)
    decision = decide_by_scores(ours, theirs, rules, metric)
    if tested_alike(challenger, champion):
        return Comparison(decision, (), None)
    # Where each night has test rows of its own, each is another chance to be ahead by luck.
    try:
        pinned = {
            name: cache.reference(champion.data[_test_name(name)], each.format)
            for name, each in rows.items()
        }
    except (KeyError, ObjectMissingError, ObjectDamagedError) as error:
        lost = (
            f"the test rows of the champion, version {champion.version}, are not in the store any "
            "more, and tonight's are others"
        )
        check = DataCheck(
            "the champion's own test rows are in the store", str(error), False, lost, "test data"
        )
        return Comparison(decision, (check,), None)
    again = improves_scores(
        _score(cache, candidate, challenger.weights, pinned, run),
        _score(cache, candidate, champion.weights, pinned, run),
        rules,
        metric,
    )
    check_there = replace(
        again,
        requirement="the same on the champion's own test rows",
        complaint=f"on the champion's own test rows: {again.complaint}",
    )
    checks = (*decision.checks, check_there)
    judged = replace(decision, checks=checks, promoted=all(each.met for each in checks))
    return Comparison(judged, (), None)


def _score(
    cache: Store, candidate: Candidate, model: Artifact, rows: Mapping[str, Artifact], run: str
) -> NDArray[Any]:
    recipe, name = candidate.recipe()
    label = f"{recipe.label}-again"
    inputs: Inputs = {**rows, name: model}
    scored = recipe.stage.run(cache, label, inputs, recipe.parameters, run=run)
    found: NDArray[Any] = cache.read(scored.outputs[candidate.scores])
    return found


def _test_name(name: str) -> str:
    return name if name.startswith(TEST) else f"{TEST}{name}"
