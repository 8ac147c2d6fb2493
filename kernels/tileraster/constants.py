"""Numbers that define the image. They are those of the golden files; every implementation uses them."""

ALPHA_MIN = 1.0 / 255.0  # a pair of pixel and primitive with a smaller alpha is skipped
ALPHA_MAX = 0.99
TRANSMITTANCE_STOP = 1e-4  # compositing stops before the primitive that would leave this much or less
FILTER_INVERSE_SQUARE = 2.0  # 1 / sigma^2 of the surfels' screen-space low-pass filter, sigma = sqrt(1/2) pixel
DILATION = 0.3  # square pixels added to the screen covariance of ellipsoids (3DGS)
FRUSTUM_MARGIN = 0.3  # half image sizes; ellipsoids farther beyond the border are linearised at that place (3DGS)
DISTORTION_NEAR = 0.2  # depth range of the distortion's m(z)
DISTORTION_FAR = 100.0

# Pixels. A larger standard deviation on the screen changes nothing in float32, but products of such numbers overflow.
WIDEST = 1e8
CAPACITY_STEP = 64  # lengths of entry lists are multiples of it, and so of every kernel's chunk
