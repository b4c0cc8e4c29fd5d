"""One spelling per quantity, the API server's: another would look like a change by somebody else at every reconcile.

tests/integration/crd/test_applied_children_show_no_difference.py asks the API server itself about two of these.
"""

import pytest
from shift_operator.planning.quantity import cpu, memory


@pytest.mark.parametrize(
    ("written", "stored"), [("2", "2"), ("2000m", "2"), ("1500m", "1500m"), ("500m", "500m"), ("999999m", "999999m")]
)
def test_cpu(written: str, stored: str) -> None:
    assert cpu(written) == stored


@pytest.mark.parametrize(
    ("written", "stored"),
    [("64Gi", "64Gi"), ("2048Mi", "2Gi"), ("1500Mi", "1500Mi"), ("2048Gi", "2Ti"), ("1048576Mi", "1Ti")],
)
def test_memory(written: str, stored: str) -> None:
    assert memory(written) == stored
