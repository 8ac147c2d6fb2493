"""Medians that the literature gives for NoW, in mm, by the list of images that they were measured on.

Marks in our plot, no comparison image by image. Only the benchmark's makers can score the test list. Quoted with care:
sources do not always say which list they mean; those that do not are taken for the test list, which papers report.
"""

PUBLISHED_MEDIANS: dict[str, dict[str, float]] = {
    "validation": {"SHeaP": 0.93},  # mean 1.157; the authors' repository
    "test": {
        "MICA, 3D supervised": 0.90,
        "SHeaP": 0.97,
        "DECA": 1.09,
        "Deep3D": 1.11,
        "SMIRK": 1.20,
        "RingNet": 1.21,
        "3DDFA-V2": 1.23,
        "PRNet": 1.50,
    },
}
