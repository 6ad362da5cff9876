"""Select one part of the tests, and fail on a skip that is not allowed: hooks of pytest for conftest.py."""

import pytest

# The reason of every skip begins with one of these.
ALLOWED_SKIPS = ("needs a GPU", "needs a browser", "needs lmms-eval")


def pytest_addoption(parser):
    parser.addoption("--part", metavar="K/N", help="run the Kth of N parts of the tests, with K from 1")


@pytest.hookimpl(trylast=True)  # Marks have deselected tests before.
def pytest_collection_modifyitems(config, items):
    if config.getoption("--part") is None:
        return
    part, parts = map(int, config.getoption("--part").split("/"))
    if not 1 <= part <= parts:
        raise pytest.UsageError(
            f"--part {part}/{parts} is none of {parts} parts. Parts are 1/{parts} to {parts}/{parts}."
        )
    # Round robin: the slow tests of one file stand together and go to different parts.
    groups = list(dict.fromkeys(map(group_of, items)))
    mine = set(groups[part - 1 :: parts])
    config.hook.pytest_deselected(items=[item for item in items if group_of(item) not in mine])
    items[:] = [item for item in items if group_of(item) in mine]


def group_of(item):
    """Return the key of the tests that stay together, as they share a value of a module's fixture."""
    callspec = getattr(item, "callspec", None)
    scopes = {} if callspec is None else callspec._arg2scope
    shared = [name for name, scope in scopes.items() if scope.value != "function"]
    return (item.path, *(callspec.indices[name] for name in shared)) if shared else item.nodeid


@pytest.hookimpl(wrapper=True, tryfirst=True)  # The outermost wrapper sees the skips of marks too.
def pytest_runtest_makereport():
    return without_other_skips((yield))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report():
    return without_other_skips((yield))


def without_other_skips(report):
    """Turn a skip into a failure if its reason is not allowed."""
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2].removeprefix("Skipped: ")
        if not reason.startswith(ALLOWED_SKIPS):
            report.outcome = "failed"
            report.longrepr = (
                f"{report.nodeid} is skipped: {reason!r}. A reason may begin with one of {ALLOWED_SKIPS}. "
                "Add what the test needs to the `dev` extra and to constraints.txt."
            )
    return report
