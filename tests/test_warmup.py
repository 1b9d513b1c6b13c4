"""``framecnn warmup``: every kernel is compiled before it is needed."""

import os
import subprocess
import sys


def warm(caches):
    """Run the command with a folder of caches; give its two outputs."""
    done = subprocess.run(
        [sys.executable, "-m", "framecnn", "warmup"],
        env=os.environ | {"XDG_CACHE_HOME": str(caches)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_warmup_says_how_many_kernels_are_ready(tmp_path):
    said, _ = warm(tmp_path)
    kept = len(list(tmp_path.rglob("*.nbc")))
    assert kept > 12
    assert said.startswith(f"{kept} kernels ready; ")


def test_warmup_without_a_folder_says_what_to_do(tmp_path):
    file = tmp_path / "file"
    file.write_text("no folder")
    said, complained = warm(file)
    assert said.startswith("0 kernels ready; ")
    assert "set XDG_CACHE_HOME" in complained
