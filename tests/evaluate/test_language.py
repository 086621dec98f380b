import json

import numpy as np
import pytest

from tfapp.data.examples import Examples
from tfapp.errors import Failed, Missing
from tfapp.evaluate import language


def follows(vocabulary, sure=0.9):
    """A model that is sure that each token is followed by the next higher one."""

    def call(ids):
        shares = np.full((*ids.shape, vocabulary), (1 - sure) / (vocabulary - 1), np.float32)
        np.put_along_axis(shares, ((ids + 1) % vocabulary)[..., None], sure, axis=-1)
        return shares

    return call


def windows(n=40, length=8, vocabulary=16, seed=0):
    ids = np.random.default_rng(seed).integers(vocabulary, size=(n, length)).astype(np.int32)
    return Examples(ids, (ids + 1) % vocabulary)


def test_the_scores_are_those_of_the_probabilities():
    part = windows()
    part.labels[:, 0] = part.features[:, 0]
    measured = language.measure(*language.asked(follows(16), part), is_bytes=True)
    wrong = -np.log(0.1 / 15)
    loss = (wrong + 7 * -np.log(0.9)) / 8
    values = {name: score["value"] for name, score in measured["scores"].items()}
    assert values["log_loss"] == pytest.approx(loss, rel=1e-5)
    assert values["perplexity"] == pytest.approx(np.exp(loss), rel=1e-5)
    assert values["bits_per_byte"] == pytest.approx(loss / np.log(2), rel=1e-5)
    assert values["accuracy"] == pytest.approx(7 / 8)
    assert measured["by_position"] == pytest.approx([wrong] + [-np.log(0.9)] * 7, rel=1e-5)
    assert (measured["n"], measured["windows"]) == (320, 40)
    json.dumps(measured, allow_nan=False)


def test_intervals_come_from_windows_not_from_tokens():
    losses = np.repeat(np.random.default_rng(0).exponential(size=(50, 1)), 100, axis=1)
    score = language.measure(losses, losses < 1, is_bytes=True)["scores"]["log_loss"]
    expected = 2 * 1.96 * losses[:, 0].std() / np.sqrt(50)
    assert score["high"] - score["low"] == pytest.approx(expected, rel=0.2)


def test_words_have_no_bits_a_byte_and_say_why():
    measured = language.measure(*language.asked(follows(16), windows()), is_bytes=False)
    assert measured["scores"]["bits_per_byte"]["value"] is None and measured["scores"]["bits_per_byte"]["reason"]


def test_what_every_token_is_worth_alone_is_the_baseline():
    found = language.unigram(np.array([99, 99, 0, 0]), np.array([[0, 1]]), is_bytes=True)
    assert found["bits_per_byte"] == pytest.approx(1, abs=0.02)


def test_it_goes_on_from_any_length_of_prompt_and_the_same_seed_says_the_same():
    prompts = [np.array([3]), np.arange(20) % 16]
    likeliest = language.continued(follows(16), prompts, 8, 5, temperature=0, seed=0)
    assert [list(ids) for ids in likeliest] == [[4, 5, 6, 7, 8]] * 2
    drawn = [language.continued(follows(16, 0.3), prompts, 8, 30, 1.0, seed) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert (np.array(drawn[0]) != np.array(drawn[2])).any()


def test_draws_are_as_likely_as_predicted_and_a_low_temperature_takes_the_likeliest():
    shares = np.tile([0.5, 0.3, 0.2], (20_000, 1))
    luck = np.random.default_rng(0).random(20_000)
    assert np.bincount(language._drawn(shares, 1.0, luck)) / 20_000 == pytest.approx([0.5, 0.3, 0.2], abs=0.02)
    sharp = np.array([0.5, 0.3, 0.2]) ** 2
    found = np.bincount(language._drawn(shares, 0.5, luck)) / 20_000
    assert found == pytest.approx(sharp / sharp.sum(), abs=0.02)


def test_nothing_to_measure_and_answers_that_are_no_numbers_are_errors():
    with pytest.raises(Missing, match="larger share"):
        language.asked(follows(16), windows(n=0))
    with pytest.raises(Failed, match="smaller one or fit.clip_norm"):
        language.asked(lambda ids: np.full((*ids.shape, 16), np.nan, np.float32), windows())
