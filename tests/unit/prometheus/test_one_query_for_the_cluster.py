"""The query's promises that need no Prometheus."""

from urllib.parse import quote_plus

import pytest
from shift_operator.prometheus.query import MAX_LENGTH, Part, cluster_query, parts


def test_it_fits_into_a_url_even_percent_encoded() -> None:
    assert len(quote_plus(cluster_query(86_400))) < MAX_LENGTH


def test_it_has_every_part_once() -> None:
    assert set(parts()) == set(Part)
    for part in Part:
        assert cluster_query().count(f'"signal","{part}"') == 1


def test_no_counter_is_summed_before_its_increase() -> None:
    """A sum of counters falls when one pod restarts, which reads as a reset of them all."""
    for promql in parts().values():
        assert "increase(sum" not in promql
        assert "rate(sum" not in promql


def test_a_window_too_short_for_two_scrapes_is_refused() -> None:
    with pytest.raises(ValueError, match="a window of 3 s is too short: give at least four scrape intervals"):
        cluster_query(3)
