"""Label pictures without framecnn: `read_picture` and ONNX Runtime are all that an exported classifier needs."""

import json
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

from framecnn import FrameClassifier
from framecnn.data.decode import decode
from framecnn.interop.onnx_export import to_onnx


def read_picture(path, height, width):
    """Return an 8-bit picture as `framecnn predict` reads it: (1, 3, height, width) float32, RGB from 0 to 255."""
    with Image.open(path) as image:
        rotated = image.getexif().get(0x0112) in (5, 6, 7, 8)  # by 90 degrees
        size = (height, width) if rotated else (width, height)
        drafted = image.draft(None, size) or (None, None)  # a JPEG is decoded at a half, a quarter or an eighth
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
        image = image.resize(size, Image.Resampling.BILINEAR, drafted[1], reducing_gap=2.0)
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", size, (128, 128, 128, 255)), image)
    image = ImageOps.exif_transpose(image).convert("RGB")
    return np.asarray(image, np.float32).transpose(2, 0, 1)[None]


# Make six pictures, a classifier of them, and its export, with framecnn.
folder, rng = Path(tempfile.mkdtemp()), np.random.default_rng(0)
for number in range(6):
    colours = rng.integers(0, 256, (1, 8, 3) if number % 2 else (6, 1, 3), dtype=np.uint8)
    Image.fromarray(colours).resize((640, 480), Image.Resampling.BICUBIC).save(folder / f"{number}.jpg")
paths = sorted(folder.glob("*.jpg"))
frames = np.stack([decode(path, (48, 64)).pixels for path in paths])
classifier = FrameClassifier(n_filters=20, random_state=0).fit(frames, ["down", "across"] * 3)
to_onnx(classifier, folder / "model.onnx")

# Use the export elsewhere, without framecnn.
session = onnxruntime.InferenceSession(folder / "model.onnx")
about = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}
for path in paths:
    x = read_picture(path, about["frames"]["height"], about["frames"]["width"])
    label, probabilities, _ = session.run(None, {"x": x})
    print(path.name, about["classes"][label[0]], f"{probabilities.max():.2f}")
