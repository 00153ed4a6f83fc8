"""llm, unmodified, against a started server: its Python face, with a file of settings that names the server."""

from __future__ import annotations

import base64
import gc
import json
from pathlib import Path

import anyio
import pytest
from pydantic import BaseModel

from antiphon.testing import Fault, Upstream
from tests.server.clients import MODELS, PNG, RIGHT, USAGE, ask_weather
from tests.serving import Serving
from tests.vendors import llm, openai


class Place(BaseModel):
    """Where somebody is."""

    city: str


def weather(city: str) -> str:
    """Tell the weather of a city."""
    return ask_weather(city)


@pytest.fixture(autouse=True)
def _settings(both: tuple[Serving, Upstream], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The only setting that `llm` has is a file that names the server's models."""
    monkeypatch.setenv("LLM_USER_PATH", str(tmp_path))
    listed = [
        {
            "model_id": model.partition("/")[0],
            "model_name": model,
            "api_base": f"{both[0].address}/v1",
            "supports_tools": True,
            "supports_schema": True,
            "vision": True,
        }
        for model in MODELS
    ]
    (tmp_path / "extra-openai-models.yaml").write_text(json.dumps(listed))  # JSON is YAML


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", ["up", "own"])
def test_prompt(name: str, stream: bool) -> None:
    """A prompt is answered, whole and streamed, with the counts."""
    response = llm.get_model(name).prompt("hi", system="Be brief.", key="none", stream=stream)
    assert response.text() == "You said: hi"
    assert (response.usage().input, response.usage().output) == (USAGE.prompt_tokens, USAGE.completion_tokens)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", ["up", "own"])
def test_tool_round_trip(name: str, stream: bool) -> None:
    """A chain calls a function until the model is done."""
    response = llm.get_model(name).chain("Weather?", tools=[weather], key="none", stream=stream)
    assert response.text() == RIGHT


@pytest.mark.parametrize("name", ["up", "own"])
def test_structured(name: str) -> None:
    """The answer keeps to a schema."""
    response = llm.get_model(name).prompt("Where?", schema=Place, key="none", stream=False)
    assert Place.model_validate_json(response.text()) == Place(city="Paris")


def test_picture() -> None:
    """An attached picture reaches the provider."""
    picture = llm.Attachment(type="image/png", content=base64.b64decode(PNG))
    response = llm.get_model("up").prompt("What is it?", attachments=[picture], key="none", stream=False)
    assert response.text() == f"A picture of {len(PNG)} letters."


# llm never closes the client that it makes for async calls, so Python finds its connection open when it clears up.
@pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <(function _SelectorTransport|socket.socket):pytest.PytestUnraisableExceptionWarning"
)
def test_async() -> None:
    """The async face is answered the same."""

    async def ask() -> str:
        response = llm.get_async_model("up").prompt("hi", key="none")
        return "".join([piece async for piece in response])

    assert anyio.run(ask) == "You said: hi"
    gc.collect()


def test_error(both: tuple[Serving, Upstream]) -> None:
    """What goes wrong is told in the server's words."""
    both[1].fault = Fault.of_status(400, '{"error": {"message": "That will not do."}}')
    try:
        with pytest.raises(openai.BadRequestError, match="That will not do"):
            llm.get_model("up").prompt("hi", key="none", stream=False).text()
    finally:
        both[1].fault = None
