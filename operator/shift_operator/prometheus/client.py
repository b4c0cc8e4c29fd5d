"""The port through which the decision loop asks Prometheus, and its implementation by prometheus-api-client.

What to know of prometheus-api-client 0.7.2, and what is done about it here:
- It is synchronous and has no default timeout: a hung Prometheus hangs its caller. `PrometheusClient` is made for one
  worker thread of its owner; it gives each query one deadline.
- It retries three times with growing pauses, 6 s in all for a 503. Retries are off: the next tick asks anew.
- Its results are `data.result` alone: warnings and the status of a refusal are lost. A response hook of the session,
  which it lets us bring, keeps both.
- Its headers are fixed for life. The token comes from a callable `auth` instead, which reads its file for each query:
  Kubernetes rotates projected tokens.
- Its `check_prometheus_connection` asks for "/", which Thanos or Mimir behind a path do not have. `check` asks a query.
- `method="POST"` puts the query into the URL all the same, so GET it is, and query.py keeps the query short.
"""

import json
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

import requests
from prometheus_api_client import PrometheusConnect
from prometheus_api_client.exceptions import PrometheusApiClientException
from urllib3.exceptions import HTTPError, ReadTimeoutError
from urllib3.util.retry import Retry

from shift_operator.api.signals import Instant
from shift_operator.prometheus.errors import (
    BadAnswer,
    PrometheusError,
    ServerError,
    TimedOut,
    Unauthorized,
    Unreachable,
)

MAX_ANSWER_BYTES = 256 * 1024 * 1024
"""More is no answer to our query: a thousand deployments take about 10 MB."""


class Sample(NamedTuple):
    """One series of an instant vector: its labels, and its value, which may be NaN or infinite."""

    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class QueryResult:
    """An instant vector as of `at`. With warnings it may lack series: so does Thanos tell that a store is missing."""

    samples: tuple[Sample, ...]
    warnings: tuple[str, ...]
    at: Instant


class Prometheus(Protocol):
    """What the operator needs of Prometheus. Both methods block, and raise PrometheusError."""

    def query(self, promql: str, at: Instant) -> QueryResult:
        """The instant vector that `promql` gives as of `at`."""

    def check(self) -> None:
        """Returns if queries are answered."""


class PrometheusClient:
    """Asks one Prometheus. Not thread-safe: its owner gives it one worker thread.

    `timeout_seconds` bounds a query from first to last byte; `token_file` holds a bearer token and is read anew for
    each query; `ca_file` is the CA bundle to verify its certificate with, else requests's own. Verification is never
    off.
    """

    def __init__(
        self, url: str, *, timeout_seconds: float = 5.0, token_file: Path | None = None, ca_file: Path | None = None
    ) -> None:
        self._host = urlsplit(url).netloc.rpartition("@")[2]
        self._timeout_seconds = timeout_seconds
        self._token_file = token_file
        self._deadline = 0.0
        self._answer: requests.Response | None = None
        session = requests.Session()
        # No proxy and no .netrc from the environment: the flags say all about how Prometheus is reached.
        session.trust_env = False
        session.verify = str(ca_file) if ca_file else True
        session.hooks["response"].append(self._read)
        # The smaller connect timeout leaves the answer most of the time.
        connect_and_read = (min(2.0, timeout_seconds), timeout_seconds)
        self._connect: Any = PrometheusConnect(
            url, session=session, auth=self._authorize, retry=Retry(total=0), timeout=connect_and_read
        )

    def query(self, promql: str, at: Instant) -> QueryResult:
        """The instant vector that `promql` gives as of `at`. Raises PrometheusError."""
        self._answer = None
        self._deadline = time.monotonic() + self._timeout_seconds
        # The server gives up by itself too, so that queries nobody waits for do not pile up there.
        params = {"time": f"{at:.3f}", "timeout": f"{self._timeout_seconds:g}s"}
        try:
            result = self._connect.custom_query(promql, params=params)
            return QueryResult(tuple(map(_sample, result)), self._warnings(), at)
        except PrometheusError:
            raise
        except PrometheusApiClientException as refusal:
            raise self._refused() from refusal
        except requests.exceptions.JSONDecodeError as error:
            raise self._bad_answer() from error
        except (requests.RequestException, HTTPError) as failure:
            raise self._failed(failure) from failure
        except (KeyError, TypeError, ValueError) as error:
            raise self._bad_answer() from error

    def check(self) -> None:
        """Returns if queries are answered. Raises PrometheusError."""
        self.query("vector(1)", time.time())

    def close(self) -> None:
        """Closes the connections."""
        self._connect.close()

    def _authorize(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token_file is not None:
            try:
                token = self._token_file.read_text().strip()
            except OSError as error:
                raise Unauthorized(
                    f"Prometheus at {self._host} was not asked: the token file {self._token_file} cannot be read "
                    f"({error.strerror})"
                ) from error
            request.headers["Authorization"] = f"Bearer {token}"
        return request

    def _read(self, response: requests.Response, *_: object, **__: object) -> requests.Response:
        """Reads the body until the deadline. The library's own timeout is per read: a server that drips outlives it."""
        body = bytearray()
        while chunk := response.raw.read1(65_536, decode_content=True):
            body += chunk
            if time.monotonic() > self._deadline:
                response.close()
                raise self._timed_out()
            if len(body) > MAX_ANSWER_BYTES:
                response.close()
                raise BadAnswer(f"Prometheus at {self._host} sent more than {MAX_ANSWER_BYTES >> 20} MiB for one query")
        response.raw.release_conn()
        read = requests.Response()
        read.status_code, read.headers, read.url = response.status_code, response.headers, response.url
        read.request, read.raw = response.request, BytesIO(bytes(body))
        self._answer = read
        return read

    def _warnings(self) -> tuple[str, ...]:
        # Parsing the whole answer a second time is for the rare one that has any.
        if self._answer is None or b'"warnings"' not in self._answer.content:
            return ()
        return tuple(str(warning) for warning in self._answer.json().get("warnings") or ())

    def _refused(self) -> PrometheusError:
        assert self._answer is not None, "the library refused an answer it never had"
        status, said = self._answer.status_code, _error_in(self._answer.content)
        if status in (401, 403):
            way_out = "check --prometheus-token-file" if self._token_file else "set --prometheus-token-file"
            return Unauthorized(
                f"Prometheus at {self._host} answered {status}: it does not accept our token; {way_out}"
            )
        if status == 429 or status >= 500:
            return ServerError(f"Prometheus at {self._host} answered {status}{said}")
        if status == 404:
            return BadAnswer(f"Prometheus at {self._host} answered 404: no Prometheus API under this URL")
        return BadAnswer(f"Prometheus at {self._host} refused the query with {status}{said}")

    def _bad_answer(self) -> BadAnswer:
        kind = self._answer.headers.get("Content-Type", "no content type") if self._answer is not None else "nothing"
        return BadAnswer(f"Prometheus at {self._host} answered with no query result ({kind}); is this its address?")

    def _failed(self, failure: Exception) -> PrometheusError:
        causes = _causes(failure)
        if any(isinstance(cause, requests.Timeout | ReadTimeoutError | TimeoutError) for cause in causes):
            return self._timed_out()
        for cause in causes:
            if isinstance(cause, ssl.SSLCertVerificationError):
                return Unreachable(
                    f"Prometheus at {self._host} shows a certificate that does not verify ({cause.verify_message}); "
                    "give its CA with --prometheus-ca-file"
                )
            if isinstance(cause, OSError) and cause.strerror:
                return Unreachable(f"Prometheus at {self._host} cannot be reached: {cause.strerror}")
        return Unreachable(f"Prometheus at {self._host} broke the connection off: {type(failure).__name__}")

    def _timed_out(self) -> TimedOut:
        return TimedOut(f"Prometheus at {self._host} gave no whole answer within {self._timeout_seconds:g} s")


def _sample(series: Any) -> Sample:
    """Raises what a wrongly shaped series raises, which the caller takes for a bad answer."""
    _, value = series["value"]
    labels = series["metric"]
    if not isinstance(labels, dict) or not isinstance(value, str):
        raise TypeError("no sample")
    return Sample(labels, float(value))


def _error_in(body: bytes) -> str:
    """Prometheus's own sentence in a refusal, if it is one of Prometheus."""
    try:
        said = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        return ""
    return f": {str(said)[:300]}"


def _causes(error: BaseException) -> list[BaseException]:
    """What an exception was raised from, nearest first: requests and urllib3 wrap the socket's error four times."""
    found: list[BaseException] = []
    open_: list[object] = [error]
    while open_:
        cause = open_.pop(0)
        if isinstance(cause, BaseException) and cause not in found:
            found.append(cause)
            open_ += [cause.__cause__, cause.__context__, getattr(cause, "reason", None), *cause.args]
    return found
