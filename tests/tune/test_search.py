from __future__ import annotations

from pathlib import Path

import pytest

from tests.tune.searches import SMALL, asked
from tfapp.cli.main import main
from tfapp.errors import Failed, Missing, Refused, Usage
from tfapp.launch import places
from tfapp.tune import search
from tfapp.tune.workers import Workers


def test_a_setting_that_the_plan_lacks_is_refused_with_the_nearest() -> None:
    with pytest.raises(Usage, match="no setting 'drpout' (.|\n)*did you mean 'dropout'(.|\n)*in drpout=float:0.0..0.5"):
        asked(["drpout=float:0..0.5"])


def test_values_are_tried_on_the_plan_at_both_ends() -> None:
    with pytest.raises(Usage, match=r"config.dropout: .* less than 1"):
        asked(["dropout=float:0..1.5"])
    with pytest.raises(Usage, match="fit.batch_size"):
        asked(["fit.batch_size=choice:32,none"])
    with pytest.raises(Refused, match="with fit.schedule.warmup"):
        asked(["fit.schedule.warmup=2", "fit.schedule.kind=choice:cosine,plateau"])


def test_without_ranges_and_without_a_space_there_is_nothing_to_search() -> None:
    with pytest.raises(Usage, match="what is to be searched"):
        asked([])


def test_a_trial_s_plan_has_its_values_over_all_else_and_its_objective_as_monitor() -> None:
    found = asked(["dropout=float:0..0.5", "fit.epochs=7"], objective="accuracy")
    plan = found.plan({"dropout": 0.125})
    assert plan.config.dropout == 0.125 and plan.fit.epochs == 7 and plan.fit.monitor == "val_accuracy"
    # What the user says of the monitor stands.
    assert asked(["dropout=float:0..0.5", "fit.monitor=loss"], objective="accuracy").plan({}).fit.monitor == "loss"


def test_folds_and_repeats_are_runs_with_plans_of_their_own() -> None:
    runs = asked(["dropout=float:0..0.5"], folds=2, repeat=2).runs({"dropout": 0.25})
    assert [name for name, _ in runs] == ["fold-0-seed-0", "fold-0-seed-1", "fold-1-seed-0", "fold-1-seed-1"]
    assert [(p.config.split.folds, p.config.split.fold, p.runtime.seed) for _, p in runs] == [
        (2, 0, 0),
        (2, 0, 1),
        (2, 1, 0),
        (2, 1, 1),
    ]
    assert [name for name, _ in asked(["dropout=float:0..0.5"]).runs({})] == [""]


@pytest.mark.moderate
def test_what_does_not_go_together_is_refused() -> None:
    words = ["dropout=float:0..0.5"]
    with pytest.raises(Refused, match="before latency_ms is measured"):
        asked(words, objective="accuracy,-latency_ms", stop="median")
    with pytest.raises(Refused, match="ends trials by itself"):
        asked([*words, "fit.epochs=9"], algorithm="hyperband", stop="median")
    with pytest.raises(Refused, match="has no setting split"):
        asked(["learning_rate=log:1e-4..1e-2"], recipe="language_model", folds=3)


def test_the_same_search_has_the_same_folder_and_another_one_is_kept_out_of_it(tmp_path: Path) -> None:
    one, other = asked(["dropout=float:0..0.5"]), asked(["dropout=float:0..0.4"])
    assert search.place(one) == search.place(asked(["dropout=float:0..0.5"])) != search.place(other)
    search.begin(tmp_path / "s", one)
    search.begin(tmp_path / "s", asked(["dropout=float:0..0.5"]))
    with pytest.raises(Usage, match="holds another search: space"):
        search.begin(tmp_path / "s", other)
    search.begin(tmp_path / "s", other, fresh=True)
    assert (tmp_path / "s.old-1" / "search.json").exists()
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "mine.txt").touch()
    with pytest.raises(Usage, match="is not empty and holds no search"):
        search.begin(tmp_path / "t", one)


def recipe(folder: Path, space: str) -> str:
    path = folder / "own.py"
    path.write_text(Path(SMALL).read_text() + space)
    return str(path)


def test_the_recipe_s_own_space_is_explored_with_its_conditions(tmp_path: Path) -> None:
    own = recipe(
        tmp_path,
        """

def space(hp, config):
    norm = hp.Choice("batch_norm", ["yes", "no"]) == "yes"
    with hp.conditional_scope("batch_norm", ["no"]):
        dropout = hp.Float("dropout", 0.1, 0.5)
    rate = hp.Float("learning_rate", 1e-3, 1e-1, sampling="log")
    return config.model_copy(
        update={"batch_norm": norm, "dropout": config.dropout if dropout is None else dropout, "learning_rate": rate}
    )
""",
    )
    found = asked([], recipe=own)
    assert [hp.name for hp in found.hyperparameters().space] == ["batch_norm", "dropout", "learning_rate"]
    plan = found.plan({"batch_norm": "no", "dropout": 0.375, "learning_rate": 0.01})
    assert (plan.config.batch_norm, plan.config.dropout, plan.config.learning_rate) == (False, 0.375, 0.01)
    # A word of the user's stands, and is not searched.
    fixed = asked(["learning_rate=0.05"], recipe=own)
    assert "learning_rate" not in [hp.name for hp in fixed.hyperparameters().space]
    assert fixed.plan({"batch_norm": "yes"}).config.learning_rate == 0.05


def test_a_space_that_gives_no_config_is_told_so(tmp_path: Path) -> None:
    own = recipe(tmp_path, "\n\ndef space(hp, config):\n    return hp.Float('dropout', 0, 0.5)\n")
    with pytest.raises(Failed, match="gave float, not its Config"):
        asked([], recipe=own).hyperparameters()


@pytest.mark.parametrize("name", ["digits", "mnist", "tabular", "text_classification"])
def test_the_shipped_recipes_have_a_space_whose_every_value_the_plan_takes(name: str) -> None:
    import keras_tuner

    found = asked([], recipe=name)
    hp = found.hyperparameters()
    for share in (0.0, 0.5, 0.999):
        drawn = keras_tuner.HyperParameters()
        for one in hp.space:
            drawn.merge([one])
            if drawn.is_active(one):
                drawn.values[one.name] = one.prob_to_value(share)
        found.plan(drawn.values)


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["digits", "units=int:5..3"], 2, "is empty"),
        (["digits", "unit=int:1..3"], 2, "did you mean"),
        (["digits", "units=int:1..3", "--budget", "soon"], 2, "a time is 90s, 30m or 2h"),
        (["digits", "units=int:1..3", "--stopper", "mean"], 2, "as --stopper median"),
        (["digits", "units=int:1..3", "--algorithm", "pso", "--objective", "accuracy,-size_kb"], 3, "one objective"),
        (["digits", "units=int:1..3", "--hosts", "a", "--parallel", "2"], 2, "--parallel is for this machine"),
        (["digits", "units=int:1..3", "--hosts", "a", "--workers", "2"], 3, "processes of this machine"),
        (
            ["digits", "units=int:1..3", "runtime.replicas=2", "--workers", "2"],
            3,
            "runtime.replicas=2, which is for another",
        ),
        (["digits", "units=int:1..3", "runtime.strategy=mirrored", "--workers", "2"], 3, "strategy=mirrored, which is"),
        (["digits", "units=int:1..3", "runtime.strategy=multiworker"], 3, "have several do it: --workers 2"),
    ],
)
def test_wrong_words_are_answered_before_anything_is_written(
    words: list[str], code: int, told: str, capsys, runs_root: Path
) -> None:
    assert main(["tune", *words]) == code
    assert told in capsys.readouterr().err
    assert not runs_root.exists()


def test_more_trials_at_once_than_gpus_are_refused_with_words(monkeypatch, capsys, runs_root: Path) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    for more in (["--parallel", "2"], ["--workers", "2"]):
        assert main(["tune", "digits", "units=int:1..3", *more]) == 5
        assert "2 workers on this machine, but it has 1 GPU\nask for no more than that" in capsys.readouterr().err
    assert not runs_root.exists()


def test_a_search_within_a_job_of_many_workers_is_refused(monkeypatch, capsys) -> None:
    monkeypatch.setenv("TF_CONFIG", '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}')
    assert main(["tune", "digits", "units=int:1..3"]) == 2
    assert "a search is started once" in capsys.readouterr().err


@pytest.mark.moderate
def test_a_process_that_finds_no_part_of_its_machine_says_so(tmp_path: Path, monkeypatch) -> None:
    # As on a host, of whose GPUs nothing is known before.
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with Workers(places.here(2), tmp_path, places.Ssh()) as workers:
        with pytest.raises(Missing, match="2 workers on this machine, but it has 1 GPU"):
            workers.once({"describe": {}})


def test_auto_with_a_range_names_the_search_that_takes_one(tmp_path: Path, capsys, runs_root: Path) -> None:
    data = tmp_path / "data.csv"
    data.write_text("a,b\n" + "".join(f"{n},{n % 2}\n" for n in range(20)))
    assert main(["auto", str(data), "--target", "b", "dropout=float:0..0.4"]) == 2
    told = capsys.readouterr().err
    assert "dropout=float:0.0..0.4 is a range" in told and f"tfapp tune tabular data={data}" in told
    assert not runs_root.exists()
