"""The Flower ClientApp of a shop: unpack, call, pack."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from flwr.app import ConfigRecord, Context, Message
from flwr.clientapp import ClientApp

from hansa.errors import HansaError, UsageError
from hansa.records import STAGE_MESSAGES, Answer, Request, answer_to_content, content_to_request
from hansa_client.rounds.masking import answer_stage
from hansa_client.rounds.training import consider, contribute, receive
from hansa_client.shop import LocalShop, find_shop
from hansa_client.shop_files import load_shop, simulated_folder

app = ClientApp()
log = logging.getLogger(__name__)

_KEPT = "masking"


def _respond(message: Message, context: Context, act: Callable[[LocalShop, Request], Answer]) -> Message:
    try:
        folder = simulated_folder(context.node_config, context.run_config)
        shop = load_shop(folder) if folder is not None else find_shop(context.node_config)
    except HansaError as error:  # its text names the shop's own files
        log.error("the shop cannot be opened: %s", error)
        return Message(answer_to_content(Answer(False, "the shop could not answer")), reply_to=message)
    try:
        request = content_to_request(message.content)
    except UsageError as error:  # of the coordinator's own message
        return Message(answer_to_content(Answer(False, str(error))), reply_to=message)
    try:
        answer = act(shop, replace(request, message=message.metadata.message_id))
    except Exception as error:  # its text may speak of customers, and Flower would send it
        log.error("shop %s could not answer: %s", shop.name, type(error).__name__)
        log.debug("traceback", exc_info=error)
        answer = Answer(False, "the shop could not answer")
    return Message(answer_to_content(answer), reply_to=message)


@app.query("plan")
def plan(message: Message, context: Context) -> Message:
    """Whether this shop takes part in a run."""
    return _respond(message, context, consider)


def _masked(message: Message, context: Context, stage: str) -> Message:
    """What is kept of a round lies in the context and is gone with a restart, never the vector."""
    kept = context.state.config_records.get(_KEPT)
    if kept is not None:
        del context.state[_KEPT]  # whatever happens, no stage finds it a second time

    def act(shop: LocalShop, request: Request) -> Answer:
        before = None if kept is None else kept["round"]
        answer, after = answer_stage(shop, stage, request, before if isinstance(before, bytes) else None)
        if after is not None:
            context.state[_KEPT] = ConfigRecord({"round": after})
        return answer

    return _respond(message, context, act)


def _serving(stage: str) -> Callable[[Message, Context], Message]:
    return lambda message, context: _masked(message, context, stage)


for _stage, _kind in STAGE_MESSAGES.items():  # query.advertise is served by app.query("advertise"), and so on
    _category, _action = _kind.split(".")
    getattr(app, _category)(_action)(_serving(_stage))


@app.train("release")
def release(message: Message, context: Context) -> Message:
    """This shop's private sum of a round."""
    return _respond(message, context, contribute)


@app.query("model")
def model(message: Message, context: Context) -> Message:
    """Keep the model that a run has come to."""
    return _respond(message, context, receive)
