import ast
import gc
import json
import logging
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

import hansa_client
from hansa.dp.ledger import Budget, Ledger
from hansa.errors import RefusalError, UsageError
from hansa.plan import Plan
from hansa.records import STAGE_MESSAGES, Request, request_to_content
from hansa.rng import seeded_generator
from hansa.schema import Histories
from hansa_client import logs
from hansa_client.app import app
from hansa_client.config import Logs
from hansa_client.deployed import DeployedShop
from hansa_client.home import ShopHome
from hansa_client.runtime.executor import Executor
from hansa_client.runtime.flower import CLIENT_APP, Task
from hansa_client.shop import LocalShop, provide_shops

CUSTOMER, ITEM = "C-4711-Meier", "EAN-40063813"
N_ITEMS = 9


@pytest.fixture
def logging_restored():
    """Whatever a test does to logging and to hooks is undone."""
    root, known = logging.root, dict(logging.root.manager.loggerDict)
    loggers = [root, *(each for each in known.values() if isinstance(each, logging.Logger))]
    before = [(each, list(each.handlers), each.level, each.propagate) for each in loggers]
    hooks = sys.excepthook, sys.unraisablehook, threading.excepthook, logging.getLogRecordFactory()
    yield
    logging.captureWarnings(False)
    sys.excepthook, sys.unraisablehook, threading.excepthook, factory = hooks
    logging.setLogRecordFactory(factory)
    logging.raiseExceptions = True
    for each, handlers, level, propagate in before:
        each.handlers[:], each.propagate = handlers, propagate
        each.setLevel(level)


@pytest.fixture
def home(tmp_path, logging_restored):
    root = tmp_path / "shop"
    root.mkdir()
    return ShopHome(root)


def lines(home):
    return [json.loads(line) for line in (home.logs / logs.FILE).read_text().splitlines()]


def plan(**changed):
    about = {
        "run": "r",
        "method": "dpsgd",
        "settings": {"dimensions": 2, "gradient_rounds": 2},
        "n_items": N_ITEMS,
        "dp": "local",
        "noise_scale": 1.0,
        "delta": 1e-5,
        "shops": 1,
        "customers": 50,
    }
    return Plan(**{**about, **changed})


class Telling(Histories):
    """Data whose every failure names the customer and the item."""

    def __init__(self, error):
        rows = [seeded_generator(k, "row").permutation(N_ITEMS)[:3] for k in range(6)]
        offsets = np.cumsum([0] + [len(row) for row in rows]).astype(np.int64)
        super().__init__(offsets, np.concatenate(rows).astype(np.int32), N_ITEMS)
        object.__setattr__(self, "error", error)

    def __len__(self):
        raise self.error(f"customer {CUSTOMER} bought {ITEM}")

    row = matrix = __len__
    lengths = rows_index = property(__len__)


class TellingLedger(Ledger):
    """A ledger that fails with a customer's name."""

    def reserve(self, run, releases, about=None):
        raise KeyError(CUSTOMER)

    def receipt(self):
        raise RefusalError(f"receipt of {CUSTOMER}, {ITEM}", reason="no receipt")


def shop(error=ValueError, **changed):
    return LocalShop(
        "north", Telling(error), **{"ledger": Ledger(Budget(1e6, 1e-5)), "customers": 6, **changed}
    )


def state_of(the_plan):
    return the_plan.learner.initial_state(seeded_generator(0))


def everything_goes_wrong(home):
    """All that a coordinator is told while a shop's data, ledger, settings and libraries fail."""
    TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1
    the_plan, replies = plan(), []
    asked = request_to_content(Request("r", 0, the_plan.model_dump_json(), {}))
    round_ = request_to_content(Request("r", 1, "", state_of(the_plan)))
    broken = request_to_content(Request("r", 1, "", state_of(the_plan)))
    del broken["state"]
    kinds = ["train.release", *STAGE_MESSAGES.values(), "query.model", "query.plan"]

    def send(resolver):
        provide_shops(resolver)
        try:
            for kind in kinds:
                for content in (asked, round_, broken):
                    try:
                        reply = app(Message(content, 1, kind), Context(1, 1, {}, RecordDict(), {}))
                    except Exception as error:  # Flower would send its text
                        replies.append(repr(error))
                    else:
                        replies.append(str(dict(reply.content)))
        finally:
            provide_shops(None)

    def deliver(card, state):
        raise UsageError(f"vault: {CUSTOMER} has no vector")

    for error in (ValueError, UsageError, KeyError, RefusalError, MemoryError):
        for masked in (plan(), plan(dp="distributed", shops=3)):
            found = shop(error, plans={"r": masked}, receive=deliver, allowed=("local", "distributed"))
            found.ledger.reserve("r", masked.steps, {"plan": masked.digest})
            send(lambda config, found=found: found)
    send(lambda config: shop(ledger=TellingLedger(Budget(1e6, 1e-5)), plans={"r": the_plan}))
    (home.root / "interactions.csv").write_text(
        f'user_id,item_id,timestamp\n{CUSTOMER},{ITEM},not a time\n"{CUSTOMER},{ITEM}\n'
    )
    send(DeployedShop(home))  # no settings
    home.settings.write_text(f'[data.columns]\ncustomer = "{CUSTOMER}"\n')
    send(DeployedShop(home))
    for error in (ValueError, UsageError, RefusalError):

        def fail(config, error=error):
            raise error(f"{CUSTOMER} and {ITEM}")

        task = Task(
            CLIENT_APP,
            "0" * 64,
            1,
            {"plan": the_plan.model_dump_json()},
            Message(asked, 1, "query.plan"),
            True,
        )
        home.settings.write_text(f'[approvals]\nbundles = ["{"0" * 64}"]\ndp = ["local"]\n')
        told = Executor(home, fail).answer(task)
        replies.append(str(dict(told)) if isinstance(told, RecordDict) else told.reason)
    libraries_talk()
    return replies


class Grumbling:
    def __del__(self):
        raise ValueError(CUSTOMER)


def libraries_talk():
    for name in ("sqlalchemy.engine", "urllib3.connectionpool", "torch", "flwr", "httpx", f"x.{CUSTOMER}é"):
        try:
            raise ValueError(CUSTOMER)
        except ValueError as error:
            logging.getLogger(name).error("row %s of %s", CUSTOMER, ITEM, exc_info=error, stack_info=True)
            logging.getLogger(name).error(f"row {CUSTOMER}")
    own = logging.getLogger("hansa_client.rounds.training")
    own.error("customer %s", ValueError(CUSTOMER))
    own.error(ValueError(CUSTOMER))
    own.error("items %s and %s", [ITEM], {CUSTOMER: 1})
    own.error("a sentence: %s", f"{CUSTOMER} = {ITEM}")
    own.error("too %d many %s", CUSTOMER)
    own.error("shop", extra={"customer": CUSTOMER, "shop": [CUSTOMER]})
    own.exception("failed", exc_info=ValueError(CUSTOMER))
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn(f"{CUSTOMER} looks odd", stacklevel=1)

    def end():
        raise ValueError(CUSTOMER)

    thread = threading.Thread(target=end)
    thread.start()
    thread.join()
    Grumbling()
    gc.collect()
    sys.excepthook(ValueError, ValueError(CUSTOMER), None)


@pytest.mark.parametrize("foreground", [False, True])
def test_no_customer_and_no_item_is_in_a_log_a_line_or_a_reply(home, capfd, foreground):
    logs.set_up(home, foreground)
    late = logging.StreamHandler(sys.stderr)  # as Flower adds its own when it is imported
    logging.getLogger("flwr").addHandler(late)
    logging.root.addHandler(late)
    replies = everything_goes_wrong(home)
    said = capfd.readouterr()
    written = "".join(path.read_text() for path in home.logs.iterdir())
    assert len(replies) > 100
    assert len(lines(home)) > 100
    for text in (said.out, said.err, written, *replies):
        assert CUSTOMER not in text.replace(f"x.{CUSTOMER}", "")
        assert ITEM not in text
    assert "north" in written
    assert "north" in said.err


def test_without_the_filter_they_would_be_there(home, capfd):
    sys.unraisablehook, threading.excepthook = sys.__unraisablehook__, threading.__excepthook__
    logging.root.handlers[:] = [logging.StreamHandler(sys.stderr)]
    logging.root.setLevel(logging.DEBUG)
    with warnings.catch_warnings(record=True):  # it is meant to be there, and no fault of this test's
        everything_goes_wrong(home)
    said = capfd.readouterr().err
    assert said.count(CUSTOMER) > 20
    assert said.count(ITEM) > 5


def test_a_line_says_what_the_operator_needs(home):
    logs.set_up(home)
    own = logging.getLogger("hansa_client.runtime.executor")
    try:
        raise KeyError(CUSTOMER)
    except KeyError as error:
        own.error(
            "run %s, round %d: %s", "r-1", 3, error, exc_info=error, extra={"shop": "north", "colour": 1}
        )
    own.info(
        "shop %s: %s",
        "north",
        RefusalError("9 of 10 spent", reason="the plan does not fit the shop's budget"),
    )
    logging.getLogger("sqlalchemy.pool").warning("SELECT %s", CUSTOMER)
    logging.getLogger("sqlalchemy.pool").info("SELECT 1")
    first, second, third = lines(home)
    assert first["message"] == "run r-1, round 3: KeyError"
    assert (first["level"], first["error"], first["shop"]) == ("ERROR", "KeyError", "north")
    assert set(first) == {"time", "level", "logger", "message", "process", "error", "shop"}
    assert second["message"] == "shop north: the plan does not fit the shop's budget"
    assert third["message"] == logs.WITHHELD
    assert third["logger"] == "sqlalchemy.pool"


def test_what_hansa_hears_of_its_connection_is_still_heard(home):
    heard = []

    class Listener(logging.Handler):
        def emit(self, record):
            heard.append(record.args)

    transport = logging.getLogger("httpx")
    transport.addHandler(Listener())
    transport.setLevel(logging.INFO)
    logs.set_up(home)
    transport.info('HTTP Request: %s %s "%s %d %s"', "POST", "https://x/y", "HTTP/1.1", 200, "OK")
    assert heard == [("POST", "https://x/y", "HTTP/1.1", 200, "OK")]


def test_files_are_moved_aside_when_full_and_the_oldest_goes(home):
    home.settings.write_text("[logs]\nmegabytes = 0.001\nfiles = 3\n")
    logs.set_up(home)
    for number in range(50):
        logging.getLogger("hansa_client").info("number %d", number)
    names = sorted(path.name for path in home.logs.iterdir() if not path.name.startswith("."))
    assert names == ["hansa.log", "hansa.log.1", "hansa.log.2"]
    kept = [
        json.loads(line) for name in reversed(names) for line in (home.logs / name).read_text().splitlines()
    ]
    assert [line["message"] for line in kept] == [f"number {k}" for k in range(50 - len(kept), 50)]
    for name in names:
        assert (home.logs / name).stat().st_size <= 1000
        assert (home.logs / name).stat().st_mode & 0o077 == 0


def test_processes_write_into_one_file_and_lose_no_line(home):
    home.settings.write_text("[logs]\nmegabytes = 0.01\nfiles = 100\n")
    script = (
        "import logging, sys; from pathlib import Path; from hansa_client.home import ShopHome\n"
        "from hansa_client.logs import set_up; set_up(ShopHome(Path(sys.argv[1])))\n"
        "for k in range(300): logging.getLogger('hansa_client').info('line %d', k)\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", script, str(home.root)]) for _ in range(2)]
    assert [process.wait(60) for process in running] == [0, 0]
    files = [path for path in home.logs.iterdir() if not path.name.startswith(".")]
    written = [json.loads(line) for path in files for line in path.read_text().splitlines()]
    assert len({(line["process"], line["message"]) for line in written}) == 600


def test_an_uncaught_error_ends_a_process_without_its_text(home):
    script = (
        "import sys; from pathlib import Path; from hansa_client.home import ShopHome\n"
        "from hansa_client.logs import set_up; set_up(ShopHome(Path(sys.argv[1])))\n"
        f"raise ValueError('{CUSTOMER}')\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(home.root)], capture_output=True, text=True)
    assert done.returncode == 1
    assert "the process has ended: ValueError" in done.stderr
    assert CUSTOMER not in done.stderr + done.stdout
    assert lines(home)[0]["message"] == "the process has ended: ValueError"


def test_a_full_disk_costs_lines_and_nothing_else(home, capfd):
    handler = logs.LogFile(home.root / "a file" / "log", Logs())
    (home.root / "a file").write_text("")
    logs.set_up(home)
    logging.root.addHandler(handler)
    logging.getLogger("hansa_client").info("customer %s", CUSTOMER)
    assert CUSTOMER not in capfd.readouterr().err


def test_messages_of_hansas_own_lines_are_constants():
    folder = Path(hansa_client.__file__).parent
    calls = [
        (path.name, call)
        for path in [*folder.rglob("*.py"), *(folder.parents[1] / "shared").rglob("*.py")]
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr in ("debug", "info", "warning", "error", "exception", "critical")
        and isinstance(call.func.value, ast.Name | ast.Call)
        and ast.unparse(call.func.value).split("(")[0] in ("log", "logging.getLogger")
    ]
    assert len(calls) > 10
    for name, call in calls:
        assert isinstance(call.args[0], ast.Constant), (name, ast.unparse(call))
