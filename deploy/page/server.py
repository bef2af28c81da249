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
        import uvicorn

        from deploy.page.app import make_app
    except ModuleNotFoundError as error:
        raise SettingsError(f"The page needs {error.name}. Run: pip install 'namd[page]'") from error
    logging.getLogger("deploy.page").setLevel(logging.INFO)
    config = uvicorn.Config(
        make_app(settings, Predictor(settings.models_dir, **settings.sampling), warm=True),
        host=settings.host,
        port=settings.port,
        ssl_certfile=settings.certificate,
        ssl_keyfile=settings.key,
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_level="error",
        ws="none",
        limit_concurrency=512,
        timeout_keep_alive=10,
        timeout_graceful_shutdown=3,
        h11_max_incomplete_event_size=1 << 14,
        http="h11",
        loop="asyncio",
    )
    print(
        f"http{'s' if settings.certificate else ''}://{settings.host}:{settings.port}/  Research use only.", flush=True
    )
    uvicorn.Server(config).run()
