"""Serves the page until it is stopped."""

from __future__ import annotations

import logging

from deploy.case import Predictor
from deploy.page.settings import Settings, SettingsError


def serve(settings: Settings) -> None:
    """Listens until SIGINT or SIGTERM; then what was loaded and made is deleted.

    Raises:
        SettingsError: the packages of the page are not installed.
    """
    try:
        from deploy.page.app import make_app
        from deploy.serving import make_server
    except ModuleNotFoundError as error:
        raise SettingsError(f"The page needs {error.name}. In the project: pip install -e '.[page]'") from error
    logging.getLogger("deploy.page").setLevel(logging.INFO)
    server = make_server(
        make_app(settings, Predictor(settings.models_dir, **settings.sampling), warm=True),
        settings.host,
        settings.port,
        ssl_certfile=settings.certificate,
        ssl_keyfile=settings.key,
        limit_concurrency=512,
    )
    print(
        f"http{'s' if settings.certificate else ''}://{settings.host}:{settings.port}/  Research use only.", flush=True
    )
    server.run()
