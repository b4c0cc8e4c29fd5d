"""A rank that fails in a build while the others are in a collective with it: they wait, no step runs, and `/health` has
no reason to fail. So the engine ends, and is restarted."""

from pathlib import Path

from served import END_SECONDS
from warm import WarmVllm, end_group

SCRIPT = Path(__file__).with_name("build_with_a_lonely_rank.py")


def test_it_says_what_it_failed_of(warm: WarmVllm, model: Path, environment: dict[str, str], tmp_path: Path) -> None:
    log = tmp_path / "log"
    patience = {"VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS": "20"}
    process = warm.start(SCRIPT, [model], log, environment | patience)
    try:
        code = process.wait(END_SECONDS)
    finally:
        end_group(process)
    assert code != 0
    said = log.read_text().splitlines()
    assert "it serves" in said
    assert not any(line.startswith("built:") for line in said)
    reason = "the others wait for it in a collective: it does not run: RuntimeError: out of memory, on this rank alone"
    assert any(line.endswith(reason) for line in said)
