import io

import numpy as np
import pytest
from PIL import Image

from sheap_jax.files.jpeg_size import jpeg_size


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"exif": Image.Exif(), "comment": b"x" * 70}])
@pytest.mark.parametrize("size", [(3, 5), (640, 17), (224, 224)])
def test_the_size_is_that_of_the_decoded_picture(options, size):
    stream = io.BytesIO()
    Image.fromarray(np.zeros((*size[::-1], 3), np.uint8)).save(stream, "JPEG", **options)
    assert jpeg_size(stream.getvalue()) == size


START = b"\xff\xd8"


@pytest.mark.parametrize("data", [b"", START, b"\x89PNG" + bytes(20), START + bytes(50), START + b"\xff\xe0"])
def test_what_states_no_size_is_refused(data):
    with pytest.raises(ValueError, match=r"JPEG|states no size"):
        jpeg_size(data)
