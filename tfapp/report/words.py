"""The few sentences and number formats that the page and the terminal share, so that they never disagree."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

Report = Mapping[str, Any]

# What people call each score, in the order of the tables.
SCORES = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "top_5_accuracy": "Among the five likeliest",
    "precision_macro": "Precision, mean of classes",
    "recall_macro": "Recall, mean of classes",
    "f1_macro": "F1, mean of classes",
    "precision_weighted": "Precision, weighted by support",
    "recall_weighted": "Recall, weighted by support",
    "f1_weighted": "F1, weighted by support",
    "roc_auc": "Area under the ROC curve",
    "pr_auc": "Area under precision–recall",
    "bits_per_byte": "Bits per byte",
    "perplexity": "Perplexity",
    "log_loss": "Log loss",
    "brier": "Brier score",
    "mae": "Mean absolute error",
    "rmse": "Root mean squared error",
    "median_absolute_error": "Median absolute error",
    "r2": "R², share of variance explained",
}
LOWER_IS_BETTER = frozenset(
    {"bits_per_byte", "perplexity", "log_loss", "brier", "mae", "rmse", "median_absolute_error"}
)
# The mean of the classes' recalls is the balanced accuracy, and their weighted mean is the accuracy.
REPEATED = frozenset({"recall_macro", "recall_weighted"})


@dataclass(frozen=True)
class Headline:
    """What a run is worth in one sentence, in the pieces that the page sets differently."""

    number: str
    rest: str
    interval: str = ""
    context: str = ""

    def __str__(self) -> str:
        return f"{self.number} {self.rest}" + (f" ({self.interval})" if self.interval else "")


def headline(report: Report) -> Headline | None:
    """The main score in a sentence that needs no knowledge of the field; None before the run is evaluated."""
    evaluation = report.get("evaluation") or {}
    scores, n = evaluation.get("scores") or {}, evaluation.get("n", 0)
    examples = "unseen example" if n == 1 else "unseen examples"
    baseline = evaluation.get("baseline") or {}
    if is_number(value_of(scores.get("perplexity"))):
        return _language(scores, n, baseline)
    if is_number(value_of(scores.get("accuracy"))):
        score, rest = scores["accuracy"], f"of {count(n)} {examples} right"
        interval = span(score, lambda v: f"{100 * v:.1f}")
        context = (
            f"Always answering “{baseline['class']}” would be right {percent(baseline.get('accuracy'))} of the time."
            if baseline
            else ""
        )
        return Headline(percent(score["value"]), rest, interval, context)
    if is_number(value_of(scores.get("mae"))):
        score = scores["mae"]
        rest = f"off on average, over {count(n)} {examples}"
        context = f"Always answering the median would be {number(baseline.get('mae'))} off." if baseline else ""
        return Headline(number(score["value"]), rest, span(score), context)
    return None


def _language(scores: Mapping[str, Any], n: int, baseline: Mapping[str, Any]) -> Headline:
    """Bits a byte where tokens are bytes, else perplexity."""
    key, rest = "perplexity", f"perplexity, over {count(n)} unseen words"
    if is_number(value_of(scores.get("bits_per_byte"))):
        key, rest = "bits_per_byte", f"bits per byte, over {count(n)} unseen bytes"
    known = baseline.get(key)
    context = f"Knowing only how common each one is would give {number(known)}." if is_number(known) else ""
    return Headline(number(value_of(scores[key])), rest, span(scores[key]), context)


def synchronisation(profile: Mapping[str, Any]) -> str:
    """How much of a step's time is lost to synchronisation, the mean of the workers, in plain words."""
    steps, workers = profile["steps"], profile["workers"]
    step, lost, collectives = (
        sum(worker[name] for worker in workers) / len(workers) for name in ("step_ms", "lost_ms", "collectives")
    )
    profiled = f"{count(steps)} {'step' if steps == 1 else 'steps'} profiled"
    if not collectives:
        return f"a step took {milliseconds(step)}, with nothing to synchronise ({profiled})"
    return (
        f"{milliseconds(lost)} of a step's {milliseconds(step)} ({percent(lost / step)}) lost to synchronisation, "
        f"in {collectives:.3g} collectives ({profiled})"
    )


def waiting(found: Mapping[str, Any]) -> str:
    """What the training waited for, on the worker where it was most, and what helps where data was the limit."""
    workers = found["workers"]
    worst = max(range(len(workers)), key=lambda i: (workers[i]["waited"], workers[i]["loading"]))
    waited, loading = workers[worst]["waited"], workers[worst]["loading"]
    who = f" on worker {worst}" if len(workers) > 1 else ""
    told = f"no batch was ready {percent(waited)} of the time{who}"
    told += f", and loading examples took {percent(loading)} of the processor's time" if loading else ""
    return f"input-bound: {told}; {found['remedy']}" if found.get("remedy") else told


def span(score: Any, form: Any = None) -> str:
    """The interval of a score in words, or nothing when it has none."""
    if not isinstance(score, Mapping) or not is_number(score.get("low")) or not is_number(score.get("high")):
        return ""
    low, high = ((form or number)(score[end]) for end in ("low", "high"))
    if form is None and 0 < score["low"] < 1 and 0.9995 <= score["high"] <= 1:
        # As many decimals on both sides, 0.9980–0.9997, and nothing short of 1 rounded up to it.
        low, high = (f"{score[end] if score[end] == 1 else min(score[end], 0.9999):.4f}" for end in ("low", "high"))
    return f"95 % interval {low} to {high}" if "−" in low + high else f"95 % interval {low}–{high}"


def change(score: Mapping[str, Any]) -> str:
    """A difference with its sign and its interval: −0.004 (−0.012 to +0.003)."""
    low, high = score.get("low"), score.get("high")
    span = f" ({_signed(low)} to {_signed(high)})" if is_number(low) and is_number(high) else ""
    return _signed(score.get("value")) + span


def _signed(value: Any) -> str:
    if not is_number(value):
        return "–"
    text = f"{value:+.4f}".replace("-", "−")
    return "±0" if text.strip("+−0.") == "" else text


def value_of(score: Any) -> Any:
    """A score's value, whether it is written with its interval or alone."""
    return score.get("value") if isinstance(score, Mapping) else score


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def number(value: Any) -> str:
    """Three decimals or four digits, and more where a share comes close to 1."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return "–" if value is None else str(value)
    if not math.isfinite(value):
        return str(value)
    size = abs(value)
    if isinstance(value, int) or size >= 1e4:
        text = f"{value:,.0f}" if size < 1e15 else f"{value:.3g}"
    elif size >= 100:
        text = f"{value:.1f}"
    elif size >= 10:
        text = f"{value:.2f}"
    elif size >= 1:
        text = f"{value:.3f}"
    elif size >= 0.001:
        # 0.9998 is not «1.000»: that is kept for the flawless.
        text = f"{value:.3f}" if not 0.9995 <= size < 1 else f"{max(min(value, 0.9999), -0.9999):.4f}"
    else:
        text = f"{value:.2g}".replace("e-", "e−")
    return text.replace("-", "−", 1) if value < 0 else text


def share(value: Any) -> str:
    """A share in exactly three decimals, for columns; 1.000 is kept for the flawless."""
    if not is_number(value):
        return number(value)
    return f"{min(value, 0.999) if value < 1 else value:.3f}"


def cell(value: Any) -> str:
    """A value of the user's data as they would write it: 37, 0.084, 12345.5."""
    return f"{value:.6g}".replace("-", "−") if is_number(value) else number(value)


def count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else number(value)


def percent(value: Any) -> str:
    if not is_number(value):
        return "–"
    text = f"{100 * value:.1f}"
    # 99.96 % is not «100.0 %»: that is kept for the flawless.
    if text == "100.0" and value < 1:
        text = "99.9+"
    return f"{'100' if text == '100.0' else text} %"


def size(value: Any) -> str:
    """Bytes in decimal units."""
    if not is_number(value):
        return "–"
    for unit, step in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= step:
            in_unit = value / step
            return f"{in_unit:.3g} {unit}" if in_unit < 999.5 else f"{in_unit:,.0f} {unit}"
    return f"{value:.0f} B"


def milliseconds(value: Any) -> str:
    if not is_number(value):
        return "–"
    return f"{value:.3g} ms" if value < 1000 else f"{value / 1000:.3g} s"


def duration(seconds: Any) -> str:
    if not is_number(seconds):
        return "–"
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def moment(started: Any) -> str:
    """An ISO time as a person writes it; whatever else it is, as it is."""
    try:
        when = datetime.fromisoformat(str(started))
    except ValueError:
        return str(started)
    return f"{when.day} {when:%B %Y, %H:%M}" + (f" {when:%Z}" if when.tzinfo else "")


# What an audit's attacks are called, in the order of the tables.
ATTACKS = {
    "loss": "Loss",
    "confidence": "Confidence",
    "entropy": "Entropy",
    "modified_entropy": "Modified entropy",
    "min_k": "Min-K %",
    "logistic": "Logistic regression",
    "lira": "Likelihood ratio",
}


def epsilon(value: Any) -> str:
    """An ε as it is told: to three digits, rounded up; ∞ where there is none."""
    from tfapp.private import ledger

    return ledger.said(value if is_number(value) else float("inf"))


def insecure(privacy: Report) -> bool:
    """Whether a private run's key is known, so that nothing is private."""
    return bool((privacy.get("key") or {}).get("insecure"))


def spent(privacy: Report) -> float | None:
    """ε of a private run by its own accountant, or of the whole search that it won; None where there is none."""
    told = privacy.get("search") or privacy
    value = told["epsilon"].get(told["accountant"])
    return value if is_number(value) and not insecure(privacy) else None


def private(privacy: Report) -> str:
    """What a private run gave away at most, in a line; of a search's winner what all trials gave away."""
    noise = f"σ {privacy['noise_multiplier']:.4g}, q {privacy['sampling_rate']:.4g}, {count(privacy['steps'])} steps"
    own = privacy["epsilon"].get(privacy["accountant"])
    alone = f"ε {epsilon(own)} at δ = {privacy['delta']:g} ({privacy['accountant'].upper()}, {privacy['sampling']}; {noise})"
    if insecure(privacy):
        return f"not private, as its key is known; with a secret key it would be {alone}"
    if search := privacy.get("search"):
        whole = epsilon(search["epsilon"].get(search["accountant"]))
        return (
            f"ε {whole} at δ = {search['delta']:g} of the search, as it looked at {count(search['runs'])} private trainings; "
            f"this one alone has {alone}"
        )
    return alone


def of_search(privacy: Report) -> str:
    """What all trainings of a private search gave away, in a line."""
    if privacy.get("insecure"):
        return f"none: of {count(privacy['runs'])} trainings one had a key that is known"
    whole, one = epsilon(privacy["epsilon"].get(privacy["accountant"])), epsilon(privacy["largest"])
    return (
        f"ε {whole} at δ = {privacy['delta']:g} ({str(privacy['accountant']).upper()}), of {count(privacy['runs'])} private "
        f"trainings and {count(privacy['steps'])} steps together; one alone has up to {one}"
    )


def ledger_rows(privacy: Report) -> list[tuple[str, str]]:
    """A ledger's numbers, a row each."""
    delta, count_noise = f"{privacy['delta']:g}", privacy.get("count_noise")
    found = [(f"ε at δ = {delta}, {by.upper()}", epsilon(value)) for by, value in privacy["epsilon"].items()]
    if search := privacy.get("search"):
        of_search = search["epsilon"].get(search["accountant"])
        found.insert(0, (f"ε at δ = {search['delta']:g} of all {count(search['runs'])} trainings", epsilon(of_search)))
    planned = privacy["planned_epsilon"].get(privacy["accountant"])
    found += [
        (f"ε at δ = {small:g}, {privacy['accountant'].upper()}", epsilon(value)) for small, value in privacy["at"]
    ]
    found += [
        ("ε planned", epsilon(planned)),
        ("Noise multiplier σ", f"{privacy['noise_multiplier']:.4g}"),
        ("Sampling rate q", f"{privacy['sampling_rate']:.4g}"),
        ("Steps taken", f"{count(privacy['steps'])} of {count(privacy['planned_steps'])}"),
        ("Training examples", count(privacy["examples"])),
        ("Batch", count(privacy["batch_size"])),
    ]
    if privacy.get("clip_quantile") is not None:
        found.append(
            ("Clipping norm C", f"adaptive, quantile {privacy['clip_quantile']:g}, from {privacy['clip_norm']:g}")
        )
        found.append(("σ on gradient, on count", f"{privacy['gradient_noise']:.4g}, {count_noise:.4g}"))
    else:
        found.append(("Clipping norm C", f"{privacy['clip_norm']:g}"))
    if privacy.get("capacity"):
        found.append(("Places of a batch", count(privacy["capacity"])))
        found.append(("of δ for overflow", f"{privacy['overflow']:.2g}"))
    if privacy.get("parents"):
        found.append(("Earlier private runs in every ε", count(len(privacy["parents"]))))
    return found


def strongest(audit: Report) -> tuple[str, Mapping[str, Any]]:
    """The attack with the largest area under its ROC curve."""
    return max(audit["attacks"].items(), key=lambda item: item[1]["auc"]["value"])


def verdict(audit: Report) -> str:
    """What an audit came to, for who has never seen one."""
    key, found = strongest(audit)
    rows, advantage, chance = audit["rows"], found["advantage"]["value"], found["chance"]
    against = f"{count(rows['members'])} training rows and {count(rows['others'])} others"
    if advantage <= chance:
        return (
            f"No attack told {against} apart better than luck would: the best, {ATTACKS.get(key, key).lower()}, has an "
            f"advantage of {number(advantage)}, and luck stays under {number(chance)} 95 times in 100."
        )
    right = percent((1 + advantage) / 2)
    return f"{ATTACKS.get(key, key)} told {against} apart and was right {right} of the time, where luck is right 50 %."


def audited(audit: Report) -> list[str]:
    """An audit as lines for a terminal."""
    told = [verdict(audit)]
    for key, label in ATTACKS.items():
        if found := audit["attacks"].get(key):
            few = {at: f"{100 * float(at):g} % FPR" for at in found["tpr"]}
            rates = [
                f"TPR {_at(score)} at {few[at]}" for at, score in found["tpr"].items() if value_of(score) is not None
            ]
            parts = [f"AUC {_at(found['auc'])}", f"advantage {_at(found['advantage'])}", *reversed(rates)]
            told.append(f"{label:20}{' · '.join(parts)}")
    lacking = {
        score["reason"] for found in audit["attacks"].values() for score in found["tpr"].values() if "reason" in score
    }
    told += sorted(reason for reason in lacking if "%" in reason)
    return [*told, *_bounds(audit)]


def bounded(canaries: Report) -> str:
    """What canaries came to, in a line."""
    right = f"{count(canaries['right'])} of {count(canaries['guesses'])} guesses right"
    upper = canaries.get("upper")
    proved = f"at most {number(upper)} is proved" if upper is not None else "nothing is proved of this run"
    return (
        f"ε is at least {number(canaries['epsilon'])} at δ = {canaries['delta']:g} (95 % sure; {right} about "
        f"{count(canaries['canaries'])} canaries); {proved}"
    )


def _bounds(audit: Report) -> list[str]:
    told = [f"{'Canaries':20}{bounded(audit['canaries'])}"] if audit.get("canaries") else []
    rates = max(found["epsilon"]["epsilon"] for found in audit["attacks"].values())
    upper = (audit.get("proved") or {}).get("epsilon")
    if rates:
        told.append(f"{'Attacks':20}would need an ε of {number(rates)} or more, if rows were guessed independently")
    if upper is not None and rates > upper:
        told.append(
            f"WARNING: that is more than the {number(upper)} that is proved; was the test part split off at random? "
            "If so, look further: tfapp audit RUN --canaries 1000"
        )
    return told


def _at(score: Any) -> str:
    found = span(score).removeprefix("95 % interval ")
    return f"{number(value_of(score))}" + (f" ({found})" if found else "")


def name(report: Report) -> str:
    """What to call a run among others."""
    return str(report.get("run") or report.get("title") or report.get("recipe") or "run")


def main_size(report: Report) -> tuple[str, Mapping[str, Any]] | None:
    """The format that stands for the model's size, SavedModel where there is one."""
    return _main(report.get("sizes"))


def main_latency(report: Report) -> tuple[str, Mapping[str, Any]] | None:
    """The format whose latency stands for the model's, SavedModel where there is one."""
    return _main(report.get("latency"))


def _main(formats: Any) -> tuple[str, Mapping[str, Any]] | None:
    if not isinstance(formats, Mapping) or not formats:
        return None
    key = "savedmodel" if "savedmodel" in formats else next(iter(formats))
    return (key, formats[key]) if isinstance(formats[key], Mapping) else None
