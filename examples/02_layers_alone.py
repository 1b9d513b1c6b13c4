"""Layers without a model, each built and called in one line."""

import numpy as np

from framecnn import ConvLayer, DownsamplingLayer, PoolingLayer

frame = np.zeros((1, 240, 360, 3))
frame[:, 100:140, 150:210] = 255

layer = ConvLayer(filters=1, kernel_size=3, padding="same").build((240, 360, 3), seed=0)
edges = np.array([[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]]) / 24
layer.params["kernel"] = np.repeat(edges[:, :, None, None], 3, axis=2)
print(layer)
print("output shape", layer.output_shape, "parameters", layer.n_params)

y = layer(frame)
print("pixels on the edge of the square:", int((np.abs(y) > 1).sum()))

small = DownsamplingLayer(4).build((240, 360, 3))(frame)
largest = PoolingLayer(2).build(small.shape[1:])(small)
print("downsampled", small.shape, "pooled", largest.shape)
