"""SHeaP in JAX: head geometry from one photograph, learned from 2D videos alone.

The flow of data, one direction only:

    configs -> data -> estimator -> morphable model -> Gaussian regressor -> binding -> lighting
            -> rasteriser -> losses -> train step -> loop
"""
