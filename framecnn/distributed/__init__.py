"""Fits, scans and predictions on the workers of a Dask cluster, with the same bits as in this process.

Frames, features and models are those of a single process: what differs is where tasks run. Workers read frames, and
write and read features, in folders that all of them see at the same paths: those of the frames, and the cache folder
of :func:`framecnn.working_memory`, or a temporary folder if workers are on this machine.

A Dask scheduler runs the code of whoever reaches it. :func:`local_cluster` listens on the loopback address only;
between machines use TLS, which Dask's own configuration sets (``distributed.comm.tls``).
"""

from framecnn.distributed.clients import connected, local_cluster, run_on

__all__ = ["connected", "local_cluster", "run_on"]
