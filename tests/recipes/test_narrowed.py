"""Every recipe's model comes in smaller widths, which is where a student of its own kind comes from."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tf_keras as keras

from tfapp import recipe as recipes
from tfapp.errors import Failed, Refused, Usage

ROWS = SimpleNamespace(features={"a": np.zeros(4), "b": np.array(["x", "y", "x", "y"], object)}, labels=np.zeros(4))
DATA = SimpleNamespace(outputs=10, task="classification", train=ROWS)


def image(*shape: int) -> Any:
    return lambda config: keras.Input(shape)


INPUTS = {
    "digits": image(8, 8, 1),
    "mnist": image(28, 28, 1),
    "fashion_mnist": image(28, 28, 1),
    "cifar10": image(32, 32, 3),
    "image_folder": lambda config: keras.Input((config.size, config.size, 3)),
    "efficientnet": image(64, 64, 3),
    "tabular": lambda config: {"numbers": keras.Input((30,)), "categories": keras.Input((1,), dtype="int64")},
    "text_classification": lambda config: keras.Input((20,), dtype="int64"),
    "shared_encoder": lambda config: keras.Input((20,), dtype="int64"),
    "language_model": lambda config: keras.Input((config.length,), dtype="int32"),
}
CASES = [
    *((one.word, {}) for one in recipes.listed()),
    ("cifar10", {"model": "cnn"}),
    ("image_folder", {"backbone": "resnet20"}),
    ("text_classification", {"model": "cnn"}),
    ("text_classification", {"model": "transformer", "heads": 3}),
]


def parameters(module: ModuleType, config: Any, name: str) -> int:
    return int(module.model(config, INPUTS[name](config), DATA).count_params())


@pytest.mark.moderate
@pytest.mark.parametrize(("name", "settings"), CASES)
def test_a_narrower_model_is_built_and_has_fewer_parameters_the_narrower_the_fewer(name, settings) -> None:
    module = recipes.load(recipes.find(name))
    config = module.Config(**settings)
    whole, quarter, least = (
        parameters(module, recipes.narrowed(module, config, width), name) for width in (1, 0.25, 1e-6)
    )
    assert least < quarter < 0.5 * whole
    if not settings:
        assert recipes.narrowed(module, config, 1) == config, "the whole width is the model itself"


def test_a_network_that_comes_in_one_width_is_refused() -> None:
    module = recipes.load(recipes.find("image_folder"))
    with pytest.raises(Refused, match="MobileNetV2 comes in one width\ntake config.backbone=small_cnn"):
        recipes.narrowed(module, module.Config(backbone="MobileNetV2"), 0.5)


def test_a_width_that_is_none_and_a_recipe_that_cannot_are_told() -> None:
    module = recipes.load(recipes.find("digits"))
    for width in (0, -1, 1.5, float("nan")):
        with pytest.raises(Usage, match="more than 0, at most 1"):
            recipes.narrowed(module, module.Config(), width)
    plain = ModuleType("plain")
    plain.__file__ = "plain.py"
    with pytest.raises(Usage, match="plain.py does not say(.|\n)*define narrowed"):
        recipes.narrowed(plain, module.Config(), 0.5)
    vars(plain)["narrowed"] = lambda config, width: None
    with pytest.raises(Failed, match="gave NoneType, not its Config"):
        recipes.narrowed(plain, module.Config(), 0.5)


def test_sizes_are_rounded_to_a_multiple_and_never_to_nothing() -> None:
    assert [recipes.scaled(96, width, 4) for width in (1, 0.5, 0.26, 0.001)] == [96, 48, 24, 4]
    assert recipes.scaled(8, 0.25) == 2 and recipes.scaled(3, 0.1) == 1
