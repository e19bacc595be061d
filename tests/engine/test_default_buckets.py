"""What an engine captures where nothing is set: cost follows the requests, and a start stays short."""

from octorec.engine.config import EngineConfig

DEFAULT = EngineConfig().buckets(3)


def test_no_default_batch_is_twice_as_large_as_what_is_asked_for() -> None:
    for beams in DEFAULT.beams:
        assert all(DEFAULT.size_of(number, beams) < 2 * number for number in range(1, DEFAULT.most(beams) + 1))


def test_a_start_captures_fewer_than_twenty_four_buckets() -> None:
    assert len(DEFAULT.all()) < 24  # a capture takes some 0.2 s, and 34 MB


def test_the_ends_are_the_smallest_and_the_largest_batch_of_each_beam_width() -> None:
    assert [(bucket.size, bucket.widths[0]) for bucket in DEFAULT.ends()] == [
        (32, 512), (32, 128), (32, 32), (1, 512), (1, 128), (1, 32)
    ]  # fmt: skip
    bounded = EngineConfig(batch_sizes=(1, 32, 128), beam_widths=(64, 512), max_rows=2**14).buckets(3)
    assert [(bucket.size, bucket.widths[0]) for bucket in bounded.ends()] == [(32, 512), (128, 64), (1, 512), (1, 64)]
