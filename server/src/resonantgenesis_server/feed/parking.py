"""What every view of a log has in common: it follows a stream, and can do so without a task."""

from __future__ import annotations

from .subscription import Follower
from .topic import Group, Outlet


class Parking:
    """A view's follower, and the outlet that takes what comes when the view has nothing else to
    do. Views have `batches` besides, which makes the follower and ends when the view is parked, to
    be called again when the outlet is woken."""

    def __init__(self) -> None:
        self._follower: Follower | None = None
        self._outlet: Outlet | None = None
        self._stopped = False
        #: `batches` has ended without the view being over: it goes on when the outlet is woken.
        self.parked = False
        #: With whom it is written to while it is parked.
        self.group: Group | None = None

    def pour_into(self, outlet: Outlet) -> None:
        """Write what comes to the outlet; once it has nothing else to tell, `batches` ends,
        `parked`, and is to be called again when the outlet is woken."""
        self._outlet = outlet

    def park(self) -> bool:
        """Write what comes to the outlet from here on. False: `batches` has something to do."""
        if self._outlet is not None and self._follower is not None:
            self.group = self._follower.park(self._outlet)
            self.parked = self.group is not None
        return self.parked

    def unpark(self) -> None:
        """The outlet is full."""
        if self._follower is not None:
            self._follower.unpark()

    def close(self) -> None:
        """The reader has left a view that is parked."""
        self._stopped = True
        if self._follower is not None:
            self._follower.__exit__()
            self._follower = None

    def stop(self) -> None:
        """End `batches` now; the reader has left or must."""
        self._stopped = True
        if self._follower is not None:
            self._follower.gone()
