"""Turn the films of requests into `Film`s, within the server's limits."""

from __future__ import annotations

import base64
import binascii

from mmgcs.errors import InputError
from mmgcs.film import Film
from mmgcs.preprocess import read_poster_size
from mmgcs.web.errors import TooLargeError, UnprocessableError
from mmgcs.web.settings import Settings


def make_film(
    settings: Settings,
    *,
    plot: str | None = None,
    title: str | None = None,
    poster: bytes | str | None = None,
    film_id: str = "",
) -> Film:
    """Return the film of a request.

    Args:
        settings: the limits.
        plot: the plot.
        title: the title.
        poster: an image file's bytes, as they are or in base64.
        film_id: the film's id.

    Raises:
        TooLargeError: the poster exceeds a limit.
        UnprocessableError: the plot is too long, or the poster is not base64.
    """
    if plot is not None and len(plot) > settings.max_plot:
        raise UnprocessableError(f"the plot has {len(plot):,} characters, over the limit of {settings.max_plot:,}")
    if isinstance(poster, str):
        text = poster.partition(",")[2] if poster.startswith("data:") else poster
        try:
            poster = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise UnprocessableError("poster: not base64; send an image file's bytes in base64") from None
    if poster is not None:
        _check_poster(poster, settings)
    return Film(id=film_id, title=title, plot=plot, poster=poster)


def _check_poster(poster: bytes, settings: Settings) -> None:
    """Reject a poster that exceeds a limit, before decoding it. The classifier reports what is not an image."""
    if len(poster) > settings.max_poster:
        raise TooLargeError(f"the poster has {len(poster):,} bytes, over the limit of {settings.max_poster:,}")
    try:
        read_poster_size(poster, max_pixels=settings.max_pixels)
    except InputError as error:
        if "over the limit" in str(error):
            raise TooLargeError(str(error)) from None
