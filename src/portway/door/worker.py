"""One worker process of `portway gateway`: a gateway worker whose door also shows the catalogue.

python -m portway.door.worker INDEX  < settings.json
"""

import logging
import sys

from portway.door.answers import Catalogue, FirstOf
from portway.door.rights import Rights
from portway.gateway.assembly import Followed
from portway.gateway.health import Health
from portway.gateway.hosts import Hosts
from portway.gateway.localanswers import LocalAnswers
from portway.gateway.server import Listeners
from portway.gateway.settings import GatewaySettings
from portway.gateway.upstream.api import impersonating
from portway.gateway.worker import Answers, main


def answers(settings: GatewaySettings) -> Answers:
    """Health first; the catalogue where services have host names."""

    def made(followed: Followed, health: Health) -> LocalAnswers:
        if not settings.host_bases:
            return health
        cluster = followed.cluster
        rights = Rights(followed.client, impersonating)
        return FirstOf((health, Catalogue(cluster.view, rights, Hosts(settings.host_bases), cluster.name, "https")))

    return made


def tell(listeners: Listeners) -> None:
    """Where it serves, for whoever started it."""
    print(f"portway: serving on {', '.join(listeners.names())}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="portway: %(message)s", stream=sys.stderr)
    if sys.argv[1:] == ["0"]:  # the others look for themselves, and have the same to tell
        logging.getLogger("portway.gateway.paths").setLevel(logging.INFO)
    main(answers, tell)
