"""Private training: what the model learns of any one training example is bounded (DP-SGD)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from tfapp.errors import Refused
from tfapp.settings import Settings

if TYPE_CHECKING:
    from tfapp.job import Job
    from tfapp.private.accounting import Mechanism
    from tfapp.private.ledger import Ledger
    from tfapp.private.step import Adaptive


class Private(Settings):
    """(ε, δ)-differential privacy of the training examples (Abadi et al. 2016, arXiv:1607.00133).

    Every example's gradient is clipped to clip_norm, and their sum over the whole global batch gets Gaussian noise of
    standard deviation noise_multiplier · clip_norm, once. Give epsilon, and the noise for the planned steps is found; or the
    noise, and ε is told.
    """

    shorthand: ClassVar[str | None] = "epsilon"

    epsilon: float | None = Field(
        None, gt=0, description="the privacy budget: the noise is found for the planned steps"
    )
    noise_multiplier: float | None = Field(
        None, gt=0, description="σ, the noise on the sum in units of clip_norm, in the place of epsilon"
    )
    delta: float | None = Field(
        None, gt=0, lt=1, description="chance that the bound does not hold; none: the power of ten below 1 / n"
    )
    clip_norm: float | Literal["adaptive"] = Field(
        1.0, description="L2 norm that each example's gradient is clipped to; adaptive: it follows clip_quantile"
    )
    clip_quantile: float = Field(0.5, gt=0, lt=1, description="adaptive: share of the gradients that stay unclipped")
    clip_start: float = Field(0.1, gt=0, description="adaptive: the norm to begin with")
    clip_rate: float = Field(0.2, gt=0, description="adaptive: how fast the norm follows, per step and unit of share")
    count_noise: float | None = Field(
        None, gt=0, description="adaptive: noise on the number of unclipped gradients; none: a twentieth of the batch"
    )
    sampling: Literal["poisson", "shuffle"] = Field(
        "poisson", description="poisson: each example enters each step by a coin; shuffle: once an epoch, at a larger ε"
    )
    accountant: Literal["pld", "rdp"] = Field("pld", description="privacy loss distributions, or Rényi divergences")
    microbatch: int | None = Field(
        None, ge=1, description="rows that a replica takes at once; their sum is the step's, in less memory"
    )
    replace_batchnorm: bool = Field(False, description="GroupNormalization in the place of each BatchNormalization")
    public_preprocess: bool = Field(
        False,
        description="what preprocess() learned of the training rows (means, vocabularies) is public: your word for it",
    )
    show_training_metrics: bool = Field(
        False, description="show and write losses and scores of the training examples, which have no noise"
    )
    insecure_key: str | None = Field(
        None, min_length=1, description="for tests: a key that whoever reads the plan knows"
    )

    @model_validator(mode="after")
    def _clip_to_something(self) -> Private:
        if self.clip_norm == "adaptive":
            return self
        if not self.clip_norm > 0:
            raise ValueError(f"clip_norm={self.clip_norm} is not above 0")
        for name in ("clip_quantile", "clip_start", "clip_rate", "count_noise"):
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} is of clip_norm=adaptive, and clip_norm is {self.clip_norm}")
        return self

    def apply(self, job: Job) -> Job:
        """The job with a sampler, a step and a ledger that are private.

        Raises:
          Refused: something of the model, the data or the plan can not be private, or no noise is enough.
          Usage: ε or δ means nothing for so many examples. Missing: the run has lost its key.
        """

        from tfapp.data import splits
        from tfapp.data.queue import ENDLESS
        from tfapp.private import accounting, batchnorm, clipping, keeper, ledger, sampling, secret
        from tfapp.private.step import Adaptive, Step

        self._refuse_what_was_learned(job)
        self._refuse_to_choose_by_training(job)
        parents = self._parents(job)
        model, grouped = batchnorm.replaced(job.model) if self.replace_batchnorm else (job.model, [])
        examined = clipping.examine(model)
        key = secret.fixed(self.insecure_key) if self.insecure_key else secret.of(job.folder, job.machine)
        delta = self.delta or accounting.default_delta(len(job.train.examples))
        mechanism, spare = self._mechanism(job, delta, parents)
        clip, noise = self._clip(mechanism)
        step = Step(
            noise,
            clip,
            mechanism.batch_size,
            mechanism.steps if job.folder else ENDLESS,  # A measurement releases nothing.
            key.key("noise"),
            key.key("count"),
            self.microbatch,
            fixed=job.compiled,
            scores=self.show_training_metrics,
        )
        train = job.train
        if self.sampling == "poisson":
            n, batch = mechanism.examples, mechanism.batch_size
            rows = accounting.capacity(n, batch, mechanism.steps, spare)
            train = replace(train, choice=sampling.Poisson(n, mechanism.q, rows, key.key("sampling")))
        held = ledger.made(
            mechanism,
            delta,
            self.accountant,
            key={"source": "fixed", "insecure": True} if key.fixed else {"source": "operating system"},
            data_sha256=splits.digest(job.data),
            clip_norm=clip.start if isinstance(clip, Adaptive) else clip,
            clip_quantile=clip.quantile if isinstance(clip, Adaptive) else None,
            gradient_noise=noise,
            count_noise=clip.noise if isinstance(clip, Adaptive) else None,
            capacity=train.choice.rows if train.choice else None,
            parents=parents,
            shows_metrics=self.show_training_metrics,
        )
        notes = [*ledger.lines(held), *examined.said()]
        if grouped:
            notes.append(f"private: GroupNormalization in the place of {', '.join(grouped)}")
        return replace(
            job,
            model=model,
            train=train,
            bind=(*job.bind, step.install),
            callbacks=(*job.callbacks, keeper.Keeper(held, job.folder if job.machine.chief else None)),
            notes=(*job.notes, *notes),
            tells_training=self.show_training_metrics,
        )

    def _mechanism(self, job: Job, delta: float, parents: tuple[Ledger, ...]) -> tuple[Mechanism, float]:
        """(what is released, the part of δ that batches too large for their places may take)."""
        from tfapp import batch_size
        from tfapp.private import accounting, ledger

        n, batch = len(job.train.examples), batch_size.number(job.plan)
        accounting.check(self.epsilon, delta, n)
        bare = accounting.Mechanism(self.sampling, n, batch, self.noise_multiplier or 1.0, job.total_steps)
        spare = accounting.OVERFLOW * delta if self.sampling == "poisson" else 0.0
        if self.epsilon is None:
            return bare, spare
        before = ledger.unlike(parents)
        left = delta - spare - sum(one.overflow for one in before)
        noise = accounting.noise_for(bare, self.epsilon, left, self.accountant, [one.done for one in before])
        return replace(bare, noise_multiplier=noise), spare

    def _clip(self, mechanism: Mechanism) -> tuple[float | Adaptive, float]:
        """(the clipping norm, or how it moves; the noise multiplier of the gradients)."""
        from tfapp.private import accounting
        from tfapp.private.step import Adaptive

        if self.clip_norm != "adaptive":
            return self.clip_norm, mechanism.noise_multiplier
        count = self.count_noise or mechanism.batch_size / 20
        moving = Adaptive(self.clip_start, self.clip_quantile, self.clip_rate, count)
        return moving, accounting.divided(mechanism.noise_multiplier, count)

    def _refuse_what_was_learned(self, job: Job) -> None:
        """Preprocessing that is adapted on the private rows gives them away without any noise."""
        if not self.public_preprocess and job.preprocess.learned(job.data):
            raise Refused(
                "private with a preprocess() that learns from the training rows (means, vocabularies, bins): they would ship "
                "in the model, with no noise on them\n"
                "give it constants that you know without these rows, or, where what it learns is public, say so: "
                "private.public_preprocess=true"
            )

    def _refuse_to_choose_by_training(self, job: Job) -> None:
        """What is chosen by a loss over the private rows, without noise on it, tells of them."""
        fit = job.plan.fit
        chooses = fit.restore_best or fit.patience or fit.schedule.kind == "plateau"
        if chooses and not self.show_training_metrics and not job.monitor.startswith("val_"):
            raise Refused(
                f"private with a best epoch, an early stop or a plateau by {job.monitor}, which is of the training examples and "
                "has no noise\nhave a validation part and monitor it, or choose nothing: fit.restore_best=false, without "
                "fit.patience"
            )

    def _parents(self, job: Job) -> tuple[Ledger, ...]:
        """The ledgers of the runs that this one begins with or learns from, where they saw the same examples.

        Raises:
          Refused: such a run is not private; what it learned of them would be in this one.
        """
        from tfapp import run as runs
        from tfapp.data import splits
        from tfapp.errors import Missing
        from tfapp.private import ledger

        plan = job.plan
        words = [*([plan.start.run] if plan.start else []), *(plan.distill.teacher if plan.distill else [])]
        own = splits.digest(job.data) if words else ""
        found = []
        for word in words:
            try:
                run = runs.find(word)
            except Missing:
                continue  # The folder of a SavedModel: nothing is known of its data.
            if run.read("run.json").get("data_sha256") != own:
                continue
            held = ledger.read(run.folder)
            if held is None:
                raise Refused(
                    f"private with {run.folder}, which was trained on the same examples without privacy: what it learned of "
                    "them would be in this model\nbegin with, or learn from, a run on public data"
                )
            found.append(held)
        return tuple(found)
