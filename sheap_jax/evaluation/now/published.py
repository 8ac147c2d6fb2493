"""Medians that the literature gives for NoW, in mm, as marks in our plot.

Quoted with care: the sources mix the validation and the test list, and nobody but the benchmark's makers can score the
latter. They are no comparison image by image.
"""

PUBLISHED_MEDIANS = {
    "MICA, 3D supervised": 0.90,
    "SHeaP": 0.97,
    "DECA": 1.09,
    "Deep3D": 1.11,
    "SMIRK": 1.20,
    "RingNet": 1.21,
    "3DDFA-V2": 1.23,
    "PRNet": 1.50,
}
