"""A small synthetic study on disk, with titles and answers as hostile as data can be."""

HOSTILE = (
    "</script><b>x</b> $%&_#{}~^\\ a|b `c` [d](http://e.f) \"q\" 'r' -- 1. ```\n\n"
    "## Not a heading \u5f71 \u00e9 \u202e\x07"
)
#: The machine of all results.
HARDWARE = {
    "processor": "Test CPU @ 2 GHz",
    "instructions": "AVX2",
    "cores": 2,
    "memory_mb": 16384,
    "gpus": [],
}
