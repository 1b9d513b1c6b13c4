"""A folder of frames: scan it, split it by shot, train, and print its accuracy with a confidence interval."""

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from framecnn import FrameClassifier, FrameFolder
from framecnn.evaluation import evaluate

rng = np.random.default_rng(0)
root = Path(tempfile.mkdtemp())
for label, colour in [("dusk", (160, 90, 60)), ("forest", (60, 110, 60)), ("sea", (60, 90, 150))]:
    (root / label).mkdir()
    for shot in range(10):
        light = rng.uniform(0.6, 1.4)
        for frame in range(3):
            pixels = np.array(colour) * light + rng.normal(0, 20, (72, 108, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / label / f"{shot:02}_{frame}.png")
rows = [f"{p.parent.name}/{p.name},{p.parent.name},{p.parent.name}_{p.name[:2]},0" for p in sorted(root.rglob("*.png"))]
(root / "frames.csv").write_text("\n".join(["path,label,group,time_s", *rows]) + "\n", encoding="utf-8")

folder = FrameFolder(root, size=(48, 72))
train, validation, test = folder.split(0.7, 0.2, 0.1, seed=0)
print(folder)
print(train.split_note)

clf = FrameClassifier(random_state=0).fit(train.frames, train.targets, groups=train.groups)
for part, name in [(validation, "validation"), (test, "test")]:
    print(name, evaluate(clf, part.frames, part.targets, part.groups, folder.classes, name).describe())
