"""An s3:// model with the flag and variables that the operator gives it (docs/contract.md, section 1), from loopback.

moto is the server. It compares each request's signature with the keys that it has made, so a wrong key is refused.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest
import requests
from moto.moto_server.threaded_moto_server import ThreadedMotoServer
from served import SHIFT_ENGINE, Served, ended, schedule, serving
from warm import WarmVllm

REGION = "eu-central-1"
URI = "s3://models/llama/tiny"
READING = {"Effect": "Allow", "Action": ["s3:ListBucket", "s3:GetObject"], "Resource": "*"}


@dataclass
class Storage:
    """A bucket `models` with the tiny model, and a key that may read it."""

    url: str
    key_id: str
    secret: str

    def variables(self, secret: str) -> dict[str, str]:
        """What the operator sets, with this secret."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "RUNAI_STREAMER_S3_USE_VIRTUAL_ADDRESSING": "0",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": self.key_id,
            "AWS_SECRET_ACCESS_KEY": secret,
        }


@pytest.fixture(scope="module")
def storage(model: Path) -> Iterator[Storage]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        root = {"endpoint_url": url, "region_name": REGION, "aws_access_key_id": "x", "aws_secret_access_key": "x"}
        people, objects = boto3.client("iam", **root), boto3.client("s3", **root)
        people.create_user(UserName="reader")
        policy = json.dumps({"Version": "2012-10-17", "Statement": [READING]})
        people.put_user_policy(UserName="reader", PolicyName="read", PolicyDocument=policy)
        key = people.create_access_key(UserName="reader")["AccessKey"]
        objects.create_bucket(Bucket="models", CreateBucketConfiguration={"LocationConstraint": REGION})
        for file in model.iterdir():
            objects.upload_file(str(file), "models", f"llama/tiny/{file.name}")
        requests.post(f"{url}/moto-api/reset-auth", data="0", timeout=10)  # from now on no request goes unchecked
        yield Storage(url, key["AccessKeyId"], key["SecretAccessKey"])
    finally:
        server.stop()


def degrees_run(engine: Served) -> set[str]:
    """SP of the degrees that steps were counted at; they are counted every two seconds."""
    samples = engine.metrics()["shift_steps"].samples
    return {s.labels["sequence"] for s in samples if s.name == "shift_steps_total" and s.value}


@pytest.mark.full  # two engines, each with an empty cache
def test_it_answers_as_from_a_folder_under_both_degrees(
    warm: WarmVllm, storage: Storage, model: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    answers = []
    for name, where, variables in (("folder", model, {}), ("storage", URI, storage.variables(storage.secret))):
        (tmp_path / name).mkdir()
        cached = {"VLLM_CACHE_ROOT": str(tmp_path / name / "cache")}
        flags = ["--load-format", "runai_streamer"] if where == URI else []
        text = schedule(1, 16)
        with serving(warm, where, environment | cached | variables, tmp_path / name, text, *flags) as engine:
            engine.until("generation 1", lambda shift: shift["schedule"]["generation"] == 1)
            answers.append([engine.complete(prompt)["text"] for prompt in ("short", "a long one, " * 10)])
            engine.until("steps at both degrees", lambda _, engine=engine: degrees_run(engine) == {"1", "2"})
    assert answers[0] == answers[1]


def test_a_key_that_is_refused_is_named_in_the_termination_message(
    warm: WarmVllm, storage: Storage, environment: dict[str, str], tmp_path: Path
) -> None:
    variables = storage.variables("not the secret") | {"VLLM_CACHE_ROOT": str(tmp_path / "cache")}
    command = [SHIFT_ENGINE, "serve", URI, "--host", "127.77.0.6", "--load-format", "runai_streamer"]
    found = ended(warm, command, environment | variables, tmp_path)
    assert found.code == 1, found.log[-4000:]
    assert "SignatureDoesNotMatch" in found.message
