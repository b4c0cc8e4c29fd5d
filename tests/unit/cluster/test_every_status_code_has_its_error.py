"""The map from what the API server answers to what a caller can do about it."""

import pytest
from shift_operator.cluster.errors import (
    Conflict,
    Expired,
    Forbidden,
    Invalid,
    NamespaceEnding,
    NotFound,
    Refused,
    Request,
    ServerError,
    Throttled,
    Unauthorized,
    error_from,
)

ASKED = Request("patch", "deployments.apps", "prod", "chat")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Invalid),
        (401, Unauthorized),
        (403, Forbidden),
        (404, NotFound),
        (409, Conflict),
        (410, Expired),
        (422, Invalid),
        (429, Throttled),
        *((status, ServerError) for status in (500, 501, 502, 503, 504, 507, 599)),
        *((status, Refused) for status in (402, 405, 406, 408, 412, 413, 415, 418, 431)),
    ],
)
def test_a_status_code_becomes_its_error(status: int, kind: type[Exception]) -> None:
    error = error_from(ASKED, status, {"message": "the server's sentence"}, retry_after=None)
    assert type(error) is kind
    assert str(error) == "patch deployments.apps prod/chat: the server's sentence"


def test_every_4xx_and_5xx_has_an_error() -> None:
    for status in range(400, 600):
        assert error_from(ASKED, status, "", retry_after=None).why == f"HTTP {status}"


def test_forbidden_names_verb_and_resource() -> None:
    error = error_from(ASKED, 403, {"message": "no"}, retry_after=None)
    assert isinstance(error, Forbidden)
    assert (error.verb, error.resource) == ("patch", "deployments.apps")


def test_a_namespace_under_deletion_is_told_from_a_missing_permission() -> None:
    answer = {"message": "being terminated", "details": {"causes": [{"reason": "NamespaceTerminating"}]}}
    assert isinstance(error_from(ASKED, 403, answer, retry_after=None), NamespaceEnding)


def test_a_server_that_has_not_read_its_roles_yet_is_not_taken_at_its_word() -> None:
    why = 'pods is forbidden: RBAC: [clusterrole.rbac.authorization.k8s.io "system:basic-user" not found]'
    assert isinstance(error_from(ASKED, 403, {"message": why}, retry_after=None), ServerError)


def test_invalid_names_field_and_rule() -> None:
    cause = {"field": "spec.replicas", "message": "Invalid value: -1: must be non-negative"}
    error = error_from(ASKED, 422, {"message": "Deployment is invalid", "details": {"causes": [cause]}}, None)
    assert isinstance(error, Invalid)
    assert (error.field, error.rule) == ("spec.replicas", "Invalid value: -1: must be non-negative")


@pytest.mark.parametrize(
    ("retry_after", "seconds"), [("7", 7.0), ("0", 0.0), ("-3", 0.0), (None, 1.0), ("Wed, 21 Oct 2026", 1.0)]
)
def test_throttled_says_after_how_many_seconds(retry_after: str | None, seconds: float) -> None:
    error = error_from(ASKED, 429, {}, retry_after)
    assert isinstance(error, Throttled)
    assert error.after == seconds


def test_a_server_that_names_a_time_is_throttling_not_broken() -> None:
    assert isinstance(error_from(ASKED, 503, {}, retry_after="2"), Throttled)
    assert isinstance(error_from(ASKED, 503, {}, retry_after=None), ServerError)


def test_of_a_page_in_html_only_the_head_is_kept() -> None:
    error = error_from(ASKED, 502, "<html>\n" + "x" * 5000, retry_after=None)
    assert error.why.startswith("HTTP 502: <html> xxx")
    assert len(error.why) < 250
