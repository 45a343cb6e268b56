"""Critical path and jobs side by side, worked out by hand."""

from frugal.planning.schedule import Task, critical_path, device_seconds, side_by_side

A, B, C, D = (("a", "training"), ("b", "training"), ("a", "evaluation"), ("d", "training"))
#: a takes 10 and is evaluated in 2, b takes 6, d takes 5.
TASKS = {A: Task(10, 1, ()), B: Task(6, 1, ()), C: Task(2, 1, (A,)), D: Task(5, 1, ())}


def test_the_longest_chain():
    assert critical_path(TASKS) == (12, [A, C])
    assert critical_path({}) == (0, [])


def test_one_device_does_all_after_one_another():
    assert side_by_side(TASKS, 1) == 23
    assert device_seconds(list(TASKS.values())) == 23


def test_two_devices():
    # a and c on one, b and d on the other: 12 and 11
    assert side_by_side(TASKS, 2) == 12


def test_three_devices_wait_for_the_critical_path():
    assert side_by_side(TASKS, 3) == 12


def test_a_job_on_two_devices_waits_for_both():
    # d needs two: after b (6) and a (10) the second is free at 10, c runs beside nothing: 12; d from 12 or at 10.
    tasks = TASKS | {D: Task(5, 2, ())}
    assert side_by_side(tasks, 2) == 17
    assert side_by_side(tasks, 1) == 23  # one device has to do
    assert device_seconds(list(tasks.values())) == 28


def test_what_could_not_be_planned_is_not_waited_for():
    assert side_by_side({C: TASKS[C]}, 1) == 2
    assert critical_path({C: TASKS[C]}) == (2, [C])
