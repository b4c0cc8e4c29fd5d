"""Where the demo finds things: the checkout, the two Python environments, the cache and its own work folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import yaml

CHECKOUT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Environment:
    """Paths of one demo run. Everything it writes lies in `work`, everything it builds once in `cache`."""

    checkout: Path
    cache: Path
    work: Path

    @property
    def control_python(self) -> Path:
        return self.checkout / ".venv" / "control" / "bin" / "python"

    @property
    def engine_python(self) -> Path:
        return self.checkout / ".venv" / "engine" / "bin" / "python"

    @property
    def model(self) -> Path:
        return self.cache / "models" / "tiny"

    @property
    def images(self) -> Path:
        return self.checkout / "examples" / "localcluster-images.yaml"

    @property
    def engine_image(self) -> str:
        """The one that the example's replicas run."""
        manifest = yaml.safe_load((self.checkout / "examples" / "shiftdeployment.yaml").read_text())
        return str(manifest["spec"]["engine"]["image"])

    def variables(self) -> dict[str, str]:
        """The process environment of every command the demo starts; the image map refers to these names."""
        return {
            **os.environ,
            "SHIFT_CACHE": str(self.cache),
            "SHIFT_CHECKOUT": str(self.checkout),
            "SHIFT_MODELS": str(self.model.parent),
            # Where these clients would otherwise write into the home folder.
            "KUBECACHEDIR": str(self.work / "kubectl"),
            "HELM_CACHE_HOME": str(self.work / "helm" / "cache"),
            "HELM_CONFIG_HOME": str(self.work / "helm" / "config"),
            "HELM_DATA_HOME": str(self.work / "helm" / "data"),
        }


def here(work: Path | None = None) -> Environment:
    cache = Path(os.environ.get("SHIFT_CACHE", "~/.cache/shift-operator")).expanduser()
    return Environment(checkout=CHECKOUT, cache=cache, work=work or cache / "demo")
