"""Train on frames, look at what was chosen, save, load, predict."""

import numpy as np

import framecnn
from framecnn import FrameClassifier

rng = np.random.default_rng(0)


def film(stripes, n_shots=6, per_shot=5):
    """Return frames (n, 48, 72, 3) of shots, noise over stripes along one axis, and the shot of every frame."""
    ramp = 60 * np.sin(np.arange(48)[:, None] if stripes == "across" else np.arange(72)[None, :])
    shots = rng.uniform(80, 170, n_shots).repeat(per_shot)
    frames = shots[:, None, None, None] + ramp[None, :, :, None] + rng.normal(0, 25, (len(shots), 48, 72, 3))
    names = [f"{stripes}-{shot}" for shot in range(n_shots) for _ in range(per_shot)]
    return frames.clip(0, 255).astype(np.uint8), names


across, across_shots = film("across")
along, along_shots = film("along")
X = np.concatenate([across, along])
y = ["across"] * len(across) + ["along"] * len(along)

clf = FrameClassifier(random_state=0).fit(X, y, groups=across_shots + along_shots)
print(clf.chosen_)

new, _ = film("across", n_shots=2)
print("accuracy on new shots:", clf.score(new, ["across"] * len(new)))

clf.save("stripes.safetensors")
again = framecnn.load("stripes.safetensors")
print("same after loading:", (again.predict_proba(new) == clf.predict_proba(new)).all())
