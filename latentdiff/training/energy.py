"""Energy that the training device says it has used, where it says so."""

from __future__ import annotations

from pathlib import Path

import torch

RAPL = Path("/sys/class/powercap")


class EnergyMeter:
    """Joules used between two readings: by an NVIDIA GPU's own counter, or by the CPU packages' (RAPL on Linux).

    The energy is that of the whole device, including any other work that the machine does.

    Args:
        device: What trains.
        rapl: The kernel's folder of power counters.
    """

    def __init__(self, device: torch.device, rapl: Path = RAPL):
        self.device, self._rapl = device, rapl
        self._last, self._kept = self._read(), 0.0

    def look(self) -> None:
        """Read a CPU's counters in between: they run over their limit within minutes, and once is all that is seen."""
        if self.device.type != "cuda":
            self._kept = self.since_last() or 0.0

    def since_last(self) -> float | None:
        """Joules since the last call, or since the meter was made; None where the device does not tell."""
        last, self._last = self._last, self._read()
        kept, self._kept = self._kept, 0.0
        if not last or last.keys() != self._last.keys():
            return None
        used = {name: (value - last[name][0], limit) for name, (value, limit) in self._last.items()}
        # A counter that has fallen has run over its limit, once.
        return kept + sum(joules + limit if joules < 0 else joules for joules, limit in used.values())

    def _read(self) -> dict[str, tuple[float, float]]:
        """Each counter's joules, and those at which it starts again from 0."""
        return self._gpu() if self.device.type == "cuda" else self._cpu()

    def _gpu(self) -> dict[str, tuple[float, float]]:
        try:
            import pynvml

            pynvml.nvmlInit()
            uuid = f"GPU-{torch.cuda.get_device_properties(self.device).uuid}"
            handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
            return {uuid: (pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3, float("inf"))}
        except Exception:  # no such package, driver or counter: the energy is not known, and nothing depends on it
            return {}

    def _cpu(self) -> dict[str, tuple[float, float]]:
        found = {}
        try:
            for folder in sorted(self._rapl.glob("intel-rapl:*")):
                if folder.name.count(":") == 1:  # a package; its parts are counted in it
                    values = ((folder / name).read_text() for name in ("energy_uj", "max_energy_range_uj"))
                    found[folder.name] = tuple(int(value) / 1e6 for value in values)
        except (OSError, ValueError):  # most systems let only root read them
            return {}
        return found
