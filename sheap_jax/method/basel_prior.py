"""Reader of the Basel Illumination Prior 2017 (Egger et al., IJCV 2018), which users fetch themselves.

The archive is a folder with one JSON file per fitted photograph, `parameters/*.rps`, whose
`environmentMap.coefficients` are 9 x 3 harmonics in the order of sheap_jax.method.lighting. It stores no principal
components: they are fitted here.
"""

from pathlib import Path

import numpy as np

from sheap_jax.files.json_files import read_json
from sheap_jax.method.lighting import HARMONICS, LightPrior, fit_light_prior


def load_basel_prior(folder: str | Path, components: int) -> LightPrior:
    """Light prior of `components` principal components from the unpacked archive in `folder`.

    Raises FileNotFoundError if `folder` has no `parameters/*.rps`, ValueError naming the file that cannot be read.
    """
    files = sorted(Path(folder).glob("parameters/*.rps"))
    if not files:
        raise FileNotFoundError(
            f"{folder}: no parameters/*.rps here. Download the Basel Illumination Prior 2017 from "
            "https://gravis.dmi.unibas.ch/PMM/data/bip/ (its terms apply), unpack it, and pass the unpacked folder."
        )
    return fit_light_prior(np.stack([_read_coefficients(file) for file in files]), components)


def _read_coefficients(file: Path) -> np.ndarray:
    """Harmonics [9, 3] of one parameter file."""
    try:
        values = np.asarray(read_json(file)["environmentMap"]["coefficients"], np.float64)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{file}: no readable environmentMap.coefficients ({error}); unpack the archive again"
        ) from error
    if values.shape != (HARMONICS, 3) or not np.isfinite(values).all():
        raise ValueError(f"{file}: environmentMap.coefficients has shape {values.shape}, expected finite (9, 3)")
    return values
