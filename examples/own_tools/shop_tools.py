"""Tools of a shop: functions named in resonantgenesis.toml."""

from typing import Literal

from resonantgenesis_server.agent_api import ToolContext, ToolError

ORDERS = {
    "A-17": ("ann", "on its way"),
    "A-18": ("ann", "being packed"),
    "B-5": ("bob", "delivered"),
}


def order_status(order: str, turn: ToolContext) -> dict[str, str]:
    """Tells how far an order is.

    Args:
        order: Its number, e.g. A-17.
    """
    owner, status = ORDERS.get(order, ("", ""))
    if not owner or turn.subject not in {None, owner}:  # an end user sees no orders of others
        raise ToolError(f"there is no order {order}")
    return {"order": order, "status": status}


async def delivery_days(country: Literal["IS", "NO", "SE"], express: bool = False) -> int:
    """How many days a delivery takes.

    Args:
        country: Where to.
        express: Whether it is paid for.
    """
    days = {"IS": 5, "NO": 2, "SE": 2}[country]
    return max(1, days - 2) if express else days
