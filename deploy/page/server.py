"""Serves the page until it is stopped."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from data_prep.cutting import Centre
from deploy import case
from deploy.page.settings import Settings, SettingsError
from deploy.page.work import Predict


def predictor(settings: Settings) -> Predict:
    """What generates cases, with the site's weights and settings."""

    def predict(
        series: Path,
        point: Centre,
        record: Mapping[str, Any],
        out: Path,
        *,
        interval_days: float,
        progress: Callable[[float], None],
    ) -> dict[str, Any]:
        progress(0.0)
        options = {"interval_days": interval_days, "models_dir": settings.models_dir, **settings.sampling}
        return case.predict(series, point, record, out, **options)

    return predict


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
        make_app(settings, predictor(settings)),
        host=settings.host,
        port=settings.port,
        ssl_certfile=settings.certificate,
        ssl_keyfile=settings.key,
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_level="warning",
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
