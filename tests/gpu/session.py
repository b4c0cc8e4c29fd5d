"""All that needs a GPU, in one go: `session.py OUT` runs each case in a process of its own and writes OUT/result.json.

A case that fails is reported and the next one runs. Several ranks share one GPU, so times say nothing about speed.
"""

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent.parent
CASE_SECONDS = 280
PARALLEL = 3  # engines at once: a start is mostly imports and compilation, on one core each
# In order of what is most worth knowing, since the whole may be cut short.
KERNELS = "kernels"
CASES = (
    KERNELS,
    "2x1 graphs float32",
    "2x1 graphs bfloat16",
    "stock TP=2 graphs bfloat16",
    "stock TP=2 eager float32",
    "4x1 eager float32",
    "2x2 graphs float32",
    "8x1 eager float32",
    "2x1 eager float32",
    "stock TP=1 eager float32",
)


def main(out: Path) -> int:
    out.mkdir(parents=True, exist_ok=True)
    budget = time.monotonic() + float(os.environ.get("SESSION_SECONDS", "540"))
    chosen = [case for case in CASES if case in os.environ.get("SESSION_CASES", ",".join(CASES)).split(",")]
    model = out.parent / "tiny"
    serving = CHECKOUT / "tests" / "engine" / "serving"
    path = f"{CHECKOUT / 'worker_image'}:{serving}:{HERE}:{os.environ.get('PYTHONPATH', '')}"
    environment = {**os.environ, "PYTHONPATH": path}
    subprocess.run([sys.executable, CHECKOUT / "examples" / "tiny_model.py", model], env=environment, check=True)
    results: dict[str, Any] = {}

    def turn(case: str) -> None:
        left = budget - time.monotonic()
        if left < 60:
            results[case] = {"failed": "not run: the time was used up", "phases": {}}
        else:
            results[case] = run(case, model, out, environment, min(CASE_SECONDS, left))
        (out / "result.json").write_text(json.dumps(results))

    with ThreadPoolExecutor(max_workers=PARALLEL) as pool:
        list(pool.map(turn, chosen))
    print(summary(results))
    return 0 if all("failed" not in result for result in results.values()) else 1


def run(case: str, model: Path, out: Path, environment: dict[str, str], seconds: float) -> dict[str, Any]:
    name = case.replace(" ", "_").replace("=", "")
    answer, log = out.parent / f"{name}.json", out.parent / f"{name}.log"
    began = time.monotonic()
    command = [sys.executable, HERE / "case.py", case, model, answer]
    if case == KERNELS:
        command = [
            sys.executable,
            CHECKOUT / "benchmarks" / "engine_kernels.py",
            "--quick",
            "--out",
            out / "kernels.md",
        ]
    with log.open("w") as sink:
        process = subprocess.Popen(
            command,
            env=environment, stdout=sink, stderr=sink, start_new_session=True,
        )  # fmt: skip
        try:
            code: int | str = process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            code = f"no end after {seconds:.0f} s"
        finally:
            subprocess.run(["pkill", "-KILL", "-s", str(process.pid)], check=False)
    result: dict[str, Any] = json.loads(answer.read_text()) if answer.exists() else {"phases": {}}
    result["seconds"] = round(time.monotonic() - began, 1)
    if code != 0:
        result["failed"] = str(code)
        lines = log.read_text(errors="replace").splitlines()
        errors = [line for line in lines if "Error" in line or "error" in line]
        print(f"== {case}: {code}\n" + "\n".join(errors[-12:]) + "\n--\n" + "\n".join(lines[-15:]), flush=True)
    subprocess.run(["tar", "czf", out / f"{name[:40]}.tgz", "-C", out.parent, log.name], check=False)
    print(f"{case}: {code}, {result['seconds']} s", flush=True)
    return result


def summary(results: dict[str, Any]) -> str:
    """Tokens of each phase against stock vLLM's of the same dtype."""
    stock = {
        name: result["phases"]["stock"]["tokens"] for name, result in results.items() if "stock" in result["phases"]
    }
    lines = []
    for name, result in results.items():
        for phase, outcome in result["phases"].items():
            equal = {
                other.rsplit(" ", 2)[
                    0
                ]: f"{sum(a == b for a, b in zip(outcome['tokens'], tokens, strict=True))}/{len(tokens)}"
                for other, tokens in stock.items()
                if other.rsplit(" ", 1)[1] == name.rsplit(" ", 1)[1]
            }
            degrees = outcome.get("stats", {}).get("degrees", {})
            steps = {degree: totals.get("steps") for degree, totals in degrees.items()}
            more = {k: v for k, v in outcome.items() if k not in ("tokens", "stats")}
            lines.append(f"{name} | {phase} | equal to {equal} | steps {steps} {more or ''}")
        at_start = result.get("at start", {})
        if at_start:
            lines.append(f"{name} | weights {at_start['weights']}")
            lines.append(f"{name} | overlay {at_start['overlay']} | calibration {at_start['calibration']}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
