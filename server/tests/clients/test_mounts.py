"""The setting `clients` and the protocols that it names."""

from __future__ import annotations

from typing import get_args

import pytest
from pydantic import ValidationError
from resonantgenesis_server.clients.mounts import MOUNTS
from resonantgenesis_server.config.settings import ClientName, Settings


def test_each_name_of_the_setting_has_its_routes() -> None:
    assert tuple(MOUNTS) == get_args(ClientName) == Settings().clients


def test_a_protocol_that_is_not_there_is_refused() -> None:
    assert Settings.model_validate({"clients": "ai-sdk, ag-ui"}).clients == ("ai-sdk", "ag-ui")
    assert Settings.model_validate({"clients": "[]"}).clients == ()
    with pytest.raises(ValidationError, match="'ai-sdk', 'openai'"):
        Settings.model_validate({"clients": ["ai_sdk"]})
