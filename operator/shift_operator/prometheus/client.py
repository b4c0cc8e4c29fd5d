"""The port through which the decision loop asks Prometheus, and its implementation by prometheus-api-client.

What to know of prometheus-api-client 0.7.2, and what is done about it here:
- It is synchronous and has no default timeout: a hung Prometheus hangs its caller. `PrometheusClient` is made for one
  worker thread of its owner; it gives each query one deadline.
- It retries three times with growing pauses, 6 s in all for a 503. Retries are off: the next tick asks anew.
- Its results are `data.result` alone: warnings and the status of a refusal are lost. A response hook of the session,
  which it lets us bring, keeps both.
- Its headers are fixed for life. The token comes from a callable `auth` instead, which reads its file for each query:
  Kubernetes rotates projected tokens.
- It parses with the standard library, which takes three times as long as orjson: the hook's response brings that.
- Its `check_prometheus_connection` asks for "/", which Thanos or Mimir behind a path do not have. `check` asks a query.
- `method="POST"` puts the query into the URL all the same, so GET it is, and query.py keeps the query short.
"""

import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

import orjson
import requests
import urllib3
from prometheus_api_client import PrometheusConnect
from prometheus_api_client.exceptions import PrometheusApiClientException
from urllib3.exceptions import HTTPError, InsecureRequestWarning, ReadTimeoutError
from urllib3.util.retry import Retry

from shift_operator.api.metrics_source import MetricsSource
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


class SettingNames(NamedTuple):
    """What a reader of an error would change, as they know it."""

    url: str
    token_file: str
    ca_file: str


FLAGS = SettingNames("--prometheus-url", "--prometheus-token-file", "--prometheus-ca-file")
POLICY_FIELDS = SettingNames("spec.prometheus.url", "spec.prometheus.bearerTokenFile", "spec.prometheus.caFile")


class PrometheusClient:
    """Asks one Prometheus. Not thread-safe: its owner gives it one worker thread.

    `timeout_seconds` bounds a query from first to last byte; `token_file` holds a bearer token and is read anew for
    each query; `ca_file` is the CA bundle to verify its certificate with, else requests's own; only
    `insecure_skip_verify` turns verification off. `settings` is what the errors name as the way out.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_seconds: float = 5.0,
        token_file: Path | None = None,
        ca_file: Path | None = None,
        insecure_skip_verify: bool = False,
        settings: SettingNames = FLAGS,
    ) -> None:
        self._host = urlsplit(url).netloc.rpartition("@")[2]
        self._timeout_seconds = timeout_seconds
        self._token_file = token_file
        self._ca_file = ca_file
        self._settings = settings
        self._deadline = 0.0
        self._answer: requests.Response | None = None
        session = requests.Session()
        # No proxy and no .netrc from the environment: the flags say all about how Prometheus is reached.
        session.trust_env = False
        session.verify = not insecure_skip_verify and (str(ca_file) if ca_file else True)
        if insecure_skip_verify:
            urllib3.disable_warnings(InsecureRequestWarning)  # one per query otherwise, of what the user has asked for
        session.hooks["response"].append(self._read)
        # The smaller connect timeout leaves the answer most of the time.
        connect_and_read = (min(2.0, timeout_seconds), timeout_seconds)
        self._connect: Any = PrometheusConnect(
            url, session=session, auth=self._authorize, retry=Retry(total=0), timeout=connect_and_read
        )

    @classmethod
    def of(cls, source: MetricsSource, *, timeout_seconds: float = 5.0) -> "PrometheusClient":
        """A client of a policy's own Prometheus; its errors name the policy's fields."""
        return cls(
            source.url.rstrip("/"),
            timeout_seconds=timeout_seconds,
            token_file=Path(source.bearer_token_file) if source.bearer_token_file else None,
            ca_file=Path(source.ca_file) if source.ca_file else None,
            insecure_skip_verify=source.insecure_skip_verify,
            settings=POLICY_FIELDS,
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
        except (OSError, HTTPError) as failure:  # requests's own errors are OSErrors, and a CA file that is not there
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
                    f"({error.strerror}); mount it, or drop {self._settings.token_file}"
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
        read = _Answer(bytes(body))
        read.status_code, read.headers, read.url = response.status_code, response.headers, response.url
        read.request, read.raw = response.request, BytesIO()
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
            way_out = f"{'check' if self._token_file else 'set'} {self._settings.token_file}"
            return Unauthorized(
                f"Prometheus at {self._host} answered {status}: it does not accept our token; {way_out}"
            )
        if status == 429 or status >= 500:
            return ServerError(f"Prometheus at {self._host} answered {status}{said}; its own log says more")
        if status == 404:
            return BadAnswer(
                f"Prometheus at {self._host} answered 404: no Prometheus API under this URL; check {self._settings.url}"
            )
        if status == 414:
            return BadAnswer(
                f"Prometheus at {self._host} answered 414: a proxy takes no URL of 5 kB; ask Prometheus itself, "
                f"or raise the proxy's limit"
            )
        return BadAnswer(f"Prometheus at {self._host} refused the query with {status}{said}")

    def _bad_answer(self) -> BadAnswer:
        kind = self._answer.headers.get("Content-Type", "no content type") if self._answer is not None else "nothing"
        return BadAnswer(
            f"Prometheus at {self._host} answered with no query result ({kind}); check {self._settings.url}"
        )

    def _failed(self, failure: Exception) -> PrometheusError:
        causes = _causes(failure)
        if any(isinstance(cause, requests.Timeout | ReadTimeoutError | TimeoutError) for cause in causes):
            return self._timed_out()
        if self._ca_file is not None and (bad := _unusable(self._ca_file)):
            return Unreachable(
                f"Prometheus at {self._host} was not asked: the CA file {self._ca_file} {bad}; "
                f"check {self._settings.ca_file}"
            )
        for cause in causes:
            if isinstance(cause, ssl.SSLCertVerificationError):
                return Unreachable(
                    f"Prometheus at {self._host} shows a certificate that does not verify ({cause.verify_message}); "
                    f"give its CA with {self._settings.ca_file}"
                )
            if isinstance(cause, OSError) and cause.strerror:
                return Unreachable(
                    f"Prometheus at {self._host} cannot be reached: {cause.strerror}; check {self._settings.url}"
                )
        return Unreachable(f"Prometheus at {self._host} broke the connection off: {type(failure).__name__}")

    def _timed_out(self) -> TimedOut:
        return TimedOut(
            f"Prometheus at {self._host} gave no whole answer within {self._timeout_seconds:g} s; it is overloaded, or "
            "something on the way drops what we send"
        )


class _Answer(requests.Response):
    """A whole answer. The base class would read the body again, in pieces of 10 kB, and copy it twice."""

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self._body = body

    @property
    def content(self) -> bytes:
        return self._body

    def json(self, **_: Any) -> Any:
        return orjson.loads(self.content)


def _unusable(ca_file: Path) -> str:
    """What is wrong with a CA bundle; empty where nothing is."""
    try:
        ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError:
        return "holds no certificates"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return ""


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
        said = orjson.loads(body)["error"]
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
