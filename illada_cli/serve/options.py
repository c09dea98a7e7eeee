"""What may be asked of `illada serve`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

import typer

from illada_cli import options as shared
from illada_core.errors import UsageError
from illada_core.inference.settings import Settings

SERVER = "Server"
LIMITS = "Limits"
KEY_VARIABLE = "ILLADA_API_KEY"


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """Which model is served, to whom, within which limits, and how texts are written by default."""

    ckpt: shared.Ckpt
    host: Annotated[
        str,
        typer.Option("--host", help="The address to listen at.", rich_help_panel=SERVER),
    ] = "127.0.0.1"
    port: Annotated[
        int,
        typer.Option(
            "--port", help="0 takes any that is free.", min=0, max=65535, rich_help_panel=SERVER
        ),
    ] = 8000
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            help="What clients call the model [default: the name of its folder].",
            rich_help_panel=SERVER,
        ),
    ] = None
    api_key_file: Annotated[
        Path | None,
        typer.Option(
            "--api-key-file",
            metavar="FILE",
            help=f"Holds the key that clients must bring [default: ${KEY_VARIABLE}].",
            rich_help_panel=SERVER,
        ),
    ] = None
    no_api_key: Annotated[
        bool,
        typer.Option(
            "--no-api-key",
            help="Serve other machines without a key.",
            rich_help_panel=SERVER,
        ),
    ] = False
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-host",
            metavar="NAME",
            help="A further name in Host headers, such as a proxy's; repeatable.",
            rich_help_panel=SERVER,
        ),
    ] = None
    cors: Annotated[
        list[str] | None,
        typer.Option(
            "--cors",
            metavar="ORIGIN",
            help="A site whose pages may ask, such as https://chat.example; repeatable.",
            rich_help_panel=SERVER,
        ),
    ] = None
    max_waiting: Annotated[
        int,
        typer.Option("--max-waiting", help="Most waiting requests.", min=1, rich_help_panel=LIMITS),
    ] = 64
    timeout: Annotated[
        float,
        typer.Option(
            "--timeout",
            help="Seconds until a request ends with what has settled.",
            min=0,
            rich_help_panel=LIMITS,
        ),
    ] = 600.0
    grace: Annotated[
        float,
        typer.Option(
            "--grace",
            help="Seconds that requests have to end in when a signal comes.",
            min=0,
            rich_help_panel=LIMITS,
        ),
    ] = 10.0
    settings: Settings
    bos: shared.Bos = None
    truncate: shared.Truncate = None
    device: shared.Device = "auto"
    dtype: shared.Dtype = "auto"
    quantize: shared.Quantize = None
    graphs: shared.Graphs = False
    mask_id: shared.MaskId = None
    attention: shared.Attention = None
    shift: shared.Shift = None
    batch_tokens: shared.BatchTokens = None
    cache_tokens: shared.CacheTokens = None
    quiet: shared.Quiet = False
    verbose: shared.Verbose = False

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the address."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def check(asked: ServeOptions) -> str | None:
    """Return the key that clients must bring. Raises UsageError where it lacks or cannot be."""
    key = os.environ.get(KEY_VARIABLE)
    if asked.api_key_file is not None:
        key = asked.api_key_file.read_text(encoding="utf-8", errors="replace").strip()
    if key is not None and not (key.isascii() and key.isprintable() and key.strip() == key != ""):
        source = asked.api_key_file or f"${KEY_VARIABLE}"
        raise UsageError(f"{source} holds no key: one word of plain characters")
    if key and asked.no_api_key:
        raise UsageError("--no-api-key, and there is a key", f"unset {KEY_VARIABLE} to serve all")
    if not key and not asked.is_local and not asked.no_api_key:
        raise UsageError(
            f"other machines can reach {asked.host}, and no key keeps them out",
            f"set {KEY_VARIABLE} or --api-key-file, or say --no-api-key",
        )
    return key
