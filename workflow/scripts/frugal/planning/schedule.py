"""When jobs run: one after the other, as soon as they can, and on a number of devices side by side."""

import heapq
from collections.abc import Mapping, Sequence
from functools import cache
from typing import NamedTuple

Key = tuple[str, str]


class Task(NamedTuple):
    """A job as the schedule sees it; in `after` are keys of other tasks."""

    seconds: float
    devices: int
    after: tuple[Key, ...]


def critical_path(tasks: Mapping[Key, Task]) -> tuple[float, list[Key]]:
    """The longest chain of jobs that wait for each other: its seconds, and its jobs in order.

    A job that is waited for and not among the tasks takes no time.
    """

    @cache
    def chain(key: Key) -> tuple[float, tuple[Key, ...]]:
        before = max((chain(one) for one in tasks[key].after if one in tasks), default=(0.0, ()))
        return before[0] + tasks[key].seconds, (*before[1], key)

    total, keys = max((chain(key) for key in tasks), default=(0.0, ()))
    return total, list(keys)


def side_by_side(tasks: Mapping[Key, Task], devices: int) -> float:
    """Seconds until all jobs are done on a number of devices: the job with the longest way to the end goes first.

    A job that asks for more devices than there are is given all of them, in the time that it takes on its own.
    """
    way = _ways_to_the_end(tasks)
    waiting, done, running = set(tasks), set(), []
    now, free = 0.0, devices
    while waiting or running:
        ready = [key for key in waiting if all(one in done or one not in tasks for one in tasks[key].after)]
        for key in sorted(ready, key=lambda one: (-way[one], one)):
            needed = min(tasks[key].devices, devices)
            if needed <= free:
                free -= needed
                waiting.remove(key)
                heapq.heappush(running, (now + tasks[key].seconds, key, needed))
        now, key, needed = heapq.heappop(running)
        free += needed
        done.add(key)
    return now


def _ways_to_the_end(tasks: Mapping[Key, Task]) -> dict[Key, float]:
    """Seconds from the start of each job to the end of the longest chain that begins with it."""
    followers: dict[Key, list[Key]] = {key: [] for key in tasks}
    for key, task in tasks.items():
        for one in task.after:
            if one in tasks:
                followers[one].append(key)

    @cache
    def way(key: Key) -> float:
        return tasks[key].seconds + max(map(way, followers[key]), default=0.0)

    return {key: way(key) for key in tasks}


def device_seconds(tasks: Sequence[Task]) -> float:
    """Seconds of all devices together."""
    return sum(task.seconds * task.devices for task in tasks)
