"""What can go wrong with a query, by what an operator's reader would do about it.

    PrometheusError
        Unreachable     no connection: wrong address, nothing listening, a certificate that does not verify
        TimedOut        connected, but no whole answer in time
        Unauthorized    401, 403, or the token file cannot be read
        ServerError     429 and 5xx: it is there and cannot answer now
        BadAnswer       an answer that is no query result: HTML, another API, a query it refuses

Each message is one sentence that names the host and port asked, never a credential.
"""


class PrometheusError(Exception):
    """A query gave no answer. Nothing is known then; nothing is zero."""


class Unreachable(PrometheusError):
    """No connection came about."""


class TimedOut(PrometheusError):
    """No whole answer came in time."""


class Unauthorized(PrometheusError):
    """It will not talk to us with this token, or we have none to show."""


class ServerError(PrometheusError):
    """It is there, and cannot answer at the moment."""


class BadAnswer(PrometheusError):
    """It answered something that is no query result."""
