"""The control socket of a running instance: where it may be, and how it is opened and taken away.

Used by a server that is one process, and by the process above several workers. What can be told
over it is handed in.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from dnsguard.admin.control import ControlServer, Verb
from dnsguard.admin.socket_file import SocketFile, runtime_root
from dnsguard.config import Settings
from dnsguard.errors import ControlError, StoreError
from dnsguard.logs import logger
from dnsguard.store.place import directory_name, make_root


class Control:
    """The control socket of one process, open."""

    def __init__(self, server: ControlServer, file: SocketFile) -> None:
        self.path = file.path
        self._server = server
        self._file = file

    async def close(self) -> None:
        """Take the socket away, and drop whoever is connected."""
        self._file.remove()
        await self._server.close()


def control_places(settings: Settings, listening: str) -> list[tuple[str, str]]:
    """Return where the control socket may be: the state directory, the user's runtime directory.

    `listening` is the first address that is bound.
    """
    places = [(runtime_root(os.environ), directory_name(listening))]
    if settings.store.dir is not None:
        places.insert(0, (settings.store.dir, directory_name(str(settings.listen[0]))))
    return places


async def open_control(
    places: Sequence[tuple[str, str]], verbs: Mapping[str, Verb], takeover: bool
) -> Control | None:
    """Open the control socket in the first of these places that can be had, and serve `verbs`.

    Without a control socket names are answered as well as with one, so it is only a warning if
    none can be had.
    """
    why = []
    for root, name in places:
        file = SocketFile(root, name)
        try:
            make_root(file.root)
            sock = file.bind(takeover)
        except OSError as error:
            why.append(f"{root}: {error.strerror or error}")
            continue
        except (ControlError, StoreError) as error:
            why.append(str(error))
            continue
        server = ControlServer(verbs)
        await server.listen(sock)
        return Control(server, file)
    logger.warning("no control socket, so no command can reach this instance: %s", "; ".join(why))
    return None
