"""What a process needs of its machine, as Linux counts it."""
from __future__ import annotations

from pathlib import Path


def usage(pid: int | str = 'self') -> dict[str, int]:
    """
    Return what a process holds.

    Parameters
    ----------
    pid : int or 'self'
        Which process.

    Returns
    -------
    dict
        ``memory_mb``: resident memory; ``threads``: how many.

    """
    text = Path('/proc', str(pid), 'status').read_text()
    fields = dict(line.split(':', 1) for line in text.splitlines())
    return {'memory_mb': round(int(fields['VmRSS'].split()[0]) / 1024),
            'threads': int(fields['Threads'])}
