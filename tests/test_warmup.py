"""``framecnn warmup``: every kernel is compiled before it is needed."""

import os
import subprocess
import sys

from framecnn.kernels.jit import n_compiled


def python(*arguments, **environment):
    """Run Python; return its two outputs."""
    done = subprocess.run(
        [sys.executable, *arguments], env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_warmup_prints_how_many_kernels_are_ready():
    said, _ = python("-m", "framecnn", "warmup")
    assert 12 < int(said.split(" kernels ready; ")[0]) <= n_compiled()


def test_warmup_without_a_folder_names_the_remedy(tmp_path):
    file = tmp_path / "file"
    file.write_text("no folder")
    script = (  # compiling takes a minute
        "from framecnn import cli\nfrom framecnn.networks import warmup\nwarmup.warm_up = lambda: 0\ncli.main()"
    )
    said, complained = python("-c", script, "warmup", XDG_CACHE_HOME=str(file))
    assert said.startswith("0 kernels ready; ")
    assert "set XDG_CACHE_HOME" in complained
