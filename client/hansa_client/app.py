"""The Flower ClientApp of a shop: unpack, call, pack."""

from __future__ import annotations

from collections.abc import Callable

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from hansa.errors import UsageError
from hansa.records import Answer, Request, answer_to_content, content_to_request
from hansa_client.shop import LocalShop, find_shop
from hansa_client.shop_files import load_shop, simulated_folder
from hansa_client.training import consider, contribute

app = ClientApp()


def _respond(message: Message, context: Context, act: Callable[[LocalShop, Request], Answer]) -> Message:
    folder = simulated_folder(context.node_config, context.run_config)
    shop = load_shop(folder) if folder is not None else find_shop(context.node_config)
    try:
        answer = act(shop, content_to_request(message.content))
    except UsageError as error:
        answer = Answer(False, str(error))
    return Message(answer_to_content(answer), reply_to=message)


@app.query("plan")
def plan(message: Message, context: Context) -> Message:
    """Whether this shop takes part in a run."""
    return _respond(message, context, consider)


@app.train("release")
def release(message: Message, context: Context) -> Message:
    """This shop's private sum of a round."""
    return _respond(message, context, contribute)
