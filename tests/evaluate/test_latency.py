import gzip
import time

from tfapp.evaluate import latency


def test_a_call_is_timed_at_each_batch_size_after_warming_up():
    seen = []

    def call(batch):
        seen.append(len(batch))
        time.sleep(0.002)

    measured = latency.measure(call, lambda size: [0] * size, sizes=(1, 8), seconds=0.03)
    assert set(measured) == {"1", "8"}
    for size, times in measured.items():
        assert 2 <= times["p50_ms"] <= times["p95_ms"]
        assert times["calls"] >= 5 and seen.count(int(size)) == times["calls"] + latency.WARM_UP
    assert measured["8"]["examples_per_second"] > 3 * measured["1"]["examples_per_second"]


def test_a_folder_weighs_as_much_as_its_files(tmp_path):
    (tmp_path / "variables").mkdir()
    (tmp_path / "variables" / "a").write_bytes(b"0" * 5000)
    (tmp_path / "b").write_bytes(b"x" * 10)
    sizes = latency.size(tmp_path)
    assert sizes["bytes"] == 5010
    assert sizes["gzip_bytes"] < 150
    alone = latency.size(tmp_path / "b")
    assert alone["bytes"] == 10 and alone["gzip_bytes"] == len(gzip.compress(b"x" * 10))
