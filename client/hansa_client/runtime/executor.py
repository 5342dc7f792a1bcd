"""The shop's own executor: one process that answers every message of a node, and runs no code but Hansa's.

Order of things: an unapproved bundle, configuration or message is refused; only then does the installed
client app see it; what it answers passes the outgoing check; the reply is packed anew and leaves on a beat
of the shop's own clock. Whatever is raised in between leaves as one fixed line.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from flwr.app import Context, Error, RecordDict
from flwr.common.constant import ErrorCode

from hansa.errors import HansaError, RefusalError, UsageError
from hansa.plan import Plan, digest_of
from hansa.records import RELEASE_MESSAGE, Answer, Request, answer_to_content, exact_answer, exact_request
from hansa_client.app import app
from hansa_client.config import Network, read_settings
from hansa_client.home import ShopHome
from hansa_client.invited import read_invitation
from hansa_client.replies import LookedUp
from hansa_client.rounds.training import enter_refusal
from hansa_client.runtime.approvals import ForbiddenError, Policy
from hansa_client.runtime.egress import BlockedError, check_answer
from hansa_client.runtime.flower import CLIENT_APP, NodeRuntime, Refused, Task, array_bytes
from hansa_client.runtime.notes import ACTIVITY, PAUSE, write_note
from hansa_client.shop import LocalShop, Resolver, provide_shops

log = logging.getLogger(__name__)

FAILED = "the shop could not answer"
PAUSED = "the shop has paused"
_KEPT_RUNS = 4


@dataclass
class Executor:
    """Answers what the node hands over, one message after the other.

    Attributes:
        home: The shop's folder.
        shops: Finds the shop.
        clock: Seconds; for pacing.
        sleep: Waits.
    """

    home: ShopHome
    shops: Resolver
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _states: dict[tuple[int, str], RecordDict] = field(default_factory=dict)

    def serve(self, runtime: NodeRuntime) -> None:
        """Answer until the process is ended; never returns."""
        log.info("the executor is ready")
        while True:
            try:
                found = self.once(runtime)
            except Refused as error:  # the node is gone or starts again
                log.warning("the node does not answer: %s", type(error).__name__)
                found = False
            if not found:
                self.sleep(self._network().poll)

    def once(self, runtime: NodeRuntime) -> bool:
        """Answer one message, if there is one; what is left unanswered expires.

        Raises:
            httpx.HTTPError: The node does not answer; or another of ``hansa_client.runtime.flower.Refused``.
        """
        try:
            return self._once(runtime)
        except (KeyboardInterrupt, SystemExit, *Refused):
            raise
        except BaseException as error:  # no message may end the process; a panic in Rust is no Exception
            log.error("a message is left unanswered: %s", type(error).__name__)
            return False

    def _once(self, runtime: NodeRuntime) -> bool:
        with runtime.next() as claim:
            if claim is None:
                return False
            arrived = self.clock()
            task = claim.pull(self._largest)
            self._note(task, None)
            answer = self.answer(task)
            self._enter(task, answer)
            self._note(task, answer)
            self._wait(arrived)
            packed = answer if isinstance(answer, Error) else answer_to_content(answer)
            claim.reply(task, packed)  # packed and stamped only now
        return True

    def answer(self, task: Task) -> Answer | Error:
        """What the coordinator gets for a task."""
        kind, run = task.message.metadata.message_type, task.run
        try:
            paused = (self.home.state / PAUSE).exists()
            return Answer(False, PAUSED) if paused else self._answer(task)
        except ForbiddenError as refusal:
            log.warning("run %s, %s: %s", run, kind, refusal.reason)
            return Error(ErrorCode.INVALID_FAB, refusal.reason)
        except BlockedError as refusal:
            log.error("run %s, %s: %s", run, kind, refusal.reason)
            return Error(ErrorCode.MOD_FAILED_PRECONDITION, refusal.reason)
        except RefusalError as refusal:
            log.info("run %s, %s: %s", run, kind, refusal)
            return Answer(False, refusal.reason)
        except HansaError as error:  # its text names the shop's own files
            log.error("run %s, %s: %s", run, kind, error)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # polars' panics too; its text may speak of customers
            log.error("run %s, %s: %s", run, kind, type(error).__name__)
            log.debug("traceback", exc_info=error)
        return Answer(False, FAILED)

    def _enter(self, task: Task, answer: Answer | Error) -> None:
        """Enter a refusal in the ledger; one that the client app has entered already is not entered again."""
        if isinstance(answer, Answer) and (answer.accepted or answer.reason in (PAUSED, FAILED)):
            return
        with suppress(HansaError):
            enter_refusal(self.shops({}), _run_name(task), answer.reason or "")

    def _answer(self, task: Task) -> Answer:
        if task.kind != CLIENT_APP:
            raise ForbiddenError("unknown type of task")
        settings = read_settings(self.home.settings)
        kind, policy = task.message.metadata.message_type, Policy(self.home, settings)
        policy.admit_bundle(task.bundle)
        if not task.whole:
            raise ForbiddenError("a malformed message")
        if array_bytes(task.message.content) > self._largest(task.bundle, task.run_config):
            raise ForbiddenError("the message is larger than its plan needs")
        try:
            request = exact_request(task.message.content)
        except UsageError:
            raise ForbiddenError("the message holds other records than Hansa's") from None
        request = replace(request, message=task.message.metadata.message_id)
        plan = policy.admit(kind, task.run_config, request, read_invitation(self.home).shop)
        shop = replace(self.shops({}), most=policy.most(plan))
        policy.admit_by_books(kind, plan, shop)
        return self._run(task, request, plan, shop)

    def _largest(self, bundle: str, config: Mapping[str, Any]) -> int:
        policy = Policy(self.home, read_settings(self.home.settings))
        return policy.largest(bundle, config, read_invitation(self.home).items)

    def _run(self, task: Task, request: Request, plan: Plan | None, shop: LocalShop) -> Answer:
        kind, keep = _kind(task), shop.replies.keep
        about, sent = None, None
        if kind == RELEASE_MESSAGE and plan is not None:
            about = plan.run, request.round, plan.digest, digest_of(request.state)
            sent = shop.replies.find(*about)
        shop, since = replace(shop, replies=LookedUp(sent)), len(shop.ledger.entries())
        answer = self._ask_app(task, "" if plan is None else plan.digest, shop)
        check_answer(kind, answer, request, plan, shop, since, sent)
        if about is not None and answer.release is not None and sent is None:
            keep(*about, answer.release)  # only what may leave, and before it does
        log.info("run %s, round %s, %s: %s", request.run, request.round, kind, _said(answer))
        return answer

    def _ask_app(self, task: Task, plan: str, shop: LocalShop) -> Answer:
        kept = task.run, plan  # what a masked round keeps is found under its own plan alone
        state = self._states.pop(kept, RecordDict())
        context = Context(task.run, task.message.metadata.dst_node_id, {}, state, dict(task.run_config))
        provide_shops(lambda _: shop)
        try:
            reply = app(task.message, context)
        finally:
            provide_shops(None)
        self._states[kept] = context.state
        for old in list(self._states)[:-_KEPT_RUNS]:
            del self._states[old]
        try:
            return exact_answer(reply.content)
        except UsageError:
            raise BlockedError("the answer holds more than an answer") from None

    def _wait(self, arrived: float) -> None:
        """Until a whole multiple of the pace after the arrival."""
        pace = self._network().pace
        if pace > 0:
            taken = self.clock() - arrived
            self.sleep(max(0.0, math.ceil(taken / pace - 1e-9) * pace - taken))

    def _network(self) -> Network:
        try:
            return read_settings(self.home.settings).network
        except UsageError:
            return Network()

    def _note(self, task: Task, answer: Answer | Error | None) -> None:
        """Write down what is going on, for ``hansa client status``: of a message that is not checked yet."""
        round_ = _config(task).get("round")
        with suppress(OSError):  # a full disk: the answer is worth more
            write_note(
                self.home.state / ACTIVITY,
                {
                    "run": _run_name(task),
                    "round": round_ if isinstance(round_, int) else None,
                    "message": task.message.metadata.message_type[:40],
                    "busy": answer is None,
                    "answer": None if answer is None else _said(answer),
                    "time": datetime.now(UTC).isoformat(timespec="seconds"),
                },
            )


def _config(task: Task) -> dict[str, Any]:
    return dict(task.message.content.config_records.get("config", {})) if task.whole else {}


def _run_name(task: Task) -> str:
    """As the message has it, which may say anything."""
    run = _config(task).get("run")
    return "".join(sign for sign in run[:128] if sign.isprintable()) if isinstance(run, str) else ""


def _kind(task: Task) -> str:
    return task.message.metadata.message_type


def _said(answer: Answer | Error) -> str | None:
    return "answered" if isinstance(answer, Answer) and answer.accepted else answer.reason
