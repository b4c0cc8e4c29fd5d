"""Asking a component whether it is ready."""

from __future__ import annotations

import ssl
import urllib.error
import urllib.request

ANSWER_SECONDS = 2.0


def why_not_ready(url: str, tls: ssl.SSLContext) -> str | None:
    """None when `url` answers 200, else why not, in a few words."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=tls))
    try:
        with opener.open(url, timeout=ANSWER_SECONDS):
            return None
    except urllib.error.HTTPError as error:
        with error:
            return f"it answers {error.code}"
    except urllib.error.URLError as error:
        return f"no answer: {error.reason}"
    except OSError as error:
        return f"no answer: {error}"
