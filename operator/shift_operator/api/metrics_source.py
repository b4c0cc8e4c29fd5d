"""The Prometheus that a policy's signals come from."""

from typing import Annotated

from pydantic import ConfigDict, Field

from shift_operator.api.base import ApiType, Rule, with_rules

# The folders where the chart mounts the token and the CA. A policy that could name any file of the operator's pod could
# have its service account's token sent to any URL.
FILES = "/etc/prometheus-"


def _file(field: str, example: str) -> Rule:
    return Rule(
        rule=f"self.startsWith('{FILES}') && !self.split('/').exists(part, part == '..')",
        message=f"prometheus.{field} must lie in a folder {FILES}* of the operator's pod, where the chart mounts such "
        f"files, without '..'; write for example {example}",
    )


class MetricsSource(ApiType):
    """A Prometheus, or what answers like one, and how to reach it."""

    model_config = ConfigDict(
        json_schema_extra=with_rules(
            Rule(
                rule="self.url.startsWith('https://') || (!has(self.caFile) && !self.insecureSkipVerify)",
                message="prometheus: caFile and insecureSkipVerify are about TLS, and url is not https; write an "
                "https:// url, or remove them",
                field=".url",
            ),
            Rule(
                rule="!has(self.caFile) || !self.insecureSkipVerify",
                message="prometheus.insecureSkipVerify verifies nothing, so caFile has no use; remove one of them",
                field=".insecureSkipVerify",
            ),
        )
    )

    url: Annotated[
        str,
        Field(
            min_length=1,
            max_length=1024,
            json_schema_extra=with_rules(
                Rule(
                    rule="isURL(self) && url(self).getScheme() in ['http', 'https'] && url(self).getHost() != ''"
                    " && !self.contains('@') && !self.contains('?')",
                    message="prometheus.url must be an http or https address without user, password and query; write "
                    "for example http://prometheus.monitoring:9090",
                )
            ),
        ),
    ]
    """Its address, without /api/v1. Takes effect with the next decision. Example:
    https://thanos-query.monitoring:9090."""

    insecure_skip_verify: bool = False
    """Whether its certificate goes unverified. Default: {default}. Takes effect with the next decision. Example: true
    lets anyone on the network way decide for the operator; give caFile instead."""

    ca_file: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=512,
            json_schema_extra=with_rules(_file("caFile", "/etc/prometheus-ca/ca.crt")),
        ),
    ] = None
    """The CA bundle that its certificate is verified with, a file in the operator's pod. Default: the usual public CAs.
    Takes effect with the next decision. Example: /etc/prometheus-ca/ca.crt, where the chart mounts
    prometheus.caConfigMap."""

    bearer_token_file: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=512,
            json_schema_extra=with_rules(_file("bearerTokenFile", "/etc/prometheus-token/token")),
        ),
    ] = None
    """A file in the operator's pod with the bearer token to show, read anew for each query. Default: no token. Takes
    effect with the next decision. Example: /etc/prometheus-token/token, where the chart mounts
    prometheus.tokenSecret."""
